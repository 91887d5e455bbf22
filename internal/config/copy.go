package config

import (
	"net/netip"
	"slices"
	"time"

	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/proto/known"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/way"
)

// DefaultPort is the port that an intercept listens on.
const DefaultPort = 36524

// DefaultMark is the mark (SO_MARK) of the copier's own packets, which the capture filter leaves
// out.
const DefaultMark = 0x7c0b1e5

// Via is the name of the way in which copies reach the target.
type Via = string

// The ways whose options are checked here.
const (
	ViaSocket Via = "socket" // kernel TCP connections from the copier
	ViaRaw    Via = "raw"    // TCP of this program, from the clients' addresses
	ViaTunnel Via = "tunnel" // kernel TCP connections on the target, from the clients' addresses
)

// Wait tells how the gate finds that an answer has ended, if no protocol's reader does.
type Wait string

// The gate's modes.
const (
	WaitAuto  Wait = "auto"  // by the predicted number of bytes if there is one, else by silence
	WaitBytes Wait = "bytes" // by the predicted number of bytes, or the limit
	WaitQuiet Wait = "quiet" // by silence alone
	WaitNone  Wait = "none"  // not at all: turns go when they come
)

// Health tells whether targets that do not answer are taken out for a while.
type Health string

// The words of --health.
const (
	HealthAuto Health = "auto" // on, unless every session goes to every target
	HealthOn   Health = "on"
	HealthOff  Health = "off"
)

// SampleBy tells what --sample chooses.
type SampleBy string

// The words of --sample-by.
const (
	BySession SampleBy = "session" // connections
	ByClient  SampleBy = "client"  // clients, with all their connections
)

// Mapped holds the settings that may differ from mapping to mapping.
type Mapped struct {
	Balance       balance.Method
	Health        Health
	Copies        float64       // of every session, 1 or more
	Stagger       time.Duration // between one copy of a session and the next
	SamplePercent float64       // of sessions: above 0, up to 100
	SampleBy      SampleBy
	Ramp          time.Duration  // from the first sessions to all of the sample; 0: at once
	Only, Except  []netip.Prefix // networks of clients to copy (empty: all), and to leave out
	MaxRate       float64        // new sessions a second, each copy counted; 0: no bound
	MaxMbps       float64        // megabits a second from clients, each copy counted; 0: no bound
	Wait          Wait
	Proto         Proto
	Protocols     known.Settings // the options that protocols bring
	WholeSessions bool           // do not adopt connections found under way
	RTT           time.Duration  // the round-trip time to assume at first; 0: not given
	// Against is the old version's server, which gets a copy of each session as well, so that the
	// targets' answers can be compared with its; invalid: none.
	Against netip.AddrPort

	SessionMemory    int64         // bytes of one session; 0: half of its shard's memory
	GateLimit        time.Duration // a turn waits this long for an answer
	HoldTarget       time.Duration // for how long a request waits for a target that is away
	SessionTimeout   time.Duration // the target may owe an answer or an acknowledgment this long
	KeepaliveTimeout time.Duration // a session may be idle this long

	Warnings []string // about the files that its options name, for the user
}

// Checked reports whether the mapping's targets are taken out when they do not answer.
func (m *Mapped) Checked() bool {
	return m.Health == HealthOn || m.Health == HealthAuto && m.Balance != balance.All
}

// Copy holds the settings of tcpcopy copy and tcpcopy replay. They are consistent: a field that
// does not apply to the way in Via has its zero value.
type Copy struct {
	// Where.
	From       From
	Replay     *Replay           // of FromFile; nil: the traffic is live
	Mappings   []mapping.Mapping // at least one
	Interfaces []string          // to capture on; empty: all
	Filter     filter.Expr       // nil: none
	way.Settings

	// How.
	Mapped                 // for mappings that are not in Own
	Own     map[int]Mapped // for single mappings, by their index
	Both    bool           // capture the server's packets whole, too (FromHost)
	Shards  int            // 0: as the cores allow
	Compare Compare

	// Bounds.
	Memory      int64 // bytes of all sessions
	MaxSessions int
	Ring        int64         // bytes of the capture ring
	Drain       time.Duration // time for sessions to end when the copier stops

	// Output.
	Stats  time.Duration // between two lines of statistics; 0: none
	Report string        // path of the JSON report; empty: none
	HTML   string        // path of the page that is written at the end; empty: none
	Live   bool          // show a view in the terminal
	Process
}

// Process holds the settings that every daemon has.
type Process struct {
	LogFile string // empty: stderr
	PIDFile string // empty: none
	Daemon  bool   // detach from the terminal
	Status  string // serves the state: a path or IP:PORT; empty: the default; or StatusOff
	Web     Web
	Check   Check // whether it looks for faults of this host at start
	// User is whom the daemon becomes once everything is open; nil: it stays who it is.
	User *sys.User
	// KeepPrivileges keeps capabilities and all system calls.
	KeepPrivileges bool
}

// Check says whether a daemon looks for faults of its host when it starts.
type Check string

// The words of --check. An empty Check is CheckOn.
const (
	CheckOn  Check = "on"
	CheckOff Check = "off"
)

// StatusOff is the Process.Status of a daemon that does not serve its state.
const StatusOff = "off"

// MappingStrings returns the mappings as they are typed.
func (c *Copy) MappingStrings() []string {
	out := make([]string, len(c.Mappings))
	for i, m := range c.Mappings {
		out[i] = m.String()
	}
	return out
}

// Of returns the settings of the i-th mapping.
func (c *Copy) Of(i int) Mapped {
	if m, ok := c.Own[i]; ok {
		return m
	}
	return c.Mapped
}

// AnswersWhole reports whether production's answers are, or may be, captured whole, so that they
// are read.
func (c *Copy) AnswersWhole() bool { return c.Both || c.From.Remote() }

// TargetsOf returns the targets of the i-th mapping, and the old version's server.
func (c *Copy) TargetsOf(i int) (all []netip.AddrPort) {
	for _, t := range c.Mappings[i].Targets {
		all = append(all, t.Addr)
	}
	if a := c.OldVersion(i); a.IsValid() {
		all = append(all, a)
	}
	return all
}

// OldVersion returns the old version's server of the i-th mapping; it is invalid if there is none,
// or answers are not compared.
func (c *Copy) OldVersion(i int) netip.AddrPort {
	if !c.Compare.On {
		return netip.AddrPort{}
	}
	return c.Of(i).Against
}

// Targets returns the targets of all mappings, and the old versions' servers, each once.
func (c *Copy) Targets() (all []netip.AddrPort) {
	for i := range c.Mappings {
		for _, a := range c.TargetsOf(i) {
			if !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	return all
}

// OldVersions returns the old versions' servers.
func (c *Copy) OldVersions() (all []netip.AddrPort) {
	for i := range c.Mappings {
		if a := c.OldVersion(i); a.IsValid() {
			all = append(all, a)
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
			Health: HealthAuto, Copies: 1, SamplePercent: 100, SampleBy: BySession, Wait: WaitAuto,
			Proto:     ProtoAuto,
			Protocols: known.NewSettings(),
			GateLimit: 30 * time.Second, SessionTimeout: 120 * time.Second,
			KeepaliveTimeout: 2 * time.Hour,
		},
		Memory: 512 * mega, MaxSessions: 262144, Ring: 32 * mega,
		Drain: 5 * time.Second,
		Stats: 10 * time.Second,
	}
}
