package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
)

// Probes is set by an end that takes part in examinations: a copier that asks (Look), an intercept
// that looks, passes the request on to witnesses, and sends probes itself.
const Probes Capabilities = 1 << 1

// Witness is set by what is no copier: it stands on a target, and answers the Looks that an
// intercept passes on.
const Witness Capabilities = 1 << 2

// LookStep is what a Look asks for.
type LookStep uint8

// The steps, in their order.
const (
	LookBegin LookStep = 1 // count what comes of these probes from now on
	LookSend  LookStep = 2 // intercept: send one SYN of Inside
	LookEnd   LookStep = 3 // report what was counted, and forget it
)

// String returns the step's name.
func (s LookStep) String() string {
	switch s {
	case LookBegin:
		return "begin"
	case LookSend:
		return "send"
	case LookEnd:
		return "end"
	}
	return fmt.Sprintf("step %d", uint8(s))
}

// Probe is a SYN that opens nothing: its sequence number tells it from every other packet.
type Probe struct {
	Port uint16 // of the client
	Seq  seqnum.Value
}

// Look asks an intercept, and the witnesses behind it, what becomes of SYNs from a client's address
// to a target. Each step is answered by a Seen with the same ID.
type Look struct {
	ID      uint32
	Step    LookStep
	Client  netip.Addr // of the probes; no host must have it
	Target  netip.AddrPort
	Outside Probe // that the copier sends
	Inside  Probe // that the intercept sends
	// Clients are addresses of some real clients: the target's routes to them matter.
	Clients []netip.Addr
}

// MaxLookClients is how many clients a Look can name.
const MaxLookClients = 8

// Append appends the message as a frame.
func (l *Look) Append(dst []byte) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(begin(dst, TypeLook, 0), l.ID)
	dst = appendAddrPort(appendAddr(append(dst, byte(l.Step)), l.Client), l.Target)
	for _, p := range []Probe{l.Outside, l.Inside} {
		dst = binary.BigEndian.AppendUint16(dst, p.Port)
		dst = binary.BigEndian.AppendUint32(dst, uint32(p.Seq))
	}
	clients := l.Clients[:min(len(l.Clients), MaxLookClients)]
	dst = append(dst, byte(len(clients)))
	for _, a := range clients {
		dst = appendAddr(dst, a)
	}
	return end(dst, start)
}

// Decode reads the body of a Look.
func (l *Look) Decode(body []byte) error {
	c := cursor{b: body}
	*l = Look{ID: c.u32(), Step: LookStep(c.u8()), Client: c.addr(), Target: c.addrPort()}
	for _, p := range []*Probe{&l.Outside, &l.Inside} {
		*p = Probe{Port: c.u16(), Seq: seqnum.Value(c.u32())}
	}
	n := int(c.u8())
	if n > MaxLookClients {
		return fmt.Errorf("%w in look: %d clients, want at most %d", ErrValue, n, MaxLookClients)
	}
	for i := 0; i < n && !c.short && !c.bad; i++ {
		l.Clients = append(l.Clients, c.addr())
	}
	if err := c.err(TypeLook); err != nil {
		return err
	}
	if l.Step < LookBegin || l.Step > LookEnd || l.Client.Is4() != l.Target.Addr().Is4() {
		return fmt.Errorf("%w in look: %v from %v to %v", ErrValue, l.Step, l.Client, l.Target)
	}
	return nil
}

// SYN returns a probe as a segment.
func (l *Look) SYN(p Probe) packet.Segment {
	return packet.Segment{
		Src: netip.AddrPortFrom(l.Client, p.Port), Dst: l.Target, Seq: p.Seq, Flags: packet.SYN,
		Window: probeWindow, Opts: packet.Options{MSS: probeMSS, SACKPermitted: true},
	}
}

// Reset returns the segment that has a target forget a probe.
func (l *Look) Reset(p Probe) packet.Segment {
	return packet.Segment{
		Src: netip.AddrPortFrom(l.Client, p.Port), Dst: l.Target, Seq: p.Seq.Add(1),
		Flags: packet.RST,
	}
}

// What a probe offers: no more than any system does.
const probeMSS, probeWindow = 1220, 64240

// Saw counts a segment from a server if it answers one of the probes, and reports whether it does.
func (s *Seen) Saw(l *Look, seg *packet.Segment) bool {
	if seg.Dst.Addr() != l.Client || !seg.Flags.Has(packet.ACK) {
		return false
	}
	for _, x := range []struct {
		probe Probe
		count *Count
	}{{l.Outside, &s.Outside}, {l.Inside, &s.Inside}} {
		if seg.Dst.Port() != x.probe.Port || seg.Ack != x.probe.Seq.Add(1) {
			continue
		}
		if seg.Flags.Has(packet.RST) {
			increment(&x.count.Resets)
		} else {
			increment(&x.count.Answers)
		}
		if seg.Src.Addr() != l.Target.Addr() {
			s.Answerer = seg.Src.Addr()
		}
		return true
	}
	return false
}

// Arrived counts a segment to a server if it is one of the probes, from whatever address, and
// reports whether it is.
func (s *Seen) Arrived(l *Look, seg *packet.Segment) bool {
	if seg.Flags.Has(packet.ACK) || !seg.Flags.Has(packet.SYN) {
		return false
	}
	switch {
	case seg.Seq == l.Outside.Seq:
		increment(&s.Outside.SYNs)
	case seg.Seq == l.Inside.Seq:
		increment(&s.Inside.SYNs)
	default:
		return false
	}
	if seg.Src.Addr() != l.Client {
		s.Source = seg.Src.Addr()
	}
	return true
}

// increment counts as far as there is room.
func increment(n *uint8) { *n += min(1, 255-*n) }

// MaxFindings bounds the findings of a Seen, in bytes.
const MaxFindings = 32 << 10

// Seen answers a step of a Look.
type Seen struct {
	ID      uint32
	Step    LookStep
	Witness bool   // a witness answers, else the intercept
	Refused string // why the step was not carried out; empty: it was
	// Witnesses is how many witnesses the intercept has passed the Look on to.
	Witnesses uint8

	Outside, Inside Count
	// Source is the address from which SYNs of Outside came, if another than the client's: it was
	// translated on the way. Answerer is the one from which answers came, if not the target's.
	Source, Answerer netip.Addr
	Findings         []byte // what the doctor found on that host: JSON
}

// Count is what was seen of a Probe.
type Count struct {
	SYNs    uint8 // that arrived
	Answers uint8 // SYN-ACKs: that left a witness's host, or that came to the intercept
	Resets  uint8
}

// Append appends the message as a frame. Findings over MaxFindings are left out.
func (s *Seen) Append(dst []byte) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(begin(dst, TypeSeen, Skippable), s.ID)
	who := byte(0)
	if s.Witness {
		who = 1
	}
	dst = append(dst, byte(s.Step), who, s.Witnesses)
	for _, n := range []Count{s.Outside, s.Inside} {
		dst = append(dst, n.SYNs, n.Answers, n.Resets)
	}
	for _, a := range []netip.Addr{s.Source, s.Answerer} {
		if a.IsValid() {
			dst = appendAddr(append(dst, 1), a)
		} else {
			dst = append(dst, 0)
		}
	}
	dst = appendLongText(dst, s.Refused)
	findings := s.Findings
	if len(findings) > MaxFindings {
		findings = nil
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(findings)))
	return end(append(dst, findings...), start)
}

// Decode reads the body of a Seen. Findings are a part of it.
func (s *Seen) Decode(body []byte) error {
	c := cursor{b: body}
	*s = Seen{ID: c.u32(), Step: LookStep(c.u8()), Witness: c.u8() != 0, Witnesses: c.u8()}
	for _, n := range []*Count{&s.Outside, &s.Inside} {
		*n = Count{SYNs: c.u8(), Answers: c.u8(), Resets: c.u8()}
	}
	for _, a := range []*netip.Addr{&s.Source, &s.Answerer} {
		if c.u8() != 0 {
			*a = c.addr()
		}
	}
	s.Refused = c.longText()
	n := int(c.u16())
	if n > MaxFindings {
		return fmt.Errorf("%w in seen: findings of %d bytes, want at most %d", ErrValue, n,
			MaxFindings)
	}
	s.Findings = c.bytes(n)
	return c.err(TypeSeen)
}
