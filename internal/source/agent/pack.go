package agent

import (
	"github.com/klauspost/compress/s2"

	"tcpcopy/internal/way/link/wire"
)

// Compress is whether records are compressed.
type Compress string

// The modes.
const (
	CompressAuto Compress = "auto" // where it pays: asked of one batch in a while
	CompressOn   Compress = "on"
	CompressOff  Compress = "off"
)

const (
	// tryEvery is how many batches go as they are after one that compression has not made smaller by enough.
	tryEvery = 64
	// pays is to what share of its size a batch has to shrink.
	pays = 0.75
)

// packer compresses batches. It belongs to the sender.
type packer struct {
	mode Compress
	buf  []byte
	skip int
}

// pack returns the records as they are to travel: themselves, or a view of the packer's buffer until the next
// call.
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
