// Package export renders the account of a run: the table printed at the end, the line printed
// while the copy runs, and the JSON report.
//
// It reads snapshots and never live state, so any goroutine that has a snapshot may call it. The
// engine makes the snapshots by summing the shards; the commands of package app choose where the
// result goes. Reasons and classes of status are rendered by their names in package ledger, so
// that this package knows no protocol.
package export

import (
	"time"

	"tcpcopy/internal/account/verdict"
	"tcpcopy/internal/core/ledger"
)

// Snapshot is the state of a copier at one moment, summed over its shards.
type Snapshot struct {
	Version  string    // of this program
	Via      string    // the way to the target: "socket", "raw", "tunnel"
	Mappings []string  // as typed: "80-10.0.0.2:8080"
	From     string    // the source of the traffic, as typed; empty: this host's interfaces
	Start    time.Time // when the copier began to capture
	Now      time.Time // when the snapshot was taken
	Doctor   string    // command that examines this copy; empty: tcpcopy doctor
	Final    bool      // the copier has stopped: no snapshot follows
	Sequence uint64    // ascends with each snapshot of a run; 0: not numbered

	// What the run was asked for, and what was seen of its course, for Fidelity. Wanted is how many
	// copies each session was to have (0: not known); Ungated says that turns wait for no answer.
	Wanted  float64
	Ungated bool
	Curves  Curves
	Course  *Course // nil: not wanted

	Findings  []Finding // of the check at the start
	Counters  ledger.Counters
	Baseline  *ledger.Counters // of the copies to old versions; nil: there are none
	Targets   []TargetState    // of all mappings, in their order
	Links     []LinkState      // to the intercepts; none in the socket way
	Agents    []AgentState     // that send the traffic; none if it is captured here
	Replay    *Replay          // of capture files; nil: the traffic is live
	Compare   *verdict.Result  // of answers with production's; nil: they are not compared
	Resources Resources

	// StoodStill is for how long the process did not run although there was traffic: it was
	// stopped, or no processor was free.
	StoodStill time.Duration
}

// Curves is the area below the curve of production's open connections, and the area between that
// curve and the one of the targets', in connections times seconds.
type Curves struct{ Production, Apart float64 }

// AgentState is the state of an agent, with counts since it first connected.
type AgentState struct {
	Name     string    // of its host
	Address  string    // where it connects from
	Up       bool      // connected
	Since    time.Time // when it connected, or when its connection ended
	Connects uint64
	Packets  uint64 // received

	KernelDrop   uint64 // packets that found no room in its capture ring
	ShedCPU      uint64 // packets that it left out to stay below --max-cpu
	ShedRate     uint64 // packets that it left out to stay below --max-mbps
	ShedSessions uint64 // the sessions of the packets that it left out
	OverMemory   uint64 // packets that waited too long for the connection, or found no room to wait
	LinkDown     uint64 // packets that it dropped while it was not connected
	Lost         uint64 // packets that it sent and that did not arrive
	Error        string // why its connection ended last; empty if it never did
}

// TargetState is the state of one target of a mapping.
type TargetState struct {
	Production string // the mapping's production side, as typed: "80"
	Target     string // address and port
	Weight     int
	OutOf      int // the shards that have taken it out: each decides for itself
	Shards     int // the shards of the copier
	Count      ledger.Target
}

// State returns the target's state: "in", "out" or "partly out".
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

// Share returns the part, 0 to 1, of the copies of t's mapping that were begun at t.
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
	Reconnects uint64    // times that it came up again
	Error      string    // why it is down, or was last; empty if it never was

	ClaimsRefused uint64 // claims of connections that belong to another copier
	QueueDropped  uint64 // messages that were dropped: the link was down, or its queue full
	Forbidden     uint64 // targets that an intercept on the target does not connect to
}

// Resources holds what the process has used so far.
type Resources struct {
	CPU    time.Duration // user and system time
	MaxRSS uint64        // highest resident memory, bytes
}

// Elapsed returns how long the copier has run.
func (s *Snapshot) Elapsed() time.Duration {
	if d := s.Now.Sub(s.Start); d > 0 {
		return d
	}
	return 0
}

// notWanted returns how much was left out on request, which is no loss.
func notWanted(f *ledger.Flow) (n uint64) {
	for _, r := range ledger.Reasons() {
		if r.OnRequest() {
			n += f.Dropped[r]
		}
	}
	return n
}

// Lost returns how much of f was dropped, less what the user asked to leave out.
func Lost(f *ledger.Flow) uint64 { return f.DroppedAll() - notWanted(f) }

// Delivered returns how much of f was delivered, as a share of what was delivered or lost, in
// thousandths of a percent, rounded down: 100000 means all. If nothing was delivered or lost yet,
// ok is false.
func Delivered(f *ledger.Flow) (millipercent uint64, ok bool) {
	ended := f.Delivered + Lost(f)
	if ended == 0 {
		return 0, false
	}
	if Lost(f) == 0 {
		return 100_000, true
	}
	// A loss must not be rounded away.
	return min(uint64(float64(f.Delivered)/float64(ended)*100_000), 99_999), true
}
