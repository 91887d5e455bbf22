package tcp

import (
	"encoding/binary"
	"math/rand"
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
)

// checkInvariants checks that the sums in a Conn agree with its segments, and other invariants.
func checkInvariants(t *testing.T, c *Conn) {
	t.Helper()
	var sacked, lost, nsacked uint32
	pos := c.una
	for i := 0; i < c.flight.len(); i++ {
		r := c.flight.at(i)
		if r.end <= pos {
			t.Fatalf("segment %d in flight ends at %d, before its start %d", i, r.end, pos)
		}
		n := uint32(r.end - pos)
		pos = r.end
		if r.flags&segSacked != 0 {
			sacked += n
			nsacked++
		}
		if r.flags&segLost != 0 {
			lost += n
		}
		if r.flags&segSacked != 0 && r.flags&segLost != 0 {
			t.Fatalf("segment %d is both lost and arrived", i)
		}
	}
	if c.phase.synchronized() && pos != c.nxt {
		t.Fatalf("flight ends at %d, nxt is %d", pos, c.nxt)
	}
	if lost != c.lost {
		t.Fatalf("lost is %d, the segments say %d", c.lost, lost)
	}
	if c.sackOK && (sacked != c.sacked || nsacked != c.nsacked) {
		t.Fatalf("sacked is %d in %d segments, the segments say %d in %d", c.sacked, c.nsacked,
			sacked, nsacked)
	}
	if uint64(c.sacked)+uint64(c.lost) > c.nxt-c.una {
		t.Fatalf("sacked %d and lost %d are more than the %d in flight", c.sacked, c.lost,
			c.nxt-c.una)
	}
	if len(c.ooo) > maxSpans || c.flight.len() > 4*maxFlight {
		t.Fatalf("%d ranges, %d segments in flight", len(c.ooo), c.flight.len())
	}
	if c.una > c.nxt || c.nxt > c.released+1 {
		t.Fatalf("una %d, nxt %d, released %d", c.una, c.nxt, c.released)
	}
	for i, s := range c.ooo {
		if s.first <= c.rcvNxt || s.empty() {
			t.Fatalf("range %v at rcvNxt %d", s, c.rcvNxt)
		}
		for _, o := range c.ooo[i+1:] {
			if s.touches(o) {
				t.Fatalf("ranges %v and %v touch", s, o)
			}
		}
	}
	if c.phase.synchronized() && c.cwnd == 0 {
		t.Fatal("the congestion window is zero")
	}
}

// pollAll polls until nothing more is due, and checks the segments.
func pollAll(t *testing.T, c *Conn, now mono.Time, out []packet.Segment) ([]packet.Segment,
	mono.Time) {
	t.Helper()
	out = out[:0]
	for round := 0; ; round++ {
		var next mono.Time
		base := len(out)
		out, next = c.Poll(now, out)
		if n := len(out) - base; n > maxBurst+16 {
			t.Fatalf("one Poll returned %d segments", n)
		}
		for i := range out[base:] {
			s := &out[base+i]
			if s.Len != len(s.Payload) || s.Len > 65535 || s.Src != c.local || s.Dst != c.remote {
				t.Fatalf("segment %v with %d bytes", s, len(s.Payload))
			}
			if c.phase.synchronized() && s.Len > int(c.mss) {
				t.Fatalf("segment of %d bytes, the maximum is %d", s.Len, c.mss)
			}
			if s.Opts.NSACK > 4 || s.Opts.HasTS && s.Opts.NSACK > 3 {
				t.Fatalf("%d SACK blocks", s.Opts.NSACK)
			}
		}
		checkInvariants(t, c)
		if next > now {
			again, next2 := c.Poll(now, nil)
			if len(again) != 0 || next2 != next {
				t.Fatalf("a second Poll at %v returned %v and %v, before it was %v", now, again,
					next2, next)
			}
			return out, next
		}
		if round > 100 {
			t.Fatalf("Poll at %v does not end: wants %v", now, next)
		}
	}
}

// FuzzDeliver interprets the input as a program of calls and segments. Segments are near to what
// the connection expects, since the first check drops most others.
func FuzzDeliver(f *testing.F) {
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	for seed := range int64(8) {
		b := make([]byte, 600)
		rand.New(rand.NewSource(seed)).Read(b)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, prog []byte) { runProgram(t, prog) })
}

// TestRandomPrograms runs the fuzz target with random programs.
func TestRandomPrograms(t *testing.T) {
	for seed := range int64(3000) {
		b := make([]byte, 50+seed%1500)
		rand.New(rand.NewSource(seed)).Read(b)
		runProgram(t, b)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// program is the input of the fuzz target. After its end it reads as zeros.
type program []byte

func (p *program) next() (b byte) {
	if len(*p) > 0 {
		b, *p = (*p)[0], (*p)[1:]
	}
	return b
}

func (p *program) next16() uint16 { return uint16(p.next())<<8 | uint16(p.next()) }

// segment returns a segment that is near to what c expects.
func (p *program) segment(c *Conn, now mono.Time) packet.Segment {
	s := packet.Segment{Flags: packet.ACK, Window: p.next16()}
	s.Seq = c.rseq(c.rcvNxt)
	s.Ack = c.seq(c.una)
	mode := p.next()
	if mode&1 != 0 {
		s.Ack = s.Ack.Add(int(p.next16()))
	} else if mode&2 != 0 && c.flight.len() > 0 {
		s.Ack = c.seq(c.flight.at(int(p.next()) % c.flight.len()).end)
	}
	if mode&4 != 0 {
		s.Seq = s.Seq.Add(int(int16(p.next16())))
	}
	if mode&8 != 0 {
		s.Len = int(p.next16()) * 4
	}
	if mode&16 != 0 {
		s.Opts.HasTS = true
		s.Opts.TSVal = c.tsRecent + uint32(int8(p.next()))
		s.Opts.TSEcr = c.tsAt(now) - uint32(p.next())
	}
	if mode&32 != 0 {
		s.Opts.NSACK = p.next() % 5
		for i := range s.Opts.NSACK {
			first := c.seq(c.una).Add(int(int16(p.next16())))
			if c.flight.len() > 0 && p.next()&1 != 0 {
				first = c.seq(c.flight.start(int(p.next())%c.flight.len(), c.una))
			}
			s.Opts.SACK[i] = packet.SACKBlock{First: first, End: first.Add(int(p.next16()))}
		}
	}
	if mode&64 != 0 {
		if s.Flags = packet.Flags(p.next()); p.next() > 10 {
			s.Flags &^= packet.RST // or few programs would come far
		}
	}
	if q := *p; mode == 0xff && len(q) >= 12 {
		s.Seq = seqnum.Value(binary.LittleEndian.Uint32(q))
		s.Ack = seqnum.Value(binary.LittleEndian.Uint32(q[4:]))
		s.Len = int(int32(binary.LittleEndian.Uint32(q[8:])))
		*p = q[12:]
	}
	return s
}

func runProgram(t *testing.T, input []byte) {
	prog := program(input)
	var c Conn
	conf := prog.next()
	cfg := Config{
		Local: clientAddr, Remote: targetAddr, ISN: 0xffffff00 + seqnum.Value(prog.next()),
		Syn: packet.Options{MSS: 1460, HasWScale: conf&1 != 0, WScale: conf >> 4,
			SACKPermitted: conf&2 != 0, HasTS: conf&4 != 0},
		CongestionControl: [...]uint8{Reno, CUBIC, BBR, BBR}[conf>>3&1|conf>>5&2],
		TSBase:            0xfffff000,
	}
	src := &chunks{make([]byte, 4000), 1 + uint64(prog.next())*20}
	c.Init(&cfg, src)
	now := mono.Time(0)
	c.Open(now)
	out, wake := pollAll(t, &c, now, nil)
	opts := cfg.Syn
	if conf&0x80 == 0 {
		c.Deliver(now, &packet.Segment{Seq: 5, Ack: cfg.ISN + 1, Flags: packet.SYN | packet.ACK,
			Window: 20000, Opts: opts})
	}
	released := uint64(0)
	for len(prog) > 0 {
		op := prog.next()
		switch {
		case op < 24:
			released += uint64(prog.next16())
			c.Release(now, released)
		case op < 26:
			c.CloseWrite(now)
		case op == 26:
			if prog.next() < 10 {
				c.Abort(now)
			}
		case op < 30:
			c.SetMTU(int(prog.next16()))
		case op == 30:
			c.FreeOldConnection(now)
		case op == 31:
			c.Urgent(released)
		case op < 80:
			now = now.Add(time.Duration(prog.next()) * time.Millisecond)
		case op < 100:
			if wake != mono.Never {
				now = max(now, wake)
			}
		default:
			s := prog.segment(&c, now)
			if op&2 != 0 {
				c.DeliverLate(now, &s)
			} else {
				c.Deliver(now, &s)
			}
			checkInvariants(t, &c)
			if op&1 != 0 {
				continue // several segments before one Poll
			}
		}
		out, wake = pollAll(t, &c, now, out)
		_ = c.Status()
	}
	// A connection whose target has fallen silent ends.
	for steps := 0; wake != mono.Never; steps++ {
		now = max(now, wake)
		if out, wake = pollAll(t, &c, now, out); steps > 5000 {
			t.Fatalf("still waking at %v: %+v", now, c.Status())
		}
	}
}
