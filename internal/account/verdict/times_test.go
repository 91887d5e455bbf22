package verdict

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"tcpcopy/internal/core/mono"
)

// load simulates how long answers take: levels that depend on those before, stalls, and a tail.
type load struct {
	r      *rand.Rand
	blocks int
	each   int
}

// times returns the times of a run, in milliseconds by blocks. change makes another time of one.
func (l load) times(change func(*rand.Rand, float64) float64) (t Times, all []float64) {
	level := 0.0
	for i := range l.blocks {
		level = 0.8*level + 0.05*l.r.NormFloat64()
		stall := 0.0
		if l.r.IntN(30) == 0 {
			stall = 20
		}
		for k := range l.each {
			ms := 20 * math.Exp(level+0.3*l.r.NormFloat64())
			if l.r.IntN(10) == 0 {
				ms += stall
			}
			ms = change(l.r, ms)
			t.note(mono.Time(i)*1e9+mono.Time(k)*1e6, int64(ms*1e6))
			all = append(all, ms)
		}
	}
	return t, all
}

func same(_ *rand.Rand, ms float64) float64 { return ms }

// rankSum returns the p-value of Mann and Whitney's test, two-sided, by its normal approximation.
func rankSum(x, y []float64) float64 {
	type one struct {
		v   float64
		old bool
	}
	var all []one
	for _, v := range x {
		all = append(all, one{v, true})
	}
	for _, v := range y {
		all = append(all, one{v, false})
	}
	slices.SortFunc(all, func(a, b one) int {
		if a.v < b.v {
			return -1
		}
		return 1
	})
	var u float64
	for i, o := range all {
		if o.old {
			u += float64(i + 1)
		}
	}
	n, m := float64(len(x)), float64(len(y))
	z := (u - n*(n+m+1)/2) / math.Sqrt(n*m*(n+m+1)/12)
	return math.Erfc(math.Abs(z) / math.Sqrt2)
}

func judgeTimes(a, b *Times) (speeds []Speed) {
	for _, r := range compareTimes(a.report(), b.report(), SlowerBy) {
		speeds = append(speeds, r.Speed)
	}
	return speeds
}

// Equal servers are not called slower, though a test that takes each time for independent of the
// others says that they differ.
func TestEqualServersAreNotSlower(t *testing.T) {
	n, slower, ranked := runs(30, 1000), 0, 0
	for i := range n {
		l := load{rand.New(rand.NewPCG(uint64(i), 9)), 60, 100}
		a, x := l.times(same)
		b, y := l.times(same)
		if slices.Contains(judgeTimes(&a, &b), Slower) {
			slower++
		}
		if rankSum(x, y) < 0.01 {
			ranked++
		}
	}
	if slower > 0 && upper(slower, n) > 0.01 {
		t.Errorf("%d of %d runs of equal servers are slower", slower, n)
	}
	if ranked < n/4 {
		t.Errorf("the rank sum calls only %d of %d different: that shows nothing", ranked, n)
	}
}

// TestSlowerBy checks that the change that matters is the user's to say.
func TestSlowerBy(t *testing.T) {
	l := load{rand.New(rand.NewPCG(1, 2)), 300, 100}
	a, _ := l.times(same)
	b, _ := l.times(func(_ *rand.Rand, ms float64) float64 { return 1.2 * ms })
	for by, want := range map[float64]Speed{0.1: Slower, 0.3: NotSlower} {
		if got := compareTimes(a.report(), b.report(), by)[0]; got.Speed != want {
			t.Errorf("by %v: %+v", by, got)
		}
	}
}

func TestSlowerServers(t *testing.T) {
	late := func(r *rand.Rand, ms float64) float64 {
		if r.IntN(50) == 0 {
			return ms + 200
		}
		return ms
	}
	for _, c := range []struct {
		name   string
		change func(*rand.Rand, float64) float64
		want   []Speed // of the median, 95 %, 99 %; empty: not judged
	}{
		{"the same", same, []Speed{NotSlower, NotSlower, ""}},
		{"+20 %", func(_ *rand.Rand, ms float64) float64 { return 1.2 * ms },
			[]Speed{Slower, Slower, Slower}},
		{"2 % of them +200 ms", late, []Speed{NotSlower, "", Slower}},
		{"another shape, the same median", func(_ *rand.Rand, ms float64) float64 {
			return 20 + 3*(ms-20)*(0.2+math.Max(0, math.Copysign(0.8, ms-20)))
		}, []Speed{"", Slower, Slower}},
		{"0.1 %", func(_ *rand.Rand, ms float64) float64 { return 1.001 * ms },
			[]Speed{NotSlower, NotSlower, ""}},
		{"faster", func(_ *rand.Rand, ms float64) float64 { return 0.5 * ms },
			[]Speed{NotSlower, NotSlower, NotSlower}},
	} {
		l := load{rand.New(rand.NewPCG(1, 2)), 300, 100}
		a, _ := l.times(same)
		b, _ := l.times(c.change)
		got := compareTimes(a.report(), b.report(), SlowerBy)
		for k, want := range c.want {
			if want != "" && got[k].Speed != want {
				t.Errorf("%s: %+v, want %s", c.name, got[k], want)
			}
		}
	}
}

// Blocks in which the copier did not run say nothing; too few are not judged.
func TestStarvedBlocks(t *testing.T) {
	l := load{rand.New(rand.NewPCG(1, 2)), 60, 100}
	a, _ := l.times(same)
	b, _ := l.times(func(_ *rand.Rand, ms float64) float64 { return ms })
	for i := 20; i < 60; i += 2 { // the copier stood still
		for range 100 {
			b.note(mono.Time(i)*1e9, 5e9)
		}
		b.starve(mono.Time(i) * 1e9)
	}
	if got := judgeTimes(&a, &b); len(got) == 0 || slices.Contains(got, Slower) {
		t.Errorf("a starved copier: %v", got)
	}
	for i := range 45 {
		b.starve(mono.Time(i) * 1e9)
	}
	if got := judgeTimes(&a, &b); got != nil {
		t.Errorf("15 blocks are judged: %v", got)
	}
}

// busyRun is a run on a machine on which each wake-up is late by up to most milliseconds, in one of
// rarely: those of this program, and the three that an answer waits for.
func busyRun(seed uint64, most float64, rarely int, change float64) *Times {
	r := rand.New(rand.NewPCG(seed, 7))
	wakeUp := func() float64 {
		if r.IntN(rarely) > 0 {
			return 0.05 * r.Float64()
		}
		return most * r.Float64()
	}
	t := new(Times)
	for i := range 60 {
		for k := range 200 {
			at := mono.Time(i)*1e9 + mono.Time(k)*1e6
			ms := change*(3+r.ExpFloat64()/5) + wakeUp() + wakeUp() + wakeUp()
			t.note(at, int64(ms*1e6))
			t.woke(at, int64(wakeUp()*1e6))
		}
	}
	return t
}

// A machine that was busier in one of the runs makes nobody slower, and hides nobody who is: where
// its part is too large, it cannot be told.
func TestBusyMachine(t *testing.T) {
	for _, c := range []struct {
		name              string
		before, after     float64 // by how many milliseconds wake-ups are late at most
		rarely            int     // one of how many
		change            float64
		never, mustMedian Speed
	}{
		{"quiet", 0.1, 0.1, 1, 1, Slower, NotSlower},
		{"busy later, always", 0.1, 4, 1, 1, Slower, Unclear},
		{"busy later, now and then", 0.1, 4, 20, 1, Slower, NotSlower},
		{"busy before, and slower", 4, 0.1, 1, 1.5, NotSlower, Unclear},
		{"busy in both", 4, 4, 1, 1, Slower, NotSlower},
		{"busy in both, and slower", 4, 4, 1, 2, NotSlower, Slower},
		{"busy later now and then, and slower", 0.1, 4, 20, 1.5, NotSlower, Slower},
	} {
		for seed := range uint64(runs(3, 30)) {
			old := busyRun(2*seed, c.before, c.rarely, 1)
			now := busyRun(2*seed+1, c.after, c.rarely, c.change)
			got := judgeTimes(old, now)
			if slices.Contains(got, c.never) || got[0] != c.mustMedian {
				t.Errorf("%s, seed %d: %v, never %s, and the median %s", c.name, seed, got, c.never,
					c.mustMedian)
			}
		}
	}
}

// Where only one of the reports tells how late tcpcopy woke, that says nothing.
func TestLatenessOfOneRun(t *testing.T) {
	old, now := busyRun(1, 0.1, 1, 1).report(), busyRun(2, 4, 1, 1).report()
	for i := range old.Blocks {
		old.Blocks[i].Late = nil
	}
	for _, r := range compareTimes(old, now, SlowerBy) {
		if r.Speed != Slower || r.Machine != 0 {
			t.Errorf("%+v, wanted slower, and nothing of the machine's", r)
		}
	}
}

// Answers that take longer while all processors are busy say nothing of the server; where one of
// many was free, they do.
func TestBusyProcessors(t *testing.T) {
	for _, c := range []struct {
		name          string
		before, after uint64 // hundredths of the time in which the processors were busy
		processors    int    // 0: unknown
		change        float64
		want          Speed // of the median
	}{
		{"idle in both", 10, 12, 2, 1.5, Slower},
		{"full later", 10, 100, 2, 1.5, Unclear},
		{"full later, and faster", 10, 100, 2, 0.5, NotSlower},
		{"full before", 100, 10, 2, 1, Unclear},
		{"full in both", 100, 99, 2, 1.5, Slower},
		{"fuller later", 20, 60, 2, 1.5, Unclear},
		{"fuller later, and much slower", 20, 60, 2, 2.5, Slower},
		{"fuller later, with many processors", 20, 60, 16, 1.5, Slower},
		{"not known", 10, 100, 0, 1.5, Slower},
	} {
		run := func(seed uint64, busy uint64, change float64) *Times {
			l := load{rand.New(rand.NewPCG(seed, 3)), 300, 100}
			times, _ := l.times(func(_ *rand.Rand, ms float64) float64 { return change * ms })
			for i := range 300 {
				times.machine(mono.Time(i)*1e9, busy, 100-busy, c.processors)
			}
			return &times
		}
		old, now := run(1, c.before, 1), run(2, c.after, c.change)
		if got := judgeTimes(old, now); got[0] != c.want {
			t.Errorf("%s: %v, wanted %s", c.name, got, c.want)
		}
	}
}

// A report is a file, which somebody may have changed: whatever it says of the machine, the times
// are judged, and are numbers.
func TestChangedReport(t *testing.T) {
	l := load{rand.New(rand.NewPCG(1, 2)), 60, 100}
	a, _ := l.times(same)
	b, _ := l.times(same)
	old := a.report()
	old.Processors = 2
	for i := range old.Blocks {
		old.Blocks[i].Busy, old.Blocks[i].Late = 0.1, [][2]uint32{{1000, 5}}
	}
	for name, change := range map[string]func(*TimesReport, *BlockTime){
		"busy above 1":    func(_ *TimesReport, b *BlockTime) { b.Busy = 1e300 },
		"busy below 0":    func(_ *TimesReport, b *BlockTime) { b.Busy = -5 },
		"no processors":   func(r *TimesReport, b *BlockTime) { b.Busy, r.Processors = 1, -7 },
		"many processors": func(r *TimesReport, _ *BlockTime) { r.Processors = math.MaxInt },
		"hours late":      func(_ *TimesReport, b *BlockTime) { b.Late[0][0] = 2700 },
		"late, no time":   func(_ *TimesReport, b *BlockTime) { b.Late[0][1] = 0 },
		"late for ever":   func(_ *TimesReport, b *BlockTime) { b.Late[0][0] = 1 << 31 },
	} {
		now := b.report()
		now.Processors = 2
		for i := range now.Blocks {
			now.Blocks[i].Late = [][2]uint32{{1000, 5}}
			if i%3 == 0 {
				change(now, &now.Blocks[i])
			}
		}
		all := compareTimes(old, now, SlowerBy)
		for _, r := range all {
			if sum := r.Low + r.High + r.Machine; math.IsNaN(sum) || math.IsInf(sum, 0) {
				t.Errorf("%s: %+v", name, r)
			}
		}
		if len(all) == 0 {
			t.Errorf("%s: not judged", name)
		}
	}
}

// However long a run is, the blocks are bounded, and no time is lost.
func TestTimesAreBounded(t *testing.T) {
	var a, b Times
	for i := range 3000 {
		a.note(mono.Time(i)*1e9, 1e6)
	}
	b.note(5e9, 1e6)
	b.add(&a)
	if len(b.blocks) > maxBlocks {
		t.Errorf("%d blocks", len(b.blocks))
	}
	n := uint32(0)
	for _, block := range b.report().Blocks {
		for _, c := range block.Counts {
			n += c[1]
		}
	}
	if n != 3001 {
		t.Errorf("%d times of 3001", n)
	}
	for ns := int64(1); ns > 0 && ns < 1<<62; ns += ns/3 + 1 {
		if m := middle(bucket(ns)); ns >= 64 && math.Abs(m-float64(ns)) > 0.01*float64(ns) {
			t.Fatalf("%d ns are in the bucket of %g", ns, m)
		}
	}
}
