package engine

import (
	"testing"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/way/link/wire"
)

// Segments that were captured after a confirmation are not known in the step that takes the
// confirmation: a shard takes the segments of a step before what was found.
func TestConfirmationsAreLastInTheirStep(t *testing.T) {
	l := newShardLoop(nil, func() mono.Time { return 0 })
	segs := func(n int) *report { return &report{segs: make([]packet.Segment, n)} }
	found := func(kind wire.FoundKind) *report {
		return &report{found: []wire.Found{{Kind: kind}}, last: kind == wire.FoundConfirmed}
	}
	for _, r := range []*report{segs(1), found(wire.FoundAnswer), segs(2), found(wire.FoundConfirmed), segs(4),
		found(wire.FoundConfirmed), found(wire.FoundConfirmed), segs(8)} {
		l.reported <- r
	}
	for i, want := range []struct{ segs, found int }{{3, 2}, {4, 1}, {0, 1}, {8, 0}} {
		var in inputs
		in.report(<-l.reported)
		l.more(&in)
		if len(in.Feedback) != want.segs || len(in.Found) != want.found {
			t.Errorf("step %d takes %d segments and %d records, want %d and %d", i, len(in.Feedback), len(in.Found),
				want.segs, want.found)
		}
	}
}
