package localroute

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// places returns the directories in which runs of any user, and of earlier versions, may have
// journals: DefaultDir, and those of users who cannot write there.
func places() []string {
	all := []string{DefaultDir}
	for _, tmp := range []string{os.TempDir(), "/tmp"} {
		found, _ := filepath.Glob(filepath.Join(tmp, "tcpcopy-*"))
		for _, dir := range found {
			if fi, err := os.Lstat(dir); err == nil && fi.IsDir() && !slices.Contains(all, dir) {
				all = append(all, dir)
			}
		}
	}
	return all
}

// cleanPlaces reverts what the journals of other directories than own say about the calling
// thread's namespace, which is locked. Anybody may have written them: a change is one of ours or it
// is not made, and a journal that cannot be read is left. It returns what it did, as commands.
func (h *Host) cleanPlaces(own string) (done []string, failed error) {
	for _, dir := range places() {
		if dir == own {
			continue
		}
		j := *h.journal
		j.path = filepath.Join(dir, fmt.Sprintf("%s%d", journalName, j.Namespace))
		j.Mark, j.Ports, j.Changes = 0, nil, nil
		if !ownersFile(j.path) || j.read(j.path) != nil {
			continue
		}
		file, err := lockFile(j.path + lockSuffix)
		if errors.Is(err, ErrBusy) { // a run of an earlier version
			failed = errors.Join(failed, err)
			continue
		}
		other := &Host{cfg: h.cfg, journal: &j}
		undone, err := other.restore()
		done, failed = append(done, undone...), errors.Join(failed, err)
		if file != nil {
			_ = os.Remove(j.path + lockSuffix)
			file.Close()
		}
	}
	return done, failed
}

// ownersFile reports whether a regular file is of the user whose directory it is in.
func ownersFile(path string) bool {
	file, err := os.Lstat(path)
	if err != nil || !file.Mode().IsRegular() {
		return false
	}
	dir, err := os.Lstat(filepath.Dir(path))
	if err != nil {
		return false
	}
	f, ok1 := file.Sys().(*syscall.Stat_t)
	d, ok2 := dir.Sys().(*syscall.Stat_t)
	return ok1 && ok2 && f.Uid == d.Uid
}

// Elsewhere returns the journals of other network namespaces, whose changes Cleanup can revert from
// within them only.
func Elsewhere(cfg Config) (all []string, err error) {
	err = cfg.do(func() error {
		inode, err := namespaceInode()
		if err != nil {
			return err
		}
		own := fmt.Sprintf("%s%d", journalName, inode)
		dirs := places()
		if cfg.Dir != "" {
			dirs = []string{cfg.Dir}
		}
		for _, dir := range dirs {
			found, err := filepath.Glob(filepath.Join(dir, journalName+"*"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			for _, path := range found {
				if base := filepath.Base(path); base != own && !strings.Contains(base, ".") {
					all = append(all, path)
				}
			}
		}
		return nil
	})
	return all, err
}
