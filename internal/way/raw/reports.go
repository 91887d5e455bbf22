package raw

import (
	"bytes"
	"net/netip"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/way"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/wire"
)

// The callbacks of the links sort what the intercepts report by shard. They run on the links'
// goroutines, and wait where a shard's inbox is full, except for what anyone may have sent.

// report is a shard's share of what an intercept has reported at once.
type report struct {
	segs  []packet.Segment // of targets
	found []wire.Found     // about segments that came before
}

// shares is a report for each shard that has one.
type shares [way.MaxShards]*report

// of returns the report for the shard of the copies that come from a port.
func (w *Way) of(s *shares, port uint16) *report {
	k := shard.Of(w.rules.ClientPort(port), len(w.ends))
	if s[k] == nil {
		s[k] = w.reports.Get().(*report)
		s[k].segs, s[k].found = s[k].segs[:0], s[k].found[:0]
	}
	return s[k]
}

// deal puts each report into its shard's inbox.
func (w *Way) deal(s *shares) {
	for k, r := range s[:len(w.ends)] {
		if r != nil {
			w.ends[k].put(message{report: r})
		}
	}
}

// endOf returns the end of the shard that has the copies from an address.
func (w *Way) endOf(client netip.AddrPort) *end {
	return w.ends[shard.Of(w.rules.ClientPort(client.Port()), len(w.ends))]
}

// onBatch deals out the targets' segments. The batch is the link's again when it returns.
func (w *Way) onBatch(b *link.Batch) {
	var s shares
	for i := range b.Segments {
		r := w.of(&s, b.Segments[i].Dst.Port())
		r.segs = append(r.segs, b.Segments[i])
	}
	w.deal(&s)
}

// onAnswers deals out what the intercepts have found of answers.
func (w *Way) onAnswers(body []byte) error {
	var s shares
	var f wire.Found
	for len(body) > 0 {
		var err error
		if body, err = wire.NextFound(body, &f); err != nil {
			return err
		}
		f.Data = bytes.Clone(f.Data)
		r := w.of(&s, f.Tuple.Client.Port())
		r.found = append(r.found, f)
	}
	w.deal(&s)
	return nil
}

// onState tells the shards whether the targets' answers are reported, and the intercept which
// connections are ours. Links change at the same time: each shard asks for their state when it
// takes in the message, so that what it was told last is true.
func (w *Way) onState(s link.State) {
	anew := w.readsAnew(s)
	for _, e := range w.ends {
		e.call(func(mono.Time) {
			e.SetLink(w.anyUp(), w.group.Slot())
			if anew {
				e.SetReaders(w.readers())
			}
			if s.Up {
				w.group.Claim(wireTuples(e.Tuples()))
			}
		})
	}
}

// readsAnew reports whether a link's change may leave gaps in what its intercept tells of answers:
// its first connection has come, or one has gone with what was on its way.
func (w *Way) readsAnew(s link.State) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.conns[s.Intercept]
	w.conns[s.Intercept] = s.Conns
	return s.Conns < before || before == 0 || !s.Up
}

// readers returns how many intercepts are up; 0 if one of these does not read answers.
func (w *Way) readers() (n int) {
	for _, l := range w.group.Links() {
		switch s := l.State(); {
		case s.Up && !s.Reads:
			return 0
		case s.Up:
			n++
		}
	}
	return n
}

// anyUp reports whether an intercept is up.
func (w *Way) anyUp() bool {
	for _, l := range w.group.Links() {
		if l.State().Up {
			return true
		}
	}
	return false
}

// onOwner takes the answer to a Query. We ourselves may own the connection: the intercepts learned
// it from the answer to our SYN.
func (w *Way) onOwner(t wire.Tuple, o wire.Ownership) {
	if o == wire.Nobody || o == wire.You {
		w.endOf(t.Client).put(message{what: unowned, tuple: shardTuple(t)})
	}
}

// onSought takes the answer to a Seek.
func (w *Way) onSought(t wire.Tuple, free bool) {
	m := message{what: taken, tuple: shardTuple(t)}
	if free {
		m.what = freed
	}
	w.endOf(t.Client).put(m)
}

// onRefused takes tuples that are another copier's.
func (w *Way) onRefused(tuples []wire.Tuple) {
	for _, t := range tuples {
		w.onSought(t, false)
	}
}

// onICMP takes an ICMP message that a target's host, or a router, has sent for a copy; or anyone
// else. It does not wait: what finds no room is dropped. A router that means it says so again, as
// the segment is sent again.
func (w *Way) onICMP(m wire.ICMP) {
	if m.Kind == packet.FragNeeded || m.Kind == packet.PacketTooBig {
		payload := int(m.MTU) - headersTo(m.Tuple.Target.Addr())
		w.endOf(m.Tuple.Client).offer(message{what: tooBig, tuple: shardTuple(m.Tuple),
			seq: m.Seq, payload: payload})
	}
}

func shardTuple(t wire.Tuple) shard.Tuple { return shard.TupleOf(t.Client, t.Target) }

func wireTuple(t shard.Tuple) wire.Tuple {
	return wire.Tuple{Client: t.Client(), Target: t.Server()}
}

func wireTuples(tuples []shard.Tuple) []wire.Tuple {
	out := make([]wire.Tuple, len(tuples))
	for i, t := range tuples {
		out[i] = wireTuple(t)
	}
	return out
}
