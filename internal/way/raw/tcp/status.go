package tcp

import "time"

// State is a state of RFC 9293 §3.3.2.
type State uint8

// The states of a client. TIME-WAIT is not held: the connection is over at once (see AckFor).
const (
	StateClosed State = iota
	StateSynSent
	StateSynReceived
	StateEstablished
	StateFinWait1
	StateFinWait2
	StateCloseWait
	StateClosing
	StateLastAck
)

var stateNames = [...]string{
	"closed", "syn-sent", "syn-received", "established", "fin-wait-1", "fin-wait-2", "close-wait",
	"closing", "last-ack",
}

// String returns the state's name in lower case, as RFC 9293 spells it.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// states maps the phases to the states of the RFC.
var states = [...]State{
	phaseNew:         StateClosed,
	phaseReset:       StateClosed,
	phaseClosed:      StateClosed,
	phaseSynSent:     StateSynSent,
	phaseSynReceived: StateSynReceived,
	phaseEstablished: StateEstablished,
	phaseFinWait1:    StateFinWait1,
	phaseFinWait2:    StateFinWait2,
	phaseCloseWait:   StateCloseWait,
	phaseClosing:     StateClosing,
	phaseLastAck:     StateLastAck,
}

// Cause is why a connection ended, other than by the FINs of both sides.
type Cause uint8

// The causes.
const (
	CauseNone           Cause = iota
	CauseRefused              // RST in answer to the SYN
	CauseReset                // RST on the established connection
	CauseConnectTimeout       // no answer to the SYN in time
	CauseUserTimeout          // no progress in time while data was outstanding
	CauseAborted              // by Abort
)

var causeNames = [...]string{
	"none", "refused", "reset", "connect timeout", "user timeout", "aborted",
}

// String returns the cause in words.
func (e Cause) String() string {
	if int(e) < len(causeNames) {
		return causeNames[e]
	}
	return "unknown"
}

// Status is the state of a Conn after a Deliver or a Poll.
type Status struct {
	Acked    uint64        // bytes of our stream that the target has acknowledged
	Sent     uint64        // bytes of our stream that were sent at least once
	Received uint64        // bytes of the target's stream that arrived in order
	SRTT     time.Duration // smoothed round trip; 0: not measured
	RTO      time.Duration // retransmission timeout, without backoff
	// Retransmits counts segments that were sent again, including SYNs and probes that repeat data.
	Retransmits uint32
	// OldAckNumber is the sequence number that an old connection with the same addresses expects
	// from its client. It is valid if OldAck is set.
	OldAckNumber uint32
	State        State
	Err          Cause
	Established  bool // the handshake was completed; the connection may have ended since
	RemoteFIN    bool // the target has ended its direction, and all its bytes have arrived
	HasHole      bool // bytes of the target arrived out of order, and some before these are missing
	// OldAck reports that an old connection with the same addresses has answered our SYN with an
	// ACK (RFC 5961 §4). See FreeOldConnection.
	OldAck   bool
	SynWaits bool // a SYN is due and waits for Leave
	// Done reports that the connection is over and nothing is left to be sent. Poll need not be
	// called.
	Done bool
}

// Status returns the state of c.
func (c *Conn) Status() Status {
	st := Status{
		Acked:        c.acked(),
		Sent:         c.sentBytes(),
		Received:     c.received(),
		SRTT:         c.srtt,
		RTO:          c.rto(),
		Retransmits:  c.retrans,
		OldAckNumber: uint32(c.oldAck),
		State:        states[c.phase],
		Err:          c.cause,
		Established:  c.rcvNxt > 0,
		RemoteFIN:    c.remoteFIN(),
		HasHole:      len(c.ooo) > 0,
		OldAck:       c.old == oldAnswered,
		SynWaits:     c.syn == synHeld,
	}
	st.Done = c.phase == phaseClosed && c.ack == ackNone
	return st
}

// acked returns how many bytes of our stream the target has acknowledged.
func (c *Conn) acked() uint64 {
	if c.una == 0 {
		return 0
	}
	return min(c.una, c.released) - 1
}

// sentBytes returns how many bytes of our stream were sent.
func (c *Conn) sentBytes() uint64 {
	if c.nxt == 0 {
		return 0
	}
	return min(c.nxt, c.released) - 1
}

// received returns how many bytes of the target's stream have arrived in order.
func (c *Conn) received() uint64 {
	n := c.rcvNxt
	if n > 0 {
		n-- // the SYN
	}
	if c.remoteFIN() {
		n--
	}
	return n
}
