package pktscript

import (
	"strings"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
)

// path is a way to a target that takes all and acknowledges each segment when it arrives: a
// bottleneck with a queue without end, and the same delay both ways.
type path struct {
	rate int // bytes of payload a second
	rtt  time.Duration
	lose int // so many of the next segments are lost

	free   mono.Time // when the bottleneck has sent all that it holds
	flying []flying
	next   uint64 // the byte that the target waits for, counted like sequence numbers
	ahead  []packet.SACKBlock

	markAt mono.Time // since when, and since how many acknowledged bytes, a rate is counted
	marked uint64
}

// flying is a segment, and when its acknowledgment is back.
type flying struct {
	first, end uint64
	at         mono.Time
}

func seqOf(pos uint64) seqnum.Value { return seqnum.Value(uint32(pos)) }

// setPath lays a path, changes it, or takes it away.
func (r *runner) setPath(args string) {
	if args == "off" {
		r.path = nil
		return
	}
	if r.path == nil {
		r.path = &path{next: r.conn.Status().Acked}
	}
	f := strings.Fields(args)
	for i := 0; i+1 < len(f); i += 2 {
		switch f[i] {
		case "rate":
			r.path.rate = r.number(f[i+1])
		case "rtt":
			r.path.rtt = r.duration(f[i+1])
		case "lose":
			r.path.lose = r.number(f[i+1])
		default:
			r.failf("path: unknown key %q", f[i])
		}
	}
	if len(f)%2 != 0 || r.path.rate <= 0 {
		r.failf("want a path like \"rate 1000000 rtt 20ms\", not %q", args)
	}
	r.mark()
}

func (r *runner) mark() { r.path.markAt, r.path.marked = r.now, r.conn.Status().Acked }

// measured is the rate since the path was laid or changed, or was measured last, in bytes a second.
func (r *runner) measured() int {
	if r.path == nil || r.now <= r.path.markAt {
		r.failf("there is no rate without a path, and time")
	}
	d := r.now.Sub(r.path.markAt)
	n := int64(r.conn.Status().Acked-r.path.marked) * int64(time.Second) / int64(d)
	r.mark()
	return int(n)
}

// add carries what the connection sends.
func (p *path) add(at mono.Time, first uint64, n int) {
	if n == 0 {
		return
	}
	p.free = max(p.free, at).Add(time.Duration(n) * time.Second / time.Duration(p.rate))
	if p.lose > 0 {
		p.lose--
		return
	}
	p.flying = append(p.flying, flying{first, first + uint64(n), p.free.Add(p.rtt)})
}

// due is when the next acknowledgment comes.
func (p *path) due() mono.Time {
	if p == nil || len(p.flying) == 0 {
		return mono.Never
	}
	return p.flying[0].at
}

// arrive has the target's acknowledgment of the first segment on the path come.
func (r *runner) arrive() {
	p := r.path
	s := p.flying[0]
	p.flying = p.flying[1:]
	switch {
	case s.first <= p.next:
		p.next = max(p.next, s.end)
		for len(p.ahead) > 0 && uint64(p.ahead[0].First) <= p.next {
			p.next = max(p.next, uint64(p.ahead[0].End))
			p.ahead = p.ahead[1:]
		}
	default: // one hole at a time is all that the scripts make
		if n := len(p.ahead); n > 0 && uint64(p.ahead[n-1].End) == s.first {
			p.ahead[n-1].End = seqOf(s.end)
		} else {
			p.ahead = append(p.ahead, packet.SACKBlock{First: seqOf(s.first), End: seqOf(s.end)})
		}
	}
	ack := r.parse(". 1:1(0) ack 1")
	ack.Ack = r.cfg.ISN + 1 + seqOf(p.next)
	for _, b := range p.ahead[:min(len(p.ahead), 3)] {
		ack.Opts.SACK[ack.Opts.NSACK] = packet.SACKBlock{First: r.cfg.ISN + 1 + b.First,
			End: r.cfg.ISN + 1 + b.End}
		ack.Opts.NSACK++
	}
	r.tr.Add(s.at, &ack)
	r.conn.Deliver(s.at, &ack)
	r.poll(s.at)
}
