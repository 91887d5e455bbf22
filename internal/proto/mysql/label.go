package mysql

import (
	"bytes"
	"encoding/binary"
	"strings"

	"tcpcopy/internal/proto"
)

// labelMost is how much of a statement is looked at for its endpoint.
const labelMost = 1 << 10

// labeller labels the commands of one connection, and its login, which is the first.
type labeller struct {
	with   *proto.Digesting
	head   []byte // of the request, packets' headers included
	size   int    // of the request
	hash   proto.Hash
	logged bool // the login was labelled
	print  fingerprint

	// Which statement an id stands for is known as long as there is one only.
	open     int    // statements that were prepared and not closed
	only     []byte // the form of the only one; nil: there are others, or none
	onlyHash uint64
}

// Write is of proto.Labeller.
func (l *labeller) Write(p []byte) {
	if l.size == 0 {
		l.hash.Begin(l.with)
	}
	l.size += len(p)
	l.hash.Write(p)
	l.head = append(l.head, p[:min(len(p), headerLen+1+labelMost-len(l.head))]...)
}

// commandNames are the endpoints of commands without a statement.
var commandNames = [256]string{
	comQuit: "quit", comInitDB: "init db", comFieldList: "field list", comCreateDB: "create db",
	comDropDB: "drop db", comRefresh: "refresh", comStatistics: "statistics",
	comProcessInfo: "process info", comDebug: "debug", comPing: "ping",
	comChangeUser: "change user", comExecute: "execute", comSendLongData: "send long data",
	comClose: "close", comReset: "reset statement",
	comSetOption: "set option", comFetch: "fetch", comResetConnection: "reset connection",
	comBulkExecute: "bulk execute",
}

// End is of proto.Labeller. The endpoint of a statement is its text without what it is about.
func (l *labeller) End() (string, uint64) {
	label, hash := []byte("another command"), l.hash.Sum()
	if len(l.head) > headerLen {
		command, text := l.head[headerLen], l.head[headerLen+1:]
		if name := commandNames[command]; name != "" {
			label = []byte(name)
		}
		switch {
		case !l.logged:
			label = []byte("login")
		case command == comQuery:
			label = l.print.of(text)
		case command == comPrepare:
			label = append([]byte("prepare "), l.print.of(text)...)
			l.prepare(label[len("prepare "):], hash)
		case forms[command].id && len(text) >= idLen && l.only != nil:
			label = append(append(label, ' '), l.only...)
			hash = l.ofOnly(hash)
		}
		if command == comClose {
			l.close()
		}
	}
	l.head, l.size, l.logged = l.head[:0], 0, true
	return l.with.Path(label), hash
}

// idLen is the length of a statement's id.
const idLen = 4

// prepare notes that a statement was prepared.
func (l *labeller) prepare(form []byte, hash uint64) {
	if l.only = nil; l.open == 0 {
		l.only, l.onlyHash = form, hash
	}
	l.open++
}

// close notes that a statement was closed.
func (l *labeller) close() {
	l.only = nil
	l.open = max(0, l.open-1)
}

// ofOnly returns the hash of a request about the only statement, with the statement's text in place
// of its id, which servers choose. hash is with the id.
func (l *labeller) ofOnly(hash uint64) uint64 {
	if l.size > len(l.head) {
		return hash
	}
	const at = headerLen + 1
	l.hash.Begin(l.with)
	l.hash.Write(l.head[:at])
	l.hash.Write(binary.LittleEndian.AppendUint64(nil, l.onlyHash))
	l.hash.Write(l.head[at+idLen:])
	return l.hash.Sum()
}

// unordered reports whether the rows of a statement may come in any order. So may those of a
// prepared one, of which the text is not known here.
func unordered(endpoint string) bool { return !strings.Contains(endpoint, "order by") }

// fingerprint makes the form of statements: in lower case, without comments, with one blank between
// words, ? for every value, and ?+ for lists of them.
type fingerprint struct{ out []byte }

// of returns the form of a statement, valid until the next call.
func (f *fingerprint) of(p []byte) []byte {
	f.out = f.out[:0]
	for len(p) > 0 {
		c := p[0]
		switch {
		case isSpace(c):
			p = p[1:]
			f.blank()
		case c == '\'' || c == '"':
			p = p[quoted(p):]
			f.value()
		case c == '`':
			n := quoted(p)
			f.out, p = append(f.out, p[:n]...), p[n:]
		case c == '#', bytes.HasPrefix(p, []byte("-- ")):
			n := bytes.IndexByte(p, '\n') + 1
			if n == 0 {
				n = len(p)
			}
			p = p[n:]
			f.blank()
		case bytes.HasPrefix(p, []byte("/*")):
			n := bytes.Index(p[2:], []byte("*/"))
			if n < 0 {
				n = len(p) - 4
			}
			p = p[max(2, n+4):]
			f.blank()
		case isWord(c):
			n := 1
			for n < len(p) && (isWord(p[n]) || c <= '9' && c >= '0' && p[n] == '.') {
				n++
			}
			if '0' <= c && c <= '9' {
				f.value()
			} else {
				f.out = append(f.out, bytes.ToLower(p[:n])...)
			}
			p = p[n:]
		case c == ')':
			p = p[1:]
			f.close()
		default:
			f.out, p = append(f.out, c), p[1:]
		}
	}
	return bytes.TrimRight(f.out, " ;")
}

// quoted returns the length of the quoted text that p begins with.
func quoted(p []byte) int {
	q := p[0]
	for i := 1; i < len(p); i++ {
		switch {
		case p[i] == '\\' && q != '`':
			i++
		case p[i] != q:
		case i+1 < len(p) && p[i+1] == q:
			i++
		default:
			return i + 1
		}
	}
	return len(p)
}

func (f *fingerprint) blank() {
	if n := len(f.out); n > 0 && f.out[n-1] != ' ' && f.out[n-1] != '(' && f.out[n-1] != ',' {
		f.out = append(f.out, ' ')
	}
}

// value adds a value; of values with commas between them one is left.
func (f *fingerprint) value() {
	switch {
	case bytes.HasSuffix(f.out, []byte("?,")):
		f.out = append(f.out[:len(f.out)-1], '+')
	case bytes.HasSuffix(f.out, []byte("?+,")):
		f.out = f.out[:len(f.out)-1]
	default:
		f.out = append(f.out, '?')
	}
}

// close ends a list; of lists of values with commas between them one is left.
func (f *fingerprint) close() {
	f.out = append(f.out, ')')
	for _, list := range [...]string{"(?),(?)", "(?+),(?+)"} {
		if bytes.HasSuffix(f.out, []byte(list)) {
			f.out = f.out[:len(f.out)-len(list)/2-1]
		}
	}
}
