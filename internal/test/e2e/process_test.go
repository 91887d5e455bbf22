package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// patience is how long a test waits for what must come. What does come, comes much sooner.
const patience = 30 * time.Second

// eventually waits until so holds; the test ends if it does not in time.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	if !within(patience, so) {
		t.Fatalf("waited %v in vain for: %s", patience, what)
	}
}

// within waits until so holds, or for d.
func within(d time.Duration, so func() bool) bool {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(d); time.Now().Before(end); <-look.C {
		if so() {
			return true
		}
	}
	return so()
}

// process is a command that runs on a host of the net. It ends with the test at the latest.
type process struct {
	t     testing.TB
	name  string
	cmd   *netlab.Cmd
	log   string // path of what it writes on stdout and stderr
	ended chan struct{}
	err   error // of Wait; once ended
}

// start starts a command on a host. A test that fails shows what it wrote.
func start(t testing.TB, host *netlab.Namespace, name, path string, args ...string) *process {
	t.Helper()
	log, err := os.CreateTemp(t.TempDir(), name+"-*.log")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p := &process{t: t, name: name, log: log.Name(), ended: make(chan struct{})}
	p.cmd = host.Command(context.Background(), path, args...)
	p.cmd.Dir = filepath.Dir(log.Name())
	// A file, not a pipe: a server's children would keep the pipe open after it.
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%s$ %s %s\n%s", host.Name, name, strings.Join(args, " "), shortened(p.output()))
		}
	})
	return p
}

// output is what the command has written so far.
func (p *process) output() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// shortened leaves the statistics on the way out, and keeps the end.
func shortened(output string) string {
	var lines []string
	for line := range strings.Lines(output) {
		if !strings.HasPrefix(line, "tcpcopy: sessions ") {
			lines = append(lines, line)
		}
	}
	const most = 40
	return strings.Join(lines[max(0, len(lines)-most):], "")
}

func (p *process) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// awaitOutput waits until the command has written the text; the test ends if it ends without.
func (p *process) awaitOutput(text string) {
	p.t.Helper()
	eventually(p.t, p.name+" says "+text, func() bool {
		if strings.Contains(p.output(), text) {
			return true
		}
		if p.hasEnded() {
			p.t.Fatalf("%s ended (%v) and did not say %q:\n%s", p.name, p.cmd.ProcessState, text,
				p.output())
		}
		return false
	})
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	// One that has just ended by itself has an exit code that tells.
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("signal %s: %v", p.name, err)
	}
}

// wait waits for the command's end and returns its exit code.
func (p *process) wait() int {
	p.t.Helper()
	eventually(p.t, p.name+" ends", p.hasEnded)
	if exit := (*exec.ExitError)(nil); p.err != nil && !errors.As(p.err, &exit) {
		p.t.Fatalf("wait for %s: %v", p.name, p.err)
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop tells the command to end as a service manager does, and returns its exit code.
func (p *process) stop(s syscall.Signal) int {
	p.t.Helper()
	if !p.hasEnded() {
		p.signal(s)
	}
	return p.wait()
}

// kill ends the command whatever it does.
func (p *process) kill() {
	if !p.hasEnded() {
		p.cmd.Kill()
		<-p.ended
	}
}

// sockets counts the names that shortPath has given.
var sockets atomic.Int64

// shortPath returns the name of a file that does not exist, short enough for a Unix socket.
func shortPath(t testing.TB) string {
	path := fmt.Sprintf("%s/tcpcopy-e2e-%d-%d.sock", os.TempDir(), os.Getpid(), sockets.Add(1))
	t.Cleanup(func() { os.Remove(path) })
	return path
}

// find is the path of a program that the tests need; the test is skipped where it is not installed.
func find(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path = "/usr/sbin/" + name
		if _, err := os.Stat(path); err != nil {
			t.Skipf("%s is not installed", name)
		}
	}
	return path
}
