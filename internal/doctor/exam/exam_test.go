package exam

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/doctor"
	"tcpcopy/internal/way/link/wire"
)

var look = wire.Look{
	Client: netip.MustParseAddr("192.0.2.253"), Target: netip.MustParseAddrPort("10.0.0.2:8080"),
}

// network answers an examination on a virtual clock, as a script says.
type network struct {
	intercepts int
	begin, end []answer
	send       string // why the intercept sends no SYN
}

// answer comes some time after a step.
type answer struct {
	after time.Duration
	from  int
	seen  wire.Seen
}

// run runs an examination to its end. It returns what was done, one word each, and the result.
func (n *network) run(t *testing.T, quiet bool) (
	done []string, r doctor.Probe, took time.Duration,
) {
	t.Helper()
	var now mono.Time
	e := New(now, look, n.intercepts, quiet)
	type due struct {
		at   mono.Time
		from int
		seen wire.Seen
	}
	var waiting []due
	later := func(all []answer, step wire.LookStep) {
		for _, a := range all {
			a.seen.Step = step
			waiting = append(waiting, due{now.Add(a.after), a.from, a.seen})
		}
	}
	for range 100 {
		d := e.Next(now)
		switch {
		case d.Ask == wire.LookBegin:
			later(n.begin, d.Ask)
		case d.Ask == wire.LookEnd:
			later(n.end, d.Ask)
		case d.Ask == wire.LookSend:
			later([]answer{{seen: wire.Seen{Refused: n.send}}}, d.Ask)
		}
		if d.Ask != 0 {
			done = append(done, d.Ask.String())
		}
		if d.SYN {
			done = append(done, "SYN")
		}
		if d.Reset {
			done = append(done, "reset")
		}
		if d.Over {
			return done, e.Result(), time.Duration(now)
		}
		slices.SortStableFunc(waiting, func(a, b due) int { return int(a.at - b.at) })
		if len(waiting) > 0 && waiting[0].at <= d.Wait {
			now = waiting[0].at
			e.Seen(waiting[0].from, &waiting[0].seen)
			waiting = waiting[1:]
			continue
		}
		if d.Wait <= now && d.Ask == 0 && !d.SYN {
			t.Fatalf("at %v it waits until %v", now, d.Wait)
		}
		now = max(now, d.Wait)
	}
	t.Fatalf("not over after %v: %v", now, done)
	return nil, r, 0
}

const ms = time.Millisecond

func TestExam(t *testing.T) {
	ready := answer{after: ms}
	witnessed := answer{after: ms, seen: wire.Seen{Witnesses: 1}}
	witness := func(after time.Duration, s wire.Seen) answer {
		s.Witness = true
		return answer{after: after, seen: s}
	}
	saw := func(outside, inside uint8) answer {
		return answer{after: ms, seen: wire.Seen{
			Outside: wire.Count{Answers: outside}, Inside: wire.Count{Answers: inside},
		}}
	}
	finding := doctor.EncodeFindings([]doctor.Finding{{
		Code: "TC0204", State: doctor.Found, Seen: "rp_filter=1",
	}})
	arrived := wire.Seen{Outside: wire.Count{SYNs: 3}, Inside: wire.Count{SYNs: 3},
		Findings: finding}
	const all = "begin send SYN send SYN send SYN end reset"
	for _, tt := range []struct {
		name  string
		net   network
		quiet bool
		done  string
		want  string // of the result
		most  time.Duration
	}{
		{"answered", network{1, []answer{ready}, []answer{saw(2, 3)}, ""}, false, all,
			"outside {3 0 0 2} inside {3 0 0 3}", 1500 * ms},
		{"nothing is answered", network{1, []answer{ready}, []answer{saw(0, 0)}, ""}, false, all,
			"outside {3 0 0 0} inside {3 0 0 0}", 1500 * ms},
		{"the intercept may not send", network{1, []answer{ready}, []answer{saw(1, 0)}, "no"},
			false, all, "outside {3 0 0 1} inside {0 0 0 0} no", 1500 * ms},
		{"two intercepts", network{2, []answer{ready, {after: 50 * ms, from: 1}},
			[]answer{saw(1, 0), saw(1, 3)}, ""}, false, all,
			"outside {3 0 0 2} inside {3 0 0 3}", 1500 * ms},
		{"one of two refuses", network{2, []answer{
			ready, {after: ms, from: 1, seen: wire.Seen{Refused: "busy"}},
		}, []answer{saw(1, 1)}, ""}, false, all, "outside {3 0 0 1} inside {3 0 0 1}", 1500 * ms},
		{"a witness", network{1, []answer{witnessed, witness(200*ms, wire.Seen{})},
			[]answer{saw(0, 0), witness(300*ms, arrived)}, ""}, false, all,
			"outside {3 3 0 0} inside {3 3 0 0} witnessed TC0204", 2 * time.Second},
		{"a witness that is gone", network{1, []answer{witnessed}, []answer{saw(0, 0)}, ""}, false,
			all, "outside {3 0 0 0} inside {3 0 0 0}", 7 * time.Second},
		{"a witness that forgot", network{1, []answer{witnessed, witness(0, wire.Seen{})},
			[]answer{saw(0, 0), witness(0, wire.Seen{Refused: "no"})}, ""}, false, all,
			"outside {3 0 0 0} inside {3 0 0 0}", 1500 * ms},
		{"refused", network{1, []answer{{seen: wire.Seen{Refused: "too many"}}}, nil, ""}, false,
			"begin", "outside {0 0 0 0} inside {0 0 0 0} too many", ms},
		{"silence", network{1, nil, nil, ""}, false, "begin",
			"outside {0 0 0 0} inside {0 0 0 0} no intercept has answered", 2 * time.Second},
		{"silence at the end", network{1, []answer{ready}, nil, ""}, false, all,
			"outside {3 0 0 0} inside {3 0 0 0} an intercept has not answered", 6 * time.Second},
		{"hosts only", network{1, []answer{ready}, []answer{{seen: wire.Seen{Findings: finding}}},
			""}, true, "begin end reset", "outside {0 0 0 0} inside {0 0 0 0} TC0204", 10 * ms},
	} {
		t.Run(tt.name, func(t *testing.T) {
			done, r, took := tt.net.run(t, tt.quiet)
			if got := strings.Join(done, " "); got != tt.done {
				t.Errorf("did %s, want %s", got, tt.done)
			}
			got := fmt.Sprintf("outside %v inside %v", r.Outside, r.Inside)
			for _, s := range []string{r.InsideErr, r.Err} {
				if s != "" {
					got += " " + s
				}
			}
			if r.Witnessed {
				got += " witnessed"
			}
			for _, x := range append(r.AtIntercept, r.AtTarget...) {
				got += " " + x.Code
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if took > tt.most {
				t.Errorf("took %v, want at most %v", took, tt.most)
			}
		})
	}
}
