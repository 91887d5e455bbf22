package stream

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
)

// At 20,000 connections a second each end is remembered for as long as the target may be in
// TIME-WAIT, and not longer.
func TestTimeWaitAt20000PerSecond(t *testing.T) {
	const rate, apart = 20_000, mono.Time(time.Second / 20_000)
	w := newTimeWait(maxEnded)
	now := mono.Time(1)
	for i := range uint64(90 * rate) {
		now += apart
		w.expire(now)
		w.put(i, connectionEnd{ts: uint32(i), at: now})
		if first := int(i) - 60*rate + 2; i%997 == 0 && first >= 0 {
			if end, ok := w.get(now, uint64(first)); !ok || end.ts != uint32(first) {
				t.Fatalf("of %d ends %d is not remembered", i, first)
			}
			if _, ok := w.get(now, uint64(max(0, first-3))); ok && first > 3 {
				t.Fatalf("%d is still remembered", first-3)
			}
		}
	}
	if n := w.len(); n > 60*rate+forgetAtOnce || len(w.latest) != n {
		t.Errorf("%d ends are kept, and %d tuples", n, len(w.latest))
	}
	for range 60 * rate { // the clock goes on, and no connection ends
		now += apart
		w.expire(now)
	}
	if w.len() != 0 || len(w.latest) != 0 || cap(w.queue) > keptEnded {
		t.Errorf("%d ends are kept, room for %d", w.len(), cap(w.queue))
	}
}

// A tuple that is put again is remembered from then on.
func TestTimeWaitOfTupleUsedAgain(t *testing.T) {
	w := newTimeWait(1000)
	w.put(1, connectionEnd{ts: 1, at: 1})
	for i := range uint64(500) {
		w.put(1000+i, connectionEnd{at: 2})
	}
	w.put(1, connectionEnd{ts: 2, at: 3})
	for i := range uint64(999) {
		w.put(5000+i, connectionEnd{at: 4})
		if end, ok := w.get(5, 1); !ok || end.ts != 2 {
			t.Fatalf("forgotten after %d others", i+1)
		}
	}
	w.put(9000, connectionEnd{at: 4})
	if _, ok := w.get(5, 1); ok || w.len() != 1000 {
		t.Errorf("%d are remembered, want 1000 without the oldest", w.len())
	}
	if _, ok := w.get(4+mono.Time(timeWaitFor), 9000); ok {
		t.Error("remembered for too long")
	}
}

// The number of a connection's first byte cannot be computed from those of others: it depends on a
// secret. With the same secret it is the same, so that a copier that is started again goes on.
func TestISNDependsOnSecret(t *testing.T) {
	isns := func(secret byte, slot uint8) (all []seqnum.Value) {
		b := newRawBed(t, func(c *config) { c.Raw.ISNSecret[7] = secret })
		b.tg.slot = slot
		b.table.SetLink(true, slot)
		for i := range 20 {
			b.conn(fmt.Sprintf("192.0.2.1:%d", 40000+i)).Syn()
		}
		b.run(10 * ms)
		for _, s := range b.syns() {
			all = append(all, s.Seq)
		}
		return all
	}
	one, again, other, rival := isns(1, 5), isns(1, 5), isns(2, 5), isns(1, 9)
	if len(one) != 20 || !slices.Equal(one, again) {
		t.Fatalf("%d SYNs, the same again: %v", len(one), slices.Equal(one, again))
	}
	near := 0
	for i := range one {
		if d := other[i].Sub(one[i]); -1<<16 < d && d < 1<<16 {
			near++
		}
		if i > 0 {
			if d := one[i].Sub(one[i-1]); -1<<16 < d && d < 1<<16 {
				near++
			}
		}
		// Two copiers with the secret are a window and more apart.
		if d := rival[i].Sub(one[i]); d != 4*slotApart+4 {
			t.Errorf("connection %d: the numbers of two slots are %d apart", i, d)
		}
	}
	tuple := shard.TupleOf(rig.Production, rig.Target)
	var secret [32]byte
	if n := testing.AllocsPerRun(100, func() { identify(&secret, &tuple) }); n != 0 {
		t.Errorf("%v allocations for each number", n)
	}
	if near > 1 {
		t.Errorf("%d of 40 numbers are near another one", near)
	}
}

// An ICMP message is believed only if the segment that it quotes is in flight (RFC 5927 §4.1).
func TestICMPMustQuoteWhatIsInFlight(t *testing.T) {
	b := newRawBed(t)
	c := b.conn("192.0.2.1:40000").Syn()
	b.run(50 * ms)
	p := b.peer()
	isn := b.syns()[0].Seq
	longest := func() (n int) {
		b.tg.heard = nil
		c.Data(strings.Repeat("x", 4000))
		b.run(50 * ms)
		for _, s := range b.tg.heard {
			n = max(n, s.Len)
		}
		p.say(b.Now, 10)
		c.Answers(10)
		b.run(sec)
		return n
	}
	before := longest()
	for _, seq := range []seqnum.Value{isn - 1, isn, isn + 1, isn + 4000, isn + 4001, isn + 1<<30} {
		b.table.PacketTooBig(b.Now, p.tuple, seq, 600) // nothing is in flight
	}
	if got := longest(); got != before {
		t.Errorf("segments have %d bytes after a stranger's messages, and %d before", got, before)
	}
	b.tg.silent = true
	c.Data(strings.Repeat("x", 4000))
	b.run(5 * ms)
	b.tg.silent = false
	b.table.PacketTooBig(b.Now, p.tuple, isn+8000, 600)  // the last one that was acknowledged
	b.table.PacketTooBig(b.Now, p.tuple, isn+12001, 600) // not sent yet
	b.run(sec)
	p.say(b.Now, 10)
	c.Answers(10)
	b.run(sec)
	if got := longest(); got != before {
		t.Errorf("segments have %d bytes after messages about others, and %d before", got, before)
	}
	b.tg.silent = true
	c.Data(strings.Repeat("x", 4000))
	b.run(5 * ms)
	b.tg.silent = false
	b.table.PacketTooBig(b.Now, p.tuple, isn+16001, 600)
	b.run(sec)
	p.say(b.Now, 10)
	c.Answers(10)
	b.run(sec)
	if got := longest(); got > 600 {
		t.Errorf("segments have %d bytes, and the path takes 600", got)
	}
}

// What a router has said in answer to one connection holds for all to that target, for a time.
func TestRawNarrowPath(t *testing.T) {
	const narrow = 700
	b := newRawBed(t)
	longest := func(c *rig.Conn) (n int) {
		b.tg.heard = nil
		c.Data(strings.Repeat("x", 4000))
		b.run(50 * ms)
		for _, s := range b.tg.heard {
			n = max(n, s.Len)
		}
		return n
	}
	c := b.conn("192.0.2.1:40000").Syn()
	b.run(50 * ms)
	isn := b.syns()[0].Seq
	old := b.conn("192.0.2.2:40000").Syn()
	b.run(50 * ms)
	b.tg.silent = true
	c.Data(strings.Repeat("x", 4000))
	b.run(5 * ms)
	b.tg.silent = false
	b.table.PacketTooBig(b.Now, shard.TupleOf(c.Addr, rig.Target), isn+1, narrow)
	b.run(sec)
	if n := longest(old); n > narrow {
		t.Errorf("a connection that was open sends segments of %d bytes", n)
	}
	next := b.conn("192.0.2.3:40000").Syn()
	b.run(50 * ms)
	if n := longest(next); n > narrow {
		t.Errorf("a new connection sends segments of %d bytes", n)
	}
	b.run(mono.Time(pathLasts))
	last := b.conn("192.0.2.4:40000").Syn()
	b.run(50 * ms)
	if n := longest(last); n <= narrow {
		t.Errorf("long after that, segments have %d bytes", n)
	}
}
