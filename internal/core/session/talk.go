package session

import (
	"errors"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/reasm"
	"tcpcopy/internal/proto"
)

// talk is what a session knows of the protocol that is spoken on it. There is none where nobody asks for
// one, or the first bytes were of none. A copy whose protocol is lost goes on without it, as far as it can;
// the next copy of the same session begins it again.
type talk struct {
	protocol *proto.Protocol // nil: it is not recognised yet
	client   proto.Client
	greeting []byte // the first bytes of production's server, until the protocol is recognised

	answers  AnswerReader // the copy's stream, if it can read them
	over     bool         // the gate guesses from here on: lost, or another protocol
	reading  bool         // the stream reads answers
	pushed   bool         // the server speaks unasked: nothing waits
	inside   bool         // what was handed on last is the beginning of a request
	changed  bool         // the request that is coming in is not the client's to the byte
	again    bool         // the turn that begins has been handed on before, and was held back
	seen     uint64       // of the server's bytes, by the turn that is handed on
	asked    uint64       // requests handed on that have an answer
	answered uint64       // final answers
	interim  uint64
	awaited  uint64 // the answers that the last turn waited for
	heard    uint64 // answers, interim ones too, when the last turn went
	times    stopwatch
	opened   mono.Time // the copy's connection
	script   *script

	production *serverReader // where its answers are read, from the copy's beginning on; else nil
	base       uint64        // where the copy begins, an offset of the session's reader
	before     uint64        // answers that the client had seen then
}

// greetingMost bounds what is kept of the server's first bytes.
const greetingMost = 512

// firstMost is how much of the client's first turn is looked at for its protocol.
const firstMost = 4096

// newTalk returns what a new session knows: nothing yet.
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

// known says whether the protocol is known, and its answers are followed.
func (t *talk) known() bool { return t != nil && t.reading && !t.over }

// edits says whether the copy's bytes are the protocol's.
func (t *talk) edits() bool { return t != nil && t.script != nil }

// holds says whether the copy is busy on its own account.
func (t *talk) holds() bool { return t.edits() && t.client.Holds() }

// handedBack says that the turn which begins has begun before.
func (t *talk) handedBack() bool { return t != nil && t.again }

// kept is how much of the pool is in use for the copy's own bytes.
func (t *talk) kept() int {
	if !t.edits() {
		return 0
	}
	return t.script.kept
}

// beginTalk begins the protocol of a copy, whose stream has just been opened, of a client that had seen that
// many of the server's bytes.
func (s *Session) beginTalk(now mono.Time, seen uint64) {
	t := s.talk
	if t == nil {
		return
	}
	*t = talk{protocol: t.protocol, client: t.client, greeting: t.greeting, seen: seen, base: s.base}
	if before, ok := s.server.answered(seen, s.base); ok || !s.server.hasBegun() {
		t.production, t.before = s.server, before
	}
	s.server.pass(seen)
	t.answers, _ = s.stream.(AnswerReader)
	if t.protocol != nil {
		s.speak(now)
	}
}

// speak has the stream read answers, and the client's reader begin. False says that there is no copy any more.
func (s *Session) speak(now mono.Time) bool {
	t := s.talk
	if t.client == nil {
		t.client = t.protocol.NewClient()
	}
	if t.client.Edits() {
		t.script = &script{upTo: s.base}
	}
	if t.answers == nil {
		if t.edits() {
			s.Refuse(now, ledger.ProtoLost)
		}
		return !t.edits()
	}
	t.answers.ReadAnswers(t.protocol.Kind)
	t.reading = true
	out := s.env.scratch()
	if err := t.client.Begin(s.adopted, out); err != nil {
		// There is no beginning here, and will be none later.
		if s.lostTalk(now, err) {
			return true
		}
		s.Refuse(now, ledger.ProtoLost)
		return false
	}
	if t.edits() && len(t.greeting) > 0 {
		t.client.Server(0, t.greeting)
	}
	t.greeting = nil
	return s.carryOut(now, out)
}

// lostTalk goes on without the protocol, whose reader has returned err; where the copy's bytes are its making,
// the copy ends, and false is returned.
func (s *Session) lostTalk(now mono.Time, err error) bool {
	s.talk.over = true
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

// endTalk lets go of what the copy has kept.
func (s *Session) endTalk() {
	if t := s.talk; t != nil {
		if t.edits() {
			t.script.close(s.env.Pool)
		}
		t.script, t.answers, t.reading = nil, nil, false
	}
}

// recognise finds out by the first bytes of a copy which protocol it is. held says that it is too early to
// tell, or that there is no copy any more.
func (s *Session) recognise(now mono.Time) (wake mono.Time, held bool) {
	t := s.talk
	if t == nil || t.protocol != nil || s.reader.Next() == s.base {
		return mono.Never, false
	}
	end, whole := s.reader.Next(), s.reader.HasEnd()
	if m, ok := s.reader.MarkAfter(s.base); ok { // what follows the first turn was said in answer
		end, whole = m.Off, true
	}
	most := int(min(end-s.base, firstMost))
	first := s.reader.View(s.base, most)
	found, verdict := s.svc.recognise(first, t.greeting)
	if verdict == proto.Unsure && len(first) < most {
		var room [firstMost]byte // they came in several packets
		first = room[:s.reader.Peek(s.base, room[:most])]
		found, verdict = s.svc.recognise(first, t.greeting)
	}
	if verdict == proto.Unsure && !whole && most < firstMost {
		if until := s.spoke.Add(tlsWait); !until.Reached(now) {
			return until, true
		}
	}
	if verdict != proto.Yes {
		if t.answers != nil {
			t.answers.ReadAnswers(proto.None)
		}
		s.talk = nil
		return mono.Never, false
	}
	t.protocol = found
	return mono.Never, !s.speak(now)
}

// server takes bytes of production's server, which begin at the offset off.
func (t *talk) server(off uint64, p []byte, adopted bool) {
	switch room := greetingMost - len(t.greeting); {
	case t.client != nil && t.client.Edits():
		t.client.Server(off, p)
	case t.protocol == nil && !adopted && off == uint64(len(t.greeting)) && room > 0:
		t.greeting = append(t.greeting, p[:min(len(p), room)]...)
	}
}

// recognise asks all protocols. One that is certain is; while one is unsure, none is excluded.
func (svc *Service) recognise(client, server []byte) (*proto.Protocol, proto.Verdict) {
	all := proto.No
	for i := range svc.Protocols {
		switch svc.Protocols[i].Recognise(client, server) {
		case proto.Yes:
			return &svc.Protocols[i], proto.Yes
		case proto.Unsure:
			all = proto.Unsure
		}
	}
	return nil, all
}

// handOn gives the client's bytes up to end to the stream: past the protocol's reader, or, where that
// edits, what it makes of them. A reader that holds back stops it before the end. False says that there is
// no copy any more.
func (s *Session) handOn(now mono.Time, end uint64) bool {
	t := s.talk
	for off := s.released; t.known() && off < end || t.edits() && off < end && !t.client.Holds(); {
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
		if t.holds() { // what no step has taken comes again
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

// carryOut does what a reader of the client's wants done. False says that there is no copy any more.
func (s *Session) carryOut(now mono.Time, out *proto.Out) bool {
	t := s.talk
	for i := range out.Steps {
		switch st := &out.Steps[i]; st.Kind {
		case proto.Requested:
			s.request(now, &st.Request)
		case proto.Refused:
			s.env.Count.Requests.Drop(st.Reason)
			t.inside, t.changed = false, false
		default:
			t.note(st)
			if t.edits() {
				t.script.add(s.env.Pool, st, out.Text)
			}
		}
	}
	if !t.edits() {
		return true
	}
	if t.script.upTo > s.released { // of bytes that it was not given
		return s.lostTalk(now, proto.ErrLost)
	}
	s.account(t.script.taken)
	if x := t.script; x.end > x.released {
		x.released, s.ready = x.end, now
		s.stream.Release(now, x.end)
	}
	return true
}

// note notes what a step does to the request that is coming in. What sends nothing of the client's begins none.
func (t *talk) note(st *proto.Step) {
	if t.inside || st.N > 0 && (st.Kind == proto.PassOn || st.Kind == proto.Say && st.To > st.From) {
		t.inside = true
		t.changed = t.changed || st.Kind != proto.PassOn
	}
}

// request notes a request that is whole, of which the last bytes go to the stream next.
func (s *Session) request(now mono.Time, r *proto.Request) {
	t := s.talk
	if r.Reply == proto.Switch { // no request: what comes from here on is no longer the protocol's
		t.over = true
		return
	}
	s.env.Count.Requests.Sent++
	if t.changed {
		s.env.Count.Requests.Rewritten++
	}
	t.inside, t.changed = false, false
	switch r.Reply {
	case proto.One:
		if r.Hint != 0 {
			t.answers.Expect(t.asked, r.Hint)
		}
		t.times.start(t.asked, now)
		t.asked++
	case proto.Push:
		t.pushed = true
	}
}

// checkKnown asks whether the turn, or the client's end, that was sent at n may go, by what the protocol
// knows. Where it has nothing to say of the turn, known is false.
func (t *talk) checkKnown(n reasm.Note) (answered, known bool) {
	switch {
	case !t.known():
		return false, false
	case t.pushed:
		return true, true
	case t.answered < t.need(n):
		return false, true
	case t.inside && t.client.Expects() && t.answered+t.interim == t.heard:
		// The client had seen something before it sent the rest of a request, and nothing has come since.
		return false, t.edits()
	case t.asked+t.answered+t.interim == 0:
		return t.edits(), t.edits() // the server spoke first
	}
	return true, true
}

// need is how many answers a turn sent at n waits for: as many as its client had seen, where production's are
// read; else all, unless production was still answering. Then some may have been ahead of it there, and are to
// be here.
func (t *talk) need(n reasm.Note) uint64 {
	if !t.edits() { // else production has answered more than the copy asks
		if seen, ok := t.production.answered(n.Seen, t.base); ok {
			return min(t.asked, seen-min(seen, t.before))
		}
	}
	if n.Seen < n.Sent {
		return min(t.asked, t.awaited+1)
	}
	return t.asked
}

// passed notes that a turn went.
func (t *talk) passed(n reasm.Note) {
	if t != nil {
		t.awaited = max(t.awaited, t.need(n))
		t.heard = t.answered + t.interim
	}
}

// content says that the target has answered all that it was asked.
func (t *talk) content() bool { return t.answered >= t.asked && !t.inside && !t.pushed }

// answer takes an answer of the target's.
func (s *Session) answer(ev *Event) {
	t, a := s.talk, &ev.Answer
	countAnswer(&s.env.Count.Requests.Answers, t.protocol, a)
	if a.Interim {
		t.interim++
		return
	}
	if went, ok := t.times.stop(t.answered); ok {
		timeAnswer(&s.env.Count.Requests.Answers, max(went, t.opened), ev.First, ev.At)
	}
	t.answered++
	if t.answered > t.asked && !t.inside && !t.pushed {
		// To nothing that was asked (a server that closes an idle connection may say so): which answer is
		// whose is not known any more.
		s.env.Count.ProtoLost++
		t.over = true
	}
	if a.Last {
		t.over = true
	}
}

// countAnswer counts an answer of the protocol p.
func countAnswer(c *ledger.Answers, p *proto.Protocol, a *proto.Answer) {
	if p.Class != nil {
		if class := p.Class(a); class != 0 {
			c.Status[class]++
		}
	}
	if a.Interim {
		return
	}
	c.Answered++
	if a.Failed {
		c.Failed++
	}
}

// timeAnswer notes when an answer came to a request that had gone at the time went.
func timeAnswer(c *ledger.Answers, went, first, whole mono.Time) {
	c.First.Note(first.Sub(went))
	c.Whole.Note(whole.Sub(went))
}

// hear takes an event of the stream's reader of answers.
func (s *Session) hear(now mono.Time, ev *Event) {
	if !s.talk.known() {
		return
	}
	switch ev.Kind {
	case AnswerEnd:
		s.answer(ev)
	case AnswersLost:
		s.lostTalk(now, proto.ErrLost)
	case AnswerBytes:
		out := s.env.scratch()
		err := s.talk.client.Kept(ev.Bytes, out)
		if s.carryOut(now, out) && err != nil {
			s.lostTalk(now, err)
		}
	}
}
