package http2

import (
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
)

// call is what a stream that is a call of gRPC has beside others. Its client's messages may answer
// those of the server, and then wait until the target has sent as many.
type call struct {
	grpc   bool
	talks  bool           // content has begun
	asked  counter        // messages of the client
	saw    uint64         // messages of production that the client had seen
	got    uint64         // messages of the target
	turned uint64         // bytes of production's server that the client of the last turn had seen
	pace   proto.Lockstep // decides when turns go
	turns  []callTurn     // that have not gone
}

// callTurn is a turn within a stream.
type callTurn struct {
	at   int    // it precedes this offset in the stream's data
	from uint64 // offset of the client's frame that begins it
	proto.Turn
}

// turnCost is what a turn takes, in bytes.
const turnCost = 80

// beginTurn begins a turn with what the client sends next on a stream, if it has seen more since
// the last one that may matter to it.
func (c *Client) beginTurn(s *stream) {
	known := !c.server.lost
	switch {
	case !s.grpc || s.dead || s.ended || s.why != ledger.None:
		return
	case !s.talks && c.seen <= s.began: // it goes with the head
		s.talks, s.turned = true, c.seen
		s.pace.Begin(proto.Turn{Known: true})
		return
	case s.talks && c.seen <= s.turned:
		return
	}
	s.talks, s.turned = true, c.seen
	turn := s.pace.Begin(proto.Turn{At: c.at, Asked: s.asked.whole, Seen: s.saw, Known: known,
		Soon: !known})
	if len(s.turns) == 0 {
		c.paused++
	}
	c.held += turnCost
	s.turns = append(s.turns, callTurn{s.upload.end, c.frameAt, turn})
}

// upTo returns how much of the stream's data precedes the next turn.
func (s *stream) upTo() int {
	if len(s.turns) > 0 {
		return s.turns[0].at
	}
	return s.upload.end
}

// turnWaits reports whether a turn is next that was not let go.
func (s *stream) turnWaits() bool { return len(s.turns) > 0 && s.turns[0].at == s.upload.sent }

// passTurns lets the turns go that are next. It returns when the first may go that waits.
func (c *Client) passTurns(now mono.Time, s *stream) (wake mono.Time) {
	n := 0
	for n < len(s.turns) && s.turns[n].at == s.upload.sent {
		if !s.ended { // else nothing more comes that it could wait for
			if wake = s.pace.Check(now, &s.turns[n].Turn, s.got); wake != 0 {
				break
			}
		}
		n++
	}
	if n > 0 {
		c.held -= n * turnCost
		if s.turns = s.turns[:copy(s.turns, s.turns[n:])]; len(s.turns) == 0 {
			c.paused--
		}
	}
	if wake == 0 {
		return mono.Never
	}
	return wake
}

// moveTurns notes that the first n bytes of the stream's data were dropped.
func (s *stream) moveTurns(n int) {
	for i := range s.turns {
		s.turns[i].at -= n
	}
}

// dropTurns forgets the turns of a stream.
func (t *streams) dropTurns(s *stream) {
	if n := len(s.turns); n > 0 {
		t.held -= n * turnCost
		t.paused--
		s.turns = s.turns[:0]
	}
}

// forceTurns lets all turns go. It returns false if none waits that was not let go before.
func (c *Client) forceTurns() (forced bool) {
	if c.paused == 0 {
		return false
	}
	for _, s := range c.list {
		for i := range s.turns {
			forced = s.pace.Force(&s.turns[i].Turn) || forced
		}
	}
	return forced
}

// awaitsMessages reports whether a client has seen messages of production that the target has not
// sent, and is to.
func (c *Client) awaitsMessages() bool {
	for _, s := range c.list {
		if s.grpc && s.id != 0 && s.target != 0 && !s.ended &&
			!s.pace.Settled(s.asked.whole, s.saw, s.got) {
			return true
		}
	}
	return false
}
