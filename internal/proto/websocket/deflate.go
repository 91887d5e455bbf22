package websocket

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"

	"tcpcopy/internal/proto"
)

// maxInflated bounds a message that is inflated, compressed and not.
const maxInflated = 16 << 20

// window is how much of the messages before a compressed one may refer to (RFC 7692 §7.2).
const window = 1 << windowBits

// inflater inflates the client's messages, where the target cannot (RFC 7692).
type inflater struct {
	passes bool // the target inflates what the client compresses
	others bool // both servers have agreed to further extensions
	open   bool // a compressed message is coming in
	op     byte // of the message
	packed []byte
	inner  []byte // of a control frame within the message: its payload so far
	stands int    // how many of the client's bytes the message takes
	last   []byte // the end of what was inflated before
	source bytes.Reader
	reader io.ReadCloser
}

// flushed is what a compressed message leaves out at its end (RFC 7692 §7.2.1), and an empty last
// block.
var flushed = []byte{0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff}

// agree finds out what is to be done with the client's compressed messages.
func (c *Client) agree() error {
	here, there := &c.target.agreed, &c.server.agreed
	if !c.server.upgraded || c.shared {
		there = nil
	}
	if there == nil && here.others != "" || there != nil && here.others != there.others {
		return refuse(extensionDiffers)
	}
	c.inflater.passes = here.inflates(there)
	c.inflater.others = here.others != ""
	return nil
}

// size returns how much memory is in use.
func (x *inflater) size() int { return len(x.packed) }

// begin begins a compressed message.
func (x *inflater) begin(op byte) { x.open, x.op, x.packed = true, op, x.packed[:0] }

// take takes a part of a frame's payload, from the offset at of it on. A control frame may come
// within the message.
func (x *inflater) take(p []byte, f *frame, at uint64) {
	to := &x.packed
	if f.control() {
		to = &x.inner
	}
	from := len(*to)
	if from+len(p) > maxInflated+len(flushed) {
		p = p[:maxInflated+len(flushed)-from] // it is too large: see endInflated
	}
	*to = append(*to, p...)
	unmask((*to)[from:], f.mask, at)
}

// endInflated ends a frame of a compressed message, or one within it.
func (c *Client) endInflated() error {
	x := &c.inflater
	switch f := &c.f; {
	case f.control():
		if f.op != opPong {
			c.push(item{step: proto.Step{Kind: proto.Say}, closes: f.op == opClose,
				text: appendFrame(nil, f.op, c.nextMask(), x.inner)})
		}
		x.inner = x.inner[:0]
		return nil
	case len(x.packed) > maxInflated:
		return refuse(tooLarge)
	case !f.fin:
		return nil
	}
	whole, err := x.inflate()
	if err != nil {
		return err
	}
	n := x.stands
	x.open, x.stands = false, 0
	if cap(x.packed) > 4096 {
		x.packed = nil
	}
	c.push(item{step: proto.Step{Kind: proto.Say, N: n},
		text: appendFrame(nil, x.op, c.nextMask(), whole)})
	return nil
}

// inflate returns the whole message. Those that follow may refer to it.
func (x *inflater) inflate() ([]byte, error) {
	x.source.Reset(append(x.packed, flushed...))
	if x.reader == nil {
		x.reader = flate.NewReader(&x.source)
	}
	if err := x.reader.(flate.Resetter).Reset(&x.source, x.last); err != nil {
		return nil, lost("compressed message:", err)
	}
	var whole bytes.Buffer
	n, err := io.Copy(&whole, io.LimitReader(x.reader, maxInflated+1))
	switch {
	case n > maxInflated:
		return nil, refuse(tooLarge)
	case err != nil && !errors.Is(err, io.EOF):
		return nil, lost("compressed message:", err)
	}
	p := whole.Bytes()
	if len(p) >= window {
		x.last = append(x.last[:0], p[len(p)-window:]...)
	} else {
		keep := x.last[max(0, len(x.last)+len(p)-window):]
		x.last = append(x.last[:copy(x.last, keep)], p...)
	}
	return p, nil
}
