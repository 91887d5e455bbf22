package app

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// Memory on a production host is scarce, so the heap may grow by a tenth only before it is
// collected. It holds sessions, and packets allocate nothing, so the collector has little to do;
// but a tenth of a small heap is little: with 700 connections opened and closed in a second, three
// collections took a tenth of the CPU. So it may always grow to gcSmall.
const (
	gcPercent = 10
	gcSmall   = 12 << 20
	gcLeast   = 1 << 20 // of the heap, that a growth is a share of
)

// collectSeldom sets how far the heap may grow, now and after each collection.
func collectSeldom() {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	set := 0
	type sentinel struct{ _ *int } // with a pointer: small objects without one are freed together
	var again func(*sentinel)
	again = func(*sentinel) {
		metrics.Read(sample)
		if p := heapGrowth(sample[0].Value.Uint64()); p != set {
			debug.SetGCPercent(p)
			set = p
		}
		runtime.SetFinalizer(new(sentinel), again)
	}
	again(nil)
}

// heapGrowth returns by how many percent a heap may grow, of which live bytes were found in use.
func heapGrowth(live uint64) int {
	live = max(live, gcLeast)
	if live >= gcSmall {
		return gcPercent
	}
	return max(gcPercent, int((gcSmall-live)*100/live))
}
