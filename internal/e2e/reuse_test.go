package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/netlab"
)

// TestTunnelPortReuse: a client that uses one port again and again is one connection after the other at
// the target too, from that port.
func TestTunnelPortReuse(t *testing.T) {
	for _, timestamps := range []string{"1", "0"} {
		for _, reach := range []string{"loopback", "mark"} {
			t.Run(fmt.Sprintf("timestamps %s, by %s", timestamps, reach), func(t *testing.T) {
				s := newStand(t, setting{way: tunnel})
				set(t, s.net.Target, "ipv4/tcp_timestamps", timestamps)
				p := s.pair()
				s.onTarget("--reach", reach)
				c := s.copy("-x", s.mapping(onlinePort, targetPort))
				d := &net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netlab.ClientAddr(0, false), 40000))}
				d.Control = func(_, _ string, raw syscall.RawConn) (err error) {
					raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1) })
					return err
				}
				const conns = 20
				for i := range conns {
					conn, err := s.net.Client.Dial(context.Background(), d, "tcp", netip.AddrPortFrom(s.online, onlinePort).String())
					if err != nil {
						t.Fatal(err)
					}
					conn.SetDeadline(time.Now().Add(patience))
					cl := &client{conn, bufio.NewReader(conn)}
					for n := range 3 {
						if err := cl.ask(fmt.Sprintf("connection %d line %d", i, n)); err != nil {
							t.Fatal(err)
						}
					}
					if i%3 == 0 {
						conn.(*net.TCPConn).SetLinger(0)
						conn.Close()
					} else if err := cl.finish(); err != nil {
						t.Fatal(err)
					}
				}
				within(patience/3, func() bool { return p.target.lineCount() >= p.online.lineCount() })
				r := c.end()
				p.same(t)
				same(t, "clients that the target sees", p.target.clients(), p.online.clients())
				if r.Sessions.Delivered != conns {
					t.Errorf("sessions %+v, wanted %d delivered", r.Sessions, conns)
				}
			})
		}
	}
}
