package send

import (
	"net/netip"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/sys"
)

const (
	// maxGroupBytes keeps a group with its headers within the length fields of IPv4 and IPv6.
	maxGroupBytes = 0xffff - headerRoom
	// maxGroup is the most segments in a group.
	maxGroup = 128
	// frameRoom holds a frame's headers.
	frameRoom = sys.FrameHeaderLen + headerRoom
)

// groups is the batch of groups: each is some adjacent segments of one connection that go down as
// one packet, which the device, or the kernel for it, cuts into them (TCP segmentation offload).
type groups struct {
	socket *sys.SendSocket // nil: groups cannot be sent
	batch  *sys.FrameBatch
	hops   *hops
	parts  [sys.SendBatchSize]group
	arena  []byte // frameRoom for each group of the batch
	flows  flowSet
}

// group names the segments first … first+n-1 of Send's argument.
type group struct{ first, n int }

// flowSet is a set of connections that may hold more than was put into it.
type flowSet uint64

func flowBit(s *packet.Segment) flowSet {
	return 1 << ((uint(s.Src.Port())*31 + uint(s.Dst.Port())) % 64)
}

// newGroups returns a batch whose groups go where find says. It calls free when find is needed no
// more.
func newGroups(cfg *Config, find func(dst netip.Addr) (hop, error), free func()) (groups, error) {
	socket, err := sys.OpenFrameSender(cfg.send())
	if err != nil {
		free()
		return groups{}, err
	}
	return groups{
		socket: socket, batch: sys.NewFrameBatch(), hops: newHops(find, free),
		arena: make([]byte, sys.SendBatchSize*frameRoom),
	}, nil
}

func (g *groups) close() error {
	if g.socket == nil {
		return nil
	}
	g.hops.stop()
	return g.socket.Close()
}

// groupLen returns how many segments at the start of segs, at least one, can be one group: the
// segments that segmentation offload makes of it are these, bit for bit, but for the IPv4
// identification.
//
// Offload copies the headers to each segment, counts the sequence number on, and leaves PSH and FIN
// to the last segment, the only one that may be shorter.
func groupLen(segs []packet.Segment) int {
	first := &segs[0]
	size := len(first.Payload)
	if size == 0 || first.Flags != packet.ACK || first.Urgent != 0 {
		return 1
	}
	n, bytes := 1, size
	for n < len(segs) && n < maxGroup {
		s := &segs[n]
		bytes += len(s.Payload)
		if s.Seq != segs[n-1].Seq.Add(size) || len(s.Payload) == 0 || len(s.Payload) > size ||
			bytes > maxGroupBytes || s.Flags&^(packet.PSH|packet.FIN) != packet.ACK ||
			s.Ack != first.Ack || s.Window != first.Window || s.TTL != first.TTL || s.Urgent != 0 ||
			s.Src != first.Src || s.Dst != first.Dst || s.Opts != first.Opts {
			break
		}
		n++
		if len(s.Payload) < size || s.Flags != packet.ACK {
			break
		}
	}
	return n
}

// addGroup adds segs[first:first+n] to the batch of groups. It returns false if the way to their
// destination takes no groups, or is not known yet.
func (s *Sender) addGroup(segs []packet.Segment, first, n int) bool {
	g := &s.groups
	seg := &segs[first]
	src, dst := seg.Src.Addr(), seg.Dst.Addr()
	if g.socket == nil || !src.IsValid() || !dst.IsValid() || src.Is4() != dst.Is4() ||
		dst.Is4In6() {
		return false
	}
	to, ok := g.hops.get(dst)
	headers := packet.HeaderLen(seg)
	if !ok || headers+len(seg.Payload) > to.mtu {
		return false
	}
	o := s.outlet(dst)
	bit := flowBit(seg)
	if o.flows&bit != 0 {
		s.flush(o)
	}
	if !g.batch.Room(n + 1) {
		s.flushGroups(segs)
	}
	at := g.batch.Len()
	g.parts[at] = group{first, n}
	g.flows |= bit

	payload := 0
	for i := range n {
		payload += len(segs[first+i].Payload)
	}
	last := segs[first+n-1].Flags
	head := *seg
	head.Flags = last
	frame := g.arena[at*frameRoom : at*frameRoom+sys.FrameHeaderLen : (at+1)*frameRoom]
	h := sys.FrameHeader{
		Dst: to.dst, Src: to.src, EtherType: o.family, IPHeader: ipHeaderLen(o.family),
		Headers: headers, Segment: len(seg.Payload),
	}
	h.Put(frame)
	g.batch.Add(to.ifindex, o.family, packet.AppendPartial(frame, &head, payload))
	for i := range n {
		g.batch.AddPayload(segs[first+i].Payload)
	}
	return true
}

func ipHeaderLen(etherType uint16) int {
	if etherType == sys.EthPIP {
		return 20
	}
	return 40
}

// flushGroups sends the batch of groups. A group that does not go for another reason than want of
// room goes by segments instead, which shows what is wrong with which of them.
func (s *Sender) flushGroups(segs []packet.Segment) {
	g := &s.groups
	if g.flows == 0 {
		return
	}
	g.flows = 0
	for at, n := 0, g.batch.Len(); at < n; {
		took, err := g.socket.SendFrames(g.batch, at)
		for _, p := range g.parts[at : at+took] {
			s.took += p.n
			s.sent.Add(uint64(p.n))
			s.grouped.Add(uint64(p.n))
		}
		at += took
		if err == nil {
			continue
		}
		p := g.parts[at]
		at++
		switch err {
		case sys.ErrNoBuffers:
			s.full.Add(uint64(p.n))
		case sys.ErrAgain: // the others would find no room either
			for s.full.Add(uint64(p.n)); at < n; at++ {
				s.full.Add(uint64(g.parts[at].n))
			}
		default:
			g.hops.forget(segs[p.first].Dst.Addr())
			for i := p.first; i < p.first+p.n; i++ {
				s.add(segs, i)
			}
		}
	}
	g.batch.Reset()
}
