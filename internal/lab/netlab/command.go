package netlab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
)

// Cmd is an exec.Cmd that starts inside a namespace. Of the methods that start a process only the
// ones defined here do so; a Cmd must be started and waited for through them.
type Cmd struct {
	*exec.Cmd
	ns *Namespace
}

// Command prepares a process that will run inside the namespace. When ctx ends it is killed; it is
// killed too when the lab closes or this process dies. A terminal's interrupt does not reach it.
func (n *Namespace) Command(ctx context.Context, name string, args ...string) *Cmd {
	c := exec.CommandContext(ctx, name, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	return &Cmd{Cmd: c, ns: n}
}

// Start starts the process and does not wait for it.
func (c *Cmd) Start() error {
	n := c.ns
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return fmt.Errorf("start %s: network namespace %s is closed", c.Path, n.Name)
	}
	var failed error
	n.starter.do(func() { failed = c.Cmd.Start() })
	if failed == nil {
		n.running[c] = struct{}{}
	}
	return failed
}

// Wait waits for the process to end and all its output to be copied.
func (c *Cmd) Wait() error {
	err := c.Cmd.Wait()
	c.ns.mu.Lock()
	delete(c.ns.running, c)
	c.ns.mu.Unlock()
	return err
}

// Kill ends the process, and all that it has started and that stayed in its group: a server's
// workers would outlive it. A process that has ended is none to end.
func (c *Cmd) Kill() {
	if c.Process != nil {
		syscall.Kill(-c.Process.Pid, syscall.SIGKILL) // fails only where the group has ended
	}
}

// Run starts the process and waits for it.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// CombinedOutput runs the process and returns what it wrote to stdout and stderr.
func (c *Cmd) CombinedOutput() ([]byte, error) {
	if c.Stdout != nil || c.Stderr != nil {
		return nil, errors.New("run " + c.Path + ": output is already set")
	}
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.Bytes(), err
}

// Output runs the process and returns what it wrote to stdout.
func (c *Cmd) Output() ([]byte, error) {
	if c.Stdout != nil {
		return nil, errors.New("run " + c.Path + ": output is already set")
	}
	var out bytes.Buffer
	c.Stdout = &out
	err := c.Run()
	return out.Bytes(), err
}
