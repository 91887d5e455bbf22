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

	"tcpcopy/internal/lab/netlab"
)

// process is a command that runs on a host. It is killed when the test ends.
type process struct {
	t     testing.TB
	name  string
	cmd   *netlab.Cmd
	log   string // path of what it writes on stdout and stderr
	ended chan struct{}
	err   error // of Wait; once ended
}

// start starts a command on a host. If the test fails, the output of the command is logged.
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

// output returns what the command has written so far.
func (p *process) output() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// shortened returns the last lines of an output, without the lines of --stats.
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

// awaitOutput waits until the command has written the text, and ends the test if the command ends
// before.
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

// stop sends a signal to the command, waits for its end and returns its exit code.
func (p *process) stop(s syscall.Signal) int {
	p.t.Helper()
	if !p.hasEnded() {
		p.signal(s)
	}
	return p.wait()
}

// kill kills the command and waits for its end.
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

// find returns the path of a program. It skips the test if the program is not installed.
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
