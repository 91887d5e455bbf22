package session

import (
	"sort"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/reasm"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/segments"
)

// serverReader is what client and server say to each other there, on a connection whose protocol
// is known: it reads the bytes of both as they are captured, whatever the copy is at. So it is
// known how many answers the client had seen when it began a turn, and how production fared, for
// the account. It begins with the connection or, found under way and after a gap, with a turn that
// was begun when all had been answered.
type serverReader struct {
	further bool // it is counted for another copy of the connection
	over    bool // nothing more is read on this connection; what was read by then holds
	begun   bool
	inside  bool // of a request, its beginning was read

	protocol *proto.Protocol
	client   proto.Client
	answers  segments.Follower
	began    uint64 // the client's bytes are read from here on, an offset of the session's reader
	read     uint64 // and were, up to here
	from     uint64 // the server's bytes are read from here on, as the session's sent counts
	asked    uint64 // requests that have an answer

	ends  []uint64 // where answers end, as from counts
	first int      // those before it are passed
	past  uint64   // how many were passed
	times stopwatch
}

// maxEnds bounds the answers that were not passed yet.
const maxEnds = 1 << 14

// newServerReader returns what a session reads of production's own answers; nil: nothing.
func newServerReader(svc *Service, further bool) *serverReader {
	if !svc.Production || len(svc.Protocols) == 0 {
		return nil
	}
	return &serverReader{further: further}
}

// hasBegun says whether reading has begun; it may be over.
func (p *serverReader) hasBegun() bool { return p != nil && p.begun }

// reads says whether the server's answers are followed at present.
func (p *serverReader) reads() bool { return p.hasBegun() && !p.over }

// total is how many final answers were read.
func (p *serverReader) total() uint64 { return p.past + uint64(len(p.ends)-p.first) }

// answered is how many answers a client had seen whole that had seen so many of the server's
// bytes. ok says that all were read since the client's bytes at the offset base. seen never falls.
func (p *serverReader) answered(seen, base uint64) (n uint64, ok bool) {
	if !p.hasBegun() || p.began > base || seen < p.from || seen-p.from > p.answers.Read() {
		return 0, false
	}
	ends := p.ends[p.first:]
	return p.past + uint64(sort.Search(len(ends), func(i int) bool { return ends[i] > seen })), true
}

// pass forgets where the answers end that the client of a turn which has gone had seen.
func (p *serverReader) pass(seen uint64) {
	if !p.hasBegun() {
		return
	}
	for p.first < len(p.ends) && p.ends[p.first] <= seen {
		p.first++
		p.past++
	}
	if p.first > 0 && 2*p.first >= len(p.ends) {
		p.ends, p.first = p.ends[:copy(p.ends, p.ends[p.first:])], 0
	}
}

// kept is how much of the pool is in use.
func (p *serverReader) kept() int {
	if !p.hasBegun() {
		return 0
	}
	return p.answers.Kept()
}

// close gives buffers back.
func (p *serverReader) close() {
	if p != nil {
		p.answers.Close()
	}
}

// stopProduction stops reading, until a turn begins that one can begin with again. lost says that
// there was more to read.
func (s *Session) stopProduction(lost bool) {
	p := s.server
	if !p.reads() {
		return
	}
	s.endProduction(lost)
	*p = serverReader{further: p.further, read: p.read}
}

// endProduction stops reading for good.
func (s *Session) endProduction(lost bool) {
	p := s.server
	if p == nil || p.over {
		return
	}
	if lost && p.total() > 0 && !p.further {
		s.env.Count.Requests.ProductionLost++
	}
	p.over = true
	p.close()
}

// overhear reads what has come of the client by the time at.
func (s *Session) overhear(at mono.Time) {
	p := s.server
	if p == nil || p.over {
		return
	}
	if m, ok := s.reader.LastMark(); ok && p.begun && m.Seen-p.from > p.answers.Read() {
		s.stopProduction(true) // the client has seen what we have not
	}
	if !p.begun && !s.beginProduction() {
		return
	}
	for end := s.reader.Next(); p.read < end; {
		v := s.reader.View(p.read, int(end-p.read))
		out := s.env.scratch()
		err := p.client.Feed(v, 0, out)
		p.read += uint64(len(v))
		switch over := p.ask(out, at); {
		case err != nil || len(v) == 0:
			s.endProduction(true)
			return
		case over:
			s.endProduction(false)
			return
		}
	}
}

// ask takes what the reader of requests has found; over says that there are no more.
func (p *serverReader) ask(out *proto.Out, at mono.Time) (over bool) {
	for i := range out.Steps {
		st := &out.Steps[i]
		if p.inside = st.Kind == proto.PassOn; p.inside {
			continue
		}
		switch r := &st.Request; r.Reply {
		case proto.One:
			if r.Hint != 0 {
				p.answers.Expect(p.asked, r.Hint)
			}
			p.times.start(p.asked, at)
			p.asked++
		case proto.Push, proto.Switch:
			return true
		}
	}
	return false
}

// beginProduction begins to read where the client's bytes begin, or with its newest turn, if the
// server has said nothing since and the protocol is known by now.
func (s *Session) beginProduction() bool {
	p := s.server
	var at reasm.Mark
	if s.adopted || p.read > 0 {
		m, ok := s.reader.LastMark()
		if !ok || m.Seen < m.Sent || m.Off < p.read {
			return false
		}
		at = m
	}
	if s.sent > at.Seen || !s.serverKnown {
		return false
	}
	var protocol *proto.Protocol
	switch {
	case s.talk != nil && s.talk.protocol != nil:
		protocol = s.talk.protocol
	case s.svc.Certain:
		protocol = &s.svc.Protocols[0]
	default:
		var room [firstMost]byte
		n := s.reader.Peek(at.Off, room[:])
		found, verdict := s.svc.recognise(room[:n], nil)
		if verdict == proto.Unsure && n < len(room) {
			return false
		}
		protocol = found
	}
	if protocol == nil || protocol.Watch == nil {
		p.over = true
		return false
	}
	client, answers := protocol.Watch()
	*p = serverReader{further: p.further, begun: true, protocol: protocol, client: client, answers: segments.Follow(answers),
		began: at.Off, read: at.Off, from: at.Seen, ends: p.ends[:0]}
	p.answers.Begin(s.serverBase.Add(int(uint32(at.Seen))))
	if client.Begin(s.adopted, s.env.scratch()) != nil {
		s.endProduction(false)
		return false
	}
	return true
}

// overhearServer reads a segment of production's server.
func (s *Session) overhearServer(seg *packet.Segment, at mono.Time) {
	p := s.server
	if !p.reads() {
		return
	}
	s.env.told = p.answers.Feed(at, seg, s.env.Pool, s.env.told[:0], &s.env.found)
	for i := range s.env.told {
		told := &s.env.told[i]
		if len(told.Bytes) > 0 {
			continue
		}
		count := &s.env.Count.Requests.Production
		if !p.further {
			countAnswer(count, p.protocol, &told.Answer)
		}
		if told.Interim {
			continue
		}
		if went, ok := p.times.stop(p.total()); ok && !p.further {
			timeAnswer(count, went, told.First, told.At)
		}
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
