package http2

import "tcpcopy/internal/proto"

// Answers reads the frames of a server, and has them handed back as they come, but of the payload
// of DATA frames only the last byte: the Client does the rest. See proto.Answers.
type Answers struct {
	head  [headerLen]byte
	have  int    // bytes of head
	left  int    // bytes of the payload that are to come
	data  bool   // the payload is that of a DATA frame, and more than its last byte is to come
	begun bool   // the first frame has come
	over  bool   // nothing more is read
	at    uint64 // offset of the next byte
}

// NewAnswers returns a reader of what a server sends on a new connection.
func NewAnswers() *Answers { return &Answers{} }

var _ proto.Answers = (*Answers)(nil)

// Expect is of proto.Answers: there are no hints.
func (a *Answers) Expect(uint64, proto.Hint) {}

// Feed is of proto.Answers. What it finds are marks.
func (a *Answers) Feed(p []byte, out []proto.Answer) ([]proto.Answer, error) {
	for len(p) > 0 && !a.over {
		if a.left > 0 {
			n := min(len(p), a.left)
			if a.data {
				n = min(n, a.left-1)
			}
			out = a.pass(n, out)
			p = p[n:]
			continue
		}
		n := copy(a.head[a.have:], p)
		a.have += n
		a.at += uint64(n)
		p = p[n:]
		if a.have < headerLen {
			break
		}
		a.have = 0
		h := parseHeader(&a.head)
		if !a.begun && (h.kind != frameSettings || h.has(flagAck) || h.stream != 0) ||
			h.length > maxFrame {
			a.over = true
			return out, lost("header of a frame", h)
		}
		a.begun, a.left = true, h.length
		if a.data = h.kind == frameData && h.length > 1; a.data {
			out = append(out, proto.Answer{End: a.at, Mark: true, Kept: true})
		}
	}
	a.at += uint64(len(p))
	return out, nil
}

// pass passes n bytes of a payload.
func (a *Answers) pass(n int, out []proto.Answer) []proto.Answer {
	a.left -= n
	a.at += uint64(n)
	if a.data && a.left == 1 {
		a.data = false
		out = append(out, proto.Answer{End: a.at, Mark: true})
	}
	return out
}

// Blind is of proto.Answers.
func (a *Answers) Blind() uint64 {
	switch {
	case a.over:
		return 1 << 62
	case a.data:
		return uint64(a.left - 1)
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
	return a.pass(int(n), out)
}

// Kept is of proto.Answers.
func (a *Answers) Kept() bool { return !a.over && !a.data }

// Close is of proto.Answers: no answer ends with the connection.
func (a *Answers) Close(out []proto.Answer) []proto.Answer {
	a.over = true
	return out
}
