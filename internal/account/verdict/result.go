package verdict

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"

	"tcpcopy/internal/core/session"
)

// Word is a verdict in one word or two.
type Word string

// The verdicts.
const (
	Same       Word = "same"
	Differs    Word = "differs"
	CannotTell Word = "cannot tell"
	IsSlower   Word = "slower"
)

const (
	// enough is how many answers must have been compared to be called the same.
	enough = 20
	// coverage is the part of the answers due that must have been compared.
	coverage = 0.9
	// tolerated is the part of the answers in an endpoint that may differ without being proven to.
	tolerated = 0.01
)

// Result is the verdict of a run, and what it was made of. It is also its JSON form.
type Result struct {
	Verdict  Word              `json:"verdict"`
	Why      []string          `json:"why"`
	Due      uint64            `json:"answers_due"` // compared + excluded + open
	Compared uint64            `json:"compared"`
	Open     uint64            `json:"open"`
	Excluded map[string]uint64 `json:"excluded"`
	Partly   uint64            `json:"compared_without_content"`
	// First counts the answers that were the first of their session to differ, Later those that
	// may differ as a consequence.
	First     uint64           `json:"differed"`
	Later     uint64           `json:"differed_as_a_consequence"`
	OverCells uint64           `json:"differences_over_bounds"`
	Endpoints []EndpointResult `json:"endpoints"`
	Statuses  []StatusResult   `json:"statuses"`
	Cells     []Cell           `json:"cells"`
	Rules     []RuleResult     `json:"rules,omitempty"`
	Times     *TimesReport     `json:"times,omitempty"`
	Against   *AgainstResult   `json:"against,omitempty"`
}

// AgainstResult is what the old version, which was asked the same, has answered.
type AgainstResult struct {
	Targets  []string          `json:"targets"`
	Only     bool              `json:"only"` // its answers take the place of production's
	Answered uint64            `json:"answers"`
	Lacking  map[string]uint64 `json:"lacking"` // answers compared without it, by the reason
	// Times are how long the candidate took, compared with the old version, for the requests that
	// both have answered; none if they are too few. They are judged at the end of a run.
	Times []Ratio `json:"times"`
}

// EndpointResult counts the answers that were compared in one class of requests.
type EndpointResult struct {
	Endpoint string `json:"endpoint"`
	Compared uint64 `json:"compared"`
	Content  uint64 `json:"compared_by_content"` // those with the same status
	Based    uint64 `json:"compared_with_an_earlier_answer"`
	Differed uint64 `json:"differed"`
}

// StatusResult is a cell of the matrix of statuses. 0 is no answer.
type StatusResult struct {
	Production uint16 `json:"production"`
	Target     uint16 `json:"target"`
	Answers    uint64 `json:"answers"`
}

// RuleResult tells how many differences a rule has silenced.
type RuleResult struct {
	Rule     string `json:"rule"`
	Silenced uint64 `json:"silenced"`
}

// Cell is one way in which answers differed, at one path, in one class of requests.
type Cell struct {
	Endpoint string `json:"endpoint"`
	Path     string `json:"path"`
	Kind     Kind   `json:"kind"`
	From     string `json:"production"` // an example, without values
	To       string `json:"target"`
	Alone    uint64 `json:"target_alone"`      // where the target alone differed
	Base     uint64 `json:"production_alone"`  // where it was the other way round
	Blind    uint64 `json:"blind"`             // where it cannot be told
	Both     uint64 `json:"old_version_too"`   // where the old version differed in the same way
	Sessions uint64 `json:"sessions"`          // in which target and production differed
	Expected uint64 `json:"recognised_values"` // that are expected to differ
	Known    string `json:"recognised,omitempty"`
	// Evidence is the e-value, as a power of ten, and Needed the one from which it is proven.
	Evidence float64 `json:"evidence"`
	Needed   float64 `json:"needed"`
	Proven   bool    `json:"proven"`
	// Pair is the first answers between which the difference was seen, side by side.
	Pair []Row `json:"pair,omitempty"`
}

// Result judges what was counted.
func (a *Account) Result(rules *Rules) *Result {
	r := &Result{Due: a.due, Compared: a.compared, Excluded: map[string]uint64{},
		Partly: a.skipped, First: a.differed, Later: a.later, OverCells: a.overCells,
		Endpoints: []EndpointResult{}, Statuses: []StatusResult{}, Cells: []Cell{}}
	closed := a.compared
	for i, n := range a.excluded {
		if closed += n; n > 0 {
			r.Excluded[session.Exclusion(i).String()] = n
		}
	}
	r.Open = a.due - min(a.due, closed)
	for name, e := range a.endpoints {
		r.Endpoints = append(r.Endpoints, EndpointResult{name, e.compared, e.content,
			e.based, e.differed})
	}
	slices.SortFunc(r.Endpoints, func(x, y EndpointResult) int {
		return cmp.Or(cmp.Compare(y.Compared, x.Compared), strings.Compare(x.Endpoint, y.Endpoint))
	})
	for k, n := range a.status {
		r.Statuses = append(r.Statuses, StatusResult{k[0], k[1], n})
	}
	slices.SortFunc(r.Statuses, func(x, y StatusResult) int {
		return cmp.Or(cmp.Compare(x.Production, y.Production), cmp.Compare(x.Target, y.Target))
	})
	for i, n := range a.silenced {
		r.Rules = append(r.Rules, RuleResult{rules.silencer(i), n})
	}
	a.cells(r)
	if len(a.times.blocks) > 0 {
		r.Times = a.times.report()
	}
	if b := &a.baseline; b.asked {
		r.Against = &AgainstResult{Targets: []string{}, Answered: b.answered,
			Lacking: map[string]uint64{}, Times: []Ratio{}}
		maps.Copy(r.Against.Lacking, b.lacking)
		if len(b.old.blocks) > 0 {
			r.Against.Times = append(r.Against.Times, compareTimes(b.old.report(), b.now.report(),
				cmp.Or(rules.Judged.By, SlowerBy))...)
		}
	}
	r.Verdict, r.Why = a.verdict(r, rules.Judged.orBoth())
	return r
}

// Shorten leaves out of a result what is large, and of use only at the end: cells and endpoints
// beyond the first hundred, and examples.
func (r *Result) Shorten() {
	const most = 100
	r.Cells = r.Cells[:min(len(r.Cells), most)]
	for i := range r.Cells {
		r.Cells[i].Pair = nil
	}
	r.Endpoints = r.Endpoints[:min(len(r.Endpoints), most)]
}

// cells adds the cells to a result, the strongest evidence first.
func (a *Account) cells(r *Result) {
	var met int
	for p, c := range a.places {
		if c.alone+a.against(p, c) > 0 {
			met++
		}
	}
	needed := threshold(met)
	for p, c := range a.places {
		cell := Cell{Endpoint: p.endpoint, Path: p.path, Kind: c.kind(p), From: c.from, To: c.to,
			Alone: c.alone, Base: a.against(p, c), Blind: c.blind, Both: c.both,
			Sessions: c.sessions, Expected: c.expected, Known: c.known.String(),
			Needed: round(needed)}
		if cell.Alone+cell.Blind+cell.Expected+cell.Sessions == 0 {
			continue // only production's own answers differed
		}
		if p.kind != Value && p.from != "" {
			cell.From, cell.To = p.from, p.to
		}
		if c.pair != nil {
			cell.Pair = c.pair.rows
		}
		e := 0.0
		if cell.Alone > 0 {
			e = evidence(cell.Alone, cell.Base, 0.5)
		}
		cell.Evidence, cell.Proven = round(e), e >= needed
		r.Cells = append(r.Cells, cell)
	}
	slices.SortFunc(r.Cells, func(x, y Cell) int {
		return cmp.Or(cmp.Compare(y.Evidence, x.Evidence), cmp.Compare(y.Alone, x.Alone),
			strings.Compare(x.Endpoint, y.Endpoint), strings.Compare(x.Path, y.Path),
			strings.Compare(string(x.Kind), string(y.Kind)), strings.Compare(x.From, y.From),
			strings.Compare(x.To, y.To))
	})
}

// against returns what speaks against a difference at a place.
func (a *Account) against(p place, c *count) uint64 {
	if m := a.places[p.mirror()]; m != nil && p.kind != Value && p.kind != NoAnswer {
		return c.base + m.direct // without the old version the opposite direction speaks against it
	}
	return c.base
}

// round returns a natural logarithm as one to the base of ten, to a hundredth.
func round(ln float64) float64 { return math.Round(100*ln/math.Ln10) / 100 }

// verdict returns the verdict, and what it was reached by.
func (a *Account) verdict(r *Result, j Judged) (Word, []string) {
	var proven, open, slow []string
	if j.Differs {
		proven, open = a.differs(r)
	}
	if j.Slower {
		slow = r.Against.slower()
	}
	switch {
	case len(proven) > 0:
		return Differs, append(few(proven), slow...)
	case len(slow) > 0:
		return IsSlower, slow
	}
	done := r.Due - r.Open
	switch {
	case r.Compared == 0:
		return CannotTell, []string{"no answer was compared" + mostExcluded(r)}
	case float64(r.Compared) < coverage*float64(done):
		return CannotTell, []string{fmt.Sprintf("only %.1f %% of the answers due were compared%s",
			100*float64(r.Compared)/float64(done), mostExcluded(r))}
	case len(open) > 0:
		return CannotTell, few(open)
	case r.Compared < enough:
		return CannotTell, []string{fmt.Sprintf("only %d answers were compared: wanted %d",
			r.Compared, enough)}
	case !j.Differs && !r.Against.isNotSlower():
		return CannotTell, []string{unclearTimes(r.Against.Times)}
	case !j.Differs:
		return Same, []string{"not slower than the old version; differences are not judged"}
	case 2*r.Partly > r.Compared:
		return CannotTell, []string{"most bodies are too large, or of an encoding that is not read"}
	case r.OverCells > 0:
		return CannotTell, []string{fmt.Sprintf("%d differences found no room", r.OverCells)}
	}
	return Same, []string{fmt.Sprintf("%d answers compared: at most %.2g %% differ (95 %%)",
		r.Compared, 300/float64(r.Compared))}
}

// differs returns in what the candidate differs, and what cannot be told.
func (a *Account) differs(r *Result) (proven, open []string) {
	for i := range r.Cells {
		c := &r.Cells[i]
		all := float64(a.endpoints[c.Endpoint].compared)
		if c.Kind.content() {
			all = float64(a.endpoints[c.Endpoint].content)
		}
		where := fmt.Sprintf("%s: %s: %s", c.Endpoint, c.Path, c.Kind)
		switch {
		case c.Proven:
			proven = append(proven, where)
		case c.Alone > c.Base && float64(c.Alone-c.Base) > tolerated*all:
			open = append(open, fmt.Sprintf("%s in %d answers: too few to prove it", where,
				c.Alone))
		case float64(c.Blind) > all/2:
			why := "it differs at production from answer to answer, or no request came twice"
			if a.baseline.answered > 0 {
				why = "all of production, the old version and the target differ there"
			}
			open = append(open, fmt.Sprintf("%s: cannot be judged, since %s", where, why))
		}
	}
	return proven, open
}

// few returns the first of many reasons, and how many there are.
func few(all []string) []string {
	const most = 50
	if len(all) <= most {
		return all
	}
	return append(all[:most:most], fmt.Sprintf("… and %d more", len(all)-most))
}

// mostExcluded names the reason for which most answers were not compared.
func mostExcluded(r *Result) string {
	var most string
	for _, name := range sortedKeys(r.Excluded) {
		if most == "" || r.Excluded[name] > r.Excluded[most] {
			most = name
		}
	}
	if most == "" {
		return ""
	}
	return fmt.Sprintf(": %d %s", r.Excluded[most], most)
}

func sortedKeys(m map[string]uint64) []string {
	all := make([]string, 0, len(m))
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// AskedAgainst notes which servers of the old version were asked, even if none has answered; only
// has their answers take the place of production's.
func (r *Result) AskedAgainst(targets []netip.AddrPort, only bool) {
	if r.Against == nil {
		r.Against = &AgainstResult{Lacking: map[string]uint64{}, Times: []Ratio{}}
	}
	r.Against.Only = only
	r.Against.Targets = make([]string, len(targets))
	for i, a := range targets {
		r.Against.Targets[i] = a.String()
	}
}

// slower says in what the candidate is slower than the old version.
func (r *AgainstResult) slower() (all []string) {
	if r == nil {
		return nil
	}
	for i := range r.Times {
		if r.Times[i].Speed == Slower {
			all = append(all, r.Times[i].slower("the old version's"))
		}
	}
	return all
}

// isNotSlower reports whether the candidate is not slower than the old version by any quantile.
func (r *AgainstResult) isNotSlower() bool {
	return r != nil && len(r.Times) > 0 &&
		!slices.ContainsFunc(r.Times, func(t Ratio) bool { return t.Speed != NotSlower })
}
