package verdict

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"tcpcopy/internal/proto"
)

// Tolerance is by how much the numbers at a path may differ.
type Tolerance struct {
	Rule
	Amount   float64 // above 0
	Relative bool    // Amount is a part of the larger one
}

// String returns the tolerance as it is written.
func (t Tolerance) String() string {
	if t.Relative {
		return fmt.Sprintf("%s %g%%", t.Rule, 100*t.Amount)
	}
	return fmt.Sprintf("%s %g", t.Rule, t.Amount)
}

// ParseTolerance parses "[ENDPOINT ]PATH AMOUNT", such as "body.price 0.01" or "body.score 1%".
func ParseTolerance(s string) (t Tolerance, err error) {
	s = strings.TrimSpace(s)
	rule, amount, _ := cutLast(s, " ")
	if t.Rule, err = ParseRule(rule); err != nil {
		return Tolerance{}, err
	}
	number, relative := strings.CutSuffix(amount, "%")
	n, ok := parseNumber(number)
	if t.Relative = relative; relative {
		n /= 100
	}
	if !ok || n <= 0 || math.IsInf(n, 0) {
		return Tolerance{}, fmt.Errorf("verdict: tolerance %q: wanted [ENDPOINT ]PATH AMOUNT with "+
			"a number above 0 or a percentage, such as body.price 0.01 or body.score 1%%", s)
	}
	t.Amount = n
	return t, CheckValues(t.Path)
}

// cutLast is strings.Cut at the last sep.
func cutLast(s, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// CheckValues returns an error if the values at a path may not be had: it names a secret.
func CheckValues(path string) error {
	if proto.IsSecret(path) {
		return fmt.Errorf("verdict: path %q names a secret: wanted one whose values may be seen",
			path)
	}
	return nil
}

// parseNumber parses a decimal number, and nothing else that strconv takes for one.
func parseNumber(s string) (float64, bool) {
	if s == "" || strings.Trim(s, "0123456789+-.eE") != "" {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil
}

// covers reports whether two fields have as many numbers, each within the tolerance of the other's.
func (t *Tolerance) covers(x, y *proto.Field) bool {
	if x == nil || y == nil || len(x.Values) != len(y.Values) || len(x.Values) != int(x.Count) {
		return false
	}
	for i := range x.Values {
		a, ok := parseNumber(x.Values[i])
		b, too := parseNumber(y.Values[i])
		most := t.Amount
		if t.Relative {
			most *= max(math.Abs(a), math.Abs(b))
		}
		if !ok || !too || math.Abs(a-b) > most*(1+1e-12) { // 0.3-0.2 is more than 0.1
			return false
		}
	}
	return true
}

// shows reports whether the values at a path are shown.
func (r *Rules) shows(path string) bool {
	return slices.ContainsFunc(r.Show, func(p string) bool { return match(p, path) })
}

// shownValues returns the values of a field for people.
func shownValues(f *proto.Field) string {
	var all []string
	for _, v := range f.Values {
		more := ""
		if len(v) >= proto.MaxValue {
			more = "…"
		}
		if f.Types == proto.Text {
			v = strconv.Quote(v)
		}
		all = append(all, v+more)
	}
	if len(all) < int(f.Count) {
		all = append(all, "…")
	}
	return strings.Join(all, ", ")
}

// Wanted returns what the rules want digests to have.
func (r *Rules) Wanted() proto.Wanted {
	w := proto.Wanted{Values: slices.Clone(r.Show), Headers: r.Headers}
	for i := range r.Tolerate {
		w.Values = append(w.Values, r.Tolerate[i].Path)
	}
	slices.Sort(w.Values)
	w.Values = slices.Compact(w.Values)
	return w
}
