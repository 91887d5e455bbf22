package redis

import (
	"bytes"
	"strings"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/content"
)

var comparison = &proto.Comparison{
	NewDigester: func(d *proto.Digesting) proto.Digester { return newDigester(d) },
	NewLabeller: func(d *proto.Digesting) proto.Labeller { return &labeller{with: d} },
	Unordered:   func(endpoint string) bool { return unordered[endpoint] },
}

// unordered lists the commands whose reply is a set, in any order.
var unordered = map[string]bool{
	"SMEMBERS": true, "SUNION": true, "SINTER": true, "SDIFF": true, "KEYS": true,
	"HGETALL": true, "HKEYS": true, "HVALS": true, "PUBSUB": true,
}

const (
	// maxReply bounds a reply that is digested.
	maxReply = 1 << 20
	// maxPacked bounds a reply of which the fields are made when they are needed.
	maxPacked = 32 << 10
)

// digester digests the replies of one connection. Where a reply ends it takes from its caller.
type digester struct {
	with  *proto.Digesting
	hash  proto.Hash
	reply []byte
	over  bool // the reply is too large
}

func newDigester(with *proto.Digesting) *digester {
	d := &digester{with: with}
	d.hash.Begin(with)
	return d
}

// Write is of proto.Digester.
func (d *digester) Write(p []byte) {
	d.hash.Write(p)
	switch {
	case d.over:
	case len(d.reply)+len(p) > maxReply || d.with.Room < len(p):
		d.over = true
		d.free()
	default:
		d.with.Room -= len(p)
		d.reply = append(d.reply, p...)
	}
}

func (d *digester) free() {
	d.with.Room += len(d.reply)
	d.reply = nil
}

// Close is of proto.Digester.
func (d *digester) Close() {
	d.free()
	d.over = false
	d.hash.Begin(d.with)
}

// End is of proto.Digester.
func (d *digester) End(a *proto.Answer) *proto.Digest {
	p := &packed{reply: d.reply, over: d.over}
	p.Status, p.Sum, p.Size = a.Status, d.hash.Sum(), packedSize+cap(d.reply)
	if p.Packed = p; len(p.reply) > maxPacked {
		p.Digest.Unpack(d.with)
	}
	d.Close()
	return &p.Digest
}

// packed is a reply of which the fields are not needed yet.
type packed struct {
	proto.Digest
	reply []byte
	over  bool
}

// packedSize is roughly what a packed reply takes, without its bytes.
const packedSize = 160

// Unpack is of proto.Packed.
func (p *packed) Unpack(with *proto.Digesting, d *proto.Digest) {
	b, skip := content.New(with), proto.Compared
	b.Reset(0)
	s := scan{b: b, p: p.reply, ok: true, path: []byte("reply")}
	for s.ok && len(s.p) > 0 && s.p[0] == '>' { // pushes that came before the reply
		s.drop = true
		s.element(0)
		s.drop = false
	}
	switch s.element(0); {
	case p.over:
		skip = proto.Oversize
	case !s.ok:
		b.Reset(0)
		skip = proto.UnknownEncoding
	}
	b.Finish(d, skip)
	p.reply = nil
}

// Drop is of proto.Packed. Most replies are small.
func (p *packed) Drop(*proto.Digesting) { p.reply = nil }

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
