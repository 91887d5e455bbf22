package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
)

// The body of Headers has the time of the first segment on the intercept's clock (ns, 64 bits), how
// long after it the batch was sealed (µs, 32), and then records until its end. A record is
//
//	bits 8 · µs after the first segment 32 · source address, port · destination address, port ·
//	seq 32 · ack 32 · flags 8 · ttl 8 · window 16
//
// followed by what its bits announce: payload length 24; urgent pointer 16; timestamps 2 × 32; MSS
// 16, window scale 8 (255: none), SACK permitted 8; count 8 and SACK blocks of 2 × 32. An IPv4
// segment in the middle of a connection takes 40 bytes.
const (
	bitV6 = 1 << iota
	bitLen
	bitUrgent
	bitTS
	bitSYN
	bitSACK
	bitsKnown = bitV6 | bitLen | bitUrgent | bitTS | bitSYN | bitSACK
)

const (
	headersFixed = 12
	maxRecord    = 1 + 4 + 2*18 + 12 + 3 + 2 + 8 + 4 + 1 + 8*packet.MaxSACKBlocks
	maxLen       = 1<<24 - 1
	noScale      = 255
)

// HeaderBatch builds Headers messages, one after the other in the same buffer. The zero value is
// ready.
type HeaderBatch struct {
	buf  []byte
	base mono.Time
	n    int
}

// Len returns how many segments the batch holds.
func (b *HeaderBatch) Len() int { return b.n }

// Add appends the header of s, which was captured at the time at. It returns false, and appends
// nothing, if the batch is full: then it must be sealed first.
func (b *HeaderBatch) Add(s *packet.Segment, at mono.Time) bool {
	if b.n == 0 {
		b.buf = append(begin(b.buf[:0], TypeHeaders, 0), make([]byte, headersFixed)...)
		b.base = at
	}
	if len(b.buf) > FrameHeader+MaxBody-maxRecord {
		return false
	}
	b.n++
	b.buf = appendRecord(b.buf, s, micros(at.Sub(b.base)))
	return true
}

// Seal ends the batch at the time now and returns it as a frame, which is valid until the next Add.
// The frame of an empty batch is nil.
func (b *HeaderBatch) Seal(now mono.Time) []byte {
	if b.n == 0 {
		return nil
	}
	binary.BigEndian.PutUint64(b.buf[FrameHeader:], uint64(b.base))
	binary.BigEndian.PutUint32(b.buf[FrameHeader+8:], micros(now.Sub(b.base)))
	b.n = 0
	return end(b.buf, 0)
}

func micros(d time.Duration) uint32 {
	return uint32(min(max(d/time.Microsecond, 0), 1<<32-1))
}

// appendRecord reserves the longest record and fills it by index, which takes half the time of
// appending field by field.
func appendRecord(dst []byte, s *packet.Segment, after uint32) []byte {
	dst = slices.Grow(dst, maxRecord)
	r := dst[len(dst) : len(dst)+maxRecord]
	be := binary.BigEndian
	be.PutUint32(r[1:], after)
	var bits byte
	n := 17
	src, to := s.Src.Addr(), s.Dst.Addr()
	if src.Is4() && to.Is4() {
		a, b := src.As4(), to.As4()
		copy(r[5:9], a[:])
		be.PutUint16(r[9:], s.Src.Port())
		copy(r[11:15], b[:])
		be.PutUint16(r[15:], s.Dst.Port())
	} else {
		bits |= bitV6
		a, b := src.As16(), to.As16()
		copy(r[5:21], a[:])
		be.PutUint16(r[21:], s.Src.Port())
		copy(r[23:39], b[:])
		be.PutUint16(r[39:], s.Dst.Port())
		n = 41
	}
	be.PutUint32(r[n:], uint32(s.Seq))
	be.PutUint32(r[n+4:], uint32(s.Ack))
	r[n+8], r[n+9] = byte(s.Flags), s.TTL
	be.PutUint16(r[n+10:], s.Window)
	n += 12
	if s.Len != 0 {
		bits |= bitLen
		l := uint32(min(max(s.Len, 0), maxLen))
		r[n], r[n+1], r[n+2] = byte(l>>16), byte(l>>8), byte(l)
		n += 3
	}
	if s.Urgent != 0 {
		bits |= bitUrgent
		be.PutUint16(r[n:], s.Urgent)
		n += 2
	}
	o := &s.Opts
	if o.HasTS {
		bits |= bitTS
		be.PutUint32(r[n:], o.TSVal)
		be.PutUint32(r[n+4:], o.TSEcr)
		n += 8
	}
	if o.MSS != 0 || o.HasWScale || o.SACKPermitted {
		bits |= bitSYN
		be.PutUint16(r[n:], o.MSS)
		r[n+2], r[n+3] = noScale, 0
		if o.HasWScale {
			r[n+2] = min(o.WScale, 14) // RFC 7323 §2.3
		}
		if o.SACKPermitted {
			r[n+3] = 1
		}
		n += 4
	}
	if blocks := min(o.NSACK, packet.MaxSACKBlocks); blocks > 0 {
		bits |= bitSACK
		r[n] = blocks
		n++
		for _, b := range o.SACK[:blocks] {
			be.PutUint32(r[n:], uint32(b.First))
			be.PutUint32(r[n+4:], uint32(b.End))
			n += 8
		}
	}
	r[0] = bits
	return dst[:len(dst)+n]
}

// Headers is a decoded Headers message. Its slices are the caller's until the next Decode.
type Headers struct {
	Base mono.Time // when the first segment was captured, on the intercept's clock
	// Segments have no payload. Len is its length.
	Segments []packet.Segment
	// Ages are how long before the end of the batch each segment was captured.
	Ages []time.Duration
}

// Decode reads the body of a Headers message. After an error the content is undefined.
func (h *Headers) Decode(body []byte) error {
	h.Segments, h.Ages = h.Segments[:0], h.Ages[:0]
	if len(body) < headersFixed {
		return fmt.Errorf("%w: %v", ErrShort, TypeHeaders)
	}
	h.Base = mono.Time(binary.BigEndian.Uint64(body))
	sealed := binary.BigEndian.Uint32(body[8:])
	b := body[headersFixed:]
	for len(b) > 0 {
		n := len(h.Segments)
		if n < cap(h.Segments) {
			h.Segments = h.Segments[:n+1]
		} else {
			h.Segments = append(h.Segments, packet.Segment{})
		}
		rest, after := readRecord(b, &h.Segments[n])
		if rest == nil {
			h.Segments = h.Segments[:n]
			return fmt.Errorf("%w in %v: record %d cannot be read", ErrValue, TypeHeaders, n)
		}
		b = rest
		var age time.Duration
		if after < sealed {
			age = time.Duration(sealed-after) * time.Microsecond
		}
		h.Ages = append(h.Ages, age)
	}
	return nil
}

// readRecord reads one record into s, and returns what follows it, nil if it cannot be read.
func readRecord(b []byte, s *packet.Segment) (rest []byte, after uint32) {
	bits := b[0]
	need := 1 + 4 + 2*6 + 12
	if bits&bitV6 != 0 {
		need += 2 * 12
	}
	if bits&^bitsKnown != 0 || len(b) < need {
		return nil, 0
	}
	after = binary.BigEndian.Uint32(b[1:])
	if bits&bitV6 == 0 {
		s.Src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[5:9])), binary.BigEndian.Uint16(b[9:]))
		s.Dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[11:15])),
			binary.BigEndian.Uint16(b[15:]))
		b = b[17:]
	} else {
		s.Src = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[5:21])),
			binary.BigEndian.Uint16(b[21:]))
		s.Dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[23:39])),
			binary.BigEndian.Uint16(b[39:]))
		b = b[41:]
	}
	s.Seq = seqnum.Value(binary.BigEndian.Uint32(b))
	s.Ack = seqnum.Value(binary.BigEndian.Uint32(b[4:]))
	s.Flags, s.TTL, s.Window = packet.Flags(b[8]), b[9], binary.BigEndian.Uint16(b[10:])
	b = b[12:]
	s.Payload, s.Len, s.Urgent, s.Opts = nil, 0, 0, packet.Options{}
	if bits&bitLen != 0 {
		if len(b) < 3 {
			return nil, 0
		}
		s.Len = int(b[0])<<16 | int(b[1])<<8 | int(b[2])
		b = b[3:]
	}
	if bits&bitUrgent != 0 {
		if len(b) < 2 {
			return nil, 0
		}
		s.Urgent = binary.BigEndian.Uint16(b)
		b = b[2:]
	}
	if bits&bitTS != 0 {
		if len(b) < 8 {
			return nil, 0
		}
		s.Opts.HasTS = true
		s.Opts.TSVal, s.Opts.TSEcr = binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
		b = b[8:]
	}
	if bits&bitSYN != 0 {
		if len(b) < 4 || b[2] != noScale && b[2] > 14 || b[3] > 1 {
			return nil, 0
		}
		s.Opts.MSS, s.Opts.SACKPermitted = binary.BigEndian.Uint16(b), b[3] == 1
		if b[2] != noScale {
			s.Opts.HasWScale, s.Opts.WScale = true, b[2]
		}
		b = b[4:]
	}
	if bits&bitSACK != 0 {
		if len(b) < 1 || b[0] == 0 || b[0] > packet.MaxSACKBlocks || len(b) < 1+8*int(b[0]) {
			return nil, 0
		}
		s.Opts.NSACK = b[0]
		b = b[1:]
		for i := range s.Opts.NSACK {
			s.Opts.SACK[i] = packet.SACKBlock{First: seqnum.Value(binary.BigEndian.Uint32(b)),
				End: seqnum.Value(binary.BigEndian.Uint32(b[4:]))}
			b = b[8:]
		}
	}
	return b, after
}
