// Package http1 knows HTTP/1.0 and HTTP/1.1 (RFC 9112): where requests and answers end, and, where it is
// told to, which requests a copy leaves out and what it changes in their headers.
//
// What servers and proxies read in different ways (two lengths that differ, a folded Content-Length, white
// space before a colon) it does not read at all: it is lost rather than wrong.
package http1

import (
	"bytes"

	"tcpcopy/internal/proto"
)

// maxMethod is as long as a method's name may be to be taken for one.
const maxMethod = 24

// Recognise looks at the first bytes that the client, and production's server, have sent. HTTP is known by
// its whole first line, and by the answer's where that is known.
func Recognise(client, server []byte) proto.Verdict {
	if len(server) > 0 {
		const form = "HTTP/1."
		if n := min(len(server), len(form)); string(server[:n]) != form[:n] || len(client) == 0 {
			return proto.No // the server spoke first, or something else
		}
	}
	text, _, ok := bytes.Cut(client, []byte{'\n'})
	if !ok {
		if len(client) > maxMethod && methodEnd(client) < 0 || len(client) > 0 && !isToken(client[0]) {
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

// methodEnd is where the method of a request line ends; -1 if it is none.
func methodEnd(p []byte) int {
	for i, c := range p[:min(len(p), maxMethod+1)] {
		switch {
		case c == ' ' && i > 0:
			return i
		case !isToken(c):
			return -1
		}
	}
	return -1
}

// token tells the characters that may be in a token (RFC 9110 §5.6.2).
var token = func() (t [256]bool) {
	for _, c := range "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ" {
		t[c] = true
	}
	return t
}()

func isToken(c byte) bool { return token[c] }

// requestLine checks a request line (RFC 9112 §3): method, target, version. It returns where the method ends.
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
