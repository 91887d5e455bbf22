package shard

import (
	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
)

// placer is the Opener of the shard's sessions: it chooses the target of a copy, and has the way
// open a stream to it.
type placer struct{ shard *Shard }

// Open implements session.Opener.
func (p placer) Open(now mono.Time, spec *session.OpenSpec) session.Stream {
	sh := p.shard
	e := sh.byID[spec.ID]
	if !e.begun {
		e.begun = true
		if e.first {
			sh.count.Connections++
		}
	}
	e.unplace()
	var stream session.Stream
	if e.choose(now, spec) {
		spec.Target, spec.Index = e.target.Addr, e.index
		stream = sh.cfg.Streams.Open(now, spec, e)
		e.arrive(now)
	} else {
		stream = noTarget{e}
		e.Touch()
	}
	e.poller, _ = stream.(Poller)
	return stream
}

// noTarget is the stream of a copy for which there is no target. It fails at the first Poll.
type noTarget struct{ e *entry }

func (noTarget) Release(mono.Time, uint64) {}
func (noTarget) CloseWrite(mono.Time)      {}
func (noTarget) Abort(mono.Time)           {}

// Poll implements Poller.
func (n noTarget) Poll(now mono.Time) mono.Time {
	n.e.Tell(now, session.Event{Kind: session.Failed, Reason: ledger.TargetOut, At: now})
	return mono.Never
}

// choose sets the target of a copy that begins, or begins again, and reports whether there is one.
// A copy that begins again keeps its target while that is in use.
func (e *entry) choose(now mono.Time, spec *session.OpenSpec) bool {
	g := e.group()
	switch {
	case e.fixed:
		e.placed = !e.target.Removed() && g.Begin(now, e.target)
	case e.target != nil && g.Again(now, e.target):
		e.placed = true
	default:
		e.target = g.Pick(now, balance.HashClient(spec.Client.Addr()),
			balance.HashConnection(spec.Client, spec.Production, e.index))
		e.placed = true
	}
	return e.placed
}

// unplace takes a copy that is over out of its target's live copies.
func (e *entry) unplace() {
	if e.placed {
		e.placed = false
		e.target.Ended()
	}
}
