package e2e

import (
	"strings"
	"testing"

	"tcpcopy/internal/lab/netlab"
)

// TestRefusals checks that invalid settings are refused at start, with an exit code and a message
// that says what to do.
func TestRefusals(t *testing.T) {
	s := newStand(t, setting{way: raw})
	without := func(capability string, args ...string) []string {
		return append([]string{find(t, "setpriv"), "--bounding-set", "-" + capability, "--inh-caps",
			"-" + capability, binary}, args...)
	}
	few := s.file("few.yaml")
	writeFile(t, few, []byte("mappings:\n  - map: 80-10.77.2.2:8080\n    copies: 10000\n"))
	set(t, s.net.Production, "ipv4/ip_local_port_range", "20000 20039")
	const copies = `-n "10000": wanted a number from 1 to 1023, such as 3 or 2.5`
	for _, test := range []struct {
		name    string
		command []string
		code    int
		says    []string
	}{
		{"ten thousand copies", []string{binary, "copy", "-x", "80-10.77.2.2:8080", "-n", "10000"},
			2, []string{copies}},
		{"ten thousand copies by raw", []string{binary, "copy", "-x", "80-10.77.2.2:8080", "-s",
			"10.77.2.3", "--key", s.key(), "-n", "10000"}, 2, []string{copies}},
		{"ten thousand copies by tunnel", []string{binary, "copy", "-x", "80-10.77.2.2:8080",
			"--via", "tunnel", "-s", "10.77.2.2", "--key", s.key(), "-n", "10000"}, 2,
			[]string{copies}},
		{"ten thousand copies, in TCPCopy's words", []string{binary, "-x", "80-10.77.2.2:8080",
			"-n", "10000"}, 2, []string{copies}},
		{"ten thousand copies in a file", []string{binary, "copy", "--config", few}, 2,
			[]string{few + `:3:5: copies "10000": wanted a number from 1 to 1023, ` +
				`such as 3 or 2.5`}},
		{"more copies than ports", []string{binary, "copy", "-x", "80-10.77.2.2:8080", "-n", "50"},
			2, []string{`-n "50": `, "wanted 40 at most", "hint:", "ip_local_port_range"}},
		{"more copies than ports of a pool", []string{binary, "copy", "-x", "80-10.77.2.2:8080",
			"--bind", "10.77.2.1,10.77.1.1", "-n", "81"}, 2, []string{`-n "81": `,
			"wanted 80 at most"}},
		{"a pool of the other family", []string{binary, "copy", "-x", "80-10.77.2.2:8080", "--bind",
			netlab.ProductionTest6.String()}, 2, []string{"--bind: ", "wanted some of its family"}},
		{"more copies than sessions", []string{binary, "copy", "-x", "80-10.77.2.2:8080", "-n",
			"30", "--max-sessions", "29"}, 2,
			[]string{`--max-sessions "29": cannot hold the 30 copies`}},
		{"no such interface", []string{binary, "copy", "-x", "80-10.77.2.2:8080", "-i", "eth7"}, 2,
			[]string{`"eth7"`}},
		{"one of the interfaces is missing", []string{binary, "copy", "-x", "80-10.77.2.2:8080",
			"-i", "eth0,eth7"}, 2, []string{`"eth7"`}},
		{"copy without CAP_NET_RAW", without("net_raw", "copy", "-x", "80-10.77.2.2:8080"), 3,
			[]string{"CAP_NET_RAW", "hint:"}},
		{"raw without CAP_NET_RAW", without("net_raw", "copy", "-x", "80-10.77.2.2:8080", "-s",
			"10.77.2.3", "--key", s.key()), 3, []string{"CAP_NET_RAW", "hint:"}},
		{"intercept without CAP_NET_RAW", without("net_raw", "intercept", "-i", "eth0", "-F",
			"tcp and src port 8080", "--key", s.key()), 3, []string{"CAP_NET_RAW", "hint:"}},
		{"intercept, no such interface", []string{binary, "intercept", "-i", "eth7", "-F",
			"tcp and src port 8080", "--key", s.key()}, 2, []string{`"eth7"`}},
		{"report in no directory", []string{binary, "copy", "-x", "80-10.77.2.2:8080", "--report",
			"/nowhere/report.json"}, 2, []string{"/nowhere/report.json"}},
		{"key that is none", []string{binary, "copy", "-x", "80-10.77.2.2:8080", "-s", "10.77.2.3",
			"--key", "/dev/null"}, 2, []string{"/dev/null"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := start(t, s.net.Production, "tcpcopy", test.command[0], test.command[1:]...)
			code, out := p.wait(), p.output()
			if code != test.code {
				t.Errorf("exit code %d, wanted %d; it says %q", code, test.code, out)
			}
			for _, word := range test.says {
				if !strings.Contains(out, word) {
					t.Errorf("it says %q, wanted a word of %q", out, word)
				}
			}
			if n := strings.Count(out, "\n"); n != 1 &&
				(n != 2 || !strings.Contains(out, "hint:")) {
				t.Errorf("it says %d lines, wanted one, or one and a hint: %q", n, out)
			}
		})
	}
}

// TestInterceptRefusesToForward starts an intercept on a host that forwards packets, which would
// pass the target's answers on to clients.
func TestInterceptRefusesToForward(t *testing.T) {
	t.Parallel()
	s := newStand(t, setting{way: raw})
	for _, test := range []struct{ name, sysctl, says string }{
		{"IPv4", "net.ipv4.ip_forward", "ip_forward"},
		{"IPv6", "net.ipv6.conf.all.forwarding", "forwarding"},
	} {
		t.Run(test.name, func(t *testing.T) {
			set := func(value string) {
				t.Helper()
				if out, err := s.net.Assistant.Command(t.Context(), find(t, "sysctl"), "-w",
					test.sysctl+"="+value).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
			}
			set("1")
			defer set("0")
			p := start(t, s.net.Assistant, "intercept", binary, "intercept", "-i", netlab.Device,
				"-F", "tcp and src port 8080", "--key", s.key())
			code, out := p.wait(), p.output()
			if code != 1 && code != 2 || !strings.Contains(out, test.says) || !strings.Contains(out,
				"sysctl -w "+test.sysctl) {
				t.Errorf("exit code %d, and it says %q, wanted it to refuse, and to name the "+
					"sysctl", code, out)
			}
		})
	}
}

// TestLocalAddressesOfClients checks that -c refuses an address that a host on the path has, since
// that host would reset the copies.
func TestLocalAddressesOfClients(t *testing.T) {
	t.Parallel()
	s := newStand(t, setting{way: raw})
	s.intercept(interceptPort, "-F", "tcp and src port 8080")
	for _, test := range []struct{ name, addr string }{
		{"the copier's", netlab.ProductionTest4.String()},
		{"the intercept's", netlab.AssistantAddr4.String()},
		{"the target's", netlab.TargetAddr4.String()},
		{"loopback", "127.0.0.1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := append(s.copyArgs(s.file("report.json")), "-x", s.mapping(productionPort,
				targetPort), "-c", test.addr)
			p := start(t, s.net.Production, "copy", binary, args...)
			if !within(patience/6, p.hasEnded) {
				t.Fatalf("it goes on: %q", p.output())
			}
			if code := p.wait(); code != 1 && code != 2 || !strings.Contains(p.output(),
				test.addr) {
				t.Errorf("exit code %d, and it says %q", code, p.output())
			}
		})
	}
}
