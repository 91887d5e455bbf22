package app

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/status"
	"tcpcopy/internal/account/web"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/engine"
)

// fakeNode serves a copier that has captured more with each state, and returns where it answers.
func fakeNode(t *testing.T) string {
	t.Helper()
	var n atomic.Uint64
	start := time.Now()
	addr := filepath.Join(t.TempDir(), "node.sock")
	s, err := status.Listen(addr, web.Access{}, &status.Config{
		Ready: func() bool { return true },
		Node: func() *status.Node {
			s := &export.Snapshot{
				Version: "1.2.3", Via: "socket", Mappings: []string{"80-10.0.0.2:8080"},
				Start: start, Now: time.Now(),
				Targets: []export.TargetState{
					{Target: "10.0.0.2:8080", Shards: 1, Count: ledger.Target{Live: 3}},
				},
			}
			s.Counters.Sessions.Captured = 1000 * n.Add(1)
			node := ownNode(s, export.NewReport(s))
			return &node
		},
		Sessions: func(_ context.Context, q export.SessionQuery) *export.Sessions {
			return &export.Sessions{
				Live: 1, Matched: 1, First: []export.Session{{Client: "192.0.2.9:" + q.Filter}},
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return addr
}

// screen is a terminal that tmux makes.
type screen struct {
	*testing.T
	socket  string
	changed chan struct{} // holds one element if something was written since it was last empty
}

func newScreen(t *testing.T, width, height int, command string) *screen {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("no tmux here")
	}
	s := &screen{t, filepath.Join(t.TempDir(), "tmux"), make(chan struct{}, 1)}
	s.tmux("new-session", "-d", "-x", fmt.Sprint(width), "-y", fmt.Sprint(height), command)
	t.Cleanup(func() { _ = exec.Command("tmux", "-S", s.socket, "kill-server").Run() })
	s.watch()
	return s
}

// watch has a client of tmux, in its control mode, report whenever something is written.
func (s *screen) watch() {
	s.Helper()
	cmd := s.command("-C", "attach-session", "-f", "ignore-size")
	in, err := cmd.StdinPipe() // the client ends with its input
	if err != nil {
		s.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			select {
			case s.changed <- struct{}{}:
			default:
			}
		}
	}()
	s.Cleanup(func() {
		in.Close()
		<-ended
		_ = cmd.Wait()
	})
}

func (s *screen) command(args ...string) *exec.Cmd {
	cmd := exec.Command("tmux", append([]string{"-S", s.socket, "-f", "/dev/null"}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8", "TERM=xterm-256color")
	return cmd
}

func (s *screen) tmux(args ...string) string {
	s.Helper()
	out, err := s.command(args...).CombinedOutput()
	if err != nil {
		s.Fatalf("tmux %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// await waits until the screen shows a text, and returns what it shows.
func (s *screen) await(text string) string {
	s.Helper()
	deadline := time.After(20 * time.Second)
	for {
		shown := s.tmux("capture-pane", "-p")
		if strings.Contains(shown, text) {
			return shown
		}
		select {
		case <-s.changed:
		case <-deadline:
			s.Fatalf("the screen does not show %q:\n%s", text, shown)
		}
	}
}

// programPath returns a path at which a shell finds this program.
func programPath(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tcpcopy")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// The view quits on q and on Ctrl-C, follows the window's size, and leaves the terminal as it was.
func TestTopInATerminal(t *testing.T) {
	node, tcpcopy := fakeNode(t), programPath(t)
	for _, key := range []string{"q", "C-c"} {
		t.Run(key, func(t *testing.T) {
			command := fmt.Sprintf(
				"stty -g > before; echo BEFORE; %s top %s; echo code $?; stty -g > after; "+
					"cmp before after && echo SAME; cat",
				tcpcopy,
				node,
			)
			t.Chdir(t.TempDir())
			s := newScreen(t, 80, 24, command)
			s.await("000 = delivered")
			s.tmux("resize-window", "-x", "200", "-y", "50")
			s.await(strings.Repeat(" ", 20) + "targets") // beside the rest, and not below it
			s.tmux("send-keys", "s")
			s.await("192.0.2.9:")
			s.tmux("send-keys", "/", ":4444", "Enter")
			s.await("192.0.2.9::4444")
			s.tmux("send-keys", "s")
			s.await("000 = delivered")
			s.tmux("send-keys", key)
			shown := s.await("SAME")
			if !strings.Contains(shown, "BEFORE") || !strings.Contains(shown, "code 0") ||
				strings.Contains(shown, "delivered") {
				t.Errorf("the screen is not as it was:\n%s", shown)
			}
		})
	}
}

func TestTopWithoutATerminal(t *testing.T) {
	p, stderr := dry()
	if code := p.run([]string{"tcpcopy", "top", fakeNode(t)}); code != exitBadInput ||
		!strings.Contains(
			stderr.String(),
			"not a terminal",
		) || !strings.Contains(stderr.String(), "tcpcopy status") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

// --live without a terminal says so, and goes on with lines.
func TestLiveWithoutATerminal(t *testing.T) {
	p, stderr := dry()
	p.copy = func(*engine.Control, *config.Copy, func(*export.Snapshot)) (*export.Snapshot, error) {
		return &export.Snapshot{}, nil
	}
	code := p.run([]string{"tcpcopy", "-x", "80-10.0.0.2:8080", "--status", "off", "--live"})
	if code != exitOK || !strings.Contains(stderr.String(), "not a terminal") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	p, stderr = dry()
	code = p.run([]string{"tcpcopy", "-x", "80-10.0.0.2:8080", "--live", "-d"})
	if code != exitBadInput || !strings.Contains(stderr.String(), "--live") {
		t.Errorf("in the background: exit code %d\n%s", code, stderr)
	}
}

// A node beyond this host is asked with its token, over TLS.
func TestAskWithAToken(t *testing.T) {
	workplace(t)
	cert, err := web.LoadCertificate("both.pem")
	if err != nil {
		t.Fatal(err)
	}
	s, err := status.Listen(
		"127.0.0.1:0",
		web.Access{Token: "0123456789abcdef", Certificate: cert},
		&status.Config{
			Ready: func() bool { return true },
			Node:  func() *status.Node { return &status.Node{Kind: "copier", Host: "far-away"} },
		},
	)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--token", "token", "--ca", "both.pem"}, exitOK, "far-away"},
		{nil, exitFailure, "HTTPS"},
		{[]string{"--token", "token"}, exitFailure, "certificate"},
		{[]string{"--ca", "both.pem"}, exitBadInput, "--token FILE"},
		{[]string{"--token", "none"}, exitBadInput, "no such file"},
	} {
		p, stderr := dry()
		code := p.run(append([]string{"tcpcopy", "status", s.Addr().String()}, tt.args...))
		if said := stderr.String() + p.out.(*output).w.(*bytes.Buffer).String(); code != tt.code ||
			!strings.Contains(said, tt.says) {
			t.Errorf("%v: exit code %d\n%s", tt.args, code, said)
		}
	}
}

func TestLinesAreKeptWithinBounds(t *testing.T) {
	l := new(lines)
	fmt.Fprint(l, "half a ")
	fmt.Fprintf(l, "line\nanother\nnot yet")
	if got := l.last(); len(got) != 2 || got[0] != "half a line" {
		t.Errorf("%q", got)
	}
	for i := range 3 * maxLines {
		fmt.Fprintf(l, "%d\n", i)
	}
	var b bytes.Buffer
	l.print(&b)
	if n := strings.Count(b.String(), "\n"); n != maxLines {
		t.Errorf("%d lines", n)
	}
}
