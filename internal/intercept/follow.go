package intercept

import (
	"tcpcopy/internal/chunk"
	"tcpcopy/internal/mono"
	"tcpcopy/internal/packet"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/reasm"
	"tcpcopy/internal/seqnum"
)

const (
	// behindEach and behindAll bound the bytes that wait behind holes, of one connection and of all.
	behindEach = 1 << 20
	behindAll  = 64 << 20
)

// following is one connection whose answers are read, or may be yet: the target's bytes, put in order.
type following struct {
	follower proto.Follower
	whose
	hash   uint32 // the table's; if whole
	asked  bool   // its answers are read; else see early.go
	whole  bool   // it is seen from the SYN-ACK on
	unsure bool   // where it begins is the copier's word: the first bytes may have passed before
	based  bool
	fin    bool
	base   seqnum.Value  // of the first byte, if based
	next   seqnum.Value  // of the next byte in order
	finAt  seqnum.Value  // where the target's direction ends, if fin
	behind *reasm.Reader // what has come behind a hole; nil: nothing has
	heard  mono.Time
	early  early
}

// take takes a segment of the target's, and appends what is found. The bytes that are told of are the segment's,
// or hold until the next call.
func (f *following) take(now mono.Time, seg *packet.Segment, pool *chunk.Pool, out []proto.Told, scratch *[]proto.Answer) []proto.Told {
	f.heard = now
	switch {
	case f.follower.Over():
		return out
	case seg.Flags.Has(packet.SYN):
		if !f.based {
			f.begin(seg.Seq + 1)
			f.whole = true
		}
		return out
	case !f.based && seg.Len == 0 && !seg.Flags.Has(packet.FIN):
		return out
	case !f.based || len(seg.Payload) < seg.Len:
		f.lose() // it began without us, or was cut
		return out
	}
	ahead := int32(seg.Seq - f.next)
	if f.unsure && ahead > 0 {
		f.lose() // nobody sends again what was acknowledged
		return out
	}
	f.unsure = f.unsure && seg.Len == 0
	if seg.Flags.Has(packet.FIN) {
		f.fin, f.finAt = true, seg.Seq.Add(seg.Len)
	}
	p := seg.Payload[:seg.Len]
	if f.behind == nil && ahead <= 0 {
		if old := -int64(ahead); old < int64(len(p)) {
			out = f.feed(now, p[old:], out, scratch)
		}
	} else {
		out = f.reorder(now, seg.Seq, p, pool, out, scratch)
	}
	if f.fin && f.behind == nil && f.next == f.finAt {
		out = f.follower.Close(now, out, scratch)
	}
	return out
}

// begin says which the first byte's sequence number is.
func (f *following) begin(base seqnum.Value) { f.based, f.base, f.next = true, base, base }

func (f *following) feed(now mono.Time, p []byte, out []proto.Told, scratch *[]proto.Answer) []proto.Told {
	f.next = f.next.Add(len(p))
	return f.follower.Feed(now, p, out, scratch)
}

// reorder keeps what comes behind a hole until the hole is closed: the target sends again what it gets no
// acknowledgment of.
func (f *following) reorder(now mono.Time, seq seqnum.Value, p []byte, pool *chunk.Pool, out []proto.Told, scratch *[]proto.Answer) []proto.Told {
	if f.behind == nil {
		if len(p) == 0 {
			return out
		}
		f.behind = new(reasm.Reader)
		f.behind.Init(pool, f.next, 0)
	}
	verdict := f.behind.Insert(seq, p, reasm.Note{})
	if verdict == reasm.TooMuch || f.behind.Kept() > behindEach || pool.InUse() > behindAll {
		f.lose()
		return out
	}
	for {
		at := f.behind.Start()
		v := f.behind.View(at, behindEach)
		if len(v) == 0 {
			break
		}
		before := len(out)
		out = f.feed(now, v, out, scratch)
		for i := range out[before:] { // the buffer goes back
			if t := &out[before+i]; len(t.Bytes) > 0 {
				t.Bytes = append([]byte(nil), t.Bytes...)
			}
		}
		f.behind.Take(at + uint64(len(v)))
	}
	if !f.behind.Hole() {
		f.close()
	}
	return out
}

// lose gives up.
func (f *following) lose() {
	f.follower.Lose()
	f.close()
}

// close gives the buffers back.
func (f *following) close() {
	if f.behind != nil {
		f.behind.Close()
		f.behind = nil
	}
}
