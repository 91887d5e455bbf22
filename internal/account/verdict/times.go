package verdict

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"tcpcopy/internal/core/mono"
)

// maxBlocks bounds the blocks of time that are kept. When there are more, each two become one.
const maxBlocks = 600

// Times holds how long answers took, by blocks of time: times that are close to each other depend
// on each other, and only blocks may be compared as if they did not. The zero value is empty.
type Times struct {
	scale      uint // a block is 2^scale seconds
	blocks     []block
	processors int // of this machine; 0: unknown
}

// block is a histogram of the times in one block.
type block struct {
	counts  histogram
	late    histogram // how much later this program woke than it had asked to
	starved bool      // this program did not run for a while
	// busy and idle are the time of the machine's processors, in any unit.
	busy, idle uint64
}

// histogram holds counts by bucket, those of one power of two together; nil: they are all 0. The
// zero value is empty. A map's memory lies further apart, and each answer is counted.
type histogram []*[1 << fine]uint32

// add counts n more in bucket k.
func (h *histogram) add(k, n uint32) {
	power := int(k >> fine)
	if more := power + 1 - len(*h); more > 0 {
		*h = append(*h, make(histogram, more)...)
	}
	part := (*h)[power]
	if part == nil {
		part = new([1 << fine]uint32)
		(*h)[power] = part
	}
	part[k&(1<<fine-1)] += n
}

// join adds what another histogram has.
func (h *histogram) join(o histogram) {
	for _, pair := range o.report() {
		h.add(pair[0], pair[1])
	}
}

// report returns the pairs of buckets and counts, sorted.
func (h histogram) report() (pairs [][2]uint32) {
	for power, part := range h {
		if part == nil {
			continue
		}
		for k, n := range part {
			if n > 0 {
				pairs = append(pairs, [2]uint32{uint32(power<<fine | k), n})
			}
		}
	}
	return pairs
}

// fine is how many buckets there are to each power of two: 64, so that one is 1.6 % wide.
const fine = 6

// bucket returns the bucket of a time in nanoseconds.
func bucket(ns int64) uint32 {
	n := uint64(max(ns, 1<<fine))
	shift := bits.Len64(n) - 1 - fine
	return uint32(shift<<fine | int(n>>shift)&(1<<fine-1))
}

// middle returns the time in the middle of a bucket, in nanoseconds.
func middle(b uint32) float64 {
	shift := b >> fine
	low := float64(uint64(1<<fine|b&(1<<fine-1)) << shift)
	return low + float64(uint64(1)<<shift)/2
}

// at returns the block of a time; it makes it if need be.
func (t *Times) at(now mono.Time) *block {
	i := int(uint64(max(now, 0)/1e9) >> t.scale)
	for i >= maxBlocks {
		t.coarsen()
		i >>= 1
	}
	for len(t.blocks) <= i {
		t.blocks = append(t.blocks, block{})
	}
	return &t.blocks[i]
}

func (t *Times) note(now mono.Time, ns int64) { t.at(now).counts.add(bucket(ns), 1) }

// woke notes that this program woke so many nanoseconds after the time that it had asked for.
func (t *Times) woke(now mono.Time, late int64) { t.at(now).late.add(bucket(late), 1) }

// machine notes for how long the processors were busy and idle just before now, in any unit.
func (t *Times) machine(now mono.Time, busy, idle uint64, processors int) {
	b := t.at(now)
	b.busy, b.idle, t.processors = b.busy+busy, b.idle+idle, processors
}

func (t *Times) starve(now mono.Time) { t.at(now).starved = true }

// join adds what another block has.
func (b *block) join(o *block) {
	b.starved = b.starved || o.starved
	b.counts.join(o.counts)
	b.late.join(o.late)
	b.busy, b.idle = b.busy+o.busy, b.idle+o.idle
}

// coarsen makes each two blocks one.
func (t *Times) coarsen() {
	half := make([]block, (len(t.blocks)+1)/2)
	for i := range t.blocks {
		half[i/2].join(&t.blocks[i])
	}
	t.blocks, t.scale = half, t.scale+1
}

// add adds the times of another shard, which has the same clock.
func (t *Times) add(o *Times) {
	t.processors = max(t.processors, o.processors)
	copied := Times{scale: o.scale, blocks: slices.Clone(o.blocks)}
	for t.scale < copied.scale {
		t.coarsen()
	}
	for copied.scale < t.scale {
		copied.coarsen()
	}
	for i := range copied.blocks {
		if i == len(t.blocks) {
			t.blocks = append(t.blocks, block{})
		}
		t.blocks[i].join(&copied.blocks[i])
	}
}

// TimesReport is the JSON form of Times.
type TimesReport struct {
	BlockSeconds int         `json:"block_seconds"`
	Processors   int         `json:"processors,omitempty"` // of tcpcopy's machine; 0: unknown
	Blocks       []BlockTime `json:"blocks"`
}

// BlockTime is one block: pairs of a bucket's number and a count, of the answers and of how late
// tcpcopy woke, and which part of the time the machine's processors were busy. Nothing is known of
// a block in which tcpcopy did not run for a while.
type BlockTime struct {
	Starved bool        `json:"starved,omitempty"`
	Counts  [][2]uint32 `json:"counts,omitempty"`
	Late    [][2]uint32 `json:"late,omitempty"`
	Busy    float64     `json:"busy,omitempty"`
}

// report returns the JSON form.
func (t *Times) report() *TimesReport {
	r := &TimesReport{BlockSeconds: 1 << t.scale, Processors: t.processors,
		Blocks: make([]BlockTime, len(t.blocks))}
	for i, b := range t.blocks {
		r.Blocks[i] = BlockTime{b.starved, b.counts.report(), b.late.report(), 0}
		if b.busy+b.idle > 0 {
			r.Blocks[i].Busy = math.Round(1e4*float64(b.busy)/float64(b.busy+b.idle)) / 1e4
		}
	}
	return r
}

// usable reports whether the block can be judged. It may be of a file that was changed.
func (b *BlockTime) usable() bool {
	for _, pairs := range [...][][2]uint32{b.Counts, b.Late} {
		for _, c := range pairs {
			if c[0] >= buckets {
				return false
			}
		}
	}
	return !b.Starved && len(b.Counts) > 0
}

// sum adds histograms, chosen by their number, into the dense histogram h.
func sum(h []uint64, all [][][2]uint32, chosen []int) (n uint64) {
	clear(h)
	for _, i := range chosen {
		for _, c := range all[i] {
			h[c[0]] += uint64(c[1])
			n += uint64(c[1])
		}
	}
	return n
}

// buckets bounds the number of a bucket.
const buckets = 64 << fine

// quantiles returns the times below which the parts q of the n times in h lie; q rises.
func quantiles(h []uint64, n uint64, q []float64) []float64 {
	out := make([]float64, len(q))
	var below uint64
	k := 0
	for i := range h {
		if h[i] == 0 {
			continue
		}
		for ; k < len(q) && q[k]*float64(n) <= float64(below+h[i]); k++ {
			part := (q[k]*float64(n) - float64(below)) / float64(h[i])
			m, w := middle(uint32(i)), width(uint32(i))
			out[k] = m + (part-0.5)*w
		}
		below += h[i]
	}
	return out
}

func width(b uint32) float64 { return float64(uint64(1) << (b >> fine)) }

// Ratio is how a part of the new times compares with the old.
type Ratio struct {
	Quantile float64 `json:"quantile"`
	Old      float64 `json:"old_ms"`
	New      float64 `json:"new_ms"`
	Low      float64 `json:"low"` // of new to old, with the confidence of 99 %
	High     float64 `json:"high"`
	Speed    Speed   `json:"verdict"`
	// Machine is what a machine that was busier may have added to the new time; to the old one, if
	// it is negative. The interval allows for it.
	Machine float64 `json:"machine_ms,omitempty"`
}

// Speed is a verdict on times.
type Speed string

// The verdicts on times.
const (
	Slower    Speed = "slower"
	NotSlower Speed = "not slower"
	Unclear   Speed = "cannot tell"
)

// slower describes a verdict of slower; old says whose the old times are.
func (r *Ratio) slower(old string) string {
	return fmt.Sprintf("%g %% of the answers took up to %.3g ms, %s %.3g ms: %.2f to %.2f times "+
		"as long", 100*r.Quantile, r.New, old, r.Old, r.Low, r.High)
}

// line describes any verdict.
func (r *Ratio) line(old string) string {
	s := fmt.Sprintf("%s: %g %% within %.3g ms, %s %.3g ms; %.2f to %.2f times (99 %%)", r.Speed,
		100*r.Quantile, r.New, old, r.Old, r.Low, r.High)
	when := ""
	if r.Machine < 0 {
		when = " before"
	}
	if added := math.Abs(r.Machine); added >= machineShown {
		s += fmt.Sprintf("; this machine was busier%s, which may have added %.3g ms", when, added)
	}
	return s
}

// SlowerBy is the part by which times must be longer to count as slower, if it is not set.
const SlowerBy = 0.10

const (
	slowerMin    = 1e6 // the least change that matters, in nanoseconds
	minBlocks    = 20
	machineShown = 0.1 // milliseconds that a machine may have added from which a table tells
	resamples    = 2000
	confidence   = 0.99
)

// judged are the parts of the times that are judged.
var judged = []float64{0.5, 0.95, 0.99}

// compareTimes compares the times of two runs, whose blocks belong together by their number. The
// interval of each ratio is that of a moving-block bootstrap, since neighbouring blocks depend on
// each other; at its ends are the times without what a machine that was busier in one of the runs
// may have added. It returns nil if there are too few blocks. by is the change that matters.
func compareTimes(old, now *TimesReport, by float64) []Ratio {
	if old == nil || now == nil || old.BlockSeconds != now.BlockSeconds {
		return nil
	}
	x, y := pairs(old, now)
	n := len(x.answers)
	if n < minBlocks {
		return nil
	}
	length := 1
	for length*length*length < n {
		length++
	}
	h, chosen := make([]uint64, buckets), make([]int, n)
	for i := range chosen {
		chosen[i] = i
	}
	was, is := x.take(h, chosen), y.take(h, chosen)
	low, high := make([][]float64, len(judged)), make([][]float64, len(judged))
	random := sequence(n)
	for range resamples {
		for i := 0; i < n; i += length {
			from := int(random.next() % uint64(n-length+1))
			for k := i; k < min(i+length, n); k++ {
				chosen[k] = from + k - i
			}
		}
		a, b := x.take(h, chosen), y.take(h, chosen)
		for k := range judged {
			low[k] = append(low[k], b.without(&a, k)/a.answers[k])
			high[k] = append(high[k], b.answers[k]/a.without(&b, k))
		}
	}
	all := make([]Ratio, len(judged))
	const tail = (1 - confidence) / 2
	for k, q := range judged {
		slices.SortFunc(low[k], cmp.Compare[float64])
		slices.SortFunc(high[k], cmp.Compare[float64])
		before, after := was.answers[k], is.answers[k]
		r := Ratio{Quantile: q, Old: before / 1e6, New: after / 1e6, Speed: Unclear,
			Low: low[k][int(tail*resamples)], High: high[k][resamples-1-int(tail*resamples)],
			Machine: (after - is.without(&was, k) - before + was.without(&is, k)) / 1e6}
		switch {
		case r.Low > 1+by && after-before >= slowerMin:
			r.Speed = Slower
		case r.High < 1+by, before*(r.High-1) < slowerMin:
			r.Speed = NotSlower
		}
		all[k] = r
	}
	return all
}

// sequence is a fixed sequence of numbers for resampling (splitmix64): the same times have the
// same verdict.
type sequence uint64

func (s *sequence) next() uint64 {
	*s += 0x9e3779b97f4a7c15
	x := uint64(*s)
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
