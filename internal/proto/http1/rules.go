package http1

import (
	"bytes"
	"fmt"
	"strings"
)

// Rules are the settings of HTTP/1: which requests a copy leaves out, and what it changes in the
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
	if !ok || methodEnd([]byte(method+" ")) != len(method) || path == "" ||
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
	name, value string
}

// ParseHeader parses 'Name: value'. A header that frames a message, or belongs to a connection, is
// refused.
func ParseHeader(s string) (Header, error) {
	name, value, ok := strings.Cut(s, ":")
	value = strings.Trim(value, " \t")
	if !ok || name == "" || strings.ContainsFunc(name,
		func(r rune) bool { return r > 0x7f || !isToken(byte(r)) }) {
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
	return Header{name: name, value: value}, nil
}

// AddHeader adds a header to set. Two headers may have the same name, but there is one Host.
func (r *Rules) AddHeader(h Header) error {
	if len(r.Set) == maxSet {
		return fmt.Errorf("http1: header %q is one more than %d: wanted fewer", h.name, maxSet)
	}
	for i := range r.Set {
		if strings.EqualFold(h.name, "Host") && strings.EqualFold(r.Set[i].name, "Host") {
			return fmt.Errorf("http1: host %q is given, and %q too: wanted one", h.value,
				r.Set[i].value)
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
	return Header{name: "Host", value: s}, nil
}

// passes reports whether a request goes to the target. head is its whole request line and headers.
func (r *Rules) passes(head []byte) bool {
	method, path := methodPath(head)
	allowed := len(r.Allow) == 0
	for i := range r.Allow {
		allowed = allowed || r.Allow[i].match(method, path)
	}
	for i := range r.Deny {
		allowed = allowed && !r.Deny[i].match(method, path)
	}
	return allowed
}

// methodPath returns a request's method and path. If its target is in absolute form (RFC 9112
// §3.2.2), the path is what follows the authority.
func methodPath(head []byte) (method, path []byte) {
	head = bytes.TrimLeft(head, "\r\n")
	line, _, _ := bytes.Cut(head, []byte{'\n'})
	method, rest, _ := bytes.Cut(line, []byte{' '})
	end := bytes.LastIndex(rest, []byte(" HTTP/"))
	if end < 0 {
		return method, nil
	}
	path = bytes.TrimSpace(rest[:end])
	if i := bytes.Index(path, []byte("://")); i > 0 && path[0] != '/' {
		path = path[i+3:]
		if j := bytes.IndexByte(path, '/'); j >= 0 {
			path = path[j:]
		} else {
			path = []byte{'/'}
		}
	}
	if i := bytes.IndexAny(path, "?#"); i >= 0 {
		path = path[:i]
	}
	return method, path
}

// appendHead appends head with the headers of r.Set. The first header of a name is replaced,
// further ones are removed.
func (r *Rules) appendHead(dst, head []byte) []byte {
	start := len(head) - len(bytes.TrimLeft(head, "\r\n"))
	dst = append(dst, head[:start]...)
	line, rest := cutLine(head[start:])
	dst = append(dst, r.requestLine(line)...)
	var done uint64 // the headers of r.Set that were written, by number
	gone := false   // the line before was removed, and so are lines folded to it
	for {
		line, rest = cutLine(rest)
		if len(cutCR(bytes.TrimSuffix(line, []byte{'\n'}))) == 0 {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			if !gone {
				dst = append(dst, line...)
			}
			continue
		}
		name, _, _ := bytes.Cut(line, []byte{':'})
		gone = false
		for i := range r.Set {
			if h := &r.Set[i]; strings.EqualFold(h.name, string(name)) {
				gone = true
				if done&(1<<i) == 0 {
					dst = h.append(dst)
				}
				done |= 1 << i
			}
		}
		if !gone {
			dst = append(dst, line...)
		}
	}
	for i := range r.Set {
		if done&(1<<i) == 0 {
			dst = r.Set[i].append(dst)
		}
	}
	return append(dst, line...)
}

// maxSet is how many headers can be set: one bit each in appendHead.
const maxSet = 64

func (h *Header) append(dst []byte) []byte {
	return append(append(append(append(dst, h.name...), ": "...), h.value...), "\r\n"...)
}

// requestLine returns the request line; if it names an authority and a Host is set, with that
// Host.
func (r *Rules) requestLine(line []byte) []byte {
	for i := range r.Set {
		h := &r.Set[i]
		if h.name != "Host" {
			continue
		}
		at := bytes.Index(line, []byte("://"))
		space := bytes.IndexByte(line, ' ')
		if at < 0 || space < 0 || bytes.IndexByte(line, '/') < at {
			break
		}
		rest := line[at+3:]
		end := bytes.IndexAny(rest, "/? ")
		if end < 0 {
			break
		}
		return append(append(append([]byte{}, line[:at+3]...), h.value...), rest[end:]...)
	}
	return line
}

// cutLine splits off the first line, with its line end.
func cutLine(p []byte) (line, rest []byte) {
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		return p[:i+1], p[i+1:]
	}
	return p, nil
}
