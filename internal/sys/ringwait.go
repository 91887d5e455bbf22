package sys

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// RingWait waits for the first of several rings. One goroutine waits; any may Wake it.
type RingWait struct {
	rings   []*Ring
	fds     []unix.PollFd // the rings', and the event descriptor that wakes
	timeout unix.Timespec // here, not on the stack: the call would make it escape every time
}

// NewRingWait makes a wait over rings, which stay the caller's.
func NewRingWait(rings []*Ring) (*RingWait, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open event descriptor: %w", err)
	}
	w := &RingWait{rings: rings, fds: make([]unix.PollFd, 0, len(rings)+1)}
	for _, r := range rings {
		w.fds = append(w.fds, unix.PollFd{Fd: int32(r.fd), Events: unix.POLLIN})
	}
	w.fds = append(w.fds, unix.PollFd{Fd: int32(wake), Events: unix.POLLIN})
	return w, nil
}

// Wait sleeps until a ring has a block, a ring has an error, Wake was called, or d is over; a negative d
// is never over. failed is the index of a ring whose error is pending (see TakeError), or -1.
func (w *RingWait) Wait(d time.Duration) (failed int, err error) {
	var timeout *unix.Timespec
	if d >= 0 {
		w.timeout = unix.NsecToTimespec(int64(d))
		timeout = &w.timeout
	}
	n, err := unix.Ppoll(w.fds, timeout, nil)
	if err == unix.EINTR { // the runtime's own signals: for the caller no different from a timeout
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("wait for packets: %w", err)
	}
	if n == 0 {
		return -1, nil
	}
	for i := range w.rings {
		if w.fds[i].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 {
			return i, nil
		}
	}
	return -1, nil
}

// Wake ends the present or the next Wait; it stays awake for good.
func (w *RingWait) Wake() {
	one := [8]byte{1} // any count but zero, in either byte order
	unix.Write(int(w.fds[len(w.rings)].Fd), one[:])
}

// Close frees the wait. Nobody may be in Wait or Wake.
func (w *RingWait) Close() error { return unix.Close(int(w.fds[len(w.rings)].Fd)) }
