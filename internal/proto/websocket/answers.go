package websocket

import (
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
)

// Answers reads what a server sends, and has it handed back as it comes, but of messages only the
// headers of their frames and the last byte of each: the Client does the rest. See proto.Answers.
type Answers struct {
	http    *http1.Answers // until the upgrade
	headers headers
	f       frame
	left    uint64 // bytes of the payload that are to come
	message bool   // of a message, and more than its last byte is to come
	over    bool   // nothing more is read
	at      uint64 // offset of the next byte
	scratch []proto.Answer
}

// NewAnswers returns a reader of what a server sends on a new connection, or, in one under way, of
// the answers to requests from the next on.
func NewAnswers() *Answers { return &Answers{http: http1.NewAnswers()} }

var _ proto.Answers = (*Answers)(nil)

// Expect is of proto.Answers.
func (a *Answers) Expect(request uint64, h proto.Hint) {
	if a.http != nil {
		a.http.Expect(request, h)
	}
}

// Feed is of proto.Answers. What it finds are marks.
func (a *Answers) Feed(p []byte, out []proto.Answer) ([]proto.Answer, error) {
	if a.http != nil && !a.over {
		list, err := a.http.Feed(p, a.scratch[:0])
		a.scratch = list
		if err != nil {
			a.over = true
			return out, err
		}
		if n := len(list) - 1; n < 0 || !list[n].Last {
			a.at += uint64(len(p))
			return out, nil
		}
		last := &list[len(list)-1]
		if last.Status != 101 { // of CONNECT
			a.over = true
			return out, lost("tunnel, with the status", last.Status)
		}
		end := last.End
		p = p[end-a.at:]
		a.at, a.http, a.scratch = end, nil, nil
	}
	for len(p) > 0 && !a.over {
		if a.left > 0 {
			n := min(a.left, uint64(len(p)))
			if a.message {
				n = min(n, a.left-1)
			}
			out = a.pass(n, out)
			p = p[n:]
			continue
		}
		used, ok := a.headers.next(p, &a.f)
		a.at += uint64(used)
		p = p[used:]
		if !ok {
			break
		}
		if err := a.f.check(false); err != nil {
			a.over = true
			return out, err
		}
		a.left = a.f.length
		if a.message = a.left > a.f.cut(); a.message {
			out = append(out, proto.Answer{End: a.at, Mark: true, Kept: true})
		}
	}
	a.at += uint64(len(p))
	return out, nil
}

// pass passes n bytes of a payload.
func (a *Answers) pass(n uint64, out []proto.Answer) []proto.Answer {
	a.left -= n
	a.at += n
	if a.message && a.left == 1 {
		a.message = false
		out = append(out, proto.Answer{End: a.at, Mark: true})
	}
	return out
}

// Blind is of proto.Answers.
func (a *Answers) Blind() uint64 {
	switch {
	case a.over:
		return 1 << 62
	case a.message:
		return a.left - 1
	default:
		return 0
	}
}

// Skip is of proto.Answers.
func (a *Answers) Skip(n uint64, out []proto.Answer) []proto.Answer {
	if a.over {
		a.at += n
		return out
	}
	return a.pass(n, out)
}

// Kept is of proto.Answers.
func (a *Answers) Kept() bool { return !a.over && !a.message }

// Close is of proto.Answers: the Client finds an answer that ends with the connection.
func (a *Answers) Close(out []proto.Answer) []proto.Answer {
	a.over = true
	return out
}
