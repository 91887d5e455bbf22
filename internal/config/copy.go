package config

import (
	"net/netip"
	"slices"
	"time"

	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/proto/known"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/way"
)

// DefaultPort is where an intercept listens.
const DefaultPort = 36524

// DefaultMark is the mark (SO_MARK) of our own packets, which the capture filter leaves out.
const DefaultMark = 0x7c0b1e5

// Via is the name of a way to the target.
type Via = string

// The ways whose options are checked here.
const (
	ViaSocket Via = "socket" // kernel TCP connections from the copier
	ViaRaw    Via = "raw"    // our own TCP, from the clients' addresses
	ViaTunnel Via = "tunnel" // an intercept on the target connects from the clients' addresses
)

// Wait is how the gate learns that an answer has ended.
type Wait string

// The gate's modes.
const (
	WaitAuto  Wait = "auto"  // predicted where it can be, else by quiet
	WaitBytes Wait = "bytes" // by the predicted number of bytes, or the limit
	WaitQuiet Wait = "quiet" // by quiet alone
	WaitNone  Wait = "none"  // not at all: turns go when they come
)

// Health is whether targets that do not answer are taken out for a while.
type Health string

// The words of --health.
const (
	HealthAuto Health = "auto" // unless every session goes to every target
	HealthOn   Health = "on"
	HealthOff  Health = "off"
)

// SampleBy is what --sample chooses.
type SampleBy string

// The words of --sample-by.
const (
	BySession SampleBy = "session" // connections
	ByClient  SampleBy = "client"  // clients, with all their connections
)

// Mapped is what may differ from mapping to mapping.
type Mapped struct {
	Balance       balance.Method
	Health        Health
	Copies        float64       // of every session, 1 or more
	Stagger       time.Duration // between one copy of a session and the next
	SamplePercent float64       // of sessions, above 0 to 100
	SampleBy      SampleBy
	Ramp          time.Duration  // from the first sessions to all of the sample; 0: at once
	Only, Except  []netip.Prefix // networks of clients to copy (empty: all), and to leave out
	MaxRate       float64        // new sessions a second, copies counted; 0: no bound
	MaxMbps       float64        // megabits a second that clients send, copies counted; 0: no bound
	Wait          Wait
	Proto         Proto
	Rules         known.Rules   // of Proto: what the target does not get, or gets changed
	WholeSessions bool          // no adoption
	RTT           time.Duration // the round trip to assume; 0: not given

	SessionMemory    int64         // bytes, of one session
	GateLimit        time.Duration // that a turn waits for an answer
	SessionTimeout   time.Duration // that the target may owe an answer or an acknowledgment
	KeepaliveTimeout time.Duration // that a session may lie idle

	Warnings []string // about the files that its options name
}

// Checked says whether the mapping's targets are taken out when they do not answer.
func (m *Mapped) Checked() bool {
	return m.Health == HealthOn || m.Health == HealthAuto && m.Balance != balance.All
}

// Copy is what tcpcopy copy is to do. Its parts agree with each other: a field that the way in Via has
// no use for has its zero value.
type Copy struct {
	// Where.
	From       From
	Replay     *Replay           // of FromFile; nil: live
	Mappings   []mapping.Mapping // at least one
	Interfaces []string          // to capture on; empty: all
	Filter     filter.Expr       // nil: none
	way.Settings

	// How.
	Mapped                // of mappings that Own has nothing of
	Own    map[int]Mapped // what the configuration file says of single mappings
	Both   bool           // capture the server's packets whole, too (FromHost)
	Shards int            // 0: as the cores allow

	// Bounds.
	Memory      int64 // bytes, of all sessions
	MaxSessions int
	Ring        int64         // bytes, of the capture ring
	Drain       time.Duration // that sessions get to end in when the copier stops

	// Output.
	Stats  time.Duration // between two lines; 0: none
	Report string        // path of the JSON report; empty: none
	Process
}

// Process is what both daemons take: how they run as a process.
type Process struct {
	LogFile string // empty: stderr
	PIDFile string // empty: none
	Daemon  bool   // detach from the terminal
	Status  string // where to say how it is: a path or IP:PORT; empty: at the usual place; StatusOff: nowhere
}

// StatusOff is the Process.Status of who does not want to be asked.
const StatusOff = "off"

// MappingStrings returns the mappings as they are typed.
func (c *Copy) MappingStrings() []string {
	out := make([]string, len(c.Mappings))
	for i, m := range c.Mappings {
		out[i] = m.String()
	}
	return out
}

// Of is what holds for the i-th mapping.
func (c *Copy) Of(i int) Mapped {
	if m, ok := c.Own[i]; ok {
		return m
	}
	return c.Mapped
}

// AnswersWhole says whether production's answers are captured whole, or may be: they are read then.
func (c *Copy) AnswersWhole() bool { return c.Both || c.From.Remote() }

// Targets are the targets of all mappings, each once.
func (c *Copy) Targets() (all []netip.AddrPort) {
	for _, m := range c.Mappings {
		for _, t := range m.Targets {
			if !slices.Contains(all, t.Addr) {
				all = append(all, t.Addr)
			}
		}
	}
	return all
}

func defaultCopy() Copy {
	return Copy{
		Settings: way.Settings{
			Via: ViaSocket, SYN: way.SYNClient, Congestion: way.AutoCongestion, Connections: 1,
			Mark: DefaultMark, ConnectTimeout: 10 * time.Second,
		},
		Mapped: Mapped{
			Health: HealthAuto, Copies: 1, SamplePercent: 100, SampleBy: BySession, Wait: WaitAuto, Proto: ProtoAuto, SessionMemory: 32 * mega,
			GateLimit: 30 * time.Second, SessionTimeout: 120 * time.Second, KeepaliveTimeout: 2 * time.Hour,
		},
		Memory: 512 * mega, MaxSessions: 262144, Ring: 16 * mega,
		Drain: 5 * time.Second,
		Stats: 10 * time.Second,
	}
}
