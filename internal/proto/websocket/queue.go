package websocket

import (
	"math"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
)

const (
	// maxHeld bounds the bytes that one copy holds back beside the client's own.
	maxHeld = 32 << 20
	// maxQueue bounds the items that one copy holds back.
	maxQueue = 1 << 16
	// itemMost is how long an item may be until it ends at the next end of a frame: there the copy
	// may answer pings.
	itemMost = 16 << 10
)

// queue holds what is to go, in order.
type queue struct {
	list  []item
	first int // items before it have gone
	held  int // bytes of text

	mid  bool // what went last ends within a frame
	pace proto.Lockstep
	over bool // the target takes nothing more
}

// item is a part of what is to go, or a turn, which may have to wait.
type item struct {
	step   proto.Step // a turn's has no kind
	text   []byte     // of a step that says something
	mid    bool       // it ends within a frame
	closes bool       // it is of a close frame
	turn   turn
}

// turn is what a turn waits for.
type turn struct {
	framed bool
	asked  uint64     // until the first frame: so many answers
	forced bool       // until then: it has waited for too long
	step   proto.Turn // from then on
}

// push adds an item. Steps that need not be told apart become one. Within the last frame that goes
// they do not reach beyond its end.
func (c *Client) push(it item) {
	q := &c.queue
	q.held += len(it.text)
	if n := len(q.list) - 1; n >= q.first {
		last := &q.list[n]
		more := last.mid || !c.target.ends && last.step.N < itemMost
		if k := it.step.Kind; more && k == last.step.Kind && len(it.text)+len(last.text) == 0 &&
			(k == proto.PassOn || k == proto.Say) && it.closes == last.closes {
			last.step.N += it.step.N
			last.mid = it.mid
			return
		}
	}
	q.list = append(q.list, it)
}

// hold adds a turn.
func (q *queue) hold(t turn) { q.list = append(q.list, item{turn: t}) }

// holdTurn adds a turn of WebSocket.
func (c *Client) holdTurn() {
	n, known := c.server.messages(c.seen)
	// What a client has seen of a connection that is shared may be of another stream.
	c.hold(turn{framed: true, step: c.pace.Begin(proto.Turn{At: c.at, Asked: c.messages, Seen: n,
		Known: known, Soon: c.shared && !known})})
}

// Go is of proto.Paced. When the target has closed, what may go by then precedes the answer.
func (c *Client) Go(now mono.Time, out *proto.Out) mono.Time {
	return c.GoOn(now, math.MaxInt, out)
}

// GoOn is Go, except that it stops once it has passed on room bytes or more.
func (c *Client) GoOn(now mono.Time, room int, out *proto.Out) mono.Time {
	wake := c.sendDue(now, &room, out)
	if c.close(out) {
		wake = c.sendDue(now, &room, out) // the rest is too late
	}
	c.target.ends = c.target.closes
	return wake
}

// sendDue sends what may go, while there is room, and returns when it has to be called again.
func (c *Client) sendDue(now mono.Time, room *int, out *proto.Out) mono.Time {
	for ; c.first < len(c.list); c.first++ {
		it := &c.list[c.first]
		if it.step.Kind != 0 {
			if *room <= 0 && !c.over {
				c.compact()
				return mono.Never
			}
			*room -= it.step.N
			c.send(it, out)
		} else if wake := c.check(now, &it.turn); wake != 0 {
			c.compact()
			return wake
		}
	}
	if c.list, c.first = c.list[:0], 0; cap(c.list) > 16 {
		c.list = nil
	}
	return mono.Never
}

// compact takes what has gone out of the list, if it is much.
func (q *queue) compact() {
	if q.first > 32 && q.first > len(q.list)/2 {
		n := copy(q.list, q.list[q.first:])
		clear(q.list[n:])
		q.list, q.first = q.list[:n], 0
	}
}

// send sends an item.
func (c *Client) send(it *item, out *proto.Out) {
	c.held -= len(it.text)
	st := &it.step
	if c.over {
		switch answered := it.closes || len(it.text) == 0 && st.Kind == proto.Say; {
		case answered && c.target.closes:
			out.Replace(st.N, nil) // a close, which was answered already, or a pong
		case st.Kind == proto.Refused:
			out.Refuse(st.Reason)
		case st.Kind == proto.LeaveOut:
			out.Drop(st.N, st.Reason)
		default:
			out.Drop(st.N, ledger.TargetClosed)
		}
		return
	}
	switch st.Kind {
	case proto.PassOn:
		out.Pass(st.N)
	case proto.Say:
		out.Replace(st.N, it.text)
	case proto.LeaveOut:
		out.Drop(st.N, st.Reason)
	case proto.Refused:
		out.Refuse(st.Reason)
	case proto.Requested:
		c.target.expect(&st.Request)
		out.Request(st.Request)
	}
	it.text = nil
	if st.N > 0 && st.Kind == proto.PassOn {
		c.mid = it.mid
	}
	if it.closes && !c.mid {
		c.target.closed = true
	}
	c.pong(out)
	if c.target.ends {
		c.close(out)
	}
}

// check returns 0 if a turn goes now, and otherwise when it may go though the target has not sent
// what the turn waits for.
func (c *Client) check(now mono.Time, t *turn) (wake mono.Time) {
	switch {
	case c.over:
		return 0
	case !t.framed:
		if c.target.answered < t.asked && !t.forced {
			return mono.Never
		}
		return 0
	}
	return c.pace.Check(now, &t.step, c.target.messages)
}

// Waits is of proto.Streams.
func (c *Client) Waits() bool { return c.first < len(c.list) || len(c.early) > 0 }

// Force is of proto.Streams.
func (c *Client) Force(*proto.Out) bool {
	if c.first == len(c.list) || c.list[c.first].step.Kind != 0 {
		return false
	}
	for i := range c.list[c.first:] {
		t := &c.list[c.first+i].turn
		if t.forced = true; t.framed {
			c.pace.Force(&t.step)
		}
	}
	return true
}

// Settled is of proto.Streams.
func (c *Client) Settled(seen uint64) bool {
	switch {
	case c.Waits():
		return false
	case c.over, c.target.closed:
		return true
	case !c.framed:
		return c.target.answered >= c.requests
	}
	n, known := c.server.messages(seen)
	return !known || c.pace.Settled(c.messages, n, c.target.messages)
}

// Idle is of proto.Streams.
func (c *Client) Idle() bool { return !c.Waits() && c.target.answered >= c.requests }

// Awaits is of proto.Streams.
func (c *Client) Awaits(seen uint64) bool { return c.server.awaits(seen) }
