package shard

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
	"tcpcopy/internal/way/raw/tcp"
)

// rawBed is a bed whose copies go the raw way, to a rawTarget.
type rawBed struct {
	*bed
	agenda agenda
	to     *Input
	tg     *rawTarget
}

func rawConfig(c *Config) {
	c.Opener = nil
	c.Raw = Raw{ISNAtZero: 1 << 20, TSAtZero: 5000, MaxSegment: func(netip.Addr) int { return 1400 }, ConnectTimeout: 10 * time.Second,
		UserTimeout: 20 * time.Second}
}

func newRawBed(t *testing.T, change ...func(*Config)) *rawBed {
	b := &rawBed{bed: newBed(t, append([]func(*Config){rawConfig}, change...)...)}
	b.to = &b.in
	b.tg = newRawTarget(&b.agenda, &b.to, 1, t.Errorf)
	b.tg.keep = true
	b.sh.SetLink(true, b.tg.slot)
	return b
}

// run steps until d has passed, with the target at work.
func (b *rawBed) run(d mono.Time) {
	b.Helper()
	end := b.now + d
	for i := 0; ; i++ {
		b.agenda.run(b.now)
		b.step()
		b.tg.take(b.now, b.sh.Output())
		b.tg.word(b.now, b.sh.Seeks())
		next := min(b.due, b.agenda.next())
		if next > end {
			break
		}
		if i > 1<<20 {
			b.Fatal("no end of it")
		}
		b.now = next
	}
	b.now = end
}

// queue has a connection's packets wait for the next run.
func (b *rawBed) conn(addr string) *conn {
	c := b.bed.conn(addr)
	c.hold = true
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
		b.Fatalf("at %v: the target has %d connections, wanted 1", b.now, len(b.tg.conns))
	}
	for _, p := range b.tg.conns {
		return p
	}
	return nil
}

func TestRawLife(t *testing.T) {
	b := newRawBed(t)
	c := b.conn("192.0.2.1:40000").syn()
	c.data("GET 1")
	b.run(50 * ms)
	p := b.peer()
	if string(p.text) != "GET 1" || p.tuple.Client() != c.addr || p.tuple.Server() != target {
		t.Fatalf("the target has %q from %v", p.text, p.tuple.Client())
	}
	if s := b.syns(); len(s) != 1 || s[0].Opts.MSS != 1400 || !s[0].Opts.SACKPermitted || s[0].Opts.HasWScale {
		t.Errorf("the SYN offers %+v, wanted what the client's did, within the path", s[0].Opts)
	}
	c.answers(100)
	c.data("GET 2")
	b.run(50 * ms)
	if string(p.text) != "GET 1" {
		t.Errorf("the target has %q before it has answered", p.text)
	}
	p.say(b.now, 100)
	b.run(sec)
	if string(p.text) != "GET 1GET 2" {
		t.Errorf("the target has %q", p.text)
	}
	c.fin()
	b.run(sec)
	if len(b.tg.conns) != 0 {
		t.Errorf("the target has %d connections left", len(b.tg.conns))
	}
	b.live(0)
	b.sessions(1, ledger.None, 1)
	b.bytes(10, ledger.None, 10)
	cs := b.sh.Snapshot()
	if cs.SegmentsOut != uint64(len(b.tg.heard)) || cs.SegmentsIn == 0 || cs.ForeignAnswers != 0 || cs.Retransmits != 0 {
		t.Errorf("%d segments out, %d in, %d foreign, %d again; the target has seen %d", cs.SegmentsOut, cs.SegmentsIn,
			cs.ForeignAnswers, cs.Retransmits, len(b.tg.heard))
	}
}

func TestRawIPv6(t *testing.T) {
	to := netip.MustParseAddrPort("[2001:db8::9]:8080")
	b := newRawBed(t, func(c *Config) { c.Services = []*Service{serviceFor(to)} })
	b.conn("[2001:db8:1::1]:40000").syn().data("GET")
	b.run(50 * ms)
	if string(b.peer().text) != "GET" {
		t.Errorf("the target has %q", b.peer().text)
	}
	// An IPv4 client cannot go there.
	b.conn("192.0.2.1:40000").syn().data("GET")
	b.run(50 * ms)
	b.sessions(2, ledger.NoSourceAddress, 1)
}

func TestRawSlotNamesTheCopier(t *testing.T) {
	for _, slot := range []uint8{0, 1, 255} {
		b := newRawBed(t)
		b.tg.slot = slot
		b.sh.SetLink(true, slot)
		for i := range 50 {
			b.conn(fmt.Sprintf("192.0.2.1:%d", 40000+i)).syn()
		}
		b.run(10 * ms) // the target looks at each
		if len(b.syns()) != 50 {
			t.Errorf("%d SYNs, wanted 50", len(b.syns()))
		}
	}
}

// A tuple that is used again begins above all that it has used, also when the clock of sequence numbers is
// just there.
func TestRawTupleReuse(t *testing.T) {
	b := newRawBed(t)
	var last seqnum.Value
	var lastTS uint32
	for i := range 40 {
		c := b.conn("192.0.2.1:40000")
		c.isn = c.isn.Add(i * 70000)
		c.send(packet.Segment{Seq: c.isn, Flags: packet.SYN, Opts: packet.Options{MSS: 1460, HasTS: true, TSVal: 77}})
		c.data(strings.Repeat("x", 9000*(i%4)))
		c.seg(packet.RST, "")
		b.run(mono.Time(20+i) * ms)
		s := b.syns()
		syn := s[len(s)-1]
		if len(s) != i+1 {
			t.Fatalf("round %d: %d SYNs", i, len(s))
		}
		if i > 0 && (!last.Less(syn.Seq) || int32(syn.Opts.TSVal-lastTS) <= 0) {
			t.Fatalf("round %d: begins at %d and %d, the last one ended at %d and %d", i, syn.Seq, syn.Opts.TSVal, last, lastTS)
		}
		for _, h := range b.tg.heard {
			if i == 0 || last.Less(h.End()) {
				last = h.End()
			}
			if h.Opts.HasTS {
				lastTS = h.Opts.TSVal
			}
		}
		b.live(0)
	}
}

func TestISNStaysAboveWithSlot(t *testing.T) {
	b := newRawBed(t)
	b.tg.slot = 0
	b.sh.SetLink(true, 0)
	for d := seqnum.Value(0); d < 600; d += 7 {
		st := &rawStream{side: &b.sh.raw, tuple: TupleOf(netip.MustParseAddrPort("192.0.2.1:1"), target)}
		begin := func() {
			st.cfg = new(tcp.Config)
			b.sh.raw.configure(st.cfg, st.tuple.Client(), &session.OpenSpec{Target: target})
			st.begin(b.now)
		}
		b.sh.raw.past = pastTuples{}
		b.sh.raw.past.init()
		begin()
		next := st.isn - 300 + d // the tuple's last is near the clock
		b.sh.raw.past.put(st.tuple, past{next: next})
		begin()
		if !next.Less(st.isn) {
			t.Fatalf("the last ended at %d, the next begins at %d", next, st.isn)
		}
		delete(b.sh.raw.streams, st.tuple)
	}
}

func TestRawTakeover(t *testing.T) {
	t.Run("the old one ends in order", func(t *testing.T) {
		b := newRawBed(t)
		c := b.conn("192.0.2.1:40000").syn()
		c.data("old")
		b.run(50 * ms)
		n := b.conn("192.0.2.1:40000")
		n.isn = 900000
		n.syn()
		n.data("new")
		b.run(100 * ms)
		if string(b.peer().text) != "new" {
			t.Errorf("the target has %q", b.peer().text)
		}
		b.sessions(2, ledger.None, 1)
		b.bytes(6, ledger.None, 6)
	})
	t.Run("the old one still waits for an answer", func(t *testing.T) {
		b := newRawBed(t)
		c := b.conn("192.0.2.1:40000").syn()
		c.data("one")
		c.answers(10)
		c.data("two")
		b.run(50 * ms)
		old := b.peer()
		n := b.conn("192.0.2.1:40000")
		n.isn = 900000
		n.syn()
		n.data("new")
		b.run(mono.Time(takeover) - 100*ms)
		if b.peer() != old {
			t.Fatal("the new one did not wait")
		}
		b.run(200 * ms)
		if string(b.peer().text) != "new" {
			t.Errorf("the target has %q", b.peer().text)
		}
		b.sessions(2, ledger.Replaced, 1)
		b.bytes(9, ledger.Replaced, 3)
	})
	t.Run("given up while it waits", func(t *testing.T) {
		b := newRawBed(t)
		c := b.conn("192.0.2.1:40000").syn()
		c.data("one")
		c.answers(10)
		c.data("two")
		b.run(50 * ms)
		for i := range 3 {
			n := b.conn("192.0.2.1:40000")
			n.isn = seqnum.Value(900000 + i*1000000)
			n.syn()
			n.data("new")
			b.run(100 * ms)
		}
		b.run(mono.Time(takeover) + 5*sec)
		b.live(1)
		if string(b.peer().text) != "new" {
			t.Errorf("the target has %q", b.peer().text)
		}
		b.sessions(4, ledger.None, 2)
		b.sessions(4, ledger.Replaced, 1)
		b.bytes(15, ledger.None, 12) // all but the second turn of the first
	})
	t.Run("the one in the middle goes first", func(t *testing.T) {
		b := newRawBed(t)
		c := b.conn("192.0.2.1:40000").syn()
		c.data("one")
		c.answers(10)
		c.data("two")
		b.run(50 * ms)
		for i := range 2 {
			n := b.conn("192.0.2.1:40000")
			n.isn = seqnum.Value(900000 + i*1000000)
			n.syn()
			n.data(fmt.Sprint("new", i))
			b.run(10 * ms)
		}
		for _, st := range b.sh.raw.streams {
			e := st.heir.e
			e.End(b.now, ledger.Shutdown)
			b.sh.touch(e)
		}
		b.run(10 * ms)
		b.peer().say(b.now, 10) // and so the first one ends in order
		b.run(100 * ms)
		if string(b.peer().text) != "new1" {
			t.Errorf("the target has %q", b.peer().text)
		}
		b.live(1)
		b.sessions(3, ledger.None, 1)
	})
}

func TestRawOldConnectionAtTheTarget(t *testing.T) {
	old := func(b *rawBed) *peer {
		tuple := TupleOf(netip.MustParseAddrPort("192.0.2.1:40000"), target)
		p := &peer{t: b.tg, tuple: tuple, open: true, rcvNxt: 555, sndUna: 777, sndNxt: 777, end: 777}
		b.tg.conns[tuple] = p
		return p
	}
	t.Run("nobody's", func(t *testing.T) {
		b := newRawBed(t)
		p := old(b)
		b.conn("192.0.2.1:40000").syn().data("GET")
		b.run(20 * ms)
		q := b.sh.Queries()
		if len(q) != 1 || q[0] != p.tuple {
			t.Fatalf("asked about %v, wanted %v", q, p.tuple)
		}
		if b.peer() != p {
			t.Fatal("reset before anybody said that it is nobody's")
		}
		if len(b.sh.Queries()) != 0 {
			t.Error("asked twice")
		}
		b.in.Freed = q
		b.run(100 * ms)
		if string(b.peer().text) != "GET" || b.tg.resets != 1 {
			t.Errorf("the target has %q, after %d resets", b.peer().text, b.tg.resets)
		}
	})
	t.Run("another copier's", func(t *testing.T) {
		b := newRawBed(t)
		p := old(b)
		b.conn("192.0.2.1:40000").syn().data("GET")
		b.run(11 * sec)
		if b.peer() != p || b.tg.resets != 0 {
			t.Error("another copier's connection was reset")
		}
		b.sessions(1, ledger.ConnectTimeout, 1)
		b.bytes(3, ledger.ConnectTimeout, 3)
	})
	t.Run("asked about again each second", func(t *testing.T) {
		b := newRawBed(t)
		p := old(b)
		b.conn("192.0.2.1:40000").syn().data("GET")
		b.run(20 * ms)
		if n := len(b.sh.Queries()); n != 1 {
			t.Fatalf("asked %d times, wanted once", n)
		}
		for range 5 { // the answer to the question was lost, or forbade, or was not sure
			b.run(sec)
			if n := len(b.sh.Queries()); n != 1 {
				t.Errorf("asked %d times in a second, wanted once", n)
			}
		}
		b.in.Freed = []Tuple{p.tuple}
		b.run(3 * sec)
		if n := len(b.sh.Queries()); n != 0 || string(b.peer().text) != "GET" {
			t.Errorf("asked %d times when it is over, and the target has %q", n, b.peer().text)
		}
	})
	t.Run("of a connection found under way: sought before the first SYN", func(t *testing.T) {
		b := newRawBed(t)
		b.conn("192.0.2.2:40000").syn().data("GET")
		b.run(2 * sec)
		if n := len(b.tg.sought); n != 0 {
			t.Errorf("sought %d new connections that were answered", n)
		}
		b.tg.wordless = true
		c := b.conn("192.0.2.1:40000")
		c.data("GET")
		b.run(500 * ms)
		if n := len(b.tg.sought); n != 1 || b.tg.sought[0].Tuple.Client() != c.addr || b.tg.sought[0].Age != 0 {
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
		b.in.Freed = []Tuple{{}}
		b.in.Feedback = []packet.Segment{{Src: target, Dst: netip.MustParseAddrPort("192.0.2.9:1"), Flags: packet.SYN | packet.ACK, Ack: 5}}
		b.run(ms)
		if n := b.sh.Snapshot().ForeignAnswers; n != 1 || len(b.tg.heard) != 0 {
			t.Errorf("%d foreign answers, %d segments sent", n, len(b.tg.heard))
		}
	})
}

func TestRawLateAnswers(t *testing.T) {
	end := func(b *rawBed, how packet.Flags) Tuple {
		c := b.conn("192.0.2.1:40000").syn()
		c.data("GET")
		b.run(50 * ms)
		tuple := b.peer().tuple
		if how == packet.FIN {
			c.fin()
		} else {
			c.seg(how, "")
		}
		b.run(50 * ms)
		b.live(0)
		b.tg.heard = nil
		b.tg.silent = true
		return tuple
	}
	say := func(b *rawBed, tuple Tuple, flags packet.Flags, n int) []packet.Segment {
		b.in.Feedback = []packet.Segment{{Src: tuple.Server(), Dst: tuple.Client(), Seq: 900, Ack: 333, Flags: flags, Len: n}}
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
		if n := b.sh.Snapshot().ForeignAnswers; n != 0 {
			t.Errorf("%d answers are called foreign", n)
		}
	})
}

func TestRawTargetTrouble(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		b := newRawBed(t)
		b.tg.refuse = true
		c := b.conn("192.0.2.1:40000").syn()
		c.data("GET")
		b.run(50 * ms)
		b.sessions(1, ledger.TargetRefused, 1)
		b.bytes(3, ledger.TargetRefused, 3)
		// A later turn tries again, from the same address.
		b.tg.refuse = false
		c.answers(5)
		b.run(sec)
		c.data("GET 2")
		b.run(sec)
		if string(b.peer().text) != "GET 2" {
			t.Errorf("the target has %q", b.peer().text)
		}
	})
	t.Run("silent", func(t *testing.T) {
		b := newRawBed(t)
		b.tg.silent = true
		b.conn("192.0.2.1:40000").syn().data("GET")
		b.run(11 * sec)
		b.sessions(1, ledger.ConnectTimeout, 1)
		if b.sh.Snapshot().Retransmits == 0 {
			t.Error("the SYN was not repeated")
		}
		if n := len(b.syns()); len(b.tg.sought) != n-1 || n < 4 || b.tg.sought[1].Age < 3*time.Second {
			t.Errorf("of %d SYNs those that repeat one were sought %v", n, b.tg.sought)
		}
	})
	t.Run("silent after the handshake", func(t *testing.T) {
		b := newRawBed(t)
		c := b.conn("192.0.2.1:40000").syn()
		b.run(50 * ms)
		b.tg.silent = true
		c.data("GET")
		b.run(25 * sec)
		b.sessions(1, ledger.SendTimeout, 1)
		b.bytes(3, ledger.SendTimeout, 3)
	})
	t.Run("reset", func(t *testing.T) {
		b := newRawBed(t)
		c := b.conn("192.0.2.1:40000").syn()
		c.data("GET")
		b.run(50 * ms)
		p := b.peer()
		b.tg.send(b.now, p.tuple, packet.Segment{Flags: packet.RST, Seq: p.sndNxt})
		delete(b.tg.conns, p.tuple)
		b.run(50 * ms)
		b.sessions(1, ledger.TargetReset, 1)
		b.bytes(3, ledger.None, 3)
	})
	t.Run("no intercept", func(t *testing.T) {
		b := newRawBed(t)
		c := b.conn("192.0.2.1:40000").syn()
		c.data("GET")
		b.run(50 * ms)
		b.sh.SetLink(false, 0)
		d := b.conn("192.0.2.1:40001").syn()
		d.data("GET")
		b.run(50 * ms)
		b.sessions(2, ledger.LinkDown, 1)
		b.bytes(6, ledger.LinkDown, 3)
		c.data(" on") // what is open goes on
		b.run(50 * ms)
		if string(b.peer().text) != "GET on" {
			t.Errorf("the target has %q", b.peer().text)
		}
		b.sh.SetLink(true, b.tg.slot)
		d.answers(5)
		b.run(sec)
		d.data("again")
		b.run(sec)
		if len(b.tg.conns) != 2 {
			t.Errorf("the target has %d connections, wanted 2", len(b.tg.conns))
		}
	})
	t.Run("a path that got narrower", func(t *testing.T) {
		b := newRawBed(t)
		c := b.conn("192.0.2.1:40000").syn()
		b.run(50 * ms)
		b.sh.SetPathMTU(b.peer().tuple, 1000)
		b.sh.SetPathMTU(Tuple{}, 1000)
		c.data(strings.Repeat("x", 5000))
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
		change func(*Config)
		addr   string // of the client
		want   string // where copies come from; "": anywhere in the pool
	}{
		{"the client's own", func(c *Config) {}, "192.0.2.1", "192.0.2.1"},
		{"with a port shift", func(c *Config) { c.Raw.PortShift = 1000 }, "192.0.2.1", "192.0.2.1"},
		{"from loopback", func(c *Config) { c.Raw.LocalhostAs = netip.MustParseAddr("192.0.2.77") }, "127.0.0.1", "192.0.2.77"},
		{"a pool's", func(c *Config) { c.Raw.Clients = &pool }, "192.0.2.1", ""},
		{"a pool's, with a port shift", func(c *Config) { c.Raw.Clients = &pool; c.Raw.PortShift = -77 }, "192.0.2.1", ""},
		{"copies", func(c *Config) { c.Services[0].Copies = 3 }, "192.0.2.1", "192.0.2.1"},
		{"copies of a pool's", func(c *Config) { c.Services[0].Copies = 3; c.Raw.Clients = &pool; c.Raw.PortShift = 5 }, "192.0.2.1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var raw Raw
			copies := 1
			for index := range count {
				b := newRawBed(t, c.change, func(cfg *Config) { cfg.Index, cfg.Count = index, count })
				raw, copies = b.sh.cfg.Raw, int(b.sh.cfg.Services[0].Copies)
				n := 0
				for port := 2000; n < 100; port++ {
					if Of(uint16(port), count) == index {
						b.conn(fmt.Sprintf("%s:%d", c.addr, port)).syn()
						n++
					}
				}
				b.run(50 * ms)
				if len(b.tg.conns) != 100*copies {
					t.Errorf("shard %d: %d connections from 100 clients, wanted %d", index, len(b.tg.conns), 100*copies)
				}
				for tuple := range b.tg.conns {
					from := tuple.Client()
					if got := Of(raw.ReplyPort(from.Port()), count); got != index {
						t.Errorf("what comes back to %v is shard %d's, wanted %d", from, got, index)
					}
					if c.want != "" && from.Addr().String() != c.want || c.want == "" && from.Addr().As4()[0] != 10 {
						t.Errorf("a copy comes from %v", from)
					}
				}
				if len(b.sh.Tuples()) != len(b.tg.conns) {
					t.Errorf("%d tuples, wanted %d", len(b.sh.Tuples()), len(b.tg.conns))
				}
			}
		})
	}
	t.Run("none left", func(t *testing.T) {
		one, _ := mapping.ParsePool("2001:db8::5")
		b := newRawBed(t, func(c *Config) { c.Raw.Clients = &one })
		b.conn("192.0.2.1:40000").syn().data("GET")
		b.run(50 * ms)
		b.sessions(1, ledger.NoSourceAddress, 1)
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
		{"the client's, larger than the path", SYNClient, packet.Options{MSS: 9000}, packet.Options{MSS: 1400}},
		{"full", SYNFull, client, packet.Options{MSS: 1400, SACKPermitted: true, HasWScale: true, WScale: 7, HasTS: true}},
		{"minimal", SYNMinimal, client, packet.Options{MSS: 1400}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newRawBed(t, func(cfg *Config) { cfg.Raw.SYN = c.syn })
			n := b.conn("192.0.2.1:40000")
			n.send(packet.Segment{Seq: n.isn, Flags: packet.SYN, Opts: c.in})
			b.run(10 * ms)
			got := b.syns()[0].Opts
			got.TSVal = 0
			if got != c.want {
				t.Errorf("offers %+v, wanted %+v", got, c.want)
			}
		})
	}
}

func TestPastForgets(t *testing.T) {
	var p pastTuples
	p.init()
	tuple := func(i int) Tuple { return Tuple{clientPort: uint16(i), serverPort: uint16(i >> 16)} }
	for i := range 3 * maxPast {
		p.put(tuple(i), past{ts: uint32(i)})
		p.put(tuple(i), past{ts: uint32(i) + 1})
	}
	if len(p.m) != maxPast {
		t.Errorf("%d tuples are remembered, wanted %d", len(p.m), maxPast)
	}
	if v, ok := p.get(tuple(3*maxPast - 1)); !ok || v.ts != 3*maxPast {
		t.Errorf("the last one: %+v, %v", v, ok)
	}
	if _, ok := p.get(tuple(0)); ok {
		t.Error("the first one is still remembered")
	}
}

// The same traffic as over sockets, over TCP of our own; also when packets are lost both ways.
func TestRawCopyProperty(t *testing.T) {
	for _, seed := range seeds(25) {
		for _, loss := range []float64{0, 0.02} {
			t.Run(fmt.Sprintf("seed=%d,loss=%v", seed, loss), func(t *testing.T) {
				var a agenda
				var in *Input
				tr := newTraffic(seed, 40, 10*sec)
				app := newTargetApp(tr, t.Errorf, a.plan)
				app.patient = loss > 0
				tg := newRawTarget(&a, &in, seed, t.Errorf)
				tg.loss, tg.app = loss, app
				cfg := Config{Services: []*Service{serviceFor(target)}, Count: 1,
					MaxSessions: 1000, MaxMemory: 64 << 20, Start: 0}
				rawConfig(&cfg)
				sh := New(cfg)
				sh.SetLink(true, tg.slot)
				copyAll(t, sh, tr, &a, &in, func(now mono.Time) {
					tg.take(now, sh.Output())
					tg.word(now, sh.Seeks())
				})
				app.check()
				if len(sh.raw.streams) != 0 {
					t.Errorf("%d streams are left", len(sh.raw.streams))
				}
			})
		}
	}
}

// What the target said while the shard had no CPU comes when the clock still stands where it stood: it is heard, but
// no round trip is measured by it.
func TestLateFeedbackMeasuresNothing(t *testing.T) {
	l := newLoad(true, 1)
	var st *rawStream
	for _, st = range l.sh.raw.streams {
	}
	c := &l.clients[0]
	exchange := func(late bool) tcp.Status {
		for range 3 { // a round trip is measured once for each window
			l.now += 25 * ms
			l.request(c)
			l.in.Late = late
			l.answer(c)
			l.in.Late = false
		}
		return st.conn.Status()
	}
	l.now += 25 * ms
	before := exchange(false)
	after := exchange(true)
	if after.Acked == before.Acked || after.SRTT != before.SRTT {
		t.Errorf("late answers made of a round trip of %v, with %d bytes acknowledged, %v, with %d", before.SRTT, before.Acked, after.SRTT, after.Acked)
	}
	l.now += 25 * ms
	l.request(c)
	l.now += 5 * ms
	l.answer(c)
	if srtt := st.conn.Status().SRTT; srtt == after.SRTT {
		t.Errorf("an answer after 5 ms left the round trip at %v", srtt)
	}
}

// TestReleases: the intercepts hear of connections that are over, many at once or after a while, but not of those
// that were given up, which the target may still have, nor of tuples that are in use again.
func TestReleases(t *testing.T) {
	b := newRawBed(t)
	c := b.conn("192.0.2.1:40000").syn()
	c.data("GET")
	b.run(100 * ms)
	b.peer().say(b.now, 100)
	b.run(sec)
	c.fin()
	b.run(100 * ms)
	if got := b.sh.Releases(); len(got) != 0 {
		t.Errorf("released %v at once", got)
	}
	b.run(2 * sec)
	if got := b.sh.Releases(); len(got) != 1 || got[0].Client() != netip.MustParseAddrPort("192.0.2.1:40000") {
		t.Errorf("released %v after a while, wanted the one that has ended", got)
	}
	if got := b.sh.Releases(); len(got) != 0 {
		t.Errorf("released %v twice", got)
	}

	b.tg.silent = true
	b.conn("192.0.2.2:40000").syn().data("GET")
	b.run(15 * sec)
	if got := b.sh.Releases(); len(got) != 0 {
		t.Errorf("released %v, which the target may still have", got)
	}
}

// A tuple that another copier has is given up at once, without a word to the target.
func TestRawTupleOfAnotherCopier(t *testing.T) {
	b := newRawBed(t)
	b.conn("192.0.2.1:40000").syn()
	b.step()
	if len(b.sh.Output()) != 1 {
		t.Fatalf("%d segments, wanted a SYN", len(b.sh.Output()))
	}
	client := netip.MustParseAddrPort("192.0.2.1:40000")
	b.sh.Taken(TupleOf(client, target))
	b.step()
	if out := b.sh.Output(); len(out) != 0 {
		t.Errorf("sent %v", out)
	}
	b.sh.Taken(TupleOf(client, target)) // again, for nothing
	b.sessions(1, ledger.TupleTaken, 1)
	// One that has opened is ours.
	b.conn("192.0.2.1:40001").syn()
	b.run(50 * ms)
	b.sh.Taken(TupleOf(netip.MustParseAddrPort("192.0.2.1:40001"), target))
	b.step()
	b.sessions(2, ledger.TupleTaken, 1)
}
