package engine

import (
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/core/shard"
)

// AskedSessions is a request for some of a run's sessions.
type AskedSessions struct {
	Query shard.Query
	To    chan<- *export.Sessions // gets one answer; it must have room for it
}

// A look through the sessions takes lookAt of them at once from a shard, which does nothing else
// meanwhile (some ten microseconds), and then leaves the shard alone for lookRest. It ends after
// lookTime even if there are more.
const (
	lookAt   = 128
	lookRest = time.Millisecond
	lookTime = 1500 * time.Millisecond
)

// serveSessions answers requests for sessions, one after the other, until stop is closed.
func (cp *copier) serveSessions(stop <-chan struct{}) {
	for {
		select {
		case a := <-cp.ctl.AskSessions:
			if found := cp.look(&a.Query, stop); found != nil {
				a.To <- found
			}
		case <-stop:
			return
		}
	}
}

// look looks through the sessions of all shards; it returns nil if stop is closed first.
func (cp *copier) look(q *shard.Query, stop <-chan struct{}) *export.Sessions {
	found := &export.Sessions{Now: time.Now(), Live: cp.live()}
	for _, loop := range cp.shards {
		l := &shard.Look{Query: *q}
		for more := true; more && time.Since(found.Now) < lookTime; {
			if !loop.call(func(sh *shard.Shard) { more = sh.Look(cp.now(), l, lookAt) }) {
				return nil
			}
			select {
			case <-time.After(lookRest):
			case <-stop:
				return nil
			}
		}
		found.Put(l)
	}
	found.Cut(q.Order)
	return found
}
