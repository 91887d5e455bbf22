package localroute

import (
	"errors"
	"fmt"
	"net/netip"
)

// Unreachable reports that a server cannot be reached from clients' addresses.
type Unreachable struct {
	Target netip.AddrPort
	Why    string
}

// Error names the target and the cause.
func (e *Unreachable) Error() string { return fmt.Sprintf("reach %s: %s", e.Target, e.Why) }

// ErrPrivate reports that a server listens on loopback alone: it may trust everything that comes
// from there, so that nobody is to reach it who was not allowed to by that word.
var ErrPrivate = errors.New("its server listens on loopback alone")

// way is how a target is reached: where to connect, and whether with the mark.
type way struct {
	dest    netip.AddrPort
	marked  bool
	private bool // the target is on loopback, or its server listens there alone
}

// loopbackOf returns the usual loopback address of an address's family.
func loopbackOf(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.IPv6Loopback()
}

// ownLoopback returns where connections go to servers that listen on all addresses. Nobody else
// uses this address, so that the rule about its answers affects no others, not even clients that
// a firewall forwards to 127.0.0.1 (route_localnet). IPv6 has only one loopback address, and no
// firewall can forward to it.
func ownLoopback(a netip.Addr) netip.Addr {
	if a.Is4() {
		return netip.AddrFrom4([4]byte{127, 124, 0, 1})
	}
	return netip.IPv6Loopback()
}

// chooseWay returns the least intrusive way to the server that a client of target would reach.
// Over loopback the same listening socket must answer: two sockets may be two servers. redirects
// reports that a firewall may forward clients to 127.0.0.1, whose answers a rule about that
// address would catch.
func chooseWay(servers []tcpSocket, target netip.AddrPort, reach Reach, redirects bool) (
	way, error) {
	own := netip.AddrPortFrom(ownLoopback(target.Addr()), target.Port())
	loop := netip.AddrPortFrom(loopbackOf(target.Addr()), target.Port())
	if target.Addr().IsLoopback() {
		own, loop = target, target
	}
	var exact, onLoopback, onOwn, wild *tcpSocket
	for i := range servers {
		s := &servers[i]
		if s.local.Port() != target.Port() {
			continue
		}
		a := s.local.Addr()
		if a == own.Addr() {
			onOwn = s
		}
		switch {
		case a == target.Addr():
			exact = s
		case a == loop.Addr():
			onLoopback = s
		case a.IsUnspecified() && a.Is4() && target.Addr().Is4(),
			a.IsUnspecified() && a.Is6() && (target.Addr().Is6() || !s.v6only):
			if wild == nil || wild.device != 0 {
				wild = s
			}
		}
	}
	server := exact
	if server == nil {
		server = wild
	}
	if server == nil {
		server = onLoopback
	}
	private := target.Addr().IsLoopback()
	switch {
	case server == nil: // the attempt is refused as a client's would be
		return way{dest: own, private: private}, nil
	case server.device > loopbackIndex:
		return way{}, boundToDevice(target, server)
	case server == wild && reach != MarkOnly && (onOwn == nil || target.Addr().IsLoopback()):
		return way{dest: own, private: private}, nil
	case server == onLoopback, target.Addr().IsLoopback():
		marked := redirects && loop.Addr().Is4() && reach != LoopbackOnly && server.mark == 0
		private = private || server.local.Addr().IsLoopback()
		return way{dest: loop, marked: marked, private: private}, nil
	case reach == LoopbackOnly:
		return way{}, &Unreachable{target,
			"its server is not the one on loopback, and only that way is allowed"}
	case server.mark != 0:
		return way{}, &Unreachable{target, fmt.Sprintf(
			"its server listens with a mark of its own (%#x), "+
				"and would answer the clients themselves",
			server.mark)}
	}
	return way{dest: target, marked: true}, nil
}

func boundToDevice(target netip.AddrPort, s *tcpSocket) error {
	return &Unreachable{target, fmt.Sprintf("its server is bound to one interface (number %d), "+
		"and receives nothing over loopback", s.device)}
}
