package capfile

import (
	"bufio"
	"encoding/binary"
	"io"
)

// Format is a format of capture files.
type Format uint8

// The formats. Both have times in nanoseconds.
const (
	PCAPNG Format = iota
	PCAP
)

// flushAt is the number of waiting bytes at which Write flushes before it appends.
const flushAt = 1 << 16

// writerSize is the buffer's size in bytes, with room for the largest packet.
const writerSize = maxPacket + 1<<10

// Writer writes one file of packets of one link type. The io.Writer gets whole packets, several at
// a time. After an error, every call returns that error.
type Writer struct {
	out    *bufio.Writer
	format Format
	size   int64
	head   [32]byte
	err    error
}

// Application is the name of the writing program in a pcapng file.
const Application = "tcpcopy"

// NewWriter writes the beginning of a file. snap is the most that the file holds of a packet, in
// bytes; 0 means all of it.
func NewWriter(out io.Writer, format Format, link LinkType, snap int) (*Writer, error) {
	w := &Writer{out: bufio.NewWriterSize(out, writerSize), format: format}
	if snap <= 0 {
		snap = 1 << 18
	}
	b := make([]byte, 0, 128)
	le := binary.LittleEndian
	if format == PCAP {
		b = le.AppendUint32(b, magicNanos)
		b = le.AppendUint16(le.AppendUint16(b, 2), 4)
		b = append(b, make([]byte, 8)...)
		b = le.AppendUint32(le.AppendUint32(b, uint32(snap)), uint32(link))
		return w, w.write(b)
	}
	b = le.AppendUint32(le.AppendUint32(b, blockSection), 0)
	b = le.AppendUint32(b, byteOrderMagic)
	b = le.AppendUint16(le.AppendUint16(b, 1), 0)
	b = le.AppendUint64(b, ^uint64(0)) // the section's length is not known
	b = appendOption(b, 4, []byte(Application))
	b = endBlock(appendOption(b, optionEnd, nil), 0)
	at := len(b)
	b = le.AppendUint32(le.AppendUint32(b, blockInterface), 0)
	b = le.AppendUint16(le.AppendUint16(b, uint16(link)), 0)
	b = le.AppendUint32(b, uint32(snap))
	b = appendOption(b, optionTSResol, []byte{9})
	b = endBlock(appendOption(b, optionEnd, nil), at)
	return w, w.write(b)
}

// appendOption appends an option of a pcapng block.
func appendOption(b []byte, code uint16, v []byte) []byte {
	b = binary.LittleEndian.AppendUint16(b, code)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(v)))
	b = append(b, v...)
	return append(b, make([]byte, -len(v)&3)...)
}

// endBlock appends the length of the block that begins at offset at, and fills it in there.
func endBlock(b []byte, at int) []byte {
	n := uint32(len(b) - at + blockTailLen)
	binary.LittleEndian.PutUint32(b[at+4:], n)
	return binary.LittleEndian.AppendUint32(b, n)
}

// write appends bytes to the buffer.
func (w *Writer) write(b []byte) error {
	if w.err == nil {
		_, w.err = w.out.Write(b)
		w.size += int64(len(b))
	}
	return w.err
}

// Write appends a packet that was captured at a time, in nanoseconds since 1970. wire is its length
// on the wire in bytes.
func (w *Writer) Write(time int64, data []byte, wire int) error {
	le := binary.LittleEndian
	if w.out.Buffered() >= flushAt || w.out.Available() < len(data)+64 {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if w.format == PCAP {
		b := w.head[:recordHeaderLen]
		le.PutUint32(b, uint32(time/1e9))
		le.PutUint32(b[4:], uint32(time%1e9))
		le.PutUint32(b[8:], uint32(len(data)))
		le.PutUint32(b[12:], uint32(wire))
		w.write(b)
		return w.write(data)
	}
	pad := -len(data) & 3
	n := uint32(blockHeaderLen + 20 + len(data) + pad + blockTailLen)
	b := w.head[:blockHeaderLen+20]
	le.PutUint32(b, blockPacket)
	le.PutUint32(b[4:], n)
	le.PutUint32(b[8:], 0)
	le.PutUint32(b[12:], uint32(uint64(time)>>32))
	le.PutUint32(b[16:], uint32(time))
	le.PutUint32(b[20:], uint32(len(data)))
	le.PutUint32(b[24:], uint32(wire))
	w.write(b)
	w.write(data)
	tail := w.head[:0]
	tail = append(tail, make([]byte, pad)...)
	return w.write(le.AppendUint32(tail, n))
}

// Size returns the number of bytes written.
func (w *Writer) Size() int64 { return w.size }

// Flush writes the buffer to the io.Writer.
func (w *Writer) Flush() error {
	if w.err == nil {
		w.err = w.out.Flush()
	}
	return w.err
}

// End appends the counts of the capture to a pcapng file, and flushes. time is the end of the
// capture, in nanoseconds since 1970.
func (w *Writer) End(time int64, c Counts) error {
	if w.format == PCAPNG {
		le := binary.LittleEndian
		b := le.AppendUint32(le.AppendUint32(nil, blockStats), 0)
		b = le.AppendUint32(b, 0)
		b = le.AppendUint32(le.AppendUint32(b, uint32(uint64(time)>>32)), uint32(time))
		b = appendOption(b, optionReceived, le.AppendUint64(nil, c.Received))
		b = appendOption(b, optionDropped, le.AppendUint64(nil, c.Dropped))
		b = endBlock(appendOption(b, optionEnd, nil), 0)
		w.write(b)
	}
	return w.Flush()
}

// Whole returns how many bytes at the beginning of b are complete records or blocks, as a Writer of
// the format writes them. It finds what is readable when the io.Writer took only a part.
func (f Format) Whole(b []byte) (n int) {
	for {
		rest, size := b[n:], 0
		switch {
		case f == PCAP && len(rest) >= recordHeaderLen:
			size = recordHeaderLen + int(binary.LittleEndian.Uint32(rest[8:]))
		case f == PCAPNG && len(rest) >= blockHeaderLen:
			size = int(binary.LittleEndian.Uint32(rest[4:]))
		}
		if size == 0 || size > len(rest) {
			return n
		}
		n += size
	}
}
