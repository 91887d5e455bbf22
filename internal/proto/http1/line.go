package http1

import (
	"bytes"
	"fmt"

	"tcpcopy/internal/proto"
)

// lineHead and lineTail are how much of a line is looked at: its beginning and its end. All that frames a
// message fits; a line in which it does not is refused.
const (
	lineHead = 80
	lineTail = 12
)

// maxHead bounds a message's start line and headers, and a body's trailers, in bytes.
const maxHead = 1 << 20

// line is a line without its end: the first and the last bytes of it, which overlap where it is short.
type line struct {
	head, tail []byte
	len        int
}

// whole says that head is all of it.
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

// liner cuts a stream into lines, however it is split, and keeps no more of one than a line has.
type liner struct {
	kept int            // of the line that is not over yet
	buf  [lineHead]byte // its first bytes
	last [lineTail]byte // its last bytes, if it is longer than last
	size int            // of all lines since reset
}

func (l *liner) reset() { l.kept, l.size = 0, 0 }

// next takes bytes up to the end of the line that is under way. used is how many it took; ok says that ln is
// a line, which holds until the next call.
func (l *liner) next(p []byte, ln *line) (used int, ok bool, err error) {
	i := bytes.IndexByte(p, '\n')
	if used = i + 1; i < 0 {
		used = len(p)
	}
	if l.size += used; l.size > maxHead {
		return used, false, fmt.Errorf("http1: %w: headers of more than %d bytes", proto.ErrLost, maxHead)
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

// keep adds p to the line that is under way.
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

// line is the kept line, which is over, without the CR before its LF.
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
