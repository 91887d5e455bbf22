package mirror_test

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/mirror"
	"tcpcopy/internal/test/testnet"
)

// dialFrom connects from an address of this host.
func dialFrom(t testing.TB, from string, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from)),
		net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestPeers: a million datagrams of a stranger take nothing of the buffer of those that are
// accepted, are counted, and logged once a minute.
func TestPeers(t *testing.T) {
	for _, tc := range []struct {
		name, peers            string
		listen, peer, stranger string
		addresses              []string
		many                   bool
	}{
		{name: "IPv4", peers: "127.0.0.9/32 127.0.0.64/26", listen: "127.0.0.1:4789",
			peer: "127.0.0.77:0", stranger: "127.0.0.130:0", many: true},
		{name: "IPv4 at all addresses", peers: "10.0.0.0/8 fd00::/64 127.0.0.64/26",
			listen: ":4789", peer: "127.0.0.77:0", stranger: "127.0.0.130:0"},
		{name: "IPv6", peers: "127.0.0.0/8 fd00::/16 fd01:0:0:7:8000::/66", listen: "[::1]:4789",
			peer: "[fd01:0:0:7:bfff::1]:0", stranger: "[fd01:0:0:7:c000::1]:0",
			addresses: []string{"fd01:0:0:7:bfff::1/128", "fd01:0:0:7:c000::1/128"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			many := 50_000
			if tc.many && !testing.Short() {
				many = 1_000_000
			}
			testnet.Enter(t)
			for _, a := range tc.addresses {
				testnet.Address(t, "lo", a)
			}
			var log bytes.Buffer
			var now mono.Time
			cfg := mirror.Config{Log: slog.New(slog.NewTextHandler(&log, nil)), Buffer: 64 << 10,
				Now: func() mono.Time { return now }}
			to := netip.MustParseAddrPort("127.0.0.1:4789")
			if tc.listen == ":4789" {
				cfg.Listen = netip.AddrPortFrom(netip.Addr{}, 4789)
			} else {
				cfg.Listen = netip.MustParseAddrPort(tc.listen)
				to = cfg.Listen
			}
			for p := range strings.FieldsSeq(tc.peers) {
				cfg.Peers = append(cfg.Peers, netip.MustParsePrefix(p))
			}
			s := listen(t, cfg)
			peer, stranger := dialFrom(t, tc.peer, to), dialFrom(t, tc.stranger, to)
			d := vxlan(7, inner("10.0.0.1:1000", 10))
			for range many / 2 {
				send(t, stranger, d)
			}
			send(t, peer, d, d, d, d, d)
			for range many - many/2 {
				send(t, stranger, d)
			}
			receive(t, s, 5)
			want := source.Stats{Offered: uint64(many) + 5, Delivered: 5, Foreign: uint64(many)}
			if st := s.Stats(); st != want {
				t.Errorf("%+v, want %+v", st, want)
			}
			host := netip.MustParseAddrPort(tc.stranger).Addr().String()
			lines := func(n int) {
				t.Helper()
				if got := strings.Count(log.String(), "from="+host); got != n {
					t.Errorf("%d lines of log about %s, want %d:\n%s", got, host, n, log.String())
				}
			}
			lines(1)
			for i := range 59 {
				now = mono.Time(i) * mono.Time(time.Second)
				send(t, stranger, d, d)
				s.Next(0)
			}
			lines(1)
			now = mono.Time(2 * time.Minute)
			s.Next(0)
			lines(2)
			if other, err := mirror.Listen(cfg); err == nil {
				other.Close()
				t.Error("a second copier has the same port")
			}
		})
	}
}
