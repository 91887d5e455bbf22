// Package packet reads and writes IPv4, IPv6 and TCP headers, and shows them in one line.
//
// Decode fills a Segment whose payload is a view of the caller's bytes; nothing is copied and
// nothing allocated. It believes lengths only as far as the captured bytes bear them out: a frame
// taken on its way through the host may be larger than the MTU, carry no length at all (BIG TCP)
// and no finished checksum. The package knows nothing of connections; package tcp does.
package packet

import (
	"net/netip"

	"tcpcopy/internal/core/seqnum"
)

// Flags are TCP's control bits (RFC 9293 §3.1), as in the header's fourteenth byte.
type Flags uint8

// The control bits.
const (
	FIN Flags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// Has says whether all bits of want are set.
func (f Flags) Has(want Flags) bool { return f&want == want }

// Any says whether one of the bits of want is set.
func (f Flags) Any(want Flags) bool { return f&want != 0 }

// MaxSACKBlocks is how many blocks fit the option space (RFC 2018 §3).
const MaxSACKBlocks = 4

// SACKBlock is a range of bytes that arrived: from First up to, not including, End.
type SACKBlock struct{ First, End seqnum.Value }

// Options are the TCP options that matter to a client; the zero value is none. Unknown options are
// skipped on reading.
type Options struct {
	MSS           uint16 // RFC 9293 §3.7.1; 0: absent
	WScale        uint8  // RFC 7323 §2, at most 14; valid if HasWScale
	HasWScale     bool
	SACKPermitted bool // RFC 2018 §2
	HasTS         bool // RFC 7323 §3
	NSACK         uint8
	TSVal, TSEcr  uint32
	SACK          [MaxSACKBlocks]SACKBlock
}

// SACKBlocks returns the blocks that are set: a view into o.
func (o *Options) SACKBlocks() []SACKBlock { return o.SACK[:o.NSACK] }

// Segment is one TCP segment with the addresses of the packet that carries it.
type Segment struct {
	Src, Dst netip.AddrPort
	Seq, Ack seqnum.Value
	Flags    Flags
	TTL      uint8  // IPv4 TTL or IPv6 hop limit; 0 is written as 64
	Window   uint16 // as in the header, not scaled
	Urgent   uint16
	Opts     Options
	// Payload is what was captured, or what is to be sent: a view of somebody else's bytes. Shorter
	// than Len where the packet was cut, or where only headers travel.
	Payload []byte
	// Len is how many bytes of payload the segment has on the wire.
	Len int
}

// SeqLen is the room that the segment takes in sequence space: its payload, SYN and FIN
// (RFC 9293 §3.4).
func (s *Segment) SeqLen() int {
	n := s.Len
	if s.Flags&SYN != 0 {
		n++
	}
	if s.Flags&FIN != 0 {
		n++
	}
	return n
}

// End is the sequence number after the segment.
func (s *Segment) End() seqnum.Value { return s.Seq.Add(s.SeqLen()) }

// Cut says whether bytes of the payload are missing from the capture.
func (s *Segment) Cut() bool { return len(s.Payload) < s.Len }
