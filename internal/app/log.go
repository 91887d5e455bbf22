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

	"tcpcopy/internal/account/status"
	"tcpcopy/internal/config"
)

// logbook is where the log and the statistics of a daemon go: its log file, or stderr.
type logbook struct {
	*slog.Logger
	w    io.Writer
	file *os.File // nil: stderr

	ready atomic.Bool // everything is open; log lines go to the file only
	seen  sequence    // of the states that are shown
	// privileges are those of the process once it has given up the others; nil before.
	privileges atomic.Pointer[status.Privileges]
}

// openLog opens the log of a daemon. A later failure to write, such as a full disk, loses lines but
// is no error.
func openLog(path string, stderr io.Writer) (*logbook, error) {
	l := &logbook{w: stderr}
	if path != "" {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			return nil, &config.Problem{
				Flag: "-l", Value: path, What: "cannot be opened: " + fileError(err),
			}
		}
		l.w, l.file = &lossy{w: f, path: path, stderr: stderr}, f
	}
	w := l.w
	if l.file != nil {
		w = &startLog{logbook: l, stderr: stderr}
	}
	l.Logger = slog.New(slog.NewTextHandler(w, nil))
	return l, nil
}

// startLog writes to the log file and, until everything is open, to stderr too: a user who waits
// for the start must not have to look into a file.
type startLog struct {
	*logbook
	stderr io.Writer
}

func (l *startLog) Write(line []byte) (int, error) {
	if !l.ready.Load() {
		_, _ = l.stderr.Write(line)
	}
	return l.w.Write(line)
}

// lossy is a log file whose disk may fill. It prints the first error to stderr, and again after a
// successful write.
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
		say(l.stderr, "write log %q: %s: log lines are lost", l.path, fileError(err))
	}
	l.failed = err != nil
	return n, err
}

// close closes the log file.
func (l *logbook) close() {
	if l.file != nil {
		l.file.Close()
	}
}

// fileError returns the kernel's error about a file, without the path.
func fileError(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// writePID writes this process's id to path. The function that it returns removes the file if it
// still holds the id.
func writePID(path string) (remove func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	id := strconv.Itoa(os.Getpid())
	if err := os.WriteFile(path, []byte(id+"\n"), 0o644); err != nil {
		return nil, &config.Problem{
			Flag: "-P", Value: path, What: "cannot be written: " + fileError(err),
		}
	}
	return func() {
		if b, err := os.ReadFile(path); err == nil && strings.TrimSpace(string(b)) == id {
			os.Remove(path)
		}
	}, nil
}

// statistics writes a line of statistics.
func (l *logbook) statistics(line string) { fmt.Fprintf(l.w, "tcpcopy: %s\n", line) }
