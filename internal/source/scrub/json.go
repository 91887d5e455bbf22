package scrub

import "math/bits"

// scanner reads one object or list of JSON (RFC 8259) byte by byte, and replaces the values that
// the rules name: in strings every byte, in numbers every digit, true and false by null. It ends at
// what is no JSON.
type scanner struct {
	rules *Rules
	stack []level
	state jsonState
	key   []byte
	// member is what the rules say about the value that follows: for each path the positions that
	// have been reached, as bits.
	member  []uint64
	private bool // the value is
	at      int  // in a word, or of a number
	odd     bool // the key has an escape, and may be any
}

// level is an object or a list that is open.
type level struct {
	object  bool
	private bool     // all that is in it
	reached []uint64 // by its keys
}

type jsonState uint8

const (
	wantValue    jsonState = iota
	wantFirst              // a value, or the end of the list
	wantFirstKey           // a key, or the end of the object
	wantKey
	inKey
	inKeyEscape
	wantColon
	inText
	inTextEscape
	inNumber
	inWord
	wantComma // or the end
)

// maxDepth bounds how deep values may be nested, and maxKey what is kept of a key.
const (
	maxDepth = 128
	maxKey   = maxName + 1
)

// words are the values without quotes, by their first letter.
var words = map[byte]string{'t': "true", 'f': "false", 'n': "null"}

func (s *scanner) begin(rules *Rules) {
	*s = scanner{rules: rules, stack: s.stack[:0], key: s.key[:0], member: s.member[:0]}
	for range rules.paths {
		s.member = append(s.member, 1)
	}
	for i, path := range rules.paths {
		s.member[i] = skips(path, s.member[i])
	}
}

// skips adds to the positions those that are reached without a key: those after "**".
func skips(path []string, reached uint64) uint64 {
	for i, part := range path {
		if part == "**" && reached&(1<<i) != 0 {
			reached |= 1 << (i + 1)
		}
	}
	return reached
}

// step returns the positions that a path has reached after a key.
func step(path []string, reached uint64, key []byte, any bool) (next uint64) {
	for rest := reached; rest != 0; rest &= rest - 1 {
		i := bits.TrailingZeros64(rest)
		switch {
		case i >= len(path):
		case path[i] == "**":
			next |= 1 << i
		case any || path[i] == "*" || path[i] == string(key):
			next |= 1 << (i + 1)
		}
	}
	return skips(path, next)
}

// byte reads b[i]. It reports whether the value goes on, and whether it is JSON so far.
func (s *scanner) byte(b []byte, i int, stats *Stats) (more, ok bool) {
	c := b[i]
	switch s.state {
	case inText, inTextEscape:
		return true, s.textByte(b, i)
	case inKey, inKeyEscape:
		return true, s.keyByte(c)
	case inWord:
		word := words[s.key[0]]
		if c != word[s.at] {
			return false, false
		}
		if s.at++; s.at == len(word) {
			s.state = wantComma
		}
		s.word(b, i)
		return true, true
	case inNumber:
		if c >= '0' && c <= '9' || c == '.' || c == 'e' || c == 'E' || c == '+' || c == '-' {
			s.digit(b, i)
			return true, true
		}
		s.state = wantComma
	}
	if c == ' ' || c == '\t' || c == '\r' || c == '\n' {
		return true, true
	}
	switch s.state {
	case wantFirst, wantFirstKey:
		if c == ']' && s.state == wantFirst || c == '}' && s.state == wantFirstKey {
			return s.pop(), true
		}
		if s.state == wantFirstKey {
			return true, s.beginKey(c)
		}
		return s.beginValue(b, i, stats)
	case wantValue:
		return s.beginValue(b, i, stats)
	case wantKey:
		return true, s.beginKey(c)
	case wantColon:
		s.state = wantValue
		return true, c == ':'
	}
	return s.after(c)
}

// after reads what follows a value in a list or an object.
func (s *scanner) after(c byte) (more, ok bool) {
	top := &s.stack[len(s.stack)-1]
	switch {
	case c == ',' && top.object:
		s.state = wantKey
	case c == ',':
		s.listItem()
		s.state = wantValue
	case c == '}' && top.object, c == ']' && !top.object:
		return s.pop(), true
	default:
		return false, false
	}
	return true, true
}

// listItem makes the rules say of the next item of a list what they say of the list.
func (s *scanner) listItem() {
	top := &s.stack[len(s.stack)-1]
	s.member = append(s.member[:0], top.reached...)
	s.private = top.private
}

func (s *scanner) pop() (more bool) {
	s.stack = s.stack[:len(s.stack)-1]
	s.state = wantComma
	return len(s.stack) > 0
}

// beginValue reads the first byte of a value.
func (s *scanner) beginValue(b []byte, i int, stats *Stats) (more, ok bool) {
	c := b[i]
	for n, path := range s.rules.paths {
		if !s.private && s.member[n]&(1<<len(path)) != 0 {
			s.private = true
			stats.Values++
		}
	}
	switch {
	case c == '{' || c == '[':
		return true, s.push(c == '{')
	case c == '"':
		s.state = inText
	case c == '-' || c >= '0' && c <= '9':
		s.state = inNumber
		s.digit(b, i)
	case words[c] != "":
		s.state, s.at, s.key = inWord, 1, append(s.key[:0], c)
		s.word(b, i)
	default:
		return false, false
	}
	return true, true
}

// push begins an object or a list.
func (s *scanner) push(object bool) bool {
	if len(s.stack) == maxDepth {
		return false
	}
	n := len(s.stack)
	if n < cap(s.stack) {
		s.stack = s.stack[:n+1] // and the memory of an earlier one
	} else {
		s.stack = append(s.stack, level{})
	}
	top := &s.stack[n]
	top.object, top.private = object, s.private
	top.reached = append(top.reached[:0], s.member...)
	s.state = wantFirst
	if object {
		s.state = wantFirstKey
	}
	return true
}

func (s *scanner) beginKey(c byte) bool {
	s.state, s.key, s.odd = inKey, s.key[:0], false
	return c == '"'
}

// keyByte reads a byte of a key, and at its end finds out what the rules say about its value.
func (s *scanner) keyByte(c byte) bool {
	switch {
	case s.state == inKeyEscape:
		s.state = inKey
	case c < ' ':
		return false
	case c == '\\':
		s.state, s.odd = inKeyEscape, true
	case c == '"':
		top := &s.stack[len(s.stack)-1]
		s.member = s.member[:0]
		for n, path := range s.rules.paths {
			s.member = append(s.member, step(path, top.reached[n], s.key, s.odd))
		}
		s.private, s.state = top.private, wantColon
	case len(s.key) < maxKey:
		s.key = append(s.key, c)
	}
	return true
}

// textByte reads a byte of a string.
func (s *scanner) textByte(b []byte, i int) bool {
	c := b[i]
	switch {
	case s.state == inTextEscape:
		s.state = inText
	case c < ' ':
		return false
	case c == '\\':
		s.state = inTextEscape
	case c == '"':
		s.state = wantComma
		return true
	}
	if s.private {
		b[i] = filler
	}
	return true
}

// digit replaces a byte of a number. No number begins with a zero that is longer.
func (s *scanner) digit(b []byte, i int) {
	if s.private && b[i] >= '0' && b[i] <= '9' {
		b[i] = '1'
	}
}

// word replaces a byte of true, false or null, of which s.at have been read.
func (s *scanner) word(b []byte, i int) {
	if s.private {
		b[i] = "null "[s.at-1]
	}
}
