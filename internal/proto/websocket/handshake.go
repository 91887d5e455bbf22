package websocket

import (
	"bytes"
	"strconv"
)

// maxHead bounds what is kept of the head of a request or an answer.
const maxHead = 64 << 10

// handshake is what the head of a request, or of its answer, says about an upgrade (RFC 6455 §4).
type handshake struct {
	http, upgrade, connection, key, version bool
	extensions                              extensions
}

// asks reports whether the head is of a request for an upgrade to WebSocket.
func (h *handshake) asks() bool { return h.upgrade && h.connection && h.key && h.version }

// accepts reports whether the head, of an answer with the status 101, is of one to WebSocket.
func (h *handshake) accepts() bool { return h.upgrade && h.connection }

// read reads the whole lines of a head, and reports whether its end is among them.
func (h *handshake) read(head []byte) (whole bool) {
	*h = handshake{}
	line, rest, more := bytes.Cut(bytes.TrimLeft(head, "\r\n"), []byte{'\n'})
	h.http = more && bytes.Contains(line, []byte(" HTTP/1.")) || bytes.HasPrefix(line,
		[]byte("HTTP/1."))
	for more {
		if line, rest, more = bytes.Cut(rest, []byte{'\n'}); !more {
			break
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			return true
		}
		if name, value, ok := bytes.Cut(line, []byte{':'}); ok {
			h.field(name, value)
		}
	}
	return false
}

// field reads one header.
func (h *handshake) field(name, value []byte) {
	switch is := func(s string) bool { return equalFold(name, s) }; {
	case is("upgrade"):
		h.upgrade = h.upgrade || lists(value, "websocket")
	case is("connection"):
		h.connection = h.connection || lists(value, "upgrade")
	case is("sec-websocket-key"):
		h.key = len(bytes.TrimSpace(value)) > 0
	case is("sec-websocket-version"):
		h.version = h.version || lists(value, "13")
	case is("sec-websocket-extensions"):
		h.extensions.read(value)
	}
}

func equalFold(p []byte, s string) bool { return bytes.EqualFold(p, []byte(s)) }

// lists reports whether a list has the element s, in any case.
func lists(list []byte, s string) bool {
	for one := range bytes.SplitSeq(list, []byte{','}) {
		if equalFold(bytes.TrimSpace(one), s) {
			return true
		}
	}
	return false
}

// extensions is what an answer's Sec-WebSocket-Extensions say of the client's messages (RFC 6455
// §9.1, RFC 7692 §7.1).
type extensions struct {
	deflate bool
	fresh   bool   // each message is compressed without the ones before it
	bits    int    // of the window with which the client may compress
	others  string // other extensions, as they stand there
}

// windowBits is the size of a window of which nothing is said.
const windowBits = 15

// read reads the value of one header; further ones add to it.
func (e *extensions) read(value []byte) {
	for one := range bytes.SplitSeq(value, []byte{','}) {
		name, parameters, _ := bytes.Cut(bytes.TrimSpace(one), []byte{';'})
		if equalFold(bytes.TrimSpace(name), "permessage-deflate") {
			e.readDeflate(parameters)
		} else if len(name) > 0 {
			e.others += string(bytes.TrimSpace(one)) + ","
		}
	}
}

func (e *extensions) readDeflate(parameters []byte) {
	e.deflate, e.bits = true, windowBits
	for one := range bytes.SplitSeq(parameters, []byte{';'}) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(one), []byte{'='})
		switch name = bytes.TrimSpace(name); {
		case equalFold(name, "client_no_context_takeover"):
			e.fresh = true
		case equalFold(name, "client_max_window_bits"):
			n, err := strconv.Atoi(string(bytes.Trim(value, " \t\"")))
			if err == nil && n >= 8 && n <= windowBits {
				e.bits = n
			}
		}
	}
}

// inflates reports whether a server with these extensions inflates what a client compresses that
// has agreed to others with another server; nil: to unknown ones.
func (e *extensions) inflates(others *extensions) bool {
	switch {
	case !e.deflate:
		return false
	case others == nil:
		return e.bits == windowBits && !e.fresh
	}
	return others.bits <= e.bits && (others.fresh || !e.fresh)
}
