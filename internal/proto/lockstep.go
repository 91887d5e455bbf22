package proto

import (
	"time"

	"tcpcopy/internal/core/mono"
)

const (
	// pushLag is how much later than its client a turn goes at most if a server pushes.
	pushLag = time.Second
	// proofTime is how long a turn waits for further messages of a target that has sent some since
	// the turn before. Then the target is taken for one that pushes.
	proofTime = 10 * time.Second
	// maxGreeting is how many messages are taken for a greeting at most, if the client has seen
	// them before its first one.
	maxGreeting = 4
)

// Lockstep decides when the turns go of a client that exchanges messages with a server: each when
// the target has sent as many messages as its client had seen of production.
//
// How many messages a server pushes is not the client's doing. Once production or the target has
// sent more than the client had asked for, which is a greeting and one for each message, no turn
// goes more than a second later than its client sent it. Where production's messages are not read,
// a turn waits for one message since the turn before it.
//
// The zero value is for a conversation that has not begun.
type Lockstep struct {
	pushes   bool          // messages come unasked: how many is not the client's doing
	began    bool          // the first turn was read
	timed    bool          // lag is known
	greeting uint64        // messages of production that greeted its client
	greeted  uint64        // messages that had come of the target when the first turn went
	lag      time.Duration // how much later than its client the copy has begun
	gone     mono.Time     // when the last turn went
	base     uint64        // messages that the target had sent by then
	baseSeen uint64        // messages of production's that the client of that turn had seen
}

// Turn is what a client sends after it had seen more of its server.
type Turn struct {
	At    mono.Time // when the client sent it
	Asked uint64    // messages of the client that precede it
	Seen  uint64    // messages of production that the client had seen, if Known
	Known bool
	Soon  bool // it may be no reaction to a message, and goes a second late at most

	first  bool
	forced bool // it has waited for too long
}

// Pushes reports whether a server was found to send messages unasked.
func (l *Lockstep) Pushes() bool { return l.pushes }

// Begin notes a turn that the client has begun, and finds out whether production pushes. It returns
// the turn as Check takes it.
func (l *Lockstep) Begin(t Turn) Turn {
	if t.first = !l.began; t.first {
		l.began, l.greeting = true, min(t.Seen, maxGreeting)
	}
	if t.Known && t.Seen > l.greeting+t.Asked {
		l.pushes = true
	}
	return t
}

// Check returns 0 if a turn goes now, and otherwise when it may go though the target has not sent
// what it waits for. have is how many messages the target has sent. All turns before it have gone.
func (l *Lockstep) Check(now mono.Time, t *Turn, have uint64) (wake mono.Time) {
	if !l.timed {
		l.timed, l.lag, l.gone = true, max(0, now.Sub(t.At)), now
	}
	// The target's first messages may greet; then it has sent more than it was asked for.
	if t.Asked > 0 && have > max(l.greeting, l.greeted)+t.Asked {
		l.pushes = true
	}
	if !l.arrived(t, have) && !t.forced {
		until := mono.Never
		switch {
		case l.pushes, t.first, t.Soon: // a greeting is unasked, too
			until = t.At.Add(l.lag + pushLag)
		case have > l.base:
			until = max(l.gone, t.At).Add(proofTime)
		}
		if !until.Reached(now) {
			return until
		}
		l.pushes = true
	}
	if t.first {
		l.greeted = have
	}
	l.gone, l.base, l.baseSeen = now, have, t.Seen
	return 0
}

// arrived reports whether the target has sent what a turn waits for.
func (l *Lockstep) arrived(t *Turn, have uint64) bool {
	switch {
	case !t.Known:
		return t.first || have > l.base
	case l.pushes && !t.first:
		return have-l.base >= t.Seen-min(t.Seen, l.baseSeen)
	}
	return have >= t.Seen
}

// Force has a turn go that has waited for too long. It returns false if it was forced before.
func (l *Lockstep) Force(t *Turn) bool {
	was := t.forced
	l.pushes, t.forced = true, true
	return !was
}

// Settled reports whether the target, which has sent so many messages, has sent what a client
// waited for that has sent asked messages and had seen so many of production.
func (l *Lockstep) Settled(asked, seen, have uint64) bool {
	return l.pushes || seen > l.greeting+asked || have >= seen
}
