package export

import (
	"bufio"
	"fmt"
	"math"
	"runtime"
	"strings"
	"time"

	"tcpcopy/internal/account/fidelity"
	"tcpcopy/internal/core/ledger"
)

// Replay is the progress of a replay of capture files, and what was found in them.
type Replay struct {
	Files []string
	Speed float64 // 0: as fast as possible
	// Size is how many bytes the files have on the disk, 0 if that is not known; Read is how many
	// were read so far, in all passes.
	Size, Read   int64
	Pass, Passes int           // Passes 0: without end
	Packets      uint64        // played
	At           time.Time     // when the last packet was recorded
	Played       time.Duration // of the recording's time

	Began  uint64        // connections
	Late   ledger.Delays // of their beginnings, after their scheduled time
	Paused time.Duration // that reading waited for the target

	NotIP, UnknownLink, LinkMalformed, OutsidePart, Backwards, LostBefore uint64

	Truncated int      // files that end in the middle of a packet
	Corrupt   []string // files that can be read only in part, with the reason
	PortsSeen []uint16 // of servers, as long as no packet belongs to a mapping
}

// ReplayReport is the JSON form of a Replay.
type ReplayReport struct {
	Files        []string `json:"files"`
	Speed        float64  `json:"speed"` // 0: as fast as possible
	Pass         int      `json:"pass"`
	Packets      uint64   `json:"packets"`
	Played       float64  `json:"played_seconds"`
	Began        uint64   `json:"sessions_begun"`
	Late         Times    `json:"late"` // of sessions' beginnings, after their scheduled time
	Paused       float64  `json:"paused_seconds"`
	Verdict      string   `json:"verdict"`
	NotIP        uint64   `json:"not_ip"`
	UnknownLink  uint64   `json:"unknown_link"`
	OutsidePart  uint64   `json:"outside_part"`
	Backwards    uint64   `json:"clock_set_back"`
	Truncated    int      `json:"files_truncated"`
	Corrupt      []string `json:"files_corrupt"`
	LostBefore   uint64   `json:"lost_before"` // packets that the recorder reports as lost
	PortsSeen    []uint16 `json:"ports_seen"`
	LinkUnusable uint64   `json:"link_malformed"`
}

// Times summarises a histogram of durations, in milliseconds.
type Times struct {
	Median float64 `json:"median_ms"`
	P99    float64 `json:"p99_ms"`
	Most   float64 `json:"most_ms"`
}

func times(h *ledger.Delays) Times {
	ms := func(d time.Duration) float64 { return math.Round(float64(d)/1e3) / 1e3 }
	return Times{ms(h.At(0.5)), ms(h.At(0.99)), ms(h.Most)}
}

func replayReport(s *Snapshot) *ReplayReport {
	p := s.Replay
	if p == nil {
		return nil
	}
	return &ReplayReport{
		Files: p.Files, Speed: p.Speed, Pass: p.Pass, Packets: p.Packets,
		Played: p.Played.Seconds(), Began: p.Began,
		Late: times(&p.Late), Paused: p.Paused.Seconds(), Verdict: s.verdict(),
		NotIP: p.NotIP, UnknownLink: p.UnknownLink, LinkUnusable: p.LinkMalformed,
		OutsidePart: p.OutsidePart,
		Backwards:   p.Backwards, Truncated: p.Truncated, Corrupt: append([]string{}, p.Corrupt...),
		LostBefore: p.LostBefore,
		PortsSeen:  append([]uint16{}, p.PortsSeen...),
	}
}

// Done returns how much of the replay is over, 0 to 1; false if that is not known.
func (p *Replay) Done() (float64, bool) {
	if p.Size <= 0 || p.Passes == 0 {
		return 0, false
	}
	return min(1, float64(p.Read)/float64(p.Size)/float64(p.Passes)), true
}

// Left returns how long the rest of the replay takes at its present pace; false if that is not
// known.
func (s *Snapshot) Left() (time.Duration, bool) {
	done, ok := s.Replay.Done()
	if !ok || done <= 0 {
		return 0, false
	}
	return time.Duration(float64(s.Elapsed()) * (1 - done) / done), true
}

// Ours returns how much of f was dropped for a reason that lies with this program or its bounds.
func Ours(f *ledger.Flow) (n uint64) {
	for _, r := range []ledger.Reason{
		ledger.OverMemory, ledger.OverSessions, ledger.OverSession, ledger.NoSourceAddress,
		ledger.LinkDown,
		ledger.LinkError, ledger.Shutdown,
	} {
		n += f.Dropped[r]
	}
	return n
}

// busyCPU is the part of the processors that may be used which makes them the bottleneck.
const busyCPU = 0.8

// busy returns the part of the processors that it may use which the process has used.
func (s *Snapshot) busy() float64 {
	if e := s.Elapsed(); e > 0 {
		return s.Resources.CPU.Seconds() / e.Seconds() / float64(runtime.GOMAXPROCS(0))
	}
	return 0
}

// verdict returns what limited the speed of the replay, in words.
func (s *Snapshot) verdict() string {
	p := s.Replay
	late, behind := p.Late.At(0.99), s.Counters.Behind.At(0.99)
	cpu := s.busy()
	const us = "tcpcopy was the bottleneck"
	switch {
	case p.Packets == 0:
		return "nothing was played"
	case p.Speed > 0 && late < fidelity.OnTime && behind < fidelity.OnTime:
		return "on schedule: neither the target nor tcpcopy was a bottleneck"
	case !fidelity.Enough(s.Elapsed(), s.Counters.Turns):
		return fidelity.Short(s.Elapsed(), s.Counters.Turns)
	case cpu >= busyCPU:
		return us + ": it used all the processor time that it may use (GOMAXPROCS)"
	case fidelity.StoodStill(s.StoodStill, s.Elapsed(), &s.Counters.Behind):
		return us + ": it stood still for " + span(s.StoodStill) +
			" (stopped, or without a processor)"
	case p.Speed == 0, behind >= late, p.Paused*2 >= p.Late.Most:
		return "the target was the bottleneck: requests waited for its answers"
	default:
		return us + ": packets were read too late"
	}
}

func replayed(b *bufio.Writer, s *Snapshot) {
	p := s.Replay
	if p == nil {
		return
	}
	line := fmt.Sprintf("%s of %s", count(p.Packets, "packet", "packets"),
		count(uint64(len(p.Files)), "file", "files"))
	if p.Passes != 1 {
		line += fmt.Sprintf(", in pass %d", p.Pass)
	}
	if p.Packets > 0 {
		line += fmt.Sprintf("; %s of recorded time up to %s", span(p.Played),
			p.At.Format("2006-01-02 15:04:05"))
	}
	row(b, "replay", "%s", line)
	for _, e := range oddities(p) {
		row(b, "", "%s", e)
	}
	if p.Speed > 0 && p.Began > 0 {
		row(b, "schedule", "%s began %s after their time (median), 99 %% by %s, all by %s",
			count(p.Began, "session", "sessions"), fine(p.Late.At(0.5)), fine(p.Late.At(0.99)),
			fine(p.Late.Most))
	}
	if h := &s.Counters.Behind; h.Count > 0 {
		row(b, "behind", "requests waited %s for the target (median), 99 %% up to %s, all up to "+
			"%s; reading waited %s",
			fine(h.At(0.5)), fine(h.At(0.99)), fine(h.Most), span(p.Paused))
	}
	row(b, "verdict", "%s", s.verdict())
}

// oddities returns what is wrong with the files, one line each.
func oddities(p *Replay) (all []string) {
	say := func(n uint64, format string, args ...any) {
		if n > 0 {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	say(p.LostBefore, "%s lost when they were recorded",
		count(p.LostBefore, "packet was", "packets were"))
	say(uint64(p.Truncated), "%s in the middle of a packet",
		count(uint64(p.Truncated), "file ends", "files end"))
	for _, c := range p.Corrupt {
		say(1, "read only so far: %s", c)
	}
	say(p.Backwards, "the recording's clock was set back %s", count(p.Backwards, "time", "times"))
	say(p.UnknownLink, "%s of a link type that cannot be read",
		count(p.UnknownLink, "packet", "packets"))
	say(p.NotIP, "%s neither IPv4 nor IPv6", count(p.NotIP, "packet is", "packets are"))
	say(p.LinkMalformed, "%s cut off before the IP header, or broken there",
		count(p.LinkMalformed, "packet is", "packets are"))
	say(p.OutsidePart, "%s before --from", count(p.OutsidePart, "packet", "packets"))
	return all
}

// fine formats a duration in microseconds or milliseconds, as long as that is a small number.
func fine(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return span(d)
	case d >= 100*time.Millisecond:
		return d.Round(time.Millisecond).String()
	case 0 < d && d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d)/1e6)
}

// replayAdvice returns the hints of Advice that concern a replay.
func replayAdvice(s *Snapshot) []Finding {
	p := s.Replay
	if p.Packets > 0 || !s.Final {
		return nil
	}
	seen := "it has no TCP packet at all"
	if len(p.PortsSeen) > 0 {
		words := make([]string, len(p.PortsSeen))
		for i, port := range p.PortsSeen {
			words[i] = fmt.Sprint(port)
		}
		seen = "servers were seen on port " + strings.Join(words, ", ")
	}
	if p.OutsidePart > 0 {
		return []Finding{{Text: fmt.Sprintf("all %s for %s are before --from",
			count(p.OutsidePart, "packet", "packets"), strings.Join(s.Mappings, ", "))}}
	}
	return []Finding{{Text: fmt.Sprintf("no packet for %s is in %s: %s",
		strings.Join(s.Mappings, ", "), strings.Join(p.Files, ", "), seen)}}
}

// ReplayLine returns Line for a replay, with its progress.
func ReplayLine(s, prev *Snapshot) string {
	p := s.Replay
	line := "replay"
	if done, ok := p.Done(); ok {
		line += fmt.Sprintf(" %.1f %%", 100*done)
	}
	if p.Passes != 1 {
		line += fmt.Sprintf(" pass %d", p.Pass)
	}
	line += fmt.Sprintf(", %s of recorded time", span(p.Played))
	if left, ok := s.Left(); ok {
		line += ", " + span(left.Round(time.Second)) + " left"
	}
	return line + "; " + Line(s, prev)
}

// ReplayBar returns the progress of a replay for a terminal, at most width columns wide.
func ReplayBar(s *Snapshot, width int) string {
	p, c := s.Replay, &s.Counters
	text := fmt.Sprintf(" %s, %s live, delivered %s",
		count(c.Sessions.Captured, "session", "sessions"), number(c.Live), percent(&c.Sessions))
	if left, ok := s.Left(); ok {
		text = fmt.Sprintf(" %s left,%s", span(left.Round(time.Second)), text)
	} else {
		text = fmt.Sprintf(" %s,%s", span(p.Played.Round(time.Second)), text)
	}
	done, ok := p.Done()
	if room := width - len([]rune(text)) - 10; ok && room >= 10 {
		full := int(done * float64(room))
		text = fmt.Sprintf("[%s%s] %5.1f%%%s", strings.Repeat("=", full),
			strings.Repeat(" ", room-full), 100*done, text)
	}
	if r := []rune(text); len(r) >= width {
		text = string(r[:max(width-1, 0)])
	}
	return text
}
