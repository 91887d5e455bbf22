package localroute

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"tcpcopy/internal/sys"
	"tcpcopy/internal/test/testnet"
)

// TestWithoutIPv6: a host where IPv6 is switched off, as in most containers, is prepared for IPv4.
func TestWithoutIPv6(t *testing.T) {
	for _, name := range []string{"all", "lo"} {
		t.Run(name, func(t *testing.T) {
			host(t)
			if err := writeSysctl("net.ipv6.conf."+name+".disable_ipv6", "1"); err != nil {
				t.Fatal(err)
			}
			server(t, "tcp4", "10.77.2.2:8080")
			before := state(t)
			h, err := Stand(Config{Ports: []uint16{8080}, Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			if _, mark, err := h.Way(netip.MustParseAddrPort("10.77.2.2:8080")); err != nil ||
				mark == 0 {
				t.Errorf("way: mark %#x, %v", mark, err)
			}
			if err := h.Leave(); err != nil {
				t.Fatal(err)
			}
			if after := state(t); after != before {
				t.Errorf("after\n%s\nbefore\n%s", after, before)
			}
		})
	}
}

// TestRedirectedToLoopback: where others' packets may be sent to 127.0.0.1, their answers would
// be kept here by a rule about it. There is none but where a user wants it so, and then that is
// said.
func TestRedirectedToLoopback(t *testing.T) {
	for _, tc := range []struct {
		name, listen, value string
		reach               Reach
		rule, marked        bool
		warnings            int
	}{
		{"all addresses", ":8080", "1", Least, false, false, 0},
		{"another loopback address alone", "127.0.0.53:8080", "0", Least, false, false, 0},
		{"loopback alone, no redirects", "127.0.0.1:8080", "0", Least, true, false, 0},
		{"loopback alone", "127.0.0.1:8080", "1", Least, false, true, 0},
		{"loopback alone, by loopback only", "127.0.0.1:8080", "1", LoopbackOnly, true, false, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host(t)
			if err := writeSysctl("net.ipv4.conf.lo.route_localnet", tc.value); err != nil {
				t.Fatal(err)
			}
			server(t, "tcp", tc.listen)
			p, err := Draft(Config{Ports: []uint16{8080}, Loopback: []uint16{8080},
				Reach: tc.reach})
			if err != nil {
				t.Fatal(err)
			}
			if rule := slices.Contains(p.loopbacks(),
				netip.MustParseAddr("127.0.0.1")); rule != tc.rule || p.Marked != tc.marked {
				t.Errorf("a rule about 127.0.0.1: %v, marked %v; want %v, %v\n%s", rule, p.Marked,
					tc.rule, tc.marked, p.String())
			}
			if n := strings.Count(strings.Join(p.Warnings, "\n"),
				"net.ipv4.conf.lo.route_localnet"); n != tc.warnings {
				t.Errorf("%d warnings about it, want %d: %q", n, tc.warnings, p.Warnings)
			}
		})
	}
}

// TestServersOnLoopback: those that come up later on a loopback address alone are reached, each
// by a rule of its own, up to a bound.
func TestServersOnLoopback(t *testing.T) {
	host(t)
	before := state(t)
	h, err := Stand(Config{Dir: t.TempDir(), Loopback: []uint16{8080}})
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for i := range maxLoopbacks + 5 {
		at := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 3, byte(i)}), 8080)
		dest, mark, err := h.Way(at)
		if err != nil {
			refused++
			continue
		}
		if dest != at || mark != 0 || !strings.Contains(state(t), "from "+at.Addr().String()+" ") {
			t.Errorf("%s: by way of %s with mark %#x", at, dest, mark)
		}
	}
	if had := 2; refused != 5+had {
		t.Errorf("%d refused, want %d", refused, 5+had)
	}
	if err := h.Leave(); err != nil {
		t.Fatal(err)
	}
	if after := state(t); after != before {
		t.Errorf("after\n%s\nbefore\n%s", after, before)
	}
}

// TestWithoutTheRight: what is missing is named, once, and nothing is noted that was not done.
func TestWithoutTheRight(t *testing.T) {
	host(t)
	dir := t.TempDir()
	testnet.DropCapabilities(t)
	_, err := Stand(Config{Ports: []uint16{8080}, Dir: dir})
	var missing *sys.CapabilityError
	if !errors.As(err, &missing) || missing.Need != sys.CapNetAdmin ||
		strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v, want one line about %s", err, sys.CapNetAdmin)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%v is left, %v", left, err)
	}
}

// TestLateMarkFails: a mark variant that cannot be set up leaves nothing, and is tried again later.
func TestLateMarkFails(t *testing.T) {
	host(t)
	before := state(t)
	cfg := Config{Ports: []uint16{8080}, Dir: t.TempDir()}
	h, err := Stand(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stands := state(t)
	server(t, "tcp", "10.77.2.2:8080")
	mend := readOnly(t, sysctlPath(reflect6), "0\n") // the third change, and then come the rules
	journaled := len(h.journal.Changes)
	target := netip.MustParseAddrPort("10.77.2.2:8080")
	for range 20 {
		if _, _, err := h.Way(target); err == nil {
			t.Fatal("there is a way")
		}
	}
	mend()
	if n := len(h.journal.Changes); n > journaled {
		t.Errorf("%d changes in the journal, had %d", n, journaled)
	}
	for _, name := range []string{tcpAccept, reflect4, reflect6} {
		if v, _ := readSysctl(name); v != "0" {
			t.Errorf("%s is left at %s", name, v)
		}
	}
	if now := state(t); now != stands {
		t.Errorf("now\n%s\nafter Stand\n%s", now, stands)
	}
	h.markTried = h.markTried.Add(-markEvery)
	if _, mark, err := h.Way(target); err != nil || mark == 0 {
		t.Errorf("tried again: mark %#x, %v", mark, err)
	}
	if err := h.Leave(); err != nil {
		t.Fatal(err)
	}
	if after := state(t); after != before {
		t.Errorf("after\n%s\nbefore\n%s", after, before)
	}
}

// readOnly makes a file read as text, and refuse to be written, for this thread, until what it
// returns is called.
func readOnly(t *testing.T, path, text string) (mend func()) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		t.Skipf("no mount namespace of our own: %v", err)
	}
	for _, m := range []struct {
		from, to string
		flags    uintptr
	}{
		{"none", "/", syscall.MS_REC | syscall.MS_PRIVATE},
		{file, path, syscall.MS_BIND},
		{"none", path, syscall.MS_BIND | syscall.MS_REMOUNT | syscall.MS_RDONLY},
	} {
		if err := syscall.Mount(m.from, m.to, "", m.flags, ""); err != nil {
			t.Fatalf("mount on %s: %v", m.to, err)
		}
	}
	return func() {
		if err := syscall.Unmount(path, 0); err != nil {
			t.Error(err)
		}
	}
}

// TestJournalOfNobody: what cannot be read is not taken for nothing to do.
func TestJournalOfNobody(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func([]byte) []byte
	}{
		{"empty", func([]byte) []byte { return nil }},
		{"cut", func(b []byte) []byte { return b[:len(b)/2] }},
		{"foreign", func([]byte) []byte { return []byte("#!/bin/sh\nrm -rf /\n") }},
		{"unknown change", func(b []byte) []byte {
			return []byte(strings.Replace(string(b), `"rule"`, `"firewall"`, 1))
		}},
		{"foreign sysctl", func(b []byte) []byte {
			return []byte(strings.Replace(string(b), `"net.ipv4.fwmark_reflect"`,
				`"kernel.core_pattern"`, 1))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			host(t)
			before := state(t)
			dir := t.TempDir()
			cfg := Config{Ports: []uint16{8080}, Dir: dir, Reach: MarkOnly}
			h, err := Stand(cfg)
			if err != nil {
				t.Fatal(err)
			}
			path := h.journal.path
			good, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, tc.spoil(good), 0o600); err != nil {
				t.Fatal(err)
			}
			h.journal.lock.Close()
			for _, f := range []func() error{
				func() error { _, err := Stand(cfg); return err },
				func() error { _, err := Cleanup(cfg); return err },
			} {
				if err := f(); err == nil || !strings.Contains(err.Error(), filepath.Base(path)) ||
					strings.Contains(err.Error(), "\n") {
					t.Errorf("error %v, want one line that names the journal", err)
				}
			}
			if err := os.WriteFile(path, good, 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := Cleanup(cfg); err != nil {
				t.Fatal(err)
			}
			if after := state(t); after != before {
				t.Errorf("after\n%s\nbefore\n%s", after, before)
			}
		})
	}
}

// TestJournalOfAnotherNamespace: the kernel gives a namespace's number to a later one; what a run
// has left in the first is not looked for in the second.
func TestJournalOfAnotherNamespace(t *testing.T) {
	host(t)
	cfg := Config{Ports: []uint16{8080}, Dir: t.TempDir(), Reach: MarkOnly}
	h, err := Stand(cfg)
	if err != nil {
		t.Fatal(err)
	}
	path := h.journal.path
	old, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Leave(); err != nil {
		t.Fatal(err)
	}
	host(t) // another one; and its owner wants the sysctl so
	if err := writeSysctl(tcpAccept, "1"); err != nil {
		t.Fatal(err)
	}
	inode, err := namespaceInode()
	if err != nil {
		t.Fatal(err)
	}
	of := func(n uint64) string { return fmt.Sprintf(`"Namespace": %d,`, n) }
	renamed := strings.Replace(string(old), of(h.journal.Namespace), of(inode), 1)
	if renamed == string(old) {
		t.Fatalf("no namespace in %s", old)
	}
	if err := os.WriteFile(filepath.Join(cfg.Dir, fmt.Sprintf("target-%d", inode)), []byte(renamed),
		0o600); err != nil {
		t.Fatal(err)
	}
	if done, err := Cleanup(cfg); err != nil || len(done) != 0 {
		t.Errorf("cleanup: %q, %v", done, err)
	}
	if v, _ := readSysctl(tcpAccept); v != "1" {
		t.Errorf("%s is %s now", tcpAccept, v)
	}
}
