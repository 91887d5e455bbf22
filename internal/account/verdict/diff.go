package verdict

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Change is how two runs compare, in which the same traffic went to an old and to a new version:
// each was compared with production.
type Change struct {
	Verdict Word     `json:"verdict"`
	Why     []string `json:"why"`
	Cells   []Moved  `json:"cells"`
	Times   []Ratio  `json:"times"`
}

// Moved is a way of differing from production that the two runs show in different numbers of
// sessions.
type Moved struct {
	Endpoint string  `json:"endpoint"`
	Path     string  `json:"path"`
	Kind     Kind    `json:"kind"`
	From     string  `json:"production"`
	To       string  `json:"target"`
	Old      uint64  `json:"old_sessions"`
	New      uint64  `json:"new_sessions"`
	Evidence float64 `json:"evidence"` // that the new version differs more often
	Needed   float64 `json:"needed"`
	Proven   bool    `json:"proven"`
}

// key is where a cell is, as both runs know it.
type key struct {
	endpoint, path string
	kind           Kind
	from, to       string
}

func keyOf(c *Cell) key {
	k := key{endpoint: c.Endpoint, path: c.Path, kind: c.Kind}
	switch {
	case c.Kind.content():
		k.kind = Value
	case c.Kind != Missing && c.Kind != Extra:
		k.from, k.to = c.From, c.To
	}
	return k
}

// Judged is what a verdict is of. With neither word it is of both.
type Judged struct {
	Differs, Slower bool
	By              float64 // see SlowerBy, which is taken if it is 0
}

// orBoth returns j with both words if it has neither.
func (j Judged) orBoth() Judged {
	if !j.Differs && !j.Slower {
		j.Differs, j.Slower = true, true
	}
	return j
}

// ParseJudged parses a list of the words differs and slower.
func ParseJudged(s string) (j Judged, err error) {
	for word := range strings.SplitSeq(s, ",") {
		switch Word(strings.TrimSpace(word)) {
		case Differs:
			j.Differs = true
		case IsSlower:
			j.Slower = true
		default:
			return Judged{}, fmt.Errorf("verdict: %q: wanted differs, slower, or both with a comma",
				s)
		}
	}
	return j, nil
}

// ParsePercent parses a percentage of more than 0 as a part: 10% is 0.1.
func ParsePercent(s string) (float64, error) {
	f, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil || !(f > 0 && f <= 1e6) || !strings.HasSuffix(s, "%") {
		return 0, fmt.Errorf("verdict: %q: wanted a percentage above 0, such as 10%%", s)
	}
	return f / 100, nil
}

// Compare compares the results of two runs. Where neither version differs from the other, each
// session that differs from production is as likely to be of the one run as of the other, in
// proportion to the answers that were compared.
func Compare(old, now *Result, j Judged) (*Change, error) {
	if old == nil || now == nil {
		return nil, errors.New("verdict: a report without a comparison: wanted two of --compare")
	}
	ch := &Change{Cells: []Moved{}, Times: []Ratio{}}
	was, is := map[string]EndpointResult{}, map[string]EndpointResult{}
	for _, e := range old.Endpoints {
		was[e.Endpoint] = e
	}
	for _, e := range now.Endpoints {
		is[e.Endpoint] = e
	}
	all := map[key]*Moved{}
	at := func(c *Cell) *Moved {
		k := keyOf(c)
		m := all[k]
		if m == nil {
			m = &Moved{Endpoint: c.Endpoint, Path: c.Path, Kind: c.Kind, From: c.From, To: c.To}
			all[k] = m
		}
		return m
	}
	for i := range old.Cells {
		at(&old.Cells[i]).Old += old.Cells[i].Sessions
	}
	for i := range now.Cells {
		at(&now.Cells[i]).New += now.Cells[i].Sessions
	}
	needed := threshold(len(all))
	for _, m := range all {
		a, b := float64(was[m.Endpoint].Content), float64(is[m.Endpoint].Content)
		if m.Kind == Status || m.Kind == NoAnswer {
			a, b = float64(was[m.Endpoint].Compared), float64(is[m.Endpoint].Compared)
		}
		if m.Old == m.New || a == 0 || b == 0 {
			continue
		}
		e := evidence(m.New, m.Old, b/(a+b))
		m.Evidence, m.Needed, m.Proven = round(e), round(needed), e >= needed
		ch.Cells = append(ch.Cells, *m)
	}
	slices.SortFunc(ch.Cells, func(x, y Moved) int {
		return cmp.Or(cmp.Compare(y.Evidence, x.Evidence), cmp.Compare(y.New, x.New),
			strings.Compare(x.Endpoint, y.Endpoint), strings.Compare(x.Path, y.Path),
			strings.Compare(string(x.Kind), string(y.Kind)), strings.Compare(x.From, y.From),
			strings.Compare(x.To, y.To))
	})
	ch.Times = append(ch.Times, compareTimes(old.Times, now.Times, cmp.Or(j.By, SlowerBy))...)
	ch.Verdict, ch.Why = ch.verdict(old, now, j.orBoth())
	return ch, nil
}

// verdict returns the verdict, and what it was reached by.
func (ch *Change) verdict(old, now *Result, j Judged) (Word, []string) {
	var proven, slow []string
	for _, m := range ch.Cells {
		if m.Proven && j.Differs {
			proven = append(proven, fmt.Sprintf("%s: %s: %s in %d sessions, before in %d",
				m.Endpoint, m.Path, m.Kind, m.New, m.Old))
		}
	}
	unclear := j.Slower && len(ch.Times) == 0
	for _, r := range ch.Times {
		if !j.Slower {
			break
		}
		switch r.Speed {
		case Slower:
			slow = append(slow, r.slower("before"))
		case Unclear:
			unclear = true
		}
	}
	switch {
	case len(proven) > 0:
		return Differs, append(few(proven), slow...)
	case len(slow) > 0:
		return IsSlower, slow
	}
	for _, r := range [...]*Result{old, now} {
		if done := r.Due - min(r.Due, r.Open); r.Compared < enough ||
			float64(r.Compared) < coverage*float64(done) {
			return CannotTell, []string{fmt.Sprintf("one of the runs compared %d of %d answers%s",
				r.Compared, r.Due, mostExcluded(r))}
		}
	}
	if unclear {
		return CannotTell, []string{unclearTimes(ch.Times)}
	}
	why := "no new difference, and not slower"
	switch {
	case !j.Slower:
		why = "no new difference"
	case !j.Differs:
		why = "not slower"
	}
	return Same, []string{why}
}

// unclearTimes says why times are not judged. The machine is blamed for what would count as slower.
func unclearTimes(all []Ratio) string {
	var most float64
	for _, r := range all {
		added := math.Abs(r.Machine)
		if r.Speed == Unclear && added > math.Abs(most) && added >= SlowerBy*r.Old {
			most = r.Machine
		}
	}
	run := "later"
	if most < 0 {
		run = "earlier"
	}
	if added := math.Abs(most); added > 0 {
		return fmt.Sprintf("this machine was busier in the %s run, which may have added %.3g ms: "+
			"wanted two runs on an equally busy machine", run, added)
	}
	return fmt.Sprintf("the times are too few, or vary too much, to be compared (wanted %d blocks "+
		"of time or more)", minBlocks)
}

// Write writes a table for people.
func (ch *Change) Write(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%-9s %s: %s\n", "verdict", ch.Verdict, ch.Why[0])
	for _, why := range ch.Why[1:] {
		fmt.Fprintf(&b, "%-9s %s\n", "", why)
	}
	for _, r := range ch.Times {
		fmt.Fprintf(&b, "%-9s %s\n", "times", r.line("before"))
	}
	for i, m := range ch.Cells {
		if i == shown {
			fmt.Fprintf(&b, "… and %d more\n", len(ch.Cells)-i)
			break
		}
		fmt.Fprintf(&b, "%-9s 10^%.1f: %s: %s: %s in %d sessions, before in %d\n", "cell",
			m.Evidence, m.Endpoint, m.Path, m.Kind, m.New, m.Old)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
