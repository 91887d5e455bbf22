package shard

import "tcpcopy/internal/core/mono"

// bucket is a token bucket: rate tokens a second flow in, up to burst. The zero value bounds
// nothing.
type bucket struct {
	rate, burst, level float64
	at                 mono.Time
}

// set changes the rate; 0 means no bound. A bucket that had no bound before begins full.
func (b *bucket) set(now mono.Time, rate, burst float64) {
	if b.rate == 0 {
		b.level, b.at = burst, now
	}
	b.rate, b.burst = rate, burst
	b.level = min(b.level, burst)
}

// fill adds the tokens that have come in since the last fill.
func (b *bucket) fill(now mono.Time) {
	if now > b.at {
		b.level = min(b.burst, b.level+b.rate*now.Sub(b.at).Seconds())
		b.at = now
	}
}

// has reports whether there are tokens left.
func (b *bucket) has(now mono.Time) bool {
	if b.rate == 0 {
		return true
	}
	b.fill(now)
	return b.level > 0
}

// trySpend spends n tokens if there are as many, or if the bucket is full, and reports whether it
// did.
func (b *bucket) trySpend(now mono.Time, n float64) bool {
	if b.rate == 0 {
		return true
	}
	b.fill(now)
	if b.level < min(n, b.burst) {
		return false
	}
	b.level -= n
	return true
}

// spend spends n tokens in any case, and reports whether the bucket now owes more than burst.
func (b *bucket) spend(now mono.Time, n float64) (deep bool) {
	if b.rate == 0 {
		return false
	}
	b.fill(now)
	b.level -= n
	return b.level < -b.burst
}
