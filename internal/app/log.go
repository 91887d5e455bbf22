package app

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"tcpcopy/internal/config"
)

// logbook is where log and statistics of a daemon go: its file, or stderr.
type logbook struct {
	*slog.Logger
	w    io.Writer
	file *os.File // nil: stderr

	ready atomic.Bool // everything is open: whoever started it looks at the log from here on
	seen  sequence    // of the states that are shown
}

// openLog opens the log of a daemon. What cannot be written later, to a full disk say, is lost and
// harms nothing.
func openLog(path string, stderr io.Writer) (*logbook, error) {
	l := &logbook{w: stderr}
	if path != "" {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			return nil, &config.Problem{Flag: "-l", Value: path, What: "cannot be opened: " + kernelWords(err)}
		}
		l.w, l.file = &lossy{w: f, path: path, stderr: stderr}, f
	}
	w := l.w
	if l.file != nil {
		w = &beginning{logbook: l, stderr: stderr}
	}
	l.Logger = slog.New(slog.NewTextHandler(w, nil))
	return l, nil
}

// beginning is a log file whose lines go to stderr too until everything is open: what a start waits for
// must not be looked for in a file.
type beginning struct {
	*logbook
	stderr io.Writer
}

func (b *beginning) Write(line []byte) (int, error) {
	if !b.ready.Load() {
		_, _ = b.stderr.Write(line)
	}
	return b.w.Write(line)
}

// lossy is a log file whose disk may fill. That is said once, elsewhere, and again after it has gone well.
type lossy struct {
	mu     sync.Mutex
	w      io.Writer
	path   string
	stderr io.Writer
	failed bool
}

func (l *lossy) Write(b []byte) (int, error) {
	n, err := l.w.Write(b)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil && !l.failed {
		say(l.stderr, "write log %q: %s: what it cannot hold is lost", l.path, kernelWords(err))
	}
	l.failed = err != nil
	return n, err
}

func (l *logbook) close() {
	if l.file != nil {
		l.file.Close()
	}
}

// kernelWords is what the kernel said about a file, without the path.
func kernelWords(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// writePID writes this process's id to path; the function it returns removes the file, if it still says
// so.
func writePID(path string) (remove func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	id := strconv.Itoa(os.Getpid())
	if err := os.WriteFile(path, []byte(id+"\n"), 0o644); err != nil {
		return nil, &config.Problem{Flag: "-P", Value: path, What: "cannot be written: " + kernelWords(err)}
	}
	return func() {
		if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == id {
			os.Remove(path)
		}
	}, nil
}

// statistics says one line of the running account.
func (l *logbook) statistics(line string) { fmt.Fprintf(l.w, "tcpcopy: %s\n", line) }
