package export

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"time"
)

// Spent is what this process has cost so far; zero where the kernel does not say.
func Spent() Resources {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return Resources{}
	}
	return Resources{
		CPU:    time.Duration(u.Utime.Nano() + u.Stime.Nano()),
		MaxRSS: PeakMemory(os.Getpid()),
	}
}

// PeakMemory is the highest resident memory of a process that runs, in bytes; 0 where it is not known. What
// getrusage and wait4 say of it is no less than what the process had that started it (execve(2) keeps it).
func PeakMemory(pid int) uint64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	_, line, _ := bytes.Cut(status, []byte("VmHWM:"))
	var kilobytes uint64
	fmt.Sscanf(string(line), "%d kB", &kilobytes)
	return kilobytes << 10
}
