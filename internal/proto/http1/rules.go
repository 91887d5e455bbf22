package http1

import (
	"bytes"
	"fmt"
	"strings"
)

// Rules say which requests a copy leaves out, and what it changes in the headers of the others. The zero
// value leaves everything as it is.
type Rules struct {
	Allow []Pattern // where there are some, a request must match one
	Deny  []Pattern // and none of these
	Set   []Header  // replace headers of that name, or are added: see AddHeader
}

// Pattern matches requests by method and path.
type Pattern struct {
	method string // empty: any
	path   string // begins the request's; with a *, which stands for any characters, it is all of it
}

const patternShape = "'METHOD PATH', such as 'POST /orders'; a * is any method, or any part of a path"

// ParsePattern reads a pattern: a method, or *, a space, and what the path begins with. A path with a * in it,
// which stands for any characters, slashes too, is the whole path. The path of a request is matched as the
// client wrote it, without its query.
func ParsePattern(s string) (Pattern, error) {
	method, path, ok := strings.Cut(strings.TrimSpace(s), " ")
	path = strings.TrimSpace(path)
	if !ok || methodEnd([]byte(method+" ")) != len(method) || path == "" || strings.ContainsAny(path, " \t\r\n?") ||
		path[0] != '/' && path[0] != '*' {
		return Pattern{}, fmt.Errorf("http1: request %q: wanted %s", s, patternShape)
	}
	if method == "*" {
		method = ""
	}
	return Pattern{method: strings.ToUpper(method), path: path}, nil
}

// String is the pattern as ParsePattern reads it.
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

// glob matches text against a pattern whose stars stand for any bytes, in linear steps but for going back
// to the last star.
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

// ParseHeader reads 'Name: value'. Headers that say how long a message is, or belong to one connection, cannot
// be set.
func ParseHeader(s string) (Header, error) {
	name, value, ok := strings.Cut(s, ":")
	value = strings.Trim(value, " \t")
	if !ok || name == "" || strings.ContainsFunc(name, func(r rune) bool { return r > 0x7f || !isToken(byte(r)) }) {
		return Header{}, fmt.Errorf("http1: header %q: wanted 'Name: value', such as 'X-Copy: yes'", s)
	}
	if strings.EqualFold(name, "Host") {
		return ParseHost(value)
	}
	if strings.ContainsAny(value, "\r\n\x00") {
		return Header{}, fmt.Errorf("http1: header %q has a line end: wanted one line", s)
	}
	switch strings.ToLower(name) {
	case "content-length", "transfer-encoding", "connection", "upgrade", "trailer", "te", "keep-alive":
		return Header{}, fmt.Errorf("http1: header %q says how long a request is, or is about its connection: wanted another one", name)
	}
	return Header{name: name, value: value}, nil
}

// AddHeader has the rules set another header. A request has one Host, and may have several others of a name.
func (r *Rules) AddHeader(h Header) error {
	if len(r.Set) == maxSet {
		return fmt.Errorf("http1: header %q is one more than %d: wanted fewer", h.name, maxSet)
	}
	for i := range r.Set {
		if strings.EqualFold(h.name, "Host") && strings.EqualFold(r.Set[i].name, "Host") {
			return fmt.Errorf("http1: host %q is given, and %q too: wanted one", h.value, r.Set[i].value)
		}
	}
	r.Set = append(r.Set, h)
	return nil
}

// ParseHost reads the name for the Host header: a name or address, perhaps with a port.
func ParseHost(s string) (Header, error) {
	if s == "" || strings.ContainsAny(s, " \t\r\n/@?#\x00") {
		return Header{}, fmt.Errorf("http1: host %q: wanted a name, such as test.example.org or test.example.org:8080", s)
	}
	return Header{name: "Host", value: s}, nil
}

// passes says whether a request goes to the target. head is the whole of its head.
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

// methodPath takes a request's method and path from its head. Of a target in absolute form (RFC 9112 §3.2.2)
// the path is what follows the authority.
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

// appendHead appends the head with the headers set. The first header of a name is replaced, others of it go.
func (r *Rules) appendHead(dst, head []byte) []byte {
	start := len(head) - len(bytes.TrimLeft(head, "\r\n"))
	dst = append(dst, head[:start]...)
	line, rest := cutLine(head[start:])
	dst = append(dst, r.requestLine(line)...)
	var done uint64 // of the headers to set, by number
	gone := false   // the line before was left out: what is folded to it goes, too
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

// maxSet is how many headers can be set.
const maxSet = 64

func (h *Header) append(dst []byte) []byte {
	return append(append(append(append(dst, h.name...), ": "...), h.value...), "\r\n"...)
}

// requestLine is the request's first line, with the authority of the Host to set where it names one.
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

// cutLine cuts the first line off, with its end.
func cutLine(p []byte) (line, rest []byte) {
	if i := bytes.IndexByte(p, '\n'); i >= 0 {
		return p[:i+1], p[i+1:]
	}
	return p, nil
}
