// Package capfile reads and writes capture files: pcap, with times in micro- or nanoseconds, and pcapng. It
// sees bytes through io.Reader and io.Writer; files, compression and clocks are others' business, and so is
// what lies in a packet.
//
// A reader believes no length: records are bounded, blocks that it does not know are passed over, and a file
// that ends in the middle of a record is good up to there.
package capfile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// LinkType says what a packet begins with (LINKTYPE_ values of tcpdump.org).
type LinkType uint16

// The link types of files.
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
	Data []byte // what was captured: a view that holds until the next call of Next
	Wire int    // length on the wire; never less than len(Data)
	Link LinkType
	// Interface is the number of the interface in its section of the file, 0 in a pcap file.
	Interface int
}

// Counts is what the writer of a file said about its capture (pcapng's statistics blocks).
type Counts struct {
	Received uint64 // packets seen
	Dropped  uint64 // of which this many were lost
}

// What a file can be. Errors of NewReader and Next wrap one of them, or what the io.Reader said.
var (
	// ErrFormat: not a capture file.
	ErrFormat = errors.New("not a pcap or pcapng file")
	// ErrCorrupt: a record contradicts itself; nothing can be read from there on.
	ErrCorrupt = errors.New("corrupt capture file")
	// ErrTruncated: the file ends in the middle of a record, as one does whose writer was killed.
	ErrTruncated = errors.New("capture file ends in the middle of a packet")
)

// maxPacket bounds a record. Tools write at most 256 KB of a packet.
const maxPacket = 1 << 20

// Reader reads the packets of one file, in its order.
type Reader struct {
	in     *bufio.Reader
	next   func(*Packet) error
	buf    []byte
	counts Counts

	classic classic
	ng      ng
}

// NewReader reads the beginning of a file and finds out what it is.
func NewReader(in io.Reader) (*Reader, error) {
	r := &Reader{in: bufio.NewReaderSize(in, 1<<18)}
	first, err := r.in.Peek(4)
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: it has %d bytes", ErrFormat, len(first))
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

// Next reads the next packet into p. io.EOF says that the file is over.
func (r *Reader) Next(p *Packet) error { return r.next(p) }

// Counts is what the file has said so far about its capture.
func (r *Reader) Counts() Counts { return r.counts }

// read returns the next n bytes, which hold until the next call. clean says that the file may end here.
func (r *Reader) read(n int, clean bool) ([]byte, error) {
	// What fits the buffer is not copied.
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

// skip passes over n bytes.
func (r *Reader) skip(n int64) error {
	_, err := io.CopyN(io.Discard, r.in, n)
	return ended(err)
}

// ended names the end of a file within a record.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrTruncated
	}
	return err
}
