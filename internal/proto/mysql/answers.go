package mysql

import (
	"math"

	"tcpcopy/internal/proto"
)

// maxHints bounds the hints of requests without an answer.
const maxHints = 4096

type hinted struct {
	request uint64
	hint    proto.Hint
}

// Answers reads what a server sends on one connection: see proto.Answers. The greeting and the
// login are the first answer, which is handed back as it comes; the answers to commands follow.
type Answers struct {
	greeting greeting
	answer   answer
	hints    []hinted
	kind     proto.Hint // of the present answer's request
	keep     bool       // the present answer is handed back
	begun    bool       // an answer has begun
	over     bool       // nothing more is read
	at       uint64     // offset of the next byte
	from     uint64     // offset of the answer's first byte
	number   uint64     // the answer's number, from 0, which is the login
}

// NewAnswers returns a reader of what a server sends on a new connection.
func NewAnswers() *Answers { return &Answers{} }

var _ proto.Answers = (*Answers)(nil)

// Expect is of proto.Answers.
func (a *Answers) Expect(request uint64, h proto.Hint) {
	if request >= a.number && len(a.hints) < maxHints {
		a.hints = append(a.hints, hinted{request, h})
	}
}

// hint returns the hint of the next answer.
func (a *Answers) hint() proto.Hint {
	for _, h := range a.hints {
		if h.request == a.number {
			return h.hint
		}
	}
	return 0
}

// Feed is of proto.Answers.
func (a *Answers) Feed(p []byte, out []proto.Answer) ([]proto.Answer, error) {
	for len(p) > 0 && !a.over {
		used, done, err := a.step(p)
		a.at += uint64(used)
		p = p[used:]
		if err != nil {
			a.over = true
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
	if !a.begun {
		a.begun, a.from = true, a.at
		a.begin()
	}
	if a.number == 0 && !a.greeting.over {
		used, err = a.greeting.step(p)
		if a.greeting.over && err == nil {
			a.answer.deprecateEOF = a.greeting.caps&capDeprecateEOF != 0
			a.answer.begin(hintLogin)
			if a.greeting.code != 0 {
				a.answer.failed, a.answer.code, done = true, a.greeting.code, true
			}
		}
		return used, done, err
	}
	if a.number == 0 && !a.answer.begun && a.hint() == hintOldLogin {
		a.answer.deprecateEOF = false
	}
	return a.answer.step(p)
}

// begin prepares for the next answer.
func (a *Answers) begin() {
	h := a.hint()
	for len(a.hints) > 0 && a.hints[0].request <= a.number {
		a.hints = a.hints[:copy(a.hints, a.hints[1:])]
	}
	if a.kind = h; a.number == 0 {
		a.kind = hintLogin
	}
	a.keep = a.number == 0 || h&proto.Keep != 0
	a.answer.begin(h)
}

// end appends the answer that has ended.
func (a *Answers) end(out []proto.Answer) []proto.Answer {
	out = append(out, proto.Answer{
		End: a.at, Size: a.at - a.from, Status: a.answer.code, Failed: a.answer.failed,
		Kept: a.keep, Hint: a.kind,
	})
	a.begun = false
	a.number++
	return out
}

// Blind is of proto.Answers.
func (a *Answers) Blind() uint64 {
	switch {
	case a.over:
		return math.MaxUint64
	case !a.begun || a.keep:
		return 0
	}
	return uint64(a.answer.blind())
}

// Skip is of proto.Answers.
func (a *Answers) Skip(n uint64, out []proto.Answer) []proto.Answer {
	a.at += n
	if a.over || n == 0 {
		return out
	}
	if a.answer.skip(int(n)) {
		out = a.end(out)
	}
	return out
}

// Kept is of proto.Answers.
func (a *Answers) Kept() bool {
	if !a.begun {
		return !a.over && (a.number == 0 || a.hint()&proto.Keep != 0)
	}
	return !a.over && a.keep
}

// Close is of proto.Answers: no answer ends with the connection.
func (a *Answers) Close(out []proto.Answer) []proto.Answer {
	a.over = true
	return out
}
