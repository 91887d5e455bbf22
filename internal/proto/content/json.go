package content

import (
	"encoding/binary"
	"unicode/utf16"
	"unicode/utf8"

	"tcpcopy/internal/proto"
)

// maxDepth bounds how deep JSON may be nested.
const maxDepth = 128

// JSON adds the fields of a text of JSON (RFC 8259) at a path. It returns false, and adds nothing,
// if the text is not JSON, too deep, or has too many paths. The elements of a list share the path
// of the list with [] behind it; keys that look like identifiers are one. A key that an object has
// twice counts twice.
func (b *Builder) JSON(path string, text []byte) bool {
	n := b.mark()
	s := scanner{b: b, p: text}
	b.path = append(b.path[:0], path...)
	s.space()
	if s.value(b.node(b.path), 0) {
		if s.space(); s.i == len(s.p) {
			return true
		}
	}
	b.cut(n)
	return false
}

// scanner reads one text.
type scanner struct {
	b *Builder
	p []byte
	i int
}

func (s *scanner) space() {
	for s.i < len(s.p) {
		switch s.p[s.i] {
		case ' ', '\t', '\r', '\n':
			s.i++
		default:
			return
		}
	}
}

// next consumes the byte c, after white space.
func (s *scanner) next(c byte) bool {
	s.space()
	if s.i < len(s.p) && s.p[s.i] == c {
		s.i++
		return true
	}
	return false
}

func (s *scanner) word(w string) bool {
	if len(s.p)-s.i < len(w) || string(s.p[s.i:s.i+len(w)]) != w {
		return false
	}
	s.i += len(w)
	return true
}

// value reads a value and adds it at the path n.
func (s *scanner) value(n *node, depth int) bool {
	s.space()
	if s.i == len(s.p) || depth > maxDepth {
		return false
	}
	b := s.b
	switch c := s.p[s.i]; c {
	case '{':
		return s.object(n, depth)
	case '[':
		return s.list(n, depth)
	case '"':
		text, ok := s.text()
		return ok && b.addAt(n, text, proto.Text)
	case 't':
		return s.word("true") && b.addAt(n, []byte("true"), proto.Bool)
	case 'f':
		return s.word("false") && b.addAt(n, []byte("false"), proto.Bool)
	case 'n':
		return s.word("null") && b.addAt(n, nil, proto.Null)
	default:
		from := s.i
		return s.number() && b.addNumber(n, s.p[from:s.i])
	}
}

func (s *scanner) object(n *node, depth int) bool {
	b := s.b
	s.i++
	if !b.add(n, 0, 0, proto.Object, proto.Plain) {
		return false
	}
	if s.next('}') {
		return true
	}
	var c *node
	for {
		s.space()
		if s.i == len(s.p) || s.p[s.i] != '"' {
			return false
		}
		key, ok := s.text()
		if !ok {
			return false
		}
		if c = b.child(n, c, key); !s.next(':') || !s.value(c, depth+1) {
			return false
		}
		if s.next('}') {
			return true
		}
		if !s.next(',') {
			return false
		}
	}
}

// AppendKey appends the key of an object to a path.
func AppendKey(path, key []byte) []byte {
	path = append(path, '.')
	if Identifying(key) {
		return append(path, Anonymous...)
	}
	for _, c := range key {
		if c < ' ' || c == '.' || c == '[' || c == ']' || c == 0x7f {
			c = '_'
		}
		path = append(path, c)
	}
	return path
}

func (s *scanner) list(n *node, depth int) bool {
	b := s.b
	s.i++
	if !b.add(n, 0, 0, proto.List, proto.Plain) { // how many there are is not known yet
		return false
	}
	field := n.field
	count := uint64(0)
	if !s.next(']') {
		elements := b.list(n)
		for {
			if !s.value(elements, depth+1) {
				return false
			}
			count++
			if s.next(']') {
				break
			}
			if !s.next(',') {
				return false
			}
		}
	}
	b.fields[field].Length += count
	return true
}

// number reads a number (RFC 8259 §6).
func (s *scanner) number() bool {
	digits := func() (n int) {
		for ; s.i < len(s.p) && s.p[s.i] >= '0' && s.p[s.i] <= '9'; s.i++ {
			n++
		}
		return n
	}
	if s.p[s.i] == '-' {
		s.i++
	}
	zero := s.i < len(s.p) && s.p[s.i] == '0'
	if n := digits(); n == 0 || zero && n > 1 {
		return false
	}
	if s.i < len(s.p) && s.p[s.i] == '.' {
		s.i++
		if digits() == 0 {
			return false
		}
	}
	if s.i < len(s.p) && s.p[s.i]|0x20 == 'e' {
		s.i++
		if s.i < len(s.p) && (s.p[s.i] == '+' || s.p[s.i] == '-') {
			s.i++
		}
		return digits() > 0
	}
	return true
}

// addNumber adds a number by its exact value: 1, 1.0 and 10e-1 are the same.
func (b *Builder) addNumber(n *node, p []byte) bool {
	if kind := b.epoch(p); kind != proto.Plain {
		return b.add(n, b.with.Hash(p), uint64(len(p)), proto.Number, kind) &&
			b.keep(n, p, proto.Number)
	}
	b.text = canonical(b.text[:0], p)
	return b.add(n, b.with.Hash(b.text), uint64(len(p)), proto.Number, proto.Plain) &&
		b.keep(n, p, proto.Number)
}

// canonical appends the sign, the digits without zeros at either end, and the exponent.
func canonical(to, p []byte) []byte {
	at := len(to)
	if p[0] == '-' {
		to, p = append(to, '-'), p[1:]
	}
	first := len(to)
	var exponent, after int64
	point := false
	for i, c := range p {
		if c == '.' {
			point = true
			continue
		}
		if c|0x20 == 'e' {
			exponent = exponentOf(p[i+1:])
			break
		}
		if point {
			after++
		}
		if c != '0' || len(to) > first {
			to = append(to, c)
		}
	}
	for len(to) > first && to[len(to)-1] == '0' {
		to = to[:len(to)-1]
		after--
	}
	if len(to) == first {
		return append(to[:at], '0')
	}
	return binary.BigEndian.AppendUint64(to, uint64(exponent-after))
}

// exponentOf parses an exponent; one beyond any use is taken as the largest.
func exponentOf(p []byte) (n int64) {
	negative := p[0] == '-'
	for _, c := range p {
		if c >= '0' && c <= '9' && n < 1<<40 {
			n = 10*n + int64(c-'0')
		}
	}
	if negative {
		return -n
	}
	return n
}

// text reads a string, and returns its value: valid until the next call.
func (s *scanner) text() ([]byte, bool) {
	s.i++
	from := s.i
	for s.i < len(s.p) && s.p[s.i] != '"' && s.p[s.i] != '\\' && s.p[s.i] >= ' ' {
		s.i++
	}
	if s.i < len(s.p) && s.p[s.i] == '"' {
		s.i++
		return s.p[from : s.i-1], true
	}
	b := s.b
	b.text = append(b.text[:0], s.p[from:s.i]...)
	for s.i < len(s.p) {
		switch c := s.p[s.i]; {
		case c == '"':
			s.i++
			return b.text, true
		case c < ' ':
			return nil, false
		case c != '\\':
			b.text = append(b.text, c)
			s.i++
		case !s.escape():
			return nil, false
		}
	}
	return nil, false
}

// escape reads an escape sequence and appends its character to b.text.
func (s *scanner) escape() bool {
	if s.i++; s.i == len(s.p) {
		return false
	}
	c := s.p[s.i]
	s.i++
	b := s.b
	switch c {
	case '"', '\\', '/':
		b.text = append(b.text, c)
	case 'b':
		b.text = append(b.text, '\b')
	case 'f':
		b.text = append(b.text, '\f')
	case 'n':
		b.text = append(b.text, '\n')
	case 'r':
		b.text = append(b.text, '\r')
	case 't':
		b.text = append(b.text, '\t')
	case 'u':
		r, ok := s.hex4()
		if !ok {
			return false
		}
		if utf16.IsSurrogate(r) && s.word(`\u`) {
			low, ok := s.hex4()
			if !ok {
				return false
			}
			r = utf16.DecodeRune(r, low)
		}
		b.text = utf8.AppendRune(b.text, r)
	default:
		return false
	}
	return true
}

func (s *scanner) hex4() (r rune, ok bool) {
	if len(s.p)-s.i < 4 {
		return 0, false
	}
	for _, c := range s.p[s.i : s.i+4] {
		switch {
		case '0' <= c && c <= '9':
			r = 16*r + rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = 16*r + rune(c|0x20-'a') + 10
		default:
			return 0, false
		}
	}
	s.i += 4
	return r, true
}
