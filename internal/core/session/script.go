package session

import (
	"sort"

	"tcpcopy/internal/core/chunk"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/reasm"
	"tcpcopy/internal/proto"
)

// script is what a copy sends where that is not the client's very bytes: pieces in order, each of which stands
// for some of the client's bytes, or for none. Offsets are of two kinds: out counts the copy's bytes, as its
// stream does; the client's are those of the session's reader.
type script struct {
	pieces    []piece
	first     int    // pieces before it are settled
	end       uint64 // out: behind the last piece
	released  uint64 // out: the stream may send what is below
	taken     uint64 // out: the stream needs nothing below
	upTo      uint64 // the client's: where begins what is not decided yet
	delivered uint64 // the client's bytes that were counted as delivered
	kept      int    // bytes of buffers
}

// piece is a run of the copy's bytes: some of the client's own, or others in their place, or none.
type piece struct {
	out    uint64 // where it begins
	client uint64 // where the client's bytes begin that it stands for
	n      int    // how many bytes the copy sends
	stands int    // how many of the client's they stand for
	said   []byte // from the pool; nil: the client's own
	why    ledger.Reason
}

// add appends what a step says.
func (x *script) add(pool *chunk.Pool, st *proto.Step, text []byte) {
	p := piece{out: x.end, client: x.upTo, stands: st.N}
	switch st.Kind {
	case proto.PassOn:
		if i := len(x.pieces) - 1; i >= x.first && x.pieces[i].own() && x.pieces[i].client+uint64(x.pieces[i].stands) == x.upTo {
			x.pieces[i].n += st.N
			x.pieces[i].stands += st.N
			x.end += uint64(st.N)
			x.upTo += uint64(st.N)
			return
		}
		p.n = st.N
	case proto.Say:
		if p.n = st.To - st.From; p.n > 0 {
			p.said = pool.Get(p.n)
			copy(p.said, text[st.From:st.To])
			x.kept += cap(p.said)
		}
	case proto.LeaveOut:
		p.why = st.Reason
	}
	x.end += uint64(p.n)
	x.upTo += uint64(p.stands)
	x.pieces = append(x.pieces, p)
}

// own says that the piece is the client's own bytes.
func (p *piece) own() bool { return p.said == nil && p.n > 0 }

// view returns bytes of the copy's: see Record.
func (x *script) view(r *reasm.Reader, off uint64, max int) []byte {
	live := x.pieces[x.first:]
	i := sort.Search(len(live), func(i int) bool { return live[i].out+uint64(live[i].n) > off })
	if i == len(live) || off < live[i].out {
		return nil
	}
	p, at := &live[i], off-live[i].out
	max = min(max, p.n-int(at))
	if p.own() {
		return r.View(p.client+at, max)
	}
	return p.said[at:][:max]
}

// next drops the first piece.
func (x *script) next(pool *chunk.Pool) {
	x.free(pool, &x.pieces[x.first])
	if x.first++; x.first == len(x.pieces) {
		x.pieces, x.first = x.pieces[:0], 0
	} else if x.first > 32 && x.first > len(x.pieces)/2 {
		x.pieces, x.first = x.pieces[:copy(x.pieces, x.pieces[x.first:])], 0
	}
}

func (x *script) free(pool *chunk.Pool, p *piece) {
	if p.said != nil {
		x.kept -= cap(p.said)
		pool.Put(p.said)
		p.said = nil
	}
}

// close gives all buffers back.
func (x *script) close(pool *chunk.Pool) {
	for i := range x.pieces[x.first:] {
		x.free(pool, &x.pieces[x.first+i])
	}
}

// account settles what the copy's first n bytes stand for, now that the stream has taken them.
func (s *Session) account(n uint64) {
	x := s.talk.script
	x.taken = max(x.taken, min(n, x.released))
	for x.first < len(x.pieces) {
		p := &x.pieces[x.first]
		if p.out+uint64(p.n) > x.taken {
			if p.own() && x.taken > p.out {
				s.deliver(p.client + x.taken - p.out)
			}
			break
		}
		if end := p.client + uint64(p.stands); p.why != ledger.None {
			s.drop(end, p.why)
		} else {
			s.deliver(end)
		}
		x.next(s.env.Pool)
	}
	s.taken = s.settled
}

// deliver accounts for the client's bytes below the offset end: the target has them, or what stands for them.
func (s *Session) deliver(end uint64) {
	if end > s.settled {
		s.env.Count.Bytes.Delivered += end - s.settled
		s.talk.script.delivered += end - s.settled
		s.settled = end
		s.reader.Take(end)
	}
}

// unsent says whether the stream was given bytes that it has not taken.
func (s *Session) unsent() bool {
	if s.talk.edits() {
		return s.talk.script.released > s.talk.script.taken
	}
	return s.released > s.taken
}

// handed is how many bytes the stream was given.
func (s *Session) handed() uint64 {
	if s.talk.edits() {
		return s.talk.script.released
	}
	return s.released - s.base
}
