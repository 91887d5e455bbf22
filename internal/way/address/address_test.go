package address

import (
	"fmt"
	"net/netip"
	"testing"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
)

var (
	production = netip.MustParseAddrPort("198.51.100.1:80")
	target     = netip.MustParseAddrPort("203.0.113.1:8080")
)

// used is the tuples in use, with the connections that they were chosen for.
type used map[shard.Tuple]shard.Tuple

func (u used) owner(tuple shard.Tuple) (shard.Tuple, bool) {
	connection, ok := u[tuple]
	return connection, ok
}

// choose chooses a source for a copy and marks it as used.
func (u used) choose(c *Chooser, client string, index int, to netip.AddrPort) (netip.AddrPort,
	ledger.Reason) {
	spec := session.OpenSpec{
		Client: netip.MustParseAddrPort(client), Production: production, Target: to, Index: index,
	}
	source, why := c.Choose(&spec, u.owner)
	if why == ledger.None {
		u[shard.TupleOf(source, to)] = shard.TupleOf(spec.Client, spec.Production)
	}
	return source, why
}

// Copies come from tuples of their own, all of this shard; the first one from its client's.
func TestChoose(t *testing.T) {
	pool, err := mapping.ParsePool("10.9.0.1,10.9.0.2,10.9.0.3")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name  string
		rules Rules
		addr  string // of the clients
		want  string // the address of copies; empty: any of the pool
	}{
		{"the client's own", Rules{}, "192.0.2.1", "192.0.2.1"},
		{"with a port shift", Rules{PortShift: 1000}, "192.0.2.1", "192.0.2.1"},
		{"from loopback", Rules{LocalhostAs: netip.MustParseAddr("192.0.2.77")}, "127.0.0.1",
			"192.0.2.77"},
		{"a pool's", Rules{Clients: &pool}, "192.0.2.1", ""},
		{"a pool's, with a port shift", Rules{Clients: &pool, PortShift: -77}, "192.0.2.1", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := Chooser{Rules: tc.rules, Index: 1, Count: 3, OtherFamily: ledger.BadClientAddress}
			u, n := used{}, 0
			for port := 40000; n < 5000; port++ {
				if shard.Of(uint16(port), 3) != 1 {
					continue
				}
				for index := range 50 {
					n++
					client := fmt.Sprintf("%s:%d", tc.addr, port)
					source, why := u.choose(&c, client, index, target)
					if why != ledger.None {
						t.Fatalf("copy %d of %s: %v", index, client, why)
					}
					if got := shard.Of(tc.rules.ClientPort(source.Port()), 3); got != 1 {
						t.Errorf("what comes back to %v is shard %d's, wanted 1", source, got)
					}
					if tc.want != "" && source.Addr().String() != tc.want ||
						tc.want == "" && !pool.Contains(source.Addr()) {
						t.Errorf("a copy comes from %v", source)
					}
					if index == 0 && int(source.Port()) != port+tc.rules.PortShift {
						t.Errorf("the first copy of port %d comes from %v", port, source)
					}
				}
			}
			if len(u) != 5000 {
				t.Errorf("%d tuples, wanted 5,000", len(u))
			}
		})
	}
}

// A client's address has 64,512 ports: more copies than that have no source, and no source is used
// twice.
func TestChooseRunsOut(t *testing.T) {
	c := Chooser{Count: 1}
	u, without := used{}, 0
	for i := range 64 {
		for index := range 1023 {
			before := len(u)
			switch _, why := u.choose(&c, fmt.Sprintf("192.0.2.1:%d", 40000+i), index, target); {
			case why == ledger.NoSourceAddress:
				without++
			case why != ledger.None:
				t.Fatal(why)
			case len(u) == before:
				t.Fatal("a source was chosen twice")
			}
		}
	}
	if len(u) < 64000 || len(u)+without != 64*1023 || without == 0 {
		t.Errorf("%d sources, %d copies without one, wanted nearly 64,512, and the rest of %d",
			len(u), without, 64*1023)
	}
}

// The client's next connection from the same port takes over its own tuple; other copies do not.
func TestChooseAgain(t *testing.T) {
	c := Chooser{Count: 1}
	u := used{}
	first, _ := u.choose(&c, "192.0.2.1:40000", 0, target)
	if again, _ := u.choose(&c, "192.0.2.1:40000", 0, target); again != first {
		t.Errorf("the next connection comes from %v, wanted %v", again, first)
	}
	if other, _ := u.choose(&c, "192.0.2.1:40000", 1, target); other == first {
		t.Errorf("a further copy comes from %v as well", other)
	}
	one, err := mapping.ParsePool("10.9.0.1")
	if err != nil {
		t.Fatal(err)
	}
	c.Clients = &one
	first, _ = u.choose(&c, "192.0.2.2:40001", 0, target)
	if again, _ := u.choose(&c, "192.0.2.2:40001", 0, target); again == first {
		t.Errorf("of a pool, the next connection comes from %v, which is in use", again)
	}
}

func TestChooseFamilies(t *testing.T) {
	six := netip.MustParseAddrPort("[2001:db8::9]:8080")
	c := Chooser{Count: 1, OtherFamily: ledger.BadClientAddress}
	if _, why := (used{}).choose(&c, "192.0.2.1:40000", 0, six); why != ledger.BadClientAddress {
		t.Errorf("an IPv4 client to an IPv6 target: %v", why)
	}
	if s, why := (used{}).choose(&c, "[2001:db8:1::1]:40000", 0, six); why != ledger.None ||
		s.Port() != 40000 {
		t.Errorf("an IPv6 client: %v, %v", s, why)
	}
	for _, client := range []string{"127.0.0.1:40000", "127.9.9.9:40000", "[::1]:40000"} {
		for _, to := range []netip.AddrPort{target, six} {
			if s, why := (used{}).choose(&c, client, 0, to); why != ledger.BadClientAddress {
				t.Errorf("the loopback client %s to %s: %v, %v", client, to, s, why)
			}
		}
	}
	one, _ := mapping.ParsePool("2001:db8::5")
	c.Clients = &one
	if _, why := (used{}).choose(&c, "192.0.2.1:40000", 0, target); why != ledger.NoSourceAddress {
		t.Errorf("a pool of another family: %v", why)
	}
}

func TestPortShift(t *testing.T) {
	for _, n := range []int{0, 1, 100, -100, 70000, -70000, 64512} {
		forth, back := Rules{PortShift: -n}, Rules{PortShift: n}
		for port := range 1 << 16 {
			if got := back.ClientPort(forth.ClientPort(uint16(port))); got != uint16(port) {
				t.Fatalf("port %d shifted by %d and back is %d", port, n, got)
			}
		}
	}
}
