package export

import (
	"fmt"
	"strings"
	"time"

	"tcpcopy/internal/core/ledger"
)

// Line returns the state of the copy, and what has happened since prev, in one line without a
// newline. If prev is nil, it is what has happened since the start.
func Line(s, prev *Snapshot) string {
	c := &s.Counters
	was := new(ledger.Counters)
	over := s.Elapsed()
	if prev != nil {
		was = &prev.Counters
		over = s.Now.Sub(prev.Now)
	}

	parts := []string{
		fmt.Sprintf("sessions %s (+%s, %s live), delivered %s", number(c.Sessions.Captured),
			number(c.Sessions.Captured-was.Sessions.Captured), number(c.Live),
			percent(&c.Sessions)),
		fmt.Sprintf("bytes %s, delivered %s", size(c.Bytes.Captured), percent(&c.Bytes)),
		fmt.Sprintf("turns %s (%s/s)", number(c.Turns), rate(c.Turns-was.Turns, over)),
	}
	if d := droppedLine(&c.Sessions, &was.Sessions); d != "" {
		parts = append(parts, "dropped "+d)
	}
	if n := c.Packets.KernelDrop; n > 0 {
		parts = append(parts, fmt.Sprintf("lost in the kernel %s (+%s)", number(n),
			number(n-was.Packets.KernelDrop)))
	}
	if n := c.Packets.Shed + c.Packets.Lost; n > 0 {
		parts = append(parts, fmt.Sprintf("left out by agents %s, lost from them %s",
			number(c.Packets.Shed), number(c.Packets.Lost)))
	}
	if n := len(s.Links); n > 0 {
		up := 0
		for _, l := range s.Links {
			if l.Up {
				up++
			}
		}
		parts = append(parts, fmt.Sprintf("intercepts %d of %d up", up, n))
	}
	if n := len(s.Agents); n > 0 {
		up := 0
		for _, a := range s.Agents {
			if a.Up {
				up++
			}
		}
		parts = append(parts, fmt.Sprintf("agents %d of %d connected", up, n))
	}
	if s.Compare != nil {
		parts = append(parts, s.Compare.Line())
	}
	if err := c.Check(); err != nil {
		parts = append(parts, "ACCOUNT DOES NOT BALANCE")
	}
	return strings.Join(parts, "; ")
}

func rate(n uint64, over time.Duration) string {
	if over <= 0 {
		return "-"
	}
	return number(uint64(float64(n)/over.Seconds() + 0.5))
}

// droppedLine lists every reason that has dropped something: its count, and the increase since
// was.
func droppedLine(f, was *ledger.Flow) string {
	var parts []string
	for _, r := range ledger.Reasons() {
		if n := f.Dropped[r]; n > 0 {
			p := fmt.Sprintf("%s %s", r, number(n))
			if more := n - was.Dropped[r]; more > 0 {
				p += " (+" + number(more) + ")"
			}
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, ", ")
}
