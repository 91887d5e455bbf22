package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"tcpcopy/internal/lab/netlab"
)

// TestTunnelRealClient has a client of production be a client of the target too, from the same
// port. Its own connection to the target must survive; its copy cannot exist if it has the same two
// ends.
func TestTunnelRealClient(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		reach  string
		copied bool
	}{{"loopback", true}, {"mark", false}} {
		t.Run(tc.reach, func(t *testing.T) {
			s := newStand(t, setting{way: tunnel})
			p := s.pair()
			s.onTarget("--reach", tc.reach)
			from := netip.AddrPortFrom(netlab.AssistantAddr4, 40000)
			mine := dialFrom(t, s.net.Assistant, from, netip.AddrPortFrom(s.target, targetPort))
			ask := func(what string) {
				t.Helper()
				if err := mine.ask(what); err != nil {
					t.Fatalf("the client's own connection to the target: %v", err)
				}
			}
			ask("own before")
			c := s.copyPair()
			production := dialFrom(t, s.net.Assistant, from,
				netip.AddrPortFrom(netlab.ProductionTest4, productionPort))
			for i := range 20 {
				if err := production.ask(fmt.Sprintf("copied %d", i)); err != nil {
					t.Fatal(err)
				}
				ask(fmt.Sprintf("own %d", i))
			}
			if err := production.finish(); err != nil {
				t.Fatal(err)
			}
			if tc.copied {
				eventually(t, "the copy", func() bool { return p.target.lineCount() == 41 })
			}
			ask("own while the copy ends")
			r := c.end()
			ask("own after")
			if copied := r.Sessions.Delivered == 1; copied != tc.copied {
				t.Errorf("sessions %+v, want the client's copied: %v", r.Sessions, tc.copied)
			}
			if err := mine.finish(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestTunnelPortReuse checks that a client that uses one port again and again has its connections
// copied from that port.
func TestTunnelPortReuse(t *testing.T) {
	t.Parallel()
	for _, timestamps := range []string{"1", "0"} {
		for _, reach := range []string{"loopback", "mark"} {
			t.Run(fmt.Sprintf("timestamps %s, by %s", timestamps, reach), func(t *testing.T) {
				s := newStand(t, setting{way: tunnel})
				set(t, s.net.Target, "ipv4/tcp_timestamps", timestamps)
				p := s.pair()
				s.onTarget("--reach", reach)
				c := s.copyPair()
				const conns = 20
				for i := range conns {
					cl := dialFrom(t, s.net.Client, netip.AddrPortFrom(netlab.ClientAddr(0, false),
						40000), netip.AddrPortFrom(s.production, productionPort))
					for n := range 3 {
						if err := cl.ask(fmt.Sprintf("connection %d line %d", i, n)); err != nil {
							t.Fatalf("connection %d, line %d: %v", i, n, err)
						}
					}
					if i%3 == 0 {
						cl.Conn.(*net.TCPConn).SetLinger(0)
						cl.Close()
					} else if err := cl.finish(); err != nil {
						t.Fatalf("the end of connection %d: %v", i, err)
					}
				}
				within(patience/3,
					func() bool { return p.target.lineCount() >= p.production.lineCount() })
				r := c.end()
				p.expectSame(t)
				expectSame(t, "clients that the target sees", p.target.clients(),
					p.production.clients())
				if r.Sessions.Delivered != conns {
					t.Errorf("sessions %+v, wanted %d delivered", r.Sessions, conns)
				}
			})
		}
	}
}
