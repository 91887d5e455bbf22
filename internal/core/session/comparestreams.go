package session

import (
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
)

// goOn is begin for a copy that goes on over another connection with what waits.
func (g *pairing) goOn() {
	if g != nil {
		g.isOff, g.fault = false, ledger.None
	}
}

// requestsEnded notes the hashes of production's requests that have become whole.
func (g *pairing) requestsEnded() {
	for g.streams != nil {
		stream, hash, ok := g.streams.Ended()
		if !ok {
			return
		}
		if p, _ := g.find(stream); p != nil {
			p.x.Request = hash
		}
	}
}

// answeredStream notes production's answer on a stream.
func (g *pairing) answeredStream(stream uint64, d *proto.Digest) {
	if g == nil {
		return
	}
	switch p, i := g.find(stream); {
	case p == nil || p.x.Production != nil:
	case !g.keep(d):
		g.exclude(i, OverBounds)
	default:
		p.x.Production = d
		g.complete(i)
	}
}

// sendStream notes that the copy sends the request on a stream of the client.
func (g *pairing) sendStream(now mono.Time, stream uint64) {
	if g == nil {
		return
	}
	switch p, i := g.find(stream); {
	case p == nil:
		if stream > g.known { // else it was excluded
			g.to.Due()
			g.to.Exclude(Unread)
		}
	case g.isOff:
		g.exclude(i, g.off)
	default:
		p.isSent, p.x.At = true, now
	}
}

// receiveStream notes an answer of the target on a stream, which ended at the time at. why is the
// fault of a target that has ended the stream without an answer.
func (g *pairing) receiveStream(stream uint64, a *proto.Answer, at mono.Time, why ledger.Reason) {
	if g == nil {
		return
	}
	p, i := g.find(stream)
	switch {
	case p == nil || !p.isSent || p.targetDone:
		return
	case a.Digest == nil && a.Status == 0:
		p.x.Failed = why
	case a.Digest != nil && !g.keep(a.Digest):
		g.exclude(i, OverBounds)
		return
	default:
		p.x.Target = a.Digest
		p.x.Took = max(0, int64(at.Sub(p.x.At)))
	}
	p.targetDone = true
	g.complete(i)
}

// abandon notes that the request on a stream was cancelled, by its client or by production.
func (g *pairing) abandon(stream uint64) {
	if g == nil {
		return
	}
	if p, i := g.find(stream); p != nil && !g.waitsForOld(p) {
		g.exclude(i, Unanswered)
	}
}
