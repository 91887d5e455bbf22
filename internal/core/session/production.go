package session

import (
	"sort"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/reasm"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/segments"
)

// serverReader reads the conversation between the client and the production server, on a connection
// whose protocol is known. It reads the bytes of both as they are captured, however far the copy
// is. It knows how many answers the client had seen when it began a turn, and how production fared,
// for the account. It begins with the connection or, found under way and after a gap, with a turn
// that began when everything had been answered.
type serverReader struct {
	further bool // production's answers are counted for another copy of the connection
	deaf    bool // the client's requests are read, and no answers
	state   readState
	inside  bool // the beginning of a request was read, and its end was not

	protocol *proto.Protocol
	client   proto.Client
	answers  segments.Follower
	began    uint64 // offset of the client's bytes at which reading began
	read     uint64 // the client's bytes below this offset were read
	from     uint64 // the server's bytes that preceded reading, counted like the session's sent
	asked    uint64 // requests that have an answer

	ends   []uint64 // where answers end, counted like from
	first  int      // ends before it are passed
	passed uint64   // how many ends were passed
	times  stopwatch
	// running has the requests of streams that have no answer yet, by stream.
	running map[uint64]running
}

// readState is the state of a serverReader.
type readState uint8

const (
	readIdle  readState = iota // it waits for a place to begin at
	reading                    // it follows requests and answers
	readEnded                  // it reads no more of this connection; what it has read holds
	readNever                  // it will not begin: the protocol is not read
)

// runningCost is what a request of a stream takes that has no answer yet, in bytes.
const runningCost = 64

// maxEnds is how many answers may end that no turn has passed.
const maxEnds = 1 << 14

// newServerReader returns the reader of a new session, or nil if production's answers are not read.
func newServerReader(svc *Service, further bool) *serverReader {
	deaf := svc.OldOnly && !further
	if !svc.Production && !deaf || len(svc.Protocols) == 0 {
		return nil
	}
	return &serverReader{further: further, deaf: deaf}
}

// hasBegun reports whether reading has begun. It may have ended.
func (p *serverReader) hasBegun() bool {
	return p != nil && (p.state == reading || p.state == readEnded)
}

// reads reports whether the server's answers are followed at present.
func (p *serverReader) reads() bool { return p != nil && p.state == reading }

// total returns how many final answers were read.
func (p *serverReader) total() uint64 { return p.passed + uint64(len(p.ends)-p.first) }

// answered returns how many whole answers a client had seen that had seen so many of the server's
// bytes. ok reports whether all were read since the client's bytes at the offset base. seen must
// not fall from call to call.
func (p *serverReader) answered(seen, base uint64) (n uint64, ok bool) {
	if !p.hasBegun() || p.deaf || p.began > base || seen < p.from ||
		seen-p.from > p.answers.Read() {
		return 0, false
	}
	ends := p.ends[p.first:]
	n = uint64(sort.Search(len(ends), func(i int) bool { return ends[i] > seen }))
	return p.passed + n, true
}

// pass forgets the ends of the answers that the client of a released turn had seen.
func (p *serverReader) pass(seen uint64) {
	if !p.hasBegun() {
		return
	}
	for p.first < len(p.ends) && p.ends[p.first] <= seen {
		p.first++
		p.passed++
	}
	if p.first > 0 && 2*p.first >= len(p.ends) {
		p.ends, p.first = p.ends[:copy(p.ends, p.ends[p.first:])], 0
	}
}

// kept returns how many bytes of the pool are in use.
func (p *serverReader) kept() int {
	if !p.hasBegun() {
		return 0
	}
	return p.answers.Kept()
}

// size returns how many bytes are held that are not of the pool.
func (p *serverReader) size() int {
	if p == nil {
		return 0
	}
	return 8*cap(p.ends) + runningCost*len(p.running) + sizeOf(p.client)
}

// close returns buffers to the pool.
func (p *serverReader) close() {
	if p != nil {
		p.answers.Digest(nil)
		p.answers.Close()
	}
}

// stopProduction stops reading until a turn begins at which reading can begin again. lost reports
// that there was more to read.
func (s *Session) stopProduction(lost bool) {
	p := s.server
	if !p.reads() {
		return
	}
	s.endProduction(lost)
	s.pairs.unread()
	*p = serverReader{further: p.further, deaf: p.deaf, read: p.read}
}

// endProduction stops reading for good. lost reports that there was more to read.
func (s *Session) endProduction(lost bool) {
	p := s.server
	switch {
	case p == nil:
		return
	case p.state == readIdle:
		p.state = readNever
	case p.state == reading:
		p.state = readEnded
	default:
		return
	}
	if lost && p.total() > 0 && !p.further {
		s.env.Count.Requests.ProductionLost++
	}
	p.close()
	if lost {
		s.pairs.unread()
	}
}

// readRequests reads the client's bytes that were captured by the time at.
func (s *Session) readRequests(at mono.Time) {
	p := s.server
	if p == nil || p.state > reading {
		return
	}
	if m, ok := s.reader.LastMark(); ok && p.reads() && !p.deaf &&
		m.Seen-p.from > p.answers.Read() {
		s.stopProduction(true) // the client has seen bytes of the server that were not captured
	}
	if !p.reads() && !s.beginProduction() {
		return
	}
	for end := s.reader.Next(); p.read < end; {
		v := s.reader.View(p.read, int(end-p.read))
		out := s.env.scratch()
		err := p.client.Feed(v, 0, out)
		s.pairs.requested(v, p.read, p.asked, out)
		p.read += uint64(len(v))
		switch over := p.noteRequests(out, at); {
		case err != nil || len(v) == 0:
			s.endProduction(true)
			return
		case over:
			s.endProduction(false)
			return
		}
	}
}

// noteRequests notes the requests that the client's reader has found. over reports that no more
// follow.
func (p *serverReader) noteRequests(out *proto.Out, at mono.Time) (over bool) {
	for i := range out.Steps {
		st := &out.Steps[i]
		if p.inside = st.Kind == proto.PassOn; p.inside {
			continue
		}
		if st.Kind == proto.Abandoned {
			delete(p.running, st.Request.Number)
			continue
		}
		switch r := &st.Request; r.Reply {
		case proto.One:
			if !p.deaf {
				p.expect(r, at)
			}
			p.asked++
		case proto.Push, proto.Switch:
			return true
		}
	}
	return false
}

// expect notes that the server will answer a request.
func (p *serverReader) expect(r *proto.Request, at mono.Time) {
	if r.Hint != 0 {
		p.answers.Expect(p.asked, r.Hint)
	}
	if r.Stream == 0 {
		p.times.start(p.asked, at)
	} else if len(p.running) < maxEnds {
		p.run(r.Stream, running{sent: at})
	}
}

// beginProduction begins to read where the client's bytes begin or, later, at its newest turn. It
// returns false if the server has sent bytes since that were not kept, or if the protocol is not
// known yet.
func (s *Session) beginProduction() bool {
	p := s.server
	var at reasm.Mark
	if s.phase.adopted() || p.read > 0 {
		m, ok := s.reader.LastMark()
		if !ok || m.Seen < m.Sent || m.Off < p.read {
			return false
		}
		at = m
	}
	var early []byte
	if s.talk != nil && at == (reasm.Mark{}) {
		early = s.talk.greeting
	}
	if !p.deaf && (s.sent > at.Seen+uint64(len(early)) || s.serverSide == serverUnknown) {
		return false
	}
	protocol, known := s.protocolAt(at.Off)
	if !known {
		return false
	}
	if protocol == nil || protocol.Watch == nil {
		p.state = readNever
		return false
	}
	client, answers := protocol.Watch()
	*p = serverReader{further: p.further, deaf: p.deaf, state: reading, protocol: protocol,
		client: client, answers: segments.Follow(answers), began: at.Off, read: at.Off,
		from: at.Seen, ends: p.ends[:0]}
	p.answers.Digest(s.pairs.read(protocol))
	p.answers.Begin(s.serverBase.Add(int(uint32(at.Seen))))
	if client.Begin(s.phase.adopted(), s.env.scratch()) != nil {
		s.endProduction(false)
		return false
	}
	if len(early) > 0 {
		s.readAnswers(&packet.Segment{Seq: s.serverBase, Flags: packet.ACK, Len: len(early),
			Payload: early}, s.last)
	}
	return p.reads()
}

// protocolAt returns the protocol of the connection, which it recognises by the client's bytes from
// the offset off on if the copy has not done so. A nil protocol is one that is not read. known is
// false if too few bytes have come to tell.
func (s *Session) protocolAt(off uint64) (protocol *proto.Protocol, known bool) {
	switch {
	case s.talk != nil && s.talk.protocol != nil:
		return s.talk.protocol, true
	case s.svc.Certain:
		return &s.svc.Protocols[0], true
	}
	var room [firstMost]byte
	n := s.reader.Peek(off, room[:])
	var server []byte
	if off == 0 && s.talk != nil {
		server = s.talk.greeting
	}
	protocol, verdict := s.svc.recognise(room[:n], server)
	return protocol, verdict == proto.Yes || verdict == proto.No ||
		verdict == proto.Unsure && n == len(room)
}

// readAnswers reads a segment of production's server.
func (s *Session) readAnswers(seg *packet.Segment, at mono.Time) {
	p := s.server
	if p != nil && p.state == readIdle && s.svc.Certain && s.sent == 0 && len(seg.Payload) > 0 {
		s.beginProduction() // the server speaks first
	}
	if !p.reads() || p.deaf {
		return
	}
	s.env.told = p.answers.Feed(at, seg, s.env.Pool, s.env.told[:0], &s.env.found)
	for i := range s.env.told {
		told := &s.env.told[i]
		if len(told.Bytes) > 0 {
			continue
		}
		if told.Stream != 0 {
			s.readStreamAnswer(told)
			continue
		}
		count := &s.env.Count.Requests.Production
		if !p.further {
			countAnswer(count, p.protocol, &told.Answer)
		}
		if told.Interim {
			continue
		}
		if sent, ok := p.times.stop(p.total()); ok && !p.further {
			timeAnswer(count, sent, told.First, told.At)
		}
		s.pairs.answered(p.total(), told.Digest)
		p.ends = append(p.ends, p.from+told.End)
	}
	clear(s.env.told)
	switch {
	case p.answers.Lost(), p.total() > p.asked && !p.inside, len(p.ends)-p.first > maxEnds:
		s.endProduction(true)
	case p.answers.Over():
		s.endProduction(false)
	}
}

// run notes a request of a stream.
func (p *serverReader) run(stream uint64, r running) {
	if p.running == nil {
		p.running = make(map[uint64]running)
	}
	p.running[stream] = r
}

// readStreamAnswer notes what was found of an answer of production on a stream.
func (s *Session) readStreamAnswer(told *proto.Told) {
	p, stream := s.server, told.Stream
	r, timed := p.running[stream]
	switch {
	case told.Digest != nil:
		s.pairs.answeredStream(stream, told.Digest)
		return
	case told.Mark:
		if timed {
			r.first = told.At
			p.running[stream] = r
		}
		return
	case told.Status == 0 && !timed: // it was reset when it had ended
		return
	}
	if count := &s.env.Count.Requests.Production; !p.further {
		countAnswer(count, p.protocol, &told.Answer)
		if timed && !told.Interim && r.first != 0 {
			timeAnswer(count, r.sent, r.first, told.At)
		}
	}
	if told.Interim {
		return
	}
	if told.Status == 0 { // production has reset the stream
		s.pairs.abandon(stream)
	}
	delete(p.running, stream)
	p.passed++
}
