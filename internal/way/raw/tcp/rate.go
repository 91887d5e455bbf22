package tcp

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// rate estimates at which rate the path delivers what we send: draft-cheng-iccrg-delivery-rate-estimation. A
// sample is taken over the time from one delivery to another, a round trip or so later, and over the time that the
// same bytes took to be sent: the longer of the two counts, so that neither ACKs nor segments in a heap
// exaggerate.
type rate struct {
	delivered uint64    // bytes that the target is known to have
	at        mono.Time // when delivered grew last
	sentAt    mono.Time // when the newest segment was sent of those that had arrived then
	// limited is what delivered must exceed before samples tell of the path again, and not of how little there
	// was to be sent; 0: they do.
	limited uint64
}

// sample is what one acknowledgment tells of the path.
type sample struct {
	prior    uint32        // delivered when the newest segment that it acknowledges was sent, modulo 2³²
	bytes    uint32        // delivered since then
	interval time.Duration // in which they were; 0: nothing can be told
	rtt      time.Duration // of the segments sent once, the least; 0: there was none
	flying   uint32        // bytes in the network before the ACK
	lost     uint32        // bytes that it shows to be lost
	limited  bool          // by what there was to send
	delayed  bool          // the target may have held the ACK back

	newestAt  mono.Time // of the newest segment that it acknowledges
	newestEnd uint64
	sending   time.Duration
	acking    time.Duration
}

// stamp notes how things stand when a segment is sent (§3.2).
func (c *Conn) stamp(now mono.Time, r *sent) {
	if c.una == c.nxt {
		c.bbr.rate.sentAt, c.bbr.rate.at = now, now
	}
	r.delivered = uint32(c.bbr.rate.delivered)
	r.sinceDelivery = micros(now.Sub(c.bbr.rate.at))
	r.sinceSent = micros(now.Sub(c.bbr.rate.sentAt))
	r.flags &^= segLimited
	if c.bbr.rate.limited != 0 {
		r.flags |= segLimited
	}
}

// micros is d in microseconds, as far as 32 bits go: an hour.
func micros(d time.Duration) uint32 { return uint32(min(max(d/time.Microsecond, 0), 1<<32-1)) }

// startSample begins the sample of an acknowledgment.
func (c *Conn) startSample() {
	c.noteLimited()
	c.bbr.sample = sample{flying: c.pipe()}
}

// arrived notes a segment that an acknowledgment tells of (§3.3).
func (c *Conn) arrived(now mono.Time, r *sent) {
	s := &c.bbr.sample
	took := c.took(now, r)
	if r.flags&segResent == 0 && (s.rtt == 0 || took < s.rtt) {
		s.rtt = max(took, 1)
	}
	if s.newestEnd != 0 && !sentAfter(r.at, r.end, s.newestAt, s.newestEnd) {
		return
	}
	s.newestAt, s.newestEnd = r.at, r.end
	s.prior = r.delivered
	s.limited = r.flags&segLimited != 0
	s.sending = time.Duration(r.sinceSent) * time.Microsecond
	s.acking = took + time.Duration(r.sinceDelivery)*time.Microsecond
}

// finishSample completes the sample of an acknowledgment (§3.3).
func (c *Conn) finishSample(now mono.Time, got *delivery) {
	if got.bytes == 0 {
		return
	}
	q, s := &c.bbr.rate, &c.bbr.sample
	q.delivered += uint64(got.bytes)
	q.at = now
	if q.limited != 0 && q.delivered > q.limited {
		q.limited = 0
	}
	if s.newestEnd == 0 {
		return
	}
	q.sentAt = s.newestAt
	s.bytes = uint32(q.delivered) - s.prior
	s.delayed = got.segs == 1 && got.sacked == 0 && got.acked < uint32(c.mss) && s.bytes == got.acked
	if d := max(s.sending, s.acking); d >= c.minRTT { // less is what merged ACKs pretend
		s.interval = d
	}
}

// perSecond is the sample in bytes a second.
func (s *sample) perSecond() uint64 {
	return uint64(s.bytes) * uint64(time.Second) / uint64(max(s.interval, 1))
}

// noteLimited notes that more could be in the network than there was to send (§3.4).
func (c *Conn) noteLimited() {
	if c.nxt == c.released && c.lost == 0 && c.pipe() < c.cwnd {
		c.bbr.rate.limited = max(c.bbr.rate.delivered+uint64(c.pipe()), 1)
	}
}
