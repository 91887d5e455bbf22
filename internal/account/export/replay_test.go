package export

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
)

// replaying returns a replay without faults, to which change was applied.
func replaying(change func(s *Snapshot, p *Replay)) *Snapshot {
	s := clean()
	s.Replay = &Replay{
		Files: []string{"a.pcapng", "b.pcap.gz"}, Speed: 1, Size: 1000, Read: 1000, Pass: 1,
		Passes:  1,
		Packets: 40, At: start, Played: 8 * time.Second, Began: 2,
	}
	for range 2 {
		s.Replay.Late.Note(time.Millisecond)
		s.Counters.Behind.Note(2 * time.Millisecond)
	}
	change(s, s.Replay)
	return s
}

func TestReplaySummary(t *testing.T) {
	s := replaying(func(s *Snapshot, p *Replay) {
		p.LostBefore, p.Truncated, p.Corrupt, p.Backwards = 7, 1,
			[]string{`"a.pcapng": corrupt capture file`}, 2
		p.UnknownLink, p.NotIP, p.LinkMalformed, p.OutsidePart = 3, 4, 1, 5
		p.Passes, p.Pass, p.Paused = 3, 2, 1500*time.Millisecond
	})
	var b bytes.Buffer
	if err := Summary(&b, s); err != nil {
		t.Fatal(err)
	}
	golden(t, "replay.txt", b.Bytes())
	j, err := json.MarshalIndent(NewReport(s).Replay, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "replay.json", j)
}

// The verdict names what limited the speed of the replay.
func TestVerdict(t *testing.T) {
	enough := func(s *Snapshot) *Snapshot { s.Counters.Turns *= 10; return s } // of the usual 10
	long := func(h *ledger.Delays) { *h = ledger.Delays{}; h.Note(time.Second) }
	for _, test := range []struct {
		name, want string
		change     func(s *Snapshot, p *Replay)
	}{
		{"in time", "on schedule", func(*Snapshot, *Replay) {}},
		{"requests waited", "the target was", func(s *Snapshot,
			p *Replay) {
			long(&s.Counters.Behind)
		}},
		{"stood still", "tcpcopy was the bottleneck: it stood still for 5s", func(s *Snapshot,
			p *Replay) {
			long(&s.Counters.Behind)
			s.StoodStill = 5 * time.Second
		}},
		{"reading waited for room", "the target was", func(s *Snapshot,
			p *Replay) {
			long(&p.Late)
			p.Paused = time.Second
		}},
		{"read too late", "tcpcopy was the bottleneck: packets were read too late",
			func(s *Snapshot, p *Replay) { long(&p.Late) }},
		{"no processor", "tcpcopy was the bottleneck: it used all",
			func(s *Snapshot, p *Replay) { long(&p.Late); s.Resources.CPU = time.Hour }},
		{"as fast as can be", "the target was", func(s *Snapshot, p *Replay) { p.Speed = 0 }},
		{"as fast as can be, without a processor", "tcpcopy was",
			func(s *Snapshot, p *Replay) { p.Speed = 0; s.Resources.CPU = time.Hour }},
		{"nothing", "nothing was played", func(s *Snapshot, p *Replay) { p.Packets = 0 }},
		{"ten packets", "too short for a verdict: 20 turns in 9s",
			func(s *Snapshot, p *Replay) { long(&p.Late); s.Counters.Turns = 2 }},
		{"a moment", "too short for a verdict: 100 turns in 1s",
			func(s *Snapshot, p *Replay) { long(&p.Late); s.Now = s.Start.Add(time.Second) }},
		{"ten packets in time", "on schedule",
			func(s *Snapshot, p *Replay) { s.Counters.Turns = 2 }},
	} {
		if got := enough(replaying(test.change)).verdict(); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: %s, wanted %s", test.name, got, test.want)
		}
	}
}

func TestReplayProgress(t *testing.T) {
	half := replaying(func(s *Snapshot, p *Replay) { p.Read = 500; s.Final = false })
	if left, ok := half.Left(); !ok || left != 9*time.Second {
		t.Errorf("%v left, %v, wanted 9s", left, ok)
	}
	if line := ReplayLine(half, nil); !strings.HasPrefix(line,
		"replay 50.0 %, 8s of recorded time, 9s left; sessions 1") {
		t.Error(line)
	}
	const want = "[===========           ]  50.0% 9s left, 1 session, 0 live, delivered 100.000 %"
	if got := ReplayBar(half, 80); got != want {
		t.Errorf("%q, wanted %q", got, want)
	}
	unknown := replaying(func(s *Snapshot, p *Replay) { p.Size = 0 })
	if _, ok := unknown.Left(); ok {
		t.Error("what is left of standard input is known")
	}
	for width := range 100 {
		for _, s := range []*Snapshot{half, unknown} {
			if got := ReplayBar(s, width); len([]rune(got)) > max(width, 1) {
				t.Errorf("%d columns: %q", width, got)
			}
		}
	}
}

func TestReplayAdvice(t *testing.T) {
	none := func(change func(p *Replay)) string {
		return strings.Join(Advice(replaying(func(s *Snapshot,
			p *Replay) {
			p.Packets = 0
			change(p)
		})), "\n")
	}
	for want, change := range map[string]func(p *Replay){
		"servers were seen on port 443, 8080": func(p *Replay) {
			p.PortsSeen = []uint16{443,
				8080}
		},
		"it has no TCP packet at all":        func(*Replay) {},
		"all 5 packets for 80-10.0.0.2:8080": func(p *Replay) { p.OutsidePart = 5 },
	} {
		if got := none(change); !strings.Contains(got, want) {
			t.Errorf("%s, wanted %s", got, want)
		}
	}
}

func TestOurs(t *testing.T) {
	var f ledger.Flow
	f.Drop(ledger.TargetRefused, 3)
	f.Drop(ledger.CaptureGap, 3)
	if Ours(&f) != 0 {
		t.Error("the target's doing, or the recording's, is ours")
	}
	f.Drop(ledger.OverMemory, 2)
	f.Drop(ledger.Shutdown, 1)
	if Ours(&f) != 3 {
		t.Errorf("%d, wanted 3", Ours(&f))
	}
}
