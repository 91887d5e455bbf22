package sys

import (
	"io"
	"net"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Stream is a TCP connection whose reads and writes keep their processor. They do not block in the
// kernel but wait in the runtime's poller, and do not tell the scheduler that they enter the
// kernel. That would wake the scheduler's monitor thread, which then ticks for a millisecond. In a
// process that wakes a thousand times a second, with little work each time, this is a quarter of
// all CPU time. One goroutine may read while another writes.
type Stream struct {
	net.Conn
	raw     syscall.RawConn
	in, out transfer
}

// transfer is a read or a write.
type transfer struct {
	buf   []byte
	n     int
	errno syscall.Errno
	try   func(fd uintptr) bool
}

// maxAtOnce bounds the bytes that one system call moves while it keeps the processor.
const maxAtOnce = 64 << 10

// NewStream returns a Stream of a TCP connection, which the Stream owns from then on. Any other
// connection is returned unchanged.
func NewStream(c net.Conn) net.Conn {
	t, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := t.SyscallConn()
	if err != nil {
		return c
	}
	s := &Stream{Conn: t, raw: raw}
	s.in.try = func(fd uintptr) bool {
		s.in.move(unix.SYS_RECVFROM, fd, unix.MSG_DONTWAIT)
		return s.in.errno != unix.EAGAIN
	}
	s.out.try = func(fd uintptr) bool {
		s.out.move(unix.SYS_SENDTO, fd, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return s.out.errno != unix.EAGAIN
	}
	return s
}

// move makes the system call and repeats it if a signal interrupts it.
func (t *transfer) move(call, fd, flags uintptr) {
	for {
		n, _, errno := unix.RawSyscall6(call, fd, uintptr(unsafe.Pointer(&t.buf[0])),
			uintptr(min(len(t.buf), maxAtOnce)), flags, 0, 0)
		if errno == unix.EINTR {
			continue
		}
		if t.n, t.errno = int(n), errno; errno != 0 {
			t.n = 0
		}
		return
	}
}

// Read implements net.Conn.
func (s *Stream) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	t := &s.in
	t.buf, t.n, t.errno = b, 0, 0
	err := s.raw.Read(t.try)
	t.buf = nil
	switch {
	case err != nil:
		return 0, err
	case t.errno != 0:
		return 0, os.NewSyscallError("recv", t.errno)
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// Write implements net.Conn.
func (s *Stream) Write(b []byte) (done int, err error) {
	t := &s.out
	for done < len(b) {
		t.buf, t.n, t.errno = b[done:], 0, 0
		err = s.raw.Write(t.try)
		t.buf = nil
		if err == nil && t.errno != 0 {
			err = os.NewSyscallError("send", t.errno)
		}
		if err != nil {
			return done, err
		}
		done += t.n
	}
	return done, nil
}

// CloseWrite shuts down the writing side.
func (s *Stream) CloseWrite() error { return s.Conn.(*net.TCPConn).CloseWrite() }
