package fidelity

import (
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
)

func delays(n int, d time.Duration) *ledger.Delays {
	var h ledger.Delays
	for range n {
		h.Note(d)
	}
	return &h
}

// perfect is a copy with nothing to find fault with.
func perfect() *Input {
	return &Input{
		Elapsed: time.Minute, Balanced: true, Sessions: Share{Delivered: 1000},
		Bytes: Share{Delivered: 1_000_000},
		Turns: 10_000, Connections: 1000, Copies: 1000, Wanted: 1,
		Behind: delays(10_000, time.Millisecond), Live: true,
		Late: new(ledger.Delays), Area: 60_000, Apart: 100, Cause: Cause{Offered: 100_000},
	}
}

func TestEachFaultLowersItsPart(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Input)
		part   string // the only one below 99; empty: none
		who    Who
		says   string
	}{
		{"perfect", func(*Input) {}, "", Nobody, "neither the target nor tcpcopy"},
		{"--wait none", func(in *Input) { in.Ungated = true }, "earliness", Tool, "--wait none"},
		{"1 % of the packets lost", func(in *Input) {
			in.Sessions, in.Cause.KernelDrop = Share{970, 30}, 1000
		}, "delivery", Tool, "1000 of 100000 packets"},
		{"a target that resets", func(in *Input) {
			in.Sessions, in.Cause.Target = Share{900, 100}, 100
		}, "delivery", Target, "100 of the 100 sessions"},
		{"bounds", func(in *Input) {
			in.Sessions, in.Cause.Tool = Share{900, 100}, 100
		}, "delivery", Tool, "at its bounds"},
		{"encrypted sessions", func(in *Input) { in.Sessions = Share{900, 100} }, "delivery", Open,
			"the reasons"},
		{"bytes lost", func(in *Input) { in.Bytes = Share{900, 100} }, "delivery", Open, ""},
		{"a slow target", func(in *Input) { in.Behind = delays(10_000, time.Second) }, "timing",
			Target, "waited up to"},
		{"a slow copier", func(in *Input) {
			in.Behind, in.Cause.CPU = delays(10_000, time.Second), 0.95
		}, "timing", Tool, "95 % of the processor"},
		{"a copier that stood still", func(in *Input) {
			in.Behind, in.Cause.StoodStill = delays(10_000, time.Second), 20*time.Second
		}, "timing", Tool, "stood still for 20s of 1m0s"},
		{"a slow target, and a moment's rest", func(in *Input) {
			in.Behind, in.Cause.StoodStill = delays(10_000, time.Second), time.Second
		}, "timing", Target, "waited up to"},
		{"packets lost before the capture", func(in *Input) {
			in.Sessions, in.Cause.Gaps = Share{970, 30}, 30
		}, "delivery", Tool, "30 of the 30 sessions"},
		{"a replay that reads late", func(in *Input) {
			in.Live, in.Scheduled, in.Late = false, true, delays(1000, time.Second)
		}, "timing", Tool, "read too late"},
		{"more open at the target", func(in *Input) { in.Apart = 30_000 }, "concurrency", Open,
			"curves"},
		{"too few copies", func(in *Input) { in.Wanted = 2 }, "multiplier", Open, ""},
		{"forced turns", func(in *Input) { in.Forced = 1000 }, "earliness", Open, "earliness"},
		{"a bug", func(in *Input) { in.Balanced = false }, "order", Tool, "a bug"},
	} {
		in := perfect()
		tt.change(in)
		s := Of(in)
		for _, p := range s.Parts {
			if p.Value == nil {
				t.Errorf("%s: no %s: %s", tt.name, p.Name, p.Why)
				continue
			}
			if low := *p.Value < 99; low != (p.Name == tt.part) {
				t.Errorf("%s: %s is %v: %s", tt.name, p.Name, *p.Value, p.Why)
			}
			if *p.Value < *s.Value {
				t.Errorf("%s: %s is below the score, %v", tt.name, p.Name, *s.Value)
			}
		}
		if s.Who != tt.who || !strings.Contains(s.Verdict, tt.says) {
			t.Errorf("%s: %s: %s", tt.name, s.Who, s.Verdict)
		}
	}
}

// What cannot be judged has no value, and does not count.
func TestNothingToJudge(t *testing.T) {
	s := Of(&Input{Behind: new(ledger.Delays), Late: new(ledger.Delays), Balanced: true})
	for _, p := range s.Parts {
		if p.Value != nil || p.Why == "" {
			t.Errorf("%s is %v: %q", p.Name, p.Value, p.Why)
		}
	}
	if s.Value != nil || s.Who != Open {
		t.Errorf("%v, %s", s.Value, s.Who)
	}
	in := perfect()
	in.Live, in.Area, in.Wanted = false, 0, 0
	none := 0
	for _, p := range Of(in).Parts {
		if p.Value == nil {
			none++
		}
	}
	if none != 3 {
		t.Errorf("%d parts have no value, want timing, concurrency and multiplier", none)
	}
}

// Ten packets blame nobody.
func TestShortRuns(t *testing.T) {
	for _, change := range []func(*Input){
		func(in *Input) { in.Turns = 10 }, func(in *Input) { in.Elapsed = time.Second },
	} {
		in := perfect()
		in.Sessions = Share{0, 3}
		change(in)
		if s := Of(in); s.Who != Open || !strings.Contains(s.Verdict, "too short") {
			t.Errorf("%s: %s", s.Who, s.Verdict)
		}
	}
}

// What is almost all is not all.
func TestRounding(t *testing.T) {
	in := perfect()
	in.Bytes = Share{1e12, 1}
	if v := *Of(in).Value; v >= 100 || v < 99 {
		t.Errorf("%v", v)
	}
}
