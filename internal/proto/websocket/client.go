package websocket

import (
	"bytes"
	"slices"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/proto/semantics"
)

// Client reads what one client sends, and speaks HTTP/1 and then WebSocket with the target for it:
// see proto.Streams. Feed and Kept only find out what is to go; Go sends it.
type Client struct {
	rules *semantics.Rules // nil: nothing is left out or changed
	seen  uint64           // bytes of production's server that the client had seen
	at    mono.Time        // when the present turn was sent

	// shared reports that it is a stream of HTTP/2: others are on the connection.
	shared bool

	// Until the first frame.
	http      proto.Client
	made      proto.Out
	requests  uint64 // requests that were read
	untaken   int    // bytes that http has not put into a step
	between   bool   // a request begins with the next byte
	changed   bool   // the present request is not as the client sent it
	asking    bool   // the last request asks for an upgrade
	denied    bool   // it was left out
	leftOut   bool   // some request was
	head      []byte // of the present request
	probe     []byte // the first byte behind a request, if it may begin a frame
	framed    bool   // frames have begun
	early     []early
	earlySize int

	// From the first frame on.
	headers  headers
	f        frame
	left     uint64 // bytes of the payload that are to come
	inside   bool   // a frame has begun
	fresh    bool   // a turn has begun, and no frame since
	headed   int    // bytes of its header that are in no step
	ongoing  bool   // a message has begun, and its last frame has not
	messages uint64 // messages that are whole
	inflater inflater
	mask     uint64 // of which masks are made

	server production
	queue
	target target
}

// earlyCost is what an early takes beside its bytes.
const earlyCost = 48

// early is what came of the client before the target had accepted the upgrade.
type early struct {
	bytes []byte
	seen  uint64
	at    mono.Time
}

var _ proto.Paced = (*Client)(nil)

// NewClient returns a reader of one session. The rules are shared, and must not change.
func NewClient(rules *semantics.Rules) *Client { return &Client{rules: rules} }

// Edits is of proto.Client.
func (c *Client) Edits() bool { return true }

// Holds is of proto.Client: turns wait here, in the queue.
func (c *Client) Holds() bool { return false }

// Expects is of proto.Client.
func (c *Client) Expects() bool { return false }

// Server is of proto.Client.
func (c *Client) Server(off uint64, p []byte) { c.server.feed(off, p) }

// Begin is of proto.Client.
func (c *Client) Begin(adopted bool, out *proto.Out) error {
	*c = Client{rules: c.rules, server: c.server, between: true, http: http1.NewClient()}
	if c.rules != nil {
		c.http = http1.NewEditor(c.rules)
	}
	if adopted {
		c.server.lose() // where its answers begin is not known
	}
	c.target.http = http1.NewAnswers()
	return c.http.Begin(adopted, out)
}

// Turn is of proto.Paced.
func (c *Client) Turn(at mono.Time) { c.at = at }

// Feed is of proto.Client.
func (c *Client) Feed(p []byte, seen uint64, _ *proto.Out) error {
	if c.over {
		c.leaveOutRest(len(p))
		return nil
	}
	fresh := seen > c.seen
	if c.seen = max(c.seen, seen); fresh && !c.framed {
		c.hold(turn{asked: c.requests})
	}
	switch {
	case !c.framed:
		if err := c.feedHTTP(p); err != nil {
			return err
		}
	case !c.target.upgraded:
		c.keepEarly(p)
	default:
		c.fresh = c.fresh || fresh
		if err := c.feedFrames(p); err != nil {
			return err
		}
	}
	return c.bound()
}

// leaveOutRest leaves out n bytes, and what was read of the client and is in no step.
func (c *Client) leaveOutRest(n int) {
	c.leaveOut(n + c.untaken + len(c.probe) + c.headed + c.inflater.stands)
	c.untaken, c.probe, c.headed, c.inflater.stands = 0, nil, 0, 0
}

// bound ends the copy if it holds too much.
func (c *Client) bound() error {
	if c.held+c.earlySize+c.inflater.size() > maxHeld || len(c.list)-c.first > maxQueue {
		return refuse(ledger.OverSession)
	}
	return c.differs()
}

// feedHTTP reads bytes that precede the first frame, line by line, and that frame. So no line of
// http's goes beyond the end of a request without content.
func (c *Client) feedHTTP(p []byte) error {
	for len(p) > 0 {
		if c.between {
			if len(c.probe) > 0 {
				p = append(c.probe, p...)
				c.probe = nil
			}
			switch framed, sure := beginsFrame(p); {
			case !sure:
				c.probe = slices.Clone(p)
				return nil
			case framed:
				return c.startFrames(p)
			}
		}
		n := bytes.IndexByte(p, '\n') + 1
		if n == 0 {
			n = len(p)
		}
		if err := c.feedLine(p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// feedLine has http read some bytes of requests, and queues what it makes of them.
func (c *Client) feedLine(p []byte) error {
	c.made.Reset()
	err := c.http.Feed(p, 0, &c.made)
	end, from := -c.untaken, 0 // offsets in p: what is in a step, and what of it is in head
	for i := range c.made.Steps {
		st := &c.made.Steps[i]
		end += st.N
		switch st.Kind {
		case proto.PassOn, proto.LeaveOut:
			c.push(item{step: *st})
		case proto.Say:
			c.changed = true
			c.push(item{step: *st, text: slices.Clone(c.made.Text[st.From:st.To])})
		case proto.Requested, proto.Refused:
			if st.Request.Reply == proto.Switch {
				return lost("request after an upgrade, of the length", len(p))
			}
			c.head = keepHead(c.head, p[from:end])
			from = end
			c.requestEnd(st)
		}
	}
	c.untaken = len(p) - end
	c.head = keepHead(c.head, p[from:])
	c.between = from == len(p)
	return err
}

// beginsFrame reports whether bytes that follow a request begin a frame, and not another request.
// Of the first byte of a compressed message that goes on in another frame the second one tells it.
func beginsFrame(p []byte) (framed, sure bool) {
	switch first := p[0]; {
	case first == bitDeflate|opText, first == bitDeflate|opBinary:
		return len(p) > 1 && p[1]&bitMask != 0, len(p) > 1
	default:
		return !semantics.IsToken(first) && first != '\r' && first != '\n', true
	}
}

// requestEnd ends a request, which head has the head of.
func (c *Client) requestEnd(st *proto.Step) {
	var h handshake
	h.read(c.head)
	c.asking, c.denied = h.asks(), st.Kind == proto.Refused
	c.leftOut = c.leftOut || c.denied
	if !c.denied {
		st.Request.Number, st.Request.Whole = c.requests, !c.changed
		c.requests++
	}
	c.push(item{step: *st})
	c.head, c.changed, c.between = c.head[:0], false, true
}

// startFrames reads the first bytes that are of WebSocket.
func (c *Client) startFrames(p []byte) error {
	switch {
	case !c.asking && c.requests == 0:
		return refuse(upgradeUnknown)
	case !c.asking:
		return lost("frame without an upgrade, of the opcode", p[0]&0x0f)
	case c.denied:
		return refuse(ledger.Denied)
	}
	c.framed, c.http, c.head, c.made = true, nil, nil, proto.Out{}
	c.mask = c.seen
	c.keepEarly(p)
	if c.target.upgraded {
		return c.feedEarly()
	}
	return nil
}

// keepEarly keeps bytes of WebSocket until the target has accepted the upgrade.
func (c *Client) keepEarly(p []byte) {
	n := len(c.early) - 1
	if n < 0 || c.early[n].seen != c.seen {
		c.early = append(c.early, early{seen: c.seen, at: c.at})
		n++
		c.earlySize += earlyCost
	}
	c.early[n].bytes = append(c.early[n].bytes, p...)
	c.earlySize += len(p)
}

// feedEarly reads what was kept, since the target has accepted the upgrade.
func (c *Client) feedEarly() error {
	if err := c.agree(); err != nil {
		return err
	}
	all, seen, at := c.early, c.seen, c.at
	c.early, c.earlySize = nil, 0
	for i := range all {
		c.seen, c.at = all[i].seen, all[i].at
		c.fresh = true
		if err := c.feedFrames(all[i].bytes); err != nil {
			return err
		}
	}
	c.seen, c.at = seen, at
	return nil
}

// feedFrames reads frames of the client.
func (c *Client) feedFrames(p []byte) error {
	for len(p) > 0 || c.inside {
		if !c.inside {
			if c.target.ends { // no other frame goes
				c.leaveOutRest(len(p))
				return nil
			}
			if c.fresh && c.headed == 0 {
				c.fresh = false
				c.holdTurn()
			}
			used, ok := c.headers.next(p, &c.f)
			c.headed += used
			if p = p[used:]; !ok {
				return nil
			}
			if err := c.beginFrame(); err != nil {
				return err
			}
		}
		n := int(min(c.left, uint64(len(p))))
		c.left -= uint64(n)
		c.payload(p[:n])
		if p = p[n:]; c.left > 0 {
			return nil
		}
		c.inside = false
		if err := c.endFrame(); err != nil {
			return err
		}
	}
	return nil
}

// beginFrame begins a frame, whose header was read.
func (c *Client) beginFrame() error {
	f := &c.f
	if err := f.check(true); err != nil {
		return err
	}
	switch {
	case f.control():
	case c.ongoing != (f.op == opContinuation), c.ongoing && f.rsv&bitDeflate != 0:
		return lost("frame within a message, of the opcode", f.op)
	case f.rsv&bitsOther != 0 && !c.inflater.others:
		return refuse(extensionDiffers)
	case f.rsv&bitDeflate != 0 && !c.inflater.passes:
		if c.inflater.others {
			return refuse(extensionDiffers)
		}
		c.inflater.begin(f.op)
	}
	c.inside, c.left = true, f.length
	c.mask = c.mask<<32 ^ c.mask>>32 ^ uint64(f.mask[0])<<24 ^ uint64(f.mask[1])<<16 ^
		uint64(f.mask[2])<<8 ^ uint64(f.mask[3])
	n := c.headed
	c.headed = 0
	c.put(n)
	return nil
}

// payload reads some of the present frame's payload.
func (c *Client) payload(p []byte) {
	if len(p) == 0 {
		return
	}
	if c.inflater.open {
		c.inflater.take(p, &c.f, c.f.length-c.left-uint64(len(p)))
	}
	c.put(len(p))
}

// put queues n bytes of the present frame.
func (c *Client) put(n int) {
	switch {
	case c.inflater.open:
		c.inflater.stands += n
	case c.f.op == opPong: // it answers production
		c.push(item{step: proto.Step{Kind: proto.Say, N: n}})
	default:
		c.push(item{step: proto.Step{Kind: proto.PassOn, N: n}, mid: c.left > 0,
			closes: c.f.op == opClose})
	}
}

// endFrame ends the present frame.
func (c *Client) endFrame() error {
	f := &c.f
	if !f.control() {
		c.ongoing = !f.fin
	}
	if f.endsMessage() {
		c.messages++
	}
	if !c.inflater.open {
		return nil
	}
	return c.endInflated()
}

// nextMask makes a mask of those of the client, which are random.
func (c *Client) nextMask() [4]byte {
	c.mask += 0x9e3779b97f4a7c15
	x := c.mask
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return [4]byte{byte(x), byte(x >> 8), byte(x >> 16), byte(x >> 24)}
}
