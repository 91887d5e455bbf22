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

// A daemon is the same program run again in a session of its own: forking is not for programs with
// threads. The child speaks to its parent through a pipe until it is ready, so that the parent can print
// what went wrong, and its exit code tells scripts whether the daemon runs.

const (
	detachedEnv = "TCPCOPY_DETACHED"
	parentFD    = 3
)

// attachToParent is the pipe to the parent, where this process is the child; else nil. The child no
// longer ends with the terminal.
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
	// The name under which it was called matters, and so do the arguments as typed.
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
		return coded(exit.ExitCode()) // it has said why
	}
	return fmt.Errorf("the background process ended before it was ready: %v", child.ProcessState)
}
