package shard

import "tcpcopy/internal/core/mono"

// Busy returns how many sessions have something left to do with what was captured so far.
func (sh *Shard) Busy() int { return sh.busy }

// Held returns how many bytes of payload the sessions hold.
func (sh *Shard) Held() int64 { return sh.pool.InUse() }

// noteBusy keeps the count of busy sessions after e was advanced.
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

// Renew begins another pass of a recording at now. The packets that follow belong to new
// connections, though they have the clients and sequence numbers of the old ones. The old ones
// still deliver what was captured, and then close.
func (sh *Shard) Renew(now mono.Time) {
	sh.now = max(sh.now, now)
	sh.cfg.Start = sh.now
	sh.endHalfOpen()
	sh.endFound()
	for _, e := range sh.flows {
		for e != nil {
			next := e.copy
			sh.flushDelayed(sh.now, e)
			e.Drain()
			e.noteEnd(sh.now)
			sh.unlink(e)
			e.Touch()
			e = next
		}
	}
}
