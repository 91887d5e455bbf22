package verdict

import (
	"fmt"
	"strings"

	"tcpcopy/internal/proto"
)

// Rules are how a user wants answers compared.
type Rules struct {
	Ignore    []Rule // differences that are left out
	Unordered []Rule // lists that may be in any order
	Endpoints []Endpoint
	Tolerate  []Tolerance
	Show      []string // paths whose values are shown
	Headers   []string // the only headers that are compared, in lower case; empty: as they are
	Judged    Judged
}

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

// silencers returns how many rules may silence differences.
func (r *Rules) silencers() int { return len(r.Ignore) + len(r.Unordered) + len(r.Tolerate) }

// silencer returns the i-th of these as it is shown.
func (r *Rules) silencer(i int) string {
	n, m := len(r.Ignore), len(r.Ignore)+len(r.Unordered)
	switch {
	case i >= m:
		return "tolerance: " + r.Tolerate[i-m].String()
	case i >= n:
		return "unordered: " + r.Unordered[i-n].String()
	}
	return r.Ignore[i].String()
}

// silences reports whether a rule matches a difference, and counts it if counts is not nil.
func (r *Rules) silences(endpoint string, d *difference, counts []uint64) bool {
	i := r.silencing(endpoint, d)
	if i >= 0 && counts != nil {
		counts[i]++
	}
	return i >= 0
}

// silencing returns the index of the silencer that matches a difference; -1 if there is none.
func (r *Rules) silencing(endpoint string, d *difference) int {
	for i, rule := range r.Ignore {
		if rule.at(endpoint) && match(rule.Path, d.path) {
			return i
		}
	}
	switch d.kind {
	case Order:
		for i, rule := range r.Unordered {
			if rule.at(endpoint) && (match(rule.Path, d.path) ||
				within(d.path, []string{rule.Path})) {
				return len(r.Ignore) + i
			}
		}
	case Value:
		for i := range r.Tolerate {
			rule := &r.Tolerate[i]
			if rule.at(endpoint) && match(rule.Path, d.path) && rule.covers(d.x, d.y) {
				return len(r.Ignore) + len(r.Unordered) + i
			}
		}
	}
	return -1
}

// at reports whether a rule is for an endpoint.
func (r *Rule) at(endpoint string) bool { return r.Endpoint == "" || match(r.Endpoint, endpoint) }

func match(pattern, s string) bool { return proto.MatchPath(pattern, s) }

// Endpoint is a class of requests of HTTP: a method and a path, of which segments in braces stand
// for any: GET /user/{name}.
type Endpoint string

// ParseEndpoint parses an Endpoint.
func ParseEndpoint(s string) (Endpoint, error) {
	method, path, ok := strings.Cut(strings.TrimSpace(s), " ")
	whole := ok && method != "" && strings.HasPrefix(path, "/") && strings.Contains(path, "/{")
	for segment := range strings.SplitSeq(path, "/") {
		if strings.ContainsAny(segment, "{}? ") && !isPlaceholder(segment) {
			whole = false
		}
	}
	if !whole {
		return "", fmt.Errorf("verdict: endpoint %q: wanted METHOD /PATH with segments in braces, "+
			"such as GET /user/{name}", s)
	}
	return Endpoint(method + " " + path), nil
}

// isPlaceholder reports whether a segment of a path stands for any other.
func isPlaceholder(segment string) bool {
	return len(segment) > 2 && segment[0] == '{' && segment[len(segment)-1] == '}' &&
		!strings.ContainsAny(segment[1:len(segment)-1], "{}? ")
}

// matches reports whether a class of requests belongs to the endpoint.
func (e Endpoint) matches(name string) bool {
	pattern, more, rest := string(e), true, true
	for more && rest {
		var want, got string
		want, pattern, more = strings.Cut(pattern, "/")
		if got, name, rest = strings.Cut(name, "/"); got == "" && want != "" ||
			got != want && !isPlaceholder(want) {
			return false
		}
	}
	return more == rest
}

// endpoint returns the class that requests are counted in.
func (r *Rules) endpoint(name string) string {
	for _, e := range r.Endpoints {
		if e.matches(name) {
			return string(e)
		}
	}
	return name
}
