package wire

import (
	"encoding/binary"
	"fmt"

	"tcpcopy/internal/core/mono"
)

// Packing is how the records of a Packets message are compressed.
type Packing uint8

// The packings.
const (
	Plain Packing = 0 // not at all
	S2    Packing = 1 // as one S2 block
)

// MaxRecords bounds the records of a message, before packing, in bytes.
const MaxRecords = 900 << 10

// Packets is a batch of captured packets.
type Packets struct {
	First   uint64    // number of the first one, among all that the agent has sent
	Count   uint32    // of packets
	At      mono.Time // the agent's clock when the batch was begun; records count from it
	Sent    mono.Time // the agent's clock when it was sent
	Packing Packing
	Size    uint32 // of the records before packing, at most MaxRecords
	Records []byte // packed; in the frame's body
}

// packetsHeader is the length of what precedes the records, in bytes.
const packetsHeader = 8 + 4 + 8 + 8 + 1 + 4

// AppendHeader appends the frame's header and all fields but Records, which the caller appends. n
// is their length.
func (p *Packets) AppendHeader(dst []byte, n int) []byte {
	be := binary.BigEndian
	start := len(dst)
	dst = be.AppendUint64(begin(dst, TypePackets, 0), p.First)
	dst = be.AppendUint32(dst, p.Count)
	dst = be.AppendUint64(dst, uint64(p.At))
	dst = be.AppendUint64(dst, uint64(p.Sent))
	dst = be.AppendUint32(append(dst, byte(p.Packing)), p.Size)
	be.PutUint32(dst[start+2:], uint32(packetsHeader+n))
	return dst
}

// Decode reads the body of a Packets message. Records then refers to it.
func (p *Packets) Decode(body []byte) error {
	c := cursor{b: body}
	*p = Packets{First: c.u64(), Count: c.u32(), At: mono.Time(c.u64()), Sent: mono.Time(c.u64()),
		Packing: Packing(c.u8()), Size: c.u32()}
	if err := c.err(TypePackets); err != nil {
		return err
	}
	switch {
	case p.Size > MaxRecords:
		return fmt.Errorf("%w in packets: %d bytes of records, want at most %d", ErrTooLong, p.Size,
			MaxRecords)
	case p.Packing > S2:
		return fmt.Errorf("%w in packets: packing %d", ErrValue, p.Packing)
	case p.Packing == Plain && int(p.Size) != len(c.b):
		return fmt.Errorf("%w in packets: %d bytes of records, and %d are announced", ErrValue,
			len(c.b), p.Size)
	case p.Count > p.Size/minRecord:
		return fmt.Errorf("%w in packets: %d in %d bytes", ErrValue, p.Count, p.Size)
	}
	p.Records = c.b
	return nil
}

// Record is one captured packet.
type Record struct {
	At      mono.Time // on the agent's clock
	Ifindex uint32    // at the agent
	Wire    int       // length in bytes from the IP header on, before any cut
	Data    []byte    // what was captured, from the IP header on
}

// minRecord is the length of the shortest record.
const minRecord = 5

// AppendRecord appends a record. before is the time of the record before it, or Packets.At.
func AppendRecord(dst []byte, before mono.Time, r *Record) []byte {
	dst = binary.AppendVarint(dst, int64(r.At-before))
	dst = binary.AppendUvarint(dst, uint64(r.Ifindex))
	dst = binary.AppendUvarint(dst, uint64(r.Wire))
	dst = binary.AppendUvarint(dst, uint64(len(r.Data)))
	return append(dst, r.Data...)
}

// Records reads the records of a Packets message.
type Records struct {
	b    []byte
	at   mono.Time
	left uint32
}

// Unpacked returns a reader of the message's records, which the caller has unpacked, Size bytes.
func (p *Packets) Unpacked(records []byte) Records {
	return Records{b: records, at: p.At, left: p.Count}
}

// Next reads the next record, whose Data refers to the unpacked records. It returns false after the
// last one, and an error if the records are not what was announced.
func (r *Records) Next(rec *Record) (bool, error) {
	if r.left == 0 {
		if len(r.b) > 0 {
			return false, fmt.Errorf("%w in packets: %d bytes after the last record", ErrValue,
				len(r.b))
		}
		return false, nil
	}
	r.left--
	delta, n := binary.Varint(r.b)
	if n <= 0 {
		return false, r.bad()
	}
	r.b = r.b[n:]
	var fields [3]uint64
	for i := range fields {
		v, n := binary.Uvarint(r.b)
		if n <= 0 {
			return false, r.bad()
		}
		fields[i], r.b = v, r.b[n:]
	}
	size := fields[2]
	if size == 0 || size > uint64(len(r.b)) || fields[1] < size || fields[1] > 1<<24 {
		return false, r.bad()
	}
	r.at += mono.Time(delta)
	*rec = Record{At: r.at, Ifindex: uint32(fields[0]), Wire: int(fields[1]), Data: r.b[:size:size]}
	r.b = r.b[size:]
	return true, nil
}

func (r *Records) bad() error {
	return fmt.Errorf("%w in packets: a record that cannot be, %d before the last", ErrValue,
		r.left)
}
