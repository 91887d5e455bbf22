package scrub

import (
	"bytes"
	"strings"
)

// machine reads one direction of an HTTP/1 connection, and replaces what is private.
//
// It does not need to know where a message ends: a line that begins with the name of a header and
// a colon is taken for that header wherever it stands, and a line that begins with a brace or a
// bracket for JSON. So a message that servers and proxies read in different ways hides nothing.
// Only chunks are read as such, because they may cut a line or a string in two.
//
//	mode    reads                                     leaves for
//	start   the connection's first word               pass; or the connection is foreign
//	lost    segments, and blanks them                 begin, at a segment with a start line
//	resync  up to the end of a line, and blanks it    begin
//	begin   what may be a header's name, or a brace   pass, value, inJSON, begin
//	pass    up to the end of a line                   begin
//	value   up to the end of a line, and replaces it  fold
//	fold    the first byte of the next line           value, if it continues the last one; begin
//	inJSON  a value of JSON                           begin; lost, if it is none
type machine struct {
	rules      *Rules
	fromServer bool
	mode       mode
	text       []byte // of the line, its beginning
	empty      bool   // the line has nothing but CR so far
	json       scanner
	chunk      chunk
	foreign    bool // the connection is not HTTP/1, or no longer
	// What the head of the message has said about its body.
	chunked, encoded bool
}

type mode uint8

const (
	start mode = iota
	lost
	resync
	begin
	pass
	value
	fold
	inJSON
)

// maxText bounds what is kept of a line.
const maxText = maxName + 64

// outcome is what became of a byte.
type outcome uint8

const (
	fine    outcome = iota
	foreign         // it is not HTTP/1
	changes         // it is the last that is HTTP/1
	unclear         // it is part of a body that cannot be followed
	encodes         // such a body begins after it
)

// begin makes the machine read a connection from its first byte on.
func (m *machine) begin(rules *Rules, fromServer bool) {
	*m = machine{rules: rules, fromServer: fromServer, empty: true}
}

// lose reports that bytes are missing. Where the connection's beginning is, the machine waits for a
// message; else for a line, unless the structure of a body is lost, too.
func (m *machine) lose(beginning bool) {
	if m.mode == lost || m.mode == start || beginning || len(m.rules.paths) > 0 {
		m.mode = lost
	} else {
		m.mode = resync
	}
	m.text, m.empty, m.chunk, m.chunked, m.encoded = m.text[:0], true, chunk{}, false, false
}

// feed reads bytes that arrived together, and replaces some of them. It returns how many of them
// are HTTP/1: fewer than all if the connection is foreign from there on.
func (m *machine) feed(b []byte, stats *Stats) int {
	if m.mode == lost || m.chunk.expectsSize() {
		if is, _ := startLine(b, m.fromServer); is {
			m.chunk, m.chunked, m.encoded = chunk{}, false, false
			m.line(begin)
		} else if m.mode == lost {
			blank(b, stats)
			return len(b)
		}
	}
	for i := 0; i < len(b); i++ {
		if m.mode == pass && len(m.text) == maxText && m.chunk.state == noChunks {
			n := bytes.IndexByte(b[i:], '\n')
			if n < 0 {
				return len(b)
			}
			i += n
		}
		result := fine
		if m.chunk.state == noChunks || m.chunk.isData(b[i]) {
			result = m.byte(b, i, stats)
		} else if m.chunk.state == badChunk {
			result = unclear
		} else if m.chunk.state == noChunks { // trailers follow, and then a message
			m.line(begin)
		}
		switch result {
		case foreign:
			m.foreign = true
			return i
		case changes:
			m.foreign = true
			return i + 1
		case unclear, encodes:
			if result == encodes {
				i++
			}
			m.lose(true)
			blank(b[i:], stats)
			return len(b)
		}
	}
	return len(b)
}

// byte reads b[i], and replaces it if it is private.
func (m *machine) byte(b []byte, i int, stats *Stats) outcome {
	c := b[i]
	switch m.mode {
	case inJSON:
		return m.jsonByte(b, i, stats)
	case resync:
		if c == '\n' {
			m.line(begin)
		} else {
			blank(b[i:i+1], stats)
		}
		return fine
	case fold:
		m.mode = begin
		if c == ' ' || c == '\t' {
			m.mode = value
		}
	}
	if c == '\n' && m.mode != start {
		return m.endLine()
	}
	if len(m.text) < maxText && c != '\r' {
		m.text = append(m.text, c)
	}
	m.empty = m.empty && c == '\r'
	switch m.mode {
	case start:
		is, more := startLine(m.text, m.fromServer)
		if is {
			m.mode = pass
		} else if !more {
			return foreign
		}
	case begin:
		return m.nameByte(b, i, stats)
	case value:
		if c != '\r' && c != ' ' && c != '\t' {
			b[i] = filler
		}
	}
	return fine
}

// nameByte reads a byte that may be of a header's name, or begin JSON.
func (m *machine) nameByte(b []byte, i int, stats *Stats) outcome {
	switch c := b[i]; {
	case c == ':':
		m.mode = pass
		name := bytes.TrimSpace(m.text[:len(m.text)-1])
		for _, h := range m.rules.headers {
			if bytes.EqualFold(name, h) {
				m.mode = value
				stats.Values++
				break
			}
		}
	case (c == '{' || c == '[') && len(m.rules.paths) > 0 &&
		len(bytes.TrimSpace(m.text)) == 1: // the first of the line
		m.mode = inJSON
		m.json.begin(m.rules)
		return m.jsonByte(b, i, stats)
	case len(m.text) == maxText:
		m.mode = pass
	}
	return fine
}

// jsonByte reads a byte of JSON.
func (m *machine) jsonByte(b []byte, i int, stats *Stats) outcome {
	more, ok := m.json.byte(b, i, stats)
	switch {
	case !ok:
		return unclear
	case !more:
		m.line(begin) // another value may follow, or a message
	}
	return fine
}

// line begins a line.
func (m *machine) line(how mode) { m.mode, m.text, m.empty = how, m.text[:0], true }

// endLine ends a line, and with an empty one the head of a message.
func (m *machine) endLine() outcome {
	if m.switches() {
		return changes
	}
	if v, ok := m.header("transfer-encoding:"); ok {
		m.chunked = bytes.EqualFold(v, []byte("chunked"))
		m.encoded = m.encoded || !m.chunked
	} else if v, ok := m.header("content-encoding:"); ok {
		m.encoded = m.encoded || !bytes.EqualFold(v, []byte("identity"))
	}
	private, empty := m.mode == value, m.empty
	m.line(begin)
	if private {
		m.mode = fold
	}
	if !empty {
		return fine
	}
	chunked, encoded := m.chunked, m.encoded
	m.chunked, m.encoded = false, false
	if encoded && len(m.rules.paths) > 0 {
		return encodes
	}
	if chunked {
		m.chunk = chunk{state: chunkSize}
	}
	return fine
}

// switches reports whether the line is the first of a message after which the connection speaks
// another protocol: a response with status 101, or a request for a tunnel or for HTTP/2.
func (m *machine) switches() bool {
	if !m.fromServer {
		return bytes.HasPrefix(m.text, []byte("CONNECT ")) ||
			bytes.HasPrefix(m.text, []byte("PRI * HTTP/2"))
	}
	const status = len("HTTP/1.1")
	return bytes.HasPrefix(m.text, []byte("HTTP/1.")) && len(m.text) > status &&
		bytes.HasPrefix(m.text[status:], []byte(" 101"))
}

// header returns the value of the line, if it is that of the header whose name it begins with.
func (m *machine) header(name string) (v []byte, ok bool) {
	if len(m.text) < len(name) || !strings.EqualFold(string(m.text[:len(name)]), name) {
		return nil, false
	}
	return bytes.TrimSpace(m.text[len(name):]), true
}

// chunk reads the framing of a chunked body (RFC 9112 §7.1).
type chunk struct {
	state chunkState
	line  int    // bytes of the size's line so far
	size  uint64 // of which there are still to come
	ended bool   // the digits of the size are over
}

type chunkState uint8

const (
	noChunks chunkState = iota
	chunkSize
	chunkData
	chunkEnd
	badChunk
)

// maxSize bounds a chunk, and maxSizeLine the line with its size.
const (
	maxSize     = 1 << 40
	maxSizeLine = 4096
)

// expectsSize reports whether the next byte is the first of a chunk's size.
func (k *chunk) expectsSize() bool { return k.state == chunkSize && k.line == 0 }

// isData reads a byte, and reports whether it is of a chunk's data.
func (k *chunk) isData(c byte) bool {
	switch k.state {
	case chunkData:
		if k.size--; k.size == 0 {
			k.state = chunkEnd
		}
		return true
	case chunkEnd:
		if c == '\n' {
			*k = chunk{state: chunkSize}
		} else if c != '\r' {
			k.state = badChunk
		}
	case chunkSize:
		k.sizeByte(c)
	}
	return false
}

// sizeByte reads a byte of the line with a chunk's size.
func (k *chunk) sizeByte(c byte) {
	k.line++
	digit := strings.IndexByte("0123456789abcdef", c|0x20)
	if c >= '0' && c <= '9' {
		digit = int(c - '0')
	}
	switch {
	case c == '\n':
		k.state = chunkData
		if k.size == 0 {
			k.state = noChunks
		}
	case k.line > maxSizeLine:
		k.state = badChunk
	case k.ended || c == '\r':
	case digit >= 0 && k.size < maxSize:
		k.size = k.size<<4 | uint64(digit)
	case k.line > 1 && (c == ';' || c == ' '):
		k.ended = true
	default:
		k.state = badChunk
	}
}
