// Package export takes the account out of the process: the table printed at the end, the line printed
// while the copy runs, and the JSON report.
//
// It reads snapshots and never live state, so it may be called from any goroutine that was handed one.
// It does not collect: the engine sums the shards, and the commands of package app choose where the
// result goes. A report that cannot be written is an error to its caller and harms nothing else.
package export

import (
	"time"

	"tcpcopy/internal/core/ledger"
)

// Snapshot is the state of a copier at one moment, summed over its shards.
type Snapshot struct {
	Version  string    // of this program
	Via      string    // how the target is reached: "socket", "raw"
	Mappings []string  // as typed: "80-10.0.0.2:8080"
	From     string    // where the traffic comes from, as typed; empty: this host's interfaces
	Start    time.Time // when the copier began to capture
	Now      time.Time // when the snapshot was taken
	Final    bool      // the copier has stopped: nothing follows
	Sequence uint64    // ascends with each snapshot of a run; 0: not numbered

	// What the run was asked for, and what was seen of its course, for Fidelity. Wanted is how many
	// copies each session was to have (0: not known); Ungated says that turns wait for no answer.
	Wanted  float64
	Ungated bool
	Curves  Curves
	Course  *Course // nil: not wanted

	Counters  ledger.Counters
	Targets   []TargetState // of all mappings, in their order
	Links     []LinkState   // to the intercepts; none in the socket way
	Agents    []AgentState  // that send the traffic; none where it is captured here
	Replay    *Replay       // of capture files; nil: live traffic
	Resources Resources
}

// Curves is the area below the curve of production's open connections, and the area between that curve
// and the one of the targets', in connections times seconds.
type Curves struct{ Production, Apart float64 }

// AgentState is the state of an agent, and what it did not send, since it first connected.
type AgentState struct {
	Name     string    // its host's
	Address  string    // where it connects from
	Up       bool      // connected
	Since    time.Time // when it connected, or went
	Connects uint64
	Packets  uint64 // that came

	KernelDrop   uint64 // packets that did not fit its capture ring
	ShedCPU      uint64 // packets that it left out to stay below --max-cpu
	ShedRate     uint64 // packets that it left out to stay below --max-mbps
	ShedSessions uint64 // the sessions that these are of
	OverMemory   uint64 // packets that waited too long, or found no room to
	LinkDown     uint64 // packets that it dropped while it was not connected
	Lost         uint64 // packets that it sent, and that did not come
	Error        string // why it was lost last; empty if it never was
}

// TargetState is the state of one target of a mapping.
type TargetState struct {
	Production string // the mapping's production side, as typed: "80"
	Target     string // address and port
	Weight     int
	OutOf      int // how many of the copier's Shards have taken it out: each finds out for itself
	Shards     int
	Count      ledger.Target
}

// State is the target's state in a word or two.
func (t *TargetState) State() string {
	switch t.OutOf {
	case 0:
		return "in"
	case t.Shards:
		return "out"
	default:
		return "partly out"
	}
}

// Share is the part, 0 to 1, of the copies of t's mapping that were begun at t.
func (s *Snapshot) Share(t *TargetState) float64 {
	var all uint64
	for i := range s.Targets {
		if s.Targets[i].Production == t.Production {
			all += s.Targets[i].Count.Begun
		}
	}
	if all == 0 {
		return 0
	}
	return float64(t.Count.Begun) / float64(all)
}

// LinkState is the state of the link to one intercept.
type LinkState struct {
	Intercept  string    // address and port
	Up         bool      // connected and welcomed
	Since      time.Time // when it came up, or went down
	Reconnects uint64    // how often it came up again after the first time
	Error      string    // why it is down, or was last; empty if it never was

	ClaimsRefused uint64 // connections that were claimed and are another copier's
	QueueDropped  uint64 // messages that found no connection to the intercept, or no room
	Forbidden     uint64 // targets that an intercept on the target connects nobody to
}

// Resources is what the process has cost so far.
type Resources struct {
	CPU    time.Duration // user and system time
	MaxRSS uint64        // highest resident memory, bytes
}

// Elapsed is how long the copier has run.
func (s *Snapshot) Elapsed() time.Duration {
	if d := s.Now.Sub(s.Start); d > 0 {
		return d
	}
	return 0
}

// notWanted sums what was left out on request, and is no loss.
func notWanted(f *ledger.Flow) (n uint64) {
	for _, r := range ledger.Reasons() {
		if r.OnRequest() {
			n += f.Dropped[r]
		}
	}
	return n
}

// Lost is how much of f was to be delivered and was dropped: everything dropped, less what the user
// asked to leave out.
func Lost(f *ledger.Flow) uint64 { return f.DroppedAll() - notWanted(f) }

// Delivered is the share of what was to be delivered, and is no longer in flight, that was delivered;
// in thousandths of a percent and rounded down, so that 100000 means all of it. Where nothing has ended
// yet, ok is false.
func Delivered(f *ledger.Flow) (millipercent uint64, ok bool) {
	ended := f.Delivered + Lost(f)
	if ended == 0 {
		return 0, false
	}
	if Lost(f) == 0 {
		return 100_000, true
	}
	// Never rounded up to all of it, whatever the size of the counts.
	return min(uint64(float64(f.Delivered)/float64(ended)*100_000), 99_999), true
}
