package app

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
)

// A daemon is the same program, started again in its own session, because a program with threads
// cannot fork. Until the child is ready, it writes to its parent through a pipe, and the parent
// prints that. So the parent's exit code says whether the daemon runs.

const (
	detachedEnv = "TCPCOPY_DETACHED"
	parentFD    = 3
)

// attachToParent returns the pipe to the parent, or nil if this process is not a daemon. A daemon
// ignores the hang-up of its terminal.
func attachToParent() *os.File {
	if os.Getenv(detachedEnv) == "" {
		return nil
	}
	os.Unsetenv(detachedEnv)
	signal.Ignore(syscall.SIGHUP)
	syscall.CloseOnExec(parentFD)
	return os.NewFile(parentFD, "parent")
}

// detach starts the child and waits until it is ready or has ended.
func (p *program) detach() error {
	path, err := os.Executable()
	if err != nil {
		return fmt.Errorf("go to the background: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("go to the background: %w", err)
	}
	defer r.Close()
	// The child needs the program's name and the arguments as typed.
	child := &exec.Cmd{
		Path: path, Args: os.Args, Env: append(os.Environ(), detachedEnv+"=1"),
		ExtraFiles:  []*os.File{w},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err = child.Start()
	w.Close()
	if err != nil {
		return fmt.Errorf("go to the background: %w", err)
	}
	ready := false
	for lines := bufio.NewScanner(r); lines.Scan(); {
		ready = ready || strings.HasPrefix(lines.Text(), "tcpcopy: ready")
		fmt.Fprintln(p.err, lines.Text())
	}
	if ready {
		return child.Process.Release()
	}
	err = child.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return exitCode(exit.ExitCode()) // the child has printed the error
	}
	return fmt.Errorf("the background process ended before it was ready: %v", child.ProcessState)
}
