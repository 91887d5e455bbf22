package http2

import "tcpcopy/internal/proto"

// Answers reads the frames of a server, and has them handed back as they come, but of the payload
// of DATA frames only what contents needs: the Client does the rest. See proto.Answers.
type Answers struct {
	head  [headerLen]byte
	have  int // bytes of head
	left  int // bytes of the payload that are to come, of a frame that is not DATA
	data  contents
	blind int    // how many of the next bytes are not handed back
	from  uint32 // the streams from this one on may have messages; 0: none
	begun bool   // the first frame has come
	over  bool   // nothing more is read
	at    uint64 // offset of the next byte
}

const (
	// hintMessages is the hint for a stream that it and the later ones may have messages of gRPC.
	hintMessages proto.Hint = 1
	// hintSocket is the hint for a stream that it is for WebSocket.
	hintSocket proto.Hint = 2
)

// NewAnswers returns a reader of what a server sends on a new connection.
func NewAnswers() *Answers { return &Answers{} }

var _ proto.Answers = (*Answers)(nil)

// Expect is of proto.Answers. A request is known by its place among the connection's streams.
func (a *Answers) Expect(request uint64, h proto.Hint) {
	switch {
	case request >= maxWindow/2:
	case h == hintMessages && a.from == 0:
		a.from = streamOf(request)
	case h == hintSocket && len(a.data.sockets) < maxSockets:
		a.data.addSocket(streamOf(request))
	}
}

// streamOf returns the number of the client's stream with that place on the connection, from 0.
func streamOf(place uint64) uint32 { return 2*uint32(place) + 1 }

// Feed is of proto.Answers. What it finds are marks.
func (a *Answers) Feed(p []byte, out []proto.Answer) ([]proto.Answer, error) {
	for len(p) > 0 && !a.over {
		if a.data.left > 0 {
			n, needed := a.data.run()
			n = min(n, len(p))
			if needed {
				if err := a.data.read(p[:n]); err != nil {
					a.over = true
					return out, err
				}
			} else {
				a.data.skip(n)
			}
			out = a.passed(n, out)
			p = p[n:]
			continue
		}
		if a.left > 0 {
			n := min(len(p), a.left)
			a.left -= n
			a.at += uint64(n)
			p = p[n:]
			continue
		}
		n := copy(a.head[a.have:], p)
		a.have += n
		p = p[n:]
		if a.have < headerLen {
			a.at += uint64(n)
			break
		}
		a.have = 0
		h := parseHeader(&a.head)
		if !a.begun && (h.kind != frameSettings || h.has(flagAck) || h.stream != 0) ||
			h.length > maxFrame {
			a.at += uint64(n)
			a.over = true
			return out, lost("header of a frame", h)
		}
		a.begun = true
		if a.data.header(&h, a.from != 0 && h.stream >= a.from); h.kind != frameData {
			a.left = h.length
		}
		out = a.passed(n, out)
	}
	a.at += uint64(len(p))
	return out, nil
}

// passed notes that n bytes were read, and marks where those end that are handed back, or those
// that are not.
func (a *Answers) passed(n int, out []proto.Answer) []proto.Answer {
	a.at += uint64(n)
	was := a.blind > 0
	if a.blind = 0; a.data.left > 0 {
		if n, needed := a.data.run(); !needed {
			a.blind = n
		}
	}
	if is := a.blind > 0; is != was {
		out = append(out, proto.Answer{End: a.at, Mark: true, Kept: is})
	}
	return out
}

// Blind is of proto.Answers.
func (a *Answers) Blind() uint64 {
	if a.over {
		return 1 << 62
	}
	return uint64(a.blind)
}

// Skip is of proto.Answers.
func (a *Answers) Skip(n uint64, out []proto.Answer) []proto.Answer {
	if a.over {
		a.at += n
		return out
	}
	a.data.skip(int(n))
	return a.passed(int(n), out)
}

// Kept is of proto.Answers.
func (a *Answers) Kept() bool { return !a.over && a.blind == 0 }

// Close is of proto.Answers: no answer ends with the connection.
func (a *Answers) Close(out []proto.Answer) []proto.Answer {
	a.over = true
	return out
}
