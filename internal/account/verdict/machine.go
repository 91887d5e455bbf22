package verdict

import "math"

// Times of two runs at different times differ, too, if the machine was busier in one of them. What
// it may have added is taken off the times of that run, in favour of the other. Two things tell it,
// of the machine that tcpcopy runs on; what they say of the target's, they say only if it is the
// same or suffers alike:
//
//   - How late tcpcopy itself woke. Where a hypervisor, say, stops the whole machine now and then,
//     tcpcopy is stopped as often as the servers.
//   - Which part of the time its processors were busy. Who needs one waits if all of them are, and
//     some wait longer than tcpcopy does, which needs little.

// wakeUps is how many wake-ups an answer waits for: that of the server, that of what the server
// waits for, and that of tcpcopy. As often as one of them is later than a time, tcpcopy's own is in
// a third of the cases, at least.
const wakeUps = 3

// timerGrain is by how many nanoseconds a program in Go wakes late on any machine, at most: while
// it sleeps, its timers are as fine as a millisecond, and a little more.
const timerGrain = 1.2e6

// lateBy are the parts of tcpcopy's own wake-ups that belong to judged.
var lateBy = func() (parts []float64) {
	for _, q := range judged {
		parts = append(parts, 1-(1-q)/wakeUps)
	}
	return parts
}()

// maxStretch bounds a stretch.
const maxStretch = 100

// stretch returns how many times as long it takes to get so much done when the processors are busy
// with other things for a part of the time: all of them are at once for the part busy^n, if they
// are independent of each other.
func stretch(busy float64, n int) float64 {
	all := math.Pow(min(max(busy, 0), 1), float64(n))
	return 1 / max(1-all, 1./maxStretch)
}

// blocksOf are blocks of one run: histograms of the answers and of how late tcpcopy woke, each a
// list sorted by bucket, and what the busy processors have made longer. stretch is nil if it is not
// known of both runs.
type blocksOf struct {
	answers, late [][][2]uint32
	stretch       []float64
}

// pairs returns the blocks that both runs have.
func pairs(a, b *TimesReport) (x, y blocksOf) {
	for i := range min(len(a.Blocks), len(b.Blocks)) {
		p, q := &a.Blocks[i], &b.Blocks[i]
		if !p.usable() || !q.usable() {
			continue
		}
		x.answers, y.answers = append(x.answers, p.Counts), append(y.answers, q.Counts)
		x.late, y.late = append(x.late, p.Late), append(y.late, q.Late)
		if a.Processors > 0 && b.Processors > 0 {
			x.stretch = append(x.stretch, stretch(p.Busy, a.Processors))
			y.stretch = append(y.stretch, stretch(q.Busy, b.Processors))
		}
	}
	return x, y
}

// taken are the times of one run, of the parts in judged, in nanoseconds; and what may have made
// them longer. late is 0 and stretch 1 if that is not known.
type taken struct {
	answers, late []float64
	stretch       float64
}

// take returns the times in the blocks chosen. h is scratch.
func (b *blocksOf) take(h []uint64, chosen []int) (t taken) {
	t.answers = quantiles(h, sum(h, b.answers, chosen), judged)
	t.late, t.stretch = make([]float64, len(judged)), 1
	if n := sum(h, b.late, chosen); n > 0 {
		t.late = quantiles(h, n, lateBy)
	}
	if len(b.stretch) > 0 {
		t.stretch = 0
		for _, i := range chosen {
			t.stretch += b.stretch[i] / float64(len(chosen))
		}
	}
	return t
}

// without returns the k-th time as it would be, at least, on a machine as busy as in the other run.
func (t *taken) without(other *taken, k int) float64 {
	ns := t.answers[k]
	if t.late[k] > timerGrain && other.late[k] > 0 {
		ns -= wakeUps * max(t.late[k]-other.late[k], 0)
	}
	return max(ns/max(t.stretch/other.stretch, 1), t.answers[k]/maxStretch)
}
