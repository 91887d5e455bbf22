package doctor

import (
	"slices"
	"strings"
)

// Finding is a result with the texts of its check.
type Finding struct {
	Code  string   `json:"code"`
	Area  Area     `json:"area"`
	State State    `json:"state"`
	Title string   `json:"title"`
	Hop   string   `json:"hop"`   // the host that is to blame
	About string   `json:"about"` // the thing on it; empty: the host
	Seen  string   `json:"seen"`
	Why   string   `json:"why"`
	Fix   []string `json:"fix"`
	On    string   `json:"fix_on"` // the host of Fix
}

// Report is the outcome of an examination.
type Report struct {
	Version string `json:"version"`
	Role    Role   `json:"role"`
	Via     string `json:"via"`
	// State is Found if a cause was, else Unknown if something is not known, else Fine.
	State    State     `json:"state"`
	Findings []Finding `json:"findings"`
	Unknown  []Finding `json:"unknown"`
	Fine     []Finding `json:"fine"`
	Muted    []Finding `json:"muted"` // consequences of Findings
}

// Diagnose judges the facts. Findings are sorted along the path of a packet, upstream first.
func Diagnose(f *Facts) *Report { return diagnose(f, func(*Check) bool { return true }) }

// DiagnoseQuick judges the facts by the checks that send nothing and need no census.
func DiagnoseQuick(f *Facts) *Report { return diagnose(f, func(c *Check) bool { return c.Quick }) }

func diagnose(f *Facts, wanted func(*Check) bool) *Report {
	r := &Report{
		Role: f.Role, Via: f.Via, State: Fine,
		Findings: []Finding{}, Unknown: []Finding{}, Fine: []Finding{}, Muted: []Finding{},
	}
	var all []Finding
	after := map[string][]string{}
	for _, c := range Checks() {
		if !slices.Contains(c.Roles, f.Role) || !wanted(&c) {
			continue
		}
		after[c.Code] = c.After
		for _, x := range c.Judge(f) {
			all = append(all, finding(f, &c, &x))
		}
	}
	for _, x := range f.elsewhere() {
		c, _ := Find(x.Code)
		after[c.Code] = c.After
		all = append(all, x)
	}
	slices.SortStableFunc(all, func(a, b Finding) int {
		return inOrder(a.Area, a.Code, b.Area, b.Code)
	})
	for _, x := range all {
		switch {
		case x.State == Fine:
			r.Fine = append(r.Fine, x)
		case follows(&x, all, after):
			r.Muted = append(r.Muted, x)
		case x.State == Unknown:
			r.Unknown = append(r.Unknown, x)
		default:
			r.Findings = append(r.Findings, x)
		}
	}
	if len(r.Findings) > 0 {
		r.State = Found
	} else if len(r.Unknown) > 0 {
		r.State = Unknown
	}
	return r
}

// follows reports whether x can be the consequence of another finding about the same thing. A
// finding about the host is about all things on it, and one about a mapping about its targets.
func follows(x *Finding, all []Finding, after map[string][]string) bool {
	return slices.ContainsFunc(all, func(y Finding) bool {
		return y.State == Found && slices.Contains(after[x.Code], y.Code) &&
			related(x.About, y.About)
	})
}

// related reports whether two findings are about the same thing, or one about the host, or one
// about a mapping and the other about one of its targets.
func related(a, b string) bool {
	parts := func(about string) []string {
		return strings.FieldsFunc(about, func(r rune) bool {
			return strings.ContainsRune("-|*",
				r)
		})
	}
	return a == b || a == "" || b == "" || slices.Contains(parts(a), b) ||
		slices.Contains(parts(b), a)
}

func finding(f *Facts, c *Check, x *Result) Finding {
	on, hop := x.On, string(f.Role)
	if on == "" {
		on = hop
	}
	if c.Area == Link || x.On != "" {
		hop = on
	}
	if x.Hop != "" {
		hop = x.Hop
	}
	fixes := x.Fix
	if fixes == nil {
		fixes = []string{}
	}
	return Finding{
		Code: c.Code, Area: c.Area, State: x.State, Title: c.Title, Hop: hop, About: x.About,
		Seen: x.Seen, Why: c.Why, Fix: fixes, On: on,
	}
}

// Summary returns a finding as one line, without its fix.
func (x *Finding) Summary() string {
	parts := []string{x.Code, x.Title}
	line := strings.Join(parts, " ")
	if x.Seen != "" {
		line += ": " + x.Seen
	}
	return line
}
