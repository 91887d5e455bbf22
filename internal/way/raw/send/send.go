// Package send puts TCP segments that we made ourselves on the wire: through raw IP sockets, or at
// the link layer of one interface.
//
// Adjacent segments of one connection go down as one large packet (a group, see groupLen) where
// what leaves the host is the same; which routes and firewalls allow that is in lookup.go and
// firewall.go. Nothing is held back or repeated: a segment that does not go is counted and
// forgotten, and TCP, in package tcp, sends it again. The engine's shards call it, each with a
// Sender of its own.
package send

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/vishvananda/netlink"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/sys"
)

// DefaultBuffer is the send buffer, in bytes, where the configuration names none: room for some
// thousand full segments.
const DefaultBuffer = 8 << 20

// headerRoom holds the longest headers: IPv6 (40) and TCP with all its options (60).
const headerRoom = 100

// Config holds the settings that all senders share.
type Config struct {
	// Mark is put on every packet, so that a capture on this host can leave it out and firewall
	// rules can name it; 0: none.
	Mark   uint32
	Buffer int  // bytes; 0: DefaultBuffer
	Single bool // each segment goes down as a packet of its own
}

// Stats are totals since the sender was made. Every segment that Send was given is in exactly one
// of them, but for those in Grouped, which are in Sent too.
type Stats struct {
	Sent       uint64
	TooBig     uint64 // over the MTU
	Forbidden  uint64 // dropped by a firewall rule (EPERM)
	QueueFull  uint64 // the interface's queue (ENOBUFS) or the socket's buffer (EAGAIN) had no room
	NoRoute    uint64 // no route, no next hop, or the interface is down
	Impossible uint64 // its two addresses are not of one family, or the kernel refused it
	Grouped    uint64 // went down with others as one packet
}

// Sender sends segments. One goroutine may use it; Stats is safe for all.
type Sender struct {
	v4, v6 outlet
	groups groups
	took   int // segments that the kernel took from the present Send
	tooBig []int

	sent, big, forbidden, full, noRoute, impossible, grouped atomic.Uint64
}

// outlet is the batch of single segments for one IP version and the socket that it goes to; a
// sender at the link layer has one socket for both.
type outlet struct {
	socket *sys.SendSocket // nil: this host does not have this IP version
	batch  *sys.SendBatch
	index  [sys.SendBatchSize]int // where each packet of the batch stands in Send's argument
	arena  []byte                 // headerRoom for each packet of the batch
	link   *link                  // nil: the kernel routes
	family uint16                 // EtherType
	flows  flowSet
}

// link is the next hop at the link layer.
type link struct {
	ifindex int
	gateway [6]byte
	next    *NextHops
}

func (l *link) to(dst netip.Addr) [6]byte {
	if l.next != nil {
		if mac, ok := l.next.To(dst); ok {
			return mac
		}
	}
	return l.gateway
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

// New opens raw sockets for IPv4 and IPv6, in the network namespace of the calling thread; the
// kernel routes what they send. An IP version that the host does not have is left out. An error for
// want of a capability satisfies errors.Is(err, os.ErrPermission).
func New(cfg Config) (*Sender, error) {
	v4, err4 := sys.OpenRawIPv4(cfg.send())
	v6, err6 := sys.OpenRawIPv6(cfg.send())
	for _, err := range []error{err4, err6} {
		if err != nil && !errors.Is(err, sys.ErrNoFamily) {
			return nil, errors.Join(prefix(err), v4.Close(), v6.Close())
		}
	}
	s := &Sender{v4: newOutlet(v4, sys.EthPIP), v6: newOutlet(v6, sys.EthPIPv6)}
	if cfg.Single {
		return s, nil
	}
	// Without what groups need, all segments go singly.
	if l, err := newLookup(cfg.Mark); err == nil {
		s.groups, _ = newGroups(&cfg, l.find, l.close)
	}
	return s, nil
}

// Device is an interface to send on, and the next hops there.
type Device struct {
	Name    string
	Next    *NextHops        // of the destinations that it follows; may be nil
	Gateway net.HardwareAddr // next hop of all others; Resolve finds it
}

// OnDevice makes a sender that writes frames on one interface, past routing, conntrack and the
// firewall.
func OnDevice(cfg Config, dev Device) (*Sender, error) {
	socket, err := sys.OpenPacketSender(cfg.send())
	if err != nil {
		return nil, prefix(err)
	}
	l, err := newLink(&dev)
	if err != nil {
		return nil, errors.Join(err, socket.Close())
	}
	s := &Sender{v4: newOutlet(socket, sys.EthPIP), v6: newOutlet(socket, sys.EthPIPv6)}
	s.v4.link, s.v6.link = l, l
	if cfg.Single {
		return s, nil
	}
	if h, err := netlink.NewHandle(netlinkRoute); err == nil {
		s.groups, _ = newGroups(&cfg, func(dst netip.Addr) (hop, error) {
			to, err := frameDevice(h, l.ifindex)
			to.dst = l.to(dst)
			return to, err
		}, h.Close)
	}
	return s, nil
}

func newLink(dev *Device) (*link, error) {
	l := &link{next: dev.Next}
	if len(dev.Gateway) > 0 {
		if len(dev.Gateway) != 6 {
			return nil, badMAC(dev.Gateway, dev.Name)
		}
		l.gateway = [6]byte(dev.Gateway)
	}
	ifi, err := net.InterfaceByName(dev.Name)
	if err != nil {
		return nil, badDevice(dev.Name, err)
	}
	l.ifindex = ifi.Index
	return l, nil
}

// Send sends segments, those of one connection in their order. It never waits: what finds no room
// is dropped. It returns how many the kernel took, and the indexes of those that were over the MTU,
// in no order, a slice that holds until the next Send: PathMTU returns what would fit. It keeps no
// reference to a payload.
func (s *Sender) Send(segs []packet.Segment) (sent int, tooBig []int) {
	s.took, s.tooBig = 0, s.tooBig[:0]
	for i := 0; i < len(segs); {
		n := groupLen(segs[i:])
		if n > 1 && s.addGroup(segs, i, n) {
			i += n
			continue
		}
		for ; n > 0; n-- {
			s.add(segs, i)
			i++
		}
	}
	s.flushGroups(segs)
	s.flush(&s.v4)
	s.flush(&s.v6)
	return s.took, s.tooBig
}

func (s *Sender) outlet(dst netip.Addr) *outlet {
	if dst.Is4() {
		return &s.v4
	}
	return &s.v6
}

// add adds a segment to the batch of single ones.
func (s *Sender) add(segs []packet.Segment, i int) {
	seg := &segs[i]
	src, dst := seg.Src.Addr(), seg.Dst.Addr()
	if !src.IsValid() || !dst.IsValid() || src.Is4() != dst.Is4() {
		s.impossible.Add(1)
		return
	}
	o := s.outlet(dst)
	if o.socket == nil {
		s.noRoute.Add(1)
		return
	}
	bit := flowBit(seg)
	if s.groups.flows&bit != 0 {
		s.flushGroups(segs)
	}
	if o.batch.Full() {
		s.flush(o)
	}
	o.flows |= bit
	o.add(i, seg)
}

func (o *outlet) add(i int, seg *packet.Segment) {
	n := o.batch.Len()
	o.index[n] = i
	room := o.arena[n*headerRoom : n*headerRoom : (n+1)*headerRoom]
	headers := packet.AppendHeaders(room, seg)
	dst := seg.Dst.Addr()
	switch {
	case o.link != nil:
		o.batch.AddToLink(o.link.ifindex, o.family, o.link.to(dst), headers, seg.Payload)
	case o.family == sys.EthPIP:
		o.batch.AddTo4(dst, headers, seg.Payload)
	default:
		o.batch.AddTo6(dst, 0, headers, seg.Payload)
	}
}

// flush sends the batch of single segments.
func (s *Sender) flush(o *outlet) {
	for at, n := 0, o.batch.Len(); at < n; {
		took, err := o.socket.Send(o.batch, at)
		s.took += took
		s.sent.Add(uint64(took))
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
		case sys.ErrAgain: // the others would find no room either
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
	o.flows = 0
}

// Stats returns the totals.
func (s *Sender) Stats() Stats {
	return Stats{
		Sent: s.sent.Load(), TooBig: s.big.Load(), Forbidden: s.forbidden.Load(),
		QueueFull: s.full.Load(), NoRoute: s.noRoute.Load(), Impossible: s.impossible.Load(),
		Grouped: s.grouped.Load(),
	}
}

// Close closes the sockets. No Send may be under way.
func (s *Sender) Close() error {
	err := errors.Join(s.groups.close(), s.v4.socket.Close())
	if s.v6.socket != s.v4.socket {
		err = errors.Join(err, s.v6.socket.Close())
	}
	return err
}
