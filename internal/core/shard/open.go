package shard

import "tcpcopy/internal/core/session"

// Open returns how many client connections are open at production, as far as was captured. The
// copies of a connection count once, and a connection whose copies are over, which is followed no
// more, does not count.
func (sh *Shard) Open() int { return sh.open }

// noteOpen keeps the count of open connections after something has happened to e.
func (sh *Shard) noteOpen(e *entry) {
	if o := e.leads && !e.ClientEnded() && e.State() != session.Gone; o != e.open {
		e.open = o
		if o {
			sh.open++
		} else {
			sh.open--
		}
	}
}
