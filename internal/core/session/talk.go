package session

import (
	"cmp"
	"errors"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/reasm"
	"tcpcopy/internal/proto"
)

// talk is what a session knows of the protocol spoken on it. It is nil if no protocol is to be
// recognised, or if the first bytes were of none. A copy whose protocol is lost continues without
// it if possible; the next copy of the same session begins it again.
type talk struct {
	protocol *proto.Protocol // nil: not recognised yet
	client   proto.Client
	foreseen *proto.Protocol // the client's reader was made before the protocol was recognised
	greeting []byte          // production's first bytes, kept until the protocol is recognised

	answers AnswerReader // the copy's stream, if it can read answers
	// following reports that the stream reads answers and the gate goes by them. It ends for good,
	// for this copy, when the protocol is lost or another one follows.
	following bool
	pushed    bool        // the server speaks unasked: no turn waits
	again     bool        // the turn that begins was handed on before, and was held back
	request   requestPart // what was handed on of the last request
	seen      uint64      // the server's bytes that the client had seen before the turn handed on
	asked     uint64      // requests handed on that have an answer
	answered  uint64      // final answers
	interim   uint64      // interim answers
	awaited   uint64      // final answers that the last turn waited for
	atTurn    uint64      // answers of both kinds when the last turn went
	times     stopwatch
	opened    mono.Time          // when the connection to the target opened
	script    *script            // what the copy sends, if the protocol edits
	streams   proto.Streams      // the client, if its streams wait by themselves
	paced     proto.Paced        // the client, if they wait by time as well
	running   map[uint64]running // the requests of streams that have no answer yet
	heard     mono.Time          // when the target's bytes came that the streams were given last
	shut      bool               // the streams were told that the target has ended its direction
	anew      bool               // another connection takes the place of one that was not read
	reopens   bool               // another connection takes the place of one that has ended

	production *serverReader // nil unless production's answers are read from the copy's beginning
	base       uint64        // where the copy begins, as an offset of the session's reader
	before     uint64        // answers of production's that the client had seen at base
}

// running is when a request was sent, when its answer began, and on which of the client's streams.
type running struct {
	sent, first mono.Time
	stream      uint64
}

// requestPart is how much of the last request was handed on, and how.
type requestPart uint8

const (
	requestWhole   requestPart = iota // all of it, or none was begun
	requestBegun                      // its beginning, as the client sent it
	requestChanged                    // its beginning, rewritten
)

// greetingMost is how many of the server's first bytes are kept until the protocol is recognised;
// wholeMost is how many if they are read. With several capture rings these may be of an answer.
const (
	greetingMost = 512
	wholeMost    = 16 << 10
)

// firstMost is how much of the client's first turn is used to recognise its protocol.
const firstMost = 4096

// unansweredMost is how many of the client's bytes wait for an answer that tells the protocol.
const unansweredMost = 1 << 20

// newTalk returns the talk of a new session.
func newTalk(svc *Service) *talk {
	if len(svc.Protocols) == 0 {
		return nil
	}
	t := new(talk)
	if svc.Certain {
		t.protocol = &svc.Protocols[0]
	}
	return t
}

// unrecognised reports whether the protocol is still to be recognised.
func (t *talk) unrecognised() bool { return t != nil && t.protocol == nil }

// known reports whether the protocol is known and its answers are followed.
func (t *talk) known() bool { return t != nil && t.following }

// edits reports whether the protocol makes the copy's bytes.
func (t *talk) edits() bool { return t != nil && t.script != nil }

// holds reports whether the protocol holds the client's bytes back, for example to log in first.
func (t *talk) holds() bool { return t.edits() && t.client.Holds() }

// handedBack reports whether the turn that begins was handed on before and held back.
func (t *talk) handedBack() bool { return t != nil && t.again }

// kept returns how many bytes of the pool hold the copy's own bytes.
func (t *talk) kept() int {
	if !t.edits() {
		return 0
	}
	return t.script.kept
}

// size returns how many bytes are held that are not of the pool.
func (t *talk) size() int {
	if t == nil {
		return 0
	}
	return cap(t.greeting) + sizeOf(t.client)
}

// sizeOf returns how many bytes a client's reader holds; c may be nil.
func sizeOf(c proto.Client) int {
	if s, ok := c.(proto.Sizer); ok {
		return s.Size()
	}
	return 0
}

// beginTalk begins the protocol of a copy whose stream was just asked for. seen is how many of the
// server's bytes its client had seen.
func (s *Session) beginTalk(now mono.Time, seen uint64) {
	t := s.talk
	if t == nil {
		return
	}
	reopens := t.reopens
	*t = talk{protocol: t.protocol, client: t.client, foreseen: t.foreseen, greeting: t.greeting,
		seen: seen, base: s.base, anew: t.anew}
	if before, ok := s.server.answered(seen, s.base); ok || !s.server.hasBegun() {
		t.production, t.before = s.server, before
	}
	s.server.pass(seen)
	if reopens {
		s.copied().goOn()
	} else {
		s.copied().begin(s.base)
	}
	t.answers, _ = s.stream.(AnswerReader)
	if t.protocol != nil {
		s.speak(now)
	}
}

// speak has the stream read answers, and begins the client's reader. It returns false if there is
// no copy any more.
func (s *Session) speak(now mono.Time) bool {
	s.dropTurns()
	t := s.talk
	if t.client == nil {
		t.client = t.protocol.NewClient()
	}
	if t.client.Edits() {
		t.script = &script{base: s.base, upTo: s.base}
	}
	if t.streams, _ = t.client.(proto.Streams); t.streams != nil {
		t.running = make(map[uint64]running)
		t.paced, _ = t.client.(proto.Paced)
	}
	if t.answers == nil {
		if t.edits() {
			s.Refuse(now, ledger.ProtoLost)
		}
		return !t.edits()
	}
	t.answers.ReadAnswers(t.protocol.Kind)
	t.following = true
	s.readRequests(now) // while production's first bytes are there
	out := s.env.scratch()
	if err := t.client.Begin(s.phase.adopted(), out); err != nil {
		// A copy cannot begin here, nor at any later turn.
		if s.lostTalk(now, err) {
			return true
		}
		s.Refuse(now, ledger.ProtoLost)
		return false
	}
	t.handServer()
	return s.carryOut(now, out)
}

// lostTalk continues the copy without the protocol, whose reader has returned err. If the protocol
// makes the copy's bytes, lostTalk ends the copy and returns false.
func (s *Session) lostTalk(now mono.Time, err error) bool {
	s.talk.following = false
	s.copied().giveUp(LostTrack)
	var refusal *proto.Refusal
	refused := errors.As(err, &refusal)
	if refused && refusal.Class != 0 {
		s.env.Count.Requests.Refuse(refusal.Class)
	}
	switch {
	case !refused:
		s.env.Count.ProtoLost++
		if !s.talk.edits() {
			return true
		}
		s.notBefore = now.Add(retryAfter)
		s.lose(now, ledger.ProtoLost)
	case refusal.Final:
		s.Refuse(now, refusal.Reason)
	default:
		s.notBefore = now.Add(retryAfter)
		s.lose(now, refusal.Reason)
	}
	return false
}

// endTalk releases what the copy has kept.
func (s *Session) endTalk() {
	if t := s.talk; t != nil {
		if t.edits() {
			t.script.close(s.env.Pool)
		}
		t.script, t.answers, t.following = nil, nil, false
	}
}

// foresee makes the reader of a copy that has sent nothing yet, when bytes of the client have come,
// if it may follow production's bytes. These must not wait for the copy: all that was captured is
// taken in before a session goes on, and the copy may have to wait before it begins.
func (s *Session) foresee() {
	t := s.talk
	if !s.svc.Production || t == nil || t.client != nil || s.phase.adopted() {
		return
	}
	t.foreseen = t.protocol
	if t.foreseen == nil {
		found, verdict := s.recogniseFrom(0, int(min(s.reader.Next(), firstMost)))
		if verdict == proto.Yes {
			t.foreseen = found
		}
	}
	if t.foreseen != nil {
		t.client = t.foreseen.NewClient()
		t.handServer()
	}
}

// handServer gives the client's reader what was kept of production's first bytes, if it follows
// them.
func (t *talk) handServer() {
	if t.client.Edits() && len(t.greeting) > 0 {
		t.client.Server(0, t.greeting)
	}
	t.greeting = nil
}

// recognise finds a copy's protocol by its first bytes. held reports that too few have come to
// tell, or that there is no copy any more.
func (s *Session) recognise(now mono.Time) (wake mono.Time, held bool) {
	t := s.talk
	switch {
	case !t.unrecognised() || s.reader.Next() == s.base:
		return mono.Never, false
	case t.foreseen != nil:
		t.protocol = t.foreseen
		return mono.Never, !s.speak(now)
	}
	end, whole := s.reader.Next(), s.reader.HasEnd()
	if m, ok := s.reader.MarkAfter(s.base); ok { // what follows the first turn replies to an answer
		end, whole = m.Off, true
	}
	most := int(min(end-s.base, firstMost))
	found, verdict := s.recogniseFrom(s.base, most)
	if unsure := verdict == proto.Unsure && most < firstMost ||
		verdict == proto.Unanswered && s.reader.Next()-s.base < unansweredMost; unsure && !whole {
		if until := s.spoke.Add(recogniseWait); !until.Reached(now) {
			return until, true
		}
	}
	if found == nil {
		if s.turns.unknown(); s.turns.wanted() {
			s.readTurns()
		} else if t.answers != nil {
			t.answers.ReadAnswers(proto.None)
		}
		s.talk = nil
		return mono.Never, false
	}
	t.protocol = found
	return mono.Never, !s.speak(now)
}

// recogniseFrom finds a protocol by most bytes of the client, or fewer, from the offset off on.
func (s *Session) recogniseFrom(off uint64, most int) (*proto.Protocol, proto.Verdict) {
	first := s.reader.View(off, most)
	found, verdict := s.svc.recognise(first, s.talk.greeting)
	if verdict != proto.Yes && verdict != proto.No && len(first) < most {
		var room [firstMost]byte // the bytes came in several packets
		found, verdict = s.svc.recognise(room[:s.reader.Peek(off, room[:most])], s.talk.greeting)
	}
	return found, verdict
}

// server processes bytes of production's server that begin at the offset off of its direction.
// whole reports that all of its bytes may be captured.
func (t *talk) server(off uint64, p []byte, adopted, whole bool) {
	room := greetingMost - len(t.greeting)
	if whole {
		room = wholeMost - len(t.greeting)
	}
	switch {
	case t.client != nil:
		if t.client.Edits() {
			t.client.Server(off, p)
		}
	case adopted:
	case off == uint64(len(t.greeting)) && room > 0:
		t.greeting = append(t.greeting, p[:min(len(p), room)]...)
	}
}

// recognise asks each protocol whether it is the one, and returns the first that says Yes. The
// verdict is Unsure or Unanswered nevertheless if one before it begins in the same way and says so,
// and if none says Yes and one says so.
func (svc *Service) recognise(client, server []byte) (*proto.Protocol, proto.Verdict) {
	all, begins := proto.No, proto.None
	for i := range svc.Protocols {
		p := &svc.Protocols[i]
		switch p.Recognise(client, server) {
		case proto.Yes:
			if begins != proto.None && p.Kind == begins {
				return p, all
			}
			return p, proto.Yes
		case proto.Unsure:
			if begins = cmp.Or(p.Shares, begins); all == proto.No {
				all = proto.Unsure
			}
		case proto.Unanswered:
			all, begins = proto.Unanswered, cmp.Or(p.Shares, begins)
		}
	}
	return nil, all
}

// handOn passes the client's bytes below the offset end to the stream, by way of the protocol's
// reader. If the protocol edits, the stream gets what the reader makes of them; a reader that holds
// back stops handOn before end. It returns false if there is no copy any more.
func (s *Session) handOn(now mono.Time, end uint64) bool {
	t := s.talk
	for off := s.released; off < end && (t.known() || t.edits() && !t.client.Holds()); {
		v := s.reader.View(off, int(end-off))
		if len(v) == 0 {
			break // not in the record: there is nothing to send
		}
		off += uint64(len(v))
		out := s.env.scratch()
		err := t.client.Feed(v, t.seen, out)
		if t.edits() {
			s.released = off
		}
		if !s.carryOut(now, out) || err != nil && !s.lostTalk(now, err) {
			return false
		}
		if t.holds() { // bytes that no step consumed are fed again later
			s.released = t.script.upTo
			t.again = s.released == s.turn
			return true
		}
		t.again = false
	}
	if !t.edits() {
		s.released, s.ready = end, now
		s.stream.Release(now, end-s.base)
	}
	return true
}

// carryOut carries out the steps of a client's reader. It returns false if there is no copy any
// more.
func (s *Session) carryOut(now mono.Time, out *proto.Out) bool {
	t := s.talk
	for i := range out.Steps {
		switch st := &out.Steps[i]; st.Kind {
		case proto.Requested:
			s.noteRequest(now, &st.Request)
		case proto.Refused:
			s.copied().leaveOut(st.Request.Stream)
			s.env.Count.Requests.Drop(st.Reason)
			t.request = requestWhole
		case proto.Begun, proto.Answered, proto.Abandoned:
			s.noteStream(st)
		case proto.Hinted:
			t.answers.Expect(st.Request.Number, st.Request.Hint)
		default:
			t.noteStep(st)
			s.copied().step(st.N)
			if t.edits() {
				t.script.add(s.env.Pool, st, out.Text)
			}
		}
	}
	if !t.edits() {
		return true
	}
	if t.script.upTo > s.released { // a step consumed bytes that the reader was not given
		return s.lostTalk(now, proto.ErrLost)
	}
	s.account(t.script.taken)
	if x := t.script; x.end > x.released && s.State() != Closing {
		x.released, s.ready = x.end, now
		s.stream.Release(now, x.end)
	}
	return true
}

// noteStep notes what a step makes of the request that is coming in. A step that sends none of the
// client's bytes, nor others in their place, begins no request.
func (t *talk) noteStep(st *proto.Step) {
	sends := st.N > 0 && (st.Kind == proto.PassOn || st.Kind == proto.Say && st.To > st.From)
	switch {
	case t.request == requestWhole && !sends:
	case st.Kind != proto.PassOn:
		t.request = requestChanged
	default:
		t.request = max(t.request, requestBegun)
	}
}

// noteRequest notes a request that is complete. Its last bytes go to the stream next.
func (s *Session) noteRequest(now mono.Time, r *proto.Request) {
	t := s.talk
	if r.Reply == proto.Switch { // not a request: what follows is of another protocol
		t.following = false
		return
	}
	s.env.Count.Requests.Sent++
	if t.streams != nil {
		if !r.Whole {
			s.env.Count.Requests.Rewritten++
		}
		if r.Hint != 0 {
			t.answers.Expect(r.Number, r.Hint)
		}
		t.running[r.Number] = running{sent: now, stream: r.Stream}
		s.copied().sendStream(now, r.Stream)
		return
	}
	if t.request == requestChanged {
		s.env.Count.Requests.Rewritten++
	}
	t.request = requestWhole
	switch r.Reply {
	case proto.One:
		if r.Hint != 0 {
			t.answers.Expect(t.asked, r.Hint)
		}
		s.copied().send(now)
		t.times.start(t.asked, now)
		t.asked++
	case proto.Push:
		t.pushed = true
	}
}

// checkKnown reports whether the protocol knows that everything was answered that a turn, or the
// client's end, sent at n waits for. known is false if the protocol cannot tell.
func (t *talk) checkKnown(n reasm.Note) (answered, known bool) {
	switch {
	case !t.known():
		return false, false
	case t.streams != nil:
		return t.streams.Settled(n.Seen), true
	case t.pushed:
		return true, true
	case t.answered < t.need(n):
		return false, true
	case t.request != requestWhole && t.client.Expects() && t.answered+t.interim == t.atTurn:
		// The client had seen something before it sent the rest of a request. The target has sent
		// nothing since the first part.
		return false, t.edits()
	case t.asked+t.answered+t.interim == 0:
		return t.edits(), t.edits() // the server spoke first
	}
	return true, true
}

// need returns how many answers a turn sent at n waits for. That is as many as its client had seen,
// if production's answers are read; otherwise all, unless production was still answering. In that
// case production may have been ahead of the copy, so the turn waits for one answer more than the
// last one.
func (t *talk) need(n reasm.Note) uint64 {
	if !t.edits() { // a protocol that edits may ask less than production has answered
		if seen, ok := t.production.answered(n.Seen, t.base); ok {
			return min(t.asked, seen-min(seen, t.before))
		}
	}
	if n.Seen < n.Sent {
		return min(t.asked, t.awaited+1)
	}
	return t.asked
}

// passed notes that the turn sent at n was released.
func (t *talk) passed(n reasm.Note) {
	if t != nil {
		t.awaited = max(t.awaited, t.need(n))
		t.atTurn = t.answered + t.interim
	}
}

// content reports whether the target has answered all that it was asked.
func (t *talk) content() bool {
	if t.streams != nil {
		return t.streams.Idle()
	}
	return t.answered >= t.asked && t.request == requestWhole && !t.pushed
}

// noteAnswer notes an answer of the target.
func (s *Session) noteAnswer(ev *Event) {
	t, a := s.talk, &ev.Answer
	countAnswer(&s.env.Count.Requests.Answers, t.protocol, a)
	if a.Interim {
		t.interim++
		return
	}
	if sent, ok := t.times.stop(t.answered); ok {
		timeAnswer(&s.env.Count.Requests.Answers, max(sent, t.opened), ev.First, ev.At)
	}
	s.copied().receive(a.Digest, ev.At)
	t.answered++
	if t.answered > t.asked && t.request == requestWhole && !t.pushed {
		// It answers no request (a server that closes an idle connection may say so): which answer
		// belongs to which request is no longer known.
		s.env.Count.ProtoLost++
		t.following = false
		s.copied().slip()
	}
	if a.Last {
		t.following = false
	}
}

// countAnswer counts an answer of the protocol p, and returns its class.
func countAnswer(c *ledger.Answers, p *proto.Protocol, a *proto.Answer) (class ledger.Class) {
	if p.Class != nil {
		if class = p.Class(a); class != 0 {
			c.Status[class]++
		}
	}
	if a.Interim {
		return class
	}
	c.Answered++
	if a.Failed {
		c.Failed++
	}
	return class
}

// timeAnswer notes how long the first byte and the whole of an answer took, to a request sent at
// sent.
func timeAnswer(c *ledger.Answers, sent, first, whole mono.Time) {
	c.First.Note(first.Sub(sent))
	c.Whole.Note(whole.Sub(sent))
}

// handleAnswer processes an event of the stream's reader of answers.
func (s *Session) handleAnswer(now mono.Time, ev *Event) {
	if !s.talk.known() {
		s.turns.receive(ev)
		return
	}
	switch ev.Kind {
	case AnswerEnd:
		if !ev.Answer.Mark {
			s.noteAnswer(ev)
		} else if c, ok := s.talk.client.(proto.Digested); ok {
			c.Digest(ev.Answer.Stream, ev.Answer.Digest)
		}
	case AnswersLost:
		if !s.readAnew(now) {
			s.lostTalk(now, proto.ErrLost)
		}
	case AnswerBytes:
		s.talk.heard = ev.At
		out := s.env.scratch()
		err := s.talk.client.Kept(ev.Bytes, out)
		switch {
		case !s.carryOut(now, out):
		case err != nil:
			s.lostTalk(now, err)
		case s.Held() > s.svc.MaxBytes:
			s.Refuse(now, ledger.OverSession) // the target asks for more than it reads
		}
	}
}
