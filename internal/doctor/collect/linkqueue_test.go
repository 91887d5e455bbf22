package collect

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"tcpcopy/internal/test/testnet"
)

// fillUp writes to a connection until the other side has no room, and returns how many bytes.
func fillUp(c net.Conn) (sent int) {
	chunk := make([]byte, 1<<20)
	for {
		_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := c.Write(chunk)
		if sent += n; err != nil && n == 0 && sent > 0 {
			return sent
		}
	}
}

// TestConnections checks that connections are found by the port at either end, and no others, with
// what waits on them.
func TestConnections(t *testing.T) {
	testnet.Enter(t)
	for _, network := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", network)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		other, err := l.Accept() // it does not read
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		sent := fillUp(c)
		server := netip.MustParseAddrPort(l.Addr().String())
		client := netip.MustParseAddrPort(c.LocalAddr().String())
		there, err := connections(server.Port(), false)
		if err != nil || len(there) != 1 || there[0].Peer != server ||
			there[0].Waiting == 0 || there[0].Waiting > sent || there[0].RTT <= 0 {
			t.Errorf("to port %d: %+v, %v, want one to %s, with some of %d bytes waiting",
				server.Port(), there, err, server, sent)
		}
		here, err := connections(server.Port(), true)
		if err != nil || len(here) != 1 || here[0].Peer != client || here[0].Waiting != 0 {
			t.Errorf("at port %d: %+v, %v, want one with %s", server.Port(), here, err, client)
		}
		if none, err := connections(server.Port()+1, true); err != nil || len(none) > 0 {
			t.Errorf("at port %d: %+v, %v", server.Port()+1, none, err)
		}
	}
}
