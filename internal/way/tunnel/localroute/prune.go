package localroute

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// prune removes the journals of network namespaces that no longer exist, whose changes ended with
// them. If it cannot be sure of that, it removes none.
func prune(dir string) {
	files, err := filepath.Glob(filepath.Join(dir, journalName+"*"))
	if err != nil {
		return
	}
	var live map[uint64]bool
	for _, path := range files {
		// .lock, .new
		number, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), journalName), ".")
		inode, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			continue
		}
		if live == nil {
			if live, err = liveNamespaces(); err != nil {
				return
			}
		}
		if !live[inode] && inode > firstNamespace {
			_ = os.Remove(path)
		}
	}
}

// initialPIDs is the machine's first PID namespace, in which all processes are seen
// (PROC_PID_INIT_INO).
const initialPIDs = "pid:[4026531836]"

// firstNamespace is above the inode of the machine's first network namespace, which never ends. Its
// inode is among the first dozens that the kernel assigns.
const firstNamespace = 0xF0000000 + 256

// liveNamespaces returns the inodes of all network namespaces that a process or thread is in, has
// open, or sees mounted. The error reports that some may be missing.
func liveNamespaces() (map[uint64]bool, error) {
	if pids, err := os.Readlink("/proc/self/ns/pid"); err != nil || pids != initialPIDs {
		return nil, fmt.Errorf("list processes: in %s, %v; wanted %s", pids, err, initialPIDs)
	}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	live := map[uint64]bool{}
	add := func(link string) {
		if number, ok := strings.CutPrefix(strings.TrimSuffix(link, "]"), "net:["); ok {
			if n, err := strconv.ParseUint(number, 10, 64); err == nil {
				live[n] = true
			}
		}
	}
	mounts := map[string]bool{} // the mount namespaces that were read
	for _, p := range processes {
		err := errors.Join(links(p+"/task", "/ns/net", add), links(p+"/fd", "", add))
		if err == nil {
			err = mountedIn(p, mounts, add)
		}
		if err != nil && !system(p) {
			return nil, err
		}
	}
	return live, nil
}

// system reports whether a process that cannot be read is certainly in the machine's first
// namespace: the first process, and the kernel's threads, which have no command line.
func system(process string) bool {
	line, err := os.ReadFile(process + "/cmdline")
	return process == "/proc/1" || err == nil && len(line) == 0
}

// links calls add with the link called name in each entry of dir.
func links(dir, name string, add func(string)) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return unlessGone(err)
	}
	for _, e := range entries {
		link, err := os.Readlink(dir + "/" + e.Name() + name)
		if err := unlessGone(err); err != nil {
			return err
		}
		add(link)
	}
	return nil
}

// mountedIn calls add with what is mounted for a process, once for all that share a mount
// namespace.
func mountedIn(process string, seen map[string]bool, add func(string)) error {
	ns, err := os.Readlink(process + "/ns/mnt")
	if err != nil || seen[ns] {
		return unlessGone(err)
	}
	f, err := os.Open(process + "/mountinfo")
	if err != nil {
		return unlessGone(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 3 {
			add(fields[3]) // the root of the mount: proc_pid_mountinfo(5)
		}
	}
	if err := lines.Err(); err != nil {
		return unlessGone(err)
	}
	seen[ns] = true
	return nil
}

// unlessGone ignores the errors of processes that have ended meanwhile, and of kernel threads.
func unlessGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) ||
		errors.Is(err, syscall.EINVAL) {
		return nil
	}
	return err
}
