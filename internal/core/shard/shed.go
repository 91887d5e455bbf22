package shard

import "tcpcopy/internal/core/ledger"

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
