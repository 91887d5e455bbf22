// Package packet decodes, encodes and prints IPv4, IPv6 and TCP headers, and decodes the frames and
// encapsulations around them.
//
// Decode sets a Segment whose payload is a view of the caller's bytes; it copies and allocates
// nothing. It trusts lengths only as far as the captured bytes permit. A frame captured within the
// host may be larger than the MTU, have no length (BIG TCP) and no complete checksum. The package
// knows no connections.
package packet

import (
	"net/netip"

	"tcpcopy/internal/core/seqnum"
)

// Flags are TCP's control bits (RFC 9293 §3.1), as in byte 13 of the header.
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

// Has reports whether all bits of want are set.
func (f Flags) Has(want Flags) bool { return f&want == want }

// Any reports whether any bit of want is set.
func (f Flags) Any(want Flags) bool { return f&want != 0 }

// MaxSACKBlocks is how many blocks fit in the option space (RFC 2018 §3).
const MaxSACKBlocks = 4

// SACKBlock is a range of bytes that have arrived, from First up to but not including End.
type SACKBlock struct{ First, End seqnum.Value }

// Options are the TCP options that a client needs. The zero value is none. Decode skips other
// options.
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

// SACKBlocks returns the SACK blocks, as a view of o.
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
	// Payload is what was captured, or is to be sent. The Segment does not own it. It is shorter
	// than Len if the packet was cut or only headers are handed on.
	Payload []byte
	// Len is the length of the payload on the wire, in bytes.
	Len int
}

// SeqLen returns the segment's length in sequence space: its payload, SYN and FIN (RFC 9293 §3.4).
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

// End returns the sequence number after the segment.
func (s *Segment) End() seqnum.Value { return s.Seq.Add(s.SeqLen()) }

// Cut reports whether bytes of the payload were not captured.
func (s *Segment) Cut() bool { return len(s.Payload) < s.Len }
