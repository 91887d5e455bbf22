package session

import (
	"slices"
	"strconv"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/reasm"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/bytestream"
	"tcpcopy/internal/proto/segments"
)

// Bounds of turns.
const (
	maxChecks     = 256 // pieces of one server whose ends are known
	maxCuts       = 4   // answers whose bytes the client had seen, and which were not captured
	maxMisaligned = 16  // turns whose answers' lengths differ, and whose sums do as well
	turnSize      = 160 // what a turn takes, roughly
)

// turns compares what production and the target send on a connection whose protocol is not known.
// The answer to a turn is what a server sends until the next turn: of production, what the client
// had seen by then; of the target, what had come when the turn was sent. Where production was still
// sending, or the gate was mistaken, the two are cut in different places. So answers of different
// lengths wait: if those of a few turns together are as long, these are compared together. An
// answer that is the same on both sides ends the waiting: then those before it differ.
//
// It is nil if nothing is compared in this way: the protocol is known, or answers are not compared.
type turns struct {
	to       Comparer
	key      bytestream.Key
	endpoint string
	unit     Unit
	certain  bool // no protocol will be recognised: answers are due

	all     []turn // not compared yet, in order; the last is the newest
	waiting int    // how many of the first differ in length
	removed bool   // turns were compared
	read    uint64 // the client's bytes below were read
	hash    proto.Hash

	answers            segments.Follower // of production
	production, target half
	closed             bool   // production's answers are not read any more
	lost               bool   // and not because it has ended
	seen               uint64 // what the client had seen when the last turn began
	sent               int    // the turn that the target has; -1: none
	isOff              bool   // turns that the target has not answered are excluded
	off                Exclusion
	fault              ledger.Reason // why the target ended the copy; None: it did not
	failed             bool          // an answer of the target failed
	ends               bothEnds
}

// turn is a turn with both answers.
type turn struct {
	off     uint64 // of the client's first byte
	request uint64 // hash of its bytes
	// clean: the client had seen all that production had sent when it sent the next turn.
	clean bool
	due   bool
	at    mono.Time // when it was sent to the target
	took  int64

	production, target part
	failed             ledger.Reason // why there is no answer of the target; None: there is
	isProduction       bool          // production is final
	isTarget           bool          // target and failed are final
	unsure             bool          // one of them may not be whole
	lost               bool          // production's is not known
}

// part is an answer: so many bytes, and their hash.
type part struct{ n, sum uint64 }

// half is what one server has sent, from the first answer on that is not whole.
type half struct {
	done   int      // how many turns in all have a whole answer
	from   uint64   // where the next answer begins
	checks []check  // ends of pieces behind from
	cuts   []uint64 // where the next answers end
	over   bool     // no more comes
}

// check is the end of a piece. sum is of the bytes before it, from half.from on.
type check struct {
	end, sum uint64
	at       mono.Time
}

func (h *half) end() uint64 {
	if n := len(h.checks); n > 0 {
		return h.checks[n-1].end
	}
	return h.from
}

// add adds a piece with a hash, which ends at the offset end.
func (h *half) add(k *bytestream.Key, end, sum uint64, at mono.Time) {
	last := h.end()
	if end <= last {
		return
	}
	if n := len(h.checks); n > 0 {
		sum = k.Join(h.checks[n-1].sum, sum, end-last)
	}
	if len(h.checks) >= maxChecks { // answers end at one of the last
		h.checks = slices.Delete(h.checks, 0, maxChecks/2)
	}
	h.checks = append(h.checks, check{end, sum, at})
}

// next returns the next answer that is whole, and when its last byte came. An answer ends where a
// piece ends.
func (h *half) next(k *bytestream.Key) (p part, at mono.Time, ok bool) {
	if len(h.cuts) == 0 || h.end() < h.cuts[0] && !h.over {
		return part{}, 0, false
	}
	n := 0
	for n < len(h.checks) && h.checks[n].end <= h.cuts[0] {
		n++
	}
	h.cuts = slices.Delete(h.cuts, 0, 1)
	if n == 0 {
		return part{}, 0, true
	}
	c := h.checks[n-1]
	p = part{c.end - h.from, c.sum}
	h.checks, h.from = slices.Delete(h.checks, 0, n), c.end
	for i := range h.checks {
		later := &h.checks[i]
		later.sum = k.Rest(later.sum, c.sum, later.end-c.end)
	}
	return p, c.at, true
}

// newTurns returns the turns of a new session, or nil if they are not compared. whole reports that
// it begins with the connection.
func newTurns(s *Session, whole bool) *turns {
	if s.env.Compare == nil || !s.svc.Production || s.svc.OldOnly || s.svc.Certain {
		return nil
	}
	with := s.env.Compare.Digesting()
	t := &turns{to: s.env.Compare, key: bytestream.NewKey(with), sent: -1,
		endpoint: "port " + strconv.Itoa(int(s.production.Port())),
		certain:  len(s.svc.Protocols) == 0}
	t.answers = segments.Follow(new(bytestream.Answers))
	t.answers.Digest(bytestream.NewDigester(with))
	if whole {
		t.begin(0)
	} else {
		t.lose(Unread)
	}
	return t
}

// dropTurns ends the comparison by turns: the connection's protocol is known, or it is TLS.
func (s *Session) dropTurns() {
	t := s.turns
	if t == nil {
		return
	}
	for i := range t.all {
		if t.all[i].due { // the greeting of a server whose client then speaks TLS
			t.to.Exclude(NotCopied)
		}
	}
	t.free()
	s.turns = nil
}

// readTurns has the copy's stream read what the target sends, if turns are compared.
func (s *Session) readTurns() {
	if !s.turns.wanted() {
		return
	}
	if r, ok := s.stream.(AnswerReader); ok {
		r.ReadAnswers(bytestream.Kind)
	}
}

// noteCopyEnded tells the comparisons that the copy has ended for the reason r.
func (s *Session) noteCopyEnded(r ledger.Reason) {
	s.copied().copyEnded(r)
	how, _ := s.reader.Ended()
	s.turns.copyEnded(r, s.gate.Answered(), isFault(r) && how != reasm.Reset)
}

// free gives back what is held.
func (t *turns) free() {
	t.answers.Digest(nil)
	t.answers.Close()
	t.to.Digesting().Room += turnSize * len(t.all)
	t.all = nil
}

// unknown notes that no protocol was recognised.
func (t *turns) unknown() {
	if t != nil && !t.certain {
		t.certain = true
		t.settle()
	}
}

// wanted reports whether the target's bytes are to be read.
func (t *turns) wanted() bool { return t != nil && t.certain && !t.isOff }

// size returns how many bytes are held that are not of the pool, and kept how many of the pool.
func (t *turns) size() int {
	if t == nil {
		return 0
	}
	return cap(t.all)*turnSize + 24*(cap(t.production.checks)+cap(t.target.checks))
}

func (t *turns) kept() int {
	if t == nil {
		return 0
	}
	return t.answers.Kept()
}

// begin adds a turn that begins at the client's offset off.
func (t *turns) begin(off uint64) {
	t.hash.Begin(t.to.Digesting())
	t.hash.Write([]byte(t.endpoint))
	t.to.Digesting().Room -= turnSize
	t.all = append(t.all, turn{off: off})
	if len(t.all) > maxPairs || t.to.Digesting().Room < 0 {
		t.lose(OverBounds)
	}
}

// fromClient reads the client's bytes as far as they have come.
func (t *turns) fromClient(r *reasm.Reader) {
	if t == nil || t.closed {
		return
	}
	from := t.read
	for n := 0; ; n++ {
		m, ok := r.MarkFrom(from, n)
		end := r.Next()
		if ok {
			end = m.Off
		}
		for t.read < end {
			v := r.View(t.read, int(end-t.read))
			if len(v) == 0 {
				t.lose(Gap)
				return
			}
			t.hash.Write(v)
			t.read += uint64(len(v))
		}
		if !ok {
			return
		}
		if m.Seen <= t.seen {
			continue
		}
		last := &t.all[len(t.all)-1]
		last.request, last.clean = t.hash.Sum(), m.Seen == m.Sent
		t.seen = m.Seen
		if t.production.cuts = append(t.production.cuts, m.Seen); len(t.production.cuts) > maxCuts {
			t.lose(Gap)
			return
		}
		if t.begin(m.Off); t.closed {
			return
		}
		t.settle()
	}
}

// fromServer reads a segment of production, whose first byte has the sequence number base.
func (t *turns) fromServer(e *Env, base seqnum.Value, seg *packet.Segment, at mono.Time) {
	if t == nil || t.closed {
		return
	}
	if _, based := t.answers.Base(); !based {
		t.answers.Begin(base)
	}
	e.told = t.answers.Feed(at, seg, e.Pool, e.told[:0], &e.found)
	for i := range e.told {
		if told := &e.told[i]; told.Last {
			t.production.over = true
		} else {
			t.production.add(&t.key, told.End, told.Digest.Sum-1, at)
		}
	}
	clear(e.told)
	if t.answers.Lost() {
		t.lose(Gap)
		return
	}
	t.settle()
}

// lose notes that production's answers cannot be read, or not any more.
func (t *turns) lose(why Exclusion) {
	if t == nil || t.closed {
		return
	}
	t.closed, t.lost = true, true
	t.answers.Lose()
	t.giveUp(why)
	for i := t.production.done; i < len(t.all); i++ {
		t.all[i].lost = true
	}
	t.endProduction(false)
	t.settle()
}

// endProduction ends production's answer to the last turn: no more comes, or is read. sure reports
// that it is whole.
func (t *turns) endProduction(sure bool) {
	t.production.over = true
	if len(t.all) > t.production.done+len(t.production.cuts) {
		last := &t.all[len(t.all)-1]
		last.request, last.clean = t.hash.Sum(), true
		t.production.cuts = append(t.production.cuts, t.production.end())
		last.unsure = last.unsure || !sure
	}
}

// copyBegins notes that a copy begins with the connection or, if adopted, at a later turn.
func (t *turns) copyBegins(base uint64, adopted bool) {
	if t == nil {
		return
	}
	if t.fault != ledger.None {
		for i := t.target.done; i < len(t.all) && t.all[i].off < base; i++ {
			t.all[i].isTarget, t.all[i].failed = true, t.fault
			t.target.done = i + 1
		}
		t.fault = ledger.None
	}
	t.sent, t.target = 0, half{done: t.target.done}
	if t.lost && base >= t.read {
		t.miss()
	}
	if adopted || t.removed || t.target.done > 0 {
		t.giveUp(NotCopied)
	}
}

// pass notes that the turn that begins at the offset off may go to the target, which has answered
// so many bytes.
func (t *turns) pass(off, answered uint64) {
	switch {
	case t == nil:
	case t.lost && off >= t.read:
		t.miss()
	case t.isOff:
	case t.sent+1 >= len(t.all) || t.all[t.sent+1].off != off:
		t.giveUp(LostTrack)
	default:
		t.target.cuts = append(t.target.cuts, answered)
		t.sent++
		t.settle()
	}
}

// miss counts a turn of which production's answer is not read.
func (t *turns) miss() {
	if t.certain {
		t.to.Due()
		t.to.Exclude(t.off)
	}
}

// sending notes that the turn's first bytes go to the target.
func (t *turns) sending(now mono.Time) {
	if t != nil && !t.isOff && t.sent >= 0 && t.sent < len(t.all) {
		t.all[t.sent].at = now
	}
}

// receive notes a piece of what the target sends.
func (t *turns) receive(ev *Event) {
	switch {
	case t == nil || t.isOff:
	case ev.Kind == AnswersLost:
		t.giveUp(LostTrack)
	case ev.Kind == AnswerEnd && ev.Answer.Digest != nil:
		t.target.add(&t.key, ev.Answer.End, ev.Answer.Digest.Sum-1, ev.At)
		t.settle()
	}
}

// copyEnded notes that the copy has ended for the reason r. answered is how many bytes the target
// has answered; sure reports that this is all that it would have.
func (t *turns) copyEnded(r ledger.Reason, answered uint64, sure bool) {
	if t == nil || t.isOff {
		return
	}
	if t.sent >= 0 && t.target.done <= t.sent {
		if t.target.end() < answered {
			t.giveUp(LostTrack) // the rest was not read
			return
		}
		t.target.cuts = append(t.target.cuts, answered)
		t.target.over = true
		t.all[t.sent].unsure = t.all[t.sent].unsure || !sure
		if isFault(r) {
			t.all[t.sent].failed = r // if there are no bytes
		}
	}
	if !isFault(r) {
		t.giveUp(endedBy(r))
		return
	}
	t.settle()
	t.fault = r
	if next := t.sent + 1; next < len(t.all) { // another copy may send it, and what follows
		t.all[next].isTarget, t.all[next].failed = true, r
		t.target.done = next + 1
	}
	t.settle()
}

// copyEnds notes that the target ends the copy; closing reports that the copier had done so before.
func (t *turns) copyEnds(reset, closing bool) {
	if t != nil {
		t.ends.copied(reset, closing)
	}
}

// giveUp has turns excluded that the target has not answered.
func (t *turns) giveUp(why Exclusion) {
	if t != nil && !t.isOff {
		t.off, t.isOff = why, true
		t.settle()
	}
}

// close compares what is left, or excludes it: the session is over. content reports that the client
// has ended the connection after it had seen so many bytes of production.
func (t *turns) close(content bool, seen uint64) {
	if t == nil {
		return
	}
	if t.certain {
		isWhole, p := !t.isOff, &t.production
		if n := len(p.cuts); n > 0 && p.cuts[n-1] > p.end() {
			t.lose(Gap)
		}
		if !t.closed {
			t.closed = true
			t.endProduction(content && seen == p.end() && seen > p.from)
		}
		if t.fault == ledger.None {
			t.giveUp(NotCopied)
		}
		t.settle()
		if t.flush(t.waiting); isWhole && !t.failed && t.ends.differ() {
			t.to.Ended(&t.unit, t.endpoint, t.ends.production, t.ends.target)
		}
	}
	t.free()
}
