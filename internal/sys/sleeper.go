package sys

import (
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Sleeper sleeps for less than a few milliseconds. time.Sleep wakes an otherwise idle process
// several times for that, and late, because the runtime waits in whole milliseconds, rounded down.
// One goroutine uses it.
type Sleeper struct {
	file *os.File
	raw  syscall.RawConn
	spec unix.ItimerSpec
	set  func(uintptr)      // starts the timer
	try  func(uintptr) bool // reports whether the time is over
	err  syscall.Errno      // of set
}

// NewSleeper returns a Sleeper, which Close frees.
func NewSleeper() (*Sleeper, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open timer: %w", err)
	}
	s := &Sleeper{file: os.NewFile(uintptr(fd), "timer")}
	if s.raw, err = s.file.SyscallConn(); err == nil {
		err = s.file.SetReadDeadline(time.Time{}) // fails where the runtime's poller has no room
	}
	if err != nil {
		s.file.Close()
		return nil, fmt.Errorf("watch timer: %w", err)
	}
	s.set = func(fd uintptr) {
		_, _, s.err = unix.RawSyscall6(unix.SYS_TIMERFD_SETTIME, fd, 0,
			uintptr(unsafe.Pointer(&s.spec)), 0, 0, 0)
	}
	s.try = func(fd uintptr) bool {
		var expired [8]byte
		_, _, errno := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&expired)),
			unsafe.Sizeof(expired))
		return errno != unix.EAGAIN
	}
	return s, nil
}

// Sleep waits for d.
func (s *Sleeper) Sleep(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	s.spec.Value = unix.NsecToTimespec(int64(d))
	err := s.raw.Control(s.set)
	if err == nil && s.err != 0 {
		err = s.err
	}
	if err == nil {
		err = s.raw.Read(s.try)
	}
	if err != nil {
		return fmt.Errorf("sleep for %v: %w", d, err)
	}
	return nil
}

// Close frees the Sleeper. No Sleep may be under way.
func (s *Sleeper) Close() { s.file.Close() }
