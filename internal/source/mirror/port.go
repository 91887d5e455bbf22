package mirror

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/afpacket"
	"tcpcopy/internal/source/filter"
)

// Port is a source.Source over an interface that a switch mirrors traffic to: plain, with 802.1Q
// tags, or in GRE or ERSPAN.
type Port struct {
	*afpacket.Source
	filter   filter.Program
	carriers Carriers

	foreign, malformed, filtered atomic.Uint64
}

// Carriers says which packets in GRE and ERSPAN are accepted. Anyone who can send this host an IP
// packet can send one, unlike the plain frames of a mirror port. The zero value accepts plain
// frames only.
type Carriers struct {
	Peers []netip.Prefix // their senders, from which all traffic must come; none: see All
	All   bool           // without Peers: whoever has sent them, and plain frames
}

// OpenPort captures on the interfaces of cfg, regardless of the frames' destination addresses; the
// interfaces should be named. cfg.Filter must accept encapsulated packets
// (filter.CaptureSpec.Encapsulated). inner is the filter of the packets inside, from the IP header
// on; an empty one accepts all.
func OpenPort(cfg afpacket.Config, inner filter.Program, carriers Carriers) (*Port, error) {
	cfg.Promiscuous, cfg.IgnoreOutgoing = true, true
	s, err := afpacket.Open(cfg)
	if err != nil {
		return nil, err
	}
	return &Port{Source: s, filter: inner, carriers: carriers}, nil
}

// Next implements source.Source. It removes encapsulations.
func (p *Port) Next(wait time.Duration) ([]source.Frame, error) {
	end := time.Now().Add(wait)
	for left := wait; ; left = max(0, time.Until(end)) {
		if wait < 0 {
			left = wait
		}
		frames, err := p.Source.Next(left)
		if len(frames) == 0 || err != nil {
			return frames, err
		}
		if frames = p.unwrap(frames); len(frames) > 0 || left == 0 {
			return frames, nil
		}
	}
}

// unwrap removes encapsulations and applies the filter, in place.
func (p *Port) unwrap(frames []source.Frame) []source.Frame {
	kept := frames[:0]
	for i := range frames {
		f := &frames[i]
		in := packet.Inner{Data: f.Data, Wire: f.Wire, VLAN: f.VLAN}
		changed, err := packet.Unwrap(&in)
		switch {
		case !p.carriers.accept(changed, f.Data):
			p.foreign.Add(1)
			continue
		case !changed: // not encapsulated; the reader handles malformed packets
		case err == packet.ErrNotIP:
			p.foreign.Add(1)
			continue
		case err != nil:
			p.malformed.Add(1)
			continue
		default:
			f.Data, f.Wire, f.VLAN = in.Data, in.Wire, in.VLAN
		}
		if len(p.filter) > 0 {
			m := filter.Meta{Len: f.Wire, HasVLAN: f.VLAN != 0, VLAN: f.VLAN}
			if p.filter.Match(f.Data, &m) == 0 {
				p.filtered.Add(1)
				continue
			}
		}
		kept = append(kept, *f)
	}
	return kept
}

// accept reports whether a packet is accepted. carried reports whether it carries another one.
func (c *Carriers) accept(carried bool, b []byte) bool {
	switch {
	case len(c.Peers) == 0:
		return c.All || !carried
	case !carried:
		return false
	}
	from := sender(b)
	return slices.ContainsFunc(c.Peers, func(p netip.Prefix) bool { return p.Contains(from) })
}

// sender returns the source address of an IP packet, or an invalid one.
func sender(b []byte) (a netip.Addr) {
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		a, _ = netip.AddrFromSlice(b[12:16])
	case len(b) >= 40 && b[0]>>4 == 6:
		a, _ = netip.AddrFromSlice(b[8:24])
	}
	return a
}

// Stats implements source.Source.
func (p *Port) Stats() source.Stats {
	st := p.Source.Stats()
	foreign, malformed, filtered := p.foreign.Load(), p.malformed.Load(), p.filtered.Load()
	st.Foreign += foreign
	st.Malformed += malformed
	st.Delivered -= foreign + malformed + filtered
	st.Offered -= filtered // Offered counts what passes the filter
	return st
}
