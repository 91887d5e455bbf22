package mysql

import (
	"runtime"
	"testing"

	"tcpcopy/internal/core/ledger"
)

// TestSize compares what a reader says that it holds with what it does: many statements.
func TestSize(t *testing.T) {
	heap := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	before := heap()
	c := NewClient(new(Settings))
	for range maxStatements {
		c.statements.prepare(0, false, ledger.None)
	}
	real, said := heap()-before, c.Size()
	if said < real*2/3 || said > real*3/2 {
		t.Errorf("%d statements take %d bytes, and count as %d", maxStatements, real, said)
	}
	runtime.KeepAlive(c)
}
