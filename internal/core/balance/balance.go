// Package balance decides which of a mapping's targets gets a copy, and when a target that does not
// answer is left alone for a while.
//
// A Group is one mapping's targets as one shard sees them: shards share nothing, so each counts its
// own sessions and finds out for itself that a target is down. The rendezvous methods need no
// agreement: the same client, or connection, finds the same target in every shard, process and
// host. Groups open no connection and know no session; the shard says what became of the copies.
package balance

import (
	"cmp"
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

// The methods: --balance.
const (
	Client     Method = iota // by the client's address: all its connections go to one target
	Session                  // by the connection
	RoundRobin               // in turn
	Least                    // to the target with the fewest live sessions
	All                      // every session to every target
)

var names = [...]string{"client", "session", "round-robin", "least", "all"}

// String is the method's name, as in --balance.
func (m Method) String() string {
	if int(m) < len(names) {
		return names[m]
	}
	return fmt.Sprintf("method %d", uint8(m))
}

// Config is how a Group works.
type Config struct {
	Method Method
	// Health takes a target out for a while that refuses connections or lets them time out.
	Health bool
}

// Group is a mapping's targets. It belongs to one shard.
type Group struct {
	cfg     Config
	targets []*Target
	turn    int // of Least: who comes first among equals
}

// Target is one target of a Group.
type Target struct {
	Addr   netip.AddrPort
	Weight int
	// Count is what was counted of it; Live of it is what Least goes by.
	Count ledger.Target

	seed    uint64
	current int // of RoundRobin
	removed bool
	health  health
}

// NewGroup returns a group of at least one target.
func NewGroup(cfg Config, targets []mapping.Target) *Group {
	g := &Group{}
	g.Set(cfg, targets)
	return g
}

// Set changes how the group works, and its targets. Those that it has already keep what is known of
// them; those that it has no more get no new session.
func (g *Group) Set(cfg Config, targets []mapping.Target) {
	g.cfg = cfg
	old := g.targets
	g.targets = make([]*Target, 0, len(targets))
	for _, t := range targets {
		i := slices.IndexFunc(old, func(o *Target) bool { return o.Addr == t.Addr })
		if i < 0 {
			g.targets = append(g.targets, &Target{Addr: t.Addr, Weight: max(t.Weight, 1), seed: hashAddr(t.Addr.Addr()) ^ mix(uint64(t.Addr.Port()))})
			continue
		}
		old[i].Weight, old[i].current = max(t.Weight, 1), 0
		g.targets = append(g.targets, old[i])
		old[i] = &Target{} // found
	}
	for _, o := range old {
		o.removed = true
	}
}

// Method is how the group works.
func (g *Group) Method() Method { return g.cfg.Method }

// Targets are the group's, in the order in which they were given. The slice is the group's own.
func (g *Group) Targets() []*Target { return g.targets }

// Pick chooses the target of a new copy. client is the hash of the client's address, connection
// that of the connection (HashClient, HashConnection). Targets that are out get none, unless all
// are: then it is as if none were. It is not for All, where every target gets one.
func (g *Group) Pick(now mono.Time, client, connection uint64) *Target {
	t := g.pick(now, client, connection, true)
	if t == nil {
		t = g.pick(now, client, connection, false)
	}
	t.begin(now)
	return t
}

// Again says whether a copy may go on at the target t, where it was before; it counts as begun
// there.
func (g *Group) Again(now mono.Time, t *Target) bool {
	if t.removed || g.cfg.Health && !t.health.usable(now) {
		return false
	}
	t.begin(now)
	return true
}

func (g *Group) pick(now mono.Time, client, connection uint64, healthy bool) *Target {
	var best *Target
	switch g.cfg.Method {
	case RoundRobin: // smoothly: a b a, not a a b, where a weighs 2
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
			if best == nil || cmp.Compare((t.Count.Live+1)*uint64(best.Weight), (best.Count.Live+1)*uint64(t.Weight)) < 0 {
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

func (g *Group) skips(now mono.Time, t *Target, healthy bool) bool {
	return healthy && g.cfg.Health && !t.health.usable(now)
}

// score is weighted rendezvous hashing: the target with the highest score wins a key. Each wins a
// share like its weight, and one that comes or goes changes no other two's order.
func score(t *Target, key uint64) float64 {
	u := (float64(mix(t.seed^key)>>11) + 0.5) / (1 << 53) // between 0 and 1, and neither
	return -float64(t.Weight) / math.Log(u)
}

// Begin counts a copy that goes to the target without a choice: of All. Where the target is out,
// false: there is no copy.
func (g *Group) Begin(now mono.Time, t *Target) bool {
	if g.cfg.Health && !t.health.usable(now) {
		return false
	}
	t.begin(now)
	return true
}

func (t *Target) begin(now mono.Time) {
	t.Count.Begun++
	t.Count.Live++
	t.health.begun(now)
}

// Ended counts a copy that was begun, and is over.
func (t *Target) Ended() { t.Count.Live-- }

// Opened says that the target has accepted a copy's connection.
func (t *Target) Opened() {
	t.Count.Opened++
	t.health.opened()
}

// Failed says that a copy's connection could not open, or is dead.
func (t *Target) Failed(now mono.Time) {
	t.Count.Failed++
	if t.health.failed(now) {
		t.Count.TakenOut++
	}
}

// Removed says that the target is of its group no more.
func (t *Target) Removed() bool { return t.removed }

// Out says whether the target gets no copies at now but a trial.
func (g *Group) Out(t *Target) bool { return g.cfg.Health && t.health.state != in }
