package collect

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"tcpcopy/internal/doctor"
	"tcpcopy/internal/source/locals"
	"tcpcopy/internal/test/testnet"
)

// load loads rules of nft into the thread's namespace.
func load(t *testing.T, rules string) {
	t.Helper()
	path, err := exec.LookPath("nft")
	if err != nil {
		path = "/usr/sbin/nft"
	}
	c := exec.Command(path, "-f", "-")
	c.Stdin = strings.NewReader(rules)
	if out, err := c.CombinedOutput(); err != nil {
		if _, missing := exec.LookPath(path); missing != nil {
			t.Skip(missing)
		}
		t.Fatalf("nft: %v: %s\n%s", err, out, rules)
	}
}

// TestFirewall checks what is made of rules that the kernel has.
func TestFirewall(t *testing.T) {
	syn := probe{
		src: netip.MustParseAddr("192.0.2.1"), dst: netip.MustParseAddr("10.0.0.2"), sport: 40000,
		dport: 8080, in: "eth0", state: stateNew,
	}
	syn6 := syn
	syn6.src, syn6.dst, syn6.v6 = netip.MustParseAddr("2001:db8::1"),
		netip.MustParseAddr("fd00::2"), true
	strange := syn
	strange.src = netip.Addr{}
	for _, c := range []struct {
		name, rules string
		probe       probe
		want        string
	}{
		{"no rules", "", syn, "accept"},
		{"port", "tcp dport 8080 drop", syn, "drop"},
		{"another port", "tcp dport 8081 drop", syn, "accept"},
		{"counter", "tcp dport 8080 counter drop", syn, "drop"},
		{"range", "tcp dport 8000-8100 drop", syn, "drop"},
		{"not in a range", "tcp dport != 8000-8100 drop", syn, "accept"},
		{"set", "tcp dport { 22, 8080 } drop", syn, "drop"},
		{"not in a set", "tcp dport != { 22, 8080 } drop", syn, "accept"},
		{"intervals", "tcp dport { 22, 8000-8100, 9000-9100 } drop", syn, "drop"},
		{"between intervals", "tcp dport { 22, 8000-8070, 9000-9100 } drop", syn, "accept"},
		{"verdict map", "tcp dport vmap { 22 : accept, 8080 : drop }", syn, "drop"},
		{"network", "ip saddr 192.0.2.0/24 drop", syn, "drop"},
		{"odd network", "ip saddr 192.0.0.0/21 drop", syn, "drop"},
		{"another network", "ip saddr 198.51.100.0/24 drop", syn, "accept"},
		{"IPv6 address", "ip6 saddr 2001:db8::/32 drop", syn6, "drop"},
		{"IPv6 rule, IPv4 packet", "ip6 saddr ::/0 drop", syn, "accept"},
		{"interface", `iifname "eth0" drop`, syn, "drop"},
		{"another interface", `iifname "eth1" drop`, syn, "accept"},
		{"interfaces by prefix", `iifname "eth*" drop`, syn, "drop"},
		{"new connections", "ct state new drop", syn, "drop"},
		{"invalid packets", "ct state invalid drop", syn, "accept"},
		{"accepted first", "tcp dport 8080 accept\ndrop", syn, "accept"},
		{"established first", "ct state established,related accept\ndrop", syn, "drop"},
		{"reject", "tcp dport 8080 reject", syn, "reject"},
		{"reset", "tcp dport 8080 reject with tcp reset", syn, "reject"},
		{"flags", "tcp flags & (syn|ack) == syn drop", syn, "drop"},
		{"UDP", "udp dport 8080 drop", syn, "accept"},
		{"a jump", "jump other\n", syn, "drop"},
		{"a jump that returns", "jump back\ntcp dport 8080 drop", syn, "drop"},
		{"mark", "meta mark 7 drop", syn, "accept"},
		{"a source that is not known", "ip saddr 192.0.2.1 drop", strange, "unknown"},
		{"a drop in any case", "ip saddr 192.0.2.1 drop\ndrop", strange, "drop"},
		{"a source that is accepted", "ip saddr 192.0.2.1 accept\ndrop", strange, "unknown"},
		{"what is not read", "meta cpu 1 drop", syn, "unknown"},
	} {
		t.Run(c.name, func(t *testing.T) {
			testnet.Enter(t) // a subtest runs in a goroutine of its own, which is not in ours
			load(t, `flush ruleset
table inet t {
	chain other { tcp dport 8080 drop; }
	chain back { tcp dport 22 drop; return; }
	chain in { type filter hook input priority 0; `+strings.ReplaceAll(c.rules, "\n", ";\n")+`; }
}`)
			s := readRules()
			if s.err != "" {
				t.Fatal(s.err)
			}
			f := s.judge(&c.probe, &ruleset{}, inHooks...)
			if f.action != c.want {
				t.Errorf("%s (%s), want %s", f.action, f.why, c.want)
			}
			if f.action == "drop" && (f.chain == nil || f.handle == 0) {
				t.Error("the rule is not named")
			}
		})
	}
}

func TestPolicy(t *testing.T) {
	testnet.Enter(t)
	load(t, `table ip t { chain in { type filter hook input priority 0; policy drop;
		tcp dport 22 accept
	}
}`)
	s := readRules()
	f := s.judge(&probe{dport: 8080, state: stateNew}, &ruleset{}, inHooks...)
	if f.action != "drop" || f.handle != 0 || f.chain.words() != "ip t in" {
		t.Errorf("%+v, want a drop by the policy", f)
	}
	if f := s.judge(&probe{dport: 22, state: stateNew}, &ruleset{},
		inHooks...); f.action != "accept" {
		t.Errorf("%+v, want accept", f)
	}
	if f := s.judge(&probe{dport: 8080, v6: true}, &ruleset{}, inHooks...); f.action != "accept" {
		t.Errorf("IPv6: %+v, want accept", f)
	}
}

// TestTranslates checks that a translation is found, also one to which a chain jumps, as Docker's.
func TestTranslates(t *testing.T) {
	for _, c := range []struct {
		name, rules string
		port        uint16
		v6          bool
		want        string // empty: none
	}{
		{"dnat", "tcp dport 8080 dnat to 172.17.0.2:80", 8080, false, "172.17.0.2:80"},
		{"the same port", "tcp dport 8080 dnat to 172.17.0.2", 8080, false, "172.17.0.2:8080"},
		{"another port", "tcp dport 8080 dnat to 172.17.0.2:80", 8081, false, ""},
		{"IPv6", "tcp dport 8080 dnat to 172.17.0.2:80", 8080, true, ""},
		{"redirect", "tcp dport 8080 redirect to :80", 8080, false, "port 80"},
		{"in another chain", "jump other", 8080, false, "172.17.0.2:80"},
		{"of a map", "dnat to tcp dport map { 8080 : 172.17.0.2 }", 8080, false, "not known"},
		{"only counted", "tcp dport 8080 counter", 8080, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			testnet.Enter(t)
			load(t, `table ip t {
	chain other { iifname != "docker0" tcp dport 8080 dnat to 172.17.0.2:80; }
	chain in { type nat hook prerouting priority -100; `+c.rules+`; }
}`)
			s := readRules()
			if got := translated(&s, c.port, c.v6); got != c.want || s.err != "" {
				t.Errorf("%q, want %q; %s", got, c.want, s.err)
			}
		})
	}
}

// TestTranslatesInet checks that a rule for one family translates that alone in a table of both.
func TestTranslatesInet(t *testing.T) {
	testnet.Enter(t)
	load(t, `table inet t { chain in { type nat hook prerouting priority -100;
	fib daddr type local tcp dport 80 dnat ip to 172.17.0.2:81;
	tcp dport 82 dnat ip6 to [fd17::2]:83; tcp dport 84 redirect to :85; }; }`)
	s := readRules()
	for _, c := range []struct {
		port   uint16
		v4, v6 string
	}{
		{80, "172.17.0.2:81", ""}, {82, "", "[fd17::2]:83"}, {84, "port 85", "port 85"},
	} {
		v4, v6 := translated(&s, c.port, false), translated(&s, c.port, true)
		if v4 != c.v4 || v6 != c.v6 {
			t.Errorf("port %d: %q, %q, want %q, %q; %s", c.port, v4, v6, c.v4, c.v6, s.err)
		}
	}
}

// translated returns where connections to a port are passed on to.
func translated(s *ruleset, port uint16, v6 bool) string {
	switch on, ok := s.translates(&probe{dport: port, state: stateNew, v6: v6}); {
	case !ok:
		return ""
	case on.Local:
		return fmt.Sprintf("port %d", on.To.Port())
	case !on.To.IsValid():
		return "not known"
	default:
		return on.To.String()
	}
}

// TestPublished checks that the rules by which Docker publishes a port are understood: where
// packets go, and what a firewall does with them there.
func TestPublished(t *testing.T) {
	client := netip.MustParseAddr("192.0.2.1")
	for _, c := range []struct{ name, pass, want string }{
		{"passed", "-o docker0 -d 172.17.0.2 -p tcp --dport 80 -j ACCEPT", "accept"},
		{"not passed", "-o docker0 -d 172.17.0.2 -p tcp --dport 81 -j ACCEPT", "drop"},
		{"the port before", "-o docker0 -p tcp --dport 8080 -j ACCEPT", "drop"},
	} {
		for _, command := range []string{"iptables-legacy", "iptables-nft"} {
			t.Run(command+"/"+c.name, func(t *testing.T) {
				testnet.Enter(t)
				for _, r := range []string{
					"ip link add docker0 type bridge",
					"ip addr add 172.17.0.1/16 dev docker0", "ip link set docker0 up",
					command + " -w -t nat -N DOCKER",
					command + " -w -t nat -A PREROUTING -d 203.0.113.1 -p tcp --dport 8080 " +
						"-j DNAT --to-destination 203.0.113.2", // not for this host
					command + " -w -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER",
					command + " -w -t nat -A DOCKER ! -i docker0 -p tcp --dport 8080 -j DNAT " +
						"--to-destination 172.17.0.2:80",
					command + " -w -P FORWARD DROP",
					command + " -w -A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED " +
						"-j ACCEPT",
					command + " -w -A FORWARD " + c.pass,
				} {
					run(t, r)
				}
				facts := &doctor.Facts{ReturnRoutes: []doctor.ReturnPath{{
					Client: client, Arrives: "eth0", Route: doctor.Route{Device: "eth0"},
				}}}
				here, err := locals.Watch()
				if err != nil {
					t.Fatal(err)
				}
				defer here.Close()
				s := collector{
					Subject: &Subject{Role: doctor.Target, Ports: []uint16{8080}}, facts: facts,
					here: here,
				}
				s.verdicts()
				want := netip.MustParseAddrPort("172.17.0.2:80")
				if len(facts.PassedOn) != 1 || facts.PassedOn[0].To != want {
					t.Fatalf("%+v, want %s", facts.PassedOn, want)
				}
				got, accept := "accept", ""
				for _, v := range facts.Firewall {
					if v.Action != "accept" {
						got, accept = v.Action, v.Accept
					}
				}
				if got != c.want {
					t.Fatalf("%+v, want %s", facts.Firewall, c.want)
				}
				if got != "drop" {
					return
				}
				run(t, accept)
				facts.Firewall = nil
				s.verdicts()
				for _, v := range facts.Firewall {
					if v.Action != "accept" {
						t.Errorf("after %s: %+v", accept, v)
					}
				}
			})
		}
	}
}
