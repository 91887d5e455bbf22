package export

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"time"
)

// Spent returns what this process has used so far; zero if the kernel does not report it.
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

// PeakMemory returns the highest resident memory of a running process, in bytes; 0 if it is not
// known. The value of getrusage and wait4 includes the peak of the process that started it:
// execve(2) keeps it.
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
