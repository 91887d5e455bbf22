package stream

import (
	"math/rand"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
)

// rawTarget is a target's host behind the raw way: a TCP that sends without regard to windows, and
// repeats what is not acknowledged after 200 ms.
type rawTarget struct {
	agenda *rig.Agenda
	in     **rig.Input // where reports go
	rng    *rand.Rand
	loss   float64 // of packets, each way
	app    *rig.TargetApp
	conns  map[shard.Tuple]*peer
	slot   uint8 // of the copier; 0: there are several
	errorf func(string, ...any)

	refuse   bool             // answers each SYN with a RST
	silent   bool             // answers nothing
	heard    []packet.Segment // all that came, if keep is set
	keep     bool
	resets   int // RSTs that freed a connection
	sought   []Seek
	wordless bool // no intercept answers Seeks
	answer   int  // bytes that each segment is answered with, without an app
	got      map[shard.Tuple]string
	accepted int
}

// peer is one connection at the target.
type peer struct {
	t                   *rawTarget
	tuple               shard.Tuple
	rcvNxt              seqnum.Value
	sndUna, sndNxt, end seqnum.Value // end: of what is to be sent
	copy                *rig.CopyOf
	text                []byte
	early               []*packet.Segment // behind a hole
	open, fin, finSent  bool              // fin: the client has closed
	finAt               seqnum.Value
	timer               bool
}

func newRawTarget(a *rig.Agenda, in **rig.Input, seed int64,
	errorf func(string, ...any)) *rawTarget {
	return &rawTarget{agenda: a, in: in, rng: rand.New(rand.NewSource(seed)),
		conns: map[shard.Tuple]*peer{}, got: map[shard.Tuple]string{}, slot: 7, errorf: errorf}
}

// take carries what the shard wants sent to the target.
func (t *rawTarget) take(now mono.Time, out []packet.Segment) {
	for _, seg := range out {
		seg.Payload = append([]byte(nil), seg.Payload...)
		if len(seg.Payload) != seg.Len {
			t.errorf("at %v: %d bytes in a segment of %d", now, len(seg.Payload), seg.Len)
		}
		if t.keep {
			t.heard = append(t.heard, seg)
		}
		if t.loss > 0 && t.rng.Float64() < t.loss {
			continue
		}
		t.agenda.Plan(now+ms, func(now mono.Time) { t.deliver(now, &seg) })
	}
}

// word answers Seeks, as an intercept does that knows of no other copier.
func (t *rawTarget) word(now mono.Time, seeks []Seek) {
	t.sought = append(t.sought, seeks...)
	for _, s := range seeks {
		if !t.wordless {
			t.agenda.Plan(now+ms, func(mono.Time) { (*t.in).Free = append((*t.in).Free, s.Tuple) })
		}
	}
}

// send reports a segment of the target's.
func (t *rawTarget) send(now mono.Time, tuple shard.Tuple, seg packet.Segment) {
	seg.Src, seg.Dst, seg.Window = tuple.Server(), tuple.Client(), 60000
	if t.loss > 0 && t.rng.Float64() < t.loss {
		return
	}
	t.agenda.Plan(now+ms, func(mono.Time) { (*t.in).Feedback = append((*t.in).Feedback, seg) })
}

func (t *rawTarget) deliver(now mono.Time, seg *packet.Segment) {
	if t.silent {
		return
	}
	tuple := shard.TupleOf(seg.Src, seg.Dst)
	p := t.conns[tuple]
	switch {
	case seg.Flags.Has(packet.SYN) && t.refuse:
		t.send(now, tuple, packet.Segment{Flags: packet.RST | packet.ACK, Ack: seg.Seq + 1})
	case seg.Flags.Has(packet.SYN) && p == nil:
		if uint8(seg.Seq) != t.slot && t.slot != 0 {
			t.errorf("at %v: the initial sequence number %#x does not name slot %d", now, seg.Seq,
				t.slot)
		}
		p = &peer{t: t, tuple: tuple, rcvNxt: seg.Seq + 1, sndUna: seqnum.Value(t.rng.Uint32())}
		p.sndNxt, p.end = p.sndUna+1, p.sndUna+1
		t.conns[tuple] = p
		p.synAck(now)
	case p == nil:
		if !seg.Flags.Any(packet.RST) {
			t.send(now, tuple, packet.Segment{Flags: packet.RST, Seq: seg.Ack})
		}
	case seg.Flags.Has(packet.SYN) && seg.Seq+1 == p.rcvNxt && !p.open:
		p.synAck(now)
	case seg.Flags.Any(packet.SYN|packet.RST) && !p.open && seg.Seq.InWindow(p.rcvNxt, 65535):
		// As Linux does, tcp_check_req: what is not open yet ends.
		if seg.Flags.Any(packet.RST) {
			t.resets++
		} else {
			t.send(now, tuple, packet.Segment{Flags: packet.RST | packet.ACK, Ack: seg.Seq + 1})
		}
		delete(t.conns, tuple)
	case seg.Flags.Any(packet.SYN):
		p.ack(now) // RFC 5961 §4.2
	case seg.Flags.Any(packet.RST):
		if seg.Seq == p.rcvNxt {
			t.resets++
			delete(t.conns, tuple)
		} else if seg.Seq.InWindow(p.rcvNxt, 1<<20) {
			p.ack(now)
		}
	default:
		p.deliver(now, seg)
	}
}

func (p *peer) synAck(now mono.Time) {
	p.t.send(now, p.tuple, packet.Segment{Flags: packet.SYN | packet.ACK, Seq: p.sndUna,
		Ack:  p.rcvNxt,
		Opts: packet.Options{MSS: 1400}})
	p.watch(now)
}

func (p *peer) ack(now mono.Time) {
	p.t.send(now, p.tuple, packet.Segment{Flags: packet.ACK, Seq: p.sndNxt, Ack: p.rcvNxt})
}

// watch repeats what is not acknowledged.
func (p *peer) watch(now mono.Time) {
	if p.timer {
		return
	}
	p.timer = true
	p.t.agenda.Plan(now+200*ms, func(now mono.Time) {
		p.timer = false
		switch {
		case p.t.conns[p.tuple] != p || p.sndUna == p.sndNxt:
		case !p.open:
			p.synAck(now)
		default:
			p.sndNxt, p.finSent = p.sndUna, false
			p.flush(now)
		}
	})
}

func (p *peer) deliver(now mono.Time, seg *packet.Segment) {
	if p.sndUna.Less(seg.Ack) && seg.Ack.LessEq(p.end+1) {
		p.sndUna = seg.Ack
		p.sndNxt = seqnum.Max(p.sndNxt, p.sndUna)
		if !p.open {
			p.open = true
			p.t.accepted++
			if p.t.app != nil {
				p.copy = p.t.app.Accept(now, p.tuple.Client(), p.say)
			}
		}
	}
	if seg.SeqLen() > 0 && p.open && len(p.early) < 1000 {
		p.early = append(p.early, seg)
	}
	for i := 0; i < len(p.early); i++ {
		if e := p.early[i]; p.receive(now, e) || e.End().LessEq(p.rcvNxt) {
			p.early = append(p.early[:i], p.early[i+1:]...)
			i = -1 // what waited may be due
		}
	}
	if seg.SeqLen() > 0 {
		p.ack(now)
	}
	if p.fin && p.finSent && p.sndUna == p.end+1 {
		delete(p.t.conns, p.tuple)
		return
	}
	p.flush(now)
}

// receive takes a segment if it is due.
func (p *peer) receive(now mono.Time, seg *packet.Segment) bool {
	skip := p.rcvNxt.Sub(seg.Seq)
	if skip < 0 || skip >= seg.SeqLen() {
		return false
	}
	b := seg.Payload[min(skip, seg.Len):]
	p.rcvNxt = p.rcvNxt.Add(len(b))
	p.text = append(p.text, b...)
	p.t.got[p.tuple] += string(b)
	switch {
	case len(b) > 0 && p.copy != nil:
		p.copy.Heard(now, b, p.say)
	case len(b) > 0 && p.t.answer > 0:
		p.say(now, p.t.answer)
	}
	if seg.Flags.Any(packet.FIN) && !p.fin {
		p.fin = true
		p.rcvNxt++
		p.close(now)
	}
	return true
}

// close ends the target's direction when the last answer has gone.
func (p *peer) close(now mono.Time) {
	if p.copy != nil && p.copy.Busy > now {
		p.t.agenda.Plan(p.copy.Busy+ms, p.close)
		return
	}
	p.finAt = p.end
	p.flush(now)
}

func (p *peer) say(now mono.Time, n int) {
	p.end = p.end.Add(n)
	p.flush(now)
}

func (p *peer) flush(now mono.Time) {
	if p.t.conns[p.tuple] != p || !p.open {
		return
	}
	for p.sndNxt.Less(p.end) {
		n := min(p.end.Sub(p.sndNxt), 1000)
		p.t.send(now, p.tuple, packet.Segment{Flags: packet.ACK, Seq: p.sndNxt, Ack: p.rcvNxt,
			Len: n})
		p.sndNxt = p.sndNxt.Add(n)
	}
	if p.fin && p.finAt == p.end && p.finAt != 0 && p.sndNxt == p.end && !p.finSent {
		p.finSent = true
		p.t.send(now, p.tuple, packet.Segment{Flags: packet.ACK | packet.FIN, Seq: p.sndNxt,
			Ack: p.rcvNxt})
		p.sndNxt++
	}
	if p.sndUna != p.sndNxt {
		p.watch(now)
	}
}
