package shard

import (
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
)

// Streams is a shard's end of a way to the targets: it opens the streams of the shard's copies and
// reports what happens to them. The shard calls it from its own goroutine; no call blocks.
type Streams interface {
	// Open begins a copy at spec.Target and returns its stream. c is the session of the copy. A
	// copy that cannot begin gets a stream all the same, which reports Failed in a later Deliver
	// or Poll. The way keeps no reference to spec; it may keep spec.Record and c until the stream
	// has ended.
	Open(now mono.Time, spec *session.OpenSpec, c Copy) session.Stream
	// Deliver takes in what has come from the targets. Each Step calls it once, after the captured
	// packets and before the timers. It returns events, each for the session that its ID names,
	// which are valid until the next Deliver; events of a stream that holds its Copy may go there
	// instead. stalled is Input.Stalled.
	Deliver(now mono.Time, stalled bool) []session.Event
	// Pending reports whether Deliver has something to deliver at once: then it is called soon,
	// and no copy begins before.
	Pending() bool
	// Count adds what the way itself counts to c.
	Count(c *ledger.Counters)
}

// Poller is a stream that acts by itself. The shard calls Poll whenever it has advanced the
// session, and at the time that Poll returned last.
type Poller interface {
	session.Stream
	// Poll does what is due at now, and returns when it has to be called again; mono.Never: not
	// before something happens to the session.
	Poll(now mono.Time) mono.Time
}

// Copy is the session of a stream, as its way sees it. It is valid until the stream has reported
// Finished, ResetByPeer or Failed, or was aborted.
type Copy interface {
	// Tell hands the session an event of its stream. The session is advanced at the end of the
	// Step.
	Tell(now mono.Time, ev session.Event)
	// Connection returns the tuple of the client's connection to production.
	Connection() Tuple
	// Touch has the session advanced, and its stream polled, at the end of the Step.
	Touch()
	// Content is session.Session.Content.
	Content() bool
	// Behind is session.Session.Behind.
	Behind(now mono.Time) bool
	// Replace ends the session, because a later connection of its client needs the tuple.
	Replace(now mono.Time)
}

var _ Copy = (*entry)(nil)

// Tell implements Copy.
func (e *entry) Tell(now mono.Time, ev session.Event) {
	e.shard.handle(now, e, &ev)
	e.Touch()
}

// Connection implements Copy.
func (e *entry) Connection() Tuple { return e.key }

// Touch implements Copy.
func (e *entry) Touch() {
	if !e.dirty {
		e.dirty = true
		e.shard.dirty = append(e.shard.dirty, e)
	}
}

// Replace implements Copy.
func (e *entry) Replace(now mono.Time) {
	e.End(now, ledger.Replaced)
	e.Touch()
}

// handle passes an event of a stream to its session, and counts what it says about the target.
func (sh *Shard) handle(now mono.Time, e *entry, ev *session.Event) {
	if e.placed {
		switch ev.Kind {
		case session.Opened:
			e.target.Opened()
			if !e.accepted {
				e.accepted = true
				e.count().Copies++
			}
		case session.Failed:
			switch ev.Reason {
			case ledger.TargetRefused, ledger.ConnectTimeout, ledger.SendTimeout,
				ledger.TargetUnreachable, ledger.TargetForbidden:
				e.target.Failed(now)
			}
		}
	}
	copied := e.Stream() != nil
	e.Handle(now, ev)
	if copied {
		e.noteOpening(now, ev)
	}
}
