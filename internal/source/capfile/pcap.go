package capfile

import (
	"encoding/binary"
	"fmt"
	"math/bits"
)

// Magic numbers of pcap files, read in the writer's byte order.
const (
	magicMicros = 0xa1b2c3d4
	magicNanos  = 0xa1b23c4d
)

const (
	fileHeaderLen   = 24
	recordHeaderLen = 16
)

// classic holds the header fields of a pcap file.
type classic struct {
	order binary.ByteOrder
	unit  int64 // nanoseconds in one unit of a time's fraction
	link  LinkType
}

// magic decodes the first four bytes of a file, read as little-endian. It reports whether they are
// a pcap file's.
func (c *classic) magic(n uint32) bool {
	c.order = binary.LittleEndian
	if n == bits.ReverseBytes32(magicMicros) || n == bits.ReverseBytes32(magicNanos) {
		c.order, n = binary.BigEndian, bits.ReverseBytes32(n)
	}
	switch n {
	case magicMicros:
		c.unit = 1000
	case magicNanos:
		c.unit = 1
	default:
		return false
	}
	return true
}

func (r *Reader) fileHeader() error {
	b, err := r.read(fileHeaderLen, false)
	if err != nil {
		return err
	}
	c := &r.classic
	if major := c.order.Uint16(b[4:]); major != 2 {
		return fmt.Errorf("%w: pcap version %d, want 2", ErrFormat, major)
	}
	c.link = LinkType(c.order.Uint32(b[20:])) // the upper half describes frame check sequences
	return nil
}

// nextRecord reads the next record of a pcap file.
func (r *Reader) nextRecord(p *Packet) error {
	b, err := r.read(recordHeaderLen, true)
	if err != nil {
		return err
	}
	c := &r.classic
	seconds, fraction := c.order.Uint32(b), c.order.Uint32(b[4:])
	captured, wire := c.order.Uint32(b[8:]), c.order.Uint32(b[12:])
	if captured > maxPacket {
		return fmt.Errorf("%w: a packet of %d bytes, want at most %d", ErrCorrupt, captured,
			maxPacket)
	}
	if p.Data, err = r.read(int(captured), false); err != nil {
		return err
	}
	p.Time = int64(seconds)*1e9 + int64(fraction)*c.unit
	p.Wire, p.Link, p.Interface = max(int(wire&0x7fffffff), len(p.Data)), c.link, 0
	return nil
}
