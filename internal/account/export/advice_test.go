package export

import (
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
)

func TestAdvice(t *testing.T) {
	late := func(change func(*Snapshot)) *Snapshot {
		s := clean()
		change(s)
		return s
	}
	most := func(r ledger.Reason) *Snapshot {
		return late(func(s *Snapshot) {
			s.Counters.Sessions.Dropped[r] = s.Counters.Sessions.Captured
		})
	}
	silent := func(s *Snapshot) {
		s.Via, s.Links = "raw", []LinkState{{Up: true}}
		s.Counters.SegmentsOut = 10
	}
	for _, tt := range []struct {
		name string
		s    *Snapshot
		want string // empty: no advice
	}{
		{"all is well", clean(), ""},
		{"much is wrong, and reasons say what", full(), ""},
		{"no packet", empty(), ""},
		{"no packet for long", late(func(s *Snapshot) {
			s.Counters, s.Final = ledger.Counters{}, false
			s.Now = s.Start.Add(patience)
		}), "TC0105: no packet for 80-10.0.0.2:8080 was seen; tcpcopy doctor finds the cause"},
		{"no packet to the end", late(func(s *Snapshot) {
			s.Counters, s.Now = ledger.Counters{},
				s.Start.Add(time.Second)
		}), "no packet for"},
		{"nothing from a mirror", late(func(s *Snapshot) {
			s.Counters, s.From = ledger.Counters{},
				"vxlan://:4789"
		}), "nothing came from vxlan://:4789"},
		{"nothing comes back", late(silent), "TC0215: no answer came back"},
		{"little comes back", late(func(s *Snapshot) {
			silent(s)
			s.Counters.SegmentsIn = 1
			s.Counters.Sessions.Dropped[ledger.ConnectTimeout] = s.Counters.Sessions.Captured
		}), "TC0215: the target's answers to most SYNs do not come back"},
		{"nothing comes back yet",
			late(func(s *Snapshot) {
				silent(s)
				s.Now, s.Final = s.Start.Add(time.Second),
					false
			}), ""},
		{"no link, which is said already",
			late(func(s *Snapshot) { silent(s); s.Links[0].Up = false }), ""},
		{"the ring is full", late(func(s *Snapshot) {
			s.Counters.Packets.KernelDrop = s.Counters.Packets.Offered
			s.Doctor = "tcpcopy doctor copy -x 80-10.0.0.2:8080"
		}), "TC0108: the kernel drops packets because the capture ring is full; " +
			"tcpcopy doctor copy -x 80-10.0.0.2:8080 finds the cause"},
		{"TLS", most(ledger.TLS), "TC0107: "},
		{"refused", most(ledger.TargetRefused), "TC0201: "},
		{"unanswered", most(ledger.ConnectTimeout), "TC0202: the target does not answer"},
		{"reset by the server", most(ledger.TargetReset), "TC0601: the test server resets"},
		{"reset in raw", late(func(s *Snapshot) {
			s.Via = "raw"
			s.Counters.Sessions.Dropped[ledger.TargetReset] = s.Counters.Sessions.Captured
		}), "TC0304: "},
		{"no answer begins", most(ledger.GateTimeout), "TC0602: "},
		{"nothing is acknowledged", most(ledger.SendTimeout), "TC0219: "},
		{"in use", most(ledger.TupleTaken), "TC0216: "},
		{"not allowed", most(ledger.TargetForbidden), "TC0505: "},
		{"from loopback", most(ledger.BadClientAddress), "TC0106: "},
		{"the target hangs up",
			late(func(s *Snapshot) { s.Counters.Sessions.Drop(ledger.TargetClosed, 1) }),
			"closes most connections early"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(Advice(tt.s), "\n")
			if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
