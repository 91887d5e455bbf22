package http2

import (
	"errors"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/hpack"
)

const (
	// maxTable bounds the dynamic table that a client may use. Production allows the size.
	maxTable = 64 << 10
	// maxBlock bounds a header block, encoded and as it is sent.
	maxBlock = 256 << 10
	// maxClientFrame bounds a frame of a client that is not DATA, beside header blocks.
	maxClientFrame = 64 << 10
	// maxData bounds a DATA frame. More is no frame, but what was taken for one.
	maxData = 1 << 20
	// maxStreams bounds the streams of one copy that have not ended.
	maxStreams = 8192
	// maxHeld bounds the bytes that one copy holds back.
	maxHeld = 32 << 20
	// tlsHandshake is the first byte of a connection with TLS.
	tlsHandshake = 22
)

// Client reads the frames of one client, and speaks HTTP/2 with the target for it: see
// proto.Streams.
type Client struct {
	set *Settings

	// The client's direction. Offsets count its bytes since the copy began.
	opening opening
	asking  bool // the first stream has a request that asks for an upgrade
	unsure  bool // the first frame may not begin where the copy does
	in      collector
	frameAt uint64 // where the present frame begins
	fed     uint64 // the bytes below were read
	taken   uint64 // the bytes below are in a step
	pad     int    // DATA: padding that is to come; -1: its length is to come
	data    int    // DATA: content that is to come
	decoder hpack.Decoder
	block   block
	fields  fields
	latest  uint32    // the newest stream that the client has opened
	left    []span    // what is left out, not in a step yet
	words   words     // what is said to the target
	seen    uint64    // bytes of production's server that the client had seen
	at      mono.Time // when the present turn was sent

	server production
	streams
	target  target
	message []byte // grpc-message of the target's present header block
	agreed  []byte // Sec-WebSocket-Extensions of that
	made    proto.Out
}

// span is a range of the client's bytes that is left out.
type span struct {
	from, to uint64
	why      ledger.Reason
}

// block is the client's header block that is coming in.
type block struct {
	open     bool // CONTINUATION follows
	flags    uint8
	stream   uint32
	at       uint64 // where its first frame begins
	priority [5]byte
	rest     []byte // what has come, if CONTINUATION follows
}

var (
	_ proto.Paced    = (*Client)(nil)
	_ proto.Digested = (*Client)(nil)
)

// NewClient returns a reader of one session. The settings are shared, and must not change.
func NewClient(s *Settings) *Client { return &Client{set: s} }

// Edits is of proto.Client.
func (c *Client) Edits() bool { return true }

// Holds is of proto.Client: streams wait, the connection does not.
func (c *Client) Holds() bool { return false }

// Expects is of proto.Client.
func (c *Client) Expects() bool { return false }

// Begin is of proto.Client. A copy that goes on after another one (Reopens) keeps what was read of
// the client, and the streams that it could not open.
func (c *Client) Begin(adopted bool, out *proto.Out) error {
	if c.target.reopening {
		c.reopen()
	} else {
		*c = Client{set: c.set, server: c.server, streams: newStreams()}
		c.server.of = c.byClient
		c.decoder.Reset(maxTable, adopted)
		if adopted {
			c.opening.done, c.unsure = true, true
			c.server.lose() // frames of the server begin at an unknown place
		}
	}
	c.target.begin()
	from := len(out.Text)
	out.Text = append(out.Text, preface...)
	out.Text = appendHeader(out.Text, 3*6, frameSettings, 0, 0)
	out.Text = appendSetting(out.Text, settingTableSize, 0)
	out.Text = appendSetting(out.Text, settingPush, 0)
	out.Text = appendSetting(out.Text, settingInitialWindow, maxWindow)
	out.Text = appendWindow(out.Text, 0, maxWindow-defaultWindow)
	out.ReplaceFrom(0, from)
	return nil
}

// reopen counts offsets from the first byte that no step has taken.
func (c *Client) reopen() {
	c.fed -= c.taken
	c.frameAt -= c.taken
	c.block.at -= min(c.block.at, c.taken)
	for _, s := range c.list {
		s.from -= min(s.from, c.taken)
		for i := range s.upload.parts {
			p := &s.upload.parts[i]
			p.from -= min(p.from, c.taken)
			p.off -= min(p.off, c.taken)
		}
		for i := range s.turns {
			s.turns[i].from -= min(s.turns[i].from, c.taken)
		}
		s.socket.moveMarks(c.taken)
	}
	for i := range c.left {
		c.left[i].from -= min(c.left[i].from, c.taken)
		c.left[i].to -= c.taken
	}
	c.taken = 0
}

// Turn is of proto.Paced.
func (c *Client) Turn(at mono.Time) { c.at = at }

// Feed is of proto.Client.
func (c *Client) Feed(p []byte, seen uint64, out *proto.Out) error {
	c.noteSeen(seen)
	c.words.from = len(out.Text)
	for len(p) > 0 {
		used, err := c.step(p, out)
		c.fed += uint64(used)
		p = p[used:]
		if err != nil {
			return err
		}
	}
	c.flush(out)
	c.settle(out)
	c.tidy()
	if c.held+c.socketsSize() > maxHeld || len(c.list) > maxStreams {
		return &proto.Refusal{Reason: ledger.OverSession, Final: true}
	}
	return nil
}

// settle appends a step for the text that none has. The step takes the client's bytes that nothing
// is held of.
func (c *Client) settle(out *proto.Out) {
	from := c.words.from
	end := c.fed
	if c.in.open || c.in.have > 0 {
		end = c.frameAt
	}
	if c.block.open {
		end = min(end, c.block.at)
	}
	if c.opening.plain {
		end = c.taken
	}
	if c.waiting > 0 {
		for _, s := range c.list {
			if s.holding {
				end = min(end, s.from)
			}
		}
	}
	n := 0
	for n < len(c.left) && c.left[n].to <= end {
		l := &c.left[n]
		if between := int(l.from - c.taken); between > 0 || len(out.Text) > from {
			out.ReplaceFrom(between, from)
			from = len(out.Text)
		}
		out.Drop(int(l.to-l.from), l.why)
		c.taken = l.to
		n++
	}
	c.left = c.left[:copy(c.left, c.left[n:])]
	if len(c.left) > 0 {
		end = min(end, c.left[0].from)
	}
	if end > c.taken || len(out.Text) > from {
		out.ReplaceFrom(int(end-c.taken), from)
		c.taken = end
	}
}

// leaveOut has the client's bytes from the offset from on, up to the present one, left out.
func (c *Client) leaveOut(from, to uint64, why ledger.Reason) {
	if n := len(c.left) - 1; n >= 0 && c.left[n].to == from && c.left[n].why == why {
		c.left[n].to = to
		return
	}
	c.left = append(c.left, span{from, to, why})
}

// step reads some of p.
func (c *Client) step(p []byte, out *proto.Out) (used int, err error) {
	if !c.opening.done {
		if c.fed == 0 && p[0] == tlsHandshake {
			return 0, &proto.Refusal{Reason: ledger.TLS, Final: true}
		}
		return c.readOpening(p, out)
	}
	if !c.in.open {
		if c.in.have == 0 {
			c.frameAt = c.fed
		}
		n, ok := c.in.header(p)
		if used = n; !ok {
			return used, nil
		}
		if err := c.begin(); err != nil {
			return used, err
		}
	}
	if c.in.h.kind == frameData {
		return used + c.readData(p[used:], c.fed+uint64(used), out), nil
	}
	payload, n, ok := c.in.payload(p[used:], c.in.h.length)
	if used += n; !ok {
		return used, nil
	}
	err = c.frame(payload, c.fed+uint64(used), out)
	c.in.end()
	return used, err
}

// begin checks the header of a frame of the client.
func (c *Client) begin() error {
	h := &c.in.h
	switch {
	case c.block.open && (h.kind != frameContinuation || h.stream != c.block.stream),
		!c.block.open && h.kind == frameContinuation:
		return lost("frame within a header block, of the type", h.kind)
	case h.kind == frameData:
		c.data, c.pad = h.length, 0
		if h.has(flagPadded) {
			if c.pad = -1; h.length == 0 {
				return lost("padded frame of the length", 0)
			}
		}
		if h.stream&1 == 0 || h.length > maxData {
			return lost("DATA of the length", h.length)
		}
	case h.length > maxBlock, h.length > maxClientFrame && h.kind != frameHeaders &&
		h.kind != frameContinuation, c.block.open && len(c.block.rest)+h.length > maxBlock:
		return lost("frame of the length", h.length)
	case ofStream(h.kind) != (h.stream&1 == 1) && h.kind <= frameGoAway, h.kind == framePush,
		h.kind > frameContinuation && c.unsure:
		return lost("frame of the type", h.kind)
	}
	c.unsure = false
	return nil
}

// ofStream reports whether frames of that type belong to a stream that the client has opened. A
// WINDOW_UPDATE may, or not.
func ofStream(kind uint8) bool { return kind <= frameReset }

// readData reads some of a DATA frame, whose next byte has the offset at. It may be at its end.
func (c *Client) readData(p []byte, at uint64, out *proto.Out) (used int) {
	if c.pad < 0 && len(p) > 0 {
		c.pad = int(p[0])
		c.data -= 1 + c.pad
		if used = 1; c.data < 0 { // production has refused it
			c.data, c.pad = 0, c.pad+c.data
		}
	}
	s := c.byClient[c.in.h.stream]
	if n := min(c.data, len(p)-used); n > 0 && c.pad >= 0 {
		if s != nil {
			c.content(s, p[used:used+n], at+uint64(used), c.in.h.length, out)
		}
		used += n
		c.data -= n
	}
	if c.data == 0 && c.pad > 0 {
		n := min(c.pad, len(p)-used)
		used += n
		c.pad -= n
	}
	if c.data > 0 || c.pad != 0 {
		return used
	}
	end := at + uint64(used)
	switch {
	case s == nil:
		c.leaveOut(c.frameAt, end, streamUnknown)
	case s.why != ledger.None:
		c.leaveOut(c.frameAt, end, s.why)
	}
	if s != nil && c.in.h.has(flagEndStream) {
		c.endOfClient(s)
	}
	c.in.end()
	return used
}

// frame processes a frame of the client that is not DATA; end is the offset behind it.
func (c *Client) frame(p []byte, end uint64, out *proto.Out) error {
	h := &c.in.h
	switch h.kind {
	case frameHeaders:
		return c.headers(p, end, out)
	case frameContinuation:
		c.block.rest = append(c.block.rest, p...)
		if !h.has(flagEndHeaders) {
			return nil
		}
		c.block.open = false
		err := c.request(c.block.rest, end, out)
		if c.block.rest = c.block.rest[:0]; cap(c.block.rest) > 4096 {
			c.block.rest = nil
		}
		return err
	case frameReset:
		if len(p) != 4 {
			return lost("RST_STREAM of the length", len(p))
		}
		s := c.byClient[h.stream]
		switch {
		case s == nil:
		case s.why != ledger.None:
			c.leaveOut(c.frameAt, end, s.why)
			c.remove(s)
		case s.dead:
			c.remove(s)
		default:
			c.beginTurn(s)
			s.code, s.reset = [4]byte(p), true
			c.holdFrom(s, c.frameAt, 0)
		}
	}
	return nil // the rest belongs to the connection with production
}

// headers reads a HEADERS frame.
func (c *Client) headers(p []byte, end uint64, out *proto.Out) error {
	h := &c.in.h
	p, err := unpad(h, p)
	if err != nil {
		return err
	}
	c.block.flags, c.block.stream, c.block.at = h.flags, h.stream, c.frameAt
	if h.has(flagPriority) {
		if len(p) < 5 {
			return lost("HEADERS of the length", len(p))
		}
		c.block.priority = [5]byte(p)
		p = p[5:]
	}
	if !h.has(flagEndHeaders) {
		c.block.open = true
		c.block.rest = append(c.block.rest[:0], p...)
		return nil
	}
	return c.request(p, end, out)
}

// request reads a whole header block: a request, or its trailers.
func (c *Client) request(p []byte, end uint64, out *proto.Out) error {
	b := &c.block
	s := c.byClient[b.stream]
	switch {
	case s != nil:
		return c.trailers(s, p, end)
	case b.stream <= c.latest: // it was opened before the copy began, or has ended
		c.leaveOut(b.at, end, streamUnknown)
		_, _, err := c.transcode(nil, p)
		return err
	}
	c.latest = b.stream
	head, r, err := c.transcode(nil, p)
	if err != nil {
		return err
	}
	c.addRequest(r, head, b, end, out)
	return nil
}

// addRequest adds a stream with a request, which is encoded as head.
func (c *Client) addRequest(r *fields, head []byte, b *block, end uint64, out *proto.Out) {
	s := c.add(b.stream, c.seen)
	s.grpc = r.grpc
	if r.socket && string(r.method) == "CONNECT" {
		c.openSocket(s)
	}
	c.server.known(s)
	switch {
	case r.unknown:
		s.why = hpackUnknown
	case len(r.method) == 0:
		s.why = streamUnknown // trailers of a stream that was opened before the copy began
	case c.set.Rules != nil && !c.set.Rules.Passes(r.method, r.path):
		s.why = ledger.Denied
	}
	if s.why == ledger.None {
		if b.flags&flagPriority != 0 {
			s.priority, s.prioritised = b.priority, true
		}
		s.head = append(s.head[:0], head...)
		c.holdFrom(s, b.at, len(head))
	} else {
		c.leaveOut(b.at, end, s.why)
		if s.why != streamUnknown {
			out.RefuseStream(s.why, uint64(s.id))
		}
	}
	if b.flags&flagEndStream != 0 {
		c.endOfClient(s)
	}
}

// trailers reads the trailers of a stream. If they cannot be read, the target's stream is
// cancelled.
func (c *Client) trailers(s *stream, p []byte, end uint64) error {
	b := &c.block
	head, r, err := c.transcode(s, p)
	switch {
	case err != nil:
		return err
	case s.dead:
	case s.why == ledger.None && r.unknown:
		c.leaveOut(b.at, end, hpackUnknown)
		s.code, s.reset = codeCancel, true
		c.holdFrom(s, b.at, 0)
	case s.why == ledger.None:
		c.beginTurn(s)
		s.trailers = append(s.trailers[:0], head...)
		c.holdFrom(s, b.at, len(head))
	default:
		c.leaveOut(b.at, end, s.why)
	}
	if b.flags&flagEndStream != 0 {
		c.endOfClient(s)
	}
	return nil
}

// transcode decodes a header block, and encodes it for the target, into memory that the next call
// uses again. of is the stream whose trailers it is; nil: it is a request.
func (c *Client) transcode(of *stream, p []byte) ([]byte, *fields, error) {
	r := &c.fields
	r.reset(c.set, of != nil)
	block := hpack.NewBlock(p)
	var f hpack.Field
	for {
		more, err := c.decoder.Next(&block, &f)
		switch {
		case err != nil && errors.Is(err, hpack.ErrUnknown):
			r.unknown = true
			continue
		case err != nil:
			return nil, r, lost("header block:", err)
		case !more:
			r.finish()
			return r.dst, r, nil
		}
		if r.add(&f); len(r.dst) > maxBlock {
			return nil, r, lost("header block that grows to", len(r.dst))
		}
	}
}
