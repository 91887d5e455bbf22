package rig

import (
	"os"
	"strconv"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/shard"
	"testing"
)

// Seeds returns the seeds that a test runs: n of them, or the one in the environment variable SEED.
func Seeds(n int) []int64 {
	if s := os.Getenv("SEED"); s != "" {
		one, _ := strconv.ParseInt(s, 10, 64)
		return []int64{one}
	}
	all := make([]int64, n)
	for i := range all {
		all[i] = int64(i + 1)
	}
	return all
}

// CopyAll steps a shard over traffic until both have ended, and calls after, if it is not nil,
// after each step. What happens at the agenda's times goes into *in, the input of the next step.
func CopyAll(t *testing.T, sh *shard.Shard, port Port, tr *Traffic, a *Agenda, in **Input,
	after func(now mono.Time)) {
	var now, due mono.Time
	due = mono.Never
	packets := tr.packets
	batch := []mono.Time{1, ms, 5 * ms, 100 * ms}[tr.rng.Intn(4)]
	for steps := 0; ; steps++ {
		next := min(a.Next(), due)
		if len(packets) > 0 {
			// A capture hands its packets over in batches, and late.
			next = min(next, (packets[0].At/batch+1)*batch)
		}
		if next == mono.Never {
			break
		}
		if steps > 1<<21 {
			t.Fatal("no end of it")
		}
		now = max(now, next)
		step := &Input{}
		*in = step
		n := 0
		for n < len(packets) && packets[n].At <= now {
			n++
		}
		step.Packets = packets[:n]
		packets = packets[n:]
		a.Run(now)
		for i := 0; i == 0 || len(step.Events) > 0; i++ {
			*in = &Input{}
			due = Step(sh, port, now, step)
			if due <= now {
				t.Fatalf("at %v: Step wants to be called at %v", now, due)
			}
			if after != nil {
				after(now)
			}
			step = *in
			if i > 100 {
				t.Fatalf("at %v: events without end", now)
			}
		}
		c := sh.Snapshot()
		if err := c.Check(); err != nil {
			t.Fatalf("at %v: %v", now, err)
		}
		if t.Failed() {
			return
		}
		if len(packets) == 0 && steps%64 == 0 && sh.Live() == 0 {
			break
		}
	}
	CheckEmpty(t, sh)
	t.Logf("%+v", sh.Snapshot())
	c := sh.Snapshot()
	if late := c.Sessions.Dropped[ledger.GateTimeout] +
		c.Sessions.Dropped[ledger.SendTimeout]; late > 0 {
		t.Errorf("%d sessions were lost to time: %+v", late, c.Sessions)
	}
}
