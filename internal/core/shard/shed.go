package shard

import (
	"cmp"
	"slices"

	"tcpcopy/internal/core/ledger"
)

// shedLargest refuses the sessions that hold the most payload, until the memory is below its bound
// by a sixteenth: the margin keeps the search for them from coming back with every packet. It frees
// payload, so segments that refer to it must have been sent: only Store calls it.
func (sh *Shard) shedLargest() {
	all := sh.excess[:0]
	for _, e := range sh.byID {
		if e.held() > 0 {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(b.held(), a.held()), cmp.Compare(a.ID(), b.ID()))
	})
	for _, e := range all {
		if sh.pool.InUse() <= sh.cfg.MaxMemory-sh.cfg.MaxMemory/16 {
			break
		}
		e.Refuse(sh.now, ledger.OverMemory)
		sh.flushDelayed(sh.now, e) // a session that is refused counts its packets and drops them
		e.Touch()
	}
	clear(all)
	sh.excess = all[:0]
}

// held returns how many bytes of the pool a session holds.
func (e *entry) held() int {
	n := e.Held()
	if e.delayed != nil {
		n += e.delayed.bytes
	}
	return n
}

// shedMarks remembers connections that were refused as a whole, so that their later packets begin
// no copy in mid-connection. It keeps those seen last: between one and two times maxMarks.
type shedMarks struct {
	young, old map[uint64]ledger.Reason
}

const maxMarks = 1 << 16

// add remembers a connection.
func (m *shedMarks) add(key *Tuple, why ledger.Reason) {
	if m.young == nil || len(m.young) == maxMarks {
		m.young, m.old = make(map[uint64]ledger.Reason), m.young
	}
	m.young[key.stable()] = why
}

// get returns why the connection was refused; None if it was not, or is no longer remembered.
func (m *shedMarks) get(key *Tuple) ledger.Reason {
	if len(m.young)+len(m.old) == 0 {
		return ledger.None
	}
	h := key.stable()
	if why, ok := m.young[h]; ok {
		return why
	}
	why, ok := m.old[h]
	if ok {
		m.add(key, why) // the connection still lives
	}
	return why
}

// remove forgets a connection that has ended.
func (m *shedMarks) remove(key *Tuple) {
	if len(m.young)+len(m.old) > 0 {
		h := key.stable()
		delete(m.young, h)
		delete(m.old, h)
	}
}
