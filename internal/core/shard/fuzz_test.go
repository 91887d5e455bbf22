package shard_test

import (
	"testing"

	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
)

// FuzzShard drives a shard whose streams report any events that streams may report.
func FuzzShard(f *testing.F) {
	f.Add([]byte{0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 1, 16, 0, 0, 20, 1, 2, 0, 1, 16, 0, 1, 0, 1, 3, 0,
		0, 0, 0, 0, 5, 1})
	f.Fuzz(func(t *testing.T, script []byte) {
		rig.Fuzz(t, script, func(in *rig.Input, sh func() *shard.Shard) *rig.FuzzWay {
			return &rig.FuzzWay{
				Port:   &rig.FakeOpener{In: in, Deaf: true},
				Happen: func(*rig.Input, byte, byte) {},
				Sent: func() seqnum.Value {
					if sh().Live() != sh().Names() {
						t.Fatalf("%d sessions live, %d have names", sh().Live(), sh().Names())
					}
					if !sh().More() && sh().Open() != sh().CountOpen() {
						t.Fatalf("%d connections are open, and %d are counted", sh().CountOpen(),
							sh().Open())
					}
					return 0
				},
				Events: func(all []session.Event) []session.Event { return possible(sh(), all) },
			}
		})
	})
}

// possible returns the events that the streams of a shard may report.
func possible(sh *shard.Shard, all []session.Event) []session.Event {
	events := all[:0]
	for _, ev := range all {
		if fs, ok := sh.StreamOf(ev.ID).(*rig.FakeStream); ok && fs != nil && allowed(fs, &ev) {
			events = append(events, ev)
		}
	}
	return events
}

// allowed reports whether a stream may report ev.
func allowed(f *rig.FakeStream, ev *session.Event) bool {
	if f.Gone || ev.Kind == 0 || ev.Kind > session.Failed ||
		(ev.Kind == session.Opened) == f.Opened && ev.Kind != session.Failed {
		return false
	}
	switch ev.Kind {
	case session.Opened:
		f.Opened = true
	case session.Taken:
		ev.N = min(ev.N, uint64(len(f.Text)))
	case session.Finished:
		if !f.Shut {
			return false
		}
		ev.N = uint64(len(f.Text))
	}
	f.Gone = ev.Kind >= session.Finished
	return true
}
