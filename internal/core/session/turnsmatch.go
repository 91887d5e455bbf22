package session

import (
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
)

// settle takes the answers that are whole by now, and compares what can be compared.
func (t *turns) settle() {
	if t.production.over && !t.closed {
		t.closed = true
		t.endProduction(true)
	}
	for p := &t.production; ; p.done++ {
		answer, _, ok := p.next(&t.key)
		if !ok {
			break
		}
		t.all[p.done].production, t.all[p.done].isProduction = answer, true
	}
	for p := &t.target; ; p.done++ {
		answer, at, ok := p.next(&t.key)
		if !ok {
			break
		}
		x := &t.all[p.done]
		x.target, x.isTarget = answer, true
		switch {
		case answer.n > 0:
			x.failed, x.took = ledger.None, max(0, int64(at.Sub(x.at)))
		case p.over && x.failed == ledger.None:
			x.failed = ledger.TargetClosed
		}
	}
	for t.certain && t.waiting < len(t.all) && t.match() {
	}
}

// match compares the first turn that does not wait, if that is possible.
func (t *turns) match() bool {
	x := &t.all[t.waiting]
	if !x.isProduction {
		return false
	}
	if !x.due {
		x.due = true
		t.to.Due()
	}
	if !x.isTarget && t.fault != ledger.None {
		x.isTarget, x.failed, x.target = true, t.fault, part{}
		t.target.done++
	}
	switch {
	case x.lost:
		t.flush(t.waiting)
		t.exclude(t.off)
	case !x.isTarget && !t.isOff:
		return false
	case !x.isTarget:
		t.flush(t.waiting)
		t.exclude(t.off)
	case x.production.n == 0 && x.target.n == 0:
		t.flush(t.waiting)
		t.same()
	case x.failed == ledger.None && x.production == x.target:
		t.flush(t.waiting)
		t.compare(t.all[0].production, t.all[0].target, 1)
	default:
		t.misaligned()
	}
	return true
}

// misaligned compares, or has wait, a turn whose answers are not the same.
func (t *turns) misaligned() {
	t.waiting++
	n, p, c := t.waiting, part{}, part{}
	unsure := false
	for i := range t.all[:n] {
		p, c = t.join(p, t.all[i].production), t.join(c, t.all[i].target)
		unsure = unsure || t.all[i].unsure
	}
	switch {
	case p == c:
		for range n { // they were cut in different places
			t.same()
		}
	case t.all[n-1].failed != ledger.None:
		t.flush(n - 1)
		t.compare(t.all[0].production, part{}, 1)
	case unsure: // the last, which may be more than has come
		t.flush(n - 1)
		t.exclude(Unanswered)
	case p.n == c.n || n == maxMisaligned:
		t.flush(n)
	}
}

// flush compares the first n turns, one by one. Where production's answers may be cut wrongly, they
// are compared together.
func (t *turns) flush(n int) {
	p, c, clean := part{}, part{}, true
	for i := range t.all[:n] {
		x := &t.all[i]
		p, c, clean = t.join(p, x.production), t.join(c, x.target), clean && x.clean
	}
	switch {
	case clean:
		for range n {
			t.compare(t.all[0].production, t.all[0].target, 1)
		}
	case n > 0:
		t.compare(p, c, uint64(n))
		for range n - 1 {
			t.exclude(Misaligned)
		}
	}
}

func (t *turns) join(a, b part) part { return part{a.n + b.n, t.key.Join(a.sum, b.sum, b.n)} }

// same compares the first turn as one whose answers are the same.
func (t *turns) same() {
	t.all[0].failed = ledger.None
	t.compare(t.all[0].production, t.all[0].production, 1)
}

// compare passes the first turn on with these answers, which are to n turns, and removes it.
func (t *turns) compare(production, target part, n uint64) {
	x := &t.all[0]
	e := Exchange{Unit: &t.unit, Endpoint: t.endpoint, Request: x.request + n - 1, NoStatus: true,
		Production: digestOf(production), Failed: x.failed}
	if t.failed = t.failed || x.failed != ledger.None; x.failed == ledger.None {
		e.Target = digestOf(target)
		if n == 1 && target.n > 0 && x.at > 0 {
			e.At, e.Took = x.at, x.took
		}
	}
	t.remove()
	t.to.Compare(&e)
}

// exclude excludes the first turn, and removes it.
func (t *turns) exclude(why Exclusion) {
	t.remove()
	t.to.Exclude(why)
}

func (t *turns) remove() {
	t.to.Digesting().Room += turnSize
	t.all = t.all[:copy(t.all, t.all[1:])]
	t.removed = true
	t.waiting = max(0, t.waiting-1)
	t.production.done--
	if t.target.done > 0 {
		t.target.done--
	}
	t.sent--
}

// answerPath is the path of an answer as a whole.
const answerPath = "answer"

// digestOf returns the digest of an answer in a protocol that is not known.
func digestOf(p part) *proto.Digest {
	d := &proto.Digest{Sum: 1, Size: turnSize}
	if p.n > 0 {
		f := proto.Field{Path: answerPath, Length: p.n}
		f.Add(p.sum, proto.Opaque)
		d.Sum, d.Fields = p.sum+p.n<<1|1, []proto.Field{f}
	}
	return d
}
