// Package capfile reads and writes capture files: pcap, with times in micro- or nanoseconds, and
// pcapng. It works on an io.Reader and an io.Writer. It knows nothing of files, compression and
// clocks, and does not look inside packets.
//
// A Reader trusts no length. It bounds records and skips blocks that it does not know. A file that
// ends in the middle of a record is readable up to there.
package capfile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// LinkType identifies the header that a packet begins with (the LINKTYPE_ values of tcpdump.org).
type LinkType uint16

// The link types that capture files have.
const (
	LinkNull     LinkType = 0 // 4 bytes of address family, in the writer's byte order
	LinkEthernet LinkType = 1
	LinkRawBSD   LinkType = 12 // IP, as OpenBSD and some tools write it
	LinkRawOther LinkType = 14
	LinkRaw      LinkType = 101 // IP
	LinkLoop     LinkType = 108 // 4 bytes of address family, big-endian
	LinkSLL      LinkType = 113 // Linux cooked
	LinkIPv4     LinkType = 228
	LinkIPv6     LinkType = 229
	LinkSLL2     LinkType = 276 // Linux cooked, version 2
)

// Packet is one record of a file.
type Packet struct {
	Time int64  // nanoseconds since 1970
	Data []byte // the captured bytes, valid until the next call of Next
	Wire int    // length on the wire in bytes; never less than len(Data)
	Link LinkType
	// Interface is the number of the interface in its section of the file; 0 in a pcap file.
	Interface int
}

// Counts are the packet counts that a file's writer recorded (pcapng's interface statistics).
type Counts struct {
	Received uint64 // packets received
	Dropped  uint64 // of these, packets lost
}

// The errors that NewReader and Next wrap, besides those of the io.Reader.
var (
	// ErrFormat means that the input is not a capture file.
	ErrFormat = errors.New("not a pcap or pcapng file")
	// ErrCorrupt means that a record contradicts itself. Nothing behind it can be read.
	ErrCorrupt = errors.New("corrupt capture file")
	// ErrTruncated means that the file ends in the middle of a record, because its writer was
	// killed, for example.
	ErrTruncated = errors.New("capture file ends in the middle of a packet")
)

// maxPacket bounds a record. Capture tools write at most 256 KB of a packet.
const maxPacket = 1 << 20

// Reader reads the packets of one file in the file's order.
type Reader struct {
	in     *bufio.Reader
	next   func(*Packet) error
	buf    []byte
	counts Counts

	classic classic
	ng      ng
}

// NewReader reads the beginning of a file and detects its format.
func NewReader(in io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 1<<18)}
	first, err := r.in.Peek(4)
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: it has only %d bytes", ErrFormat, len(first))
		}
		return nil, err
	}
	magic := binary.LittleEndian.Uint32(first)
	if magic == blockSection {
		r.next = r.nextBlock
		return r, r.section()
	}
	if !r.classic.magic(magic) {
		return nil, fmt.Errorf("%w: it begins with % x", ErrFormat, first)
	}
	r.next = r.nextRecord
	return r, r.fileHeader()
}

// Next reads the next packet into p. It returns io.EOF at the end of the file.
func (r *Reader) Next(p *Packet) error { return r.next(p) }

// Counts returns what the file has said so far about its capture.
func (r *Reader) Counts() Counts { return r.counts }

// read returns the next n bytes, valid until the next call. It returns io.EOF at the end of the
// file if clean is set, and ErrTruncated otherwise.
func (r *Reader) read(n int, clean bool) ([]byte, error) {
	// Bytes that fit the buffer are not copied.
	if n <= r.in.Size() {
		b, err := r.in.Peek(n)
		if err == nil {
			r.in.Discard(n)
			return b, nil
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, err
		}
		if len(b) == 0 && clean {
			return nil, io.EOF
		}
		return nil, ErrTruncated
	}
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	b := r.buf[:n]
	if _, err := io.ReadFull(r.in, b); err != nil {
		return nil, ended(err)
	}
	return b, nil
}

// skip discards n bytes.
func (r *Reader) skip(n int64) error {
	_, err := io.CopyN(io.Discard, r.in, n)
	return ended(err)
}

// ended turns an end of the file within a record into ErrTruncated.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	return err
}
