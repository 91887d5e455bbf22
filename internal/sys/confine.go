package sys

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Further capabilities that this program may keep.
const (
	CapDACOverride    Capability = "CAP_DAC_OVERRIDE"
	CapNetBindService Capability = "CAP_NET_BIND_SERVICE"
	CapSysAdmin       Capability = "CAP_SYS_ADMIN"
)

// capabilityBits are the capabilities' numbers (linux/capability.h).
var capabilityBits = map[Capability]int{
	CapDACOverride: unix.CAP_DAC_OVERRIDE, CapNetBindService: unix.CAP_NET_BIND_SERVICE,
	CapNetAdmin: unix.CAP_NET_ADMIN, CapNetRaw: unix.CAP_NET_RAW, CapSysAdmin: unix.CAP_SYS_ADMIN,
}

// User is whom a process runs as.
type User struct{ UID, GID int }

// Confinement says what a process may still do.
type Confinement struct {
	Keep  []Capability // those of the process that it keeps; all others are given up
	User  *User        // to run as; nil: as before
	Enter bool         // it enters namespaces, which is forbidden else
}

// ErrCgo reports that the process cannot be confined, because it was built with cgo: the Go runtime
// cannot have all threads make a system call then.
var ErrCgo = errors.New("built with cgo, whose threads cannot be confined: " +
	"wanted a build with CGO_ENABLED=0")

// Confine confines all threads of the process for good. Besides what c says, it switches core dumps
// off, and with them the reading of this process by others: its memory holds what clients sent, and
// keys. It is called once, when everything that needs more is open. After an error the process is
// confined in part.
func Confine(c *Confinement) error {
	if _, _, errno := syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_GET_NO_NEW_PRIVS, 0,
		0); errno == syscall.ENOTSUP {
		return ErrCgo
	}
	if c.User != nil {
		if err := become(c.User); err != nil {
			return err
		}
	}
	if err := keepCapabilities(c.Keep); err != nil {
		return err
	}
	err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	if err == nil { // of the whole process
		err = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
	}
	if err != nil {
		return fmt.Errorf("switch core dumps off: %w", err)
	}
	if err := allThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	if err := forbidCalls(c.Enter); err != nil {
		return fmt.Errorf("install the seccomp filter: %w", err)
	}
	return nil
}

// allThreads has each thread make a system call. The runtime ends the process if the results
// differ.
func allThreads(call, a, b, c uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(call, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

// become changes the user of all threads, which keep their permitted capabilities.
func become(u *User) error {
	if err := allThreads(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0); err != nil {
		return fmt.Errorf("keep capabilities: %w", err)
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"leave all groups", func() error { return syscall.Setgroups(nil) }},
		{fmt.Sprintf("become group %d", u.GID), func() error {
			return syscall.Setresgid(u.GID, u.GID, u.GID)
		}},
		{fmt.Sprintf("become user %d", u.UID), func() error {
			return syscall.Setresuid(u.UID, u.UID, u.UID)
		}},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// keepCapabilities gives up all capabilities of all threads but those to keep.
func keepCapabilities(keep []Capability) error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have, data [2]unix.CapUserData // two: capabilities above 31 are in the second
	if err := unix.Capget(&hdr, &have[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for _, c := range keep {
		bit := capabilityBits[c]
		data[bit/32].Permitted |= have[bit/32].Permitted & (1 << (bit % 32))
	}
	for i := range data {
		data[i].Effective = data[i].Permitted
	}
	_, _, errno := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)),
		uintptr(unsafe.Pointer(&data[0])), 0)
	if errno != 0 {
		return fmt.Errorf("give up capabilities: %w", errno)
	}
	return nil
}

// Privileges are what the kernel lets a process do.
type Privileges struct {
	Capabilities []string // effective
	NoNewPrivs   bool
	Seccomp      bool // system calls are filtered
	Dumpable     bool // a fault writes its memory to disk
	UID          int
}

// ReadPrivileges returns what the kernel says of the calling thread.
func ReadPrivileges() (*Privileges, error) {
	b, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		return nil, fmt.Errorf("read privileges: %w", err)
	}
	p, err := parsePrivileges(string(b))
	if err != nil {
		return nil, fmt.Errorf("read privileges: %w", err)
	}
	n, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	p.Dumpable = err != nil || n != 0
	return p, nil
}

// parsePrivileges parses /proc/PID/status (proc_pid_status(5)).
func parsePrivileges(status string) (*Privileges, error) {
	p, found := new(Privileges), 0
	for line := range strings.Lines(status) {
		name, value, _ := strings.Cut(line, ":")
		words := strings.Fields(value)
		if len(words) == 0 {
			continue
		}
		found++
		switch name {
		case "CapEff":
			bits, err := strconv.ParseUint(words[0], 16, 64)
			if err != nil {
				return nil, fmt.Errorf("CapEff %q: wanted a number", words[0])
			}
			p.Capabilities = capabilityNames(bits)
		case "NoNewPrivs":
			p.NoNewPrivs = words[0] == "1"
		case "Seccomp":
			p.Seccomp = words[0] == "2" // SECCOMP_MODE_FILTER
		case "Uid":
			p.UID, _ = strconv.Atoi(words[min(1, len(words)-1)]) // the effective one
		default:
			found--
		}
	}
	if found != 4 {
		return nil, fmt.Errorf("found %d of CapEff, NoNewPrivs, Seccomp and Uid: wanted all", found)
	}
	return p, nil
}

// capabilityNames returns the names of a set of capabilities, as setcap(8) writes them.
func capabilityNames(bits uint64) []string {
	all := []string{}
	for name, bit := range capabilityBits {
		if bits&(1<<bit) != 0 {
			all = append(all, strings.ToLower(string(name)))
		}
		bits &^= 1 << bit
	}
	for bit := range 64 {
		if bits&(1<<bit) != 0 {
			all = append(all, fmt.Sprintf("cap_%d", bit))
		}
	}
	slices.Sort(all)
	return all
}

// MarkCapability returns the capability that SO_MARK needs on this kernel.
func MarkCapability() Capability {
	var u unix.Utsname
	if unix.Uname(&u) == nil && markByRaw(unix.ByteSliceToString(u.Release[:])) {
		return CapNetRaw
	}
	return CapNetAdmin
}

// markByRaw reports whether CAP_NET_RAW suffices for SO_MARK on a kernel: since 5.17.
func markByRaw(release string) bool {
	var major, minor int
	if n, _ := fmt.Sscanf(release, "%d.%d", &major, &minor); n != 2 {
		return false
	}
	return major > 5 || major == 5 && minor >= 17
}

// MayWrite reports whether a user without capabilities may make and replace files in a directory,
// by the modes of it and of the directories above it.
func MayWrite(dir string, u User) bool { return mayUse(dir, u, 2|1) }

// MayRead reports whether a user without capabilities may read a file, by the modes.
func MayRead(path string, u User) bool { return mayUse(path, u, 4) }

func mayUse(path string, u User, want uint32) bool {
	for {
		var st unix.Stat_t
		if err := unix.Stat(path, &st); err != nil {
			return false
		}
		shift := 0
		switch {
		case int(st.Uid) == u.UID:
			shift = 6
		case int(st.Gid) == u.GID:
			shift = 3
		}
		if st.Mode>>shift&want != want {
			return false
		}
		if path == "/" || path == "." {
			return true
		}
		i := strings.LastIndexByte(path, '/')
		switch {
		case i < 0:
			path = "."
		case i == 0:
			path = "/"
		default:
			path = path[:i]
		}
		want = 1
	}
}
