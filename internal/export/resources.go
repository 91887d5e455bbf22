package export

import (
	"syscall"
	"time"
)

// Spent is what this process has cost so far.
func Spent() Resources {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return Resources{}
	}
	return Resources{
		CPU:    time.Duration(u.Utime.Nano() + u.Stime.Nano()),
		MaxRSS: uint64(u.Maxrss) << 10, // Linux counts kilobytes
	}
}
