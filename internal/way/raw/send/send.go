// Package send puts TCP segments that we made ourselves on the wire: through raw IP sockets, or at the
// link layer of one interface.
//
// It does not cut, hold back or repeat anything: a segment that does not go is counted and forgotten, and
// TCP, in package tcp, sends it again. The engine's shards call it, each with a Sender of its own.
package send

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/sys"
)

// DefaultBuffer is the send buffer, in bytes, where the configuration names none: room for a few
// thousand full segments.
const DefaultBuffer = 8 << 20

// headerRoom holds the longest headers: IPv6 (40) and TCP with all its options (60).
const headerRoom = 100

// Config is what all senders have in common.
type Config struct {
	// Mark is put on every packet, so that a capture on this host can leave it out, and firewall rules can
	// name it; 0: none.
	Mark   uint32
	Buffer int // bytes; 0: DefaultBuffer
}

// Stats are totals since the sender was made. Every segment that Send was given is in exactly one of them.
type Stats struct {
	Sent       uint64
	TooBig     uint64 // over the MTU
	Forbidden  uint64 // dropped by a firewall rule (EPERM)
	QueueFull  uint64 // the interface's queue (ENOBUFS) or the socket's buffer (EAGAIN) had no room
	NoRoute    uint64 // no route, no next hop, or the interface is down
	Impossible uint64 // its two addresses are not of one family, or the kernel would not have it
}

// Sender sends segments. It is for one goroutine; Stats is safe from any.
type Sender struct {
	v4, v6 outlet
	tooBig []int

	sent, big, forbidden, full, noRoute, impossible atomic.Uint64
}

// outlet is the batch for one IP version and the socket that it goes to; a sender at the link layer has
// one socket for both.
type outlet struct {
	socket *sys.SendSocket // nil: this host does not have this IP version
	batch  *sys.SendBatch
	index  [sys.SendBatchSize]int // where each packet of the batch stands in Send's argument
	arena  []byte                 // headerRoom for each packet of the batch
	link   *link                  // nil: the kernel routes
	family uint16                 // EtherType
}

// link is the way out at the link layer.
type link struct {
	ifindex int
	gateway [6]byte
	direct  map[netip.Addr][6]byte
}

func newOutlet(socket *sys.SendSocket, family uint16) outlet {
	return outlet{
		socket: socket, batch: sys.NewSendBatch(), family: family,
		arena: make([]byte, sys.SendBatchSize*headerRoom),
	}
}

func (c *Config) send() sys.SendConfig {
	buffer := c.Buffer
	if buffer == 0 {
		buffer = DefaultBuffer
	}
	return sys.SendConfig{Mark: c.Mark, Buffer: buffer}
}

// New opens raw sockets for IPv4 and IPv6, in the network namespace of the calling thread; the kernel
// routes what they send. An IP version that the host does not have is left out. An error for want of a
// capability satisfies errors.Is(err, os.ErrPermission).
func New(cfg Config) (*Sender, error) {
	v4, err4 := sys.OpenRawIPv4(cfg.send())
	v6, err6 := sys.OpenRawIPv6(cfg.send())
	for _, err := range []error{err4, err6} {
		if err != nil && !errors.Is(err, sys.ErrNoFamily) {
			return nil, errors.Join(prefix(err), v4.Close(), v6.Close())
		}
	}
	return &Sender{v4: newOutlet(v4, sys.EthPIP), v6: newOutlet(v6, sys.EthPIPv6)}, nil
}

// Device is an interface to send on, and who there takes packets on their way.
type Device struct {
	Name    string
	Gateway net.HardwareAddr // next hop of all destinations but those in Direct; Resolve finds it
	Direct  map[netip.Addr]net.HardwareAddr
}

// OnDevice makes a sender that writes frames on one interface, past routing, conntrack and the firewall.
func OnDevice(cfg Config, dev Device) (*Sender, error) {
	socket, err := sys.OpenPacketSender(cfg.send())
	if err != nil {
		return nil, prefix(err)
	}
	l := &link{direct: make(map[netip.Addr][6]byte, len(dev.Direct))}
	fill := func(to *[6]byte, mac net.HardwareAddr) bool {
		*to = [6]byte{}
		return copy(to[:], mac) == len(to) && len(mac) == len(to)
	}
	for addr, mac := range dev.Direct {
		var m [6]byte
		if !fill(&m, mac) {
			return nil, errors.Join(badMAC(mac, dev.Name), socket.Close())
		}
		l.direct[addr] = m
	}
	if len(dev.Gateway) > 0 && !fill(&l.gateway, dev.Gateway) {
		return nil, errors.Join(badMAC(dev.Gateway, dev.Name), socket.Close())
	}
	ifi, err := net.InterfaceByName(dev.Name)
	if err != nil {
		return nil, errors.Join(badDevice(dev.Name, err), socket.Close())
	}
	l.ifindex = ifi.Index
	s := &Sender{v4: newOutlet(socket, sys.EthPIP), v6: newOutlet(socket, sys.EthPIPv6)}
	s.v4.link, s.v6.link = l, l
	return s, nil
}

// Send sends segments in their order within each IP version. It never waits: what finds no room is
// dropped. It returns how many the kernel took, and the indexes of those that were over the MTU, a slice
// that holds until the next Send: PathMTU says what would fit. It keeps no reference to a payload.
func (s *Sender) Send(segs []packet.Segment) (sent int, tooBig []int) {
	s.tooBig = s.tooBig[:0]
	for i := range segs {
		seg := &segs[i]
		src, dst := seg.Src.Addr(), seg.Dst.Addr()
		if !src.IsValid() || !dst.IsValid() || src.Is4() != dst.Is4() {
			s.impossible.Add(1)
			continue
		}
		o := &s.v6
		if dst.Is4() {
			o = &s.v4
		}
		if o.socket == nil {
			s.noRoute.Add(1)
			continue
		}
		o.add(i, seg)
		if o.batch.Full() {
			sent += s.flush(o)
		}
	}
	sent += s.flush(&s.v4) + s.flush(&s.v6)
	return sent, s.tooBig
}

func (o *outlet) add(i int, seg *packet.Segment) {
	n := o.batch.Len()
	o.index[n] = i
	room := o.arena[n*headerRoom : n*headerRoom : (n+1)*headerRoom]
	headers := packet.AppendHeaders(room, seg)
	dst := seg.Dst.Addr()
	switch {
	case o.link != nil:
		mac, ok := o.link.direct[dst]
		if !ok {
			mac = o.link.gateway
		}
		o.batch.AddToLink(o.link.ifindex, o.family, mac, headers, seg.Payload)
	case o.family == sys.EthPIP:
		o.batch.AddTo4(dst, headers, seg.Payload)
	default:
		o.batch.AddTo6(dst, 0, headers, seg.Payload)
	}
}

// flush sends the batch and returns how many went.
func (s *Sender) flush(o *outlet) (sent int) {
	for at, n := 0, o.batch.Len(); at < n; {
		took, err := o.socket.Send(o.batch, at)
		sent += took
		at += took
		if err == nil {
			continue
		}
		switch err {
		case sys.ErrTooBig:
			s.big.Add(1)
			s.tooBig = append(s.tooBig, o.index[at])
		case sys.ErrForbidden:
			s.forbidden.Add(1)
		case sys.ErrNoBuffers:
			s.full.Add(1)
		case sys.ErrAgain: // nor would the others find room
			s.full.Add(uint64(n - at))
			at = n
		case sys.ErrNetUnreach, sys.ErrHostUnreach, sys.ErrNetDown, sys.ErrNoInterface:
			s.noRoute.Add(1)
		default:
			s.impossible.Add(1)
		}
		at++
	}
	o.batch.Reset()
	s.sent.Add(uint64(sent))
	return sent
}

// Stats returns the totals.
func (s *Sender) Stats() Stats {
	return Stats{
		Sent: s.sent.Load(), TooBig: s.big.Load(), Forbidden: s.forbidden.Load(),
		QueueFull: s.full.Load(), NoRoute: s.noRoute.Load(), Impossible: s.impossible.Load(),
	}
}

// Close closes the sockets. Nobody may be in Send.
func (s *Sender) Close() error {
	if s.v4.socket == s.v6.socket {
		return s.v4.socket.Close()
	}
	return errors.Join(s.v4.socket.Close(), s.v6.socket.Close())
}
