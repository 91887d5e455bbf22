package http1

import (
	"fmt"

	"tcpcopy/internal/proto"
)

// The hints of requests whose answers are framed in another way.
const (
	hintHead    proto.Hint = 1 // the answer has no body
	hintConnect proto.Hint = 2 // a successful answer turns the connection into a tunnel
)

// maxHints bounds the hints of requests without an answer; beyond it the reader is lost.
const maxHints = 4096

type hinted struct {
	request uint64
	hint    proto.Hint
}

type answerState uint8

const (
	statusLine answerState = iota
	answerHeaders
	answerBody
	answersOver // nothing more is read
)

// Answers reads the answers of an HTTP/1 server (RFC 9112): see proto.Answers.
type Answers struct {
	lines  liner
	head   head
	body   body
	state  answerState
	status uint16
	hint   proto.Hint
	inside bool   // an answer has begun
	many   bool   // there were more than maxHints
	at     uint64 // offset of the next byte
	bodyAt uint64 // offset of the body's first byte
	began  uint64 // offset of the answer's first byte, interim answers included
	number uint64 // the answer's number, from 0
	hints  []hinted
}

// NewAnswers returns a reader of the answers on a new connection, or, in one under way, of the
// answers to requests from the next on.
func NewAnswers() *Answers { return &Answers{} }

var _ proto.Answers = (*Answers)(nil)

// Expect is of proto.Answers.
func (a *Answers) Expect(request uint64, h proto.Hint) {
	switch {
	case request < a.number:
	case request == a.number && a.state == answerBody:
		if a.at == a.bodyAt { // after the headers, but before the body
			a.hint = h
		}
	case len(a.hints) >= maxHints:
		a.many = true
	default:
		a.hints = append(a.hints, hinted{request, h})
	}
}

// bodiless reports whether the present answer has no body because of its hint (RFC 9112 §6.3).
func (a *Answers) bodiless() bool {
	return a.hint == hintHead || a.hint == hintConnect && a.status/100 == 2
}

// late reports whether the hint came after the answer's headers, where the answer has ended.
func (a *Answers) late() bool { return a.state == answerBody && a.bodiless() }

// Feed is of proto.Answers.
func (a *Answers) Feed(p []byte, out []proto.Answer) ([]proto.Answer, error) {
	if a.late() {
		out = a.end(out)
	}
	if a.many && a.state != answersOver {
		a.state = answersOver
		return out, fmt.Errorf("http1: %w: more than %d requests of HEAD and CONNECT without an "+
			"answer", proto.ErrLost, maxHints)
	}
	for len(p) > 0 && a.state != answersOver {
		used, done, err := a.step(p)
		a.at += uint64(used)
		p = p[used:]
		if err != nil {
			a.state = answersOver
			return out, err
		}
		if done {
			out = a.end(out)
		}
	}
	a.at += uint64(len(p))
	return out, nil
}

// step reads some of p, and reports whether an answer ends there.
func (a *Answers) step(p []byte) (used int, done bool, err error) {
	if !a.inside {
		a.inside, a.began = true, a.at
	}
	if a.state == answerBody {
		used, err = a.body.feed(p, &a.lines)
		return used, a.body.state == bodyNone, err
	}
	var ln line
	used, ok, err := a.lines.next(p, &ln)
	if err != nil || !ok {
		if a.state == statusLine && a.lines.kept >= statusEnd && err == nil {
			_, err = statusOf(a.lines.buf[:statusEnd])
		}
		return used, false, err
	}
	switch {
	case a.state == statusLine:
		if a.status, err = statusOf(ln.head); err != nil {
			return used, false, err
		}
		a.head.reset(ln.head[len("HTTP/1.")])
		a.state = answerHeaders
	case ln.len == 0:
		done, err = a.headersEnd(a.at + uint64(used))
	default:
		_, err = a.head.field(&ln)
	}
	return used, done, err
}

// statusEnd is where the status code ends in a status line.
const statusEnd = len("HTTP/1.1 200")

// statusOf parses a status line: HTTP/1.x, a space, three digits (RFC 9112 §4).
func statusOf(p []byte) (uint16, error) {
	const form = "HTTP/1."
	if len(p) < statusEnd || string(p[:len(form)]) != form || p[7] < '0' || p[7] > '9' ||
		p[8] != ' ' {
		return 0, lost("status line", p[:min(len(p), 32)])
	}
	var n uint16
	for _, c := range p[9:statusEnd] {
		if c < '0' || c > '9' {
			return 0, lost("status line", p[:min(len(p), 32)])
		}
		n = 10*n + uint16(c-'0')
	}
	if n < 100 || len(p) > statusEnd && p[statusEnd] != ' ' {
		return 0, lost("status line", p[:min(len(p), 32)])
	}
	return n, nil
}

// headersEnd finds out how the body ends that begins at the offset at (RFC 9112 §6.3). It returns
// true if there is no body.
func (a *Answers) headersEnd(at uint64) (bool, error) {
	a.hint = a.takeHint()
	a.state = answerBody
	a.bodyAt = at
	a.lines.reset()
	switch {
	case a.status < 200, a.status == 204, a.status == 304, a.bodiless():
		a.body = body{}
	case a.head.coded && a.head.old:
		return false, lost("transfer encoding of HTTP/1.0", nil)
	case a.head.coded && !a.head.chunked, !a.head.coded && a.head.length < 0:
		a.body = body{state: bodyToEnd}
	default:
		a.body.begin(&a.head)
	}
	return a.body.state == bodyNone, nil
}

// takeHint removes and returns the hint of the request that the answer belongs to.
func (a *Answers) takeHint() proto.Hint {
	for len(a.hints) > 0 && a.hints[0].request <= a.number {
		h := a.hints[0]
		if h.request == a.number && a.status < 200 && a.status != 101 {
			return 0 // the hint is for the final answer
		}
		a.hints = a.hints[:copy(a.hints, a.hints[1:])]
		if h.request == a.number {
			return h.hint
		}
	}
	return 0
}

// end appends the answer that has ended.
func (a *Answers) end(out []proto.Answer) []proto.Answer {
	interim := a.status < 200 && a.status != 101
	last := a.status == 101 || a.hint == hintConnect && a.status/100 == 2
	out = append(out, proto.Answer{
		End: a.at, Size: a.at - a.began, Status: a.status, Interim: interim, Last: last,
		Failed: a.status >= 400,
	})
	a.lines.reset()
	a.body, a.hint, a.state = body{}, 0, statusLine
	if last {
		a.state = answersOver
	}
	if !interim {
		a.inside = false
		a.number++
	}
	return out
}

// Blind is of proto.Answers.
func (a *Answers) Blind() uint64 {
	switch {
	case a.state == answersOver:
		return 1 << 62
	case a.state == answerBody && !a.bodiless() && !a.many:
		return a.body.blind()
	default:
		return 0
	}
}

// Skip is of proto.Answers.
func (a *Answers) Skip(n uint64, out []proto.Answer) []proto.Answer {
	a.at += n
	if a.state != answerBody || n == 0 {
		return out // reading is over
	}
	a.body.skip(n)
	if a.body.state == bodyNone {
		out = a.end(out)
	}
	return out
}

// Kept is of proto.Answers: no hint has Keep.
func (a *Answers) Kept() bool { return false }

// Close is of proto.Answers.
func (a *Answers) Close(out []proto.Answer) []proto.Answer {
	if a.state == answerBody && (a.body.state == bodyToEnd || a.bodiless()) {
		out = a.end(out)
	}
	a.state = answersOver
	return out
}
