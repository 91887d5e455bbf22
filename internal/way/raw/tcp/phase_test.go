package tcp

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/test/statetable"
)

// phaseNames are the states of the table in the doc comment of phase.
var phaseNames = []string{
	"closed/new", "syn-sent/due", "syn-sent/held", "syn-sent", "syn-sent/old-due",
	"syn-sent/old-held",
	"syn-sent/old", "syn-sent/free", "syn-received/due", "syn-received", "established",
	"established/fin", "fin-wait-1", "fin-wait-2", "close-wait", "close-wait/fin", "closing",
	"last-ack",
	"closed/reset", "closed/ack", "closed",
}

// phaseName returns the state of c with its sub-state, which is not one of phaseNames if c is in a
// combination of states that must not be.
func phaseName(c *Conn) string {
	name := states[c.phase].String()
	add := func(is bool, sub string) {
		if is {
			name += "/" + sub
		}
	}
	syn := map[synState]string{synDue: "due", synHeld: "held"}[c.syn]
	switch c.phase {
	case phaseNew:
		add(true, "new")
	case phaseReset:
		add(true, "reset")
	case phaseClosed:
		add(c.ack != ackNone, "ack")
	case phaseSynSent:
		switch c.old {
		case oldNone:
			add(syn != "", syn)
		case oldAnswered:
			add(true, strings.TrimSuffix("old-"+syn, "-"))
		case oldFreed:
			add(true, strings.TrimSuffix("free", syn))
			if c.syn != synDue {
				return "freed without a SYN"
			}
		}
		return name
	case phaseSynReceived:
		add(syn != "", syn)
	case phaseEstablished, phaseCloseWait:
		add(c.finDue(), "fin")
	default:
		if c.finDue() {
			return "FIN due in " + name
		}
	}
	switch {
	case c.phase != phaseSynReceived && c.syn != synSent:
		return "SYN due in " + name
	case c.old != oldNone:
		return "an old connection in " + name
	}
	return name
}

// phaseBench is a Conn and the time, for a test to have things happen to it.
type phaseBench struct {
	c     Conn
	now   mono.Time
	out   []packet.Segment
	sends []string // what the last Poll returned
}

func newPhaseBench(leaveFrom uint8) *phaseBench {
	b := new(phaseBench)
	b.c.Init(&Config{Local: clientAddr, Remote: targetAddr, ISN: 77, Syn: fullSyn(),
		LeaveFrom:      leaveFrom,
		ConnectTimeout: time.Minute}, &chunks{make([]byte, 100), 100})
	return b
}

func (b *phaseBench) poll() {
	b.out, _ = b.c.Poll(b.now, b.out[:0])
	b.sends = b.sends[:0]
	for _, s := range b.out {
		name := "ACK"
		switch f := s.Flags; {
		case f.Has(packet.SYN | packet.ACK):
			name = "SYN-ACK"
		case f.Has(packet.SYN):
			name = "SYN"
		case f.Any(packet.RST):
			name = "RST"
		case f.Any(packet.FIN):
			name = "FIN"
		case s.Len > 0:
			name = "data"
		}
		if !slices.Contains(b.sends, name) {
			b.sends = append(b.sends, name)
		}
	}
}

// deliver hands in a segment with the sequence number that is expected next. ack is the position
// that it acknowledges.
func (b *phaseBench) deliver(flags packet.Flags, ack uint64, length int) {
	b.c.Deliver(b.now, &packet.Segment{Seq: b.c.rseq(b.c.rcvNxt), Ack: b.c.seq(max(ack, 1)),
		Flags: flags,
		Len:   length, Window: 1000})
}

// deliverSYN hands in the target's SYN.
func (b *phaseBench) deliverSYN(flags packet.Flags) {
	seq := b.c.irs
	if b.c.rcvNxt == 0 {
		seq = 7000
	}
	b.c.Deliver(b.now, &packet.Segment{Seq: seq, Ack: b.c.seq(1), Flags: packet.SYN | flags,
		Window: 1000,
		Opts:   packet.Options{MSS: 1460}})
}

// deliverFIN hands in the target's FIN, perhaps for the second time. ack is the position that it
// acknowledges.
func (b *phaseBench) deliverFIN(ack uint64) {
	seq := b.c.rcvNxt
	if b.c.remoteFIN() {
		seq-- // again
	}
	b.c.Deliver(b.now, &packet.Segment{Seq: b.c.rseq(seq), Ack: b.c.seq(max(ack, 1)),
		Flags: packet.ACK | packet.FIN, Window: 1000})
}

// afterSYN is an event on a connection of which a SYN was sent before the one that is due.
func afterSYN(event string) func(b *phaseBench) {
	return func(b *phaseBench) {
		b.c.synSends = max(b.c.synSends, 1)
		phaseEvents[event](b)
	}
}

// phaseEvents are the events of the table.
var phaseEvents map[string]func(b *phaseBench)

func init() {
	phaseEvents = map[string]func(b *phaseBench){
		"Open": func(b *phaseBench) { b.c.Open(b.now) },
		"Open held": func(b *phaseBench) {
			b.c.leaveFrom = 1
			b.c.Open(b.now)
		},
		"Poll":              func(b *phaseBench) { b.poll() },
		"Leave":             func(b *phaseBench) { b.c.Leave() },
		"Release":           func(b *phaseBench) { b.c.Release(b.now, 100) },
		"CloseWrite":        func(b *phaseBench) { b.c.CloseWrite(b.now) },
		"Abort":             func(b *phaseBench) { b.c.Abort(b.now) },
		"FreeOldConnection": func(b *phaseBench) { b.c.FreeOldConnection(b.now) },
		"SYN-ACK":           func(b *phaseBench) { b.deliverSYN(packet.ACK) },
		"SYN-ACK with FIN queued": func(b *phaseBench) {
			b.c.CloseWrite(b.now)
			b.deliverSYN(packet.ACK)
		},
		"SYN":  func(b *phaseBench) { b.deliverSYN(0) },
		"ACK":  func(b *phaseBench) { b.deliver(packet.ACK, b.c.nxt, 0) },
		"data": func(b *phaseBench) { b.deliver(packet.ACK, min(b.c.nxt, b.c.released), 10) },
		"ACK of the old": func(b *phaseBench) {
			b.c.Deliver(b.now, &packet.Segment{Seq: b.c.rseq(b.c.rcvNxt), Ack: b.c.isn + 1<<30,
				Flags: packet.ACK})
		},
		"RST": func(b *phaseBench) { b.deliver(packet.RST|packet.ACK, b.c.nxt, 0) },
		"FIN": func(b *phaseBench) { b.deliverFIN(min(b.c.nxt, b.c.released)) },
		"ACK while one is due": func(b *phaseBench) {
			b.c.dueAck()
			phaseEvents["ACK"](b)
		},
		"FIN with FIN queued": func(b *phaseBench) {
			b.c.CloseWrite(b.now)
			phaseEvents["FIN"](b)
		},
		"FIN and ACK of ours":     func(b *phaseBench) { b.deliverFIN(b.c.nxt) },
		"SYN-ACK to first SYN":    afterSYN("SYN-ACK"),
		"RST to first SYN":        afterSYN("RST"),
		"Abort after first SYN":   afterSYN("Abort"),
		"timeout after first SYN": afterSYN("connect timeout"),
		"retransmission": func(b *phaseBench) {
			b.now = b.now.Add(3 * time.Second)
			b.poll()
		},
		"retransmission held": func(b *phaseBench) {
			b.c.leaveFrom = 2
			b.now = b.now.Add(3 * time.Second)
			b.poll()
		},
		"connect timeout": func(b *phaseBench) {
			b.now = b.now.Add(time.Minute)
			b.poll()
		},
		"user timeout": func(b *phaseBench) {
			b.c.Release(b.now, 100)
			b.poll()
			b.now = b.now.Add(defaultUserTimeout)
			b.poll()
		},
	}
}

// enterPhase are the events that lead to each state.
var enterPhase = map[string]string{
	"closed/new":        "",
	"syn-sent/due":      "Open",
	"syn-sent/held":     "Open", // with LeaveFrom 1
	"syn-sent":          "Open Poll",
	"syn-sent/old-due":  "Open oldACK",
	"syn-sent/old-held": "Open oldACK", // with LeaveFrom 1
	"syn-sent/old":      "Open Poll oldACK",
	"syn-sent/free":     "Open Poll oldACK FreeOldConnection",
	"syn-received/due":  "Open Poll SYN",
	"syn-received":      "Open Poll SYN Poll",
	"established":       "Open Poll SYN-ACK Poll",
	"established/fin":   "Open Poll SYN-ACK Poll CloseWrite",
	"fin-wait-1":        "Open Poll SYN-ACK Poll CloseWrite Poll",
	"fin-wait-2":        "Open Poll SYN-ACK Poll CloseWrite Poll ACK",
	"close-wait":        "Open Poll SYN-ACK Poll FIN Poll",
	"close-wait/fin":    "Open Poll SYN-ACK Poll FIN Poll CloseWrite",
	"closing":           "Open Poll SYN-ACK Poll CloseWrite Poll FIN Poll",
	"last-ack":          "Open Poll SYN-ACK Poll FIN Poll CloseWrite Poll",
	"closed/reset":      "Open Poll SYN-ACK Poll Abort",
	"closed/ack":        "Open Poll SYN-ACK Poll CloseWrite Poll ACK FIN",
	"closed":            "Open Poll SYN-ACK Poll Abort Poll",
}

func inPhase(t *testing.T, name string) *phaseBench {
	t.Helper()
	b := newPhaseBench(map[bool]uint8{true: 1}[strings.HasSuffix(name, "held")])
	for e := range strings.FieldsSeq(enterPhase[name]) {
		phaseEvents[strings.Replace(e, "oldACK", "ACK of the old", 1)](b)
	}
	if got := phaseName(&b.c); got != name {
		t.Fatalf("the state is %s before the event, want %s", got, name)
	}
	return b
}

// TestPhases drives every cell of the table in the doc comment of phase.
func TestPhases(t *testing.T) {
	driven := map[string]bool{}
	for _, cell := range statetable.Read(t, "phase.go", "phase", phaseNames) {
		driven[cell.Event] = true
		t.Run(cell.Event+"/"+strings.ReplaceAll(cell.State, "/", "-"), func(t *testing.T) {
			if cell.Next == statetable.Never {
				return
			}
			b := inPhase(t, cell.State)
			if phaseEvents[cell.Event] == nil {
				t.Fatal("no such event")
			}
			if got, want := b.effect(cell.Event), cell.Next+": "+cell.Action; got != want {
				t.Errorf("%q in %s: %s, want %s", cell.Event, cell.State, got, want)
			}
		})
	}
	for e := range phaseEvents {
		if !driven[e] {
			t.Errorf("event %q is not in the table", e)
		}
	}
}

// effect has an event happen, and describes the state that follows and what was done.
func (b *phaseBench) effect(event string) string {
	ack := b.c.ack != ackNone || event == "ACK while one is due"
	b.sends = b.sends[:0]
	phaseEvents[event](b)
	did := strings.Join(b.sends, ", ")
	switch {
	case did != "":
	case !ack && b.c.ack != ackNone:
		did = "ACK due"
	default:
		did = "-"
	}
	return fmt.Sprintf("%s: %s", phaseName(&b.c), did)
}

// TestPhasesOfAnyConnection has random calls, segments and timers happen to a connection. Every
// change of state must be one of the table, and no combination of sub-states may be another than
// the table's.
func TestPhasesOfAnyConnection(t *testing.T) {
	allowed := map[[2]string]bool{}
	var events []string
	for _, c := range statetable.Read(t, "phase.go", "phase", phaseNames) {
		allowed[[2]string{c.State, c.Next}] = true
		if !slices.Contains(events, c.Event) {
			events = append(events, c.Event)
		}
	}
	entered := map[string]bool{}
	check := func(rt *rapid.T) {
		b := newPhaseBench(uint8(rapid.IntRange(0, 3).Draw(rt, "LeaveFrom")))
		was := phaseName(&b.c)
		for range rapid.IntRange(1, 40).Draw(rt, "steps") {
			event := anyPhaseEvent(rt, b, events)
			now := phaseName(&b.c)
			if !slices.Contains(phaseNames, now) {
				rt.Fatalf("%s in %s leads to %s", event, was, now)
			}
			to := now
			if strings.HasPrefix(was, "syn-") { // with a FIN queued or without
				to = strings.TrimSuffix(now, "/fin")
			}
			if now != was && !allowed[[2]string{was, to}] {
				rt.Fatalf("%s leads from %s to %s, which the table does not have", event, was, now)
			}
			entered[now] = true
			was = now
		}
	}
	rare := func() bool {
		return slices.ContainsFunc(phaseNames, func(name string) bool {
			return !entered[name] && name != "closed/new"
		})
	}
	for n := 0; n < 20 || n < 400 && rare() && !t.Failed(); n++ {
		rapid.Check(t, check)
	}
	for _, name := range phaseNames {
		if !entered[name] && name != "closed/new" && !t.Failed() {
			t.Errorf("no connection was %s: the test is too tame", name)
		}
	}
}

// anyPhaseEvent has an event of the table happen, or a segment near to what is expected arrive. Of
// events that are several steps, it takes one.
func anyPhaseEvent(rt *rapid.T, b *phaseBench, events []string) string {
	b.now = b.now.Add(rapid.SampledFrom([]time.Duration{0, time.Millisecond, time.Second}).Draw(rt,
		"time"))
	switch n := rapid.IntRange(0, 9).Draw(rt, "kind"); {
	case n < 2:
		b.poll()
		return "Poll"
	case n < 4 && b.c.phase != phaseNew:
		near := func() int { return rapid.IntRange(-2, 2).Draw(rt, "near") }
		flags := packet.Flags(rapid.IntRange(0, 63).Draw(rt, "flags"))
		b.c.Deliver(b.now, &packet.Segment{Flags: flags, Len: max(near(), 0), Window: 10,
			Seq: b.c.rseq(b.c.rcvNxt).Add(near()), Ack: b.c.seq(b.c.una).Add(near())})
		return "a segment with " + flags.String()
	}
	event := rapid.SampledFrom(events).Draw(rt, "event")
	switch {
	case strings.HasSuffix(event, "with FIN queued"), event == "user timeout",
		strings.HasSuffix(event, "first SYN"):
		event = "CloseWrite"
	case event == "ACK while one is due":
		event = "data"
	case (event == "Abort" || event == "RST") && rapid.IntRange(0, 3).Draw(rt, "spare") > 0:
		event = "Poll"
	}
	phaseEvents[event](b)
	return event
}
