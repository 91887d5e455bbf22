package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"tcpcopy/internal/way/link/key"
)

// The sets of capabilities that daemons keep, as in /proc/PID/status.
const (
	noCapability = "0000000000000000"
	netRaw       = "0000000000002000"
	netRawAdmin  = "0000000000003000"
	netAdminBind = "0000000000001400" // CAP_NET_BIND_SERVICE, too
)

// confinedTo waits until the kernel says that a daemon has these capabilities only, that its system
// calls are filtered, and that it gains nothing by running programs.
func (p *process) confinedTo(capabilities string) {
	p.t.Helper()
	want := []string{"CapPrm:\t" + capabilities, "CapEff:\t" + capabilities, "NoNewPrivs:\t1",
		"Seccomp:\t2"}
	has := func() (status string, all bool) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
		if err != nil {
			p.t.Fatal(err)
		}
		all = true
		for _, line := range want {
			all = all && strings.Contains(string(b), line+"\n")
		}
		return string(b), all
	}
	if !within(patience/6, func() bool { _, all := has(); return all }) {
		status, _ := has()
		p.t.Errorf("%s: want %q in\n%s", p.name, want, status)
	}
}

// TestPrivileges reads what the kernel lets each daemon do once everything is open, and has them
// copy, take other keys and end with that.
func TestPrivileges(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ way, copier, intercept string }{
		{socket, netRaw, ""}, {raw, netRawAdmin, netRaw},
		{tunnel, noCapability, netAdminBind},
	} {
		t.Run(tc.way, func(t *testing.T) {
			s := newStand(t, setting{way: tc.way})
			p := s.pair()
			var i *process
			args := []string{"--via", tc.way}
			switch tc.way {
			case raw:
				i = s.intercept(interceptPort, "-F", "tcp and src port 8080")
			case tunnel:
				i = s.onTarget("--allow", "8080")
			}
			if i != nil {
				i.confinedTo(tc.intercept)
			}
			c := s.copyPair(args...)
			c.confinedTo(tc.copier)
			s.talk(productionPort, "confined", 20, 5)
			p.caughtUp(t)
			c.end()
			p.expectSame(t)
			if i != nil && i.stop(syscall.SIGTERM) != 0 {
				t.Error("the intercept did not end in order")
			}
		})
	}
	t.Run("those that capture", func(t *testing.T) {
		s := newStand(t, setting{way: socket})
		s.pair()
		for _, args := range [][]string{
			{"record", "-x", "80", "-o", s.file("record.pcapng"), "--rotate", "1s"},
			{"capture", "-x", "80", "--to", s.assistant.String(), "--key", s.key()},
		} {
			p := start(t, s.net.Production, args[0], binary, args...)
			p.awaitOutput("tcpcopy: ready")
			p.confinedTo(noCapability)
			s.talk(productionPort, args[0], 5, 5)
			if code := p.stop(syscall.SIGTERM); code != 0 {
				t.Errorf("%s ended with exit code %d", args[0], code)
			}
		}
		recorded, err := filepath.Glob(s.file("record-*.pcapng"))
		if err != nil || len(recorded) == 0 {
			t.Fatalf("recorded %q, %v", recorded, err)
		}
		args := append([]string{"replay"}, recorded...)
		p := start(t, s.net.Production, "replay", binary, append(args, "-x",
			s.mapping(productionPort, targetPort), "--loop", "forever")...)
		p.awaitOutput("tcpcopy: ready")
		p.confinedTo(netRaw)
		p.stop(syscall.SIGTERM)
	})
}

// TestKeyRing has copiers with keys of their own use an intercept on the target, and takes a key
// away from one of them, without a restart.
func TestKeyRing(t *testing.T) {
	t.Parallel()
	s := newStand(t, setting{way: tunnel})
	p := s.pair()
	keys := s.file("keys")
	if err := os.Mkdir(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile(s.key())
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(keys, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("team", string(own)+"ports 8080\nmay open\n")
	write("other", key.Generate())
	i := start(t, s.net.Target, "intercept", binary, "intercept", "--on-target", "--allow", "any",
		"--keys", keys, "-p", fmt.Sprint(interceptPort))
	i.awaitOutput("tcpcopy: ready")
	s.intercepts = append(s.intercepts, netip.AddrPortFrom(s.target, interceptPort))
	c := s.copyPair("--stats", "50ms")
	i.awaitOutput("key=team")
	s.talk(productionPort, "with a key", 10, 5)
	p.caughtUp(t)

	write("team", string(own)+"ports 9\nmay open\n")
	i.signal(syscall.SIGHUP)
	i.awaitOutput("reloaded: changed team")
	s.talk(productionPort, "for another port", 10, 5)
	eventually(t, "the copier is told", func() bool {
		r := c.progress()
		return r != nil && r.Sessions.Dropped["target_forbidden"] == 10
	})

	if err := os.Remove(filepath.Join(keys, "team")); err != nil {
		t.Fatal(err)
	}
	i.signal(syscall.SIGHUP)
	i.awaitOutput("removed team")
	c.awaitOutput("holds another key")
	if code := i.stop(syscall.SIGTERM); code != 0 {
		t.Errorf("the intercept ended with exit code %d", code)
	}
	c.stop(syscall.SIGINT)
}
