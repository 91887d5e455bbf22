// Package http1 reads HTTP/1.0 and HTTP/1.1 (RFC 9112): where requests and answers end. If its
// options ask for it, it leaves requests out and changes their headers.
//
// It does not read what servers and proxies read in different ways (two lengths that differ, a
// folded Content-Length, white space before a colon): it returns proto.ErrLost instead.
package http1

import (
	"bytes"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/semantics"
)

// Recognise recognises HTTP by the whole request line, and by the beginning of the status line if
// that was captured.
func Recognise(client, server []byte) proto.Verdict {
	if len(server) > 0 {
		const form = "HTTP/1."
		if n := min(len(server), len(form)); string(server[:n]) != form[:n] || len(client) == 0 {
			return proto.No // the server spoke first, or another protocol
		}
	}
	text, _, ok := bytes.Cut(client, []byte{'\n'})
	if !ok {
		if len(client) > semantics.MaxMethod && methodEnd(client) < 0 ||
			len(client) > 0 && !semantics.IsToken(client[0]) {
			return proto.No
		}
		return proto.Unsure
	}
	var ln line
	ln.set(cutCR(text))
	if _, err := requestLine(&ln); err != nil {
		return proto.No
	}
	return proto.Yes
}

// methodEnd returns where the method of a request line ends; -1 if p does not begin with one.
func methodEnd(p []byte) int {
	for i, c := range p[:min(len(p), semantics.MaxMethod+1)] {
		switch {
		case c == ' ' && i > 0:
			return i
		case !semantics.IsToken(c):
			return -1
		}
	}
	return -1
}

// requestLine checks a request line (RFC 9112 §3): method, target, version. It returns where the
// method ends.
func requestLine(ln *line) (method int, err error) {
	m := methodEnd(ln.head)
	if m < 0 || ln.len < m+1+1+len(" HTTP/1.1") {
		return 0, lost("request line", ln.head[:min(len(ln.head), 32)])
	}
	v := ln.tail[len(ln.tail)-len(" HTTP/1.1"):]
	if string(v[:8]) != " HTTP/1." || v[8] < '0' || v[8] > '9' {
		return 0, lost("version of the request line", v)
	}
	return m, nil
}
