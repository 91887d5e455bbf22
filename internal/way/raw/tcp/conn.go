// Package tcp is a TCP client as a state machine: it sends a captured client's bytes to a target,
// and does nothing else.
//
// It implements RFC 9293 with 6298, 7323, 2018, 5681, 8985 and others, each named where it is
// followed, with differences that come from its place. Time is handed in, and segments go in and
// out as values: there is no socket, clock or goroutine. The target's segments arrive as headers
// (Len is set, Payload is empty), since nobody reads the answer's bytes: the receive window is
// always open, and every data segment is acknowledged at once. Sent bytes are views of the owner's
// record rather than a buffer of the Conn, and the client's segment boundaries are kept. An answer
// to the handshake that is not ours is ignored and never reset, since it may be another copier's.
//
// One owner calls a Conn: a shard, through its raw stream. It is not safe for concurrent use.
//
// The files, in the order of a connection's life: phase (the states), conn (the owner's calls), syn
// (the handshake), deliver (the checks of arriving segments), ack, sack, rack, recovery and undo
// (what an acknowledgment means), congestion, reno, cubic, bbr and bbrwindow (how much may be in
// flight), rate and maxfilter (what BBR measures), pace (when it is sent), rto (timers), rcv (the
// target's bytes), snd (what is sent), mtu, reset, status.
package tcp

import (
	"net/netip"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
)

// Source is what a Conn reads its bytes from: the session's record. View returns at most max bytes
// from the offset off on, which end where one of the client's segments ends, or nothing if there
// are none. A Conn keeps no view beyond the segments that one Poll returned.
type Source interface {
	View(off uint64, max int) []byte
}

// The algorithms of congestion control that a Config may select.
const (
	Reno  uint8 = iota // RFC 5681
	CUBIC              // RFC 9438
	BBR                // draft-cardwell-iccrg-bbr-congestion-control-00
)

// Config is how a Conn begins. Zero values stand for the defaults that are named.
type Config struct {
	Local  netip.AddrPort // the client's address, as the target sees it
	Remote netip.AddrPort // the target's address
	ISN    seqnum.Value   // initial sequence number; its low bits name the copier
	TSBase uint32         // timestamps are this plus the milliseconds since Open (RFC 7323 §5.4)
	Syn    packet.Options // the options of the SYN; its timestamps and SACK blocks are not used
	// SynWindow is the window in the SYN, in bytes; 0: 65535.
	SynWindow uint16
	// MaxSegment bounds a segment's payload, in bytes: the path's MTU less the headers, without TCP
	// options; 0: 1460 over IPv4, 1440 over IPv6.
	MaxSegment int
	// RcvWindow is the window that is advertised, in bytes; 0: 4 MB with window scaling, 65535
	// without.
	RcvWindow         uint32
	CongestionControl uint8 // Reno, CUBIC or BBR
	SynRetries        int   // retransmissions of the SYN before giving up; 0: 6
	// LeaveFrom is the number of the first SYN, counted from 1, that waits for the owner's Leave,
	// as all later ones do; 0: none waits.
	LeaveFrom uint8
	// ConnectTimeout is the time from Open to established; 0: as long as the retransmissions last.
	ConnectTimeout time.Duration
	// UserTimeout is the time without progress while data is outstanding (RFC 9293 §3.8.3); 0: 120
	// s.
	UserTimeout time.Duration
}

const (
	defaultSynRetries  = 6
	defaultUserTimeout = 120 * time.Second
	defaultRcvWindow   = 4 << 20
)

// Conn is one connection to the target. Init makes it ready. It must not be copied while in use.
//
// Positions (una, nxt, rcvNxt …) count sequence space in 64 bits from the initial sequence number:
// the SYN is at 0, the stream's first byte at 1, the FIN after the last byte. They do not wrap;
// only their sequence numbers do.
type Conn struct {
	src           Source
	local, remote netip.AddrPort

	// Set by Init and the handshake.
	opened                      mono.Time
	connectTimeout, userTimeout time.Duration
	isn, irs                    seqnum.Value
	tsBase                      uint32
	rcvWindow                   uint32 // bytes, a multiple of 1<<rcvShift once established
	maxSegment                  uint16 // the path's bound on a payload, without options
	peerMSS                     uint16 // the target's bound
	mtuBefore                   uint16 // maxSegment before a black hole was suspected; 0: none is
	mss                         uint16 // the largest payload of a segment
	synWindow                   uint16
	synMSS                      uint16
	synShift                    uint8
	synHasShift, synSACK, synTS bool
	synRetries                  uint8
	leaveFrom                   uint8
	sndShift, rcvShift          uint8
	tsOK, sackOK                bool
	cc                          uint8

	phase    phase
	syn      synState
	old      oldState
	ack      ackState
	limit    limitState
	recovery recoveryState
	cause    Cause

	forceHead      bool // the first segment is retransmitted whatever the windows permit
	probeResent    bool // the probe under way repeats a segment
	reoSeen        bool // reordering was seen (RFC 8985 §6.2)
	untimed        bool // the segment being delivered arrived at an unknown time
	persistBackoff uint8
	synSends       uint8
	backoff        uint8
	bigTimeouts    uint8 // timeouts in a row since a segment that may be too large for the path
	reoMult        uint8
	reoPersist     uint8
	dupAckOut      uint8 // how many duplicate ACKs are due

	// Sending.
	una, nxt uint64 // oldest unacknowledged, next to be sent
	released uint64 // position after the last byte that may be sent
	finAt    uint64 // position of our FIN; 0 until CloseWrite
	urgent   uint64 // position after the last urgent byte
	wl2      uint64
	wl1      seqnum.Value
	oldAck   seqnum.Value // what an old connection has acknowledged
	wnd      uint32       // the target's window from una on, in bytes
	maxWnd   uint32       // the largest that it ever was
	flight   queue        // segments sent and not acknowledged
	sacked   uint32       // bytes of these that arrived out of order
	lost     uint32       // bytes of these that are to be retransmitted
	nsacked  uint32       // segments of these that arrived out of order
	dupAcks  uint32       // without SACK: duplicate ACKs that each stand for an arrived segment
	retrans  uint32       // segments sent again
	polled   uint32       // bytes in the network at the end of the last Poll

	// Congestion control and recovery.
	cwnd, ssthresh       uint32
	prrDelivered, prrOut uint32 // RFC 9937
	prrFlight            uint32
	undo                 undo
	recoverTo            uint64 // recovery ends when this is acknowledged
	cubic                cubic
	bbr                  *bbr // nil: not BBR, or not needed yet

	// Timers.
	srtt, rttvar, minRTT  time.Duration
	minRTTAt              mono.Time
	rttEnd                uint64    // the next sample is due when this is acknowledged
	lastSend              mono.Time // of data
	progressAt            mono.Time
	rtoAt, probeAt, reoAt mono.Time
	persistAt             mono.Time

	// RACK and the tail loss probe (RFC 8985).
	rackAt     mono.Time
	rackEnd    uint64
	rackRTT    time.Duration
	fack       uint64
	dsackRound uint64
	probeEnd   uint64 // 0: no probe is under way

	// Receiving.
	rcvNxt     uint64
	rcvFin     uint64 // position of the target's FIN; 0: not seen
	lastAck    uint64 // the last position that we acknowledged
	ooo        []span // what arrived out of order, the latest first
	dsack      span
	tsRecentAt mono.Time
	challenged mono.Time
	tsRecent   uint32
}

// Init makes c a connection that has not been opened. It may be called again when c is no longer in
// use, and reuses what c had allocated. It does not keep cfg; it does keep src.
func (c *Conn) Init(cfg *Config, src Source) {
	*c = Conn{flight: queue{recs: c.flight.recs[:0]}, ooo: c.ooo[:0]}
	c.src = src
	c.local, c.remote = cfg.Local, cfg.Remote
	c.isn, c.tsBase = cfg.ISN, cfg.TSBase
	c.synMSS, c.synShift, c.synHasShift = cfg.Syn.MSS, min(cfg.Syn.WScale, 14), cfg.Syn.HasWScale
	c.synSACK, c.synTS = cfg.Syn.SACKPermitted, cfg.Syn.HasTS
	c.synWindow = cfg.SynWindow
	if c.synWindow == 0 {
		c.synWindow = 65535
	}
	c.synRetries = defaultSynRetries
	if cfg.SynRetries > 0 {
		c.synRetries = uint8(min(cfg.SynRetries, 20))
	}
	c.leaveFrom = cfg.LeaveFrom
	c.connectTimeout = cfg.ConnectTimeout
	c.userTimeout = cfg.UserTimeout
	if c.userTimeout <= 0 {
		c.userTimeout = defaultUserTimeout
	}
	c.maxSegment = 1460
	if cfg.Remote.Addr().Is6() && !cfg.Remote.Addr().Is4In6() {
		c.maxSegment = 1440
	}
	if cfg.MaxSegment > 0 {
		c.maxSegment = uint16(min(max(cfg.MaxSegment, c.minSegment()), 65495))
	}
	c.rcvWindow = cfg.RcvWindow
	if c.rcvWindow == 0 {
		c.rcvWindow = 65535
		if c.synHasShift {
			c.rcvWindow = defaultRcvWindow
		}
	}
	c.cc = cfg.CongestionControl
	c.released = 1
	c.reoMult = 1
	c.rtoAt, c.probeAt, c.reoAt, c.persistAt = mono.Never, mono.Never, mono.Never, mono.Never
	c.challenged = -mono.Time(challengeEvery)
}

// Open begins the handshake: the next Poll returns the SYN. It does nothing on a Conn that was
// opened before.
func (c *Conn) Open(now mono.Time) {
	if c.phase != phaseNew {
		return
	}
	c.phase = phaseSynSent
	c.opened = now
	c.progressAt = now
	c.minRTTAt = now
	c.dueSyn()
}

// Release permits the bytes of the stream below the offset end to be sent; offset 0 is the byte
// after the SYN. It does nothing after CloseWrite, or if end is below an earlier one.
func (c *Conn) Release(now mono.Time, end uint64) {
	if c.finAt != 0 || end+1 <= c.released {
		return
	}
	if c.bbr != nil {
		c.noteLimited()
	}
	if c.una == c.released { // nothing was outstanding: the user timeout starts here
		c.progressAt = now
	}
	c.released = end + 1
}

// CloseWrite ends our direction: a FIN follows the released bytes (CLOSE of RFC 9293 §3.10.4).
// Before the connection is established the FIN is queued, like these bytes.
func (c *Conn) CloseWrite(now mono.Time) {
	if c.finAt != 0 {
		return
	}
	if c.una == c.released {
		c.progressAt = now
	}
	c.finAt = c.released
}

// Urgent marks the bytes below the stream's offset end as urgent (RFC 9293 §3.8.5): segments before
// it carry the urgent pointer.
func (c *Conn) Urgent(end uint64) { c.urgent = max(c.urgent, end+1) }

// Abort ends the connection at once: the next Poll returns a RST if the target may know of the
// connection. It does nothing on one that was not opened or is over.
func (c *Conn) Abort(now mono.Time) {
	if c.phase.alive() {
		c.kill(CauseAborted)
	}
}

// kill ends c with a RST to the target. An ACK of the handshake that is due goes first; see
// appendResets.
func (c *Conn) kill(why Cause) {
	reset := c.phase != phaseSynSent || c.synSends > 0
	ack := c.ack
	if !c.phase.synchronized() || ack != ackAlone {
		ack = ackNone
	}
	c.end(why)
	c.ack = ack
	if reset {
		c.phase = phaseReset
	}
}

// end ends c: nothing more is sent.
func (c *Conn) end(why Cause) {
	c.phase = phaseClosed
	c.cause = why
	c.syn, c.old, c.ack, c.dupAckOut = synSent, oldNone, ackNone, 0
	c.rtoAt, c.probeAt, c.reoAt, c.persistAt = mono.Never, mono.Never, mono.Never, mono.Never
}

// seq returns the sequence number of a position of ours.
func (c *Conn) seq(pos uint64) seqnum.Value { return c.isn + seqnum.Value(uint32(pos)) }

// rseq returns the sequence number of a position of the target's.
func (c *Conn) rseq(pos uint64) seqnum.Value { return c.irs + seqnum.Value(uint32(pos)) }

// tsAt returns our timestamp clock at a time: milliseconds (RFC 7323 §5.4).
func (c *Conn) tsAt(t mono.Time) uint32 {
	return c.tsBase + uint32(t.Sub(c.opened)/time.Millisecond)
}
