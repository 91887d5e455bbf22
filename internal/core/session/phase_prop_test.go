package session

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/test/statetable"
)

// TestPhasesOfAnyConnection has random packets, events and timers happen to a session. Every change
// of phase must be one of the table, and each phase must be what its name says.
func TestPhasesOfAnyConnection(t *testing.T) {
	allowed := map[[2]string]bool{}
	for _, c := range statetable.Read(t, "phase.go", "phase", phaseNames()) {
		allowed[[2]string{c.State, c.Next}] = true
	}
	for _, p := range []string{"closing/unopened", "closing/whole", "closing/adopted"} {
		// The table shows these and the step to gone that follows as one.
		allowed[[2]string{p, "watching/lost"}] = true
		allowed[[2]string{p, "refused"}] = true
	}
	allowed[[2]string{"flowing/whole", "waiting/whole"}] = true // a held reset in the first turn
	entered := map[phase]bool{}
	check := func(rt *rapid.T) {
		r := anyRig(t, rt)
		defer r.end()
		was := r.s.phase
		entered[was] = true
		r.watch = func() {
			r.Helper()
			now := r.s.phase
			entered[now] = true
			edge := [2]string{was.String(), now.String()}
			switch {
			case r.svc.WholeOnly && now == refused && (was.copied() || was.state() == Waiting):
				edge[1] = "watching/lost"
			case r.deaf && now == refused && was.state() == Waiting:
				edge[0] = "opening/whole" // and refused at once, since its protocol cannot log in
			}
			if now != was && !allowed[edge] {
				rt.Fatalf("the phase changes from %v to %v, which the table does not have", was,
					now)
			}
			was = now
			checkPhase(rt, r)
		}
		if was == watchingNew {
			r.syn()
		}
		for range rapid.IntRange(0, 40).Draw(rt, "steps") {
			if r.s.State() == Gone {
				return
			}
			anyStep(rt, r)
		}
	}
	const rounds, most = 20, 200 // some phases are rare
	for i := 0; i < rounds || len(entered) < len(phases) && i < most && !t.Failed(); i++ {
		rapid.Check(t, check)
	}
	for p, x := range phases {
		if !entered[phase(p)] && !t.Failed() {
			t.Errorf("no connection was %s: the test is too tame", x.name)
		}
	}
}

// checkPhase checks what must be true in the session's phase.
func checkPhase(rt *rapid.T, r *rig) {
	s, p := &r.s, r.s.phase
	without := p.state() == Watching || p.state() == Refused
	switch {
	case p.copied() != (s.stream != nil):
		rt.Fatalf("%v: stream %v", p, s.stream)
	case p.accounted() != (r.count.Sessions.InFlight() == 1):
		rt.Fatalf("%v: %d sessions are under way", p, r.count.Sessions.InFlight())
	case without && p != watchingNew && s.reason == ledger.None:
		rt.Fatalf("%v: there is no copy, and no reason", p)
	case p.copied() && r.stream().shut != (p.state() == Closing):
		rt.Fatalf("%v: the copy's direction is closed: %v", p, r.stream().shut)
	}
	switch p {
	case watchingFound, watchingMidTurn, refusedFound, refusedMidTurn:
		if s.reason != ledger.NoSYN {
			rt.Fatalf("%v: reason %v", p, s.reason)
		}
	}
}

// anyRig returns a rig whose session was made by Init.
func anyRig(t *testing.T, rt *rapid.T) *rig {
	change := []func(*Service){func(svc *Service) {
		svc.WholeOnly = rapid.Bool().Draw(rt,
			"whole only")
		svc.Hold = rapid.SampledFrom([]time.Duration{0, time.Second}).Draw(rt, "hold")
	}}
	switch rapid.IntRange(0, 4).Draw(rt, "protocol") {
	case 0:
		change = append(change, spoken(true, newLines))
	case 1:
		change = append(change, spoken(false, newLines))
	case 2:
		change = append(change, spoken(true, newLogins))
	case 3:
		change = append(change, silent)
	}
	r := newRig(t, change...)
	r.deaf = rapid.IntRange(0, 9).Draw(rt, "deaf") == 0
	switch rapid.IntRange(0, 2).Draw(rt, "found") {
	case 0:
		r.init(packet.Segment{Seq: r.isn, Flags: packet.SYN}, false)
	default:
		r.init(packet.Segment{Seq: r.isn + 1, Ack: r.irs + 1, Flags: packet.ACK},
			rapid.Bool().Draw(rt, "mid-turn"))
	}
	return r
}

var texts = []string{"x", "more", "one\n", "ONE\n", "two\nthree\n", "a\n", "secret\n", "!\n", "=\n",
	"~\n", "bad\n", "\x16\x03\x01\x00\x05\x01"}

// anyStep has a packet come, an event happen or time pass.
func anyStep(rt *rapid.T, r *rig) {
	text := func() string { return rapid.SampledFrom(texts).Draw(rt, "text") }
	switch rapid.IntRange(0, 15).Draw(rt, "step") {
	case 0, 1:
		r.data(text())
	case 2:
		r.seg(max(r.next+rapid.IntRange(-5, 5).Draw(rt, "offset"), -1), text(), 0)
	case 3:
		r.answers(rapid.IntRange(0, 20).Draw(rt, "answer"))
	case 4:
		r.says(rapid.IntRange(0, 20).Draw(rt, "answer"))
	case 5:
		r.next += rapid.IntRange(0, 2).Draw(rt, "missing")
		r.serverAcks(r.next)
	case 6:
		anyEnd(rt, r)
	case 7, 8:
		r.wait(rapid.SampledFrom([]mono.Time{ms, 10 * ms, 200 * ms, 400 * ms, sec, 5 * sec,
			20 * sec, 60 * sec}).Draw(rt, "wait"))
	case 9:
		anyControl(rt, r)
	case 10:
		r.waits = rapid.Bool().Draw(rt, "waits")
		r.away = rapid.SampledFrom([]ledger.Reason{ledger.None, ledger.None,
			ledger.TargetRefused}).Draw(rt, "away")
		r.settle()
	default:
		if r.hasStream() {
			anyEvent(rt, r)
		}
	}
}

// speaksBack is tells, unless the copy ends before its protocol reads the text.
func (r *rig) speaksBack(text string) {
	r.replies(len(text))
	if r.hasStream() {
		r.event(Event{Kind: AnswerBytes, Bytes: []byte(text)})
	}
}

// anyEnd has either side of the client's connection end it.
func anyEnd(rt *rapid.T, r *rig) {
	switch rapid.IntRange(0, 4).Draw(rt, "end") {
	case 0, 1:
		r.fin()
	case 2:
		r.rst()
	case 3:
		r.serverFIN()
	case 4:
		r.fromServer(packet.Segment{Seq: r.irs.Add(1 + r.sent), Ack: r.isn.Add(1 + r.next),
			Flags: packet.ACK | packet.RST})
	}
}

// anyControl has the shard end the session, or its capture.
func anyControl(rt *rapid.T, r *rig) {
	switch rapid.IntRange(0, 9).Draw(rt, "control") {
	case 0:
		r.s.Refuse(r.now, ledger.OverMemory)
	case 1:
		r.s.End(r.now, ledger.OverMemory)
	case 2:
		r.s.Shutdown(r.now)
	case 3:
		r.s.Superseded()
	case 4:
		r.s.Drain()
	case 5:
		r.fromClient(packet.Segment{Seq: r.isn, Flags: packet.SYN})
	}
	r.settle()
}

// anyEvent has an event happen to the copy, which has one that lives.
func anyEvent(rt *rapid.T, r *rig) {
	f := r.stream()
	if r.s.phase.unopened() {
		switch rapid.IntRange(0, 3).Draw(rt, "opening") {
		case 0:
			r.fails(ledger.TargetRefused, 0)
		default:
			r.opened()
		}
		return
	}
	switch rapid.IntRange(0, 9).Draw(rt, "event") {
	case 0, 1:
		if f.taken < len(f.text) {
			f.taken += rapid.IntRange(1, len(f.text)-f.taken).Draw(rt, "taken")
			r.event(Event{Kind: Taken, N: uint64(f.taken)})
		}
	case 2, 3:
		r.replies(rapid.IntRange(1, 30).Draw(rt, "reply"))
	case 4:
		r.speaksBack(rapid.SampledFrom([]string{"hello\n", "ok\n", "no\n", "never\n",
			"go\n"}).Draw(rt, "tells"))
	case 5:
		r.replies(rapid.IntRange(1, 30).Draw(rt, "reply"))
		if r.hasStream() {
			r.event(Event{Kind: AnswerEnd, Answer: proto.Answer{End: f.received}})
		}
	case 6:
		r.targetShuts()
	case 7:
		if f.shut {
			r.finishes()
		}
	case 8:
		r.targetResets(rapid.IntRange(0, f.taken).Draw(rt, "acknowledged"))
	case 9:
		r.event(Event{Kind: AnswersLost})
	}
}
