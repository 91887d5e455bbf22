package config

import (
	"net/netip"
	"time"

	"tcpcopy/internal/filter"
	"tcpcopy/internal/key"
	"tcpcopy/internal/mapping"
)

// DefaultPort is where an intercept listens.
const DefaultPort = 36524

// DefaultMark is the mark (SO_MARK) of our own packets, which the capture filter leaves out.
const DefaultMark = 0x7c0b1e5

// Via is how copies reach the target.
type Via string

// The ways that this version has.
const (
	ViaSocket Via = "socket" // kernel TCP connections from the copier
	ViaRaw    Via = "raw"    // our own TCP, from the clients' addresses
	ViaTunnel Via = "tunnel" // kernel TCP connections that an intercept opens on the target, from the clients' addresses
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

// SYN is which options the raw way's SYN offers.
type SYN string

// What a SYN mirrors.
const (
	SYNClient  SYN = "client"  // what the real client offered
	SYNFull    SYN = "full"    // MSS, SACK, timestamps, window scale
	SYNMinimal SYN = "minimal" // MSS alone
)

// Congestion is the congestion control of the raw way.
type Congestion string

// The congestion controls.
const (
	Reno  Congestion = "reno"  // RFC 5681
	Cubic Congestion = "cubic" // RFC 9438
)

// Copy is what tcpcopy copy is to do. Its parts agree with each other: a field that the way in Via has
// no use for has its zero value.
type Copy struct {
	// Where.
	Mappings      []mapping.Mapping // at least one
	Via           Via
	LearnWay      bool             // Via was not said: raw, unless the intercept offers the tunnel
	RawOnly       []string         // with LearnWay: options given that the tunnel has no use for
	Intercepts    []netip.AddrPort // of raw and tunnel: at least one
	Clients       *mapping.Pool    // addresses that stand in for all clients' (raw); nil: their own
	LocalhostAs   netip.Addr       // stands in for a loopback client (raw); invalid: none
	ProxyProtocol int              // 0 (none), 1 or 2 (socket)
	Bind          []netip.Addr     // local addresses to connect from (socket); empty: the kernel chooses
	Interfaces    []string         // to capture on; empty: all
	Filter        filter.Expr      // nil: none
	OutputDevice  string           // to send on at link layer (raw); empty: by the routes

	// How.
	Copies        int           // of every session, 1 or more
	PortShift     int           // added to the source ports (raw)
	SamplePercent float64       // of sessions, above 0 to 100
	Ramp          time.Duration // from the first sessions to all of the sample; 0: at once
	Wait          Wait
	WholeSessions bool          // no adoption
	Lonely        bool          // go on without an intercept (raw)
	RTT           time.Duration // the round trip to assume; 0: not given
	MTU, MSS      int           // of the path to the target (raw); 0: found out
	SYN           SYN
	Congestion    Congestion
	Connections   int // to each intercept (raw, tunnel)
	Shards        int // 0: as the cores allow
	Mark          uint32

	// Trust (raw, tunnel).
	Key      *key.Key // nil: the link is in the clear
	Insecure bool     // known and wanted to be in the clear

	// Bounds.
	Memory           int64 // bytes, of all sessions
	MaxSessions      int
	SessionMemory    int64         // bytes, of one session
	Ring             int64         // bytes, of the capture ring
	GateLimit        time.Duration // that a turn waits for an answer
	SessionTimeout   time.Duration // that the target may owe an answer or an acknowledgment
	KeepaliveTimeout time.Duration // that a session may lie idle
	ConnectTimeout   time.Duration
	Drain            time.Duration // that sessions get to end in when the copier stops

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
}

// MappingStrings returns the mappings as they are typed.
func (c *Copy) MappingStrings() []string {
	out := make([]string, len(c.Mappings))
	for i, m := range c.Mappings {
		out[i] = m.String()
	}
	return out
}

func defaultCopy() Copy {
	return Copy{
		Via: ViaSocket, Copies: 1, SamplePercent: 100, Wait: WaitAuto, SYN: SYNClient, Congestion: Cubic,
		Connections: 1, Mark: DefaultMark,
		Memory: 512 * mega, MaxSessions: 262144, SessionMemory: 32 * mega, Ring: 16 * mega,
		GateLimit: 30 * time.Second, SessionTimeout: 120 * time.Second, KeepaliveTimeout: 2 * time.Hour,
		ConnectTimeout: 10 * time.Second, Drain: 5 * time.Second,
		Stats: 10 * time.Second,
	}
}
