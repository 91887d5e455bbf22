package filter

import (
	"fmt"
	"strings"
	"testing"
)

func TestCapture(t *testing.T) {
	const big = 300 // more than what is kept of a response
	body := func(sport, dport uint16) []byte {
		return append(transport(sport, dport), make([]byte, big)...)
	}
	in4 := ip4("10.0.0.1", "10.0.0.2", 6, 0x4000, 0, body(1234, 80))
	out4 := ip4("10.0.0.2", "10.0.0.1", 6, 0x4000, 0, body(80, 1234))
	in6 := ip6("fd00::1", "fd00::2", 6, body(1234, 80))
	both := ip4("10.0.0.1", "10.0.0.2", 6, 0x4000, 0, body(80, 80))

	local := CaptureSpec{Ports: []uint16{443, 80, 80, 8080}, ExcludeMark: 7}
	anyDir := local
	anyDir.AnyDirection = true
	inOnly := local
	inOnly.NoResponses = true
	mirrored := anyDir
	mirrored.Encapsulated = true
	mirrored.Expr = Net{Src, mustAddr("10.0.0.1"), mustAddr("255.255.255.255")}
	gre4 := ip4("10.9.0.1", "10.9.0.2", 47, 0, 0, body(1234, 80))
	narrow := local
	narrow.Expr = Net{Src, mustAddr("10.0.0.1"), mustAddr("255.255.255.255")}
	for _, tc := range []struct {
		name string
		spec CaptureSpec
		b    []byte
		meta Meta
		want int
	}{
		{"request", local, in4, Meta{}, len(in4)},
		{"response", local, out4, Meta{Outgoing: true}, ResponseLen},
		{"request seen going out", local, in4, Meta{Outgoing: true}, 0},
		{"response seen coming in", local, out4, Meta{}, 0},
		{"both ports production, in", local, both, Meta{}, len(both)},
		{"both ports production, out", local, both, Meta{Outgoing: true}, ResponseLen},
		{"our own copy", local, in4, Meta{Mark: 7}, 0},
		{"our own packet out", local, out4, Meta{Mark: 7, Outgoing: true}, 0},
		{"another mark", local, in4, Meta{Mark: 0x4000}, len(in4)},
		{"other port", local, ip4("10.0.0.1", "10.0.0.2", 6, 0, 0, body(1234, 81)), Meta{}, 0},
		{"last port", local, ip4("10.0.0.1", "10.0.0.2", 6, 0, 0, body(1234, 8080)), Meta{},
			20 + 24 + big},
		{"UDP", local, ip4("10.0.0.1", "10.0.0.2", 17, 0, 0, body(1234, 80)), Meta{}, 0},
		{"IP options", local, ip4("10.0.0.1", "10.0.0.2", 6, 0, 5, body(1234, 80)), Meta{},
			40 + 24 + big},
		{"first fragment", local, ip4("10.0.0.1", "10.0.0.2", 6, 0x2000, 0, body(1234, 80)), Meta{},
			0},
		{"later fragment", local, ip4("10.0.0.1", "10.0.0.2", 6, 3, 0, body(1234, 80)), Meta{}, 0},
		{"ARP", local, make([]byte, 60), Meta{EtherType: 0x806}, 0},
		{"IPv6 request", local, in6, Meta{}, len(in6)},
		{"IPv6 response", local, ip6("fd00::2", "fd00::1", 6, body(80, 1234)), Meta{Outgoing: true},
			ResponseLen},
		{"BIG TCP", local, ip6("fd00::1", "fd00::2", 0, ext(6, 0, body(1234, 80))), Meta{},
			48 + 24 + big},
		{"BIG TCP response", local, ip6("fd00::1", "fd00::2", 0, ext(6, 0, body(80, 1234))),
			Meta{Outgoing: true}, ResponseLen},
		{"a longer hop-by-hop header", local, ip6("fd00::1", "fd00::2", 0,
			ext(6, 2, body(1234, 80))), Meta{}, 64 + 24 + big},
		{"hop-by-hop and UDP", local, ip6("fd00::1", "fd00::2", 0, ext(17, 0, body(1234, 80))),
			Meta{}, 0},
		{"IPv6 fragment", local, ip6("fd00::1", "fd00::2", 44, ext(6, 0, body(1234, 80))), Meta{},
			0},
		{"cut header", local, in4[:20], Meta{EtherType: etherIPv4}, 0},

		{"any direction: request out", anyDir, in4, Meta{Outgoing: true}, len(in4)},
		{"any direction: response in", anyDir, out4, Meta{}, ResponseLen},
		{"any direction: both ports", anyDir, both, Meta{Outgoing: true}, len(both)},
		{"any direction: our own", anyDir, in4, Meta{Mark: 7}, 0},
		{"mirrored: request", mirrored, in4, Meta{}, len(in4)},
		{"mirrored: response, not matching", mirrored, out4, Meta{}, 0},
		{"mirrored: GRE", mirrored, gre4, Meta{}, len(gre4)},
		{"mirrored: GRE over IPv6", mirrored, ip6("fd00::1", "fd00::2", 47, body(1234, 80)), Meta{},
			40 + 24 + big},
		{"mirrored: our own GRE", mirrored, gre4, Meta{Mark: 7}, 0},
		{"mirrored: two tags", mirrored, in4, Meta{EtherType: 0x8100}, len(in4)},
		{"mirrored: ARP", mirrored, make([]byte, 60), Meta{EtherType: 0x806}, 0},
		{"mirrored: UDP", mirrored, ip4("10.0.0.1", "10.0.0.2", 17, 0, 0, body(1234, 80)), Meta{},
			0},
		{"GRE", anyDir, gre4, Meta{}, 0},
		{"two tags", anyDir, in4, Meta{EtherType: 0x8100}, 0},
		{"no responses: request", inOnly, in4, Meta{}, len(in4)},
		{"no responses: response", inOnly, out4, Meta{Outgoing: true}, 0},
		{"with an expression: match", narrow, in4, Meta{}, len(in4)},
		{"with an expression: none", narrow, out4, Meta{Outgoing: true}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := Capture(tc.spec)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Match(tc.b, &tc.meta); got != tc.want {
				t.Errorf("keeps %d, want %d", got, tc.want)
			}
		})
	}
}

func TestCapturePorts(t *testing.T) {
	for _, n := range []int{1, 2, 4, 5, 9, 33, MaxCapturePorts} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			spec := CaptureSpec{Ports: make([]uint16, n), AnyDirection: true}
			for i := range spec.Ports {
				spec.Ports[i] = uint16(65535 - i*7)
			}
			p, err := Capture(spec)
			if err != nil {
				t.Fatal(err)
			}
			for port := 65535 - n*7 - 3; port <= 65535; port++ {
				listed := (65535-port)%7 == 0 && (65535-port)/7 < n
				for _, b := range [][]byte{
					ip4("10.0.0.1", "10.0.0.2", 6, 0, 0, transport(1, uint16(port))),
					ip6("fd00::1", "fd00::2", 6, transport(uint16(port), 1)),
				} {
					if got := p.Match(b, &Meta{}) > 0; got != listed {
						t.Fatalf("port %d: got %v", port, got)
					}
				}
			}
		})
	}
}

func TestCaptureRefuses(t *testing.T) {
	deep, err := Parse("host fd00::1" + strings.Repeat(" or fd00::2", 300))
	if err != nil {
		t.Fatal(err)
	}
	many := make([]uint16, MaxCapturePorts+1)
	for i := range many {
		many[i] = uint16(i)
	}
	for _, tc := range []struct {
		name string
		spec CaptureSpec
		want string
	}{
		{"no ports", CaptureSpec{}, "no ports"},
		{"too many", CaptureSpec{Ports: many}, "65 ports, want at most 64"},
		{"too long", CaptureSpec{Ports: []uint16{80}, Expr: deep}, "want at most 4096"},
	} {
		if _, err := Capture(tc.spec); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %s", tc.name, err, tc.want)
		}
	}
}
