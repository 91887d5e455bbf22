package agent

import (
	"github.com/klauspost/compress/s2"

	"tcpcopy/internal/way/link/wire"
)

// Compress says when records are compressed.
type Compress string

// The modes.
const (
	CompressAuto Compress = "auto" // while it pays, which is tried now and then
	CompressOn   Compress = "on"
	CompressOff  Compress = "off"
)

const (
	// tryEvery is how many batches are sent as they are after one that did not shrink enough.
	tryEvery = 64
	// pays is the share of its size that a batch must shrink to.
	pays = 0.75
)

// packer compresses batches. It belongs to the sender.
type packer struct {
	mode Compress
	buf  []byte
	skip int // batches not to try
}

// pack returns the records as they are sent, and how they are packed. They are the argument itself,
// or in the packer's buffer, which is valid until the next call.
func (p *packer) pack(records []byte) ([]byte, wire.Packing) {
	if p.mode == CompressOff {
		return records, wire.Plain
	}
	if p.mode != CompressOn && p.skip > 0 {
		p.skip--
		return records, wire.Plain
	}
	if n := s2.MaxEncodedLen(len(records)); cap(p.buf) < n {
		p.buf = make([]byte, n)
	}
	out := s2.Encode(p.buf[:cap(p.buf)], records)
	if p.mode != CompressOn && float64(len(out)) > pays*float64(len(records)) {
		p.skip = tryEvery
		return records, wire.Plain
	}
	if len(out) >= len(records) {
		return records, wire.Plain
	}
	return out, wire.S2
}
