package filter

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
)

func TestParseRefuses(t *testing.T) {
	for _, tc := range []struct{ name, expr, want string }{
		{"a word of pcap's that is not in the subset", "less 100",
			`"less" is not supported; supported are: host`},
		{"ether", "ether host 00:11:22:33:44:55", `"ether" is not supported`},
		{"bytes", "tcp[13] & 2 != 0", `"tcp[13]" is not supported`},
		{"bytes after a term", "port 80 and tcp[tcpflags] = 2", `"tcp[tcpflags]" is not supported`},
		{"broadcast", "ip broadcast", `"broadcast" is not supported`},
		{"gateway", "gateway 10.0.0.1", `"gateway" is not supported`},
		{"upper case", "TCP", `"TCP" is not supported`},
		{"a host name", "host example.com", `"example.com" is not an address`},
		{"a service name", "port http", `"http" is not a port number, want 0 to 65535`},
		{"a protocol name", "proto ospf", `"ospf" is not a protocol number, want 0 to 255`},
		{"a number alone", "80", `"80" stands alone, want a word before it, such as port 80`},
		{"a number after tcp", "tcp or 80", `"80" stands alone`},
		{"a number after parentheses", "(port 80) or 81", `"81" stands alone`},
		{"an address alone", "10.0.0.1",
			`"10.0.0.1" stands alone, want a word before it, such as host 10.0.0.1`},
		{"port too large", "port 65536", `"65536" is not a port number`},
		{"negative", "port -1", `"-1" is not a port number`},
		{"octal", "port 010", `"010" is not a port number`},
		{"hexadecimal", "port 0x50", `"0x50" is not a port number`},
		{"portrange", "portrange 80-x", `"x" is not a port number`},
		{"portrange without an end", "portrange 80-", `"" is not a port number`},
		{"protocol too large", "proto 256", `"256" is not a protocol number`},
		{"VLAN too large", "vlan 4096", `"4096" is not a VLAN ID, want 0 to 4095`},
		{"port of ip", "ip port 80",
			`"ip" before "port" has no meaning, want tcp, udp, sctp or nothing`},
		{"host of tcp", "tcp host 10.0.0.1", `"tcp" before "host" has no meaning`},
		{"src of tcp", "tcp src 10.0.0.1", `"tcp" before "host" has no meaning`},
		{"proto with direction", "src proto 6", `"src" or "dst" before "proto"`},
		{"proto of tcp", "tcp proto 6", `"tcp" before "proto"`},
		{"IPv6 address after ip", "ip host fd00::1", `"ip" before the address "fd00::1"`},
		{"IPv4 address after ip6", "ip6 host 10.0.0.1", `"ip6" before the address "10.0.0.1"`},
		{"host with a mask", "host 10.0.0.0/8", `"/" after "10.0.0.0": want net`},
		{"bits outside of the mask", "net 10.0.0.1/8",
			`"10.0.0.1/8" has bits set outside of its mask, want 10.0.0.0/8`},
		{"bits outside, IPv6", "net fd00::1/64", `want fd00::/64`},
		{"bits outside of a written mask", "net 10.0.0.1 mask 255.0.0.0",
			`"10.0.0.1" has bits set outside`},
		{"prefix too long", "net 10.0.0.0/33", `"33" is not a prefix length, want 0 to 32`},
		{"no prefix", "net 10.0.0.0/", `"" is not a prefix length`},
		{"bad mask", "net 10.0.0.0 mask 255", `mask "255" for the net "10.0.0.0"`},
		{"IPv6 mask", "net fd00:: mask ffff::", `mask "ffff::"`},
		{"too many octets", "net 1.2.3.4.5", `"1.2.3.4.5" is not an address`},
		{"part of an address after host", "host 10.1", `"10.1" is not an address`},
		{"zone", "host fe80::1%eth0", `"fe80::1%eth0" is not an address`},
		{"direction twice", "src dst port 80", `"dst" is not expected here`},
		{"qualifier in parentheses after one", "tcp port (80 or portrange 81-82)",
			`"portrange" is not expected here, want an address or number`},
		{"ends after port", "port", `ends where an address or number`},
		{"ends after and", "tcp and", `ends where a term`},
		{"ends after not", "not", `ends where a term`},
		{"open parenthesis", "(tcp", `ends where ) should follow`},
		{"closing parenthesis", "tcp)", `")" is not expected here, want and, or, or the end`},
		{"nothing in parentheses", "()", `")" is not expected here`},
		{"two terms", "tcp port 80 port 81", `"port" is not expected here, want and, or`},
		{"one sign", "tcp & udp", `"&" is not expected here`},
		{"starts with and", "and tcp", `"and" is not expected here`},
		{"too deep", strings.Repeat("(", 70) + "tcp" + strings.Repeat(")", 70),
			"nest deeper than 64"},
		{"too many nots", strings.Repeat("not ", 70) + "tcp", "nest deeper than 64"},
		{"too long", strings.Repeat("x", maxExprLen+1), "want at most 16384"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e, err := Parse(tc.expr)
			if err == nil {
				t.Fatalf("%q parsed as %v", tc.expr, e)
			}
			if !strings.HasPrefix(err.Error(), "parse filter: ") ||
				!strings.Contains(err.Error(), tc.want) {
				t.Errorf("got  %v\nwant %s", err, tc.want)
			}
		})
	}
}

func TestString(t *testing.T) {
	for _, tc := range []struct{ expr, want string }{
		{"", ""},
		{"tcp port 80 or 81", "tcp port 80 or tcp port 81"},
		{"port 80 or 81 and tcp", "(port 80 or port 81) and tcp"},
		{"not (tcp or udp) && vlan 5||vlan", "(not (tcp or udp) and vlan 5) or vlan"},
		{"src or dst host 10.0.0.1", "host 10.0.0.1"},
		{"dst and src net 10.1", "src and dst net 10.1.0.0/16"},
		{"net 10.0.0.0 mask 255.0.255.0", "net 10.0.0.0 mask 255.0.255.0"},
		{"ip6 proto 6 or icmp or icmp6 or sctp", "ip6 proto 6 or icmp or icmp6 or sctp"},
		{"portrange 90-80 and ip and ip6", "portrange 80-90 and ip and ip6"},
	} {
		e, err := Parse(tc.expr)
		if err != nil {
			t.Errorf("%q: %v", tc.expr, err)
			continue
		}
		if got := e.String(); got != tc.want {
			t.Errorf("%q: got %q, want %q", tc.expr, got, tc.want)
		}
	}
}

func TestOptions(t *testing.T) {
	p, err := Compile("tcp", Options{ExcludeMark: 7, ExcludeOutgoing: true, AcceptLen: 30})
	if err != nil {
		t.Fatal(err)
	}
	b := ip4("10.0.0.1", "10.0.0.2", 6, 0, 0, transport(1, 2))
	for _, tc := range []struct {
		name string
		meta Meta
		want int
	}{
		{"in", Meta{}, 30},
		{"out", Meta{Outgoing: true}, 0},
		{"marked", Meta{Mark: 7}, 0},
		{"marked by others", Meta{Mark: 8}, 30},
		{"of another Ethernet type", Meta{EtherType: 0x806}, 0},
	} {
		if got := p.Match(b, &tc.meta); got != tc.want {
			t.Errorf("%s: got %d, want %d", tc.name, got, tc.want)
		}
	}
}

func TestShortPacketsAreRefused(t *testing.T) {
	p, err := Compile("not port 80", Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := ip4("10.0.0.1", "10.0.0.2", 6, 0, 0, transport(1, 2))
	for n := range 24 {
		if got := p.Match(b[:n], &Meta{EtherType: etherIPv4}); got != 0 {
			t.Errorf("%d bytes: kept %d", n, got)
		}
	}
}

// TestLongJumps compiles programs whose jumps are too far for a conditional jump.
func TestLongJumps(t *testing.T) {
	for _, tc := range []struct {
		op    string
		terms int
	}{{"or", 30}, {"and not", 30}, {"or", 120}, {"and not", 120}} {
		t.Run(fmt.Sprint(tc.op, " ", tc.terms), func(t *testing.T) {
			parts := make([]string, tc.terms)
			for i := range parts {
				parts[i] = fmt.Sprintf("port %d", 1000+i)
			}
			p, err := Compile("not ("+strings.Join(parts, " or ")+")", Options{})
			if tc.op == "or" {
				p, err = Compile(strings.Join(parts, " or "), Options{})
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := bpf.NewVM(mustDisassemble(t, withoutExtensions(p))); err != nil {
				t.Fatal(err)
			}
			for _, port := range []int{999, 1000, 1001, 1000 + tc.terms/2, 1000 + tc.terms - 1,
				1000 + tc.terms} {
				in := port >= 1000 && port < 1000+tc.terms
				for _, b := range [][]byte{
					ip4("10.0.0.1", "10.0.0.2", 6, 0, 0, transport(1, uint16(port))),
					ip6("fd00::1", "fd00::2", 17, transport(uint16(port), 1)),
				} {
					if got := p.Match(b, &Meta{}) > 0; got != (in == (tc.op == "or")) {
						t.Errorf("port %d: got %v", port, got)
					}
				}
			}
		})
	}
}

func withoutExtensions(p Program) []bpf.RawInstruction {
	raw := append(Program(nil), p...)
	for i := range raw {
		if raw[i].Op == opLdWAbs && raw[i].K >= extBase {
			raw[i] = bpf.RawInstruction{Op: opLdImm}
		}
	}
	return raw
}

func mustDisassemble(t testing.TB, raw []bpf.RawInstruction) []bpf.Instruction {
	t.Helper()
	ops, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("unknown instructions")
	}
	return ops
}

func TestTooManyInstructions(t *testing.T) {
	_, err := Compile("host fd00::1"+strings.Repeat(" or fd00::2", 300), Options{})
	if err == nil || !strings.Contains(err.Error(), "want at most 4096") {
		t.Errorf("got %v", err)
	}
}

func TestCombine(t *testing.T) {
	e, err := Parse("host 10.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	p, err := CompileExpr(And{e, Not{Ports{First: 22, Last: 22}}, And{}}, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for port, want := range map[uint16]bool{80: true, 22: false} {
		if got := p.Match(ip4("10.0.0.1", "10.0.0.2", 6, 0, 0, transport(1, port)),
			&Meta{}) > 0; got != want {
			t.Errorf("port %d: got %v", port, got)
		}
	}
	if p, err = CompileExpr(Or{}, Options{}); err != nil ||
		p.Match(ip4("10.0.0.1", "10.0.0.2", 6, 0, 0, transport(1, 2)), &Meta{}) != 0 {
		t.Errorf("an Or of nothing matches: %v", err)
	}
}

// FuzzCompile checks that no expression causes a panic or an endless program, and that a printed
// expression has the same meaning.
func FuzzCompile(f *testing.F) {
	for _, e := range oracleExprs {
		f.Add(e)
	}
	f.Add("vlan 5 and net 10.0.0.0 mask 255.0.255.0 or (not port (80 or 81))")
	packets := craft()
	f.Fuzz(func(t *testing.T, s string) {
		e, err := Parse(s)
		if err != nil {
			return
		}
		p, err := CompileExpr(e, Options{ExcludeMark: 1})
		if err != nil {
			return
		}
		if len(p) > MaxInstructions {
			t.Fatalf("%d instructions", len(p))
		}
		if _, err := bpf.NewVM(mustDisassemble(t, withoutExtensions(p))); err != nil {
			t.Fatal(err)
		}
		again, err := Parse(e.String())
		if err != nil {
			t.Fatalf("%q was printed as %q: %v", s, e, err)
		}
		q, err := CompileExpr(again, Options{ExcludeMark: 1})
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(packets); i += 17 {
			if a, b := p.Match(packets[i].b, &packets[i].meta),
				q.Match(packets[i].b, &packets[i].meta); a != b {
				t.Fatalf("%q and %q differ on %s: %d, %d", s, e, packets[i].name, a, b)
			}
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	p, err := Capture(CaptureSpec{Ports: []uint16{80, 443, 8080}, ExcludeMark: 1})
	if err != nil {
		b.Fatal(err)
	}
	pkt := ip4("10.0.0.1", "10.0.0.2", 6, 0, 0, transport(1234, 443))
	m := &Meta{}
	b.ReportAllocs()
	for b.Loop() {
		if p.Match(pkt, m) == 0 {
			b.Fatal("refused")
		}
	}
}

func TestWhole(t *testing.T) {
	whole, err := Parse("src port 1")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Compile("tcp", Options{AcceptLen: 30, Whole: whole})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name     string
		proto    byte
		from, to uint16
		want     int
	}{
		{"whole", 6, 1, 2, len(ip4("10.0.0.1", "10.0.0.2", 6, 0, 0, transport(1, 2)))},
		{"its beginning", 6, 2, 1, 30},
		{"not at all", 17, 1, 2, 0},
	} {
		if got := p.Match(ip4("10.0.0.1", "10.0.0.2", tc.proto, 0, 0, transport(tc.from, tc.to)),
			&Meta{}); got != tc.want {
			t.Errorf("%s: kept %d, want %d", tc.name, got, tc.want)
		}
	}
}
