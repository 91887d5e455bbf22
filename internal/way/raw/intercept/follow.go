package intercept

import (
	"tcpcopy/internal/core/chunk"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/known"
	"tcpcopy/internal/proto/segments"
)

// maxPooled bounds the bytes that are kept of all connections: behind holes, and early.
const maxPooled = 64 << 20

// following is one connection whose answers are read, or may soon be.
type following struct {
	segments.Follower
	pair
	hash     uint32 // the table's; if whole
	reading  bool   // its answers are read; else see early.go
	whole    bool   // the target's first byte, or the SYN-ACK, was captured
	unsure   bool   // the copier has said where it begins: the first bytes may have passed before
	lost     bool   // its answers could not be read to the end
	lastSeen mono.Time
	early    early
	digests  *proto.Digesting // of its copier; nil: its answers are not compared
}

// read reads a segment of the target's, and appends what is found, as segments.Follower does.
func (f *following) read(now mono.Time, seg *packet.Segment, pool *chunk.Pool, out []proto.Told,
	scratch *[]proto.Answer) []proto.Told {
	f.lastSeen = now
	base, based := f.Base()
	switch {
	case seg.Flags.Has(packet.SYN):
		f.whole = f.whole || !based
	case f.unsure && base.Less(seg.Seq):
		f.Lose() // what was acknowledged before is not sent again
		return out
	case f.unsure && seg.Len > 0:
		f.unsure, f.whole = false, true
	}
	out = f.Feed(now, seg, pool, out, scratch)
	if f.Kept() > 0 && pool.InUse() > maxPooled {
		f.Lose()
	}
	return out
}

// start starts to read the answers of a connection that is followed, in a protocol.
func (f *following) start(a proto.Answers, kind proto.Kind, digests *proto.Digesting) {
	base, based := f.Base()
	if f.reading, f.Follower = true, segments.Follow(a); based {
		f.Begin(base)
	}
	if f.digests = digests; digests != nil {
		f.Digest(known.Digester(kind, digests))
	}
}

// endsWith reports whether the connection, whose answers are read, may end with a segment.
func (f *following) endsWith(seg *packet.Segment) bool {
	return f.reading && !seg.Flags.Has(packet.SYN) &&
		(seg.Flags.Any(packet.FIN|packet.RST) || f.HasEnd())
}

// based reports whether the sequence number of the first byte is known.
func (f *following) based() bool {
	_, known := f.Base()
	return known
}

// startsElsewhere reports whether the connection is known to begin at another sequence number than
// base: the tuple is used again.
func (f *following) startsElsewhere(base seqnum.Value) bool {
	at, known := f.Base()
	return known && at != base
}
