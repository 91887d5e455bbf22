package way

import (
	"net/netip"
	"time"

	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/way/link/key"
)

// Settings are what users set of the ways. Each way takes what concerns it; a field that the
// chosen way has no use for has its zero value.
type Settings struct {
	Via      string   // the way's name
	LearnWay bool     // Via was not given: raw, unless the intercept offers the tunnel
	RawOnly  []string // with LearnWay: options that were given and that the tunnel has no use for

	// Where.
	Intercepts []netip.AddrPort // of raw and tunnel: at least one
	// addresses that replace all clients' (raw, tunnel); nil: none do
	Clients       *mapping.Pool
	LocalhostAs   netip.Addr // replaces a loopback client's (raw, tunnel); invalid: none does
	ProxyProtocol int        // version of the PROXY protocol header (socket); 0: none
	// local addresses to connect from (socket); empty: the kernel's choice
	Bind         []netip.Addr
	OutputDevice string // to send on at the link layer (raw); empty: by the routes

	// How.
	PortShift   int  // added to the source ports (raw, tunnel)
	Lonely      bool // go on without an intercept (raw, tunnel)
	MTU, MSS    int  // bytes, of the path to the target (raw); 0: as the kernel knows it
	SYN         SYN
	Congestion  Congestion
	Connections int    // to each intercept (raw, tunnel)
	Mark        uint32 // of our packets; 0: none

	// Trust.
	Key      *key.Key // nil: links are in the clear
	Insecure bool     // the user wants them in the clear

	ConnectTimeout time.Duration // of an attempt to connect to a target
	// SendTimeout is how long a target may leave bytes unacknowledged.
	SendTimeout time.Duration
}

// SYN is which options the raw way's SYN offers.
type SYN string

// The values of SYN.
const (
	SYNClient  SYN = "client"  // what the real client offered
	SYNFull    SYN = "full"    // MSS, SACK, timestamps, window scale
	SYNMinimal SYN = "minimal" // MSS alone
)

// Congestion is the congestion control of the raw way.
type Congestion string

// The values of Congestion.
const (
	AutoCongestion Congestion = "auto" // what this host's kernel uses for its own connections
	BBR            Congestion = "bbr"
	Cubic          Congestion = "cubic" // RFC 9438
	Reno           Congestion = "reno"  // RFC 5681
)
