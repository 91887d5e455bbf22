package export

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"strings"

	"tcpcopy/internal/core/ledger"
)

// Summary writes the table that a copier prints at its end: what was captured, delivered, and
// dropped for which reasons, how turns were released, the state of the links, the cost, and
// whether the account balances.
func Summary(w io.Writer, s *Snapshot) error {
	b := bufio.NewWriter(w)
	c := &s.Counters

	state := "running for"
	if s.Final {
		state = "ran for"
	}
	fmt.Fprintf(b, "tcpcopy %s %s %s", s.Version, state, span(s.Elapsed()))
	if len(s.Mappings) > 0 {
		fmt.Fprintf(b, ": %s (%s)", strings.Join(s.Mappings, ", "), s.Via)
	}
	fmt.Fprint(b, "\n\n")

	flows(b, c)
	reasons(b, c)
	packets(b, &c.Packets)
	replayed(b, s)
	turns(b, c)
	protocol(b, s)
	if c.SegmentsOut+c.SegmentsIn+c.SendErrors > 0 {
		row(b, "raw", "%s sent (%s again), %s refused by the kernel; %s reported, %s of no "+
			"connection of ours",
			count(c.SegmentsOut, "segment", "segments"), number(c.Retransmits),
			number(c.SendErrors),
			number(c.SegmentsIn), number(c.ForeignAnswers))
	}
	amplified(b, c)
	targets(b, s)
	agentRows(b, s)
	links(b, s)
	oldVersion(b, s)
	if s.Compare != nil {
		if err := s.Compare.Write(b); err != nil {
			return err
		}
	}
	cost(b, s)
	err := c.Check()
	if s.Baseline != nil {
		err = cmp.Or(err, s.Baseline.Check())
	}
	if err != nil {
		row(b, "account", "DOES NOT BALANCE: %v", err)
	} else {
		row(b, "account", "balances: captured = delivered + in flight + dropped")
	}
	for _, a := range Advice(s) {
		row(b, "hint", "%s", a)
	}
	return b.Flush()
}

// oldVersion writes the account of the copies to the old version.
func oldVersion(b *bufio.Writer, s *Snapshot) {
	if s.Baseline == nil {
		return
	}
	f := &s.Baseline.Sessions
	row(b, "old", "%s to the old version: %s delivered, %s in flight, %s dropped",
		count(f.Captured, "session", "sessions"), number(f.Delivered), inFlight(f),
		number(f.DroppedAll()))
	for _, r := range ledger.Reasons() {
		if n := f.Dropped[r]; n > 0 {
			row(b, "", "%s: %s (%s)", number(n), r, r.Meaning())
		}
	}
}

func row(b *bufio.Writer, name, format string, args ...any) {
	fmt.Fprintf(b, "%-9s %s\n", name, fmt.Sprintf(format, args...))
}

func flows(b *bufio.Writer, c *ledger.Counters) {
	fmt.Fprintf(b, "%-9s %15s %15s %12s %12s %12s\n", "", "captured", "delivered", "in flight",
		"dropped", "delivered")
	for _, f := range []struct {
		name string
		flow *ledger.Flow
	}{{"sessions", &c.Sessions}, {"bytes", &c.Bytes}} {
		fmt.Fprintf(b, "%-9s %15s %15s %12s %12s %12s\n", f.name, number(f.flow.Captured),
			number(f.flow.Delivered),
			inFlight(f.flow), number(f.flow.DroppedAll()), percent(f.flow))
	}
	if c.Adopted > 0 {
		row(b, "", "%s of the sessions %s under way when first seen (adopted)", number(c.Adopted),
			wasWere(c.Adopted))
	}
	if c.NoHandshake > 0 {
		row(b, "", "%s more %s not copied: the handshake did not complete (no_handshake)",
			number(c.NoHandshake), wasWere(c.NoHandshake))
	}
	b.WriteByte('\n')
}

// inFlight returns "?" if more was accounted for than captured: the difference would wrap around.
func inFlight(f *ledger.Flow) string {
	if f.Check() != nil {
		return "?"
	}
	return number(f.InFlight())
}

func wasWere(n uint64) string {
	if n == 1 {
		return "was"
	}
	return "were"
}

func reasons(b *bufio.Writer, c *ledger.Counters) {
	if c.Sessions.DroppedAll()+c.Bytes.DroppedAll() == 0 {
		row(b, "dropped", "nothing")
		return
	}
	fmt.Fprintf(b, "%-19s %12s %15s\n", "dropped", "sessions", "bytes")
	for _, r := range ledger.Reasons() {
		n, m := c.Sessions.Dropped[r], c.Bytes.Dropped[r]
		if n+m == 0 {
			continue
		}
		fmt.Fprintf(b, "  %-17s %12s %15s  %s\n", r, number(n), number(m), r.Meaning())
	}
	b.WriteByte('\n')
}

func packets(b *bufio.Writer, p *ledger.Packets) {
	row(b, "packets", "%s offered, %s captured, %s lost in the kernel", number(p.Offered),
		number(p.Seen), number(p.KernelDrop))
	if p.Shed+p.Lost > 0 {
		row(b, "", "%s left out by agents to stay within their bounds, %s lost between agents "+
			"and here", number(p.Shed), number(p.Lost))
	}
	if p.NotOurs+p.Malformed+p.Twice > 0 {
		row(b, "", "%s not for a mapping, %s malformed, %s seen twice", number(p.NotOurs),
			number(p.Malformed), number(p.Twice))
	}
}

func turns(b *bufio.Writer, c *ledger.Counters) {
	row(b, "requests", "%s released; answered with %s", count(c.Turns, "turn", "turns"),
		size(c.AnswerBytes))
	if waited := c.GateKnown + c.GatePredicted + c.GateQuiet + c.GateClosed +
		c.GateForced; waited > 0 {
		row(b, "waited", "%s for an answer: %s known, %s predicted, %s after quiet, %s at the "+
			"target's close, %s forced at the limit",
			number(waited), number(c.GateKnown), number(c.GatePredicted), number(c.GateQuiet),
			number(c.GateClosed), number(c.GateForced))
	}
}

// protocol writes the account of connections whose protocol is known.
func protocol(b *bufio.Writer, s *Snapshot) {
	c := &s.Counters
	q := &c.Requests
	var dropped []string
	for _, r := range ledger.Reasons() {
		if n := q.Dropped[r]; n > 0 {
			dropped = append(dropped, number(n)+" "+r.String())
		}
	}
	if q.Sent+q.Answered+q.Production.Answered+c.ProtoLost == 0 && len(dropped) == 0 &&
		q.Refused == (ledger.ByClass{}) {
		return
	}
	row(b, "protocol", "%s sent, %s rewritten; %s, %s failed",
		count(q.Sent, "request", "requests"), number(q.Rewritten),
		count(q.Answered, "answer", "answers"), number(q.Failed))
	statuses(b, "status", &q.Answers)
	texts(b, &q.Texts)
	answerRow(b, "answered", &q.Answers)
	if o := &q.Production; o.Answered > 0 {
		line := fmt.Sprintf("production: %s, %s failed", count(o.Answered, "answer", "answers"),
			number(o.Failed))
		if q.ProductionLost > 0 {
			line += fmt.Sprintf("; %s could not be read to the end",
				count(q.ProductionLost, "connection", "connections"))
		}
		row(b, "", "%s", line)
		statuses(b, "production's status", o)
		if s.Replay == nil { // in a replay time may run faster
			answerRow(b, "production answered", o)
		}
	}
	if len(dropped) > 0 {
		row(b, "", "left out: %s", strings.Join(dropped, ", "))
	}
	var refused []string
	for _, class := range ledger.Classes() {
		if n := q.Refused[class]; n > 0 {
			what := number(n) + " with " + class.String()
			if m := class.Meaning(); m != "" {
				what += " (" + m + ")"
			}
			refused = append(refused, what)
		}
	}
	if len(refused) > 0 {
		row(b, "", "logins refused: %s", strings.Join(refused, ", "))
	}
	if c.ProtoLost > 0 {
		row(b, "", "%s could not be followed to the end", count(c.ProtoLost, "copy", "copies"))
	}
}

// statuses writes how many answers had each class of status.
func statuses(b *bufio.Writer, what string, a *ledger.Answers) {
	var classes []string
	for _, class := range ledger.Classes() {
		if n := a.Status[class]; n > 0 {
			classes = append(classes, number(n)+" "+class.String())
		}
	}
	if len(classes) > 0 {
		row(b, "", "%s: %s", what, strings.Join(classes, ", "))
	}
}

// answerRow writes how long answers took.
func answerRow(b *bufio.Writer, what string, a *ledger.Answers) {
	if a.Whole.Count > 0 {
		row(b, "", "%s in %s (median; 99 %%: %s), the first byte in %s (%s)", what,
			fine(a.Whole.At(0.5)), fine(a.Whole.At(0.99)), fine(a.First.At(0.5)),
			fine(a.First.At(0.99)))
	}
}

// amplified writes how many copies a connection had, if that is more than one.
func amplified(b *bufio.Writer, c *ledger.Counters) {
	if c.Copies > c.Connections && c.Connections > 0 {
		row(b, "copies", "%s of %s: %.2f of each", number(c.Copies),
			count(c.Connections, "connection", "connections"),
			float64(c.Copies)/float64(c.Connections))
	}
}

// targets writes how several targets shared the copies.
func targets(b *bufio.Writer, s *Snapshot) {
	if len(s.Targets) < 2 {
		return
	}
	fmt.Fprintf(b, "%-25s %8s %12s %12s %12s %12s\n", "targets", "share", "begun", "opened",
		"failed", "live")
	for i := range s.Targets {
		t := &s.Targets[i]
		name, state := t.Production+"-"+t.Target, t.State()
		if n := t.Count.TakenOut; n > 0 {
			state += ", taken out " + count(n, "time", "times")
		}
		fmt.Fprintf(b, "  %-23s %6.1f %% %12s %12s %12s %12s  %s\n", name, 100*s.Share(t),
			number(t.Count.Begun), number(t.Count.Opened), number(t.Count.Failed),
			number(t.Count.Live), state)
	}
	b.WriteByte('\n')
}

// agentRows writes the state of each agent, and what it did not send.
func agentRows(b *bufio.Writer, s *Snapshot) {
	for i, a := range s.Agents {
		name := ""
		if i == 0 {
			name = "agents"
		}
		state := "gone"
		if a.Up {
			state = "connected"
		}
		line := fmt.Sprintf("%s (%s) %s", a.Name, a.Address, state)
		if !a.Since.IsZero() {
			line += " for " + span(s.Now.Sub(a.Since))
		}
		line += ", " + count(a.Packets, "packet", "packets")
		for _, n := range []struct {
			count uint64
			what  string
		}{
			{a.KernelDrop, "lost in its kernel"},
			{a.ShedCPU, "left out for its --max-cpu"},
			{a.ShedRate, "left out for its --max-mbps"},
			{a.OverMemory, "too many for its connection"},
			{a.LinkDown, "dropped without a connection"},
			{a.Lost, "lost with its connection"},
		} {
			if n.count > 0 {
				line += ", " + number(n.count) + " " + n.what
			}
		}
		if a.ShedSessions > 0 {
			line += fmt.Sprintf(" (%s)", count(a.ShedSessions, "session", "sessions"))
		}
		if a.Error != "" && !a.Up {
			line += ": " + a.Error
		}
		row(b, name, "%s", line)
	}
}

func links(b *bufio.Writer, s *Snapshot) {
	for i, l := range s.Links {
		name := ""
		if i == 0 {
			name = "links"
		}
		state := "down"
		if l.Up {
			state = "up"
		}
		line := l.Intercept + " " + state
		if !l.Since.IsZero() {
			line += " for " + span(s.Now.Sub(l.Since))
		}
		if l.Reconnects > 0 {
			line += ", " + count(l.Reconnects, "reconnect", "reconnects")
		}
		if l.ClaimsRefused > 0 {
			line += ", " + count(l.ClaimsRefused, "claim", "claims") + " refused"
		}
		if l.QueueDropped > 0 {
			line += ", " + count(l.QueueDropped, "message", "messages") + " not sent"
		}
		if l.Forbidden > 0 {
			line += ", " + count(l.Forbidden, "target", "targets") + " forbidden"
		}
		if l.Error != "" {
			line += ": " + l.Error
		}
		row(b, name, "%s", line)
	}
}

func cost(b *bufio.Writer, s *Snapshot) {
	line := fmt.Sprintf("%.1f s of CPU", s.Resources.CPU.Seconds())
	if e := s.Elapsed(); e > 0 {
		line += fmt.Sprintf(" (%.0f %% of a core)", 100*s.Resources.CPU.Seconds()/e.Seconds())
	}
	if t := s.Counters.Turns; t > 0 {
		line += fmt.Sprintf(", %.1f µs for each turn",
			float64(s.Resources.CPU.Microseconds())/float64(t))
	}
	line += ", " + size(s.Resources.MaxRSS) + " of memory at most"
	if 100*s.StoodStill > s.Elapsed() {
		line += "; it stood still for " + span(s.StoodStill) +
			" (stopped, or without a processor)"
	}
	row(b, "cost", "%s", line)
}
