package ledger

import "fmt"

// Reason tells why a session, bytes of one, or a request did not reach the target. The constants
// are the reasons that every protocol shares; a protocol defines its own with DefineReason.
type Reason uint8

// The reasons. None stands for no reason: what has it was delivered.
const (
	None Reason = iota
	SampledOut
	Filtered
	TLS
	CaptureGap
	NoSYN
	GateTimeout
	TargetReset
	TargetRefused
	TargetClosed
	ConnectTimeout
	SendTimeout
	OverMemory
	OverSessions
	OverSession
	NoSourceAddress
	LinkDown
	LinkError
	IdleTimeout
	Replaced
	Shutdown
	BadClientAddress
	TupleTaken
	TargetForbidden
	TargetUnreachable
	Denied
	ProtoLost
	TargetOut
	OverRate
	OverBandwidth
	numReasons // of those that every protocol shares
)

// MaxReasons bounds the reasons, None and those of protocols included.
const MaxReasons = 64

// ByReason counts for each Reason.
type ByReason [MaxReasons]uint64

// reasons holds the name and the meaning of each reason, in the order in which reports show them.
var reasons = terms{most: MaxReasons, list: []term{
	None:       {name: "delivered"},
	SampledOut: {name: "sampled_out", meaning: "left out by --sample or --ramp", onRequest: true},
	Filtered:   {name: "filtered", meaning: "left out by --only or --except", onRequest: true},
	TLS:        {name: "tls", meaning: "encrypted: another server cannot decrypt these bytes"},
	CaptureGap: {name: "capture_gap",
		meaning: "packets were lost before they reached the copier, and were not sent again"},
	NoSYN: {name: "no_syn", meaning: "already open when the copier started, and not adopted"},
	GateTimeout: {name: "gate_timeout",
		meaning: "the target did not begin the answer that the client's next request waits for"},
	TargetReset: {name: "target_reset", meaning: "the target reset the connection"},
	TargetRefused: {name: "target_refused", meaning: "the target refused the connection: " +
		"nothing listens there"},
	TargetClosed: {name: "target_closed", meaning: "the target closed while the client was " +
		"still sending"},
	ConnectTimeout: {name: "connect_timeout", meaning: "the target did not answer the " +
		"connection attempt, or no route leads to it"},
	SendTimeout: {name: "send_timeout", meaning: "the target stopped acknowledging"},
	OverMemory:  {name: "over_memory", meaning: "the memory bound was reached (-m)"},
	OverSessions: {name: "over_sessions", meaning: "the bound on sessions was reached " +
		"(--max-sessions)"},
	OverSession: {name: "over_session", meaning: "the session reached its memory bound " +
		"(--session-memory)"},
	NoSourceAddress: {name: "no_source_address",
		meaning: "no free address and port to connect from, or no address of --bind belongs to " +
			"this host"},
	LinkDown:  {name: "link_down", meaning: "no link to an intercept"},
	LinkError: {name: "link_error", meaning: "the kernel refused to send the packets"},
	IdleTimeout: {name: "idle_timeout", meaning: "neither side sent anything for the session " +
		"timeout (-t, -k)"},
	Replaced: {name: "replaced", meaning: "the client opened a new connection from the same " +
		"port"},
	Shutdown: {name: "shutdown", meaning: "the copier stopped before the session had ended"},
	BadClientAddress: {name: "bad_client_address",
		meaning: "nothing can connect from the client's address: loopback, the target's own, " +
			"broadcast …"},
	TupleTaken: {name: "tuple_taken", meaning: "the client's address and port are in use at the " +
		"target"},
	TargetForbidden: {name: "target_forbidden",
		meaning: "the intercept lets copiers connect only to its own host (with --netns: to the " +
			"container), and only to the ports of --allow"},
	TargetUnreachable: {name: "target_unreachable",
		meaning: "the target cannot be reached from the client's address: the intercept's log " +
			"gives the error"},
	Denied: {name: "denied", meaning: "requests that an option keeps from the target",
		onRequest: true},
	ProtoLost: {name: "proto_lost", meaning: "the protocol could not be followed, so the copy " +
		"could not be rewritten"},
	TargetOut: {name: "target_out",
		meaning: "the target was taken out for a while (--health), or is no longer in its " +
			"mapping"},
	OverRate: {name: "over_rate", meaning: "more new sessions a second than --max-rate",
		onRequest: true},
	OverBandwidth: {name: "over_bandwidth", meaning: "more traffic than --max-mbps",
		onRequest: true},
}}

// DefineReason adds a reason of a protocol. name is its key in reports: lower case, with
// underscores. meaning explains it to a user in a few words. onRequest reports whether an option
// asks for what is dropped, so that it is no loss. It is called while packages are initialised,
// and panics if the name is taken or there are MaxReasons.
func DefineReason(name, meaning string, onRequest bool) Reason {
	return Reason(reasons.define(term{name, meaning, onRequest}))
}

// String returns the reason's name in summaries, reports and metrics.
func (r Reason) String() string {
	if int(r) < len(reasons.list) {
		return reasons.list[r].name
	}
	return fmt.Sprintf("reason_%d", uint8(r))
}

// Meaning explains the reason in a few plain words; empty for None and for a reason that is not
// defined.
func (r Reason) Meaning() string {
	if int(r) < len(reasons.list) {
		return reasons.list[r].meaning
	}
	return ""
}

// OnRequest reports whether the user has asked for what is dropped for this reason: it is no loss.
func (r Reason) OnRequest() bool { return int(r) < len(reasons.list) && reasons.list[r].onRequest }

// ReasonNamed returns the reason with that name; false if there is none.
func ReasonNamed(name string) (Reason, bool) {
	i := reasons.index(name)
	return Reason(max(i, 0)), i >= 0
}

// Reasons returns every reason but None, in the order in which reports show them.
func Reasons() []Reason {
	all := make([]Reason, 0, len(reasons.list)-1)
	for i := range reasons.list[1:] {
		all = append(all, Reason(i+1))
	}
	return all
}
