package shard

import "tcpcopy/internal/core/mono"

// bucket bounds a rate: it fills by rate a second up to burst, and what is spent comes out of it. The zero
// value bounds nothing.
type bucket struct {
	rate, burst, level float64
	at                 mono.Time
}

// set changes the rate; 0 is no bound. A bucket that bounded nothing before begins full.
func (b *bucket) set(now mono.Time, rate, burst float64) {
	if b.rate == 0 {
		b.level, b.at = burst, now
	}
	b.rate, b.burst = rate, burst
	b.level = min(b.level, burst)
}

func (b *bucket) fill(now mono.Time) {
	if now > b.at {
		b.level = min(b.burst, b.level+b.rate*now.Sub(b.at).Seconds())
		b.at = now
	}
}

// has says whether something may be spent: only what is left after the last was.
func (b *bucket) has(now mono.Time) bool {
	if b.rate == 0 {
		return true
	}
	b.fill(now)
	return b.level > 0
}

// take says whether n may be spent, and spends it. More than burst goes when the bucket is full.
func (b *bucket) take(now mono.Time, n float64) bool {
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

// spend spends n in any case, and says whether the debt is more than burst: more than a burst too much.
func (b *bucket) spend(now mono.Time, n float64) (deep bool) {
	if b.rate == 0 {
		return false
	}
	b.fill(now)
	b.level -= n
	return b.level < -b.burst
}
