package redis

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
)

// Rules are the settings of Redis: what a copy leaves out and changes. The zero value changes
// nothing.
type Rules struct {
	Deny     []string // commands that do not reach the target, in upper case
	User     string   // to log in with Password as; empty: the server's default user
	Password string   // empty: the clients' own logins are sent
}

// ParseDeny parses a list of commands with commas, and returns them in upper case.
func ParseDeny(s string) ([]string, error) {
	var all []string
	for name := range strings.SplitSeq(s, ",") {
		name = strings.ToUpper(strings.TrimSpace(name))
		if name == "" || len(name) > wordLen || strings.Trim(name,
			"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") != "" {
			return nil, fmt.Errorf("redis: command %q: wanted names of Redis commands, such as "+
				"FLUSHALL,FLUSHDB,CONFIG", name)
		}
		all = append(all, name)
	}
	return all, nil
}

// ParseAuth parses USER:PASSWORD. The user may be empty, for the server's default user. An error
// does not quote s.
func ParseAuth(s string) (user, password string, err error) {
	user, password, ok := strings.Cut(s, ":")
	if !ok || password == "" || len(s) > maxLogin/4 {
		return "", "", errors.New("redis: wanted USER:PASSWORD, or :PASSWORD for the default user")
	}
	return user, password, nil
}

// maxLogin bounds a command that logs in, in bytes. It is collected until it is whole.
const maxLogin = 4 << 10

// keepRoom is the capacity of a buffer that is kept between commands, in bytes.
const keepRoom = 128

// Editor is a Client that leaves commands out and logs in according to its Rules.
type Editor struct {
	rules  *Rules
	client Client
	held   int    // bytes of the present command that no step has taken
	text   []byte // those bytes, up to maxLogin, as long as the command may be a login
	fate   fate
}

// fate is what becomes of a command.
type fate uint8

const (
	undecided fate = iota
	goes           // to the target
	stays          // it is left out
	login          // it is replaced when it is whole
)

var (
	_ proto.Client = (*Editor)(nil)
	_ proto.Sizer  = (*Editor)(nil)
)

// Size is of proto.Sizer.
func (e *Editor) Size() int { return cap(e.text) }

// NewEditor returns a reader for one session. The rules are shared, and must not change.
func NewEditor(rules *Rules) *Editor { return &Editor{rules: rules} }

// Edits is of proto.Client.
func (e *Editor) Edits() bool { return true }

// Begin is of proto.Client: if there is a password, the copy logs in first.
func (e *Editor) Begin(_ bool, out *proto.Out) error {
	*e = Editor{rules: e.rules, text: e.text[:0]}
	if e.rules.Password != "" {
		out.Replace(0, e.rules.auth(nil))
		out.Request(proto.Request{})
	}
	return nil
}

// auth appends the command that logs in.
func (r *Rules) auth(dst []byte) []byte {
	if r.User == "" {
		return appendArray(dst, "AUTH", r.Password)
	}
	return appendArray(dst, "AUTH", r.User, r.Password)
}

func appendArray(dst []byte, words ...string) []byte {
	dst = append(strconv.AppendInt(append(dst, '*'), int64(len(words)), 10), "\r\n"...)
	for _, w := range words {
		dst = append(strconv.AppendInt(append(dst, '$'), int64(len(w)), 10), "\r\n"...)
		dst = append(append(dst, w...), "\r\n"...)
	}
	return dst
}

// Feed is of proto.Client.
func (e *Editor) Feed(p []byte, _ uint64, out *proto.Out) error {
	for len(p) > 0 {
		used, done, err := e.client.step(p)
		if err != nil {
			return err
		}
		e.held += used
		if e.rules.Password != "" && (e.fate == undecided || e.fate == login) {
			if len(e.text)+used > maxLogin {
				if e.fate == login {
					return fmt.Errorf("redis: %w: a login of more than %d bytes", proto.ErrLost,
						maxLogin)
				}
			} else {
				e.text = append(e.text, p[:used]...)
			}
		}
		p = p[used:]
		if e.fate == undecided && (done || e.client.arg > 0 || e.client.words[0].len > wordLen) {
			e.fate = e.decide()
		}
		switch e.fate {
		case goes:
			out.Pass(e.held)
			e.held = 0
		case stays:
			out.Drop(e.held, ledger.Denied)
			e.held = 0
		}
		if done {
			if err := e.end(out); err != nil {
				return err
			}
		}
	}
	return nil
}

// decide returns the fate of a command whose name is known.
func (e *Editor) decide() fate {
	name := &e.client.words[0]
	switch {
	case slices.ContainsFunc(e.rules.Deny, name.is):
		return stays
	case e.rules.Password != "" && (name.is("AUTH") || name.is("HELLO")):
		return login
	default:
		return goes
	}
}

// end ends a command.
func (e *Editor) end(out *proto.Out) error {
	c := &e.client
	fate := e.fate
	if fate == login {
		text, err := e.login()
		if err != nil {
			return err
		}
		out.Replace(e.held, text)
		e.held = 0
	}
	switch {
	case c.empty:
	case fate == stays:
		out.Refuse(ledger.Denied)
	default:
		out.Request(proto.Request{Reply: c.reply()})
		if e.rules.Password != "" && c.words[0].is("RESET") { // RESET logs out
			out.Replace(0, e.rules.auth(nil))
			out.Request(proto.Request{})
		}
	}
	c.end()
	if e.fate, e.text = undecided, e.text[:0]; cap(e.text) > keepRoom {
		e.text = nil
	}
	return nil
}

// login returns the present command with the user and the password of the rules.
func (e *Editor) login() ([]byte, error) {
	if e.client.words[0].is("AUTH") {
		return e.rules.auth(nil), nil
	}
	words := split(e.text)
	if len(words) == 0 {
		return nil, lost("login", e.text)
	}
	for i := 2; i < len(words); i += 2 { // after the version: AUTH user password, SETNAME name
		if strings.EqualFold(words[i], "AUTH") && i+2 < len(words) {
			words[i+1], words[i+2] = cmp.Or(e.rules.User, "default"), e.rules.Password
			break
		}
	}
	return appendArray(nil, words...), nil
}

// split returns the words of a whole command; nil if it has none that can be read.
func split(text []byte) (words []string) {
	var r reader
	if len(text) > 0 && text[0] != '*' {
		for rest := trimSpace(cutCR(text[:len(text)-1])); len(rest) > 0; rest = trimSpace(rest) {
			word, after, ok := cutWord(nil, rest)
			if !ok {
				return nil
			}
			words, rest = append(words, string(word)), after
		}
		return words
	}
	for len(text) > 0 {
		was, before := r.arg, r.bulk
		used, _, err := r.step(text)
		if err != nil || used == 0 {
			return nil
		}
		if r.arg > was {
			words = append(words, string(text[:before-2]))
		}
		text = text[used:]
	}
	return words
}

// Kept is of proto.Client: no hint has Keep.
func (e *Editor) Kept([]byte, *proto.Out) error { return nil }

// Holds is of proto.Client.
func (e *Editor) Holds() bool { return false }

// Expects is of proto.Client: the protocol has no interim answers.
func (e *Editor) Expects() bool { return false }

// Server is of proto.Client.
func (e *Editor) Server(uint64, []byte) {}
