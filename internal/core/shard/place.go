package shard

import (
	"net/netip"

	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
)

// placer is the Opener of the shard's sessions: it chooses the target, and has the copy opened there.
type placer struct {
	sh   *Shard
	next session.Opener // the way to the targets
}

// nowhere is the stream of a copy that has no target to go to. It fails when its session is next advanced.
type nowhere struct{}

func (nowhere) Release(mono.Time, uint64) {}
func (nowhere) CloseWrite(mono.Time)      {}
func (nowhere) Abort(mono.Time)           {}

// Open implements session.Opener.
func (p *placer) Open(now mono.Time, spec *session.OpenSpec) session.Stream {
	e := p.sh.byID[spec.ID]
	if !e.begun {
		e.begun = true
		if e.first {
			p.sh.count.Connections++
		}
	}
	p.sh.leave(e)
	if !e.choose(now, spec) {
		return p.sh.fail(e, ledger.TargetOut)
	}
	spec.Target = e.target.Addr
	if p.sh.cfg.Sources {
		source, why := p.sh.source(e, spec, p.sh.owner)
		if why != ledger.None {
			return p.sh.fail(e, why)
		}
		e.source, spec.Source = source, source
		p.sh.used[TupleOf(source, spec.Target)] = e
	}
	return p.next.Open(now, spec)
}

// choose finds the target of a copy that begins, or begins again: the one that it had, if it is still good.
func (e *entry) choose(now mono.Time, spec *session.OpenSpec) bool {
	g := e.service.Targets
	switch {
	case e.fixed:
		e.placed = !e.target.Removed() && g.Begin(now, e.target)
	case e.target != nil && g.Again(now, e.target):
		e.placed = true
	default:
		e.target = g.Pick(now, balance.HashClient(spec.Client.Addr()), balance.HashConnection(spec.Client, spec.Production, e.index))
		e.placed = true
	}
	return e.placed
}

// fail has the session of a copy hear, when it is next advanced, that there is none.
func (sh *Shard) fail(e *entry, why ledger.Reason) session.Stream {
	e.nowhere = why
	sh.touch(e)
	return nowhere{}
}

// owner is whose a tuple is that a target sees; nil: it is free.
func (sh *Shard) owner(t Tuple) *entry { return sh.used[t] }

// leave says that the copy at its target is over.
func (sh *Shard) leave(e *entry) {
	if !e.placed {
		return
	}
	e.placed = false
	e.target.Ended()
	if e.source.IsValid() {
		if t := TupleOf(e.source, e.target.Addr); sh.used[t] == e {
			delete(sh.used, t)
		}
		e.source = netip.AddrPort{}
	}
}

// handle tells a session what happened to its stream, and the target's group what that says of the target.
func (sh *Shard) handle(now mono.Time, e *entry, ev *session.Event) {
	if e.placed {
		switch ev.Kind {
		case session.Opened:
			e.target.Opened()
			if !e.arrived {
				e.arrived = true
				sh.count.Copies++
			}
		case session.Failed:
			switch ev.Reason {
			case ledger.TargetRefused, ledger.ConnectTimeout, ledger.SendTimeout, ledger.TargetUnreachable, ledger.TargetForbidden:
				e.target.Failed(now)
			}
		}
	}
	e.Handle(now, ev)
}
