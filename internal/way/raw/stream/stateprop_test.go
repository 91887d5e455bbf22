package stream

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/way/link/wire"
)

// following returns, for each state of a table, the states that can follow it, itself included.
func following(tab table) map[string]map[string]bool {
	next := make(map[string]map[string]bool)
	for _, s := range tab.states {
		next[s] = map[string]bool{s: true}
	}
	for at, cell := range tab.cells {
		if _, after, ok := strings.Cut(cell, ": "); ok {
			next[at[1]][after] = true
		} else if next[cell] != nil { // cells of the other tables are the states that follow
			next[at[1]][cell] = true
		}
	}
	for range tab.states { // one event may stand for several: a SYN-ACK that has data and a FIN
		for s := range next {
			for t := range next[s] {
				for u := range next[t] {
					next[s][u] = true
				}
			}
		}
	}
	return next
}

// TestNoOtherStates: whatever happens to streams of one tuple, no stream takes a step that the
// tables do not have, or has a state that does not go with the rest of it.
func TestNoOtherStates(t *testing.T) {
	all := tables(t)
	state, sends, reads := following(all[0]), following(all[1]), following(all[2])
	reads["Asked"]["Based"], reads["Kept"]["Based"], reads["Off"]["Based"] = true, true, true
	rapid.Check(t, func(r *rapid.T) {
		s := newSingle(t)
		s.table.SetReaders(rapid.IntRange(0, 2).Draw(r, "readers"))
		var streams []*Stream
		type triple struct{ state, sends, reads string }
		of := func(st *Stream) triple {
			return triple{stateNames[st.state], sendingNames[st.sending],
				readNames[st.reading.state]}
		}
		for range rapid.IntRange(1, 60).Draw(r, "events") {
			before := make(map[*Stream]triple)
			for _, st := range streams {
				before[st] = of(st)
			}
			what := rapid.IntRange(0, 16).Draw(r, "what")
			if what == 0 || len(streams) == 0 {
				s.table.spare = nil // so that a stream is one copy's only
				streams = append(streams, s.open())
			} else {
				at := rapid.IntRange(0, len(streams)-1).Draw(r, "stream")
				if s.st = streams[at]; s.st.state != Over {
					s.copy = s.st.copy.(*copyFake)
					s.anything(r, what)
				}
			}
			for st, was := range before {
				now := of(st)
				if was.state != "Over" && !state[was.state][now.state] ||
					was.state == "Over" && now.state != "Over" {
					r.Fatalf("event %d: from %s to %s", what, was.state, now.state)
				}
				if !sends[was.sends][now.sends] {
					r.Fatalf("event %d: our direction went from %s to %s", what, was.sends,
						now.sends)
				}
				if !reads[was.reads][now.reads] {
					r.Fatalf("event %d: the reading went from %s to %s", what, was.reads, now.reads)
				}
			}
			begun := 0
			for _, st := range streams {
				if st.state >= Opening {
					begun++
					if s.table.streams[st.tuple] != st {
						r.Fatalf("event %d: a stream in %s is not in the table", what, of(st).state)
					}
				}
				st.checkWhole(r)
			}
			if len(s.table.streams) != begun {
				r.Fatalf("event %d: %d streams in the table, %d have begun", what,
					len(s.table.streams), begun)
			}
		}
	})
}

// checkWhole checks that the parts of a stream go together.
func (st *Stream) checkWhole(r *rapid.T) {
	name := stateNames[st.state]
	switch rd := &st.reading; {
	case st.state == Over:
	case st.copy == nil:
		r.Fatalf("a stream in %s has no session", name)
	case (st.state == Queued) != (st.before != nil):
		r.Fatalf("a stream in %s is behind another one: %v", name, st.before != nil)
	case st.state < Opening && st.sending == ended:
		r.Fatalf("a stream in %s has ended its direction", name)
	case st.state < Opening && (rd.state == readKept || rd.asks()):
		r.Fatalf("a stream in %s has a reading in %s", name, readNames[rd.state])
	case st.state >= Opening && rd.state == readWanted:
		r.Fatalf("a stream in %s has a reading that has not begun", name)
	case rd.left > 0 && !rd.asks() && rd.state != readWanted:
		r.Fatalf("a reading in %s waits for confirmations", readNames[rd.state])
	case rd.state == readAsked && rd.left == 0, rd.state == readBased &&
		rd.left == 0, rd.state == readWhole && rd.left == 0:
		r.Fatalf("a reading in %s waits for none", readNames[rd.state])
	case len(rd.found) > 0 && !rd.asks():
		r.Fatalf("a reading in %s has found something", readNames[rd.state])
	}
}

// anything makes something happen to a stream.
func (s *single) anything(r *rapid.T, what int) {
	st := s.st
	n := func(name string, hi int) int { return rapid.IntRange(0, hi).Draw(r, name) }
	switch what {
	case 1:
		if st.sending == unended {
			st.Release(s.now, st.end+uint64(n("bytes", 3000)))
		}
	case 2:
		if st.sending == unended {
			st.CloseWrite(s.now)
		}
	case 3:
		st.Abort(s.now)
	case 4, 5:
		s.now += []mono.Time{0, ms, 300 * ms, 2 * sec, 11 * sec}[n("wait", 4)]
		s.table.SetTime(s.now)
		st.Poll(s.now)
	case 6, 7:
		s.synAck()
	case 8:
		s.said += n("data", 1)
		s.segment(packet.ACK, s.next(), s.acked(), n("len", 5))
	case 9:
		s.fin()
	case 10:
		s.segment(packet.Flags(n("flags", 63)), irs+seqnum.Value(n("seq", 30)),
			st.isn+seqnum.Value(n("ack", 3000)), n("len", 9))
	case 11:
		s.table.Taken(s.now, st.tuple)
	case 12:
		s.table.Free(st.tuple)
		s.table.Unowned(s.now, st.tuple)
	case 13:
		if rd := &st.reading; (rd.state == readOff || rd.state == readKept) && st.end == 0 {
			st.ReadAnswers(http1.Kind)
		}
	case 14:
		st.Expect(uint64(n("request", 3)), proto.Hint(1))
	case 15:
		s.table.Found(s.now, []wire.Found{{
			Kind: []wire.FoundKind{wire.FoundConfirmed, wire.FoundAnswer, wire.FoundBytes,
				wire.FoundLost}[n("kind", 3)],
			Tuple: wireTupleOf(st), Serial: st.reading.serial, Whole: n("whole",
				1) == 1, Data: []byte("x"),
			Answer: proto.Answer{End: uint64(n("end", 40))},
		}})
	case 16:
		switch n("link", 2) {
		case 0:
			s.table.SetReaders(n("readers", 2))
		case 1:
			s.table.SetLink(n("up", 3) > 0, 7)
		default:
			s.keep()
		}
	}
	s.table.Output()
}
