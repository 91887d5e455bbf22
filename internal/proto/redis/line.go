package redis

import (
	"bytes"
	"fmt"

	"tcpcopy/internal/proto"
)

// lineHead is how many bytes of a line are kept: its type and a number, or the first words of an
// inline command.
const lineHead = 64

// liner cuts a stream into lines, however it is split, and keeps the first bytes of each.
type liner struct {
	len  int  // of the unfinished line
	cr   bool // its last byte is a CR
	crlf bool // the last whole line ended with CR and LF
	buf  [lineHead]byte
}

// next reads up to the end of the unfinished line, and returns how many bytes it used. If ok, the
// line is whole, and head holds its first bytes, valid until the next call; whole reports whether
// they are all.
func (l *liner) next(p []byte) (head []byte, whole bool, used int, ok bool, err error) {
	i := bytes.IndexByte(p, '\n')
	n := i
	if i < 0 {
		n = len(p)
	}
	if l.len+n > maxLine {
		return nil, false, 0, false, fmt.Errorf("redis: %w: a line of more than %d bytes",
			proto.ErrLost, maxLine)
	}
	if l.len == 0 && i >= 0 { // the whole line is in p
		text := cutCR(p[:i])
		l.crlf = len(text) < i
		return text[:min(len(text), lineHead)], len(text) <= lineHead, i + 1, true, nil
	}
	if l.len < lineHead {
		copy(l.buf[l.len:], p[:n])
	}
	if n > 0 {
		l.cr = p[n-1] == '\r'
	}
	l.len += n
	if i < 0 {
		return nil, false, n, false, nil
	}
	if l.crlf = l.cr; l.cr {
		l.len--
	}
	head = l.buf[:min(l.len, lineHead)]
	whole = l.len <= lineHead
	l.len, l.cr = 0, false
	return head, whole, n + 1, true, nil
}

func cutCR(p []byte) []byte {
	if n := len(p); n > 0 && p[n-1] == '\r' {
		return p[:n-1]
	}
	return p
}

func lost(what string, quoted []byte) error {
	return fmt.Errorf("redis: %w: %s %q", proto.ErrLost, what, quoted[:min(len(quoted), 32)])
}
