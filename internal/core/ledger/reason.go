package ledger

import "fmt"

// Reason says why a session, or bytes of one, did not arrive at the target.
type Reason uint8

// The reasons. None is the absence of one: what has it was delivered.
const (
	None              Reason = iota
	SampledOut               // not chosen by --sample
	Filtered                 // excluded by a filter
	TLS                      // an encrypted stream: its bytes mean nothing to another server
	CaptureGap               // bytes were lost on the way to us and will not come again
	NoSYN                    // under way when the copier started, and not adopted
	GateTimeout              // the target never began the answer that the next turn waits for
	TargetReset              // the target reset the connection
	TargetRefused            // the target refused the connection
	TargetClosed             // the target closed while the client still had bytes to send
	ConnectTimeout           // the target did not answer the connection attempt
	SendTimeout              // the target stopped acknowledging
	OverMemory               // the memory bound was reached
	OverSessions             // the session bound was reached
	OverSession              // one session held more than it may
	NoSourceAddress          // no free address and port to connect from
	LinkDown                 // no link to an intercept
	LinkError                // packets could not be sent
	IdleTimeout              // neither side said anything for the session timeout
	Replaced                 // the client opened a new connection from the same port
	Shutdown                 // the copier stopped before the session was drained
	BadClientAddress         // no connection can come from the client's address
	TupleTaken               // the client's address and port are in use towards the target
	TargetForbidden          // the intercept does not allow the target
	TargetUnreachable        // the target's server cannot be reached from the client's address
	Denied                   // a request that is not to reach the target
	ProtoLost                // the client's bytes could not be followed, and the copy's are of our making
	TargetOut                // the target is taken out for a while, or was removed from its mapping
	OverRate                 // more new sessions a second than --max-rate
	OverBandwidth            // more traffic than --max-mbps
	NoLogin                  // no login is configured for the client's user
	LoginFailed              // the target refused the copy's login
	Compressed               // a compressed stream, which is not read
	ReadOnly                 // a statement that may write, where only others are wanted
	UnknownStatement         // a prepared statement that is not there at the target
	LoadData                 // a statement that loads a file
	ServerCommand            // a command to production's server itself: replication, the end of another's connection
	QueryAttributes          // a query with attributes, of which the target knows nothing
	numReasons
)

var reasonNames = [numReasons]string{
	None: "delivered", SampledOut: "sampled_out", Filtered: "filtered", TLS: "tls", CaptureGap: "capture_gap",
	NoSYN: "no_syn", GateTimeout: "gate_timeout", TargetReset: "target_reset", TargetRefused: "target_refused",
	TargetClosed: "target_closed", ConnectTimeout: "connect_timeout", SendTimeout: "send_timeout",
	OverMemory: "over_memory", OverSessions: "over_sessions", OverSession: "over_session",
	NoSourceAddress: "no_source_address", LinkDown: "link_down", LinkError: "link_error",
	IdleTimeout: "idle_timeout", Replaced: "replaced", Shutdown: "shutdown",
	BadClientAddress: "bad_client_address", TupleTaken: "tuple_taken", TargetForbidden: "target_forbidden",
	TargetUnreachable: "target_unreachable", TargetOut: "target_out", OverRate: "over_rate", OverBandwidth: "over_bandwidth", ProtoLost: "proto_lost",
	Denied: "denied", NoLogin: "no_login", LoginFailed: "login_failed", Compressed: "compressed", ReadOnly: "read_only",
	UnknownStatement: "unknown_statement", LoadData: "load_data", ServerCommand: "server_command",
	QueryAttributes: "query_attributes",
}

// String is the reason's name in summaries, reports and metrics.
func (r Reason) String() string {
	if r < numReasons {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason_%d", uint8(r))
}

// ReasonNamed finds a reason by its name; false where there is none of that name.
func ReasonNamed(name string) (Reason, bool) {
	for i, n := range reasonNames {
		if n == name {
			return Reason(i), true
		}
	}
	return None, false
}

// Reasons lists every reason but None, in the order of their values.
func Reasons() []Reason {
	all := make([]Reason, 0, numReasons-1)
	for r := None + 1; r < numReasons; r++ {
		all = append(all, r)
	}
	return all
}
