package sys

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// NameLock takes a name in the calling thread's network namespace, whoever takes it, for as long as
// the process runs or until it is closed. If another process has the name, the error wraps
// os.ErrExist and says which one. Any user may take a name: it keeps programs that are friends from
// each other, and no stranger away.
func NameLock(name string) (net.Listener, error) {
	l, err := net.Listen("unix", "@"+name)
	if err == nil {
		return l, nil
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("take the name %s: %w", name, err)
	}
	holder := "a process that does not answer"
	if c, err := net.Dial("unix", "@"+name); err == nil {
		defer c.Close()
		if u, err := peerOf(c.(*net.UnixConn)); err == nil {
			holder = fmt.Sprintf("process %d of user %d", u.Pid, u.Uid)
		}
	}
	return nil, fmt.Errorf("%s: %w", holder, os.ErrExist)
}

// peerOf returns who listens at the other end of a connection (SO_PEERCRED in unix(7)).
func peerOf(c *net.UnixConn) (u *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	e := raw.Control(func(fd uintptr) {
		u, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if e != nil {
		err = e
	}
	return u, err
}
