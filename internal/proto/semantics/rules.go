// Package semantics holds what the versions of HTTP have in common: the rules by which requests are
// left out and changed, with their options, and the classes of status codes.
package semantics

import (
	"fmt"
	"strings"
)

// Rules are the settings of HTTP: which requests a copy leaves out, and what it changes in the
// headers of the others. The zero value changes nothing.
type Rules struct {
	Allow []Pattern // if not empty, a request must match one of these
	Deny  []Pattern // a request must match none of these
	Set   []Header  // replace the headers of that name, or are added: see AddHeader
}

// Pattern matches requests by method and path.
type Pattern struct {
	method string // empty: any
	path   string // a prefix of the request's; with a * (for any characters), the whole path
}

const patternShape = "'METHOD PATH', such as 'POST /orders'; a * is any method, or any part of " +
	"a path"

// ParsePattern parses a pattern: a method or *, a space, and a prefix of the path. A path with a
// *, which stands for any characters, slashes too, matches the whole path. The path of a request
// is matched as the client wrote it, without its query.
func ParsePattern(s string) (Pattern, error) {
	method, path, ok := strings.Cut(strings.TrimSpace(s), " ")
	path = strings.TrimSpace(path)
	if !ok || !isMethod(method) || path == "" ||
		strings.ContainsAny(path, " \t\r\n?") ||
		path[0] != '/' && path[0] != '*' {
		return Pattern{}, fmt.Errorf("http1: request %q: wanted %s", s, patternShape)
	}
	if method == "*" {
		method = ""
	}
	return Pattern{method: strings.ToUpper(method), path: path}, nil
}

// String returns the pattern as ParsePattern takes it.
func (p Pattern) String() string {
	if p.method == "" {
		return "* " + p.path
	}
	return p.method + " " + p.path
}

func (p *Pattern) match(method, path []byte) bool {
	if p.method != "" && string(method) != p.method {
		return false
	}
	if !strings.Contains(p.path, "*") {
		return len(path) >= len(p.path) && string(path[:len(p.path)]) == p.path
	}
	return glob(p.path, path)
}

// glob reports whether text matches a pattern whose stars stand for any bytes. It goes back to the
// last star at most.
func glob(pattern string, text []byte) bool {
	star, mark := -1, 0
	i, j := 0, 0
	for j < len(text) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, mark = i, j
			i++
		case i < len(pattern) && pattern[i] == text[j]:
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[i:], "*") == ""
}

// Header is a header line to set.
type Header struct {
	Name, Value string
}

// Is reports whether the header has that name, in any case.
func (h *Header) Is(name []byte) bool {
	if len(name) != len(h.Name) {
		return false
	}
	for i, c := range name {
		if lower(c) != lower(h.Name[i]) {
			return false
		}
	}
	return true
}

// IsHost reports whether the header names the host.
func (h *Header) IsHost() bool { return h.Name == "Host" }

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// IsToken reports whether a token may have the character (RFC 9110 §5.6.2).
func IsToken(c byte) bool { return token[c] }

// token holds the characters that a token may have.
var token = func() (t [256]bool) {
	const letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	for _, c := range "!#$%&'*+-.^_`|~0123456789" + letters {
		t[c] = true
	}
	return t
}()

// MaxMethod is the length of the longest method that is accepted.
const MaxMethod = 24

// isMethod reports whether s may be a method.
func isMethod(s string) bool {
	return s != "" && len(s) <= MaxMethod &&
		!strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f || !IsToken(byte(r)) })
}

// ParseHeader parses 'Name: value'. A header that frames a message, or belongs to a connection, is
// refused.
func ParseHeader(s string) (Header, error) {
	name, value, ok := strings.Cut(s, ":")
	value = strings.Trim(value, " \t")
	if !ok || name == "" || strings.ContainsFunc(name,
		func(r rune) bool { return r > 0x7f || !IsToken(byte(r)) }) {
		return Header{}, fmt.Errorf("http1: header %q: wanted 'Name: value', such as 'X-Copy: "+
			"yes'", s)
	}
	if strings.EqualFold(name, "Host") {
		return ParseHost(value)
	}
	if strings.ContainsAny(value, "\r\n\x00") {
		return Header{}, fmt.Errorf("http1: header %q has a line end: wanted one line", s)
	}
	switch strings.ToLower(name) {
	case "content-length", "transfer-encoding", "connection", "upgrade", "trailer", "te",
		"keep-alive":
		return Header{}, fmt.Errorf("http1: header %q frames a request, or belongs to its "+
			"connection: wanted another one", name)
	}
	return Header{Name: name, Value: value}, nil
}

// AddHeader adds a header to set. Two headers may have the same name, but there is one Host.
func (r *Rules) AddHeader(h Header) error {
	if len(r.Set) == maxSet {
		return fmt.Errorf("http1: header %q is one more than %d: wanted fewer", h.Name, maxSet)
	}
	for i := range r.Set {
		if strings.EqualFold(h.Name, "Host") && strings.EqualFold(r.Set[i].Name, "Host") {
			return fmt.Errorf("http1: host %q is given, and %q too: wanted one", h.Value,
				r.Set[i].Value)
		}
	}
	r.Set = append(r.Set, h)
	return nil
}

// ParseHost parses the value of a Host header: a name or an address, with or without a port.
func ParseHost(s string) (Header, error) {
	if s == "" || strings.ContainsAny(s, " \t\r\n/@?#\x00") {
		return Header{}, fmt.Errorf("http1: host %q: wanted a name, such as test.example.org or "+
			"test.example.org:8080", s)
	}
	return Header{Name: "Host", Value: s}, nil
}

// Passes reports whether a request goes to the target. The path has neither authority nor query.
func (r *Rules) Passes(method, path []byte) bool {
	allowed := len(r.Allow) == 0
	for i := range r.Allow {
		allowed = allowed || r.Allow[i].match(method, path)
	}
	for i := range r.Deny {
		allowed = allowed && !r.Deny[i].match(method, path)
	}
	return allowed
}

// maxSet is how many headers can be set: one bit each where they are written.
const maxSet = 64
