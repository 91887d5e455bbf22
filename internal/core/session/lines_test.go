package session

import (
	"bytes"
	"fmt"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
)

// lines is the protocol of these tests: a request is a line, and so is an answer. The first
// character of a line tells what it is:
//
//   - it has no answer
//     ?  the reader of answers must know of it (hint 5)
//     %  the rest of it may wait for an interim answer
//     ~  the server speaks unasked from here on
//     =  another protocol follows
//     !  it cannot be followed
type lines struct {
	inside bool
	first  byte
}

const linesKind proto.Kind = 2

// The reason and the classes that the protocols of these tests bring to the account.
var (
	loginFailed = ledger.DefineReason("login_failed", "the target refused the copy's login", false)
	errorBusy   = ledger.DefineClass("error 1040", "")
	errorDenied = ledger.DefineClass("error 1045", "")
)

func (c *lines) Edits() bool                   { return false }
func (c *lines) Begin(bool, *proto.Out) error  { *c = lines{}; return nil }
func (c *lines) Kept([]byte, *proto.Out) error { return nil }
func (c *lines) Holds() bool                   { return false }
func (c *lines) Expects() bool                 { return c.inside && c.first == '%' }
func (c *lines) Server(uint64, []byte)         {}

func (c *lines) Feed(p []byte, _ uint64, out *proto.Out) error {
	for len(p) > 0 {
		if !c.inside {
			c.first = p[0]
		}
		if c.first == '!' {
			return fmt.Errorf("lines: %w: %q", proto.ErrLost, p)
		}
		i := bytes.IndexByte(p, '\n')
		if c.inside = i < 0; c.inside {
			out.Pass(len(p))
			return nil
		}
		out.Pass(i + 1)
		out.Request(lineRequest(c.first))
		p = p[i+1:]
	}
	return nil
}

func lineRequest(first byte) proto.Request {
	switch first {
	case '-':
		return proto.Request{Reply: proto.Nothing}
	case '?':
		return proto.Request{Hint: 5}
	case '~':
		return proto.Request{Reply: proto.Push}
	case '=':
		return proto.Request{Reply: proto.Switch}
	}
	return proto.Request{}
}

// recogniseLines recognises a first line that begins with a capital letter.
func recogniseLines(client, server []byte) proto.Verdict {
	switch {
	case len(client) == 0:
		return proto.Unsure
	case client[0] < 'A' || client[0] > 'Z' || len(server) > 0:
		return proto.No
	case bytes.IndexByte(client, '\n') < 0:
		return proto.Unsure
	}
	return proto.Yes
}

// logins edits lines. A copy answers the target's greeting by its own login, and continues once the
// target answers "ok". Of the client's lines, "login …" is left out, "secret …" is denied, and "a"
// becomes "alpha".
type logins struct {
	ready bool // logged in
	line  []byte
	kept  []byte
	heard []string // by Server
	waits bool     // for the target's "go", before the line "wait"
	went  bool
}

func (c *logins) Edits() bool { return true }
func (c *logins) Holds() bool { return !c.ready || c.waits }

func (c *logins) Expects() bool { return false }

// Size implements proto.Sizer.
func (c *logins) Size() int {
	n := cap(c.line) + cap(c.kept)
	for _, h := range c.heard {
		n += len(h)
	}
	return n
}

func (c *logins) Begin(_ bool, out *proto.Out) error {
	*c = logins{heard: c.heard}
	return nil
}

func (c *logins) Server(off uint64, p []byte) {
	c.heard = append(c.heard, fmt.Sprintf("%d %s", off, p))
}

func (c *logins) Kept(p []byte, out *proto.Out) error {
	for _, b := range p {
		if c.kept = append(c.kept, b); b != '\n' {
			continue
		}
		switch string(c.kept) {
		case "hello\n":
			out.Replace(0, []byte("login ours\n"))
		case "ok\n":
			c.ready = true
		case "go\n":
			c.waits, c.went = false, true
		case "no\n":
			return &proto.Refusal{Reason: loginFailed, Class: errorBusy, Code: 1040}
		case "never\n":
			return &proto.Refusal{Reason: loginFailed, Class: errorDenied, Code: 1045, Final: true}
		default:
			return fmt.Errorf("logins: %w: %q", proto.ErrLost, c.kept)
		}
		c.kept = nil
	}
	return nil
}

func (c *logins) Feed(p []byte, _ uint64, out *proto.Out) error {
	for _, b := range p {
		if c.line = append(c.line, b); b != '\n' {
			continue
		}
		n := len(c.line)
		switch s := string(c.line); {
		case s == "wait\n" && !c.went:
			c.line, c.waits = nil, true
			return nil
		case s == "bad\n":
			return fmt.Errorf("logins: %w: %q", proto.ErrLost, s)
		case s == "a\n":
			out.Replace(n, []byte("alpha\n"))
			out.Request(proto.Request{})
		case bytes.HasPrefix(c.line, []byte("login")):
			out.Replace(n, nil)
		case bytes.HasPrefix(c.line, []byte("secret")):
			out.Drop(n, ledger.Filtered)
			out.Refuse(ledger.Filtered)
		default:
			out.Pass(n)
			out.Request(proto.Request{})
		}
		c.line = nil
	}
	return nil
}

// spoken has the sessions of a rig speak a protocol, which is recognised unless certain is set.
func spoken(certain bool, client func() proto.Client) func(*Service) {
	return func(svc *Service) {
		svc.Certain = certain
		svc.Protocols = []proto.Protocol{{Kind: linesKind, Recognise: recogniseLines,
			NewClient: client}}
	}
}

func newLines() proto.Client  { return new(lines) }
func newLogins() proto.Client { return new(logins) }

// ends has the target send n bytes, which are an answer.
func (r *rig) ends(n int) {
	r.Helper()
	r.replies(n)
	r.event(Event{Kind: AnswerEnd, Answer: proto.Answer{End: r.stream().received, Size: uint64(n)}})
}

func (r *rig) endsInterim(n int) {
	r.Helper()
	r.replies(n)
	r.event(Event{Kind: AnswerEnd, Answer: proto.Answer{End: r.stream().received, Size: uint64(n),
		Interim: true}})
}

// tells has the target send bytes that the protocol wants to read.
func (r *rig) tells(text string) {
	r.Helper()
	r.replies(len(text))
	r.event(Event{Kind: AnswerBytes, Bytes: []byte(text)})
}

func (r *rig) requests(want ledger.Requests) {
	r.Helper()
	got := r.count.Requests
	for _, a := range []*ledger.Answers{&got.Answers, &got.Production} { // see TestAnswerTimes
		a.First, a.Whole = ledger.Delays{}, ledger.Delays{}
	}
	if got != want {
		r.Errorf("at %v: requests %+v, wanted %+v", r.now, got, want)
	}
}
