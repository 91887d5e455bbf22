package websocket

import (
	"slices"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
)

// target is the state of the connection to the target.
type target struct {
	heard uint64 // bytes that were read

	http      *http1.Answers // until the upgrade
	at        uint64         // bytes that http has read
	head      []byte         // of the answer that is coming in
	answering bool           // it has begun
	answered  uint64         // final answers
	upgraded  bool
	agreed    extensions
	scratch   []proto.Answer

	headers  headers
	f        frame
	inside   bool
	left     uint64 // bytes of the payload that are handed back and are to come
	payload  []byte // of a control frame
	messages uint64 // messages that are whole

	pings  bool // the last ping waits for its answer
	ping   []byte
	closes bool   // the target has closed
	code   []byte // of its close
	ends   bool   // nothing goes any more but the rest of a frame, and the answer to the close
	closed bool   // a close frame has gone
}

// expect notes that a request goes.
func (t *target) expect(r *proto.Request) {
	if t.http != nil && r.Hint != 0 {
		t.http.Expect(r.Number, r.Hint)
	}
}

// Kept is of proto.Client: it reads the target's bytes, as Answers hands them back.
func (c *Client) Kept(p []byte, out *proto.Out) error {
	t := &c.target
	if !t.upgraded {
		rest, err := c.answers(p, out)
		if err != nil {
			return err
		}
		p = rest
	}
	for len(p) > 0 || t.inside {
		if !t.inside {
			used, ok := t.headers.next(p, &t.f)
			t.heard += uint64(used)
			if p = p[used:]; !ok {
				break
			}
			if err := t.f.check(false); err != nil {
				return err
			}
			t.inside, t.left, t.payload = true, t.f.cut(), t.payload[:0]
		}
		n := int(min(t.left, uint64(len(p))))
		if t.f.control() {
			t.payload = append(t.payload, p[:n]...)
			t.heard += uint64(n)
		} else if n > 0 { // the last byte stands for all
			t.heard += t.f.length
		}
		t.left -= uint64(n)
		if p = p[n:]; t.left > 0 {
			break
		}
		t.inside = false
		t.frameEnd()
	}
	c.pong(out)
	return c.differs()
}

// frameEnd processes a frame of the target that is whole. What follows its close has no meaning
// (RFC 6455 §1.4).
func (t *target) frameEnd() {
	switch {
	case t.closes:
	case t.f.endsMessage():
		t.messages++
	case t.f.op == opPing:
		t.pings, t.ping = true, append(t.ping[:0], t.payload...)
	case t.f.op == opClose:
		t.closes, t.code = true, slices.Clone(t.payload[:min(len(t.payload), 2)])
	}
}

// pong answers the target's last ping (RFC 6455 §5.5.3), unless the copy is within a frame.
func (c *Client) pong(out *proto.Out) {
	if t := &c.target; t.pings && c.speaks() {
		t.pings = false
		c.say(opPong, t.ping, out)
	}
}

// close answers the target's close, and reports whether it has.
func (c *Client) close(out *proto.Out) bool {
	t := &c.target
	if !t.closes || !c.speaks() {
		return false
	}
	t.closed, c.over = true, true
	c.say(opClose, t.code, out)
	return true
}

// speaks reports whether a frame of the copy's own may go now.
func (c *Client) speaks() bool { return !c.mid && !c.target.closed && !c.over }

// say sends a frame of the copy's own.
func (c *Client) say(op byte, payload []byte, out *proto.Out) {
	from := len(out.Text)
	out.Text = appendFrame(out.Text, op, c.nextMask(), payload)
	out.ReplaceFrom(0, from)
}

// answers reads answers to requests, and returns what follows the upgrade.
func (c *Client) answers(p []byte, out *proto.Out) (frames []byte, err error) {
	t := &c.target
	list, err := t.http.Feed(p, t.scratch[:0])
	t.scratch = list
	from := 0
	for i := range list {
		a := &list[i]
		end := int(a.End - t.at)
		t.head = keepHead(t.head, p[from:end])
		from = end
		t.begin(out)
		if a.Status == 101 {
			t.at += uint64(end)
			t.heard += uint64(end)
			return p[end:], c.upgrade(a, out)
		}
		if a.Last {
			return nil, lost("tunnel, with the status", a.Status)
		}
		c.answer(a, out)
	}
	if from < len(p) && err == nil {
		t.head = keepHead(t.head, p[from:])
		t.begin(out)
	}
	t.at += uint64(len(p))
	t.heard += uint64(len(p))
	return nil, err
}

// begin notes that an answer has begun.
func (t *target) begin(out *proto.Out) {
	if !t.answering {
		t.answering = true
		out.Answering(t.answered)
	}
}

// answer notes an answer.
func (c *Client) answer(a *proto.Answer, out *proto.Out) {
	t := &c.target
	out.Answered(t.answered, a)
	if t.head = t.head[:0]; cap(t.head) > 4096 {
		t.head = nil
	}
	if !a.Interim {
		t.answered++
		t.answering = false
	}
}

// upgrade notes that the target has accepted the upgrade: frames follow.
func (c *Client) upgrade(a *proto.Answer, out *proto.Out) error {
	t := &c.target
	var h handshake
	switch h.read(t.head); {
	case !h.accepts(), t.answered+1 == c.requests && !c.asking, t.answered >= c.requests:
		return lost("upgrade that was not asked for, with the status", a.Status)
	case t.answered+1 < c.requests: // production has not accepted it, since its client went on
		return refuse(upgradeDiffers)
	}
	t.agreed = h.extensions
	c.answer(a, out)
	t.upgraded, t.http, t.head, t.scratch = true, nil, nil, nil
	if c.framed {
		return c.feedEarly()
	}
	return nil
}

// differs returns an error if one of production and target has accepted the upgrade, and the other
// has not.
func (c *Client) differs() error {
	t := &c.target
	switch {
	case t.upgraded && !c.framed && c.requests > t.answered, // the client goes on with requests
		c.framed && !t.upgraded && t.answered >= c.requests,
		c.asking && c.server.upgraded && c.server.answers+1 == c.requests && !c.leftOut &&
			!t.upgraded && t.answered >= c.requests:
		return refuse(upgradeDiffers)
	}
	return nil
}

// Heard is of proto.Streams.
func (c *Client) Heard() uint64 { return c.target.heard }

// Shut is of proto.Streams.
func (c *Client) Shut(out *proto.Out) {
	t := &c.target
	if t.http != nil {
		for _, a := range t.http.Close(t.scratch[:0]) {
			c.answer(&a, out)
		}
	}
	c.over, c.mid = true, false
	for i := range c.early {
		c.leaveOut(len(c.early[i].bytes))
	}
	c.early, c.earlySize = nil, 0
}

// leaveOut queues n bytes of the client that are too late for the target.
func (c *Client) leaveOut(n int) {
	c.push(item{step: proto.Step{Kind: proto.LeaveOut, N: n, Reason: ledger.TargetClosed}})
}

// Renews is of proto.Streams: the client speaks first.
func (c *Client) Renews() bool { return false }

// Reopens is of proto.Streams: another connection would begin without what this one has said.
func (c *Client) Reopens() bool { return false }
