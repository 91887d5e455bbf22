package sys

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// EpollEvent is what Epoll.Wait reports about one descriptor: its tag, and what it is ready for.
type EpollEvent unix.EpollEvent

// Tag returns the tag that the descriptor was added with.
func (e *EpollEvent) Tag() uint64 { return uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32 }

// Merge adds the conditions of a later event of the same descriptor.
func (e *EpollEvent) Merge(later *EpollEvent) { e.Events |= later.Events }

// Readable reports whether there are bytes to read, an end of the stream, or an error to fetch.
func (e *EpollEvent) Readable() bool { return e.Events&unix.EPOLLIN != 0 }

// Urgent reports whether the peer has sent urgent data, at which reads stop short.
func (e *EpollEvent) Urgent() bool { return e.Events&unix.EPOLLPRI != 0 }

// Writable reports whether the socket accepts bytes, or a connection attempt has ended.
func (e *EpollEvent) Writable() bool { return e.Events&unix.EPOLLOUT != 0 }

// PeerShut reports whether the peer has shut down its direction.
func (e *EpollEvent) PeerShut() bool { return e.Events&unix.EPOLLRDHUP != 0 }

// HungUp reports whether both directions are shut down, for whatever reason.
func (e *EpollEvent) HungUp() bool { return e.Events&unix.EPOLLHUP != 0 }

// Failed reports whether the socket holds an error.
func (e *EpollEvent) Failed() bool { return e.Events&unix.EPOLLERR != 0 }

// wakeTag is the tag of the eventfd of an Epoll. Callers must not use it.
const wakeTag = ^uint64(0)

// Epoll waits for many sockets at once, edge triggered. Another goroutine can wake it. One
// goroutine at a time may call Wait.
//
// The runtime's poller watches the epoll descriptor, so a goroutine that waits is parked like one
// that reads from a net.Conn. Blocking in epoll_wait(2) would cost a thread, and two more thread
// switches for each wake.
type Epoll struct {
	fd   int
	wake int // eventfd; every write is an edge, so it need not be read
	file *os.File
	raw  syscall.RawConn
	try  func(uintptr) bool // fills evs without waiting

	evs   []EpollEvent
	n     int
	errno syscall.Errno
	timed bool // file has a deadline
}

// NewEpoll opens an Epoll, which Close frees.
func NewEpoll() (*Epoll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("open epoll: %w", err)
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open eventfd: %w", err)
	}
	e := &Epoll{fd: fd, wake: wake}
	if err := e.add(wake, unix.EPOLLIN, wakeTag); err != nil {
		e.Close()
		return nil, fmt.Errorf("watch eventfd: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // so that os.NewFile adds it to the poller
		e.Close()
		return nil, fmt.Errorf("prepare epoll: %w", err)
	}
	e.file = os.NewFile(uintptr(fd), "epoll")
	if e.raw, err = e.file.SyscallConn(); err == nil {
		err = e.file.SetReadDeadline(time.Time{})
	}
	if err != nil {
		e.Close()
		return nil, fmt.Errorf("watch epoll: %w", err)
	}
	e.try = func(fd uintptr) bool {
		e.n, e.errno = epollPoll(int(fd), e.evs)
		return e.n > 0 || e.errno != 0
	}
	return e, nil
}

// event returns an edge-triggered event with a tag.
func event(events uint32, tag uint64) unix.EpollEvent {
	return unix.EpollEvent{
		Events: events | unix.EPOLLET, Fd: int32(uint32(tag)), Pad: int32(uint32(tag >> 32)),
	}
}

func (e *Epoll) add(fd int, events uint32, tag uint64) error {
	ev := event(events, tag)
	return unix.EpollCtl(e.fd, unix.EPOLL_CTL_ADD, fd, &ev)
}

// Add watches a TCP socket for all conditions until it is closed. It also reports what the socket
// is ready for already. The tag must not be the largest uint64.
func (e *Epoll) Add(fd int, tag uint64) error {
	const all = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLPRI
	if err := e.add(fd, all, tag); err != nil {
		return fmt.Errorf("watch socket %d: %w", fd, err)
	}
	return nil
}

// AddOnce watches a packet socket and reports it once, until Again.
func (e *Epoll) AddOnce(fd int, tag uint64) error {
	if err := e.add(fd, unix.EPOLLIN|unix.EPOLLONESHOT, tag); err != nil {
		return fmt.Errorf("watch packet socket %d: %w", fd, err)
	}
	return nil
}

// Again makes a socket of AddOnce be reported once more: at once if it is ready.
func (e *Epoll) Again(fd int, tag uint64) error {
	ev := event(unix.EPOLLIN|unix.EPOLLONESHOT, tag)
	if err := unix.EpollCtl(e.fd, unix.EPOLL_CTL_MOD, fd, &ev); err != nil {
		return fmt.Errorf("watch packet socket %d: %w", fd, err)
	}
	return nil
}

// Wait fills evs with events and returns their number. It waits until there is one, at most for
// timeout; a negative timeout has no limit. Wake or a signal ends it early, with 0 events.
func (e *Epoll) Wait(evs []EpollEvent, timeout time.Duration) (int, error) {
	e.evs, e.n, e.errno = evs, 0, 0
	if timeout == 0 {
		e.try(uintptr(e.fd))
	} else if err := e.wait(timeout); err != nil {
		return 0, fmt.Errorf("wait for sockets: %w", err)
	}
	e.evs = nil
	if e.errno != 0 && e.errno != unix.EINTR {
		return 0, fmt.Errorf("wait for sockets: %w", e.errno)
	}
	n := e.n
	for i := range n {
		if evs[i].Tag() == wakeTag {
			evs[i] = evs[n-1]
			return n - 1, nil
		}
	}
	return n, nil
}

func (e *Epoll) wait(timeout time.Duration) error {
	if timeout > 0 || e.timed {
		var deadline time.Time
		if e.timed = timeout > 0; e.timed {
			deadline = time.Now().Add(timeout)
		}
		if err := e.file.SetReadDeadline(deadline); err != nil {
			return err
		}
	}
	if err := e.raw.Read(e.try); !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return nil
}

// Wake ends the Wait that is running, or else the next one. Any goroutine may call it before Close.
func (e *Epoll) Wake() {
	one := [8]byte{1}
	// The write fails only after 2^64 calls. For why the call is raw see Stream.
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(e.wake), uintptr(unsafe.Pointer(&one)),
		unsafe.Sizeof(one))
}

// Close frees the Epoll. The sockets that it watched stay open.
func (e *Epoll) Close() {
	unix.Close(e.wake)
	if e.file != nil {
		e.file.Close()
	} else {
		unix.Close(e.fd)
	}
}
