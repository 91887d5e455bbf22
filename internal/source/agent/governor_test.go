package agent

import (
	"math"
	"testing"
	"time"
)

func TestGovernor(t *testing.T) {
	const second = time.Second
	type step struct {
		cpu   time.Duration
		bytes float64
		share float64
		cause Bound
	}
	for _, tc := range []struct {
		name             string
		maxCPU, maxBytes float64
		steps            []step
	}{
		{"no bounds", 0, 0, []step{{10 * second, 1e12, 1, NoBound}}},
		{"within both", 0.5, 1000, []step{{second / 2, 1000, 1, NoBound}, {0, 0, 1, NoBound}}},
		{"CPU: falls at once, rises slowly", 0.5, 0, []step{
			{second, 0, 0.45, CPU},
			{second / 2, 0, 0.45, CPU}, // at the bound
			{second * 3 / 8, 0, 0.45, CPU},
			{second / 4, 0, 0.505, CPU},
			{0, 0, 0.5655, CPU},
		}},
		{"rate", 0, 1000, []step{{0, 4000, 0.225, Rate}, {0, 500, 0.2575, Rate}}},
		{"the bound that is passed by more counts", 0.5, 1000,
			[]step{{second * 3 / 4, 2000, 0.45, Rate}, {second, 1500, 0.2025, CPU}}},
		{"nothing helps", 0.1, 0, []step{{100 * second, 0, 0, CPU}, {second, 0, 0, CPU},
			{0, 0, 0.01, CPU}}},
		{"and all is well again", 0, 1000, []step{{0, 1030, 0.9 / 1.03, Rate},
			{0, 0, 0.9/1.03*1.1 + 0.01, Rate}, {0, 0, 1, NoBound}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := newGovernor(tc.maxCPU, tc.maxBytes)
			for i, s := range tc.steps {
				g.adjust(second, s.cpu, s.bytes)
				if math.Abs(g.share-s.share) > 1e-9 || g.cause != s.cause {
					t.Fatalf("step %d: share %v for %v, want %v for %v", i, g.share, g.cause,
						s.share, s.cause)
				}
			}
			if th := g.threshold(); th != uint64(math.Round(g.share*(1<<32))) {
				t.Errorf("threshold %d for %v", th, g.share)
			}
		})
	}
}
