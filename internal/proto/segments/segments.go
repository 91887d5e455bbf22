// Package segments reads a protocol's answers from captured segments of a server, which may be out
// of order, repeated, or cut. It puts them in order for a proto.Follower.
package segments

import (
	"tcpcopy/internal/core/chunk"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/reasm"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/proto"
)

// maxBehind bounds the bytes of one connection that wait behind a hole.
const maxBehind = 1 << 20

// Follower reads one connection's answers. If it misses bytes of the server, it is Over and Lost.
type Follower struct {
	answers proto.Follower

	based  bool
	fin    bool
	base   seqnum.Value  // of the first byte, if based
	next   seqnum.Value  // of the next byte in order
	read   uint64        // bytes read, in order
	finAt  seqnum.Value  // where the server's direction ends, if fin
	behind *reasm.Reader // data behind a hole; nil if there is no hole
}

// Follow returns a Follower of a connection, which begins with the server's SYN or at Begin.
func Follow(a proto.Answers) Follower { return Follower{answers: proto.Follow(a)} }

// Digest has each answer digested by d: see proto.Follower.
func (f *Follower) Digest(d proto.Digester) { f.answers.Digest(d) }

// Over reports whether nothing more will be found.
func (f *Follower) Over() bool { return f.answers.Over() }

// Lost reports whether the bytes could not be followed; then Over is true, too.
func (f *Follower) Lost() bool { return f.answers.Lost() }

// HasEnd reports whether the server's FIN has come. Bytes before it may be missing.
func (f *Follower) HasEnd() bool { return f.fin }

// Expect passes a Hint to the reader: see proto.Answers.
func (f *Follower) Expect(request uint64, h proto.Hint) { f.answers.Expect(request, h) }

// Begin sets the sequence number of the first byte.
func (f *Follower) Begin(base seqnum.Value) { f.based, f.base, f.next = true, base, base }

// Base returns the sequence number of the first byte, if it is known.
func (f *Follower) Base() (base seqnum.Value, known bool) { return f.base, f.based }

// Read returns how many bytes were read, in order.
func (f *Follower) Read() uint64 { return f.read }

// Feed reads a segment of the server, and appends what is found. Bytes in out belong to the
// segment, or are valid until the next call. Data behind a hole is kept in buffers of the pool.
// scratch is memory for the reader's list.
func (f *Follower) Feed(now mono.Time, seg *packet.Segment, pool *chunk.Pool, out []proto.Told,
	scratch *[]proto.Answer) []proto.Told {
	switch {
	case f.Over():
		return out
	case seg.Flags.Has(packet.SYN):
		if !f.based {
			f.Begin(seg.Seq + 1)
		}
		return out
	case !f.based && seg.Len == 0 && !seg.Flags.Has(packet.FIN):
		return out
	case !f.based || len(seg.Payload) < seg.Len:
		f.Lose() // the beginning is missing, or the segment was cut
		return out
	}
	if seg.Flags.Has(packet.FIN) {
		f.fin, f.finAt = true, seg.Seq.Add(seg.Len)
	}
	p := seg.Payload[:seg.Len]
	if ahead := int32(seg.Seq - f.next); f.behind == nil && ahead <= 0 {
		if old := -int64(ahead); old < int64(len(p)) {
			out = f.feed(now, p[old:], out, scratch)
		}
	} else {
		out = f.reorder(now, seg.Seq, p, pool, out, scratch)
	}
	if f.fin && f.behind == nil && f.next == f.finAt {
		out = f.answers.Close(now, out, scratch)
	}
	return out
}

func (f *Follower) feed(now mono.Time, p []byte, out []proto.Told,
	scratch *[]proto.Answer) []proto.Told {
	f.next = f.next.Add(len(p))
	f.read += uint64(len(p))
	return f.answers.Feed(now, p, out, scratch)
}

// reorder keeps data behind a hole until the hole is filled: the server retransmits what is not
// acknowledged.
func (f *Follower) reorder(now mono.Time, seq seqnum.Value, p []byte, pool *chunk.Pool,
	out []proto.Told, scratch *[]proto.Answer) []proto.Told {
	if f.behind == nil {
		if len(p) == 0 {
			return out
		}
		f.behind = new(reasm.Reader)
		f.behind.Init(pool, f.next, 0)
	}
	verdict := f.behind.Insert(seq, p, reasm.Note{})
	if verdict == reasm.TooMuch || f.behind.Kept() > maxBehind {
		f.Lose()
		return out
	}
	for {
		at := f.behind.Start()
		v := f.behind.View(at, maxBehind)
		if len(v) == 0 {
			break
		}
		before := len(out)
		out = f.feed(now, v, out, scratch)
		for i := range out[before:] { // the buffer goes back to the pool
			if t := &out[before+i]; len(t.Bytes) > 0 {
				t.Bytes = append([]byte(nil), t.Bytes...)
			}
		}
		f.behind.Take(at + uint64(len(v)))
	}
	if !f.behind.Hole() {
		f.Close()
	}
	return out
}

// Kept returns how many bytes of the pool are in use for data behind a hole.
func (f *Follower) Kept() int {
	if f.behind == nil {
		return 0
	}
	return f.behind.Kept()
}

// Lose ends the reading because bytes are missing, or there is no room for them.
func (f *Follower) Lose() {
	f.answers.Lose()
	f.Close()
}

// Close returns the buffers to the pool.
func (f *Follower) Close() {
	if f.behind != nil {
		f.behind.Close()
		f.behind = nil
	}
}
