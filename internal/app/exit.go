package app

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"

	"tcpcopy/internal/config"
	"tcpcopy/internal/sys"
)

// The exit codes.
const (
	exitOK        = 0
	exitFailure   = 1
	exitBadInput  = 2
	exitPrivilege = 3
)

// exitCode is an error that asks for this exit code and prints nothing: its message is printed
// already, or there is none.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// remedied is an error that has a remedy: a command, or words that name one.
type remedied interface{ Command() string }

// withRemedy adds a remedy to an error.
type withRemedy struct {
	err    error
	remedy string
}

func (r *withRemedy) Error() string   { return r.err.Error() }
func (r *withRemedy) Unwrap() error   { return r.err }
func (r *withRemedy) Command() string { return r.remedy }

// output is standard output, with the first error of writing to it. A reader that closes its end,
// such as head, is no error.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if err != nil && o.err == nil && !errors.Is(err, syscall.EPIPE) {
		o.err = err
	}
	return n, err
}

// fail prints err as one line, with its hint, and returns the exit code.
func fail(w io.Writer, err error) int {
	var (
		code    exitCode
		problem *config.Problem
		denied  *sys.CapabilityError
		remedy  remedied
	)
	if errors.As(err, &code) {
		return int(code)
	}
	result, hint := exitFailure, ""
	switch {
	case errors.As(err, &problem):
		result, hint = exitBadInput, problem.Hint
	case errors.As(err, &denied):
		result, hint = exitPrivilege, privilegeHint(denied.Need)
	case missingPrivilege(err):
		result = exitPrivilege
	}
	if errors.As(err, &remedy) {
		hint = remedy.Command()
	}
	say(w, "%v", err)
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", oneLine(hint))
	}
	return result
}

// missingPrivilege reports whether the kernel refused something other than a file.
func missingPrivilege(err error) bool {
	var file *fs.PathError
	return errors.Is(err, os.ErrPermission) && !errors.As(err, &file)
}

// privilegeHint returns how to give the program a capability.
func privilegeHint(need sys.Capability) string {
	caps := strings.ToLower(string(need))
	path, err := os.Executable()
	if err != nil {
		path = "tcpcopy"
	}
	return fmt.Sprintf("run it as root, or allow it once: sudo setcap %s+ep %s", caps, path)
}

// say prints one line, with the program's name.
func say(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "tcpcopy: %s\n", oneLine(fmt.Sprintf(format, args...)))
}

// warn prints warnings.
func warn(w io.Writer, warnings []string) {
	for _, s := range warnings {
		say(w, "warning: %s", s)
	}
}

// oneLine replaces line breaks and repeated spaces by single spaces.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
