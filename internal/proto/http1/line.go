package http1

import (
	"bytes"
	"fmt"

	"tcpcopy/internal/proto"
)

// lineHead and lineTail are how many bytes of a line are kept: of its beginning and of its end.
// Whatever frames a message fits; a line in which it does not is refused.
const (
	lineHead = 80
	lineTail = 12
)

// maxHead bounds a message's start line and headers, and a body's trailers, in bytes.
const maxHead = 1 << 20

// line is a line without its CRLF: its first and its last bytes, which overlap if it is short.
type line struct {
	head, tail []byte
	len        int
}

// whole reports whether head is the whole line.
func (l *line) whole() bool { return l.len == len(l.head) }

func (l *line) set(text []byte) {
	l.head, l.tail, l.len = text, text, len(text)
	if l.len > lineTail {
		l.tail = text[l.len-lineTail:]
	}
	if l.len > lineHead {
		l.head = text[:lineHead]
	}
}

// liner cuts a stream into lines, however it is split. It keeps the parts of a line that a line
// has.
type liner struct {
	kept int            // bytes of the unfinished line
	buf  [lineHead]byte // its first bytes
	last [lineTail]byte // its last bytes
	size int            // bytes of all lines since reset
}

func (l *liner) reset() { l.kept, l.size = 0, 0 }

// next reads up to the end of the unfinished line, and returns how many bytes it used. If ok, ln
// is a whole line, valid until the next call.
func (l *liner) next(p []byte, ln *line) (used int, ok bool, err error) {
	i := bytes.IndexByte(p, '\n')
	if used = i + 1; i < 0 {
		used = len(p)
	}
	if l.size += used; l.size > maxHead {
		return used, false, fmt.Errorf("http1: %w: headers of more than %d bytes", proto.ErrLost,
			maxHead)
	}
	if i >= 0 && l.kept == 0 {
		ln.set(cutCR(p[:i]))
		return used, true, nil
	}
	if i < 0 {
		l.keep(p)
		return used, false, nil
	}
	l.keep(p[:i])
	*ln = l.line()
	l.kept = 0
	return used, true, nil
}

// keep adds p to the unfinished line.
func (l *liner) keep(p []byte) {
	if l.kept < lineHead {
		copy(l.buf[l.kept:], p)
	}
	if n := len(p); n >= lineTail {
		copy(l.last[:], p[n-lineTail:])
	} else {
		copy(l.last[:], l.last[n:])
		copy(l.last[lineTail-n:], p)
	}
	l.kept += len(p)
}

// line returns the kept line, which is whole now, without the CR before its LF.
func (l *liner) line() line {
	tail := l.last[max(0, lineTail-l.kept):]
	n := l.kept
	if n > 0 && tail[len(tail)-1] == '\r' {
		tail = tail[:len(tail)-1]
		n--
	}
	return line{head: l.buf[:min(n, lineHead)], tail: tail, len: n}
}

func cutCR(p []byte) []byte {
	if n := len(p); n > 0 && p[n-1] == '\r' {
		return p[:n-1]
	}
	return p
}
