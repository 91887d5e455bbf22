package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestGRPCLate copies a connection that was open, with a call under way, when the copier started.
// Where production lets clients keep no table of headers, every later call is copied. Else a call
// whose headers refer to older ones is left out, and the others go.
func TestGRPCLate(t *testing.T) {
	t.Parallel()
	for i, tt := range []struct {
		name       string
		production []string
		all        bool // later calls are copied
	}{
		{"no table", []string{"-table", "0"}, true},
		{"table", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inTurn(t, i, func(t *testing.T, way string) {
				s := newStand(t, setting{way: way})
				production := startCallSite(t, s.net.Production, siteProduction,
					tt.production...)
				target := startCallSite(t, s.net.Target, siteTarget)
				// In their course each entry of the table is evicted that is older than the copier.
				const kinds, rounds = 3, 40
				client := start(t, s.net.Client, "client", grpcPeer(t), "-call",
					s.siteAddr().String(), "-name", "0", "-late", "-kinds", "unary,down,both",
					"-rounds", fmt.Sprint(rounds))
				client.awaitOutput("in the middle")
				c := s.copy("-x", s.mapping(siteProduction, siteTarget), "--both", "--proto",
					"http2")
				client.signal(syscall.SIGHUP)
				if code := client.wait(); code != 0 {
					t.Fatalf("the client ended with exit code %d: %s", code, client.output())
				}
				eventually(t, "production sees all calls end", func() bool {
					return len(production.served()) > kinds*rounds
				})
				r := c.end()
				expectLate(t, target, production, tt.all)
				p := r.Protocol
				sent, unknown := uint64(len(target.served())), p.Dropped["hpack_unknown"]
				t.Logf("%d calls were copied, %d left out; bytes %+v", sent, unknown, r.Bytes)
				if p.Sent != sent || p.Answered != sent || sent+unknown != kinds*rounds ||
					p.Failed != 0 || p.Lost != 0 || r.Adopted != 1 || r.Sessions.Delivered != 1 {
					t.Errorf("the account: %+v, %+v, %d sessions adopted", p, r.Sessions,
						r.Adopted)
				}
				if unknown > 0 == tt.all || r.Bytes.Dropped["hpack_unknown"] > 0 == tt.all ||
					r.Bytes.Dropped["stream_unknown"] == 0 {
					t.Errorf("%d calls left out, bytes %+v", unknown, r.Bytes)
				}
			})
		})
	}
}

// expectLate checks that the target has served calls as production has: none that began before the
// copier, and all or some of the others.
func expectLate(t *testing.T, target, production *callSite, all bool) {
	t.Helper()
	got, early := target.calls()
	want, _ := production.calls()
	want = slices.DeleteFunc(want, func(call string) bool {
		return strings.Contains(call, "Name: ") // the one that began before
	})
	if !all {
		if len(got) == 0 || len(got) == len(want) {
			t.Errorf("%d of %d calls were copied, wanted some", len(got), len(want))
		}
		want = among(want, got)
	}
	expectSame(t, "calls", got, want)
	if early > 0 {
		t.Errorf("%d messages came before the answer to the one before", early)
	}
}
