package intercept

import (
	"fmt"
	"slices"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/way/link/wire"
)

// Bounds of the examinations that copiers ask for.
const (
	mostExams  = 8 // at the same time
	examFor    = 15 * time.Second
	mostInside = 3 // SYNs of an examination that are sent from here
	// So many may begin in a span of time.
	examBurst = 16
	examSpan  = 16 * time.Second
)

// exam is an examination that a copier has asked for: what becomes of SYNs from a client's address.
type exam struct {
	look      wire.Look
	asker     *peer
	id        uint32 // by which witnesses know it
	since     mono.Time
	sent      int       // SYNs from here
	seen      wire.Seen // what came here
	witnesses []*peer   // that have still to answer
	ended     bool
	finish    func() []byte // of Config.Examine; nil: there is none
}

// exams are the examinations under way. Guarded by Intercept.mu.
type exams struct {
	all    []*exam
	lastID uint32
	recent []mono.Time // the last beginnings
}

// affords reports whether another examination may begin now, and counts it.
func (x *exams) affords(now mono.Time) bool {
	x.recent = slices.DeleteFunc(x.recent, func(t mono.Time) bool { return now.Sub(t) > examSpan })
	if len(x.recent) >= examBurst {
		return false
	}
	x.recent = append(x.recent, now)
	return true
}

// find returns the examination of a copier's connection by the copier's own number, or nil.
func (x *exams) find(asker *peer, id uint32) *exam {
	for _, e := range x.all {
		if e.asker == asker && e.look.ID == id {
			return e
		}
	}
	return nil
}

// remove forgets the examinations for which done holds.
func (x *exams) remove(done func(*exam) bool) { x.all = slices.DeleteFunc(x.all, done) }

// look carries out a step of an examination, and returns the answer.
func (s *Intercept) look(p *peer, q *wire.Look) *wire.Seen {
	a := &wire.Seen{}
	switch q.Step {
	case wire.LookBegin:
		a.Refused, a.Witnesses = s.beginExam(p, q)
	case wire.LookSend:
		a.Refused = s.sendProbe(p, q)
	case wire.LookEnd:
		a = s.endExam(p, q)
	}
	a.ID, a.Step = q.ID, q.Step
	return a
}

// beginExam begins an examination, and passes it on to the witnesses. It returns why not, and how
// many witnesses there are.
func (s *Intercept) beginExam(p *peer, q *wire.Look) (refused string, witnesses uint8) {
	e, refused := s.enterExam(p, q)
	if refused != "" {
		return refused, 0
	}
	if s.cfg.Examine != nil {
		finish := s.cfg.Examine(q)
		s.mu.Lock()
		e.finish = finish
		s.mu.Unlock()
	}
	return "", uint8(min(len(e.witnesses), 255))
}

// enterExam enters an examination if it is permitted. The rights are those of any copier: to the
// targets that it has named.
func (s *Intercept) enterExam(p *peer, q *wire.Look) (e *exam, refused string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.Now()
	s.forgetExams(now)
	switch {
	case p.witness:
		return nil, "a witness does not examine"
	case !s.table.SendsTo(p.copier.owner, q.Target):
		return nil, fmt.Sprintf("the copier has not named the target %s", q.Target)
	case s.cfg.Local != nil && s.cfg.Local.Has(q.Client):
		return nil, fmt.Sprintf("%s is the intercept's own address", q.Client)
	case s.exams.find(p, q.ID) != nil:
		return nil, fmt.Sprintf("examination %d has begun", q.ID)
	case len(s.exams.all) >= mostExams, !s.exams.affords(now):
		return nil, fmt.Sprintf("too many examinations: %d in %s are allowed", examBurst, examSpan)
	}
	s.exams.lastID++
	e = &exam{look: *q, asker: p, id: s.exams.lastID, since: now}
	for _, c := range s.owners {
		if c == nil || !s.table.SendsTo(c.owner, q.Target) {
			continue
		}
		for _, w := range c.peers {
			if w.witness && w.put(e.passedOn(wire.LookBegin)) {
				e.witnesses = append(e.witnesses, w)
			}
		}
	}
	s.exams.all = append(s.exams.all, e)
	return e, ""
}

// passedOn returns a step for witnesses, as a frame.
func (e *exam) passedOn(step wire.LookStep) []byte {
	q := e.look
	q.ID, q.Step = e.id, step
	return q.Append(nil)
}

// sendProbe sends a SYN from here. It returns why not.
func (s *Intercept) sendProbe(p *peer, q *wire.Look) (refused string) {
	s.mu.Lock()
	e := s.exams.find(p, q.ID)
	switch {
	case s.cfg.Probe == nil:
		refused = "no probe can be sent from here"
	case e == nil:
		refused = "the examination has not begun"
	case e.sent >= mostInside:
		refused = fmt.Sprintf("%d probes were sent", e.sent)
	default:
		e.sent++
	}
	s.mu.Unlock()
	if refused != "" {
		return refused
	}
	syn := e.look.SYN(e.look.Inside)
	if err := s.cfg.Probe(&syn); err != nil {
		return err.Error()
	}
	return ""
}

// endExam ends an examination, has the witnesses report, and returns what was seen here.
func (s *Intercept) endExam(p *peer, q *wire.Look) *wire.Seen {
	s.mu.Lock()
	e := s.exams.find(p, q.ID)
	if e == nil || e.ended {
		s.mu.Unlock()
		return &wire.Seen{Refused: "the examination has not begun"}
	}
	e.ended = true
	a, sent, finish := e.seen, e.sent, e.finish
	for _, w := range e.witnesses {
		w.put(e.passedOn(wire.LookEnd))
	}
	if len(e.witnesses) == 0 {
		s.exams.remove(func(x *exam) bool { return x == e })
	}
	s.mu.Unlock()
	if sent > 0 {
		reset := e.look.Reset(e.look.Inside)
		_ = s.cfg.Probe(&reset) // the target forgets the probe by itself, later
	}
	if finish != nil {
		a.Findings = finish()
	}
	return &a
}

// testify passes what a witness has seen on to the copier that asked.
func (s *Intercept) testify(p *peer, seen *wire.Seen) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.exams.all {
		i := slices.Index(e.witnesses, p)
		if e.id != seen.ID || i < 0 {
			continue
		}
		passed := *seen
		passed.ID, passed.Witness, passed.Witnesses = e.look.ID, true, 0
		e.asker.put(passed.Append(nil))
		if seen.Step == wire.LookEnd {
			e.witnesses = slices.Delete(e.witnesses, i, i+1)
		}
		if e.ended && len(e.witnesses) == 0 {
			s.exams.remove(func(x *exam) bool { return x == e })
		}
		return
	}
}

// probed counts a segment if it answers a probe, and reports whether it does. The lock is held.
func (s *Intercept) probed(seg *packet.Segment) bool {
	for _, e := range s.exams.all {
		if e.seen.Saw(&e.look, seg) {
			s.frames.Probes++
			return true
		}
	}
	return false
}

// forgetExams forgets the examinations that were not ended, or not answered. The lock is held.
func (s *Intercept) forgetExams(now mono.Time) {
	s.exams.remove(func(e *exam) bool { return now.Sub(e.since) > examFor })
}

// leaveExams forgets what a connection that has ended takes part in. The lock is held.
func (s *Intercept) leaveExams(p *peer) {
	for _, e := range s.exams.all {
		e.witnesses = slices.DeleteFunc(e.witnesses, func(w *peer) bool { return w == p })
	}
	s.exams.remove(func(e *exam) bool {
		return e.asker == p || e.ended && len(e.witnesses) == 0
	})
}
