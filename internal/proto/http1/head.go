package http1

import (
	"bytes"
	"fmt"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/semantics"
)

// head holds what a message's headers say about its length (RFC 9112 §6).
type head struct {
	length  int64 // Content-Length; -1 if there is none
	coded   bool  // there is a Transfer-Encoding
	chunked bool  // its last coding is chunked
	upgrade bool
	expect  bool // Expect: 100-continue, its only value (RFC 9110 §10.1.1)
	framing bool // the header line before frames the message
	old     bool // HTTP/1.0, which has no Transfer-Encoding (RFC 9112 §6.1)
}

// reset prepares for the headers of a message of HTTP/1.minor.
func (h *head) reset(minor byte) { *h = head{length: -1, old: minor == '0'} }

func lost(what string, quoted []byte) error {
	return fmt.Errorf("http1: %w: %s %q", proto.ErrLost, what, quoted)
}

// field reads one header line that is not empty, and returns where its name ends; -1 if the line is
// the rest of a folded one, or no colon is kept of it.
func (h *head) field(ln *line) (colon int, err error) {
	if c := ln.head[0]; c == ' ' || c == '\t' { // RFC 9112 §5.2: a line folded in two
		if h.framing {
			return -1, lost("folded line", ln.head)
		}
		return -1, nil
	}
	h.framing = false
	i := bytes.IndexByte(ln.head, ':')
	if i < 0 {
		if ln.whole() || bytes.ContainsAny(ln.head, " \t") {
			return -1, lost("header line", ln.head)
		}
		return -1, nil // its name is longer than any that matters
	}
	if i == 0 || !semantics.IsToken(ln.head[0]) || !semantics.IsToken(ln.head[i-1]) {
		return i, lost("header line", ln.head) // RFC 9112 §5.1: servers read it in different ways
	}
	switch name := ln.head[:i]; len(name) {
	case len("content-length"):
		if equalFold(name, "content-length") {
			err = h.contentLength(ln, i+1)
		}
	case len("transfer-encoding"):
		if equalFold(name, "transfer-encoding") {
			err = h.transferEncoding(ln, i+1)
		}
	case len("expect"):
		h.expect = h.expect || equalFold(name, "expect")
	case len("upgrade"):
		h.upgrade = h.upgrade || equalFold(name, "upgrade")
	}
	return i, err
}

// contentLength reads a Content-Length. Two of them must agree (RFC 9112 §6.3).
func (h *head) contentLength(ln *line, at int) error {
	h.framing = true
	value := trim(ln.head[at:])
	if !ln.whole() || len(value) == 0 || len(value) > 18 {
		return lost("length", ln.head)
	}
	var n int64
	for _, c := range value {
		if c < '0' || c > '9' {
			return lost("length", value)
		}
		n = 10*n + int64(c-'0')
	}
	if h.length >= 0 && h.length != n {
		return lost("second length", value)
	}
	h.length = n
	return nil
}

// transferEncoding reads one line of codings. Chunked must be the last coding of all lines.
func (h *head) transferEncoding(ln *line, at int) error {
	h.framing = true
	if !ln.whole() {
		return lost("transfer encoding", ln.head)
	}
	value := trim(ln.head[at:])
	if h.chunked || len(value) == 0 { // a coding after chunked
		return lost("transfer encoding", value)
	}
	h.coded = true
	for more := true; more; {
		var one []byte
		one, value, more = bytes.Cut(value, []byte{','})
		if h.chunked {
			return lost("transfer encoding after chunked", one)
		}
		h.chunked = equalFold(trim(one), "chunked")
	}
	return nil
}

// equalFold reports whether p equals s, which is in lower case ASCII, in any case.
func equalFold(p []byte, s string) bool {
	if len(p) != len(s) {
		return false
	}
	for i, c := range p {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != s[i] {
			return false
		}
	}
	return true
}

// trim returns p without the blanks around it.
func trim(p []byte) []byte {
	isBlank := func(c byte) bool { return c == ' ' || c == '\t' }
	for len(p) > 0 && isBlank(p[0]) {
		p = p[1:]
	}
	for len(p) > 0 && isBlank(p[len(p)-1]) {
		p = p[:len(p)-1]
	}
	return p
}
