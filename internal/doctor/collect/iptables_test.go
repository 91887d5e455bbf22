package collect

import (
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/nftables"

	"tcpcopy/internal/doctor"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/test/testnet"
)

// run runs a command with sbin in its path. Without the program the test is skipped.
func run(t *testing.T, line string) {
	t.Helper()
	words := strings.Fields(line)
	path, err := exec.LookPath(words[0])
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + words[0])
	}
	if err != nil {
		t.Skip(err)
	}
	if out, err := exec.Command(path, words[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", line, err, out)
	}
}

var (
	toServer = probe{
		src: netip.MustParseAddr("192.0.2.1"), dst: netip.MustParseAddr("10.0.0.2"), sport: 40000,
		dport: 8080, in: "eth0", state: stateNew,
	}
	toServer6 = probe{
		src: netip.MustParseAddr("2001:db8::1"), dst: netip.MustParseAddr("fd00::2"), sport: 40000,
		dport: 8080, in: "eth0", state: stateNew, v6: true,
	}
	fromServer = probe{
		src: netip.MustParseAddr("10.0.0.2"), dst: netip.MustParseAddr("192.0.2.1"), sport: 8080,
		out: "eth0", state: stateEstablished, answer: true,
	}
	fromRaw = probe{
		dst: netip.MustParseAddr("10.0.0.2"), dport: 8080, out: "eth0", state: stateUntracked,
	}
)

// TestIPTables checks what is made of rules of iptables, of both kinds: those kept in nftables, and
// those of its own tables.
func TestIPTables(t *testing.T) {
	const usual = "-A INPUT -i lo -j ACCEPT; -A INPUT -m state --state ESTABLISHED,RELATED " +
		"-j ACCEPT; -A INPUT -p icmp -j ACCEPT; -A INPUT -p tcp --dport 22 -j ACCEPT; " +
		"-A INPUT -j REJECT --reject-with icmp-host-prohibited"
	for _, c := range []struct {
		name, rules string
		probe       probe
		hooks       []*nftables.ChainHook
		want        string
		number      uint64 // of the rule, in its own tables
	}{
		{"no rules", "-P INPUT ACCEPT", toServer, inHooks, "accept", 0},
		{"port", "-A INPUT -p tcp --dport 8080 -j DROP", toServer, inHooks, "drop", 1},
		{"another port", "-A INPUT -p tcp --dport 81 -j DROP", toServer, inHooks, "accept", 0},
		{"not a port", "-A INPUT -p tcp ! --dport 22 -j DROP", toServer, inHooks, "drop", 1},
		{"range", "-A INPUT -p tcp --dport 8000:8100 -j DROP", toServer, inHooks, "drop", 1},
		{"UDP", "-A INPUT -p udp --dport 8080 -j DROP", toServer, inHooks, "accept", 0},
		{"the usual firewall", usual, toServer, inHooks, "reject", 5},
		{"its answers", usual, fromServer, outHooks, "accept", 0},
		{"policy", "-P INPUT DROP; -A INPUT -p tcp --dport 22 -j ACCEPT", toServer, inHooks,
			"drop", 0},
		{"network", "-A INPUT -s 192.0.2.0/24 -j DROP", toServer, inHooks, "drop", 1},
		{"odd network", "-A INPUT -s 192.0.0.0/21 -j DROP", toServer, inHooks, "drop", 1},
		{"not a network", "-A INPUT ! -s 10.0.0.0/8 -j DROP", toServer, inHooks, "drop", 1},
		{"another destination", "-A INPUT -d 10.0.0.3 -j DROP", toServer, inHooks, "accept", 0},
		{"interface", "-A INPUT -i eth0 -j DROP", toServer, inHooks, "drop", 1},
		{"interfaces by prefix", "-A INPUT -i eth+ -j DROP", toServer, inHooks, "drop", 1},
		{"not an interface", "-A INPUT ! -i eth0 -j DROP", toServer, inHooks, "accept", 0},
		{"ports", "-A INPUT -p tcp -m multiport --dports 22,8000:8100 -j DROP", toServer, inHooks,
			"drop", 1},
		{"other ports", "-A INPUT -p tcp -m multiport --dports 22,80 -j DROP", toServer, inHooks,
			"accept", 0},
		{"new connections", "-A INPUT -m conntrack --ctstate NEW -j DROP", toServer, inHooks,
			"drop", 1},
		{"not established", "-A INPUT -m conntrack ! --ctstate ESTABLISHED -j DROP", toServer,
			inHooks, "drop", 1},
		{"invalid", "-A INPUT -m conntrack --ctstate INVALID -j DROP", toServer, inHooks,
			"accept", 0},
		{"raw behind a stateful rule", "-P OUTPUT DROP; -A OUTPUT -m conntrack --ctstate " +
			"NEW,ESTABLISHED -j ACCEPT", fromRaw, outHooks, "drop", 0},
		{"untracked", "-P OUTPUT DROP; -A OUTPUT -m conntrack --ctstate UNTRACKED -j ACCEPT",
			fromRaw, outHooks, "accept", 0},
		{"answers", "-A OUTPUT -p tcp --sport 8080 -j DROP", fromServer, outHooks, "drop", 1},
		{"a SYN", "-A INPUT -p tcp --syn -j DROP", toServer, inHooks, "drop", 1},
		{"no SYN", "-A OUTPUT -p tcp --syn -j DROP", fromServer, outHooks, "accept", 0},
		{"fragments", "-A INPUT -f -j DROP", toServer, inHooks, "accept", 0},
		{"a chain", "-N other; -A INPUT -p icmp -j ACCEPT; -A INPUT -j other; " +
			"-A other -p tcp --dport 22 -j RETURN; -A other -p tcp -j DROP", toServer, inHooks,
			"drop", 2},
		{"a chain that returns", "-N other; -A INPUT -j other; -A other -j RETURN; " +
			"-A other -j DROP", toServer, inHooks, "accept", 0},
		{"a comment", "-A INPUT -m comment --comment closed -j DROP", toServer, inHooks, "drop", 1},
		{"the table mangle", "-t mangle -A PREROUTING -p tcp --dport 8080 -j DROP", toServer,
			inHooks, "drop", 1},
		{"what is not read", "-A INPUT -m limit --limit 1/s -j ACCEPT; -A INPUT -j DROP", toServer,
			inHooks, "unknown", 0},
	} {
		for _, command := range []string{"iptables-legacy", "iptables-nft"} {
			t.Run(command+"/"+c.name, func(t *testing.T) {
				testnet.Enter(t)
				for _, r := range strings.Split(c.rules, "; ") {
					run(t, command+" -w "+r)
				}
				s := readRules()
				if s.err != "" {
					t.Fatal(s.err)
				}
				f := s.judge(&c.probe, &ruleset{}, c.hooks...)
				if f.action != c.want {
					t.Fatalf("%s (%s), want %s", f.action, f.why, c.want)
				}
				if f.action == "drop" && command == "iptables-legacy" && (f.handle != c.number ||
					!strings.HasPrefix(f.chain.words(), command+" -t ")) {
					t.Errorf("rule %d of %s, want %d", f.handle, f.chain.words(), c.number)
				}
			})
		}
	}
}

// TestIPTablesAccepting checks that the command which is printed lets the packets pass.
func TestIPTablesAccepting(t *testing.T) {
	for _, c := range []struct {
		command, rules string
		probe          probe
	}{
		{"iptables-legacy", "-A INPUT -p icmp -j ACCEPT; -A INPUT -j DROP", toServer},
		{"iptables-legacy", "-P INPUT DROP; -A INPUT -p icmp -j ACCEPT", toServer},
		{"ip6tables-legacy", "-A INPUT -s 2001:db8::/32 -p tcp -m multiport --dports 8080 " +
			"-j DROP", toServer6},
		{"iptables-nft", "-A INPUT -p icmp -j ACCEPT; -A INPUT -j DROP", toServer},
	} {
		t.Run(c.command+"/"+c.rules, func(t *testing.T) {
			testnet.Enter(t)
			for _, r := range strings.Split(c.rules, "; ") {
				run(t, c.command+" -w "+r)
			}
			s := readRules()
			f := s.judge(&c.probe, &ruleset{}, inHooks...)
			if f.action != "drop" {
				t.Fatalf("%+v %s, want a drop", f, s.err)
			}
			run(t, f.chain.accepting(&packetWords{port: 8080}, f.handle))
			s = readRules()
			if f := s.judge(&c.probe, &ruleset{}, inHooks...); f.action != "accept" {
				t.Errorf("%+v %s, want accept", f, s.err)
			}
		})
	}
}

// TestUsualFirewall checks that the firewall which distributions install is understood where no
// client is known, as on an intercept's host: what is accepted on loopback is not what comes in.
func TestUsualFirewall(t *testing.T) {
	testnet.Enter(t)
	for _, r := range []string{"-i lo -j ACCEPT", "-p tcp --dport 22 -j ACCEPT", "-j DROP"} {
		run(t, "iptables-legacy -w -A INPUT "+r)
	}
	lo, up := doctor.Interface{Name: "lo", Up: true, Loopback: true},
		func(name string) doctor.Interface { return doctor.Interface{Name: name, Up: true} }
	for _, c := range []struct {
		name       string
		interfaces []doctor.Interface
		want       string
	}{
		{"one", []doctor.Interface{lo, up("eth0")}, "drop"},
		{"one that is up", []doctor.Interface{lo, up("eth0"), {Name: "eth1"}}, "drop"},
		{"two", []doctor.Interface{lo, up("eth0"), up("eth1")}, "unknown"},
	} {
		facts := &doctor.Facts{Interfaces: c.interfaces}
		s := collector{Subject: &Subject{Listens: []uint16{36524}}, facts: facts}
		s.verdicts()
		if len(facts.Firewall) != 1 || facts.Firewall[0].Action != c.want {
			t.Errorf("%s: %+v, want %s", c.name, facts.Firewall, c.want)
		}
	}
}

// TestLegacyCounts checks that the counter of a rule is known.
func TestLegacyCounts(t *testing.T) {
	testnet.Enter(t)
	run(t, "iptables-legacy -w -A INPUT -p tcp --dport 8080 -j DROP -c 7 700")
	s := readRules()
	f := s.judge(&toServer, &ruleset{}, inHooks...)
	if n := s.count(f.chain, f.handle); f.action != "drop" || n != 7 {
		t.Errorf("%+v has counted %d packets, want a drop, 7", f, n)
	}
}

// TestRulesText checks that a bug report has the rules of both kinds.
func TestRulesText(t *testing.T) {
	testnet.Enter(t)
	load(t, "table ip t { chain kept { tcp dport 8080 drop; }; }")
	run(t, "iptables-legacy -w -A INPUT -p tcp --dport 8081 -j DROP")
	run(t, "ip6tables-legacy -w -A INPUT -p tcp --dport 8082 -j DROP")
	text := rulesText()
	for _, part := range []string{"tcp dport 8080 drop", "--dport 8081", "--dport 8082"} {
		if !strings.Contains(text, part) {
			t.Errorf("no %q in\n%s", part, text)
		}
	}
}

// FuzzLegacyChains checks that no table makes the reader panic.
func FuzzLegacyChains(f *testing.F) {
	rule := make([]byte, layout4.end+extensionHeader+8)
	rule[layout4.target], rule[layout4.target+2] = byte(layout4.end), byte(len(rule))
	f.Add(rule, uint32(2), uint32(0), false)
	f.Add(append(rule, rule...), uint32(2), uint32(len(rule)), false)
	f.Fuzz(func(t *testing.T, b []byte, hooks, end uint32, v6 bool) {
		table := &sys.IPTable{Hooks: hooks, Entries: b}
		table.Underflow[1] = end
		chains, err := legacyChains("filter", "iptables", v6, table)
		if err != nil {
			return
		}
		s := ruleset{chains: chains}
		s.judge(&toServer, &ruleset{}, inHooks...)
	})
}
