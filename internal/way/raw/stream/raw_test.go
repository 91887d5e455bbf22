package stream

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
	"tcpcopy/internal/way/raw/tcp"
)

const (
	ms  = mono.Time(time.Millisecond)
	sec = mono.Time(time.Second)
)

// port hands a table what a test gives it.
type port struct {
	*Table
	in *rig.Input
}

func (p *port) Take(in *rig.Input) { p.in = in }

func (p *port) Deliver(now mono.Time, stalled bool) []session.Event {
	p.SetTime(now)
	for i := range p.in.Feedback {
		p.Segment(now, &p.in.Feedback[i], stalled)
	}
	p.Found(now, p.in.Found)
	for _, t := range p.in.Unowned {
		p.Unowned(now, t)
	}
	for _, t := range p.in.Free {
		p.Free(t)
	}
	return nil
}

func (p *port) Pending() bool { return false }

// rawBed is a bed whose copies go the raw way, to a rawTarget.
type rawBed struct {
	*rig.Bed
	table    *Table
	services []*shard.Service
	agenda   rig.Agenda
	to       *rig.Input
	tg       *rawTarget
}

// config is the configuration of a bed's shard and table.
type config struct {
	*shard.Config
	Raw Config
}

func rawConfig() Config {
	c := Config{
		ISNAtZero: 1 << 20, TSAtZero: 5000, MaxSegment: func(netip.Addr) int { return 1400 },
		ConnectTimeout: 10 * time.Second, UserTimeout: 20 * time.Second,
	}
	c.Address.OtherFamily = ledger.NoSourceAddress
	return c
}

func newRawBed(t *testing.T, change ...func(*config)) *rawBed {
	b := &rawBed{}
	t.Cleanup(func() { // after the shard was shut down
		if n := len(b.table.streams); n != 0 {
			t.Errorf("at the end %d connections are open", n)
		}
	})
	b.Bed = rig.NewBed(t, func(cfg *shard.Config) {
		c := config{Config: cfg, Raw: rawConfig()}
		for _, f := range change {
			f(&c)
		}
		b.table = New(c.Raw)
		cfg.Streams, b.services = &port{Table: b.table}, cfg.Services
	})
	b.to = &b.In
	b.tg = newRawTarget(&b.agenda, &b.to, 1, t.Errorf)
	b.tg.keep = true
	b.table.SetLink(true, b.tg.slot)
	return b
}

// run steps until d has passed, with the target at work.
func (b *rawBed) run(d mono.Time) {
	b.Helper()
	end := b.Now + d
	for i := 0; ; i++ {
		b.agenda.Run(b.Now)
		b.Step()
		b.tg.take(b.Now, b.table.Output())
		b.tg.word(b.Now, b.table.Seeks())
		next := min(b.Due, b.agenda.Next())
		if next > end {
			break
		}
		if i > 1<<20 {
			b.Fatal("no end of it")
		}
		b.Now = next
	}
	b.Now = end
}

// queue has a connection's packets wait for the next run.
func (b *rawBed) conn(addr string) *rig.Conn {
	c := b.Bed.Conn(addr)
	c.Hold = true
	return c
}

// syns are the SYNs that the target was sent.
func (b *rawBed) syns() (all []packet.Segment) {
	for _, s := range b.tg.heard {
		if s.Flags.Has(packet.SYN) {
			all = append(all, s)
		}
	}
	return all
}

// peer is the target's only connection.
func (b *rawBed) peer() *peer {
	b.Helper()
	if len(b.tg.conns) != 1 {
		b.Fatalf("at %v: the target has %d connections, wanted 1", b.Now, len(b.tg.conns))
	}
	for _, p := range b.tg.conns {
		return p
	}
	return nil
}

func TestRawLife(t *testing.T) {
	b := newRawBed(t)
	c := b.conn("192.0.2.1:40000").Syn()
	c.Data("GET 1")
	b.run(50 * ms)
	p := b.peer()
	if string(p.text) != "GET 1" || p.tuple.Client() != c.Addr || p.tuple.Server() != rig.Target {
		t.Fatalf("the target has %q from %v", p.text, p.tuple.Client())
	}
	if s := b.syns(); len(s) != 1 || s[0].Opts.MSS != 1400 || !s[0].Opts.SACKPermitted ||
		s[0].Opts.HasWScale {
		t.Errorf("the SYN offers %+v, wanted what the client's did, within the path", s[0].Opts)
	}
	c.Answers(100)
	c.Data("GET 2")
	b.run(50 * ms)
	if string(p.text) != "GET 1" {
		t.Errorf("the target has %q before it has answered", p.text)
	}
	p.say(b.Now, 100)
	b.run(sec)
	if string(p.text) != "GET 1GET 2" {
		t.Errorf("the target has %q", p.text)
	}
	c.Fin()
	b.run(sec)
	if len(b.tg.conns) != 0 {
		t.Errorf("the target has %d connections left", len(b.tg.conns))
	}
	b.Live(0)
	b.Sessions(1, ledger.None, 1)
	b.Bytes(10, ledger.None, 10)
	cs := b.Sh.Snapshot()
	if cs.SegmentsOut != uint64(len(b.tg.heard)) || cs.SegmentsIn == 0 || cs.ForeignAnswers != 0 ||
		cs.Retransmits != 0 {
		t.Errorf("%d segments out, %d in, %d foreign, %d again; the target has seen %d",
			cs.SegmentsOut, cs.SegmentsIn,
			cs.ForeignAnswers, cs.Retransmits, len(b.tg.heard))
	}
}

func TestRawIPv6(t *testing.T) {
	to := netip.MustParseAddrPort("[2001:db8::9]:8080")
	b := newRawBed(t, func(c *config) { c.Services = []*shard.Service{rig.ServiceFor(to)} })
	b.conn("[2001:db8:1::1]:40000").Syn().Data("GET")
	b.run(50 * ms)
	if string(b.peer().text) != "GET" {
		t.Errorf("the target has %q", b.peer().text)
	}
	// An IPv4 client cannot go there.
	b.conn("192.0.2.1:40000").Syn().Data("GET")
	b.run(50 * ms)
	b.Sessions(2, ledger.NoSourceAddress, 1)
}

func TestRawSlotNamesTheCopier(t *testing.T) {
	for _, slot := range []uint8{0, 1, 255} {
		b := newRawBed(t)
		b.tg.slot = slot
		b.table.SetLink(true, slot)
		for i := range 50 {
			b.conn(fmt.Sprintf("192.0.2.1:%d", 40000+i)).Syn()
		}
		b.run(10 * ms) // the target looks at each
		if len(b.syns()) != 50 {
			t.Errorf("%d SYNs, wanted 50", len(b.syns()))
		}
	}
}

// A tuple that is used again begins above all that it has used, also when the clock of sequence
// numbers is just there.
func TestRawTupleReuse(t *testing.T) {
	b := newRawBed(t)
	var last seqnum.Value
	var lastTS uint32
	for i := range 40 {
		c := b.conn("192.0.2.1:40000")
		c.Isn = c.Isn.Add(i * 70000)
		c.Send(packet.Segment{Seq: c.Isn, Flags: packet.SYN,
			Opts: packet.Options{MSS: 1460, HasTS: true, TSVal: 77}})
		c.Data(strings.Repeat("x", 9000*(i%4)))
		c.Seg(packet.RST, "")
		b.run(mono.Time(20+i) * ms)
		s := b.syns()
		syn := s[len(s)-1]
		if len(s) != i+1 {
			t.Fatalf("round %d: %d SYNs", i, len(s))
		}
		if i > 0 && (!last.Less(syn.Seq) || int32(syn.Opts.TSVal-lastTS) <= 0) {
			t.Fatalf("round %d: begins at %d and %d, the last one ended at %d and %d", i, syn.Seq,
				syn.Opts.TSVal, last, lastTS)
		}
		for _, h := range b.tg.heard {
			if i == 0 || last.Less(h.End()) {
				last = h.End()
			}
			if h.Opts.HasTS {
				lastTS = h.Opts.TSVal
			}
		}
		b.Live(0)
	}
}

func TestISNStaysAboveWithSlot(t *testing.T) {
	b := newRawBed(t)
	b.tg.slot = 0
	b.table.SetLink(true, 0)
	for d := seqnum.Value(0); d < 600; d += 7 {
		st := &Stream{table: b.table, tuple: shard.TupleOf(netip.MustParseAddrPort("192.0.2.1:1"),
			rig.Target)}
		begin := func() {
			st.cfg = new(tcp.Config)
			b.table.configure(st.cfg, st.tuple.Client(), &session.OpenSpec{Target: rig.Target})
			st.begin(b.Now)
		}
		b.table.ended = newTimeWait(1)
		begin()
		next := st.isn - 300 + d // the tuple's last is near the clock
		_, id := identify(&b.table.cfg.ISNSecret, &st.tuple)
		b.table.ended.put(id, connectionEnd{next: next, at: b.Now})
		begin()
		if !next.Less(st.isn) {
			t.Fatalf("the last ended at %d, the next begins at %d", next, st.isn)
		}
		delete(b.table.streams, st.tuple)
	}
}

func TestRawTakeover(t *testing.T) {
	t.Run("the old one ends in order", func(t *testing.T) {
		b := newRawBed(t)
		c := b.conn("192.0.2.1:40000").Syn()
		c.Data("old")
		b.run(50 * ms)
		n := b.conn("192.0.2.1:40000")
		n.Isn = 900000
		n.Syn()
		n.Data("new")
		b.run(100 * ms)
		if string(b.peer().text) != "new" {
			t.Errorf("the target has %q", b.peer().text)
		}
		b.Sessions(2, ledger.None, 1)
		b.Bytes(6, ledger.None, 6)
	})
	t.Run("the old one still waits for an answer", func(t *testing.T) {
		b := newRawBed(t)
		c := b.conn("192.0.2.1:40000").Syn()
		c.Data("one")
		c.Answers(10)
		c.Data("two")
		b.run(50 * ms)
		old := b.peer()
		n := b.conn("192.0.2.1:40000")
		n.Isn = 900000
		n.Syn()
		n.Data("new")
		b.run(mono.Time(takeover) - 100*ms)
		if b.peer() != old {
			t.Fatal("the new one did not wait")
		}
		b.run(200 * ms)
		if string(b.peer().text) != "new" {
			t.Errorf("the target has %q", b.peer().text)
		}
		b.Sessions(2, ledger.Replaced, 1)
		b.Bytes(9, ledger.Replaced, 3)
	})
}

// TestRawTakeoverQueue: several connections with the same tuple wait.
func TestRawTakeoverQueue(t *testing.T) {
	t.Run("given up while it waits", func(t *testing.T) {
		b := newRawBed(t)
		c := b.conn("192.0.2.1:40000").Syn()
		c.Data("one")
		c.Answers(10)
		c.Data("two")
		b.run(50 * ms)
		for i := range 3 {
			n := b.conn("192.0.2.1:40000")
			n.Isn = seqnum.Value(900000 + i*1000000)
			n.Syn()
			n.Data("new")
			b.run(100 * ms)
		}
		b.run(mono.Time(takeover) + 5*sec)
		b.Live(1)
		if string(b.peer().text) != "new" {
			t.Errorf("the target has %q", b.peer().text)
		}
		b.Sessions(4, ledger.None, 2)
		b.Sessions(4, ledger.Replaced, 1)
		b.Bytes(15, ledger.None, 12) // all but the second turn of the first
	})
	t.Run("the one in the middle goes first", func(t *testing.T) {
		b := newRawBed(t)
		c := b.conn("192.0.2.1:40000").Syn()
		c.Data("one")
		c.Answers(10)
		c.Data("two")
		b.run(50 * ms)
		for i := range 2 {
			n := b.conn("192.0.2.1:40000")
			n.Isn = seqnum.Value(900000 + i*1000000)
			n.Syn()
			n.Data(fmt.Sprint("new", i))
			b.run(10 * ms)
		}
		for _, st := range b.table.streams {
			st.after.copy.Replace(b.Now)
		}
		b.run(10 * ms)
		b.peer().say(b.Now, 10) // and so the first one ends in order
		b.run(100 * ms)
		if string(b.peer().text) != "new1" {
			t.Errorf("the target has %q", b.peer().text)
		}
		b.Live(1)
		b.Sessions(3, ledger.None, 1)
	})
}

// oldConnection has the target know an old connection of 192.0.2.1:40000.
func oldConnection(b *rawBed) *peer {
	tuple := shard.TupleOf(netip.MustParseAddrPort("192.0.2.1:40000"), rig.Target)
	p := &peer{t: b.tg, tuple: tuple, open: true, rcvNxt: 555, sndUna: 777, sndNxt: 777,
		end: 777}
	b.tg.conns[tuple] = p
	return p
}

func TestRawOldConnectionAtTheTarget(t *testing.T) {
	t.Run("nobody's", func(t *testing.T) {
		b := newRawBed(t)
		p := oldConnection(b)
		b.conn("192.0.2.1:40000").Syn().Data("GET")
		b.run(20 * ms)
		q := b.table.Queries()
		if len(q) != 1 || q[0] != p.tuple {
			t.Fatalf("asked about %v, wanted %v", q, p.tuple)
		}
		if b.peer() != p {
			t.Fatal("reset before anybody said that it is nobody's")
		}
		if len(b.table.Queries()) != 0 {
			t.Error("asked twice")
		}
		b.In.Unowned = q
		b.run(100 * ms)
		if string(b.peer().text) != "GET" || b.tg.resets != 1 {
			t.Errorf("the target has %q, after %d resets", b.peer().text, b.tg.resets)
		}
	})
	t.Run("another copier's", func(t *testing.T) {
		b := newRawBed(t)
		p := oldConnection(b)
		b.conn("192.0.2.1:40000").Syn().Data("GET")
		b.run(11 * sec)
		if b.peer() != p || b.tg.resets != 0 {
			t.Error("another copier's connection was reset")
		}
		b.Sessions(1, ledger.ConnectTimeout, 1)
		b.Bytes(3, ledger.ConnectTimeout, 3)
	})
	t.Run("asked about again each second", func(t *testing.T) {
		b := newRawBed(t)
		p := oldConnection(b)
		b.conn("192.0.2.1:40000").Syn().Data("GET")
		b.run(20 * ms)
		if n := len(b.table.Queries()); n != 1 {
			t.Fatalf("asked %d times, wanted once", n)
		}
		for range 5 { // the answer to the question was lost, or forbade, or was not sure
			b.run(sec)
			if n := len(b.table.Queries()); n != 1 {
				t.Errorf("asked %d times in a second, wanted once", n)
			}
		}
		b.In.Unowned = []shard.Tuple{p.tuple}
		b.run(3 * sec)
		if n := len(b.table.Queries()); n != 0 || string(b.peer().text) != "GET" {
			t.Errorf("asked %d times when it is over, and the target has %q", n, b.peer().text)
		}
	})
}

// TestRawSeeks: what is asked before a SYN is sent.
func TestRawSeeks(t *testing.T) {
	t.Run("of a connection found under way: sought before the first SYN", func(t *testing.T) {
		b := newRawBed(t)
		b.conn("192.0.2.2:40000").Syn().Data("GET")
		b.run(2 * sec)
		if n := len(b.tg.sought); n != 0 {
			t.Errorf("sought %d new connections that were answered", n)
		}
		b.tg.wordless = true
		c := b.conn("192.0.2.1:40000")
		c.Data("GET")
		b.run(500 * ms)
		if n := len(b.tg.sought); n != 1 || b.tg.sought[0].Tuple.Client() != c.Addr ||
			b.tg.sought[0].Age != 0 {
			t.Errorf("sought %v, wanted the one under way", b.tg.sought)
		}
		if n := len(b.syns()); n != 1 {
			t.Errorf("%d SYNs, wanted no second one before the answer", n)
		}
		b.tg.wordless = false
		b.run(600 * ms) // it is asked again
		if n := len(b.tg.sought); n != 2 || len(b.syns()) != 2 {
			t.Errorf("sought %d times, and sent %d SYNs, wanted 2 and 2", n, len(b.syns()))
		}
	})
	t.Run("an answer to nobody", func(t *testing.T) {
		b := newRawBed(t)
		b.In.Unowned = []shard.Tuple{{}}
		b.In.Feedback = []packet.Segment{{Src: rig.Target,
			Dst: netip.MustParseAddrPort("192.0.2.9:1"), Flags: packet.SYN | packet.ACK, Ack: 5}}
		b.run(ms)
		if n := b.Sh.Snapshot().ForeignAnswers; n != 1 || len(b.tg.heard) != 0 {
			t.Errorf("%d foreign answers, %d segments sent", n, len(b.tg.heard))
		}
	})
}

func TestRawLateAnswers(t *testing.T) {
	end := func(b *rawBed, how packet.Flags) shard.Tuple {
		c := b.conn("192.0.2.1:40000").Syn()
		c.Data("GET")
		b.run(50 * ms)
		tuple := b.peer().tuple
		if how == packet.FIN {
			c.Fin()
		} else {
			c.Seg(how, "")
		}
		b.run(50 * ms)
		b.Live(0)
		b.tg.heard = nil
		b.tg.silent = true
		return tuple
	}
	say := func(b *rawBed, tuple shard.Tuple, flags packet.Flags, n int) []packet.Segment {
		b.In.Feedback = []packet.Segment{{Src: tuple.Server(), Dst: tuple.Client(), Seq: 900,
			Ack: 333, Flags: flags, Len: n}}
		b.tg.heard = nil
		b.run(ms)
		return b.tg.heard
	}
	t.Run("the FIN again", func(t *testing.T) {
		b := newRawBed(t)
		tuple := end(b, packet.FIN)
		got := say(b, tuple, packet.FIN|packet.ACK, 0)
		if len(got) != 1 || got[0].Flags != packet.ACK || got[0].Ack != 901 || got[0].Seq != 333 {
			t.Errorf("answered with %v", got)
		}
		if got := say(b, tuple, packet.FIN, 0); len(got) != 0 {
			t.Errorf("a FIN without ACK is answered with %v", got)
		}
		if got := say(b, tuple, packet.ACK, 0); len(got) != 0 {
			t.Errorf("an ACK is answered with %v", got)
		}
		b.run(61 * sec)
		if got := say(b, tuple, packet.FIN|packet.ACK, 0); len(got) != 0 {
			t.Errorf("after TIME-WAIT it is answered with %v", got)
		}
	})
	t.Run("data after our reset", func(t *testing.T) {
		b := newRawBed(t)
		tuple := end(b, packet.RST)
		got := say(b, tuple, packet.ACK, 100)
		if len(got) != 1 || got[0].Flags != packet.RST || got[0].Seq != 333 {
			t.Errorf("answered with %v", got)
		}
		if got := say(b, tuple, packet.RST|packet.ACK, 0); len(got) != 0 {
			t.Errorf("a RST is answered with %v", got)
		}
		if n := b.Sh.Snapshot().ForeignAnswers; n != 0 {
			t.Errorf("%d answers are called foreign", n)
		}
	})
}

func TestRawTargetTrouble(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		b := newRawBed(t)
		b.tg.refuse = true
		c := b.conn("192.0.2.1:40000").Syn()
		c.Data("GET")
		b.run(50 * ms)
		b.Sessions(1, ledger.TargetRefused, 1)
		b.Bytes(3, ledger.TargetRefused, 3)
		// A later turn tries again, from the same address.
		b.tg.refuse = false
		c.Answers(5)
		b.run(sec)
		c.Data("GET 2")
		b.run(sec)
		if string(b.peer().text) != "GET 2" {
			t.Errorf("the target has %q", b.peer().text)
		}
	})
	t.Run("silent", func(t *testing.T) {
		b := newRawBed(t)
		b.tg.silent = true
		b.conn("192.0.2.1:40000").Syn().Data("GET")
		b.run(11 * sec)
		b.Sessions(1, ledger.ConnectTimeout, 1)
		if b.Sh.Snapshot().Retransmits == 0 {
			t.Error("the SYN was not repeated")
		}
		if n := len(b.syns()); len(b.tg.sought) != n-1 || n < 4 ||
			b.tg.sought[1].Age < 3*time.Second {
			t.Errorf("of %d SYNs those that repeat one were sought %v", n, b.tg.sought)
		}
	})
	t.Run("silent after the handshake", func(t *testing.T) {
		b := newRawBed(t)
		c := b.conn("192.0.2.1:40000").Syn()
		b.run(50 * ms)
		b.tg.silent = true
		c.Data("GET")
		b.run(25 * sec)
		b.Sessions(1, ledger.SendTimeout, 1)
		b.Bytes(3, ledger.SendTimeout, 3)
	})
	t.Run("reset", func(t *testing.T) {
		b := newRawBed(t)
		c := b.conn("192.0.2.1:40000").Syn()
		c.Data("GET")
		b.run(50 * ms)
		p := b.peer()
		b.tg.send(b.Now, p.tuple, packet.Segment{Flags: packet.RST, Seq: p.sndNxt})
		delete(b.tg.conns, p.tuple)
		b.run(50 * ms)
		b.Sessions(1, ledger.TargetReset, 1)
		b.Bytes(3, ledger.None, 3)
	})
}

// TestRawPathTrouble: the links to the intercepts, and the path to the target.
func TestRawPathTrouble(t *testing.T) {
	t.Run("no intercept", func(t *testing.T) {
		b := newRawBed(t)
		c := b.conn("192.0.2.1:40000").Syn()
		c.Data("GET")
		b.run(50 * ms)
		b.table.SetLink(false, 0)
		d := b.conn("192.0.2.1:40001").Syn()
		d.Data("GET")
		b.run(50 * ms)
		b.Sessions(2, ledger.LinkDown, 1)
		b.Bytes(6, ledger.LinkDown, 3)
		c.Data(" on") // what is open goes on
		b.run(50 * ms)
		if string(b.peer().text) != "GET on" {
			t.Errorf("the target has %q", b.peer().text)
		}
		b.table.SetLink(true, b.tg.slot)
		d.Answers(5)
		b.run(sec)
		d.Data("again")
		b.run(sec)
		if len(b.tg.conns) != 2 {
			t.Errorf("the target has %d connections, wanted 2", len(b.tg.conns))
		}
	})
	t.Run("a path that got narrower", func(t *testing.T) {
		b := newRawBed(t)
		c := b.conn("192.0.2.1:40000").Syn()
		b.run(50 * ms)
		b.table.SetPathMTU(b.peer().tuple, 1000)
		b.table.SetPathMTU(shard.Tuple{}, 1000)
		c.Data(strings.Repeat("x", 5000))
		b.run(100 * ms)
		for _, s := range b.tg.heard {
			if s.Len > 1000 {
				t.Errorf("a segment of %d bytes", s.Len)
			}
		}
		if len(b.peer().text) != 5000 {
			t.Errorf("the target has %d bytes", len(b.peer().text))
		}
	})
}

func TestRawSources(t *testing.T) {
	const count = 4
	pool, err := mapping.ParsePool("10.9.0.1,10.9.0.2,10.9.0.3")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*config)
		addr   string // of the client
		want   string // where copies come from; "": anywhere in the pool
	}{
		{"the client's own", func(c *config) {}, "192.0.2.1", "192.0.2.1"},
		{"with a port shift", func(c *config) { c.Raw.Address.PortShift = 1000 }, "192.0.2.1",
			"192.0.2.1"},
		{"from loopback", func(c *config) {
			c.Raw.Address.LocalhostAs = netip.MustParseAddr("192.0.2.77")
		}, "127.0.0.1", "192.0.2.77"},
		{"a pool's", func(c *config) { c.Raw.Address.Clients = &pool }, "192.0.2.1", ""},
		{"a pool's, with a port shift", func(c *config) {
			c.Raw.Address.Clients = &pool
			c.Raw.Address.PortShift = -77
		}, "192.0.2.1", ""},
		{"copies", func(c *config) { c.Services[0].Copies = 3 }, "192.0.2.1", "192.0.2.1"},
		{"copies of a pool's", func(c *config) {
			c.Services[0].Copies = 3
			c.Raw.Address.Clients = &pool
			c.Raw.Address.PortShift = 5
		}, "192.0.2.1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var raw Config
			copies := 1
			for index := range count {
				b := newRawBed(t, c.change,
					func(cfg *config) {
						cfg.Raw.Address.Index, cfg.Raw.Address.Count = index, count
					})
				raw, copies = b.table.cfg, int(b.services[0].Copies)
				n := 0
				for port := 2000; n < 100; port++ {
					if shard.Of(uint16(port), count) == index {
						b.conn(fmt.Sprintf("%s:%d", c.addr, port)).Syn()
						n++
					}
				}
				b.run(50 * ms)
				if len(b.tg.conns) != 100*copies {
					t.Errorf("shard %d: %d connections from 100 clients, wanted %d", index,
						len(b.tg.conns), 100*copies)
				}
				for tuple := range b.tg.conns {
					from := tuple.Client()
					if got := shard.Of(raw.Address.ClientPort(from.Port()), count); got != index {
						t.Errorf("what comes back to %v is shard %d's, wanted %d", from, got, index)
					}
					if c.want != "" && from.Addr().String() != c.want ||
						c.want == "" && from.Addr().As4()[0] != 10 {
						t.Errorf("a copy comes from %v", from)
					}
				}
				if len(b.table.Tuples()) != len(b.tg.conns) {
					t.Errorf("%d tuples, wanted %d", len(b.table.Tuples()), len(b.tg.conns))
				}
			}
		})
	}
	t.Run("none left", func(t *testing.T) {
		one, _ := mapping.ParsePool("2001:db8::5")
		b := newRawBed(t, func(c *config) { c.Raw.Address.Clients = &one })
		b.conn("192.0.2.1:40000").Syn().Data("GET")
		b.run(50 * ms)
		b.Sessions(1, ledger.NoSourceAddress, 1)
	})
}

func TestRawSYNOptions(t *testing.T) {
	client := packet.Options{MSS: 1200, SACKPermitted: true, HasWScale: true, WScale: 9}
	for _, c := range []struct {
		name string
		syn  SYN
		in   packet.Options
		want packet.Options
	}{
		{"the client's", SYNClient, client, client},
		{"the client's, larger than the path", SYNClient, packet.Options{MSS: 9000},
			packet.Options{MSS: 1400}},
		{"full", SYNFull, client, packet.Options{MSS: 1400, SACKPermitted: true, HasWScale: true,
			WScale: 7, HasTS: true}},
		{"minimal", SYNMinimal, client, packet.Options{MSS: 1400}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newRawBed(t, func(cfg *config) { cfg.Raw.SYN = c.syn })
			n := b.conn("192.0.2.1:40000")
			n.Send(packet.Segment{Seq: n.Isn, Flags: packet.SYN, Opts: c.in})
			n.Seg(0, "")
			b.run(10 * ms)
			got := b.syns()[0].Opts
			got.TSVal = 0
			if got != c.want {
				t.Errorf("offers %+v, wanted %+v", got, c.want)
			}
		})
	}
}

// The same traffic as over sockets, over TCP of our own; also when packets are lost both ways.
func TestRawCopyProperty(t *testing.T) {
	for _, seed := range rig.Seeds(25) {
		for _, loss := range []float64{0, 0.02} {
			t.Run(fmt.Sprintf("seed=%d,loss=%v", seed, loss), func(t *testing.T) {
				var a rig.Agenda
				var in *rig.Input
				tr := rig.NewTraffic(seed, 40, 10*sec)
				app := rig.NewTargetApp(tr, t.Errorf, a.Plan)
				app.Patient = loss > 0
				tg := newRawTarget(&a, &in, seed, t.Errorf)
				tg.loss, tg.app = loss, app
				table := New(rawConfig())
				p := &port{Table: table}
				sh := shard.New(shard.Config{
					Services: []*shard.Service{rig.ServiceFor(rig.Target)}, Streams: p,
					MaxSessions: 1000, MaxMemory: 64 << 20,
				})
				table.SetLink(true, tg.slot)
				rig.CopyAll(t, sh, p, tr, &a, &in, func(now mono.Time) {
					tg.take(now, table.Output())
					tg.word(now, table.Seeks())
				})
				app.Check()
				if len(table.streams) != 0 {
					t.Errorf("%d streams are left", len(table.streams))
				}
			})
		}
	}
}

// What the target said while the shard had no CPU comes when the clock still stands where it
// stood: it is taken in, but no round trip is measured by it.
func TestLateFeedbackMeasuresNothing(t *testing.T) {
	l := newLoad(1)
	var st *Stream
	for _, st = range tableOf(l).streams {
	}
	c := &l.Clients[0]
	exchange := func(stalled bool) tcp.Status {
		for range 3 { // a round trip is measured once for each window
			l.Now += 25 * ms
			l.Request(c)
			l.In.Stalled = stalled
			answer(l, c)
			l.In.Stalled = false
		}
		return st.conn.Status()
	}
	l.Now += 25 * ms
	before := exchange(false)
	after := exchange(true)
	if after.Acked == before.Acked || after.SRTT != before.SRTT {
		t.Errorf(
			"late answers made of a round trip of %v, with %d bytes acknowledged, %v, with %d",
			before.SRTT, before.Acked, after.SRTT, after.Acked)
	}
	l.Now += 25 * ms
	l.Request(c)
	l.Now += 5 * ms
	answer(l, c)
	if srtt := st.conn.Status().SRTT; srtt == after.SRTT {
		t.Errorf("an answer after 5 ms left the round trip at %v", srtt)
	}
}

// TestReleases: the intercepts are told of connections that are over, many at once or after a
// while, but not of those that were given up, which the target may still have, nor of tuples that
// are in use again.
func TestReleases(t *testing.T) {
	b := newRawBed(t)
	c := b.conn("192.0.2.1:40000").Syn()
	c.Data("GET")
	b.run(100 * ms)
	b.peer().say(b.Now, 100)
	b.run(sec)
	c.Fin()
	b.run(100 * ms)
	if got := b.table.Releases(); len(got) != 0 {
		t.Errorf("released %v at once", got)
	}
	b.run(2 * sec)
	if got := b.table.Releases(); len(got) != 1 ||
		got[0].Client() != netip.MustParseAddrPort("192.0.2.1:40000") {
		t.Errorf("released %v after a while, wanted the one that has ended", got)
	}
	if got := b.table.Releases(); len(got) != 0 {
		t.Errorf("released %v twice", got)
	}

	b.tg.silent = true
	b.conn("192.0.2.2:40000").Syn().Data("GET")
	b.run(15 * sec)
	if got := b.table.Releases(); len(got) != 0 {
		t.Errorf("released %v, which the target may still have", got)
	}
}

// A tuple that another copier has is given up at once, without a word to the target.
func TestRawTupleOfAnotherCopier(t *testing.T) {
	b := newRawBed(t)
	b.conn("192.0.2.1:40000").Syn()
	b.Step()
	if n := len(b.table.Output()); n != 1 {
		t.Fatalf("%d segments, wanted a SYN", n)
	}
	client := netip.MustParseAddrPort("192.0.2.1:40000")
	b.table.Taken(b.Now, shard.TupleOf(client, rig.Target))
	b.Step()
	if out := b.table.Output(); len(out) != 0 {
		t.Errorf("sent %v", out)
	}
	b.table.Taken(b.Now, shard.TupleOf(client, rig.Target)) // again, for nothing
	b.Sessions(1, ledger.TupleTaken, 1)
	// One that has opened is ours.
	b.conn("192.0.2.1:40001").Syn()
	b.run(50 * ms)
	b.table.Taken(b.Now, shard.TupleOf(netip.MustParseAddrPort("192.0.2.1:40001"), rig.Target))
	b.Step()
	b.Sessions(2, ledger.TupleTaken, 1)
}
