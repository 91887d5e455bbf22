package gate

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/reasm"
)

// Answer is why a turn may go, or that it must wait.
type Answer uint8

// The answers of Check.
const (
	Wait      Answer = iota // the turn must wait
	Free                    // the turn waits for no answer
	Known                   // a protocol knows that all answers have come
	Predicted               // the predicted number of bytes has come
	Silence                 // the target's answer has begun, and ended in silence
	Finished                // the target closed: no more will come
	Forced                  // the limit was reached while the answer was still coming
	TimedOut                // the limit was reached before an answer began: the turn must not go
)

// Gate is the state of one copy. The zero value is not usable; Init makes it ready.
type Gate struct {
	svc *Service

	seen     uint64 // Seen of the turn released last
	baseSeen uint64 // Seen of the last settled turn
	base     uint64 // what the target had answered when that turn was released
	recv     uint64 // what the target has answered
	lastRecv mono.Time
	released mono.Time     // when the last turn was released
	gap      time.Duration // the longest silence inside the answer that is coming in
	settled  bool          // the last turn was sent after production had finished its answer
	doubt    bool          // the last turn went before the predicted number of bytes had come
	begun    bool          // bytes have come since the last turn was released
	hole     bool          // bytes have come behind a hole
	closed   bool          // the target has ended its direction
	surplus  uint64        // bytes beyond the answers that turns waited for: perhaps of later ones
	lead     int64         // bytes answered more than production's since both were level
	unlevel  uint8         // turns since both were level
	last     uint64        // production's answer before the client's end, until the target closes
}

// Init starts the gate of a copy. seen is how many of the server's bytes the client had seen when
// the copy begins: none for a copy that begins with the connection.
func (g *Gate) Init(svc *Service, seen uint64, now mono.Time) {
	*g = Gate{svc: svc, seen: seen, baseSeen: seen, settled: true, released: now, lastRecv: now}
}

// Received notes that the target has answered total bytes since the copy began. hole reports that
// more has arrived behind a hole.
func (g *Gate) Received(now mono.Time, total uint64, hole bool) {
	g.hole = hole
	if total <= g.recv {
		return
	}
	if g.begun {
		g.gap = max(g.gap, now.Sub(g.lastRecv))
	}
	g.recv, g.lastRecv, g.begun = total, now, true
}

// Shut notes that the target has ended its direction.
func (g *Gate) Shut() {
	g.closed = true
	if b := g.recv - g.base; g.last > 0 && b > 0 {
		g.svc.predict.learn(g.last, b)
		g.last = 0
	}
}

// Closed reports whether the target has ended its direction.
func (g *Gate) Closed() bool { return g.closed }

// Seen returns how many of the server's bytes the client had seen before the turn released last.
func (g *Gate) Seen() uint64 { return g.seen }

// LastAnswer returns when the target's last bytes came.
func (g *Gate) LastAnswer() mono.Time { return g.lastRecv }

// Rebase treats what the target has answered so far as a greeting: answers are counted from here
// on.
func (g *Gate) Rebase(now mono.Time) {
	g.base, g.released, g.begun, g.gap = g.recv, now, false, 0
	g.surplus, g.lead, g.unlevel = 0, 0, 0
}

// Answered returns how many bytes the target has answered since the copy began.
func (g *Gate) Answered() uint64 { return g.recv }

// Check reports whether the turn sent at n may go. If not, it returns when to ask again. ready is
// when the target was able to answer: the copy was open, and all bytes before the turn were handed
// over.
func (g *Gate) Check(now mono.Time, n reasm.Note, ready mono.Time) (Answer, mono.Time) {
	cfg := &g.svc.cfg
	if n.Seen <= g.seen || cfg.Mode == None {
		return Free, mono.Never
	}
	if g.closed {
		return Finished, mono.Never
	}
	limit := max(g.released, ready, n.At).Add(cfg.Limit)
	have := g.recv - g.base
	want, known := g.expect(n.Seen - g.baseSeen)
	known = known && (!g.doubt || cfg.Mode == Bytes)
	// While production was still answering, what the client had seen is a lower bound.
	lower := !g.settled || n.Seen < n.Sent || cfg.Mode == Bytes
	if known && !g.hole && (have == want || have > want && lower) {
		return Predicted, mono.Never
	}
	wake := limit
	if quiet, ok := g.quietFor(n.Seen-g.baseSeen, have, known && have < want); ok {
		end := max(g.lastRecv, g.released, ready).Add(quiet)
		if end.Reached(now) {
			return Silence, mono.Never
		}
		// Other connections teach meanwhile how long an answer is, and a shorter silence.
		wake = min(limit, end, now.Add(max(end.Sub(now)/2, againAfter)))
	}
	switch {
	case !limit.Reached(now):
		return Wait, wake
	case have > 0:
		return Forced, mono.Never
	default:
		return TimedOut, mono.Never
	}
}

// quietFor returns how long the target must be silent for a turn to go, where production has
// answered a bytes and the target have. more reports that more is expected of the target. ok is
// false if silence does not show an end.
func (g *Gate) quietFor(a, have uint64, more bool) (quiet time.Duration, ok bool) {
	cfg := &g.svc.cfg
	if g.hole || cfg.Mode == Bytes {
		return 0, false
	}
	if have == 0 {
		return max(g.svc.quiet(), 5*cfg.RTO), g.cameEarly(a)
	}
	// If production was still answering when the last turn went, some of these bytes may belong to
	// an earlier answer. They do not if more have come since, or as many as production had sent.
	if !g.begun && have < a {
		return 0, false
	}
	quiet = g.svc.quiet()
	switch {
	case !g.begun: // the answer may be slow to begin
		return max(quiet, maxQuiet), true
	case g.doubt:
		return max(quiet, 2*cfg.RTO), true
	case more:
		return max(quiet, 5*cfg.RTO), true
	case have == a && g.svc.predict.maybeEqual(), // exactly production's length: hardly by chance
		g.svc.predict.nearly(a, have):
		return equalQuiet, true
	}
	return quiet, true
}

// CheckEnd is Check for the end of the client's direction, sent at n. It asks for less proof, since
// an end that is sent too soon is not a request: an answer of exactly production's length is whole,
// and so is, after a short silence, an answer of which nothing is known.
func (g *Gate) CheckEnd(now mono.Time, n reasm.Note, ready mono.Time) (Answer, mono.Time) {
	a, wake := g.Check(now, n, ready)
	have, want := g.recv-g.base, n.Seen-g.baseSeen
	if a != Wait || g.svc.cfg.Mode == Bytes || g.hole || g.doubt || !g.begun || have == 0 {
		return a, wake
	}
	if have == want && g.svc.predict.maybeEqual() && g.svc.cfg.Mode == Auto {
		return Predicted, mono.Never
	}
	if b, known := g.expect(want); known && have < b {
		return a, wake // more is to come
	}
	end := max(g.lastRecv, g.released, ready).Add(max(minQuiet, 4*g.svc.longest))
	if end.Reached(now) {
		return Silence, mono.Never
	}
	return a, min(wake, end)
}

// CheckKnown is Check for a protocol that knows whether everything was answered that the turn waits
// for. Silence and numbers of bytes then prove nothing.
func (g *Gate) CheckKnown(now mono.Time, n reasm.Note, ready mono.Time,
	answered bool) (Answer, mono.Time) {
	switch limit := max(g.released, ready, n.At).Add(g.svc.cfg.Limit); {
	case n.Seen <= g.seen || g.svc.cfg.Mode == None:
		return Free, mono.Never
	case answered:
		return Known, mono.Never
	case g.closed:
		return Finished, mono.Never
	case !limit.Reached(now):
		return Wait, limit
	case g.recv > g.base:
		return Forced, mono.Never
	default:
		return TimedOut, mono.Never
	}
}

// ReleaseEnd notes that the client's end, sent at n, goes to the target now for the reason why.
// What its answer teaches is learned when the target closes: no byte can follow then.
func (g *Gate) ReleaseEnd(now mono.Time, n reasm.Note, why Answer) {
	if why != Silence {
		g.Release(now, n, why)
		return
	}
	if g.settled && n.Seen >= n.Sent && !g.doubt && n.Seen > g.seen {
		g.last = n.Seen - g.baseSeen
	}
	g.seen = n.Seen
}

// Whole reports whether the target has answered as much as is expected where production has
// answered sent bytes in total.
func (g *Gate) Whole(sent uint64) bool {
	if sent <= g.baseSeen || g.hole || g.doubt || !g.settled {
		return false
	}
	want, known := g.svc.predict.size(sent - g.baseSeen)
	return known && g.recv-g.base == want
}

// expect returns how many bytes the target is expected to answer where production answered a. It
// returns false if nothing is expected.
func (g *Gate) expect(a uint64) (uint64, bool) {
	switch g.svc.cfg.Mode {
	case Quiet:
		return 0, false
	case Bytes:
		if b, ok := g.svc.predict.size(a); ok {
			return b, true
		}
		return a, true
	default:
		return g.svc.predict.size(a)
	}
}

// Release notes that the turn sent at n goes to the target now for the reason why. It learns from
// the answer that the turn waited for.
func (g *Gate) Release(now mono.Time, n reasm.Note, why Answer) {
	if n.Seen <= g.seen { // it continues the previous turn: one answer follows both
		g.released = now
		return
	}
	settled := n.Seen >= n.Sent
	if g.svc.cfg.Mode != None {
		want, known := g.svc.predict.size(n.Seen - g.baseSeen)
		if settled && g.settled && !g.doubt {
			g.learn(n.Seen-g.baseSeen, why)
		}
		// Fewer bytes than predicted: the rest may still come, and must not count for the next
		// answer.
		g.doubt = known && g.recv-g.base < want && (why == Silence || why == Forced)
	}
	g.seen = n.Seen
	if settled {
		g.noteLead(n.Seen - g.baseSeen)
		g.base, g.baseSeen = g.recv, n.Seen
	}
	g.settled = settled
	g.released, g.begun, g.gap = now, false, 0
}

// cameEarly reports whether the answer to which production's answer of length a corresponds may
// have come with the previous one. A client that sends without waiting is answered by production as
// it reads, while the target finds all of a turn in its buffer and may answer more of it at once.
// That is the likely reason for surplus bytes only if the service answers as production does.
func (g *Gate) cameEarly(a uint64) bool {
	return g.surplus >= a && g.svc.predict.mostlyEqual()
}

// unlevelLimit is for how many turns in a row the target may be ahead of production or behind it,
// as a target is that answers a little earlier or later, before its answers count as different.
const unlevelLimit = 4

// noteLead notes by how much the target has answered more than a turn waited for, where production
// had answered a. It counts whether the target's answers come to as much as production's.
func (g *Gate) noteLead(a uint64) {
	have := g.recv - g.base
	g.lead += int64(have) - int64(a)
	g.unlevel++
	switch {
	case have == a || g.lead == 0:
		g.svc.predict.count(true, uint16(g.unlevel))
		g.lead, g.unlevel = 0, 0
	case g.unlevel > unlevelLimit:
		g.svc.predict.count(false, uint16(g.unlevel))
		g.lead, g.unlevel = 0, 0
	}
	if want, known := g.svc.predict.size(a); known {
		a = want
	}
	if have >= a {
		g.surplus += have - a
	} else {
		g.surplus -= min(g.surplus, a-have)
	}
}

// learn takes the lengths of an answer that is known to be whole: the turn that asked for it was
// sent when production had sent everything, and so was the turn after it.
func (g *Gate) learn(a uint64, why Answer) {
	b := g.recv - g.base
	if b == 0 {
		return
	}
	switch why {
	case Known, Predicted, Silence, Finished:
		if want, known := g.svc.predict.size(a); known && b > want {
			g.svc.predict.contradict(a)
		}
		g.svc.predict.learn(a, b)
		g.svc.answered(g.gap)
	}
}
