package shard

import "tcpcopy/internal/core/session"

// MaxSpare is maxSpare.
const MaxSpare = maxSpare

// Places returns how many client connections the table has a place for.
func (sh *Shard) Places() int { return len(sh.flows) }

// Names returns how many sessions can be found by their ID.
func (sh *Shard) Names() int { return len(sh.byID) }

// CountOpen counts the open client connections one by one.
func (sh *Shard) CountOpen() (n int) {
	for _, e := range sh.flows {
		if !e.ClientEnded() && e.State() != session.Gone {
			n++
		}
	}
	return n
}

// StreamOf returns the stream of a session; nil if there is none.
func (sh *Shard) StreamOf(id session.ID) session.Stream {
	if e := sh.byID[id]; e != nil {
		return e.Stream()
	}
	return nil
}

// Services returns the shard's services.
func (sh *Shard) Services() []*Service { return sh.cfg.Services }

// Spares returns how many entries are linked for reuse, and how many are counted.
func (sh *Shard) Spares() (linked, counted int) {
	for e := sh.spare; e != nil && linked < 5000; e = e.copy {
		linked++
	}
	return linked, sh.spares
}

// SessionCost is sessionCost.
const SessionCost = sessionCost

// HalfOpenCost is halfOpenCost.
const HalfOpenCost = halfOpenCost

// HalfOpen returns how many half-open connections there are.
func (sh *Shard) HalfOpen() int { return len(sh.half.byTuple) }

// HalfOpenRoom returns for how many half-open connections there is room.
func (sh *Shard) HalfOpenRoom() int { return cap(sh.half.list) }
