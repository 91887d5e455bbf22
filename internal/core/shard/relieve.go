package shard

import (
	"cmp"
	"slices"

	"tcpcopy/internal/core/ledger"
)

// relieve keeps the bound on memory: beyond it, the sessions that hold the most are refused until
// an eighth of the bound is free again, so that sessions are compared seldom. What a session costs
// beside the bytes that it holds is no reason to refuse it: where that exceeds the bound, admission
// refuses new sessions.
func (sh *Shard) relieve() {
	most := sh.cfg.MaxMemory
	if sh.held() <= most/4 || sh.Memory() <= most {
		return
	}
	type holder struct {
		e    *entry
		held int
	}
	var all []holder
	for _, e := range sh.byID {
		if n := e.Held() + e.delayed.held(); n > 0 {
			all = append(all, holder{e, n})
		}
	}
	slices.SortFunc(all, func(a, b holder) int {
		return cmp.Or(cmp.Compare(b.held, a.held), cmp.Compare(a.e.ID(), b.e.ID()))
	})
	for _, h := range all {
		if sh.Memory() <= most-most/8 || sh.held() <= most/8 {
			return
		}
		sh.refuse(h.e)
	}
}

// held returns what could be had by refusing sessions, in bytes.
func (sh *Shard) held() int64 { return sh.pool.InUse() + int64(sh.queued)*delayedCost }

// refuse refuses a session for want of memory, and accounts for what it holds. A staggered copy is
// no longer delayed.
func (sh *Shard) refuse(e *entry) {
	sh.flushDelayed(sh.now, e)
	e.delayed = nil
	e.Refuse(sh.now, ledger.OverMemory)
	e.Touch()
}
