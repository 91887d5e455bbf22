package shard

import "tcpcopy/internal/core/mono"

// Busy is how many sessions have something left to do with what was captured so far.
func (sh *Shard) Busy() int { return sh.busy }

// Held is how many bytes of payload the sessions hold.
func (sh *Shard) Held() int64 { return sh.pool.InUse() }

// noteBusy counts a session that something happened to.
func (sh *Shard) noteBusy(e *entry) {
	if b := e.Busy(); b != e.busy {
		e.busy = b
		if b {
			sh.busy++
		} else {
			sh.busy--
		}
	}
}

// Renew says that a recording begins again at now: the packets that follow are of new connections, though they
// come from the same clients with the same sequence numbers. What was captured of the old ones still arrives,
// and then they are closed.
func (sh *Shard) Renew(now mono.Time) {
	sh.now = max(sh.now, now)
	sh.cfg.Start = sh.now
	for _, e := range sh.flows {
		for e != nil {
			next := e.copy
			sh.hurryUp(sh.now, e)
			e.Drain()
			sh.unlink(e)
			sh.touch(e)
			e = next
		}
	}
}
