package intercept

import (
	"tcpcopy/internal/core/chunk"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/segments"
)

// behindAll bounds the bytes that are kept of all connections, behind holes and early.
const behindAll = 64 << 20

// following is one connection whose answers are read, or may be yet.
type following struct {
	segments.Follower
	whose
	hash   uint32 // the table's; if whole
	asked  bool   // its answers are read; else see early.go
	whole  bool   // the target's first byte, or the SYN-ACK, was captured
	unsure bool   // where it begins is the copier's word: the first bytes may have passed before
	heard  mono.Time
	early  early
}

// take takes a segment of the target's, and appends what is found: as segments.Follower does.
func (f *following) take(now mono.Time, seg *packet.Segment, pool *chunk.Pool, out []proto.Told, scratch *[]proto.Answer) []proto.Told {
	f.heard = now
	base, based := f.Base()
	switch {
	case seg.Flags.Has(packet.SYN):
		f.whole = f.whole || !based
	case f.unsure && base.Less(seg.Seq):
		f.Lose() // nobody sends again what was acknowledged
		return out
	case f.unsure && seg.Len > 0:
		f.unsure, f.whole = false, true
	}
	out = f.Feed(now, seg, pool, out, scratch)
	if f.Kept() > 0 && pool.InUse() > behindAll {
		f.Lose()
	}
	return out
}

// read begins to read what is followed.
func (f *following) read(a proto.Answers) {
	base, based := f.Base()
	if f.asked, f.Follower = true, segments.Follow(a); based {
		f.Begin(base)
	}
}

// based reports whether the sequence number of the first byte is known.
func (f *following) based() bool {
	_, known := f.Base()
	return known
}

// begunElsewhere says whether it is known to begin, and not at base: the tuple is used again.
func (f *following) begunElsewhere(base seqnum.Value) bool {
	at, known := f.Base()
	return known && at != base
}
