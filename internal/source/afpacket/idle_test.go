package afpacket_test

import (
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/source/afpacket"
	"tcpcopy/internal/test/testnet"
)

// TestWaitingCostsNothing: a reader without packets sleeps, also while an interface is gone.
func TestWaitingCostsNothing(t *testing.T) {
	testnet.Enter(t)
	ns := testnet.New(t)
	testnet.Veth(t, "a", "10.7.0.1/24", ns, "b", "10.7.0.2/24")
	s := open(t, afpacket.Config{Interfaces: []string{"a", "lo"}, Filter: udpOnly(t, 1<<16)})
	testnet.Delete(t, "a")
	used := func() time.Duration {
		var u syscall.Rusage
		const thread = 1 // RUSAGE_THREAD: Enter has locked this goroutine to its thread
		if err := syscall.Getrusage(thread, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	before := used()
	const wait = 500 * time.Millisecond
	start := time.Now()
	if frames, err := s.Next(wait); len(frames) > 0 || err != nil {
		t.Fatal(frames, err)
	}
	if took := time.Since(start); took < wait {
		t.Errorf("waited %v, want %v", took, wait)
	}
	if cpu := used() - before; cpu > wait/50 {
		t.Errorf("used %v of processor in %v of waiting", cpu, wait)
	}
}
