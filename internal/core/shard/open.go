package shard

import "tcpcopy/internal/core/session"

// Open returns how many client connections are open at production, as far as was captured. The
// copies of a connection count once, and a connection whose copies are over, which is followed no
// more, does not count. Open looks at every connection.
func (sh *Shard) Open() (n int) {
	for _, e := range sh.flows {
		if !e.ClientEnded() && e.State() != session.Gone {
			n++
		}
	}
	return n
}
