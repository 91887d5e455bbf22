package mapping

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func to(targets ...netip.AddrPort) (out []Target) {
	for _, t := range targets {
		out = append(out, Target{t, 1})
	}
	return out
}

func equal(a, b Mapping) bool {
	return a.Production == b.Production && slices.Equal(a.Targets, b.Targets)
}

func anyAddr(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.Addr{}, port) }

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     []Mapping
		printed  string // if not in
	}{
		{"port only", "80-10.0.0.2:8080", []Mapping{{anyAddr(80), to(ap("10.0.0.2:8080"))}}, ""},
		{"production address", "10.0.0.1:80-10.0.0.2:8080",
			[]Mapping{{ap("10.0.0.1:80"), to(ap("10.0.0.2:8080"))}}, ""},
		{"IPv6 target", "80-[fd00::2]:8080", []Mapping{{anyAddr(80), to(ap("[fd00::2]:8080"))}},
			""},
		{"IPv6 both", "[fd00::1]:80-[fd00::2]:8080",
			[]Mapping{{ap("[fd00::1]:80"), to(ap("[fd00::2]:8080"))}}, ""},
		{"several, with blanks", "80-10.0.0.2:8080, 10.0.0.1:80-10.0.0.3:80,443-10.0.0.2:443",
			[]Mapping{{anyAddr(80), to(ap("10.0.0.2:8080"))},
				{ap("10.0.0.1:80"), to(ap("10.0.0.3:80"))}, {anyAddr(443), to(ap("10.0.0.2:443"))}},
			"80-10.0.0.2:8080,10.0.0.1:80-10.0.0.3:80,443-10.0.0.2:443"},
		{"unspecified is any", "0.0.0.0:80-10.0.0.2:8080,[::]:81-10.0.0.2:8080",
			[]Mapping{{anyAddr(80), to(ap("10.0.0.2:8080"))},
				{anyAddr(81), to(ap("10.0.0.2:8080"))}}, "80-10.0.0.2:8080,81-10.0.0.2:8080"},
		{"IPv4-mapped is IPv4", "[::ffff:10.0.0.1]:80-10.0.0.2:80",
			[]Mapping{{ap("10.0.0.1:80"), to(ap("10.0.0.2:80"))}}, "10.0.0.1:80-10.0.0.2:80"},
		{"target on this host", "80-127.0.0.1:8080",
			[]Mapping{{anyAddr(80), to(ap("127.0.0.1:8080"))}}, ""},
		{"several targets", "80-10.0.0.2:8080|10.0.0.3:8080 | [fd00::2]:80",
			[]Mapping{{anyAddr(80), to(ap("10.0.0.2:8080"), ap("10.0.0.3:8080"),
				ap("[fd00::2]:80"))}},
			"80-10.0.0.2:8080|10.0.0.3:8080|[fd00::2]:80"},
		{"weights", "80-10.0.0.2:8080*3|10.0.0.3:8080",
			[]Mapping{{anyAddr(80), []Target{{ap("10.0.0.2:8080"), 3}, {ap("10.0.0.3:8080"), 1}}}},
			""},
		{"the same port elsewhere", "80-10.0.0.2:80",
			[]Mapping{{anyAddr(80), to(ap("10.0.0.2:80"))}}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Parse(tc.in)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(got, tc.want, equal) {
				t.Fatalf("got %v, want %v", got, tc.want)
			}
			var words []string
			for _, m := range got {
				words = append(words, m.String())
			}
			want := tc.printed
			if want == "" {
				want = tc.in
			}
			if s := strings.Join(words, ","); s != want {
				t.Errorf("printed as %q, want %q", s, want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ name, in, want string }{
		{"empty", "", `"" has no "-", want [IP:]PORT-TARGET:PORT`},
		{"port alone", "80", `"80" has no "-"`},
		{"trailing comma", "80-10.0.0.2:80,", `"" has no "-"`},
		{"no target address", "80-8080",
			`target "8080" in "80-8080" has no address, want targetIP:targetPort, ` +
				`such as 127.0.0.1:8080`},
		{"no target port", "80-10.0.0.2", `target "10.0.0.2" is not ADDRESS:PORT in "80-10.0.0.2"`},
		{"no target", "80-", `target "" is not ADDRESS:PORT`},
		{"no production port", "-10.0.0.2:80", `production "" is not ADDRESS:PORT`},
		{"production address without a port", "10.0.0.1-10.0.0.2:80",
			`production "10.0.0.1" is not ADDRESS:PORT`},
		{"production port 0", "0-10.0.0.2:80",
			`production port "0" is not a port number, want 1 to 65535`},
		{"production port too large", "65536-10.0.0.2:80", `production port "65536"`},
		{"target port too large", "80-10.0.0.2:65536", `port "65536" is not a port number`},
		{"target port 0", "80-10.0.0.2:0", `port "0" is not a port number`},
		{"target port missing after colon", "80-10.0.0.2:", `port "" is not a port number`},
		{"port in words", "http-10.0.0.2:80", `production "http" is not ADDRESS:PORT`},
		{"names", "80-test.example.com:80", `names are not looked up`},
		{"IPv6 without brackets", "80-fd00::2:8080", `want [ADDRESS]:PORT`},
		{"open bracket", "80-[fd00::2:8080", `is not [ADDRESS]:PORT`},
		{"brackets around IPv4", "80-[10.0.0.2]:8080", `brackets, which are for IPv6`},
		{"zone", "80-[fe80::2%eth0]:8080", `has a zone`},
		{"multicast", "80-224.0.0.1:80", `multicast or broadcast`},
		{"broadcast", "80-255.255.255.255:80", `multicast or broadcast`},
		{"unspecified target", "80-0.0.0.0:80", `is not the address of a host`},
		{"to itself", "10.0.0.1:80-10.0.0.1:80", `copies a server's traffic to itself`},
		{"twice", "80-10.0.0.2:80,80-10.0.0.2:80", `"80-10.0.0.2:80" occurs twice`},
		{"two targets", "80-10.0.0.2:80,443-10.0.0.2:443,0.0.0.0:80-10.0.0.3:80",
			`"80-10.0.0.2:80" and "80-10.0.0.3:80" are for the same traffic`},
		{"two targets of a named address", "10.0.0.1:80-10.0.0.2:80,10.0.0.1:80-10.0.0.3:80",
			`are for the same traffic`},
		{"a target twice", "80-10.0.0.2:80|10.0.0.2:80*2",
			`target 10.0.0.2:80 in "80-10.0.0.2:80|10.0.0.2:80*2" occurs twice`},
		{"an empty target", "80-10.0.0.2:80|", `target "" is not ADDRESS:PORT`},
		{"weight 0", "80-10.0.0.2:80*0",
			`weight "0" of target 10.0.0.2:80 in "80-10.0.0.2:80*0" is not a weight, ` +
				`want 1 to 1000`},
		{"weight too large", "80-10.0.0.2:80*1001", `want 1 to 1000`},
		{"no weight", "80-10.0.0.2:80*", `weight "" of`},
		{"one of several to itself", "10.0.0.1:80-10.0.0.2:80|10.0.0.1:80",
			`copies a server's traffic to itself`},
		{"two dashes", "80-10.0.0.2:80-81", `"10.0.0.2:80-81"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := Parse(tc.in)
			if err == nil {
				t.Fatalf("parsed as %v", got)
			}
			if !strings.HasPrefix(err.Error(), "parse mapping: ") ||
				!strings.Contains(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestLookup(t *testing.T) {
	ms, err := Parse("80-10.0.0.2:8080,10.0.0.1:80-10.0.0.3:80,[fd00::1]:80-[fd00::2]:80," +
		"443-10.0.0.2:443,10.0.0.1:8443-10.0.0.2:443")
	if err != nil {
		t.Fatal(err)
	}
	table, err := NewTable(ms)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		addr string
		want int // -1: none
	}{
		{"10.0.0.1:80", 1},
		{"10.0.0.9:80", 0},
		{"[fd00::1]:80", 2},
		{"[fd00::9]:80", 0},
		{"1.2.3.4:443", 3},
		{"[fd00::1]:443", 3},
		{"10.0.0.1:8443", 4},
		{"10.0.0.2:8443", -1},
		{"10.0.0.1:8080", -1},
		{"10.0.0.1:1", -1},
		{"10.0.0.1:65535", -1},
	} {
		got, ok := table.Lookup(ap(tc.addr))
		if !ok {
			got = -1
		}
		if got != tc.want {
			t.Errorf("%s: got %d, want %d", tc.addr, got, tc.want)
		}
	}
	empty, err := NewTable(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := empty.Lookup(ap("10.0.0.1:80")); ok {
		t.Error("found in an empty table")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("80-10.0.0.2:8080,10.0.0.1:80-[fd00::2]:80")
	f.Add("[::]:1-[::1]:2|10.0.0.1:3*7")
	f.Fuzz(func(t *testing.T, s string) {
		ms, err := Parse(s)
		if err != nil {
			return
		}
		for i, m := range ms {
			again, err := Parse(m.String())
			if err != nil || len(again) != 1 || !equal(again[0], m) {
				t.Fatalf("%q: %q reads back as %v, %v", s, m, again, err)
			}
			table, err := NewTable(ms)
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := table.Lookup(m.Production); m.Named() && (!ok || got != i) {
				t.Fatalf("%q: %v found as %d", s, m, got)
			}
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	ms, err := Parse("80-10.0.0.2:8080,443-10.0.0.2:443,8080-10.0.0.2:8080")
	if err != nil {
		b.Fatal(err)
	}
	table, err := NewTable(ms)
	if err != nil {
		b.Fatal(err)
	}
	a := ap("10.0.0.1:443")
	b.ReportAllocs()
	for b.Loop() {
		table.Lookup(a)
	}
}
