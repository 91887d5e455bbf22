package ontarget

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/way/link/wire"
)

// TestServersOwnPort opens copies whose client's port is one that this host listens on, on all
// addresses: bind(2) refuses such an address beside the listening socket. The server can be
// started again meanwhile, and a copy still fails if another connection has the same two ends.
func TestServersOwnPort(t *testing.T) {
	server(t) // skips if the capability is missing
	conns := make(chan net.Conn, 8)
	for _, network := range []string{"tcp4", "tcp"} {
		l := listen(t, network, 0, conns)
		port := l.Addr().(*net.TCPAddr).AddrPort().Port()
		target := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
		c := attach(t, New(Config{Allow: every, Routes: loopback{}, Now: now}), 1)
		client := func(i uint64) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 9, byte(i)}), port)
		}
		for id := range uint64(3) {
			c.must(wire.Op{Kind: wire.OpOpen, ID: id, Client: client(id), Target: target})
			c.await(id, wire.EventOpened, 0)
			if got := accept(t, conns).RemoteAddr().String(); got != client(id).String() {
				t.Errorf("%s: the server sees %s, want %s", network, got, client(id))
			}
			if id == 1 {
				l.Close()
				listen(t, network, port, conns)
			}
		}
		if network == "tcp4" {
			continue // what follows waits for takeover
		}
		// The kernel knows of these connections; another Server does not.
		other := attach(t, New(Config{Allow: every, Routes: loopback{}, Now: now}), 2)
		other.must(wire.Op{Kind: wire.OpOpen, ID: 1, Client: client(2), Target: target})
		if ev := other.await(1, wire.EventFailed, 0); ev.Reason != ledger.TupleTaken {
			t.Errorf("a connection that exists: %v", ev.Reason)
		}
	}
}

// listen accepts connections on a port of all addresses; 0 is any free one.
func listen(t *testing.T, network string, port uint16, conns chan<- net.Conn) net.Listener {
	t.Helper()
	l, err := net.Listen(network, fmt.Sprintf(":%d", port))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns <- c
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l
}
