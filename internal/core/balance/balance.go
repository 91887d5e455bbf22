// Package balance chooses which of a mapping's targets gets a copy, and avoids a target for a while
// that does not accept connections.
//
// A Group is one mapping's targets as one shard sees them. Shards share nothing, so each counts its
// own sessions and finds by itself that a target is down. The rendezvous methods need no agreement:
// a client, or a connection, has the same target in every shard, process and host. A Group opens no
// connection and knows no session; the shard tells it what became of the copies.
package balance

import (
	"fmt"
	"math"
	"net/netip"
	"slices"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/mono"
)

// Method is how the targets of a mapping share its sessions.
type Method uint8

// The methods (option --balance).
const (
	Client     Method = iota // by the client's address: all its connections go to one target
	Session                  // by the connection
	RoundRobin               // in turn
	Least                    // to the target with the fewest live sessions
	All                      // every session to every target
)

var names = [...]string{"client", "session", "round-robin", "least", "all"}

// String returns the method's name, as in --balance.
func (m Method) String() string {
	if int(m) < len(names) {
		return names[m]
	}
	return fmt.Sprintf("method %d", uint8(m))
}

// Config holds the settings of a Group.
type Config struct {
	Method Method
	// Health takes a target out for a while that refuses connections or lets them time out.
	Health bool
}

// Group is a mapping's targets. One shard owns it.
type Group struct {
	cfg     Config
	targets []*Target
	turn    int // for Least: which target comes first among equals
}

// Target is one target of a Group.
type Target struct {
	Addr   netip.AddrPort
	Weight int
	// Count is the target's account. Least compares its Live.
	Count ledger.Target

	seed    uint64
	current int // for RoundRobin
	removed bool
	health  health
}

// NewGroup returns a group of at least one target.
func NewGroup(cfg Config, targets []mapping.Target) *Group {
	g := &Group{}
	g.Set(cfg, targets)
	return g
}

// Set changes the group's settings and targets. Targets that it keeps keep their state; targets
// that it loses get no new session.
func (g *Group) Set(cfg Config, targets []mapping.Target) {
	g.cfg = cfg
	old := g.targets
	g.targets = make([]*Target, 0, len(targets))
	for _, t := range targets {
		i := slices.IndexFunc(old, func(o *Target) bool { return o.Addr == t.Addr })
		if i < 0 {
			g.targets = append(g.targets, &Target{Addr: t.Addr, Weight: max(t.Weight, 1),
				seed: hashAddr(t.Addr.Addr()) ^ mix(uint64(t.Addr.Port()))})
			continue
		}
		old[i].Weight, old[i].current = max(t.Weight, 1), 0
		g.targets = append(g.targets, old[i])
		old[i] = &Target{} // not removed
	}
	for _, o := range old {
		o.removed = true
	}
}

// Method returns the group's method.
func (g *Group) Method() Method { return g.cfg.Method }

// Targets returns the group's targets in the order in which they were given. The caller must not
// change the slice.
func (g *Group) Targets() []*Target { return g.targets }

// Pick chooses the target of a new copy and counts the copy as begun. client is the hash of the
// client's address, connection that of the connection (HashClient, HashConnection). Targets that
// are out are not chosen unless all are. Pick is not for All, where every target gets a copy.
func (g *Group) Pick(now mono.Time, client, connection uint64) *Target {
	t := g.pick(now, client, connection, true)
	if t == nil {
		t = g.pick(now, client, connection, false)
	}
	t.begin(now)
	return t
}

// Again reports whether a copy may begin at the target t, where a copy of the session was before.
// If so it counts the copy as begun.
func (g *Group) Again(now mono.Time, t *Target) bool {
	if t.removed || g.cfg.Health && !t.health.usable(now) {
		return false
	}
	t.begin(now)
	return true
}

// pick chooses a target by the group's method. It returns nil if healthy is set and all targets are
// out.
func (g *Group) pick(now mono.Time, client, connection uint64, healthy bool) *Target {
	var best *Target
	switch g.cfg.Method {
	case RoundRobin: // smooth: a b a rather than a a b if a has weight 2
		total := 0
		for _, t := range g.targets {
			if g.skips(now, t, healthy) {
				continue
			}
			t.current += t.Weight
			total += t.Weight
			if best == nil || t.current > best.current {
				best = t
			}
		}
		if best != nil {
			best.current -= total
		}
	case Least:
		g.turn++
		for i := range g.targets {
			t := g.targets[(g.turn+i)%len(g.targets)]
			if g.skips(now, t, healthy) {
				continue
			}
			if best == nil ||
				(t.Count.Live+1)*uint64(best.Weight) < (best.Count.Live+1)*uint64(t.Weight) {
				best = t
			}
		}
	default:
		key := client
		if g.cfg.Method != Client {
			key = connection
		}
		top := math.Inf(-1)
		for _, t := range g.targets {
			if g.skips(now, t, healthy) {
				continue
			}
			if s := score(t, key); s > top {
				best, top = t, s
			}
		}
	}
	return best
}

// skips reports whether the target is out, and healthy is set.
func (g *Group) skips(now mono.Time, t *Target, healthy bool) bool {
	return healthy && g.cfg.Health && !t.health.usable(now)
}

// score returns the target's score for a key in weighted rendezvous hashing. The target with the
// highest score gets the key, so that each gets a share in proportion to its weight, and a target
// that is added or removed does not change the order of the others.
func score(t *Target, key uint64) float64 {
	u := (float64(mix(t.seed^key)>>11) + 0.5) / (1 << 53) // in (0, 1)
	return -float64(t.Weight) / math.Log(u)
}

// Spares reports whether the group can do without the target t, because another one is in use: then
// a target that fails is soon out, and the other one is picked.
func (g *Group) Spares(now mono.Time, t *Target) bool {
	return g.cfg.Health && g.cfg.Method != All && slices.ContainsFunc(g.targets,
		func(o *Target) bool { return o != t && o.health.usable(now) })
}

// Begin counts a copy as begun that goes to the target without a choice, as with All. If the target
// is out it returns false: there must be no copy.
func (g *Group) Begin(now mono.Time, t *Target) bool {
	if g.cfg.Health && !t.health.usable(now) {
		return false
	}
	t.begin(now)
	return true
}

// begin counts a copy as begun.
func (t *Target) begin(now mono.Time) {
	t.Count.Begun++
	t.Count.Live++
	t.health.begun(now)
}

// Ended notes that a copy is over which had begun.
func (t *Target) Ended() { t.Count.Live-- }

// Opened notes that the target has accepted a copy's connection.
func (t *Target) Opened() {
	t.Count.Opened++
	t.health.opened()
}

// Failed notes that a copy's connection could not open, or has failed.
func (t *Target) Failed(now mono.Time) {
	t.Count.Failed++
	if t.health.failed(now) {
		t.Count.TakenOut++
	}
}

// Removed reports whether the target was removed from its group.
func (t *Target) Removed() bool { return t.removed }

// Out reports whether the target is out: it gets no copy but a trial.
func (g *Group) Out(t *Target) bool { return g.cfg.Health && t.health.state != in }
