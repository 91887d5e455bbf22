// Package segments reads a server's direction as a protocol's answers from its segments, which may
// be out of order, repeated or cut. It puts them in order for a proto.Follower.
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

// Follower reads one connection's answers. When bytes of the server are missing for good, it is
// Over and Lost.
type Follower struct {
	answers proto.Follower

	based  bool          // base is known
	fin    bool          // finAt is known
	base   seqnum.Value  // the sequence number of the first byte
	next   seqnum.Value  // the sequence number of the next byte in order
	read   uint64        // bytes in order
	finAt  seqnum.Value  // the sequence number of the server's FIN
	behind *reasm.Reader // what has come behind a hole; nil: nothing has
}

// Follow returns a Follower that begins with the server's SYN, or where Begin says.
func Follow(a proto.Answers) Follower { return Follower{answers: proto.Follow(a)} }

// Over reports whether no more answers will be found.
func (f *Follower) Over() bool { return f.answers.Over() }

// Lost reports whether the bytes could not be followed. If so, Over is true.
func (f *Follower) Lost() bool { return f.answers.Lost() }

// Expect hands a request's hint to the reader of answers (see proto.Answers).
func (f *Follower) Expect(request uint64, h proto.Hint) { f.answers.Expect(request, h) }

// Begin sets the sequence number of the first byte.
func (f *Follower) Begin(base seqnum.Value) { f.based, f.base, f.next = true, base, base }

// Base returns the sequence number of the first byte. known is false if it is not known.
func (f *Follower) Base() (base seqnum.Value, known bool) { return f.base, f.based }

// Read returns how many bytes have come in order.
func (f *Follower) Read() uint64 { return f.read }

// Take reads a segment of the server and appends what it finds to out. Bytes in out belong to the
// segment, or are valid until the next call. Bytes behind a hole are copied to buffers of the pool.
// scratch is scratch space of the reader.
func (f *Follower) Take(now mono.Time, seg *packet.Segment, pool *chunk.Pool, out []proto.Told,
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
		f.Lose() // its beginning was not captured, or it was cut
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

// feed reads bytes that are in order.
func (f *Follower) feed(now mono.Time, p []byte, out []proto.Told,
	scratch *[]proto.Answer) []proto.Told {
	f.next = f.next.Add(len(p))
	f.read += uint64(len(p))
	return f.answers.Feed(now, p, out, scratch)
}

// reorder keeps bytes behind a hole until the server's retransmission closes the hole, and reads
// them then.
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

// Kept returns how many bytes of the pool are in use for what waits behind a hole.
func (f *Follower) Kept() int {
	if f.behind == nil {
		return 0
	}
	return f.behind.Kept()
}

// Lose gives up on the connection: bytes are missing, or there is no room for them.
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
