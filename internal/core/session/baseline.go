package session

import (
	"cmp"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
)

// counterpart is told what becomes of the requests of a copy: the target's side of a comparison.
type counterpart interface {
	// begin notes that a copy begins at the offset base.
	begin(base uint64)
	// goOn is begin for a copy that goes on over another connection with what waits.
	goOn()
	// step notes that the copy's reader has taken n bytes of the client.
	step(n int)
	// send notes that the copy sends the request that ends here, and that it has to be answered;
	// sendStream, that on a stream of the client.
	send(now mono.Time)
	sendStream(now mono.Time, stream uint64)
	// leaveOut notes that a request is not sent: that on a stream, or, if that is 0, the one that
	// ends here.
	leaveOut(stream uint64)
	// receive notes an answer that ended at the time at; receiveStream, one on a stream. why is the
	// fault of a target that has ended the stream without an answer.
	receive(d *proto.Digest, at mono.Time)
	receiveStream(stream uint64, a *proto.Answer, at mono.Time, why ledger.Reason)
	// abandon notes that the request on a stream was cancelled.
	abandon(stream uint64)
	// slip notes an answer that nothing had asked for.
	slip()
	// giveUp ends the comparison of the present copy.
	giveUp(why Exclusion)
	// copyEnded notes that the copy has ended for the reason r.
	copyEnded(r ledger.Reason)
	// close notes that the session is over.
	close()
}

var (
	_ counterpart = (*pairing)(nil)
	_ counterpart = (*baseline)(nil)
)

// baseline adds the answers of the old version to the pairs of the target's session. What it lacks
// excludes nothing: an answer that does not come makes a pair that is compared without it.
type baseline struct {
	pairs *pairing
	sent  []uint64 // keys of the requests that have to be answered; 0: no pair
	at    uint64   // up to where the copy's requests were noted
	off   string   // why the copy's answers are not used; empty: they are
	fault ledger.Reason
}

// copied returns what is told of the copy's requests and answers.
func (s *Session) copied() counterpart {
	if s.baseline != nil {
		return s.baseline
	}
	return s.pairs
}

// addBaseline returns what adds the answers of a further copy to the pairs; nil if there are none.
func (g *pairing) addBaseline() *baseline {
	if g == nil {
		return nil
	}
	g.hasBaseline = true
	return &baseline{pairs: g}
}

// putAside has a pair wait for the baseline alone. It returns false if there is no room.
func (g *pairing) putAside(p *pair) bool {
	if p.aside {
		return true
	}
	n := p.size()
	if !takeRoom(g.to.Aside(), n) {
		return false
	}
	g.to.Digesting().Room += n
	p.aside = true
	return true
}

// waitsForOld reports whether a pair waits for the baseline alone.
func (g *pairing) waitsForOld(p *pair) bool { return p.aside || g.oldOnly && p.targetDone }

// completeOld is complete where the baseline's answer takes the place of production's.
func (g *pairing) completeOld(i int) {
	p := g.open.at(i)
	switch {
	case !p.baselineDone:
	case p.x.Baseline == nil:
		g.exclude(i, NoBaseline)
	default:
		g.release(p)
		p.x.Production, p.x.Baseline = p.x.Baseline, nil
		g.to.Compare(&p.x)
		g.open.remove(i)
	}
}

// forgo compares without the baseline what waits for it alone.
func (g *pairing) forgo(why string) {
	for i := g.open.len() - 1; i >= 0; i-- {
		if g.waitsForOld(g.open.at(i)) {
			g.settleBaseline(i, nil, why)
		}
	}
}

// settleBaseline notes the baseline's answer to the i-th pair; nil: there is none.
func (g *pairing) settleBaseline(i int, d *proto.Digest, why string) {
	p := g.open.at(i)
	if d != nil && !takeRoom(g.to.Aside(), d.Size) {
		d, why = nil, OverBounds.String()
	}
	if p.baselineDone, p.x.Baseline = true, d; d == nil {
		p.x.NoBaseline = why
	}
	g.complete(i)
}

// settle settles the pairs for which is is true, and which have no answer: there will be none.
func (b *baseline) settle(why string, is func(p *pair) bool) {
	if b.fault != ledger.None {
		why = b.fault.String()
	}
	g := b.pairs
	for i := g.open.len() - 1; i >= 0; i-- {
		if p := g.open.at(i); !p.baselineDone && is(p) {
			g.settleBaseline(i, nil, cmp.Or(b.off, why))
		}
	}
}

func (b *baseline) begin(base uint64) {
	b.settle(NotCopied.String(), func(p *pair) bool { return p.end <= base })
	b.sent, b.at = b.sent[:0], base
	b.goOn()
}

func (b *baseline) goOn() { b.off, b.fault = "", ledger.None }

func (b *baseline) step(n int) { b.at += uint64(n) }

func (b *baseline) send(now mono.Time) {
	key := b.at
	if !b.note(now, key) {
		key = 0
	}
	b.sent = append(b.sent, key)
}

func (b *baseline) sendStream(now mono.Time, stream uint64) { b.note(now, stream) }

// note notes that a request was sent, and reports whether its answer is wanted.
func (b *baseline) note(now mono.Time, key uint64) bool {
	p, i := b.pairs.find(key)
	switch {
	case p == nil || p.baselineDone:
		return false
	case b.off != "":
		b.pairs.settleBaseline(i, nil, b.off)
		return false
	}
	p.baselineSent, p.x.BaselineAt = true, now
	return true
}

func (b *baseline) leaveOut(stream uint64) { b.lack(cmp.Or(stream, b.at), LeftOut.String()) }

func (b *baseline) abandon(stream uint64) { b.lack(stream, Unanswered.String()) }

// lack notes that a request will have no answer.
func (b *baseline) lack(key uint64, why string) {
	if p, i := b.pairs.find(key); p != nil && !p.baselineDone {
		b.pairs.settleBaseline(i, nil, why)
	}
}

func (b *baseline) receive(d *proto.Digest, at mono.Time) {
	if len(b.sent) == 0 {
		return
	}
	key := b.sent[0]
	b.sent = b.sent[:copy(b.sent, b.sent[1:])]
	b.answer(key, d, at, LostTrack.String())
}

func (b *baseline) receiveStream(stream uint64, a *proto.Answer, at mono.Time, why ledger.Reason) {
	b.answer(stream, a.Digest, at, cmp.Or(why.String(), LostTrack.String()))
}

// answer notes the answer to a request; nil: it has none, for the reason why.
func (b *baseline) answer(key uint64, d *proto.Digest, at mono.Time, why string) {
	if p, i := b.pairs.find(key); p != nil && p.baselineSent && !p.baselineDone {
		p.x.BaselineTook = max(0, int64(at.Sub(p.x.BaselineAt)))
		b.pairs.settleBaseline(i, d, why)
	}
}

func (b *baseline) slip() { b.giveUp(Slipped) }

func (b *baseline) giveUp(why Exclusion) {
	if b.off == "" {
		b.off = why.String()
		b.dropSent(b.off)
	}
}

// dropSent settles the requests that were sent and not answered.
func (b *baseline) dropSent(why string) {
	b.settle(why, func(p *pair) bool { return p.baselineSent })
	b.sent = b.sent[:0]
}

func (b *baseline) copyEnded(r ledger.Reason) {
	b.fault = ledger.None
	if isFault(r) {
		b.fault = r
	}
	b.dropSent(endedBy(r).String())
}

func (b *baseline) close() {
	b.dropSent(Unanswered.String())
	b.settle(NotCopied.String(), func(*pair) bool { return true })
	b.pairs.hasBaseline = false
}
