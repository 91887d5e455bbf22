package gate

import (
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/reasm"
)

// Answer says why a turn may go, or that it may not.
type Answer uint8

// The answers of Check.
const (
	Wait      Answer = iota
	Free             // nothing waits for an answer
	Known            // a protocol says that all answers have come
	Predicted        // the predicted number of bytes has come
	Silence          // the target's answer has begun, and ended in silence
	Finished         // the target closed: there is no more to come
	Forced           // the limit was reached while the answer was still coming
	TimedOut         // the limit was reached and no answer had begun: the turn must not go
)

// Init starts the gate of a copy. A copy that begins with the connection has seen none of the server's
// bytes; one that is adopted begins where the client had seen that many.
func (g *Gate) Init(svc *Service, seen uint64, now mono.Time) {
	*g = Gate{svc: svc, seen: seen, baseSeen: seen, settled: true, freed: now, lastRecv: now}
}

// Received notes that the target has answered total bytes since the copy began; hole says that more has
// arrived behind a hole.
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

// Closed notes that the target has ended its direction.
func (g *Gate) Closed() {
	g.closed = true
	if b := g.recv - g.base; g.last > 0 && b > 0 {
		g.svc.predict.learn(g.last, b)
		g.last = 0
	}
}

// LastAnswer is when the target's last bytes came.
func (g *Gate) LastAnswer() mono.Time { return g.lastRecv }

// Rebase makes what the target has answered so far a greeting: answers are counted from here on.
func (g *Gate) Rebase(now mono.Time) {
	g.base, g.freed, g.begun, g.gap = g.recv, now, false, 0
	g.ahead, g.apart, g.astray = 0, 0, 0
}

// Answered is how many bytes the target has answered since the copy began.
func (g *Gate) Answered() uint64 { return g.recv }

// Check says whether the turn that was sent at n may go, and when to ask again if not. ready is when the
// copy was able to answer: when the copy had opened and all bytes before the turn were handed over.
func (g *Gate) Check(now mono.Time, n reasm.Note, ready mono.Time) (Answer, mono.Time) {
	cfg := &g.svc.cfg
	if n.Seen <= g.seen || cfg.Mode == None {
		return Free, mono.Never
	}
	if g.closed {
		return Finished, mono.Never
	}
	since := max(g.freed, ready, n.At)
	limit := since.Add(cfg.Limit)
	wake := limit
	have := g.recv - g.base
	want, known := g.expect(n.Seen - g.baseSeen)
	if g.doubt && cfg.Mode != Bytes {
		known = false
	}
	// Where production was still answering, what the client had seen is a lower bound, no end.
	lower := !g.settled || n.Seen < n.Sent || cfg.Mode == Bytes
	if known && !g.hole && (have == want || have > want && lower) {
		return Predicted, mono.Never
	}
	// Where production was still answering when the last turn went, some of have may be of an answer
	// before this one. What tells is that more has come since, or as much as production had sent.
	if have > 0 && (g.begun || have >= n.Seen-g.baseSeen) && !g.hole && cfg.Mode != Bytes {
		quiet := g.svc.quiet()
		switch {
		case !g.begun: // it may be slow to begin
			quiet = max(quiet, maxQuiet)
		case g.doubt:
			quiet = max(quiet, 2*cfg.RTO)
		case known && have < want: // evidence says that more is to come
			quiet = max(quiet, 5*cfg.RTO)
		case have == n.Seen-g.baseSeen && g.svc.predict.maybeEqual():
			quiet = equalQuiet // to the byte as long as production's: hardly by chance
		}
		end := max(g.lastRecv, g.freed, ready).Add(quiet)
		if end.Reached(now) {
			return Silence, mono.Never
		}
		wake = min(limit, end)
	}
	if have == 0 && !g.hole && g.came(n.Seen-g.baseSeen) {
		end := max(g.lastRecv, g.freed, ready).Add(max(g.svc.quiet(), 5*cfg.RTO))
		if end.Reached(now) {
			return Silence, mono.Never
		}
		wake = min(limit, end)
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

// CheckEnd is Check for the end of the client's direction, sent at n. It asks for less proof, for an end that
// comes too soon is no request: an answer of production's very length is whole, and so is one of which
// nothing is known after a short silence.
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
	end := max(g.lastRecv, g.freed, ready).Add(max(minQuiet, 4*g.svc.longest))
	if end.Reached(now) {
		return Silence, mono.Never
	}
	return a, min(wake, end)
}

// CheckKnown is Check where a protocol says whether all that the turn waits for was answered. Silence and
// numbers of bytes prove nothing then.
func (g *Gate) CheckKnown(now mono.Time, n reasm.Note, ready mono.Time, answered bool) (Answer, mono.Time) {
	switch limit := max(g.freed, ready, n.At).Add(g.svc.cfg.Limit); {
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

// ReleaseEnd notes that the end sent at n goes to the target now. What its answer has taught is learned when
// the target closes too: nothing comes after that.
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

// Whole says that the target has answered as much as it is known to, where production has answered sent
// bytes in all.
func (g *Gate) Whole(sent uint64) bool {
	if sent <= g.baseSeen || g.hole || g.doubt || !g.settled {
		return false
	}
	want, known := g.svc.predict.size(sent - g.baseSeen)
	return known && g.recv-g.base == want
}

// expect is how many bytes the target is to answer where production answered a.
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

// Release notes that the turn sent at n goes to the target now, for the reason why, and learns from the
// answer that it waited for.
func (g *Gate) Release(now mono.Time, n reasm.Note, why Answer) {
	if n.Seen <= g.seen { // it belongs to the turn before it: one answer follows both
		g.freed = now
		return
	}
	settled := n.Seen >= n.Sent
	if g.svc.cfg.Mode != None {
		want, known := g.svc.predict.size(n.Seen - g.baseSeen)
		if settled && g.settled && !g.doubt {
			g.learn(n.Seen-g.baseSeen, why)
		}
		// Less than was predicted: what is missing may come yet, and must not be taken for the next answer's.
		g.doubt = known && g.recv-g.base < want && (why == Silence || why == Forced)
	}
	g.seen = n.Seen
	if settled {
		g.keepAhead(n.Seen - g.baseSeen)
		g.base, g.baseSeen = g.recv, n.Seen
	}
	g.settled = settled
	g.freed, g.begun, g.gap = now, false, 0
}

// came says whether the answer of production's length a has perhaps come with the one before it. A client
// that writes on without waiting is answered by production as it reads, while the target finds all of a
// turn in its buffer, and may answer what production had not got to yet. That is the likelier reason for
// bytes too many only where the service answers as production does.
func (g *Gate) came(a uint64) bool {
	return g.ahead >= a && g.svc.cfg.Mode != Bytes && g.svc.predict.mostlyEqual()
}

// astrayLimit is how many answers in a row may differ from production's before they count as different, and
// not as a target ahead of it, which is as far as production a little later.
const astrayLimit = 4

// keepAhead notes by how much the target has answered more than a turn waited for, where production had
// answered a, and whether its answers come to as much as production's.
func (g *Gate) keepAhead(a uint64) {
	have := g.recv - g.base
	apart := g.apart + int64(have) - int64(a)
	g.astray++
	switch {
	case have == a || apart == 0:
		g.svc.predict.count(true, uint16(g.astray))
		apart, g.astray = 0, 0
	case g.astray > astrayLimit:
		g.svc.predict.count(false, uint16(g.astray))
		apart, g.astray = 0, 0
	}
	g.apart = apart
	if want, known := g.svc.predict.size(a); known {
		a = want
	}
	if have >= a {
		g.ahead += have - a
	} else {
		g.ahead -= min(g.ahead, a-have)
	}
}

// learn takes the lengths of an answer that is known to be whole: its turn was sent when production had
// said all it had to say, and so was the turn after it.
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

// Quiet is how long the target must be silent at present for an answer to count as whole.
func (s *Service) Quiet() time.Duration { return s.quiet() }

// Parses says whether a turn may wait for what a protocol knows, and not for what --wait asks for.
func (s *Service) Parses() bool { return s.cfg.Mode == Auto }

// Limit is how long a turn waits at most.
func (s *Service) Limit() time.Duration { return s.cfg.Limit }

// Greeted notes whether the first bytes on a connection of this service were the server's.
func (s *Service) Greeted(yes bool) { s.startsWith(yes) }

// Greeting says how long a copy that was adopted waits for a greeting after it has opened: 0 where the
// service is known not to greet. Where it greets, or nobody knows, the copy goes on once the target has
// been silent for quiet after its first bytes, or has said nothing for wait.
func (s *Service) Greeting() (wait, quiet time.Duration) {
	switch s.greets {
	case greetNo:
		return 0, 0
	case greetYes:
		return s.cfg.Limit, s.quiet()
	default:
		return 2 * s.cfg.RTO, s.quiet()
	}
}
