package app

import (
	"context"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/engine"
)

// lookWait is how long a reader waits for sessions, and lookFresh how long those that one reader
// has got serve others who ask the same.
const (
	lookWait  = 3 * time.Second
	lookFresh = time.Second
)

// looker asks a run for some of its sessions on behalf of all readers, one at a time.
type looker struct {
	asks chan *engine.AskedSessions
	turn chan struct{} // holds one element while somebody asks

	// What was found last; guarded by turn.
	last  *export.Sessions
	query export.SessionQuery
	at    time.Time
}

func newLooker() *looker {
	return &looker{asks: make(chan *engine.AskedSessions), turn: make(chan struct{}, 1)}
}

// sessions returns some of the sessions; nil if the run does not answer in time.
func (l *looker) sessions(ctx context.Context, words export.SessionQuery) *export.Sessions {
	q, err := words.Parse()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return nil
	}
	if l.last != nil && l.query == words && time.Since(l.at) < lookFresh {
		return l.last
	}
	found := make(chan *export.Sessions, 1)
	select {
	case l.asks <- &engine.AskedSessions{Query: q, To: found}:
	case <-ctx.Done():
		return nil
	}
	select {
	case l.last = <-found:
		l.query, l.at = words, time.Now()
		return l.last
	case <-ctx.Done():
		return nil
	}
}

// ask is sessions for a fleet of this process alone.
func (l *looker) ask(
	ctx context.Context, _ string, q export.SessionQuery,
) (*export.Sessions, error) {
	if s := l.sessions(ctx, q); s != nil {
		return s, nil
	}
	return nil, context.DeadlineExceeded
}
