package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/lab/netlab"
)

// chatter is clients that talk until they are stopped.
type chatter struct {
	stop  atomic.Bool
	ended chan struct{}
}

// chat starts clients that ask line after line until stopped. What production does is checked, and
// nothing else.
func (s *stand) chat(conns int) *chatter {
	s.t.Helper()
	return s.chatWhile(conns, func() bool { return true })
}

// chatWhile is chat of clients that ask only while may says so.
func (s *stand) chatWhile(conns int, may func() bool) *chatter {
	s.t.Helper()
	ch := &chatter{ended: make(chan struct{})}
	done := make(chan struct{}, conns)
	for i := range conns {
		c := dial(s.t, s.net.Client, netlab.ClientAddr(i%4, s.ipv6),
			netip.AddrPortFrom(s.production, productionPort))
		go func() {
			defer func() { done <- struct{}{} }()
			for n := 0; !ch.stop.Load(); n++ {
				if !may() {
					wait(time.Millisecond)
					continue
				}
				if err := c.ask(fmt.Sprintf("chat %d line %d", i, n)); err != nil {
					s.t.Errorf("client %d: %v", i, err)
					return
				}
			}
			if err := c.finish(); err != nil {
				s.t.Errorf("client %d: %v", i, err)
			}
		}()
	}
	go func() {
		for range conns {
			<-done
		}
		close(ch.ended)
	}()
	s.t.Cleanup(ch.end)
	return ch
}

func (c *chatter) end() {
	c.stop.Store(true)
	<-c.ended
}

// prefixOf checks that the target's connections have said the beginning of what production's have.
// A copy may reach its server before production's has read the same line, so it waits for that.
func prefixOf(t *testing.T, p pair) {
	t.Helper()
	var bad string
	if !within(patience, func() bool { bad = notPrefix(p); return bad == "" }) {
		t.Error(bad)
	}
}

// notPrefix describes a connection whose copy went on otherwise than itself, if there is one.
func notPrefix(p pair) string {
	production := map[string]string{}
	for _, text := range p.production.said() {
		first, _, _ := strings.Cut(text, "|")
		production[first] = text
	}
	for _, text := range p.target.said() {
		first, _, _ := strings.Cut(text, "|")
		if said := production[first]; !strings.HasPrefix(said, text) {
			same := 0
			for same < min(len(said), len(text)) && said[same] == text[same] {
				same++
			}
			return fmt.Sprintf("a connection that began with %q went on at the target, after %d "+
				"bytes, with %.100q, and at production with %.100q", first, same, text[same:],
				said[same:])
		}
	}
	return ""
}

func TestInterrupt(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way string) {
		for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
			t.Run(sig.String(), func(t *testing.T) {
				s := newStand(t, setting{way: way})
				p := s.pair()
				c := s.copyPair()
				// Clients and production are one process here, which does ten thousand lines while
				// the copier waits for a processor that others use: more than may be left to drain,
				// and another thing to test.
				const ahead = 2000
				ch := s.chatWhile(20,
					func() bool { return p.production.lineCount() < p.target.lineCount()+ahead })
				eventually(t, "lines reach the target",
					func() bool { return p.target.lineCount() > 1000 })
				if code := c.stop(sig); code != 0 {
					t.Errorf("exit code %d, wanted 0", code)
				}
				ch.end()
				r := c.account()
				eventually(t, "connections at the target are gone", func() bool {
					p.target.mu.Lock()
					defer p.target.mu.Unlock()
					return len(p.target.open) == 0
				})
				prefixOf(t, p)
				opened, _, bytes := p.target.counts()
				expectComplete(t, r, opened, bytes)
				if opened != 20 {
					t.Errorf("%d connections at the target, wanted 20", opened)
				}
			})
		}
	})
}

// TestSecondInterrupt interrupts a copier twice. The target answers nothing, so that the first
// interrupt alone waits for the drain time.
func TestSecondInterrupt(t *testing.T) {
	eachWay(t, func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		s.serve(s.net.Production, productionPort)
		silent, err := s.net.Target.Listen("tcp", fmt.Sprintf(":%d", targetPort))
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
		c := s.copyPair("--drain", "10m", "--stats",
			"100ms")
		s.talk(productionPort, "hello", 5, 3)
		c.signal(syscall.SIGINT)
		c.awaitOutput("stopping")
		c.signal(syscall.SIGINT)
		if code := c.wait(); code != 1 {
			t.Errorf("exit code %d, wanted 1", code)
		}
		r := c.account()
		if r.Sessions.Captured != 5 || r.Sessions.Dropped["shutdown"] != 5 {
			t.Errorf("sessions %+v, wanted 5 that the end of the copier dropped", r.Sessions)
		}
	})
}

// acceptQueue is how many connections wait to be accepted, at the start of each line of ss.
var acceptQueue = regexp.MustCompile(`(?m)^\d+ +`)

// hostState is what a copier could leave behind on a host.
func hostState(t *testing.T, host *netlab.Namespace) string {
	t.Helper()
	var all strings.Builder
	for _, ask := range [][]string{
		{"ip", "rule"}, {"ip", "-6", "rule"},
		{"ip", "route", "show", "table", "all"}, {"ip", "-6", "route", "show", "table", "all"},
		{"ip", "-o", "link"}, {"nft", "list", "ruleset"},
		{"ss", "-H", "-tan", "state", "listening"},
		{"sysctl", "-a", "-r",
			"net.ipv4.(ip_forward|conf.*rp_filter|tcp_fwmark_accept|fwmark_reflect)"},
	} {
		cmd := host.Command(t.Context(), find(t, ask[0]), ask[1:]...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", ask, err, out)
		}
		if ask[0] == "ss" {
			out = acceptQueue.ReplaceAll(out, nil)
		}
		fmt.Fprintf(&all, "%s\n%s", strings.Join(ask, " "), out)
	}
	return all.String()
}

// expectLeft checks that a host is as it was before a process that has ended. What belongs to a
// process goes with it, but not in the same instant.
func expectLeft(t *testing.T, host *netlab.Namespace, before string) {
	t.Helper()
	var after string
	within(patience/6, func() bool {
		after = hostState(t, host)
		return after == before
	})
	if d := cmp.Diff(before, after); d != "" {
		t.Errorf("%s is not as it was (-before +after): %s", host.Name, d)
	}
}

func TestKilledCopierLeavesNothing(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		p := s.pair()
		s.copyArgs("") // starts the intercept
		before := hostState(t, s.net.Production)
		report := filepath.Join(s.dir, "report.json")
		c := s.copyPair("--report", report, "--stats", "200ms")
		ch := s.chat(20)
		eventually(t, "lines reach the target", func() bool { return p.target.lineCount() > 200 })
		// Not while a report is written: until it is complete it has another name.
		written := func() time.Time {
			fi, err := os.Stat(report)
			if err != nil {
				return time.Time{}
			}
			return fi.ModTime()
		}
		last := written()
		eventually(t, "another report", func() bool { return !written().Equal(last) })
		c.kill()
		ch.end()
		expectLeft(t, s.net.Production, before)
		left, err := filepath.Glob(filepath.Join(s.dir, ".*"))
		if err != nil || len(left) > 0 {
			t.Errorf("files are left: %q %v", left, err)
		}
		if way == socket {
			eventually(t, "the kernel closes the copies", func() bool {
				p.target.mu.Lock()
				defer p.target.mu.Unlock()
				return len(p.target.open) == 0
			})
		}
		prefixOf(t, p)

		// Another copier works at once, whatever the first has left at the target.
		again := s.copyPair()
		s.talk(productionPort, "again", 10, 10)
		opened, _, _ := p.target.counts()
		r := again.end()
		if r.Sessions.Captured != 10 || r.Sessions.Delivered != 10 {
			t.Errorf("the next copier's sessions %+v, wanted 10 delivered; %d connections at "+
				"the target", r.Sessions, opened)
		}
		if n := strings.Count(strings.Join(p.target.said(), "\n"), "again"); n != 100 {
			t.Errorf("%d lines of the next copier at the target, wanted 100", n)
		}
	})
}

// TestFullDisk checks that a copier goes on if its report or its log cannot be written.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way string) {
		for _, test := range []struct {
			name     string
			args     func(full, other string) []string
			code     int
			complain bool // on stderr
		}{
			{"report", func(full, _ string) []string {
				return []string{"--report",
					full + "/report.json"}
			}, 1, true},
			{"log", func(full, other string) []string {
				return []string{"--report", other + "/report.json", "-l", full + "/log"}
			}, 0, false},
			{"both", func(full, _ string) []string {
				return []string{"--report", full + "/report.json", "-l", full + "/log"}
			}, 1, false},
		} {
			t.Run(test.name, func(t *testing.T) {
				s := newStand(t, setting{way: way})
				p := s.pair()
				full := filepath.Join(s.dir, "full")
				if err := os.Mkdir(full, 0o755); err != nil {
					t.Fatal(err)
				}
				// A mount of its own goes with the process. The disk is full but for a little: the
				// copier begins.
				script := `mount -t tmpfs -o size=64k tmpfs "$1" || exit 90
					shift
					exec "$@"`
				args := append(s.copyArgs(s.file("unused")), "-x", s.mapping(productionPort,
					targetPort), "--stats", "10ms")
				args = append(args, test.args(full, s.dir)...)
				c := start(t, s.net.Production, "copy", find(t, "unshare"),
					append([]string{"--mount", "--propagation", "private", "sh", "-c", script, "sh",
						full, binary}, args...)...)
				c.awaitOutput("tcpcopy: ready")
				root := fmt.Sprintf("/proc/%d/root%s", c.cmd.Process.Pid, full)
				// as much as fits
				os.WriteFile(filepath.Join(root, "ballast"), make([]byte, 64<<10), 0o600)
				eventually(t, "the disk is full", func() bool { return freeBlocks(t, root) == 0 })
				s.talk(productionPort, "full", 20, 20)
				p.caughtUp(t)
				if code := c.stop(syscall.SIGINT); code != test.code {
					t.Errorf("exit code %d, wanted %d", code, test.code)
				}
				p.expectSame(t)
				out := c.output()
				if !strings.Contains(out, "account   balances") || test.complain &&
					!strings.Contains(out, "no space left on device") {
					t.Errorf("the copier says %q, wanted its account, and that there is no "+
						"space %v", out, test.complain)
				}
			})
		}
	})
}

// freeBlocks is how many blocks a file system has free.
func freeBlocks(t *testing.T, path string) uint64 {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Bavail
}
