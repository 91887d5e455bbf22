package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
)

// Tuple names a connection by its ends as the target sees them.
type Tuple struct {
	Client netip.AddrPort
	Target netip.AddrPort
}

// String returns the client, an arrow, and the target.
func (t Tuple) String() string { return t.Client.String() + " > " + t.Target.String() }

// MaxTuples is how many tuples one message can hold.
const MaxTuples = 16384

func appendTuple(dst []byte, t Tuple) []byte {
	return appendAddrPort(appendAddrPort(dst, t.Client), t.Target)
}

func (c *cursor) tuple() Tuple { return Tuple{Client: c.addrPort(), Target: c.addrPort()} }

// AppendTuples appends a frame of type t (TypeClaim, TypeClaimRefused, TypeRelease) that holds
// tuples, at most MaxTuples.
func AppendTuples(dst []byte, t Type, tuples []Tuple) []byte {
	start := len(dst)
	tuples = tuples[:min(len(tuples), MaxTuples)]
	dst = binary.BigEndian.AppendUint16(begin(dst, t, 0), uint16(len(tuples)))
	for _, x := range tuples {
		dst = appendTuple(dst, x)
	}
	return end(dst, start)
}

// DecodeTuples reads the body of a TypeClaim, TypeClaimRefused or TypeRelease, and appends its
// tuples to dst.
func DecodeTuples(dst []Tuple, t Type, body []byte) ([]Tuple, error) {
	c := cursor{b: body}
	n := int(c.u16())
	if n > MaxTuples {
		return dst, fmt.Errorf("%w in %v: %d tuples, want at most %d", ErrValue, t, n, MaxTuples)
	}
	for i := 0; i < n && !c.short && !c.bad; i++ {
		dst = append(dst, c.tuple())
	}
	return dst, c.err(t)
}

// Query asks who owns a connection. The answer has the same ID.
type Query struct {
	ID    uint32
	Tuple Tuple
}

// Append appends the message as a frame.
func (q *Query) Append(dst []byte) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(begin(dst, TypeQuery, 0), q.ID)
	return end(appendTuple(dst, q.Tuple), start)
}

// Decode reads the body of a Query.
func (q *Query) Decode(body []byte) error {
	c := cursor{b: body}
	*q = Query{ID: c.u32(), Tuple: c.tuple()}
	return c.err(TypeQuery)
}

// Seek asks whether a connection may be opened, or its SYN sent again. The answer is an Owner with
// the same ID. It is Another if another copier has the connection, or had it when the first SYN of
// the copier that asks was due, Age milliseconds ago. Any other answer permits it. From then on the
// copier that asks also receives the target's segments whose acknowledgment names no copier.
type Seek struct {
	ID    uint32
	Age   uint32
	Tuple Tuple
}

// Append appends the message as a frame.
func (s *Seek) Append(dst []byte) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(begin(dst, TypeSeek, 0), s.ID)
	dst = binary.BigEndian.AppendUint32(dst, s.Age)
	return end(appendTuple(dst, s.Tuple), start)
}

// Decode reads the body of a Seek.
func (s *Seek) Decode(body []byte) error {
	c := cursor{b: body}
	*s = Seek{ID: c.u32(), Age: c.u32(), Tuple: c.tuple()}
	return c.err(TypeSeek)
}

// Ownership is the answer to a Query or a Seek.
type Ownership uint8

// The answers.
const (
	Nobody  Ownership = 1 // no copier owns it
	You     Ownership = 2 // the copier that asks
	Another Ownership = 3 // another copier
	Unsure  Ownership = 4 // the intercept started, or lost a copier, too recently to know
)

// String returns the answer in a word.
func (o Ownership) String() string {
	switch o {
	case Nobody:
		return "nobody"
	case You:
		return "you"
	case Another:
		return "another"
	case Unsure:
		return "unsure"
	}
	return fmt.Sprintf("ownership %d", uint8(o))
}

// Owner is the answer to a Query or a Seek.
type Owner struct {
	ID    uint32
	Owner Ownership
	Tuple Tuple
}

// Append appends the message as a frame.
func (o *Owner) Append(dst []byte) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint32(begin(dst, TypeOwner, 0), o.ID)
	return end(appendTuple(append(dst, byte(o.Owner)), o.Tuple), start)
}

// Decode reads the body of an Owner.
func (o *Owner) Decode(body []byte) error {
	c := cursor{b: body}
	*o = Owner{ID: c.u32(), Owner: Ownership(c.u8()), Tuple: c.tuple()}
	return c.err(TypeOwner)
}

// ICMP reports an ICMP error about a packet that a copier sent. Anybody can send such a message:
// its reader checks Seq against what is in flight (RFC 5927 §4.1) and bounds MTU from below.
type ICMP struct {
	Kind  packet.ICMPKind
	Code  uint8
	MTU   uint32 // in bytes, with the IP header; 0: not reported
	Seq   seqnum.Value
	Tuple Tuple
}

// Append appends the message as a frame.
func (m *ICMP) Append(dst []byte) []byte {
	start := len(dst)
	dst = append(begin(dst, TypeICMP, Skippable), byte(m.Kind), m.Code)
	dst = binary.BigEndian.AppendUint32(dst, m.MTU)
	dst = binary.BigEndian.AppendUint32(dst, uint32(m.Seq))
	return end(appendTuple(dst, m.Tuple), start)
}

// Decode reads the body of an ICMP.
func (m *ICMP) Decode(body []byte) error {
	c := cursor{b: body}
	*m = ICMP{Kind: packet.ICMPKind(c.u8()), Code: c.u8(), MTU: c.u32(), Seq: seqnum.Value(c.u32()),
		Tuple: c.tuple()}
	return c.err(TypeICMP)
}
