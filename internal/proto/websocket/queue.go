package websocket

import (
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
)

const (
	// maxHeld bounds the bytes that one copy holds back beside the client's own.
	maxHeld = 32 << 20
	// maxQueue bounds the items that one copy holds back.
	maxQueue = 1 << 16
	// pushLag is how much later than its client a turn goes at most if a server pushes.
	pushLag = time.Second
	// proofTime is how long a turn waits for further messages of a target that has sent some since
	// the turn before. Then the target is taken for one that pushes.
	proofTime = 10 * time.Second
	// maxGreeting is how many messages are taken for a greeting at most, if the client has seen
	// them before its first one.
	maxGreeting = 4
)

// queue holds what is to go, in order.
type queue struct {
	list  []item
	first int // items before it have gone
	held  int // bytes of text

	pushes   bool          // messages come unasked: how many is not the client's doing
	began    bool          // the first turn of WebSocket was read
	greeting uint64        // messages of production that greeted its client
	mid      bool          // what went last ends within a frame
	sent     uint64        // messages that have gone
	timed    bool          // lag is known
	lag      time.Duration // how much later than its client the copy has begun
	gone     mono.Time     // when the last turn went
	base     uint64        // messages that the target had sent by then
	baseSeen uint64        // messages of production's that the client of that turn had seen
	over     bool          // the target takes nothing more
}

// item is a part of what is to go, or a turn, which may have to wait.
type item struct {
	step     proto.Step // a turn's has no kind
	text     []byte     // of a step that says something
	mid      bool       // it ends within a frame
	closes   bool       // it is of a close frame
	messages int        // that end in it
	turn     turn
}

// turn is what a turn waits for.
type turn struct {
	framed bool
	asked  uint64    // until the first frame: so many answers
	at     mono.Time // when its client sent it
	seen   uint64    // messages of production that its client had seen, if known
	known  bool
	first  bool // it is the first one of WebSocket
	forced bool // it has waited for too long
}

// push adds an item. Steps that need not be told apart become one.
func (q *queue) push(it item) {
	q.held += len(it.text)
	if n := len(q.list) - 1; n >= q.first {
		last := &q.list[n]
		if k := it.step.Kind; k == last.step.Kind && len(it.text)+len(last.text) == 0 &&
			(k == proto.PassOn || k == proto.Say) && it.closes == last.closes {
			last.step.N += it.step.N
			last.mid = it.mid
			last.messages += it.messages
			return
		}
	}
	q.list = append(q.list, it)
}

// hold adds a turn.
func (q *queue) hold(t turn) { q.list = append(q.list, item{turn: t}) }

// holdTurn adds a turn of WebSocket, and finds out whether production pushes.
func (c *Client) holdTurn() {
	n, known := c.server.messages(c.seen)
	t := turn{framed: true, at: c.at, seen: n, known: known, first: !c.began}
	if t.first {
		c.began, c.greeting = true, min(n, maxGreeting)
	}
	if known && n > c.greeting+c.messages {
		c.pushes = true
	}
	c.hold(t)
}

// Go is of proto.Paced.
func (c *Client) Go(now mono.Time, out *proto.Out) mono.Time {
	for ; c.first < len(c.list); c.first++ {
		it := &c.list[c.first]
		if it.step.Kind != 0 {
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
	c.sent += uint64(it.messages)
	c.reply(out)
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
	if !c.timed {
		c.timed, c.lag, c.gone = true, max(0, now.Sub(t.at)), now
	}
	have := c.target.messages
	// The target's first messages may greet; then it has sent more than it was asked for.
	if c.sent > 0 && have > max(c.greeting, c.target.greeting)+c.sent {
		c.pushes = true
	}
	if !c.arrived(t) && !t.forced {
		until := mono.Never
		switch {
		case c.pushes, t.first: // a greeting is unasked, too
			until = t.at.Add(c.lag + pushLag)
		case have > c.base:
			until = max(c.gone, t.at).Add(proofTime)
		}
		if !until.Reached(now) {
			return until
		}
		c.pushes = true
	}
	if t.first {
		c.target.greeting = have
	}
	c.gone, c.base, c.baseSeen = now, have, t.seen
	return 0
}

// arrived reports whether the target has sent what a turn waits for.
func (c *Client) arrived(t *turn) bool {
	have := c.target.messages
	switch {
	case !t.known:
		return t.first || have > c.base
	case c.pushes && !t.first:
		return have-c.base >= t.seen-min(t.seen, c.baseSeen)
	}
	return have >= t.seen
}

// Waits is of proto.Streams.
func (c *Client) Waits() bool { return c.first < len(c.list) || len(c.early) > 0 }

// Force is of proto.Streams.
func (c *Client) Force(*proto.Out) bool {
	if c.first == len(c.list) || c.list[c.first].step.Kind != 0 {
		return false
	}
	c.pushes = c.pushes || c.framed
	for i := range c.list[c.first:] {
		c.list[c.first+i].turn.forced = true
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
	return !known || c.pushes || n > c.greeting+c.messages || c.target.messages >= n
}

// Idle is of proto.Streams.
func (c *Client) Idle() bool { return !c.Waits() && c.target.answered >= c.requests }

// Awaits is of proto.Streams.
func (c *Client) Awaits(seen uint64) bool { return c.server.awaits(seen) }
