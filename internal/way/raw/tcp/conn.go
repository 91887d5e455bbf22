// Package tcp is a TCP client as a state machine: it sends a captured client's bytes to a target, and it
// does nothing else.
//
// It is TCP as an expert would expect it (RFC 9293 with 6298, 7323, 2018, 5681, 8985 and the rest, each
// named where it is followed) with these differences, all of which come from its place. Time is handed
// in, and segments go in and out as values: there is no socket, no clock, no goroutine here. What the
// target answers arrives as headers (Len is set, Payload empty), since nobody reads the answer's bytes:
// the receive window is always open and every data segment is acknowledged at once. What is sent is
// viewed in the owner's record, not held in a buffer of our own, and the client's segment borders are
// kept. A handshake answer that is not ours is ignored and never reset, for it may be another copier's.
//
// One owner (a shard, through its raw stream) calls a Conn; it is not safe for use by several. The files:
// conn (the calls of the owner), syn (the handshake), deliver (the checks on what arrives), ack, sack,
// rack, recovery, undo (what an acknowledgment means), congestion, reno, cubic, bbr, bbrwindow (how much may be in
// flight), rate, maxfilter (what BBR measures), pace (when it goes), rto (timers), rcv (the target's bytes), snd (what is sent), mtu, reset, status.
package tcp

import (
	"net/netip"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
)

// Source is where a Conn takes its bytes from, the session's record: View returns at most max bytes from
// the offset off on, not crossing the border between two of the client's segments, and nothing where
// there is nothing. A Conn never keeps a view beyond the segments that one Poll returned.
type Source interface {
	View(off uint64, max int) []byte
}

// The algorithms of congestion control that a Config may choose.
const (
	Reno  uint8 = iota // RFC 5681
	CUBIC              // RFC 9438
	BBR                // draft-cardwell-iccrg-bbr-congestion-control-00
)

// Config says how a Conn is to begin. Zero values mean the defaults that are named.
type Config struct {
	Local  netip.AddrPort // whom the target sees as the client
	Remote netip.AddrPort // the target
	ISN    seqnum.Value   // our initial sequence number; the owner's, for its low bits name the copier
	TSBase uint32         // our timestamps are this plus the milliseconds since Open (RFC 7323 §5.4)
	Syn    packet.Options // what the SYN offers; time stamps and SACK blocks in it are not used
	// SynWindow is the window in the SYN; 0: 65535.
	SynWindow uint16
	// MaxSegment bounds a segment's payload: the path's MTU less headers, before TCP options; 0: 1460 over
	// IPv4, 1440 over IPv6.
	MaxSegment int
	// RcvWindow is the window that we advertise, in bytes; 0: 4 MB with window scaling, 65535 without.
	RcvWindow         uint32
	CongestionControl uint8
	SynRetries        int // repetitions of the SYN before giving up; 0: 6
	// LeaveFrom is which SYN, 1 being the first, and each after it waits for the owner's Leave; 0: none does.
	LeaveFrom      uint8
	ConnectTimeout time.Duration // from Open to established; 0: as long as the repetitions last
	UserTimeout    time.Duration // without progress while data is outstanding (RFC 9293 §3.8.3); 0: 120 s
}

const (
	defaultSynRetries  = 6
	defaultUserTimeout = 120 * time.Second
	defaultRcvWindow   = 4 << 20
)

// The phases of a Conn's life. Of a synchronised connection RFC 9293 §3.3.2 has six states; which one it
// is follows from what was sent, acknowledged and received (see State).
const (
	phaseClosed uint8 = iota // not opened, or over
	phaseSynSent
	phaseSynReceived // simultaneous open only
	phaseOpen        // synchronised
)

// Conn is one connection to the target. It is made ready by Init, and must not be copied while in use.
//
// Positions (una, nxt, rcvNxt …) count sequence space in 64 bits from the initial sequence number: the
// SYN is at 0, the stream's first byte at 1, the FIN after the last byte. They do not wrap; only what
// goes into a header does.
type Conn struct {
	src           Source
	local, remote netip.AddrPort

	// Set by Init and the handshake.
	opened                      mono.Time
	connectTimeout, userTimeout time.Duration
	isn, irs                    seqnum.Value
	tsBase                      uint32
	rcvWindow                   uint32 // bytes, a multiple of 1<<rcvShift once established
	maxSegment                  uint16 // bound from the path, before options
	peerMSS                     uint16 // bound from the target
	mtuBefore                   uint16 // maxSegment before a black hole was suspected; 0: none is
	mss                         uint16 // what a segment's payload is cut at
	synWindow                   uint16
	synMSS                      uint16
	synShift                    uint8
	synHasShift, synSACK, synTS bool
	synRetries                  uint8
	leaveFrom                   uint8
	sndShift, rcvShift          uint8
	tsOK, sackOK                bool
	cc                          uint8

	phase     uint8
	cause     Cause
	recovery  uint8 // the sender's state: open, fast recovery, loss
	everOpen  bool
	closing   bool // CloseWrite was called
	finSent   bool
	finFirst  bool // our FIN went out before theirs came
	needRST   bool // a RST is to be sent
	freeOld   bool // so is one to an old connection
	synDue    bool
	synLeave  bool // the next SYN may go
	oldAckSet bool

	forceHead      bool // the first segment is sent again whatever the windows say
	cwndBound      bool // the congestion window held something back at the last Poll
	windowHeld     bool // the target's window did
	probeDue       bool
	probeResent    bool // the probe under way repeats a segment
	persistDue     bool
	persistBackoff uint8
	synRetried     bool
	synSends       uint8
	backoff        uint8
	bigTimeouts    uint8 // timeouts in a row since a segment that the path may be too narrow for
	reoSeen        bool  // see RFC 8985 §6.2
	reoMult        uint8
	reoPersist     uint8
	ackNow         bool
	bareAck        bool  // the ACK that is due must not wait for data to carry it
	untimed        bool  // the segment that is being delivered came later than now
	dupAckOut      uint8 // how many duplicate ACKs are due

	// Sending.
	una, nxt uint64 // oldest unacknowledged, next to be sent
	released uint64 // position after the last byte that may be sent
	urgent   uint64 // position after the last urgent byte
	wl2      uint64
	wl1      seqnum.Value
	oldAck   seqnum.Value
	wnd      uint32 // the target's window from una on, bytes
	maxWnd   uint32 // largest that it ever was
	flight   queue  // what is sent and not acknowledged, in segments
	sacked   uint32 // bytes of it that arrived out of order
	lost     uint32 // bytes of it that are to be sent again
	nsacked  uint32 // segments of it that arrived out of order
	dupAcks  uint32 // without SACK: how many duplicate ACKs stand for an arrived segment
	retrans  uint32
	polled   uint32 // bytes in the network at the end of the last Poll

	// Congestion control and recovery.
	cwnd, ssthresh       uint32
	prrDelivered, prrOut uint32 // RFC 9937
	prrFlight            uint32
	undo                 undo
	recoverTo            uint64 // recovery ends when this is acknowledged
	cubic                cubic
	bbr                  *bbr // nil: not BBR, or it has not been needed

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

// Init makes c a fresh connection that has not been opened. It may be called again once c is done with;
// what c had allocated is kept for reuse. cfg is read and not kept; src is.
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

// Open begins the handshake: the next Poll returns the SYN. It does nothing on a Conn that was opened
// before.
func (c *Conn) Open(now mono.Time) {
	if c.phase != phaseClosed || c.everOpen || c.cause != CauseNone {
		return
	}
	c.phase = phaseSynSent
	c.everOpen = true
	c.opened = now
	c.progressAt = now
	c.minRTTAt = now
	c.synDue = true
}

// Release says that the bytes of the stream below the offset end may be sent; offset 0 is the byte after
// the SYN. An end below an earlier one, or one after CloseWrite, changes nothing.
func (c *Conn) Release(now mono.Time, end uint64) {
	if c.closing || end+1 <= c.released {
		return
	}
	if c.bbr != nil {
		c.noteLimited()
	}
	if c.una == c.released { // nothing was outstanding: the user timeout begins here
		c.progressAt = now
	}
	c.released = end + 1
}

// CloseWrite ends our direction: a FIN follows the released bytes.
func (c *Conn) CloseWrite(now mono.Time) {
	if !c.closing && c.una == c.released {
		c.progressAt = now
	}
	c.closing = true
}

// Urgent says that the bytes below the stream's offset end are urgent (RFC 9293 §3.8.5): segments before
// it carry the urgent pointer.
func (c *Conn) Urgent(end uint64) { c.urgent = max(c.urgent, end+1) }

// Abort ends the connection at once: the next Poll returns a RST where the target may know of us, and c
// is done. It does nothing on one that is over already.
func (c *Conn) Abort(now mono.Time) {
	if c.phase == phaseClosed {
		return
	}
	c.kill(CauseAborted)
}

// kill ends c with a RST to the target.
func (c *Conn) kill(why Cause) {
	c.needRST = c.phase != phaseSynSent || c.synSends > 0
	first := c.phase == phaseOpen && c.ackNow && c.bareAck
	c.end(why)
	c.ackNow = first // the handshake's: see appendResets
}

// end ends c; nothing but what is pending already is sent.
func (c *Conn) end(why Cause) {
	c.phase = phaseClosed
	c.cause = why
	c.synDue, c.freeOld, c.oldAckSet, c.ackNow, c.dupAckOut = false, false, false, false, 0
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
