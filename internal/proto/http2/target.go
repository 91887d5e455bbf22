package http2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/hpack"
)

// refill is how many bytes of DATA are received before the window is opened for as many again.
const refill = 1 << 28

// target is the state of the connection to the target.
type target struct {
	in        collector
	data      contents  // of the present frame
	from      uint32    // the streams from this one on may have messages; 0: none
	ready     bool      // its first SETTINGS has come
	leaving   bool      // it takes no more streams
	drainBy   mono.Time // when its streams are given up for requests that wait; 0: none does
	reopening bool      // the next Begin goes on with what waits
	decoder   hpack.Decoder
	block     []byte // a header block that CONTINUATION follows
	inBlock   bool
	h         header // of the block's first frame
	got       int    // bytes of DATA that came since the last WINDOW_UPDATE
	heard     uint64 // bytes that were read

	next       uint32 // the number of the next stream
	window     int64  // what the connection takes
	initial    int64  // what a new stream takes
	maxFrame   int
	maxStreams int
	connects   bool // it opens WebSockets
}

// begin prepares for a new connection.
func (t *target) begin() {
	*t = target{next: 1, window: defaultWindow, initial: defaultWindow, maxFrame: maxFrame,
		maxStreams: math.MaxInt32}
	t.decoder.Reset(hpack.DefaultSize, false)
}

// opened reports whether a stream was opened on this connection. It may have ended.
func (t *target) opened(stream uint32) bool { return stream&1 == 1 && stream < t.next }

// Kept is of proto.Client: it reads the target's frames, as Answers hands them back.
func (c *Client) Kept(p []byte, out *proto.Out) error {
	c.words.from = len(out.Text)
	for len(p) > 0 {
		used, err := c.fromTarget(p, out)
		c.target.heard += uint64(used)
		if err != nil {
			return err
		}
		p = p[used:]
	}
	c.flush(out)
	c.settle(out)
	c.tidy()
	return nil
}

// fromTarget reads some of p.
func (c *Client) fromTarget(p []byte, out *proto.Out) (used int, err error) {
	t := &c.target
	fresh := !t.in.open
	used, ok := t.in.header(p)
	if !ok {
		return used, nil
	}
	h := &t.in.h
	if fresh && h.length > maxFrame {
		return used, lost("frame of the target, of the length", h.length)
	}
	if fresh && !t.ready && h.kind != frameSettings {
		return used, lost("first frame of the target, of the type", h.kind)
	}
	if inside := h.kind == frameContinuation; t.inBlock != inside ||
		inside && h.stream != t.h.stream {
		return used, lost("frame within a header block, of the type", h.kind)
	}
	if h.kind == frameData && !t.opened(h.stream) {
		return used, lost("DATA of the stream", h.stream)
	}
	if s := c.byTarget[h.stream]; s != nil && !s.answering &&
		(h.kind == frameData || h.kind == frameHeaders) {
		s.answering = true
		out.Answering(s.number)
	}
	if fresh {
		t.data.header(h, t.from != 0 && h.stream >= t.from)
	}
	if h.kind == frameData {
		n, whole, err := t.content(p[used:])
		if used += n; err != nil || !whole {
			return used, err
		}
		c.targetData(h, out)
		t.in.end()
		return used, nil
	}
	payload, more, ok := t.in.payload(p[used:], h.length)
	if used += more; !ok {
		return used, nil
	}
	err = c.targetFrame(h, payload, out)
	t.in.end()
	return used, err
}

// content reads what was handed back of a DATA frame, and reports whether that is all. What is
// skipped has come when what follows it has.
func (t *target) content(p []byte) (used int, whole bool, err error) {
	for t.data.left > 0 {
		if used == len(p) {
			return used, false, nil
		}
		n, needed := t.data.run()
		if !needed {
			t.data.skip(n)
			t.heard += uint64(n)
			continue
		}
		n = min(n, len(p)-used)
		if err := t.data.read(p[used : used+n]); err != nil {
			return used, false, err
		}
		used += n
	}
	return used, true, nil
}

// targetFrame processes a frame of the target that is not DATA.
func (c *Client) targetFrame(h *header, p []byte, out *proto.Out) error {
	switch h.kind {
	case frameHeaders, frameContinuation:
		return c.targetBlock(h, p, out)
	case frameReset:
		return c.targetReset(h, p, out)
	case frameSettings:
		return c.targetSettings(h, p, out)
	case framePing:
		if len(p) != 8 || h.stream != 0 {
			return lost("PING of the length", len(p))
		}
		if !h.has(flagAck) {
			out.Text = append(appendHeader(out.Text, 8, framePing, flagAck, 0), p...)
		}
	case frameGoAway:
		if len(p) < 8 || h.stream != 0 {
			return lost("GOAWAY of the length", len(p))
		}
		c.leave(binary.BigEndian.Uint32(p)&maxWindow, out)
	case frameWindow:
		return c.targetWindow(h, p)
	case framePriority:
		if h.stream == 0 {
			return lost("PRIORITY of the stream", 0)
		}
	case framePush:
		return lost("promise of the stream", h.stream) // our SETTINGS forbid it
	}
	return nil
}

// targetData processes a DATA frame.
func (c *Client) targetData(h *header, out *proto.Out) {
	t := &c.target
	if t.got += h.length; t.got >= refill {
		out.Text = appendWindow(out.Text, 0, t.got)
		t.got = 0
	}
	s := c.byTarget[h.stream]
	if s == nil || s.ended {
		return
	}
	s.size += uint64(headerLen + h.length)
	s.got += t.data.whole
	if s.socket != nil && s.status != 0 {
		c.socketHears(s, t.data.kept, out)
	}
	if h.has(flagEndStream) {
		c.answered(s, s.status, s.status >= 400 || s.status == 0, out)
		return
	}
	if s.received += h.length; s.received >= refill {
		out.Text = appendWindow(out.Text, h.stream, s.received)
		s.received = 0
	}
}

// targetBlock processes a part of a header block.
func (c *Client) targetBlock(h *header, p []byte, out *proto.Out) error {
	t := &c.target
	if h.kind == frameHeaders {
		var err error
		if p, err = unpad(h, p); err != nil {
			return err
		}
		if h.has(flagPriority) {
			if len(p) < 5 {
				return lost("HEADERS of the length", len(p))
			}
			p = p[5:]
		}
		t.h = *h
	}
	if !h.has(flagEndHeaders) || t.inBlock {
		if len(t.block)+len(p) > maxBlock {
			return lost("header block of the length", len(t.block)+len(p))
		}
		t.block = append(t.block, p...)
		if t.inBlock = !h.has(flagEndHeaders); t.inBlock {
			return nil
		}
		p = t.block
	}
	err := c.answerFields(&t.h, p, out)
	if t.block = t.block[:0]; cap(t.block) > 4096 {
		t.block = nil
	}
	return err
}

var (
	nameStatus     = []byte(":status")
	nameExtensions = []byte("sec-websocket-extensions")
	grpcStatus     = []byte("grpc-status")
	grpcMessage    = []byte("grpc-message")
	grpcMissing    = uint16(2) // UNKNOWN: an answer without a status
)

// answerFields reads a whole header block of the target: of an interim answer, of the final one, or
// its trailers.
func (c *Client) answerFields(h *header, p []byte, out *proto.Out) error {
	status, grpc := uint16(0), uint16(math.MaxUint16)
	c.message, c.agreed = c.message[:0], c.agreed[:0]
	size := uint64(headerLen + len(p))
	block := hpack.NewBlock(p)
	var f hpack.Field
	for {
		more, err := c.target.decoder.Next(&block, &f)
		if err != nil && !errors.Is(err, hpack.ErrUnknown) {
			return lost("header block of the target:", err)
		}
		if !more {
			break
		}
		switch {
		case bytes.Equal(f.Name, nameStatus):
			status = number(f.Value, 3)
		case bytes.Equal(f.Name, grpcStatus):
			grpc = number(f.Value, 2)
		case bytes.Equal(f.Name, grpcMessage):
			c.message = append(c.message[:0], f.Value...)
		case bytes.Equal(f.Name, nameExtensions):
			c.agreed = append(append(c.agreed, f.Value...), ',')
		}
	}
	s := c.byTarget[h.stream]
	if s == nil || s.ended {
		if !c.target.opened(h.stream) {
			return lost("answer on the stream", h.stream)
		}
		return nil
	}
	s.size += size
	end := h.has(flagEndStream)
	switch {
	case status/100 == 1 && !end:
		out.Answered(s.number, &proto.Answer{Status: status, Interim: true})
		return nil
	case status != 0 && s.status == 0:
		s.status = status
		if s.socket != nil {
			c.socketAnswer(s, end, out)
		}
	}
	if grpc != math.MaxUint16 && s.grpc {
		s.status = grpcBase + min(grpc, grpcMost)
		if grpc != 0 {
			s.text = string(appendText(nil, c.message))
		}
	}
	if end {
		c.answered(s, s.status, failed(s.status), out)
	}
	return nil
}

// number parses at most that many digits; what is no number counts as unknown.
func number(p []byte, most int) (n uint16) {
	if len(p) == 0 || len(p) > most {
		return grpcMissing
	}
	for _, c := range p {
		if c < '0' || c > '9' {
			return grpcMissing
		}
		n = 10*n + uint16(c-'0')
	}
	return n
}

// answered notes that the target has ended a stream.
func (c *Client) answered(s *stream, status uint16, failed bool, out *proto.Out) {
	if s.ended {
		return
	}
	if s.socket != nil {
		s.socket.Shut(&c.made)
	}
	out.Answered(s.number, &proto.Answer{Size: s.size, Status: status, Failed: failed,
		Digest: s.digest, Text: s.text})
	c.endOrder(s)
	if s.clientEnded && !s.holding {
		c.remove(s)
	}
}

// Digest is of proto.Digested.
func (c *Client) Digest(stream uint64, d *proto.Digest) {
	if s := c.byTarget[uint32(stream)]; s != nil {
		s.digest = d
	}
}

// kill notes that the target takes and sends nothing more on a stream.
func (c *Client) kill(s *stream, out *proto.Out) {
	s.digest = nil
	c.answered(s, 0, true, out)
	if s.id == 0 {
		return
	}
	c.dropSocket(s)
	s.dead = true
	over := s.clientEnded || s.reset // nothing more comes of the client
	c.release(s)
	delete(c.byTarget, s.target)
	c.open--
	if s.target = 0; over {
		c.remove(s)
	}
}

// targetReset processes RST_STREAM.
func (c *Client) targetReset(h *header, p []byte, out *proto.Out) error {
	if len(p) != 4 || !c.target.opened(h.stream) {
		return lost("RST_STREAM of the stream", h.stream)
	}
	switch s := c.byTarget[h.stream]; {
	case s == nil:
	case [4]byte(p) == codeRefused:
		c.refused(s, out)
	default:
		c.kill(s, out)
	}
	return nil
}

// targetSettings processes SETTINGS.
func (c *Client) targetSettings(h *header, p []byte, out *proto.Out) error {
	t := &c.target
	if len(p)%6 != 0 || h.stream != 0 || h.has(flagAck) && len(p) > 0 || !t.ready &&
		h.has(flagAck) {
		return lost("SETTINGS of the length", len(p))
	}
	if h.has(flagAck) {
		return nil
	}
	for ; len(p) > 0; p = p[6:] {
		switch value := binary.BigEndian.Uint32(p[2:]); binary.BigEndian.Uint16(p) {
		case settingMaxStreams:
			t.maxStreams = int(min(value, math.MaxInt32))
		case settingInitialWindow:
			if value > maxWindow {
				return lost("initial window", value)
			}
			t.initial = int64(value)
		case settingConnect:
			t.connects = value == 1
		case settingMaxFrame:
			if value < maxFrame || value >= 1<<24 {
				return lost("longest frame", value)
			}
			t.maxFrame = min(int(value), 1<<16)
		}
	}
	t.ready = true
	out.Text = appendHeader(out.Text, 0, frameSettings, flagAck, 0)
	return nil
}

// targetWindow processes WINDOW_UPDATE.
func (c *Client) targetWindow(h *header, p []byte) error {
	t := &c.target
	if len(p) != 4 || h.stream != 0 && !t.opened(h.stream) {
		return lost("WINDOW_UPDATE of the stream", h.stream)
	}
	n := int64(binary.BigEndian.Uint32(p) & maxWindow)
	window, initial := &t.window, int64(0)
	if h.stream != 0 {
		s := c.byTarget[h.stream]
		if s == nil {
			return nil
		}
		window, initial = &s.window, t.initial
	}
	if *window += n; n == 0 || *window+initial > maxWindow {
		return lost("increment of a window by", n)
	}
	return nil
}

// leave notes that the target takes no more streams, and has not taken those after the last.
func (c *Client) leave(last uint32, out *proto.Out) {
	c.target.leaving = true
	for _, s := range c.list {
		if s.id != 0 && s.target > last {
			c.refused(s, out)
		}
	}
}

// killAll notes that the target takes and sends nothing more on this connection.
func (c *Client) killAll(out *proto.Out) {
	for _, s := range c.list {
		if s.id != 0 && s.target != 0 {
			c.kill(s, out)
		}
	}
}

// Shut is of proto.Streams.
func (c *Client) Shut(out *proto.Out) {
	c.words.from = len(out.Text)
	c.target.leaving = true
	c.killAll(out)
	c.settle(out)
	c.tidy()
}

// Renews is of proto.Streams.
func (c *Client) Renews() bool { return c.requests == 0 }

// Reopens is of proto.Streams.
func (c *Client) Reopens() bool {
	c.target.reopening = c.open == 0 && c.outlives()
	return c.target.reopening
}

// outlives reports whether a request may go, and this connection takes no more.
func (c *Client) outlives() bool {
	t := &c.target
	return (t.leaving || t.next > maxWindow) && slices.ContainsFunc(c.list, func(s *stream) bool {
		return s.id != 0 && s.holding && s.target == 0 && c.may(s)
	})
}

// drainWait is how long requests wait for the streams that are open on a connection which takes no
// more. It is the copy's only one: in the raw way it has its client's address and port.
const drainWait = 10 * time.Second

// drain gives up the streams of a connection that takes no more, if requests have waited for long.
// It reports whether it has, or else when that may be due.
func (c *Client) drain(now mono.Time, out *proto.Out) (given bool, wake mono.Time) {
	t := &c.target
	switch {
	case c.open == 0 || !c.outlives():
		t.drainBy = 0
		return false, mono.Never
	case t.drainBy == 0:
		t.drainBy = now.Add(drainWait)
	}
	if !t.drainBy.Reached(now) {
		return false, t.drainBy
	}
	c.killAll(out)
	return true, mono.Never
}

// Heard is of proto.Streams.
func (c *Client) Heard() uint64 { return c.target.heard }

// Waits is of proto.Streams.
func (c *Client) Waits() bool { return c.waiting > 0 }

// Idle is of proto.Streams.
func (c *Client) Idle() bool { return c.waiting == 0 && c.open == 0 }

// Force is of proto.Streams. Turns go with the next call of Go.
func (c *Client) Force(out *proto.Out) bool {
	if !c.target.ready {
		return false
	}
	forced := c.forceTurns()
	for _, s := range c.list {
		forced = s.socket != nil && s.socket.Force(out) || forced
	}
	if len(c.ended) == 0 {
		return forced
	}
	for _, s := range c.list {
		s.order = 0
	}
	c.lowest = c.orders()
	c.ended = c.ended[:0]
	c.words.from = len(out.Text)
	c.flush(out)
	c.settle(out)
	c.tidy()
	return true
}

// Settled is of proto.Streams.
func (c *Client) Settled(seen uint64) bool {
	c.noteSeen(seen)
	return c.waiting == 0 && len(c.ended) == 0 && !c.awaitsMessages() && c.socketsSettled()
}
