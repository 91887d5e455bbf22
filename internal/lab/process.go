package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/lab/netlab"
)

// readyLine begins the line that a command writes to stderr when it is ready.
const readyLine = "tcpcopy: ready"

// How long a command may take until it is ready, and until it has ended after an interrupt.
const (
	readyWithin = 15 * time.Second
	endsWithin  = 20 * time.Second
)

// Process describes a command that has ended, and the resources that it used.
type Process struct {
	Name     string // "copy" or "intercept"
	ExitCode int    // -1: killed
	CPU      time.Duration
	MaxRSS   int64 // bytes, until it was told to end; 0 where it ended before
	Stderr   []string
}

// child is a command of ours that runs inside a namespace.
type child struct {
	name  string
	cmd   *netlab.Cmd
	says  string // the beginning of the line on stderr by which it is ready
	ready chan struct{}
	ended chan struct{} // closed when it has been waited for
	err   error         // of Wait; once ended

	mu   sync.Mutex
	tail []string // of its stderr
}

// mostTail is how many lines of a command's stderr are kept.
const mostTail = 40

// startChild starts the program in the namespace. Its output goes to name.log in dir.
func startChild(ctx context.Context, ns *netlab.Namespace, dir, binary, name, says string,
	args ...string) (*child, error) {
	log, err := os.Create(filepath.Join(dir, name+".log"))
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	c := &child{name: name, says: says, ready: make(chan struct{}), ended: make(chan struct{})}
	c.cmd = ns.Command(ctx, binary, args...)
	c.cmd.Stdout = log
	stderr, err := c.cmd.StderrPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		log.Close()
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		defer close(c.ended)
		c.follow(stderr, log)
		c.err = c.cmd.Wait()
		log.Close()
	}()
	return c, nil
}

// follow reads the command's stderr to its end.
func (c *child) follow(stderr io.Reader, log io.Writer) {
	lines := bufio.NewReader(stderr)
	said := false
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			io.WriteString(log, line)
			c.mu.Lock()
			if len(c.tail) == mostTail {
				c.tail = c.tail[1:]
			}
			c.tail = append(c.tail, strings.TrimRight(line, "\n"))
			c.mu.Unlock()
			if !said && strings.HasPrefix(line, c.says) {
				said = true
				close(c.ready)
			}
		}
		if err != nil {
			return
		}
	}
}

// awaitReady waits for the line that begins with says.
func (c *child) awaitReady(ctx context.Context) error {
	late := time.NewTimer(readyWithin)
	defer late.Stop()
	select {
	case <-c.ready:
		return nil
	case <-c.ended:
		return fmt.Errorf("start %s: it ended (%s) before it was ready%s", c.name,
			c.cmd.ProcessState, c.said())
	case <-late.C:
		return fmt.Errorf("start %s: not ready after %v, wanted a line that begins with %q%s",
			c.name, readyWithin, readyLine, c.said())
	case <-ctx.Done():
		return ctx.Err()
	}
}

// said returns the last lines of the command's stderr, for an error.
func (c *child) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.tail) == 0 {
		return ""
	}
	return "\n  " + strings.Join(c.tail, "\n  ")
}

// hasEnded reports whether the command has ended.
func (c *child) hasEnded() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// stop interrupts the command as a user would and waits until it has ended. If it does not end in
// time it is killed.
func (c *child) stop() Process {
	var memory uint64
	if !c.hasEnded() {
		memory = export.PeakMemory(c.cmd.Process.Pid)
		c.cmd.Process.Signal(syscall.SIGINT)
	}
	late := time.NewTimer(endsWithin)
	defer late.Stop()
	select {
	case <-c.ended:
	case <-late.C:
		c.cmd.Process.Kill()
		<-c.ended
	}
	p := Process{Name: c.name, MaxRSS: int64(memory)}
	c.mu.Lock()
	p.Stderr = append(p.Stderr, c.tail...)
	c.mu.Unlock()
	if exit := (*exec.ExitError)(nil); c.err != nil && !errors.As(c.err, &exit) {
		p.ExitCode = -1
	}
	if state := c.cmd.ProcessState; state != nil {
		p.ExitCode = state.ExitCode()
		p.CPU = state.UserTime() + state.SystemTime()
	}
	return p
}
