package tcp

import (
	"time"

	"tcpcopy/internal/core/mono"
)

// rate estimates the rate at which the path delivers what is sent (draft-cheng-iccrg-delivery-rate-
// estimation). A sample divides the bytes delivered in about a round trip by the longer of two
// times: the time in which they were acknowledged, and the time in which they were sent. So neither
// compressed ACKs nor bursts of segments make it too large.
type rate struct {
	delivered uint64    // bytes that the target is known to have
	at        mono.Time // when delivered last grew
	sentAt    mono.Time // when the newest of the segments was sent that had arrived then
	// limited is what delivered must exceed before samples measure the path again, rather than how
	// little there was to send; 0: they measure the path.
	limited uint64
}

// sample is what one acknowledgment tells about the path.
type sample struct {
	prior    uint32        // delivered when the newest acknowledged segment was sent, modulo 2³²
	bytes    uint32        // bytes delivered since then
	interval time.Duration // the time in which they were; 0: the rate is not known
	rtt      time.Duration // the shortest round trip of segments sent once; 0: there was none
	flying   uint32        // bytes in the network before the ACK
	lost     uint32        // bytes that the ACK shows to be lost
	limited  bool          // the rate was limited by what there was to send
	delayed  bool          // the target may have delayed the ACK

	newestAt  mono.Time // when the newest acknowledged segment was sent
	newestEnd uint64    // where that segment ends
	sending   time.Duration
	acking    time.Duration
}

// stamp stores the state of the estimate with a segment that is sent (§3.2).
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

// micros returns d in microseconds, at most 2³²-1 (71 minutes).
func micros(d time.Duration) uint32 { return uint32(min(max(d/time.Microsecond, 0), 1<<32-1)) }

// startSample begins the sample of an acknowledgment.
func (c *Conn) startSample() {
	c.noteLimited()
	c.bbr.sample = sample{flying: c.pipe()}
}

// arrived adds a newly acknowledged segment to the sample (§3.3).
func (c *Conn) arrived(now mono.Time, r *sent) {
	s := &c.bbr.sample
	elapsed := c.elapsed(now, r)
	if r.flags&segResent == 0 && (s.rtt == 0 || elapsed < s.rtt) {
		s.rtt = max(elapsed, 1)
	}
	if s.newestEnd != 0 && !sentAfter(r.at, r.end, s.newestAt, s.newestEnd) {
		return
	}
	s.newestAt, s.newestEnd = r.at, r.end
	s.prior = r.delivered
	s.limited = r.flags&segLimited != 0
	s.sending = time.Duration(r.sinceSent) * time.Microsecond
	s.acking = elapsed + time.Duration(r.sinceDelivery)*time.Microsecond
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
	s.delayed = got.segs == 1 && got.sacked == 0 && got.acked < uint32(c.mss) &&
		s.bytes == got.acked
	if d := max(s.sending, s.acking); d >= c.minRTT { // a shorter time is due to compressed ACKs
		s.interval = d
	}
}

// perSecond returns the sample's rate in bytes per second.
func (s *sample) perSecond() uint64 {
	return uint64(s.bytes) * uint64(time.Second) / uint64(max(s.interval, 1))
}

// noteLimited notes when there is less to send than the windows permit (§3.4).
func (c *Conn) noteLimited() {
	if c.nxt == c.released && c.lost == 0 && c.pipe() < c.cwnd {
		c.bbr.rate.limited = max(c.bbr.rate.delivered+uint64(c.pipe()), 1)
	}
}
