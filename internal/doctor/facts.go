package doctor

import (
	"net/netip"
	"slices"
	"time"
)

// Facts is what is known of a host, and of the copy that it takes part in. A part that is not known
// is nil, or its Err says why.
type Facts struct {
	Role Role
	Via  string // socket, raw or tunnel; of a target: tunnel for an intercept there, else raw
	// Program is the path of this program. Args are the words of the command line that is examined,
	// without the program; Extra are those of them that are no options.
	Program string
	Args    []string
	Extra   []string
	Watched time.Duration // how long the census was; 0: there was none

	Needs      []Need
	Interfaces []Interface
	CaptureOn  []string // -i; empty: all
	Filter     string   // -F; empty: none
	Remote     bool     // the packets come from elsewhere: nothing is captured here
	// FilterEmpty reports that no packet of the mappings, or no answer, can match the filter.
	FilterEmpty bool
	Mirror      *Mirror // from which they come, if it is one over UDP
	From        string  // the kind of source, if they come from elsewhere: vxlan, mirror, agent …
	Mappings    []Mapping
	StandsIn    bool // -c or -H replaces loopback clients' addresses
	LocalStands []netip.Addr
	Census      *Census
	Listeners   *Listeners
	Running     *Running

	Targets   []TargetFacts
	Conntrack *Conntrack
	Firewall  []Verdict
	Links     []LinkFacts
	// LinkQueues are the connections that links have on this host.
	LinkQueues    []LinkQueue
	LinkQueuesErr string // why they are not known

	Forwarding      []string // sysctls that have this host forward packets
	ForwardingErr   string   // why they are not known
	AllowForwarding bool
	// Ports are those of the servers on a target. An assistant may know none.
	Ports        []uint16
	ReturnRoutes []ReturnPath // of a target, to clients
	Counters     *Counters    // of a target, over the census
	SYNCookies   int          // tcp_syncookies of a target
	// PassedOn are the ports of a target, or of -x, whose connections a rule passes on to another
	// address, as to a container.
	PassedOn []PassedOn
	// NoForwarding are the sysctls that keep a target from passing packets on.
	NoForwarding []string

	// Evidence holds texts for a bug report, by the name of a file.
	Evidence map[string]string `json:"-"`
}

// Need is a capability that the command needs.
type Need struct {
	Capability string
	For        string
	Has        bool
	Way        string // by which copies reach the target, if it is needed in one way only
}

// Interface is a network interface of this host.
type Interface struct {
	Name     string
	Up       bool // set up, and with a carrier
	Loopback bool
	MTU      int
	// ReversePath is the effective rp_filter of IPv4: 0 off, 1 strict, 2 loose.
	ReversePath int
	// Over are the interfaces that its packets pass through, too: the ports of a bridge or a bond,
	// and the parent of a VLAN.
	Over []string
}

// PassedOn is a port of this host whose connections a rule passes on.
type PassedOn struct {
	Port  uint16
	V6    bool           // connections over IPv6
	To    netip.AddrPort // an invalid address, and port 0: not known
	Local bool           // to another port of this host
	Rule  string         // in words
}

// Mapping is one -x.
type Mapping struct {
	Text       string
	Production netip.AddrPort // an invalid address: any of this host's
	Local      bool           // the address is this host's, or none is named
}

// Census counts the TCP packets that this host's interfaces saw, without any filter of the user's.
type Census struct {
	Err     string // why there is none
	Packets int
	Dropped int // that the census itself lost
	Flows   []Flow
	Errors  []ICMP
	// Translated are the servers whose packets this host passes on to another address.
	Translated []Translation
}

// Translation is a server whose SYNs this host passes on: the same SYN was seen with another
// destination later.
type Translation struct {
	Before, After netip.AddrPort
	Local         bool // Before is an address of this host
	SYNs          int
}

// Flow counts the packets to or from one address and port of a server on one interface.
type Flow struct {
	Interface  string
	Loopback   bool // the interface is a loopback interface
	Server     netip.AddrPort
	FromServer bool // packets from the server; else to it
	Outgoing   bool // packets that this host sends
	Packets    int
	SYNs       int // SYN to the server, or SYN-ACK from it
	Passed     int // packets that the user's filter accepts
	TLS, Plain int // packets of clients with payload that is TLS, and that is not
	Clients    []netip.Addr
	Local      bool // the packets' destination is this host
}

// Mirror counts what a mirror sends to this host over UDP.
type Mirror struct {
	Listen    netip.AddrPort // where the copy expects it
	Packets   int            // to that port
	Elsewhere int            // of mirrors, to ElsewherePort
	// ElsewherePort is the usual port of the other encapsulation, or of this one.
	ElsewherePort uint16
	Inner         int            // TCP packets within
	Ours          int            // of these, to or from a production address of -x
	OtherNetwork  int            // of virtual networks that --vni leaves out
	Network       uint32         // one of these
	Busiest       netip.AddrPort // server of most others
	BusiestCount  int
	Cut           int // packets whose end is missing
}

// Agent is one that sends packets to the copier that runs here.
type Agent struct {
	Name    string
	Up      bool
	Packets uint64
	Error   string
}

// ICMP is an error message about a packet to a target.
type ICMP struct {
	From   netip.Addr
	About  netip.AddrPort
	Reason string
}

// to returns the sum of the packets to a mapping's production address on the given interfaces; on
// all for none.
func (c *Census) to(m *Mapping, interfaces []string) (sum Flow) {
	for i := range c.Flows {
		w := &c.Flows[i]
		if w.FromServer || w.Server.Port() != m.Production.Port() {
			continue
		}
		a := m.Production.Addr()
		if w.Outgoing && (w.Loopback || !a.IsValid()) { // what is passed on to a named address is
			continue // copied, too
		}
		if a.IsValid() && a != w.Server.Addr() || !a.IsValid() &&
			!w.Local {
			continue
		}
		if len(interfaces) > 0 && !slices.Contains(interfaces, w.Interface) {
			continue
		}
		sum.Packets += w.Packets
		sum.SYNs += w.SYNs
		sum.Passed += w.Passed
		sum.TLS += w.TLS
		sum.Plain += w.Plain
		sum.Clients = append(sum.Clients, w.Clients...)
		if sum.Interface == "" {
			sum.Interface = w.Interface
		}
		sum.Loopback = sum.Loopback || w.Loopback
	}
	return sum
}

// Listeners are the TCP servers of this host.
type Listeners struct {
	Err   string
	All   []Listener
	Other []Listener // in other network namespaces
	// Namespaces are these.
	Namespaces []Namespace
	// OtherErr is why the other namespaces are not known.
	OtherErr string
}

// Listener is a listening socket.
type Listener struct {
	Addr    netip.AddrPort
	Device  string     // it is bound to this interface
	Queue   int        // connections that wait to be accepted
	Backlog int        // as many may
	PID     int        // of a process in the namespace; 0: this namespace
	Host    netip.Addr // an address of the namespace, if it is another
}

// Namespace is another network namespace on this host, as of a container.
type Namespace struct {
	PID   int // of a process in it
	Addrs []netip.Addr
}

// at returns the namespace that has an address, and its listening sockets of a port; false if there
// is none.
func (l *Listeners) at(to netip.AddrPort) (n Namespace, all []Listener, known bool) {
	i := slices.IndexFunc(l.Namespaces, func(n Namespace) bool {
		return slices.Contains(n.Addrs, to.Addr())
	})
	if i < 0 {
		return n, nil, false
	}
	n = l.Namespaces[i]
	for _, s := range l.Other {
		if s.PID == n.PID && s.Addr.Port() == to.Port() {
			all = append(all, s)
		}
	}
	return n, all, true
}

// on returns the listening sockets of a port in this namespace.
func (l *Listeners) on(port uint16) (all []Listener) {
	for _, s := range l.All {
		if s.Addr.Port() == port {
			all = append(all, s)
		}
	}
	return all
}

// Running is the account of the copiers that run beside the doctor, with the same mappings.
type Running struct {
	Offered, KernelDrop uint64
	Sessions            uint64            // captured
	Dropped             map[string]uint64 // sessions, by reason
	LoginsRefused       map[string]uint64 // by the target's error
	Agents              []Agent
}

// share returns how many of the copiers' sessions were dropped for a reason, and whether that is
// one in ten or more.
func (r *Running) share(reason string) (dropped uint64, many bool) {
	n := r.Dropped[reason]
	return n, n*10 >= r.Sessions && n > 0
}

// Outcome is how an attempt to connect ended.
type Outcome string

// The outcomes.
const (
	Connected   Outcome = "connected"
	Refused     Outcome = "refused"
	TimedOut    Outcome = "no answer"
	Unreachable Outcome = "host unreachable"
	NoRoute     Outcome = "no route"
	Forbidden   Outcome = "forbidden"
	Failed      Outcome = "failed"
)

// Attempt is an attempt to connect from this host's own address.
type Attempt struct {
	Outcome Outcome
	Err     string
	After   time.Duration
	Closed  bool // the target closed at once, before it was sent anything
}

// Route is how packets leave for an address.
type Route struct {
	Err     string
	Device  string
	Gateway netip.Addr // invalid: on link
	Source  netip.Addr
	// Refuses is the route that says that there is none, as ip names it: "unreachable 10.0.0.2".
	Refuses string
}

// TargetFacts is what is known of a target from the copier.
type TargetFacts struct {
	Addr      netip.AddrPort
	Connect   *Attempt // nil: not tried
	Route     Route
	Neighbour string // state of the next hop's link address: failed, reachable, …
	Local     bool   // the address is this host's
	MTU       int    // of the path, as far as the kernel knows
	Ping      *Ping
	Probe     *Probe // nil: none was sent
}

// Probe is what became of SYNs with a client's address, and what the hosts on the way have found
// about themselves meanwhile.
type Probe struct {
	Client    netip.Addr // that the SYNs came from; no host has it
	Err       string     // why nothing is known
	Outside   ProbeCount // that this host sent
	Inside    ProbeCount // that the intercept sent, in the target's network
	InsideErr string     // why the intercept sent none
	Answerer  netip.Addr // that answered, if it is not the target
	// Witnessed reports that the doctor on the target has told what it saw: what Arrived and Left,
	// and Source, from which SYNs came there, if not from Client.
	Witnessed bool
	Source    netip.Addr
	// AtIntercept and AtTarget were found on these hosts.
	AtIntercept, AtTarget []Finding
}

// ProbeCount counts SYNs, and answers to them.
type ProbeCount struct {
	Sent, Arrived  int // SYNs
	Left, Answered int // SYN-ACKs that left the target, and that the intercept saw
}

// Ping is what echoes of several sizes found.
type Ping struct {
	Err      string
	Small    int // answers of the small ones
	Sent     int // of each size
	Full     int // answers of those as large as MTU
	Largest  int // size of the largest packet that was answered, in bytes with the IP header
	Smallest int // size of the small ones
}

// Conntrack is how full the connection tracking table is.
type Conntrack struct {
	Count, Max int
}

// Verdict is what a firewall does with a packet, as far as its rules can be read.
type Verdict struct {
	About  string // which packet: "to 10.0.0.2:8080"
	Hook   string // input, output
	Action string // accept, drop, reject, unknown
	Rule   string // the rule, or the policy, that decides: "inet filter input, handle 7"
	Hits   int    // packets that the rule counted during the examination; -1: it has no counter
	Accept string // command that accepts these packets before the rule
	Err    string // why Action is unknown
}

// LinkFacts is what came of connecting to an intercept or to a copier.
type LinkFacts struct {
	Addr      netip.AddrPort
	Outcome   Outcome
	Err       string
	Key       string // what is wrong with the key; empty: nothing
	Version   bool   // the other side speaks another version
	HasKey    bool   // a key was given here
	Way       string // that it offers
	Software  string // its version
	Probes    bool   // it takes part in examinations
	Forbidden []netip.AddrPort
}

// LinkQueue is a connection of a link.
type LinkQueue struct {
	Peer    netip.AddrPort
	RTT     time.Duration
	Waiting int // bytes that were sent, and are not acknowledged
}

// ReturnPath is the route of a target's answers to a client.
type ReturnPath struct {
	Client    netip.Addr
	Port      uint16
	Route     Route
	Assistant netip.Addr // through which it should lead; invalid: not known
	Arrives   string     // interface on which the client's packets come in; empty: not known
	Arrived   bool       // a SYN of the client was seen
}

// Counters are what the kernel counted during the census.
type Counters struct {
	ReversePath   int // IPReversePathFilter
	ListenDrops   int
	ListenFull    int // ListenOverflows
	SYNCookies    int // TCPReqQFullDoCookies
	SYNQueueDrops int // TCPReqQFullDrop
}

// device returns an interface by name.
func (f *Facts) device(name string) (Interface, bool) {
	for _, i := range f.Interfaces {
		if i.Name == name {
			return i, true
		}
	}
	return Interface{}, false
}
