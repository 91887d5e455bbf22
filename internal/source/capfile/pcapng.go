package capfile

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Block types of pcapng (draft-ietf-opsawg-pcapng).
const (
	blockInterface = 1
	blockOldPacket = 2 // obsolete, but some tools still write it
	blockSimple    = 3
	blockStats     = 5
	blockPacket    = 6
	blockSection   = 0x0a0d0d0a
)

const (
	byteOrderMagic = 0x1a2b3c4d
	blockHeaderLen = 8
	blockTailLen   = 4
	maxBlock       = maxPacket + 64<<10 // of a block that is read: a packet and its options
	maxInterfaces  = 1 << 12            // in one section
)

// The options that are read.
const (
	optionEnd      = 0
	optionTSResol  = 9
	optionTSOffset = 14
	optionReceived = 4 // isb_ifrecv
	optionDropped  = 5 // isb_ifdrop
)

// ng is the state of a Reader of a pcapng file.
type ng struct {
	order      binary.ByteOrder
	interfaces []ngInterface // of the current section
}

// ngInterface is what an interface description block says, with the last statistics.
type ngInterface struct {
	link   LinkType
	snap   uint32 // snapshot length in bytes; 0: none
	binary bool   // the unit of time is 2^-power seconds, not 10^-power
	power  uint8
	offset int64 // added to every time, in seconds
	counts Counts
}

// section reads a section header block from its first byte on.
func (r *Reader) section() error {
	b, err := r.read(12, false)
	if err != nil {
		return err
	}
	switch byteOrderMagic {
	case int(binary.LittleEndian.Uint32(b[8:])):
		r.ng.order = binary.LittleEndian
	case int(binary.BigEndian.Uint32(b[8:])):
		r.ng.order = binary.BigEndian
	default:
		return fmt.Errorf("%w: unknown byte order % x in a section header", ErrFormat, b[8:])
	}
	n := r.ng.order.Uint32(b[4:])
	if n < 28 || n%4 != 0 || n > maxBlock {
		return fmt.Errorf("%w: a section header of %d bytes", ErrCorrupt, n)
	}
	r.ng.interfaces = r.ng.interfaces[:0]
	return r.skip(int64(n) - 12)
}

// nextBlock reads blocks up to and including the next packet.
func (r *Reader) nextBlock(p *Packet) error {
	for {
		head, err := r.in.Peek(4)
		if len(head) == 4 && binary.LittleEndian.Uint32(head) == blockSection {
			if err := r.section(); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			_, err = r.read(blockHeaderLen, true)
			return err
		}
		b, err := r.read(blockHeaderLen, true)
		if err != nil {
			return err
		}
		kind, n := r.ng.order.Uint32(b), r.ng.order.Uint32(b[4:])
		if n < blockHeaderLen+blockTailLen || n%4 != 0 {
			return fmt.Errorf("%w: a block of %d bytes", ErrCorrupt, n)
		}
		switch kind {
		case blockInterface, blockOldPacket, blockSimple, blockStats, blockPacket:
		default:
			if err := r.skip(int64(n) - blockHeaderLen); err != nil {
				return err
			}
			continue
		}
		if n > maxBlock {
			return fmt.Errorf("%w: a block of %d bytes, want at most %d", ErrCorrupt, n, maxBlock)
		}
		body, err := r.read(int(n)-blockHeaderLen, false)
		if err != nil {
			return err
		}
		got, err := r.block(kind, body[:len(body)-blockTailLen], p)
		if got || err != nil {
			return err
		}
	}
}

// block decodes the body of a block. It reports whether the block is a packet, which it stores in
// p.
func (r *Reader) block(kind uint32, b []byte, p *Packet) (bool, error) {
	o := r.ng.order
	switch kind {
	case blockInterface:
		return false, r.addInterface(b)
	case blockStats:
		if len(b) < 12 {
			return false, short(kind, b)
		}
		r.statistics(o.Uint32(b), b[12:])
		return false, nil
	case blockPacket, blockOldPacket:
		if len(b) < 20 {
			return false, short(kind, b)
		}
		id := o.Uint32(b)
		if kind == blockOldPacket {
			id = uint32(o.Uint16(b))
		}
		if int64(id) >= int64(len(r.ng.interfaces)) {
			return false, fmt.Errorf("%w: a packet of interface %d in a section with %d",
				ErrCorrupt, id, len(r.ng.interfaces))
		}
		n := o.Uint32(b[12:])
		if int64(n) > int64(len(b)-20) {
			return false, fmt.Errorf("%w: a packet of %d bytes in a block of %d", ErrCorrupt, n,
				len(b))
		}
		i := &r.ng.interfaces[id]
		p.Data = b[20 : 20+n]
		p.Time = i.time(uint64(o.Uint32(b[4:]))<<32 | uint64(o.Uint32(b[8:])))
		p.Wire, p.Link, p.Interface = max(int(o.Uint32(b[16:])), len(p.Data)), i.link, int(id)
		return true, nil
	default: // a simple packet block: it has no time and belongs to the first interface
		if len(b) < 4 {
			return false, short(kind, b)
		}
		if len(r.ng.interfaces) == 0 {
			return false, fmt.Errorf("%w: a packet before any interface", ErrCorrupt)
		}
		i := &r.ng.interfaces[0]
		wire := o.Uint32(b)
		n := min(int64(wire), int64(len(b)-4))
		if i.snap > 0 {
			n = min(n, int64(i.snap))
		}
		*p = Packet{Data: b[4 : 4+n], Wire: max(int(wire), int(n)), Link: i.link}
		return true, nil
	}
}

// short returns the error for a block that is too short for its type.
func short(kind uint32, b []byte) error {
	return fmt.Errorf("%w: block %d of %d bytes", ErrCorrupt, kind, len(b))
}

// addInterface decodes an interface description block.
func (r *Reader) addInterface(b []byte) error {
	if len(b) < 8 || len(r.ng.interfaces) == maxInterfaces {
		return fmt.Errorf("%w: interface %d, in a block of %d bytes", ErrCorrupt,
			len(r.ng.interfaces), len(b))
	}
	o := r.ng.order
	i := ngInterface{link: LinkType(o.Uint16(b)), snap: o.Uint32(b[4:]), power: 6}
	r.options(b[8:], func(code uint16, v []byte) {
		switch {
		case code == optionTSResol && len(v) >= 1:
			i.binary, i.power = v[0]&0x80 != 0, v[0]&0x7f
		case code == optionTSOffset && len(v) >= 8:
			i.offset = int64(o.Uint64(v))
		}
	})
	r.ng.interfaces = append(r.ng.interfaces, i)
	return nil
}

// statistics decodes the options of an interface statistics block. The last block of an interface
// counts.
func (r *Reader) statistics(id uint32, b []byte) {
	if int64(id) >= int64(len(r.ng.interfaces)) {
		return
	}
	i := &r.ng.interfaces[id]
	was := i.counts
	r.options(b, func(code uint16, v []byte) {
		switch {
		case code == optionReceived && len(v) >= 8:
			i.counts.Received = r.ng.order.Uint64(v)
		case code == optionDropped && len(v) >= 8:
			i.counts.Dropped = r.ng.order.Uint64(v)
		}
	})
	r.counts.Received += i.counts.Received - was.Received
	r.counts.Dropped += i.counts.Dropped - was.Dropped
}

// options calls each for every option of a list.
func (r *Reader) options(b []byte, each func(code uint16, value []byte)) {
	for len(b) >= 4 {
		code, n := r.ng.order.Uint16(b), int(r.ng.order.Uint16(b[2:]))
		if code == optionEnd || n > len(b)-4 {
			return
		}
		each(code, b[4:4+n])
		b = b[min(len(b), 4+(n+3)&^3):]
	}
}

// time converts a number of the interface's units to nanoseconds since 1970. A time out of range
// becomes the nearest one that fits.
func (i *ngInterface) time(units uint64) int64 {
	var ns float64
	switch {
	case !i.binary && i.power == 9:
		return i.shifted(units, 1)
	case !i.binary && i.power < 9:
		per := int64(1)
		for range 9 - i.power {
			per *= 10
		}
		return i.shifted(units, uint64(per))
	case i.binary:
		ns = math.Ldexp(float64(units), -int(i.power)) * 1e9
	default:
		ns = float64(units) * math.Pow(10, 9-float64(i.power))
	}
	ns += float64(i.offset) * 1e9
	return int64(max(min(ns, math.MaxInt64/2), 0))
}

// shifted is time for units that are a whole number of nanoseconds, per.
func (i *ngInterface) shifted(units, per uint64) int64 {
	const most = math.MaxInt64 / 2
	if units > most/per {
		return most
	}
	ns := int64(units * per)
	if i.offset > most/1_000_000_000 || i.offset < -most/1_000_000_000 {
		return ns
	}
	return max(0, ns+i.offset*1_000_000_000)
}
