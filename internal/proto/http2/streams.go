package http2

import (
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
)

// stream is one stream of the client and its copy.
type stream struct {
	id       uint32 // the client's
	target   uint32 // the target's; 0: not opened
	number   uint64 // of the request, if it is opened
	window   int64  // what the target takes, beside its initial window
	received int    // bytes of DATA that came since the last WINDOW_UPDATE

	began uint64 // bytes of production's server that the client had seen when it opened the stream
	needs uint64 // it is opened when every stream with an order below has ended
	order uint64 // its place among the streams that the client has seen end, from 1; 0: none

	call           // of gRPC
	socket *socket // of WebSocket; nil: it is none

	why         ledger.Reason // why it is left out; None: it is not
	prioritised bool
	clientEnded bool          // nothing more comes of the client
	ended       bool          // nothing more comes of the target
	dead        bool          // the target wants nothing more of it
	answering   bool          // the target's answer has begun
	status      uint16        // of the final answer; 0: its header block has not come
	size        uint64        // of the answer, in bytes of frames
	digest      *proto.Digest // of the answer, if it is compared
	text        string        // what the target says of a call's error

	holding  bool   // something of it waits
	from     uint64 // offset of its first byte that waits
	priority [5]byte
	head     []byte
	upload   upload
	trailers []byte
	end      bool // END_STREAM waits
	reset    bool // RST_STREAM waits
	code     [4]byte
	resetBy  mono.Time // when it goes though turns precede it; 0: none was held back

	// again is the head of a request without content that was sent, until it is answered. A target
	// that refuses it has not processed it (RFC 9113 §8.7), so it is sent again.
	again []byte
	tries int
}

// maxTries is how often a request is sent that the target refuses.
const maxTries = 4

// The error codes that matter here (RFC 9113 §7).
var (
	codeRefused = [4]byte{0, 0, 0, 7} // REFUSED_STREAM
	codeCancel  = [4]byte{0, 0, 0, 8} // CANCEL
)

// streams are the streams that have not ended on both sides.
type streams struct {
	byClient map[uint32]*stream
	byTarget map[uint32]*stream
	list     []*stream // in the order in which the client has opened them
	free     []*stream // ended: their memory is used again
	removed  int       // how many in list have ended
	waiting  int       // how many hold something
	paused   int       // how many of these have turns
	sockets  int       // how many are of WebSocket
	held     int       // bytes that wait
	open     int       // open at the target
	requests uint64    // opened at the target, ever

	// The streams that the client has seen end, in this order, wait for their end at the target:
	// ended[i] tells of the one with the order lowest+i.
	ended  []bool
	lowest uint64
}

// maxFree bounds the streams that are kept for later.
const maxFree = 32

func newStreams() streams {
	return streams{byClient: map[uint32]*stream{}, byTarget: map[uint32]*stream{}, lowest: 1}
}

// orders returns the order after the last one.
func (t *streams) orders() uint64 { return t.lowest + uint64(len(t.ended)) }

// add adds a stream that the client opens, having seen so much of production's server.
func (t *streams) add(id uint32, seen uint64) *stream {
	var s *stream
	if n := len(t.free) - 1; n >= 0 {
		s, t.free = t.free[n], t.free[:n]
		*s = stream{head: s.head[:0], upload: s.upload.emptied(), trailers: s.trailers[:0],
			again: s.again[:0], call: call{turns: s.turns[:0]}}
	} else {
		s = new(stream)
	}
	s.id, s.began, s.needs = id, seen, t.orders()
	t.byClient[id] = s
	t.list = append(t.list, s)
	return s
}

// remove forgets a stream.
func (t *streams) remove(s *stream) {
	t.release(s)
	t.endOrder(s)
	delete(t.byClient, s.id)
	t.dropSocket(s)
	if s.target != 0 {
		delete(t.byTarget, s.target)
		t.open--
	}
	s.id = 0
	t.removed++
}

// tidy takes the streams that were removed out of the list, if they are many.
func (t *streams) tidy() {
	if t.removed <= len(t.list)/2 {
		return
	}
	n := 0
	for _, s := range t.list {
		if s.id != 0 {
			t.list[n] = s
			n++
		} else if len(t.free) < maxFree && s.room() < 4096 {
			t.free = append(t.free, s)
		}
	}
	clear(t.list[n:])
	t.list, t.removed = t.list[:n], 0
}

// room returns how much memory the stream's buffers have.
func (s *stream) room() int {
	return cap(s.head) + cap(s.upload.data) + partCost*cap(s.upload.parts) + cap(s.trailers) +
		cap(s.again)
}

// holdFrom notes that n more bytes of a stream wait, of which the client's have that offset.
func (t *streams) holdFrom(s *stream, from uint64, n int) {
	t.held += n
	if !s.holding {
		s.holding, s.from = true, from
		t.waiting++
	}
}

// release notes that nothing of the stream waits.
func (t *streams) release(s *stream) {
	t.held -= len(s.head) + s.upload.held + len(s.trailers)
	s.head, s.upload, s.trailers = s.head[:0], s.upload.emptied(), s.trailers[:0]
	s.end, s.reset, s.resetBy = false, false, 0
	t.dropTurns(s)
	if s.holding {
		s.holding = false
		t.waiting--
	}
}

// sawEnd notes that the client has seen the end of a stream, or may have.
func (t *streams) sawEnd(s *stream) {
	if s.order == 0 && !s.ended && s.why == ledger.None {
		s.order = t.orders()
		t.ended = append(t.ended, false)
	}
}

// endOrder notes that a stream has ended at the target, so that those that wait for it may go.
func (t *streams) endOrder(s *stream) {
	s.ended = true
	if s.order < t.lowest {
		return
	}
	t.ended[s.order-t.lowest] = true
	s.order = 0
	n := 0
	for n < len(t.ended) && t.ended[n] {
		n++
	}
	t.ended = t.ended[:copy(t.ended, t.ended[n:])]
	t.lowest += uint64(n)
}

// may reports whether the target has ended every stream that the client had seen end before it
// opened s.
func (t *streams) may(s *stream) bool { return t.lowest >= s.needs }

// endOfClient notes the client's END_STREAM.
func (c *Client) endOfClient(s *stream) {
	if s.clientEnded {
		return
	}
	s.clientEnded = true
	switch {
	case s.why != ledger.None, s.dead && !s.holding:
		c.remove(s)
	default:
		c.beginTurn(s)
		s.end = true
		c.holdFrom(s, c.frameAt, 0)
	}
}

// flush sends what may go without a look at the time, in the order in which the client has opened
// the streams.
func (c *Client) flush(out *proto.Out) {
	if c.waiting == c.paused || !c.target.ready {
		return
	}
	for i := 0; i < len(c.list); i++ {
		if s := c.list[i]; s.id != 0 && s.holding && len(s.turns) == 0 {
			c.send(0, s, out)
		}
	}
}

// Go is of proto.Paced. It is for the streams that have turns, and for a connection that takes no
// more streams.
func (c *Client) Go(now mono.Time, out *proto.Out) mono.Time {
	if c.waiting+c.sockets == 0 || !c.target.ready {
		return mono.Never
	}
	c.words.from = len(out.Text)
	given, wake := c.drain(now, out)
	if !given && c.paused+c.sockets == 0 {
		return wake
	}
	for i := 0; i < len(c.list); i++ {
		s := c.list[i]
		switch {
		case s.id == 0:
		case s.socket != nil:
			wake = min(wake, c.goSocket(now, s, out))
		case s.holding && len(s.turns) > 0:
			wake = min(wake, c.send(now, s, out))
		}
	}
	c.settle(out)
	c.tidy()
	return wake
}

// send sends what may go of one stream. It returns when the next turn may go that waits.
func (c *Client) send(now mono.Time, s *stream, out *proto.Out) (wake mono.Time) {
	t := &c.target
	if s.target == 0 {
		if !c.may(s) || c.asks(s) || t.leaving || c.open >= t.maxStreams || t.next > maxWindow {
			return mono.Never
		}
		if s.socket != nil && !c.mayConnect(s, out) {
			return mono.Never
		}
		c.openStream(s, out)
	}
	whole, wake := c.sendData(now, s, out)
	if !whole {
		if !s.reset || s.turnWaits() {
			return wake
		}
		if until := s.holdsReset(now); !until.Reached(now) {
			return min(wake, until)
		}
	}
	switch {
	case !whole: // what is left does not go
	case len(s.trailers) > 0:
		out.Text = appendBlock(out.Text, s.trailers, nil, t.maxFrame, flagEndStream, s.target)
		s.end = false
	case s.end:
		out.Text = appendHeader(out.Text, 0, frameData, flagEndStream, s.target)
	}
	if s.reset {
		out.Text = append(appendHeader(out.Text, 4, frameReset, 0, s.target), s.code[:]...)
	}
	reset := s.reset
	if c.release(s); reset {
		c.abandon(s, out)
	}
	if s.ended && s.clientEnded {
		c.remove(s)
	}
	return mono.Never
}

// resetWait is how long the target's windows may hold back a turn, and with it RST_STREAM.
const resetWait = 10 * time.Second

// holdsReset returns until when RST_STREAM waits for content that the target's windows hold back.
// It waits if turns follow, since then production's server had answered that content.
func (s *stream) holdsReset(now mono.Time) mono.Time {
	if len(s.turns) == 0 {
		return now
	}
	if s.resetBy == 0 {
		s.resetBy = now.Add(resetWait)
	}
	return s.resetBy
}

// abandon notes that nothing more of the target matters to a stream that was cancelled.
func (c *Client) abandon(s *stream, out *proto.Out) {
	if !s.ended {
		out.Abandon(s.number)
	}
	s.clientEnded, s.dead = true, true
	c.endOrder(s)
}

// openStream sends the head of a stream.
func (c *Client) openStream(s *stream, out *proto.Out) {
	t := &c.target
	if s.tries++; s.tries == 1 {
		s.number = c.requests
		c.requests++
		out.Request(proto.Request{Number: s.number, Stream: uint64(s.id)})
	}
	s.target = t.next
	t.next += 2
	c.open++
	c.byTarget[s.target] = s
	flags := uint8(0)
	if s.end && s.upload.end+len(s.trailers)+len(s.turns) == 0 && s.socket == nil {
		flags, s.end = flagEndStream, false
	}
	if s.socket != nil {
		out.Hint(uint64(s.target/2), hintSocket)
		t.data.addSocket(s.target)
		out.Abandon(s.number) // its answer is no one to be compared, nor timed
	}
	if s.grpc && t.from == 0 {
		t.from = s.target
		out.Hint(uint64(s.target/2), hintMessages)
	}
	var priority []byte
	if s.prioritised { // the stream that it depends on may have another number: it stands alone
		priority = []byte{0, 0, 0, 0, s.priority[4]}
	}
	out.Text = appendBlock(out.Text, s.head, priority, t.maxFrame, flags, s.target)
	n := len(s.head)
	c.held -= n
	s.head = s.head[:0]
	if flags == flagEndStream {
		s.head, s.again = s.again[:0], s.head[:n]
	}
}

// refused notes that the target has not processed a stream. A request without content is sent
// again, on this connection or the next.
func (c *Client) refused(s *stream, out *proto.Out) {
	if len(s.again) == 0 || s.answering || s.ended || s.holding || s.tries >= maxTries {
		c.kill(s, out)
		return
	}
	delete(c.byTarget, s.target)
	c.open--
	s.target, s.window, s.received = 0, 0, 0
	s.head, s.again = s.again, s.head[:0]
	s.end = true
	c.holdFrom(s, c.taken, len(s.head))
}
