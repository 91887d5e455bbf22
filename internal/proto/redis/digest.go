package redis

import (
	"bytes"
	"strings"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/content"
)

var comparison = &proto.Comparison{
	NewDigester: func(d *proto.Digesting) proto.Digester { return content.NewWhole(d, readReply) },
	NewLabeller: func(d *proto.Digesting) proto.Labeller { return &labeller{with: d} },
	Unordered:   func(endpoint string) bool { return unordered[endpoint] },
}

// unordered lists the commands whose reply is a set, in any order.
var unordered = map[string]bool{
	"SMEMBERS": true, "SUNION": true, "SINTER": true, "SDIFF": true, "KEYS": true,
	"HGETALL": true, "HKEYS": true, "HVALS": true, "PUBSUB": true,
}

// readReply adds the fields of one reply.
func readReply(b *content.Builder, reply []byte, _ proto.Hint) bool {
	s := scan{b: b, p: reply, ok: true, path: []byte("reply")}
	for s.ok && len(s.p) > 0 && s.p[0] == '>' { // pushes that came before the reply
		s.drop = true
		s.element(0)
		s.drop = false
	}
	s.element(0)
	return s.ok
}

// scan reads one reply.
type scan struct {
	b    *content.Builder
	p    []byte
	path []byte
	ok   bool
	drop bool // what is read is no part of the reply
}

// add adds a value at the path.
func (s *scan) add(value []byte, as proto.FieldTypes) {
	if !s.drop && s.ok {
		s.ok = s.b.Add(s.path, value, as)
	}
}

// line returns the next line, without its type.
func (s *scan) line() (kind byte, text []byte) {
	text, rest, found := bytes.Cut(s.p, []byte{'\n'})
	if !found || len(cutCR(text)) == 0 {
		s.ok = false
		return 0, nil
	}
	s.p = rest
	text = cutCR(text)
	return text[0], text[1:]
}

// element reads an element and adds it.
func (s *scan) element(depth int) {
	kind, text := s.line()
	if !s.ok || depth > maxDepth {
		s.ok = false
		return
	}
	switch kind {
	case '+':
		s.add(text, proto.Text)
	case ':', ',', '(':
		s.add(text, proto.Number)
	case '#':
		s.add(text, proto.Bool)
	case '_':
		s.add(nil, proto.Null)
	case '-':
		s.failure(text)
	case '$', '=', '!':
		s.bulk(kind, text)
	case '*', '~', '>':
		s.list(text, depth)
	case '%':
		s.pairs(text, depth)
	case '|': // attributes of the element that follows
		was := s.drop
		s.drop = true
		s.pairs(text, depth)
		s.drop = was
		s.element(depth + 1)
	default:
		s.ok = false
	}
}

// failure adds an error by its first word: the rest may quote a key. An error in place of the whole
// reply has a path of its own.
func (s *scan) failure(text []byte) {
	word, _, _ := bytes.Cut(text, []byte{' '})
	own := s.path
	if s.path = append(s.path, ".error"...); len(own) == len("reply") {
		s.path = []byte("error")
	}
	s.add(word, proto.Text)
	s.path = own
}

func (s *scan) bulk(kind byte, text []byte) {
	n, isNumber := number(text)
	switch {
	case isNumber && n == -1:
		s.add(nil, proto.Null)
		return
	case !isNumber || n < 0 || n+2 > int64(len(s.p)):
		s.ok = false
		return
	}
	value := s.p[:n]
	s.p = s.p[n+2:]
	if kind == '!' {
		s.failure(value)
		return
	}
	s.add(value, proto.Text)
}

func (s *scan) list(text []byte, depth int) {
	n, isNumber := number(text)
	if !isNumber || n > int64(len(s.p)) {
		s.ok = false
		return
	}
	if n < 0 {
		s.add(nil, proto.Null)
		return
	}
	if !s.drop && s.ok {
		s.ok = s.b.AddList(s.path, uint64(n))
	}
	own := len(s.path)
	s.path = append(s.path, "[]"...)
	for range n {
		if s.element(depth + 1); !s.ok {
			return
		}
	}
	s.path = s.path[:own]
}

func (s *scan) pairs(text []byte, depth int) {
	n, isNumber := number(text)
	if !isNumber || n < 0 || n > int64(len(s.p)) {
		s.ok = false
		return
	}
	s.add(nil, proto.Object)
	own := len(s.path)
	for range n {
		key := []byte(content.Anonymous)
		if len(s.p) > 0 && (s.p[0] == '+' || s.p[0] == '$') {
			before := s.p
			kind, line := s.line()
			if size, isNumber := number(line); kind == '$' && isNumber && size >= 0 &&
				size+2 <= int64(len(s.p)) {
				key = s.p[:size]
			} else if kind == '+' {
				key = line
			}
			s.p = before
		}
		was := s.drop
		s.drop = true
		s.element(depth + 1)
		s.drop = was
		s.path = content.AppendKey(s.path, key)
		if s.element(depth + 1); !s.ok {
			return
		}
		s.path = s.path[:own]
	}
}

// labeller labels the commands of one connection.
type labeller struct {
	with *proto.Digesting
	head []byte // of the command, as much as holds its name
	hash proto.Hash
	some bool // a command has begun
}

// Write is of proto.Labeller.
func (l *labeller) Write(p []byte) {
	if !l.some {
		l.some = true
		l.hash.Begin(l.with)
	}
	l.hash.Write(p)
	l.head = append(l.head, p[:min(len(p), lineHead-len(l.head))]...)
}

// End is of proto.Labeller. The endpoint is the command's name.
func (l *labeller) End() (string, uint64) {
	name := bytes.TrimLeft(l.head, "\r\n")
	if len(name) > 0 && name[0] == '*' { // *N, $LENGTH, the name
		for range 2 {
			_, name, _ = bytes.Cut(name, []byte{'\n'})
		}
	}
	if i := bytes.IndexAny(name, " \r\n"); i >= 0 {
		name = name[:i]
	}
	label := "another command"
	if text := strings.ToUpper(string(name)); isName(text) {
		label = text
	}
	hash := l.hash.Sum()
	l.head, l.some = l.head[:0], false
	return l.with.Path([]byte(label)), hash
}

// isName reports whether a word may be a command's name.
func isName(s string) bool {
	for _, c := range s {
		if (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '.' && c != '_' {
			return false
		}
	}
	return s != "" && len(s) <= wordLen
}
