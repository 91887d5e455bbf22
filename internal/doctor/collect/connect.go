package collect

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"tcpcopy/internal/doctor"
	"tcpcopy/internal/sys"
)

// Times of an attempt to connect.
const (
	connectTimeout = 3 * time.Second
	closesWithin   = 300 * time.Millisecond
)

// target returns what the kernel knows of a target.
func (c *collector) target(a netip.AddrPort) doctor.TargetFacts {
	t := doctor.TargetFacts{Addr: a, Route: route(a.Addr()), Local: c.isLocal(a.Addr())}
	if n, err := sys.PathMTU(a.Addr(), 0); err == nil {
		t.MTU = n
	}
	return t
}

// try connects to a target from this host's own address, and sends it echoes of several sizes. It
// sends the target no byte.
func (c *collector) try(t *doctor.TargetFacts) {
	if c.Via == "tunnel" {
		return // the intercept connects
	}
	t.Connect = attempt(c.ctx, t.Addr, true)
	if t.Connect.Outcome != doctor.Connected || t.Local {
		return
	}
	t.Ping = ping(c.ctx, t.Addr.Addr(), t.MTU)
	// A router with a smaller MTU has told the kernel, as it will tell connections.
	n, err := sys.PathMTU(t.Addr.Addr(), 0)
	if err == nil && n >= smallPacket && n < t.MTU {
		t.MTU = n
		t.Ping = ping(c.ctx, t.Addr.Addr(), n)
	}
}

// attempt connects, and closes. If look is set, it waits a moment for the other side to close.
func attempt(ctx context.Context, to netip.AddrPort, look bool) *doctor.Attempt {
	begin := time.Now()
	d := net.Dialer{Timeout: connectTimeout, KeepAlive: -1}
	d.SetMultipathTCP(false)
	conn, err := d.DialContext(ctx, "tcp", to.String())
	a := &doctor.Attempt{Outcome: outcome(err), After: time.Since(begin)}
	if err != nil {
		a.Err = err.Error()
		return a
	}
	defer conn.Close()
	if look {
		_ = conn.SetReadDeadline(time.Now().Add(closesWithin))
		_, err := conn.Read(make([]byte, 1))
		a.Closed = err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
	}
	return a
}

// outcome returns how an attempt with this error ended.
func outcome(err error) doctor.Outcome {
	var timeout net.Error
	switch {
	case err == nil:
		return doctor.Connected
	case errors.Is(err, syscall.ECONNREFUSED):
		return doctor.Refused
	case errors.Is(err, syscall.EHOSTUNREACH):
		return doctor.Unreachable
	case errors.Is(err, syscall.ENETUNREACH):
		return doctor.NoRoute
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES):
		return doctor.Forbidden
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return doctor.TimedOut
	}
	return doctor.Failed
}
