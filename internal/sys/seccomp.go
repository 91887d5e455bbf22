package sys

import (
	"runtime"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forbidden are the system calls that fail with EPERM in a confined process. They run programs,
// read or change other processes, load code into the kernel, or change the system. The list names
// what is forbidden, not what is allowed: the Go runtime and this program's libraries make other
// calls from version to version, and an unknown one must not end a copier on a production host.
var forbidden = []uint32{
	unix.SYS_EXECVE, unix.SYS_EXECVEAT, unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV,
	unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP, unix.SYS_INIT_MODULE,
	unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_BPF,
	unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_IO_URING_SETUP, unix.SYS_KEYCTL,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT,
	unix.SYS_CHROOT, unix.SYS_MOVE_MOUNT, unix.SYS_OPEN_TREE, unix.SYS_FSOPEN, unix.SYS_FSMOUNT,
	unix.SYS_MOUNT_SETATTR, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_REBOOT, unix.SYS_ACCT,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_ADJTIMEX, unix.SYS_CLOCK_ADJTIME,
	unix.SYS_UNSHARE, unix.SYS_OPEN_BY_HANDLE_AT, unix.SYS_MKNODAT, unix.SYS_PERSONALITY,
	unix.SYS_QUOTACTL, unix.SYS_SYSLOG, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
}

// From linux/seccomp.h: the architecture of struct seccomp_data, and its number of the call.
const (
	dataNumber = 0
	dataArch   = 4
	// x32 is set in the numbers of calls of a second kind that amd64 has.
	x32 = 0x40000000
)

// callFilter returns the filter. All calls of another architecture than this one's are forbidden.
func callFilter(arch uint32, calls []uint32) []unix.SockFilter {
	const (
		load  = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
		equal = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
		above = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
		end   = unix.BPF_RET | unix.BPF_K

		refuse = unix.SECCOMP_RET_ERRNO | uint32(syscall.EPERM)
	)
	f := []unix.SockFilter{
		{Code: load, K: dataArch},
		{Code: equal, K: arch, Jt: 1},
		{Code: end, K: refuse},
		{Code: load, K: dataNumber},
		{Code: above, K: x32, Jf: 1},
		{Code: end, K: refuse},
	}
	for _, n := range calls {
		f = append(f, unix.SockFilter{Code: equal, K: n, Jf: 1},
			unix.SockFilter{Code: end, K: refuse})
	}
	return append(f, unix.SockFilter{Code: end, K: unix.SECCOMP_RET_ALLOW})
}

// forbidCalls has all threads refuse the forbidden calls; enter leaves setns(2) out of them. The
// process has no_new_privs. Where a kernel or an architecture has no such filters, there is none.
func forbidCalls(enter bool) error {
	arch, ok := map[string]uint32{
		"amd64": unix.AUDIT_ARCH_X86_64, "arm64": unix.AUDIT_ARCH_AARCH64,
	}[runtime.GOARCH]
	if !ok {
		return nil
	}
	calls := slices.Concat(forbidden, forbiddenHere)
	if !enter {
		calls = append(calls, unix.SYS_SETNS)
	}
	f := callFilter(arch, calls)
	prog := unix.SockFprog{Len: uint16(len(f)), Filter: &f[0]}
	r, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&prog)))
	switch {
	case errno == unix.ENOSYS || errno == unix.EINVAL: // a kernel without filters
		return nil
	case errno != 0:
		return errno
	case r != 0: // a thread with a filter of its own
		return unix.ESRCH
	}
	return nil
}
