package verdict

import (
	"fmt"
	"strings"
)

// Rules are what a user wants left out of a comparison.
type Rules struct{ Ignore []Rule }

// Rule matches differences. An asterisk at the end of Endpoint or Path stands for anything.
type Rule struct {
	Endpoint string // empty: all
	Path     string
}

// String returns the rule as it is written.
func (r Rule) String() string { return strings.TrimLeft(r.Endpoint+" "+r.Path, " ") }

// roots are the words with which paths begin.
var roots = []string{"body", "header ", "reply", "error", "status", "answer", "rows", "column ",
	"affected", "insert id", "warnings", "result ", "end"}

// ParseRule parses "[ENDPOINT ]PATH", such as "body.id" or "GET /user/{id} header etag". The words
// of paths may be in an endpoint, too, so the last one begins the path.
func ParseRule(s string) (Rule, error) {
	s = strings.TrimSpace(s)
	from := -1
	for _, root := range roots {
		if strings.HasPrefix(s, root) {
			return Rule{Path: s}, nil
		}
		from = max(from, strings.LastIndex(s, " "+root))
	}
	if from < 0 {
		return Rule{}, fmt.Errorf("verdict: rule %q has no path: wanted [ENDPOINT ]PATH, and a "+
			"path that begins with body, header NAME, reply, rows, column NAME, error, answer "+
			"or status", s)
	}
	return Rule{Endpoint: s[:from], Path: s[from+1:]}, nil
}

// silences reports whether a rule matches a difference, and counts it.
func (r *Rules) silences(endpoint, path string, counts []uint64) bool {
	for i, rule := range r.Ignore {
		if rule.Endpoint != "" && !match(rule.Endpoint, endpoint) || !match(rule.Path, path) {
			continue
		}
		counts[i]++
		return true
	}
	return false
}

func match(pattern, s string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(s, prefix)
	}
	return pattern == s
}
