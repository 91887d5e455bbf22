package mapping

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParsePool(t *testing.T) {
	for _, tc := range []struct {
		name, in, printed string
		n                 int
		first, last       string
	}{
		{"TCPCopy's x", "10.1.2.x", "10.1.2.0/24", 254, "10.1.2.1", "10.1.2.254"},
		{"one address", "10.1.2.3", "10.1.2.3", 1, "10.1.2.3", "10.1.2.3"},
		{"an address that a subnet could not use", "10.1.2.255", "10.1.2.255", 1, "10.1.2.255",
			"10.1.2.255"},
		{"list", "10.1.2.3, 10.1.2.5,fd00::7", "10.1.2.3,10.1.2.5,fd00::7", 3, "10.1.2.3",
			"fd00::7"},
		{"prefix", "10.1.0.0/16", "10.1.0.0/16", 65534, "10.1.0.1", "10.1.255.254"},
		{"point to point", "10.1.0.0/31", "10.1.0.0/31", 2, "10.1.0.0", "10.1.0.1"},
		{"prefix of one", "10.1.0.4/32", "10.1.0.4", 1, "10.1.0.4", "10.1.0.4"},
		{"prefix of four", "10.1.0.4/30", "10.1.0.4/30", 2, "10.1.0.5", "10.1.0.6"},
		{"a class A network", "10.0.0.0/8", "10.0.0.0/8", 1<<24 - 2, "10.0.0.1", "10.255.255.254"},
		{"IPv6 prefix of four", "fd00::4/126", "fd00::4/126", 3, "fd00::5", "fd00::7"},
		{"IPv6 prefix of two", "fd00::4/127", "fd00::4/127", 2, "fd00::4", "fd00::5"},
		{"IPv6 subnet", "fd00::/64", "fd00::/64", 1<<24 - 1, "fd00::1", "fd00::ff:ffff"},
		{"IPv6 site", "fd00:1::/48", "fd00:1::/48", 1<<24 - 1, "fd00:1::1", "fd00:1::ff:ffff"},
		{"mixed", "10.1.2.x,fd00::/120", "10.1.2.0/24,fd00::/120", 254 + 255, "10.1.2.1",
			"fd00::ff"},
		{"IPv4-mapped address", "::ffff:10.1.2.3", "10.1.2.3", 1, "10.1.2.3", "10.1.2.3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := ParsePool(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if p.String() != tc.printed {
				t.Errorf("printed as %q, want %q", p, tc.printed)
			}
			if again, err := ParsePool(p.String()); err != nil || again.Len() != p.Len() {
				t.Errorf("reads back as %v, %v", again, err)
			}
			if p.Len() != tc.n {
				t.Fatalf("%d addresses, want %d", p.Len(), tc.n)
			}
			if first, last := p.At(0), p.At(p.Len()-1); first.String() != tc.first ||
				last.String() != tc.last {
				t.Errorf("from %v to %v, want %s to %s", first, last, tc.first, tc.last)
			}
			if p.At(p.Len()).IsValid() || p.At(-1).IsValid() {
				t.Error("there are addresses outside")
			}
			i := 0
			seen := map[netip.Addr]bool{}
			for a := range p.Addrs() {
				if a != p.At(i) || seen[a] || !p.Contains(a) {
					t.Fatalf("address %d is %v, At says %v; seen before: %v", i, a, p.At(i),
						seen[a])
				}
				seen[a] = true
				if i++; i == 70000 {
					break
				}
			}
			if i < 70000 && i != p.Len() {
				t.Errorf("%d addresses came, want %d", i, p.Len())
			}
		})
	}
}

func TestParsePoolRefuses(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"empty", "", `"" is neither an address nor a prefix`},
		{"trailing comma", "10.0.0.1,", `"" is neither`},
		{"name", "clients.example.com", `"clients.example.com" is neither`},
		{"x elsewhere", "10.1.x.x", `"10.1.x.x" is neither`},
		{"x of too few octets", "10.1.x", `"10.1.x" is neither`},
		{"bits behind the prefix", "10.1.2.3/24",
			`"10.1.2.3/24" has bits set beyond its prefix, want 10.1.2.0/24`},
		{"prefix too long", "10.1.2.0/33", `is neither`},
		{"zone", "fe80::1%eth0", `is neither`},
		{"IPv4-mapped prefix", "::ffff:10.0.0.0/104", `is neither`},
		{"loopback", "127.0.0.1", `contains loopback addresses (127.0.0.0/8)`},
		{"IPv6 loopback", "::1", `contains loopback addresses`},
		{"multicast", "224.0.0.x", `contains multicast addresses`},
		{"IPv6 multicast", "ff02::/16", `contains multicast addresses`},
		{"broadcast", "255.255.255.255", `contains broadcast addresses`},
		{"everything", "0.0.0.0/0", `no client can have`},
		{"all of IPv6", "::/0", `no client can have`},
		{"overlap", "10.1.0.0/16,10.1.2.x", `"10.1.2.x" overlaps 10.1.0.0/16`},
		{"twice", "10.1.2.3,10.1.2.3", `"10.1.2.3" overlaps 10.1.2.3`},
		{"too many", "10.0.0.0/30" + manyPrefixes(64), `want at most 64`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p, err := ParsePool(tc.in)
			if err == nil {
				t.Fatalf("parsed as %v", p)
			}
			if !strings.HasPrefix(err.Error(), "parse client addresses: ") ||
				!strings.Contains(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

func manyPrefixes(n int) string {
	var b strings.Builder
	for a := netip.MustParseAddr("10.2.0.0"); n > 0; n-- {
		b.WriteString("," + a.String())
		a = a.Next()
	}
	return b.String()
}

func TestPoolLike(t *testing.T) {
	p, err := ParsePool("10.1.2.x,fd00::/120,10.9.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ like, want string }{
		{"192.0.2.1", "10.1.2.0/24,10.9.0.1"},
		{"2001:db8::1", "fd00::/120"},
	} {
		if got := p.Like(netip.MustParseAddr(tc.like)).String(); got != tc.want {
			t.Errorf("like %s: got %s, want %s", tc.like, got, tc.want)
		}
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.1.2.0/24"),
		netip.MustParsePrefix("fd00::/120"), netip.MustParsePrefix("10.9.0.1/32")}
	if got := p.Prefixes(); !slices.Equal(got, want) {
		t.Errorf("prefixes %v, want %v", got, want)
	}
	for addr, want := range map[string]bool{"10.1.2.0": true, "10.1.2.255": true, "10.1.3.1": false,
		"fd00::1": true, "10.9.0.2": false} {
		if got := p.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("contains %s: %v", addr, got)
		}
	}
	var zero Pool
	if zero.Len() != 0 || zero.At(0).IsValid() || zero.Contains(netip.MustParseAddr("10.0.0.1")) ||
		zero.String() != "" {
		t.Error("the zero pool is not empty")
	}
}

func FuzzParsePool(f *testing.F) {
	f.Add("10.1.2.x,fd00::/64,10.9.0.1")
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePool(s)
		if err != nil {
			return
		}
		if p.Len() < 1 || !p.At(0).IsValid() || !p.At(p.Len()-1).IsValid() ||
			p.At(p.Len()).IsValid() {
			t.Fatalf("%q: %d addresses, %v to %v", s, p.Len(), p.At(0), p.At(p.Len()-1))
		}
		if again, err := ParsePool(p.String()); err != nil || again.String() != p.String() {
			t.Fatalf("%q: %q reads back as %v, %v", s, p, again, err)
		}
	})
}
