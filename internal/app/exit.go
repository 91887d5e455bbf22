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

// coded is an error that has been printed already, or needs no words, with the exit code it asks for.
type coded int

func (c coded) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

// mendable is an error that knows the command that mends it.
type mendable interface{ Command() string }

// mended is an error with the hint that goes with it.
type mended struct {
	err  error
	hint string
}

func (m *mended) Error() string   { return m.err.Error() }
func (m *mended) Unwrap() error   { return m.err }
func (m *mended) Command() string { return m.hint }

// output is standard output, and what kept it from taking all that was written. A reader that has gone
// away, such as head, wanted no more.
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

// fail prints err as one line, with a hint where there is one, and returns the exit code.
func fail(w io.Writer, err error) int {
	var (
		code    coded
		problem *config.Problem
		denied  *sys.CapabilityError
		mend    mendable
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
	if errors.As(err, &mend) {
		hint = mend.Command()
	}
	say(w, "%v", err)
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", oneLine(hint))
	}
	return result
}

// missingPrivilege says whether the kernel refused something other than a file.
func missingPrivilege(err error) bool {
	var file *fs.PathError
	return errors.Is(err, os.ErrPermission) && !errors.As(err, &file)
}

func privilegeHint(need sys.Capability) string {
	caps := strings.ToLower(string(need))
	path, err := os.Executable()
	if err != nil {
		path = "tcpcopy"
	}
	return fmt.Sprintf("run it as root, or allow it once: sudo setcap %s+ep %s", caps, path)
}

// say prints one line in the program's name.
func say(w io.Writer, format string, args ...any) {
	fmt.Fprintf(w, "tcpcopy: %s\n", oneLine(fmt.Sprintf(format, args...)))
}

func warn(w io.Writer, warnings []string) {
	for _, s := range warnings {
		say(w, "warning: %s", s)
	}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
