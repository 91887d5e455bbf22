package app

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestHeapGrowth(t *testing.T) {
	for _, tt := range []struct {
		live uint64
		want int
	}{
		{0, 1100}, {1 << 20, 1100}, {4 << 20, 200}, {8 << 20, 50}, {11 << 20, 10}, {12 << 20, 10},
		{40 << 20, 10}, {1 << 30, 10}, {1 << 40, 10},
	} {
		if got := heapGrowth(tt.live); got != tt.want {
			t.Errorf("%d live bytes: %d %%, wanted %d", tt.live, got, tt.want)
		}
	}
}

// TestCollectSeldom: what the heap may grow by follows what is in use.
func TestCollectSeldom(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	collectSeldom()
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	growth := func() int {
		metrics.Read(sample)
		return int(sample[0].Value.Uint64())
	}
	await := func(what string, ok func(int) bool) {
		t.Helper()
		for end := time.Now().Add(10 * time.Second); !ok(growth()); runtime.GC() {
			if time.Now().After(end) {
				t.Fatalf("%s: the heap may grow by %d %%", what, growth())
			}
		}
	}
	await("a small heap", func(p int) bool { return p > 2*gcPercent })
	big := make([]byte, 200<<20)
	await("a large one", func(p int) bool { return p == gcPercent })
	runtime.KeepAlive(big)
	big = nil
	await("a small one again", func(p int) bool { return p > 2*gcPercent })
}
