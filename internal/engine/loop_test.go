package engine

import (
	"net/netip"
	"testing"
	"time"

	"tcpcopy/internal/config"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/source"
)

func TestClassify(t *testing.T) {
	other := netip.MustParseAddrPort("10.0.0.9:80")
	for _, tc := range []struct {
		name     string
		from, to netip.AddrPort
		named    bool // the mapping names the production address, and it is not this host's
		frame    source.Frame
		want     bool
		server   bool
	}{
		{"a client's packet that comes in", client, production, false, source.Frame{}, true, false},
		{"the server's that goes out", production, client, false, source.Frame{Outgoing: true},
			true, true},
		{"to another host, seen on a bridge", client, other, false, source.Frame{}, false, false},
		{"our own connection to another host's port 80", netip.MustParseAddrPort("10.0.0.1:45000"),
			other, false, source.Frame{Outgoing: true}, false, false},
		{"loopback, on its way out", client, production, false,
			source.Frame{Outgoing: true, Loopback: true}, false, false},
		{"loopback, on its way in", client, production, false, source.Frame{Loopback: true}, true,
			false},
		{"loopback, the answer on its way in", production, client, false,
			source.Frame{Loopback: true}, false, false},
		{"to the address that the mapping names, forwarded in", client, other, true,
			source.Frame{}, true, false},
		{"to the address that the mapping names, forwarded out", client, other, true,
			source.Frame{Outgoing: true}, true, false},
		{"from the address that the mapping names", other, client, true, source.Frame{}, true,
			true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			rule := "80-10.0.0.2:8080"
			if tc.named {
				rule = "10.0.0.9:80-10.0.0.2:8080"
			}
			maps, err := mapping.Parse(rule)
			if err != nil {
				t.Fatal(err)
			}
			k, err := newServed(&config.Copy{}, maps)
			if err != nil {
				t.Fatal(err)
			}
			k.named[0] = tc.named
			c := classifier{served: k, isLocal: func(a netip.Addr) bool {
				return a == production.Addr()
			}}
			tc.frame.Data = packet.Append(nil,
				&packet.Segment{Src: tc.from, Dst: tc.to, Flags: packet.ACK})
			tc.frame.Wire = len(tc.frame.Data)
			var p shard.Packet
			if got := c.classify(&tc.frame, &p); got != tc.want {
				t.Fatalf("taken: %v, wanted %v", got, tc.want)
			}
			if tc.want && p.FromServer != tc.server {
				t.Errorf("the server's: %v, wanted %v", p.FromServer, tc.server)
			}
		})
	}
}

// TestClassifyRemote: packets of other hosts' interfaces count by their mapping alone, but for our
// own copies.
func TestClassifyRemote(t *testing.T) {
	client, production := netip.MustParseAddrPort("192.0.2.1:1234"), netip.MustParseAddrPort(
		"198.51.100.1:80")
	target := netip.MustParseAddrPort("10.0.0.2:80")
	for _, tc := range []struct {
		name         string
		rule         string
		from, to     netip.AddrPort
		want, server bool
	}{
		{"to any host's port", "80-10.0.0.2:80", client, production, true, false},
		{"from any host's port", "80-10.0.0.2:80", production, client, true, true},
		{"to the host that is named", "198.51.100.1:80-10.0.0.2:80", client, production, true,
			false},
		{"to another", "198.51.100.9:80-10.0.0.2:80", client, production, false, false},
		{"our copy", "80-10.0.0.2:80", client, target, false, false},
		{"the answer to it", "80-10.0.0.2:80", target, client, false, false},
		{"another port", "81-10.0.0.2:80", client, production, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			maps, err := mapping.Parse(tc.rule)
			if err != nil {
				t.Fatal(err)
			}
			served, err := newServed(&config.Copy{From: config.From{Kind: config.FromMirror}}, maps)
			if err != nil {
				t.Fatal(err)
			}
			c := classifier{served: served}
			f := source.Frame{Data: packet.Append(nil,
				&packet.Segment{Src: tc.from, Dst: tc.to, Flags: packet.ACK})}
			f.Wire = len(f.Data)
			var p shard.Packet
			if got := c.classify(&f, &p); got != tc.want || got && p.FromServer != tc.server {
				t.Errorf("taken %v, the server's %v; wanted %v, %v", got, p.FromServer, tc.want,
					tc.server)
			}
		})
	}
}

// After a time without CPU the clock stands still before the missed deadline until what has come
// meanwhile had its moment.
func TestClockAfterAStall(t *testing.T) {
	const ms = mono.Time(time.Millisecond)
	now := 100 * ms
	l := &shardLoop{now: func() mono.Time { return now }, due: mono.Never}
	expect := func(at, clock mono.Time) {
		t.Helper()
		now = at
		if got := l.clock(); got != clock {
			t.Errorf("at %v the clock says %v, wanted %v", at, got, clock)
		}
	}
	expect(100*ms, 100*ms)
	l.due = 110 * ms
	expect(105*ms, 105*ms)   // early: something came
	expect(112*ms, 112*ms)   // on time, nearly
	expect(160*ms, 110*ms-1) // 50 ms late
	expect(161*ms, 110*ms-1)
	if got := l.wait(); got != 2*time.Millisecond {
		t.Errorf("waits for %v, wanted 2ms", got)
	}
	expect(163*ms, 163*ms)
}
