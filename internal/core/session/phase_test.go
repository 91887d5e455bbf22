package session

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/core/gate"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/test/statetable"
)

func phaseNames() (names []string) {
	for _, p := range phases {
		names = append(names, p.name)
	}
	return names
}

// enterPhase brings a rig into each phase. A copy that is flowing or closing was given "one", and
// has taken it if its connection is open. Nothing was answered.
var enterPhase = map[string]func(t *testing.T, change ...func(*Service)) *rig{
	"watching/new": func(t *testing.T, change ...func(*Service)) *rig {
		r := newRig(t, change...)
		r.init(packet.Segment{Seq: r.isn, Flags: packet.SYN}, false)
		return r
	},
	"watching/found": func(t *testing.T, change ...func(*Service)) *rig {
		r := busy(t, change...)
		r.ack()
		return r
	},
	"watching/mid-turn": func(t *testing.T, change ...func(*Service)) *rig {
		r := busy(t, change...)
		r.data("half")
		return r
	},
	"watching/lost": func(t *testing.T, change ...func(*Service)) *rig {
		r := flowing(t, change...)
		r.targetResets(len(r.stream().text))
		return r
	},
	"waiting/whole": func(t *testing.T, change ...func(*Service)) *rig {
		r := newRig(t, change...)
		r.waits = true
		r.syn()
		return r
	},
	"waiting/adopted": func(t *testing.T, change ...func(*Service)) *rig {
		r := newRig(t, change...)
		r.waits = true
		r.data("one")
		return r
	},
	"opening/whole": func(t *testing.T, change ...func(*Service)) *rig {
		r := newRig(t, change...)
		r.syn()
		return r
	},
	"opening/adopted": func(t *testing.T, change ...func(*Service)) *rig {
		r := newRig(t, change...)
		r.data("one")
		return r
	},
	"greeting": func(t *testing.T, change ...func(*Service)) *rig {
		r := newRig(t, change...)
		r.data("one")
		r.opened()
		return r
	},
	"flowing/whole":   flowing,
	"flowing/adopted": flowingOn,
	"closing/unopened": func(t *testing.T, change ...func(*Service)) *rig {
		r := newRig(t, change...)
		r.syn()
		r.data("one")
		r.fin()
		return r
	},
	"closing/whole": func(t *testing.T, change ...func(*Service)) *rig {
		r := flowing(t, change...)
		r.fin()
		return r
	},
	"closing/adopted": func(t *testing.T, change ...func(*Service)) *rig {
		r := flowingOn(t, change...)
		r.fin()
		return r
	},
	"refused/found": func(t *testing.T, change ...func(*Service)) *rig {
		r := busy(t, append(change, whole)...)
		r.ack()
		return r
	},
	"refused/mid-turn": func(t *testing.T, change ...func(*Service)) *rig {
		r := busy(t, append(change, whole)...)
		r.data("half")
		return r
	},
	"refused": func(t *testing.T, change ...func(*Service)) *rig {
		r := flowing(t, change...)
		r.s.Refuse(r.now, ledger.OverMemory)
		r.settle()
		return r
	},
	"gone": func(t *testing.T, change ...func(*Service)) *rig {
		r := flowing(t, change...)
		r.rst()
		return r
	},
}

func flowing(t *testing.T, change ...func(*Service)) *rig {
	r := fresh(t, change...)
	r.data("one")
	r.takes()
	return r
}

func flowingOn(t *testing.T, change ...func(*Service)) *rig {
	r := newRig(t, change...)
	r.data("one")
	r.opened()
	r.wait(400 * ms)
	r.takes()
	return r
}

// hasStream reports whether the newest copy lives.
func (r *rig) hasStream() bool { return r.s.Stream() != nil }

// phaseEvents are the events of the table.
var phaseEvents = map[string]func(r *rig){
	"SYN":   func(r *rig) { r.fromClient(packet.Segment{Seq: r.isn, Flags: packet.SYN}) },
	"bytes": func(r *rig) { r.data("more") },
	"turn":  func(r *rig) { nextTurn(r) },
	"turn after shut": func(r *rig) {
		if r.hasStream() && !r.s.phase.unopened() {
			r.targetShuts()
		}
		nextTurn(r)
	},
	"lull": func(r *rig) {
		r.s.spoke = r.now.Add(-Lull)
		r.data("more")
	},
	"probe":          func(r *rig) { r.seg(r.next-1, "\x00", 0) },
	"FIN":            func(r *rig) { r.fin() },
	"RST":            func(r *rig) { r.rst() },
	"opened":         streamEvent(Event{Kind: Opened}),
	"opened to edit": streamEvent(Event{Kind: Opened}),
	"greeted":        func(r *rig) { r.wait(400 * ms) },
	"taken":          streamEvent(Event{Kind: Taken, N: 1}),
	"received":       streamEvent(Event{Kind: Received, N: 50}),
	"shut":           streamEvent(Event{Kind: Shut}),
	"finished":       streamEvent(Event{Kind: Finished}),
	"reset":          func(r *rig) { streamEvent(Event{Kind: ResetByPeer, N: r.given()})(r) },
	"failed": func(r *rig) {
		streamEvent(Event{Kind: Failed,
			Reason: ledger.TargetRefused})(r)
	},
	"ready": func(r *rig) { r.waits = false; r.settle() },
	"hold over": func(r *rig) {
		r.away, r.svc.Hold = ledger.TargetRefused, 100*time.Millisecond
		r.settle()
		r.wait(100 * ms)
	},
	"held failure": func(r *rig) {
		r.svc.Hold = time.Second
		r.fails(ledger.TargetRefused, 0)
	},
	"held reset": func(r *rig) {
		r.svc.Hold = time.Second
		nextTurn(r)
		r.targetResets(r.stream().taken)
	},
	"reopens": func(r *rig) { r.data("renew") },
	"gap": func(r *rig) {
		r.next += 7 // not captured
		r.serverAcks(r.next)
		r.wait(holeGraceT)
	},
	"gate limit": func(r *rig) { // only production answers
		r.answers(10)
		r.data("next")
		r.wait(100 * ms)
	},
	"stall": func(r *rig) {
		if r.s.State() != Closing {
			r.data("more")
		}
		r.svc.Stall = 100 * time.Millisecond
		r.settle()
		r.wait(100 * ms)
	},
	"idle": func(r *rig) {
		r.svc.Idle = 100 * time.Millisecond
		r.settle()
		r.wait(100 * ms)
	},
	"Refuse":     func(r *rig) { r.s.Refuse(r.now, ledger.OverMemory); r.settle() },
	"End":        func(r *rig) { r.s.End(r.now, ledger.OverMemory); r.settle() },
	"Shutdown":   func(r *rig) { r.s.Shutdown(r.now); r.settle() },
	"Superseded": func(r *rig) { r.s.Superseded(); r.settle() },
	"Drain":      func(r *rig) { r.s.Drain(); r.settle() },
}

// nextTurn has the client see an answer and send a turn. The target has answered as well, if it
// can.
func nextTurn(r *rig) {
	if r.hasStream() && !r.s.phase.unopened() {
		r.replies(10)
	}
	r.answers(10)
	r.data("next")
	if r.s.State() == Flowing {
		r.wait(400 * ms) // until the answer counts as whole
	}
}

// streamEvent tells the session of an event, of a copy that is gone if there is no other.
func streamEvent(ev Event) func(r *rig) {
	return func(r *rig) {
		ev.ID, ev.At = 7, r.now
		if f := len(r.streams); f > 0 && r.hasStream() {
			k := ev.Kind
			r.streams[f-1].gone = k == Finished || k == ResetByPeer || k == Failed
		}
		r.s.Handle(r.now, &ev)
		r.settle()
	}
}

func (r *rig) given() uint64 {
	if len(r.streams) == 0 {
		return 0
	}
	return uint64(len(r.stream().text))
}

// effects describes what has happened between two moments as the table's column action does.
type effects struct {
	count                        ledger.Flow
	streams, aborted, shut, text int
}

func (r *rig) effects() effects {
	e := effects{count: r.count.Sessions, streams: len(r.streams)}
	for _, f := range r.streams {
		e.text += len(f.text)
		if f.shut {
			e.shut++
		}
		if f.aborted {
			e.aborted++
		}
	}
	return e
}

func (e effects) since(b effects) string {
	var did []string
	note := func(is bool, what string) {
		if is {
			did = append(did, what)
		}
	}
	counted := e.count.Captured > b.count.Captured
	note(counted && e.streams == b.streams, "count")
	note(e.text > b.text, "send")
	note(e.aborted > b.aborted, "abort")
	for i, n := range e.count.Dropped {
		note(n > b.count.Dropped[i], fmt.Sprintf("drop %v", ledger.Reason(i)))
	}
	note(e.count.Delivered > b.count.Delivered, "deliver")
	note(counted && e.streams > b.streams, "count")
	note(e.streams > b.streams, "open")
	note(e.shut > b.shut, "close")
	if did == nil {
		return "-"
	}
	return strings.Join(did, ", ")
}

// renewals is a client of a protocol of streams. It passes what it is fed, except the text "renew",
// for which it needs another connection.
type renewals struct{ renew bool }

func (c *renewals) Edits() bool                   { return true }
func (c *renewals) Holds() bool                   { return false }
func (c *renewals) Expects() bool                 { return false }
func (c *renewals) Server(uint64, []byte)         {}
func (c *renewals) Awaits(uint64) bool            { return false }
func (c *renewals) Waits() bool                   { return c.renew }
func (c *renewals) Force(*proto.Out) bool         { return false }
func (c *renewals) Settled(uint64) bool           { return !c.renew }
func (c *renewals) Idle() bool                    { return !c.renew }
func (c *renewals) Heard() uint64                 { return 0 }
func (c *renewals) Shut(*proto.Out)               {}
func (c *renewals) Reopens() bool                 { return c.renew }
func (c *renewals) Renews() bool                  { return false }
func (c *renewals) Kept([]byte, *proto.Out) error { return nil }

func (c *renewals) Begin(_ bool, out *proto.Out) error {
	if c.renew {
		c.renew = false
		out.Replace(0, []byte("again"))
	}
	return nil
}

func (c *renewals) Feed(p []byte, _ uint64, out *proto.Out) error {
	if c.renew = string(p) == "renew"; !c.renew {
		out.Replace(len(p), p)
	}
	return nil
}

// TestPhases drives every cell of the table in the doc comment of phase.
func TestPhases(t *testing.T) {
	driven := map[string]bool{}
	for _, c := range statetable.Read(t, "phase.go", "phase", phaseNames()) {
		driven[c.Event] = true
		t.Run(c.Event+"/"+strings.ReplaceAll(c.State, "/", "-"), func(t *testing.T) {
			change := func(svc *Service) {
				switch c.Event {
				case "gate limit":
					svc.Gate = gate.NewService(gate.Config{Limit: 100 * time.Millisecond})
				case "opened to edit":
					spoken(true, newLogins)(svc)
				case "reopens":
					spoken(true, func() proto.Client { return new(renewals) })(svc)
				}
			}
			if c.Next == statetable.Never {
				return
			}
			r := enterPhase[c.State](t, change)
			if got := r.s.phase.String(); got != c.State {
				t.Fatalf("the phase is %s before the event, want %s", got, c.State)
			}
			event := phaseEvents[c.Event]
			if event == nil {
				t.Fatalf("no such event")
			}
			r.waits = true
			before := r.effects()
			event(r)
			got := fmt.Sprintf("%v  %s", r.s.phase, r.effects().since(before))
			if want := c.Next + "  " + c.Action; got != want {
				t.Errorf("%q in %s: %s, want %s", c.Event, c.State, got, want)
			}
		})
	}
	for e := range phaseEvents {
		if !driven[e] {
			t.Errorf("event %q is not in the table", e)
		}
	}
	for _, p := range phaseNames() {
		if enterPhase[p] == nil {
			t.Errorf("no way into phase %s", p)
		}
	}
}
