package engine

import (
	"time"

	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/sys"
)

// watchMachine tells the first shard's tally each second how busy the machine was, until stop is
// closed: answers take longer on a busy one. It returns if the machine does not tell.
func (cp *copier) watchMachine(stop <-chan struct{}) {
	last, err := sys.ReadProcessorTime()
	if err != nil {
		cp.ctl.Log.Debug("not known how busy this machine is", "error", err)
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for l := cp.shards[0]; ; {
		select {
		case <-tick.C:
		case <-stop:
			return
		}
		now, err := sys.ReadProcessorTime()
		if err != nil {
			return
		}
		busy, idle := now.Busy-min(now.Busy, last.Busy), now.Idle-min(now.Idle, last.Idle)
		last = now
		l.call(func(*shard.Shard) { l.tally.Machine(l.now(), busy, idle, now.Processors) })
	}
}
