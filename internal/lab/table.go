package lab

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// Column widths of the table.
const (
	nameWidth = 26
	cellWidth = 14
)

// Print writes the table that the lab ends with.
func (r *Result) Print(w io.Writer) {
	fmt.Fprintf(w, "\n%s\n\n", r.title())
	t := table{w}
	c, copied := &r.Comparison, r.Options.Via != NoCopy
	row := func(name, production, target string) {
		if !copied {
			target = ""
		}
		t.row(name, production, target)
	}
	row("", "production", "target")
	row("requests", count(r.Production.Requests), count(r.Target.Requests))
	if copied {
		if r.Scenario.CopierAfter > 0 {
			row("  compared (the rest)", count(c.Compared), "")
		}
		row("  delivered", "", fmt.Sprintf("%.3f %%", c.delivered()))
		row("  missing", "", count(c.Missing))
	}
	row("  duplicated", count(r.Production.Duplicated), count(r.Target.Duplicated))
	row("  reordered", count(r.Production.Reordered), count(r.Target.Reordered))
	row("  corrupted", count(r.Production.Corrupted), count(r.Target.Corrupted))
	row("  early", count(r.Production.Early), count(r.Target.Early))
	row("connections", count(r.Production.Opened), count(r.Target.Opened))
	row("  at the same time, most", count(r.Production.MostOpen), count(r.Target.MostOpen))
	row("  on average", r.averageOpen(func(s Sample) int64 { return s.Production }),
		r.averageOpen(func(s Sample) int64 { return s.Target }))
	row("bytes of requests", count(r.Production.Bytes), count(r.Target.Bytes))
	if copied {
		t.row("")
		t.row("", "p50", "p90", "p99", "most")
		t.row("lag behind production", milliseconds(r.LagAt(50)), milliseconds(r.LagAt(90)),
			milliseconds(r.LagAt(99)), milliseconds(r.LagAt(100)))
		t.row("")
		t.row("", "CPU", "a request", "memory", "exit code")
		for _, p := range []*Process{&r.Copier, &r.Intercept, &r.Agent} {
			if p.Name != "" {
				t.row(p.Name, fmt.Sprintf("%.2f s", p.CPU.Seconds()), fmt.Sprintf("%.1f µs",
					float64(r.CPUPerRequest(p).Nanoseconds())/1e3),
					fmt.Sprintf("%.1f MB", float64(p.MaxRSS)/1e6), strconv.Itoa(p.ExitCode))
			}
		}
		r.printLedger(t)
	}
	problems := r.Problems()
	fmt.Fprintln(w)
	if len(problems) == 0 {
		fmt.Fprintln(w, "all is as it should be")
		return
	}
	fmt.Fprintln(w, "not as it should be:")
	for _, p := range problems {
		fmt.Fprintf(w, "  - %s\n", p)
	}
	r.printExamples(w)
}

func (r *Result) title() string {
	words := []string{r.Scenario.Name + ": " + r.Scenario.Help, "via " + r.Options.Via}
	if r.Options.Answers != "" {
		words = append(words, "the target answers "+r.Options.Answers)
	}
	if r.Options.Loss > 0 {
		words = append(words, fmt.Sprintf("%v %% loss each way", r.Options.Loss))
	}
	if p := r.Options.Path; p.Delay > 0 || p.Loss > 0 {
		words = append(words, fmt.Sprintf("a path of %v and %v %% loss each way", p.Delay, p.Loss))
	}
	if r.Options.ClientLoss > 0 {
		words = append(words, fmt.Sprintf("%v %% loss each way before production",
			r.Options.ClientLoss))
	}
	if r.Options.IPv6 {
		words = append(words, "IPv6")
	}
	if r.Options.NoOffloads {
		words = append(words, "offloads off")
	}
	return strings.Join(words, ", ")
}

func (r *Result) printLedger(t table) {
	a := r.Report
	if a == nil {
		return
	}
	t.row("")
	t.row("ledger", "captured", "delivered", "in flight", "dropped")
	for _, f := range []struct {
		name                                   string
		captured, delivered, inFlight, dropped uint64
	}{
		{"  sessions", a.Sessions.Captured, a.Sessions.Delivered, a.Sessions.InFlight,
			sum(a.Sessions.Dropped)},
		{"  bytes", a.Bytes.Captured, a.Bytes.Delivered, a.Bytes.InFlight, sum(a.Bytes.Dropped)},
	} {
		t.row(f.name, count(int64(f.captured)), count(int64(f.delivered)), count(int64(f.inFlight)),
			count(int64(f.dropped)))
	}
	if lost := drops(a); lost != "" {
		t.row("  " + lost)
	}
}

func (r *Result) printExamples(w io.Writer) {
	for _, side := range []struct {
		name     string
		examples []string
	}{{"production", r.Production.Examples}, {"target", r.Target.Examples}} {
		for _, e := range side.examples {
			fmt.Fprintf(w, "    %s: %s\n", side.name, e)
		}
	}
}

// averageOpen returns the mean of the samples from the first open connection to the last.
func (r *Result) averageOpen(of func(Sample) int64) string {
	var total, n int64
	for _, s := range r.Samples {
		if s.Production > 0 || s.Target > 0 {
			total += of(s)
			n++
		}
	}
	if n == 0 {
		return "0"
	}
	return fmt.Sprintf("%.1f", float64(total)/float64(n))
}

// table writes rows: a name, and cells that end below each other.
type table struct{ w io.Writer }

func (t table) row(name string, cells ...string) {
	var b strings.Builder
	fmt.Fprintf(&b, "%-*s", nameWidth, name)
	for _, c := range cells {
		fmt.Fprintf(&b, "%*s", cellWidth, c)
	}
	fmt.Fprintln(t.w, strings.TrimRight(b.String(), " "))
}

// count returns n with separated thousands.
func count(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1e3)
}

func sum(m map[string]uint64) (n uint64) {
	for _, v := range m {
		n += v
	}
	return n
}
