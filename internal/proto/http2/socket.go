package http2

import (
	"errors"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/websocket"
)

// maxSockets bounds the streams of a connection to the target that were opened for WebSocket and
// that the target has not ended. One that its client has cancelled counts for as long as the
// connection lasts, since the target ends it with no frame.
const maxSockets = 1024

// socket is what a stream has that carries WebSocket. Its content goes through a reader of its own,
// which leaves some of it out, adds some, and lets turns wait.
type socket struct {
	*websocket.Client
	kept   []byte // content; of what follows the dead bytes the reader has made nothing yet
	dead   int
	taken  uint64 // content that precedes what follows them
	marks  []mark // where that is in the client's bytes; those before first are of no use any more
	first  int
	served uint64 // content of production's server that was read
	saw    uint64 // how much of it the client has seen
}

// mark tells that content below the offset end came in a frame at the offset from of the client's
// bytes.
type mark struct{ end, from uint64 }

// markCost is what a mark takes, in bytes.
const markCost = 16

// roomForSocket is how much content of a stream for WebSocket may wait for the target's windows.
// The rest waits in the stream's reader, so that an answer to a ping does not go behind all of it.
const roomForSocket = 64 << 10

// text returns the content of which the reader has made nothing yet.
func (k *socket) text() []byte { return k.kept[k.dead:] }

// size returns how much the content that waits takes, with its marks, in bytes.
func (k *socket) size() int { return len(k.text()) + markCost*(len(k.marks)-k.first) }

// openSocket makes s a stream for WebSocket.
func (c *Client) openSocket(s *stream) {
	s.socket = &socket{Client: websocket.NewStream()}
	c.sockets++
	if c.server.lost {
		s.socket.Lose()
	}
}

// dropSocket frees what a stream has for WebSocket.
func (t *streams) dropSocket(s *stream) {
	if s.socket != nil {
		t.held -= s.socket.size()
		t.sockets--
		s.socket = nil
	}
}

// waits reports whether something of the content waits. The socket may be nil.
func (k *socket) waits() bool { return k != nil && k.Waits() }

// from returns where the content begins that waits, in the client's bytes; otherwise, if there is
// none.
func (k *socket) from(otherwise uint64) uint64 {
	if k.first < len(k.marks) {
		return k.marks[k.first].from
	}
	return otherwise
}

// moveMarks notes that offsets count from a later byte. The socket may be nil.
func (k *socket) moveMarks(by uint64) {
	if k != nil {
		for i := range k.marks {
			k.marks[i].from -= min(k.marks[i].from, by)
		}
	}
}

// mayConnect reports whether the target opens a stream for WebSocket. If it does not, the stream is
// left out.
func (c *Client) mayConnect(s *stream, out *proto.Out) bool {
	t := &c.target
	switch {
	case !t.connects:
		c.leaveStream(s, connectUnsupported, out)
		return false
	case len(t.data.sockets) >= maxSockets:
		t.leaving = true // another connection takes more
		return false
	}
	return true
}

// leaveStream leaves out what comes of a stream, and what waits of it.
func (c *Client) leaveStream(s *stream, why ledger.Reason, out *proto.Out) {
	s.why = why
	if s.tries == 0 {
		out.RefuseStream(why, uint64(s.id))
	}
	over := s.clientEnded || s.reset
	if s.target != 0 && !s.ended {
		out.Text = append(appendHeader(out.Text, 4, frameReset, 0, s.target), codeCancel[:]...)
		c.kill(s, out)
	} else {
		c.dropSocket(s)
		c.release(s)
		c.endOrder(s)
	}
	if over && s.id != 0 {
		c.remove(s)
	}
}

// failSocket leaves a stream out because of an error of its reader.
func (c *Client) failSocket(s *stream, err error, out *proto.Out) {
	why := ledger.ProtoLost
	if refusal := (*proto.Refusal)(nil); errors.As(err, &refusal) {
		why = refusal.Reason
	}
	c.leaveStream(s, why, out)
}

// socketContent reads content of the client.
func (c *Client) socketContent(s *stream, p []byte, out *proto.Out) {
	k, n := s.socket, len(p)
	k.kept = append(k.kept, p...)
	if m := len(k.marks) - 1; m >= k.first && k.marks[m].from == c.frameAt {
		k.marks[m].end += uint64(n)
	} else {
		k.marks = append(k.marks, mark{k.taken + uint64(len(k.text())), c.frameAt})
		n += markCost
	}
	c.holdFrom(s, c.frameAt, n)
	k.Turn(c.at)
	if err := k.Feed(p, c.seenOf(k), nil); err != nil {
		c.failSocket(s, err, out)
	}
}

// socketAnswer notes the target's answer to a stream for WebSocket. ends reports that nothing
// follows it.
func (c *Client) socketAnswer(s *stream, ends bool, out *proto.Out) {
	if s.status/100 == 2 && !ends {
		if err := s.socket.Accept(c.agreed); err != nil {
			c.failSocket(s, err, out)
		}
		return
	}
	c.dropSocket(s) // what follows is no WebSocket
	c.release(s)
	s.why = websocket.Differs()
}

// socketHears hands over what was handed back of a frame of the target.
func (c *Client) socketHears(s *stream, p []byte, out *proto.Out) {
	c.made.Reset()
	err := s.socket.Kept(p, &c.made)
	c.takeSteps(s)
	if c.held > maxHeld { // it asks for answers, and takes none
		err = &proto.Refusal{Reason: ledger.OverSession}
	}
	if err != nil {
		c.failSocket(s, err, out)
	}
}

// goSocket sends what may go of a stream for WebSocket. It returns when that has to be looked at
// again.
func (c *Client) goSocket(now mono.Time, s *stream, out *proto.Out) (wake mono.Time) {
	wake = mono.Never
	for {
		given := false
		if room := roomForSocket - s.upload.waiting(); s.target != 0 && room > 0 {
			c.made.Reset()
			wake = s.socket.GoOn(now, room, &c.made)
			c.takeSteps(s)
			given = len(c.made.Steps) > 0
		}
		if !s.holding {
			return wake
		}
		waited := s.upload.waiting()
		c.send(now, s, out)
		if !given || s.socket == nil || s.upload.waiting() == waited {
			return wake
		}
	}
}

// seenOf returns how much a client has seen of what production's server has sent on a stream. If
// that is not known, it is how much it has seen of the connection.
func (c *Client) seenOf(k *socket) uint64 {
	if c.server.lost {
		return c.seen
	}
	return k.saw
}

// socketsSettled reports whether the target has sent on all streams for WebSocket what their
// clients had seen.
func (c *Client) socketsSettled() bool {
	if c.sockets == 0 {
		return true
	}
	for _, s := range c.list {
		if s.socket != nil && s.target != 0 && !s.socket.Settled(c.seenOf(s.socket)) {
			return false
		}
	}
	return true
}

// socketsSize returns how many bytes the readers of WebSocket hold.
func (c *Client) socketsSize() (n int) {
	if c.sockets == 0 {
		return 0
	}
	for _, s := range c.list {
		if s.socket != nil {
			n += s.socket.Size()
		}
	}
	return n
}

// takeSteps adds to the content of a stream what its reader has made.
func (c *Client) takeSteps(s *stream) {
	k := s.socket
	for i := range c.made.Steps {
		st := &c.made.Steps[i]
		at := k.from(c.fed)
		before := s.upload.held
		switch st.Kind {
		case proto.PassOn:
			s.upload.add(k.text()[:st.N], false, at, 0)
		case proto.Say:
			if st.To > st.From {
				s.upload.add(c.made.Text[st.From:st.To], false, at, 0)
			}
		}
		c.holdFrom(s, at, s.upload.held-before-c.skip(k, st.N))
	}
}

// skip notes that a step has taken the next n bytes of the content. It returns how much less is
// held.
func (c *Client) skip(k *socket, n int) (freed int) {
	before := k.size()
	k.dead += n
	k.taken += uint64(n)
	for k.first < len(k.marks) && k.marks[k.first].end <= k.taken {
		k.first++
	}
	freed = before - k.size()
	if k.dead > len(k.kept)/2 {
		k.kept, k.dead = k.kept[:copy(k.kept, k.text())], 0
	}
	if k.first > len(k.marks)/2 {
		k.marks, k.first = k.marks[:copy(k.marks, k.marks[k.first:])], 0
	}
	return freed
}
