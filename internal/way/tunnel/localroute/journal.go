package localroute

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"tcpcopy/internal/sys"
)

// journal is the file of a run's changes. It is written before each change, so that the next run
// can revert the changes of one that was killed.
type journal struct {
	path string
	lock *lock

	Boot      string // ID of the kernel's boot: after another boot there is nothing to revert
	Namespace uint64 // inode
	Cookie    uint64 `json:",omitempty"` // unlike inodes, never used again
	PID       int
	Mark      uint32
	Ports     []uint16
	Changes   []Change
}

// ErrBusy reports that another intercept runs on the same target.
var ErrBusy = errors.New("another intercept runs on this target already")

// JournalError reports that the journal of an earlier run cannot be read: a person must decide
// what to revert.
type JournalError struct {
	Path string
	Err  error
}

// Error names the file and what is wrong with it.
func (e *JournalError) Error() string { return fmt.Sprintf("read journal %s: %v", e.Path, e.Err) }

// Unwrap returns the cause.
func (e *JournalError) Unwrap() error { return e.Err }

// Command returns what a person can do.
func (e *JournalError) Command() string {
	return fmt.Sprintf("delete what 'ip rule show protocol %d' and "+
		"'ip -6 rule show protocol %d' list, and then %s", protocol, protocol, e.Path)
}

// DefaultDir is where the machine's root has its journals.
const DefaultDir = "/run/tcpcopy"

// directory returns the directory of the journals, which it makes.
func directory(dir string) (string, error) {
	if dir != "" {
		return dir, os.MkdirAll(dir, 0o755)
	}
	if err := os.MkdirAll(DefaultDir, 0o755); err == nil &&
		syscall.Access(DefaultDir, 2 /* W_OK */) == nil {
		return DefaultDir, nil
	}
	// Root of a user namespace only.
	dir = filepath.Join(os.TempDir(), "tcpcopy-"+userID())
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	fi, err := os.Lstat(dir)
	if err != nil {
		return "", err
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); !fi.IsDir() || ok && int(st.Uid) != os.Getuid() {
		return "", fmt.Errorf("%s is another user's", dir)
	}
	return dir, nil
}

// userID returns the user's number on the machine, even in a user namespace.
func userID() string {
	id := strconv.Itoa(os.Getuid())
	if b, err := os.ReadFile("/proc/self/uid_map"); err == nil { // inside, outside, how many
		if f := strings.Fields(string(b)); len(f) == 3 && f[0] == id {
			return f[1]
		}
	}
	return id
}

// namespaceInode returns the inode of the calling thread's network namespace.
func namespaceInode() (uint64, error) {
	var st syscall.Stat_t
	if err := syscall.Stat("/proc/thread-self/ns/net", &st); err != nil {
		return 0, fmt.Errorf("name network namespace: %w", err)
	}
	return st.Ino, nil
}

// openJournal locks and reads the journal of the calling thread's namespace.
func openJournal(dir string) (*journal, error) {
	dir, err := directory(dir)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	inode, err := namespaceInode()
	if err != nil {
		return nil, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	prune(dir)
	name, err := lockNamespace()
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	path := filepath.Join(dir, fmt.Sprintf("%s%d", journalName, inode))
	file, err := lockFile(path + lockSuffix)
	if err != nil {
		name.Close()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	lock := &lock{file, name}
	now := journal{path: path, lock: lock, Boot: strings.TrimSpace(string(boot)), Namespace: inode,
		PID: os.Getpid()}
	if now.Cookie, err = sys.NetnsCookie(); err != nil {
		now.close()
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := now.read(path); err != nil {
		now.close()
		return nil, &JournalError{path, err}
	}
	return &now, nil
}

// read adds the changes of a journal's file, if they were made in this namespace.
func (j *journal) read(path string) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var old journal
	if err == nil {
		err = json.Unmarshal(b, &old)
	}
	for i := range old.Changes {
		if err == nil {
			err = old.Changes[i].check()
		}
	}
	if err != nil {
		return err
	}
	same := old.Cookie == 0 || j.Cookie == 0 || old.Cookie == j.Cookie
	if old.Boot == j.Boot && old.Namespace == j.Namespace && same {
		j.Mark, j.Ports, j.Changes = old.Mark, old.Ports, old.Changes
	}
	return nil
}

const (
	journalName = "target-" // and the namespace's inode
	lockSuffix  = ".lock"
)

// lock keeps other intercepts from the same target. The file shows it to earlier versions, and the
// name to a run of any user, whose journal may be in another directory.
type lock struct {
	file *os.File
	name io.Closer
}

// Close releases the lock.
func (l *lock) Close() error { return errors.Join(l.file.Close(), l.name.Close()) }

// lockNamespace locks the calling thread's network namespace.
func lockNamespace() (io.Closer, error) {
	name, err := sys.NameLock("tcpcopy-target")
	if errors.Is(err, fs.ErrExist) {
		holder, _, _ := strings.Cut(err.Error(), ": ")
		return nil, fmt.Errorf("%w: %s", ErrBusy, holder)
	}
	return name, err
}

// lockFile makes a file and locks it. The lock is valid only if the file is still in its place
// then.
func lockFile(path string) (*os.File, error) {
	for range 10 {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err != nil {
			f.Close()
			if errors.Is(err, syscall.EWOULDBLOCK) {
				return nil, fmt.Errorf("%s: %w", path, ErrBusy)
			}
			return nil, err
		}
		here, err := f.Stat()
		if err == nil {
			var there os.FileInfo
			if there, err = os.Stat(path); err == nil && os.SameFile(here, there) {
				return f, nil
			}
		}
		f.Close()
	}
	return nil, fmt.Errorf("lock %s: it vanishes again and again", path)
}

// write replaces the file atomically.
func (j *journal) write() error {
	b, err := json.MarshalIndent(j, "", " ")
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	f, err := os.OpenFile(j.path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(j.path+".new", j.path)
	}
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// remove removes the file: there is nothing to revert.
func (j *journal) remove() error {
	j.Changes, j.Mark, j.Ports = nil, 0, nil
	if err := os.Remove(j.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove journal: %w", err)
	}
	return nil
}

// close releases the lock, and removes its file.
func (j *journal) close() {
	_ = os.Remove(j.path + lockSuffix) // before another can have it
	j.lock.Close()
}
