package socket

import (
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"tcpcopy/internal/sys"
)

// bindAttempts bounds how many local addresses are tried for one connection: the kernel searches
// all ports of each.
const bindAttempts = 16

// connector begins connections. It belongs to the poller.
type connector struct {
	cfg  *Config
	v4   []netip.Addr // Config.Bind by family
	v6   []netip.Addr
	next int

	ports ports
}

// ports limits where in the host's range of ports the kernel looks for a free one. By itself it
// tries every other port first, and where an address has none of those left, it tries all of them
// again for each connection: a millisecond, for Linux's 28,232 ports. So it gets a small window of
// the range, and the next one when that is full.
type ports struct {
	low, high int // high 0: the kernel chooses from its whole range
	window    int // the lowest port of the current window
}

const (
	windowSize = 64
	windowsMax = 8 // windows that are tried for a connection before the whole range
)

func newPorts() (p ports) {
	low, high := sys.PortRange()
	if int(high)-int(low) < windowSize {
		return ports{}
	}
	p = ports{low: int(low), high: int(high)}
	windows := (p.high-p.low)/windowSize + 1
	p.window = p.low + rand.IntN(windows)*windowSize // several processes may share the addresses
	return p
}

// advance goes on to the next window.
func (p *ports) advance() {
	if p.window += windowSize; p.window > p.high {
		p.window = p.low
	}
}

// newConnector returns a connector.
func newConnector(cfg *Config) connector {
	k := connector{cfg: cfg, ports: newPorts()}
	for _, a := range cfg.Bind {
		if a = a.Unmap(); a.Is4() {
			k.v4 = append(k.v4, a)
		} else {
			k.v6 = append(k.v6, a)
		}
	}
	return k
}

// connect opens a socket and begins to connect it. On an error there is no socket.
func (k *connector) connect(s *polled) (int, error) {
	target := netip.AddrPortFrom(s.target.Addr().Unmap(), s.target.Port())
	if s.from.IsValid() {
		return k.connectAs(s.from, target, s.mark)
	}
	if len(k.cfg.Bind) == 0 {
		return k.connectFrom(netip.Addr{}, target)
	}
	pool := k.v6
	if target.Addr().Is4() {
		pool = k.v4
	}
	var fd int
	err := error(syscall.EADDRNOTAVAIL)
	for range min(len(pool), bindAttempts) {
		k.next++
		fd, err = k.connectFrom(pool[k.next%len(pool)], target)
		if !errors.Is(err, syscall.EADDRNOTAVAIL) {
			break
		}
	}
	return fd, err
}

func (k *connector) connectFrom(local netip.Addr, target netip.AddrPort) (int, error) {
	if !target.IsValid() {
		return -1, syscall.EINVAL
	}
	for range windowsMax {
		if k.ports.high == 0 {
			break
		}
		fd, err := k.try(local, target, true)
		if !errors.Is(err, syscall.EADDRNOTAVAIL) {
			return fd, err
		}
		k.ports.advance()
	}
	return k.try(local, target, false)
}

// try connects from a port of the current window, or from any.
func (k *connector) try(local netip.Addr, target netip.AddrPort, window bool) (int, error) {
	fd, err := sys.OpenTCP(target.Addr().Is6())
	if err != nil {
		return -1, err
	}
	if window {
		low := k.ports.window
		if sys.SetPortRange(fd, uint16(low), uint16(min(low+windowSize-1, k.ports.high))) != nil {
			k.ports = ports{} // an older kernel
		}
	}
	if err := k.prepare(fd, local, target); err != nil {
		sys.ResetTCP(fd)
		return -1, err
	}
	return fd, nil
}

// connectAs connects from a client's address and port.
func (k *connector) connectAs(from, target netip.AddrPort, mark uint32) (int, error) {
	if !target.IsValid() || from.Addr().Is4() != target.Addr().Is4() || from.Port() == 0 {
		return -1, syscall.EINVAL
	}
	fd, err := sys.OpenTCP(target.Addr().Is6())
	if err != nil {
		return -1, err
	}
	if mark != 0 {
		err = sys.SetMark(fd, mark)
	}
	if err == nil && k.cfg.SendTimeout > 0 {
		err = sys.SetUserTimeout(fd, k.cfg.SendTimeout)
	}
	if err == nil {
		err = sys.BindTransparent(fd, from)
	}
	if err == nil {
		err = sys.ConnectTCP(fd, target, zone(target.Addr()))
	}
	if err != nil {
		sys.ResetTCP(fd)
		return -1, err
	}
	return fd, nil
}

func (k *connector) prepare(fd int, local netip.Addr, target netip.AddrPort) error {
	if k.cfg.Mark != 0 {
		if err := sys.SetMark(fd, k.cfg.Mark); err != nil {
			return err
		}
	}
	if k.cfg.SendTimeout > 0 {
		if err := sys.SetUserTimeout(fd, k.cfg.SendTimeout); err != nil {
			return err
		}
	}
	if local.IsValid() {
		if err := sys.BindLocal(fd, local, zone(local)); err != nil {
			return err
		}
	}
	return sys.ConnectTCP(fd, target, zone(target.Addr()))
}

// zone returns the number of the interface that a link-local address belongs to; 0 if there is
// none.
func zone(a netip.Addr) uint32 {
	name := a.Zone()
	if name == "" {
		return 0
	}
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		return uint32(n)
	}
	if ifi, err := net.InterfaceByName(name); err == nil {
		return uint32(ifi.Index)
	}
	return 0
}

// errnoOf returns the system call's error in err.
func errnoOf(err error) syscall.Errno {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		return syscall.EIO
	}
	return errno
}
