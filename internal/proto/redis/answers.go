package redis

import (
	"tcpcopy/internal/proto"
)

// maxDepth bounds how deep a reply may be nested.
const maxDepth = 16

// Answers reads a server's replies: see proto.Answers. Error replies are Failed; there is no
// Status.
type Answers struct {
	line   liner
	at     uint64 // offset of the next byte
	began  uint64 // offset of the reply's first byte
	bulk   uint64 // bytes of a bulk string and its CRLF that follow
	depth  int
	left   [maxDepth]int64 // elements that follow, at each depth
	inside bool            // a reply has begun
	failed bool
	pushed bool // it is a push: no command has asked for it
	over   bool
}

var _ proto.Answers = (*Answers)(nil)

// NewAnswers returns a reader of the replies from the next on.
func NewAnswers() *Answers { return &Answers{} }

// Expect is of proto.Answers: no command has a hint.
func (a *Answers) Expect(uint64, proto.Hint) {}

// Feed is of proto.Answers.
func (a *Answers) Feed(p []byte, out []proto.Answer) ([]proto.Answer, error) {
	for len(p) > 0 && !a.over {
		if a.bulk > 0 {
			n := min(a.bulk, uint64(len(p)))
			out = a.Skip(n, out)
			p = p[n:]
			continue
		}
		if !a.inside {
			a.inside, a.began = true, a.at
		}
		head, whole, used, ok, err := a.line.next(p)
		a.at += uint64(used)
		p = p[used:]
		if err == nil && ok {
			err = a.element(head, whole)
		}
		if err != nil {
			a.over = true
			return out, err
		}
		if ok && a.bulk == 0 {
			out = a.done(out)
		}
	}
	a.at += uint64(len(p))
	return out, nil
}

// element reads the line that an element begins with.
func (a *Answers) element(head []byte, whole bool) error {
	if len(head) == 0 {
		return lost("reply", head)
	}
	top := a.depth == 0
	switch kind := head[0]; kind {
	case '+', ':', '_', '#', ',', '(': // the line is the element
		return nil
	case '-':
		a.failed = a.failed || top
		return nil
	case '$', '=', '!':
		a.failed = a.failed || top && kind == '!'
		n, ok := number(head[1:])
		if !whole || !ok || n < -1 || n > maxBulk {
			return lost("length", head)
		}
		if n >= 0 {
			a.bulk = uint64(n) + 2
		}
		return nil
	case '*', '~', '>', '%', '|':
		n, ok := number(head[1:])
		if !whole || !ok || n < -1 || n > 1<<40 {
			return lost("number of elements", head)
		}
		if kind == '%' || kind == '|' {
			n *= 2
		}
		if kind == '|' {
			n++ // the element that the attributes describe follows them
		}
		if kind == '>' && top {
			a.pushed = true
		}
		if n <= 0 {
			return nil
		}
		if a.depth == maxDepth {
			return lost("nesting", head)
		}
		a.left[a.depth] = n + 1 // done subtracts one for the line
		a.depth++
		return nil
	default:
		return lost("reply", head)
	}
}

// done ends an element, and appends the reply if this was the last of it.
func (a *Answers) done(out []proto.Answer) []proto.Answer {
	for a.depth > 0 {
		if a.left[a.depth-1]--; a.left[a.depth-1] > 0 {
			return out
		}
		a.depth--
	}
	if !a.pushed {
		out = append(out, proto.Answer{End: a.at, Size: a.at - a.began, Failed: a.failed})
	}
	a.inside, a.failed, a.pushed = false, false, false
	return out
}

// Blind is of proto.Answers.
func (a *Answers) Blind() uint64 {
	if a.over {
		return 1 << 62
	}
	return a.bulk
}

// Skip is of proto.Answers.
func (a *Answers) Skip(n uint64, out []proto.Answer) []proto.Answer {
	a.at += n
	if a.over || n == 0 {
		return out
	}
	if a.bulk -= n; a.bulk == 0 {
		out = a.done(out)
	}
	return out
}

// Kept is of proto.Answers: no hint has Keep.
func (a *Answers) Kept() bool { return false }

// Close is of proto.Answers.
func (a *Answers) Close(out []proto.Answer) []proto.Answer {
	a.over = true
	return out
}
