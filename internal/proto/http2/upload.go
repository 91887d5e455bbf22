package http2

import (
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
)

// upload is content of a stream that waits. Of large frames the session has the bytes; only where
// they are is kept here. Those of small ones are copied, since to send many pieces costs more.
// Offsets count the content from where nothing of it waited.
type upload struct {
	parts []part
	first int    // parts before it were sent
	data  []byte // the bytes of the parts that are copied
	dead  int    // how many of them were sent
	sent  int    // the content below was sent
	end   int
	held  int // how many bytes it takes
}

// part is some content.
type part struct {
	from  uint64 // offset of the frame, in the client's bytes, that it begins with
	begin int    // the content that it is
	end   int
	own   bool   // it is the client's bytes from off on, and is not copied
	off   uint64 // in the client's bytes
	at    int    // otherwise: in data
}

const (
	// ownLeast is how long a frame is of which the content is not copied.
	ownLeast = 2048
	// partMost is how much content one part that is copied stands for, unless it came at once.
	partMost = 1024
	// partCost is what a part takes, in bytes.
	partCost = 56
)

// waiting returns how much content waits.
func (t *upload) waiting() int { return t.end - t.sent }

// emptied returns content without any, which uses the same memory.
func (t *upload) emptied() upload { return upload{parts: t.parts[:0], data: t.data[:0]} }

// add adds content, of a frame at the offset from in the client's bytes; it begins at off there.
func (t *upload) add(b []byte, own bool, from, off uint64) {
	if !t.extends(own, from) {
		t.parts = append(t.parts, part{from: from, begin: t.end, own: own, off: off,
			at: len(t.data)})
		t.held += partCost
	}
	t.end += len(b)
	t.parts[len(t.parts)-1].end = t.end
	if !own {
		t.data = append(t.data, b...)
		t.held += len(b)
	}
}

// extends reports whether content of a frame belongs to the last part.
func (t *upload) extends(own bool, from uint64) bool {
	if len(t.parts) == 0 {
		return false
	}
	p := &t.parts[len(t.parts)-1]
	return p.own == own && (p.from == from || !own && p.end-p.begin < partMost)
}

// send has the next n bytes sent, behind what was said.
func (t *upload) send(n int, w *words, out *proto.Out) {
	for n > 0 {
		p := &t.parts[t.first]
		if t.sent == p.end {
			t.first++
			t.held -= partCost
			continue
		}
		k, within := min(n, p.end-t.sent), t.sent-p.begin
		if p.own {
			w.flush(out)
			out.Refer(p.off+uint64(within), k)
		} else {
			out.Text = append(out.Text, t.data[p.at+within:][:k]...)
			t.held -= k
			t.dead += k
		}
		t.sent += k
		n -= k
	}
}

// trim forgets what was sent. It returns false if all was, so that offsets count anew.
func (t *upload) trim() (some bool) {
	if t.sent == t.end {
		*t = t.emptied()
		return false
	}
	for t.parts[t.first].end <= t.sent {
		t.first++
		t.held -= partCost
	}
	if t.first > len(t.parts)/2 {
		t.parts, t.first = t.parts[:copy(t.parts, t.parts[t.first:])], 0
	}
	if t.dead > len(t.data)/2 {
		t.data = t.data[:copy(t.data, t.data[t.dead:])]
		for i := range t.parts {
			t.parts[i].at -= t.dead
		}
		t.dead = 0
	}
	return true
}

// words are the steps that a call of the Client makes of out.Text.
type words struct {
	from int // where the text begins that no step has
}

// flush has a step send the text so far.
func (w *words) flush(out *proto.Out) {
	if len(out.Text) > w.from {
		out.ReplaceFrom(0, w.from)
		w.from = len(out.Text)
	}
}

// content reads content of a stream, which begins at the offset off, in a frame of that length. It
// waits, with what precedes it.
func (c *Client) content(s *stream, p []byte, off uint64, frame int, out *proto.Out) {
	switch {
	case s.why != ledger.None || s.dead:
		return
	case s.socket != nil:
		c.socketContent(s, p, out)
		return
	}
	if s.grpc {
		c.beginTurn(s)
		s.asked.read(p)
	}
	before := s.upload.held
	s.upload.add(p, frame >= ownLeast, c.frameAt, off)
	c.holdFrom(s, c.frameAt, s.upload.held-before)
}

// sendData sends what the windows permit, and the stream's turns. It reports whether that is all,
// and when the next turn may go that waits.
func (c *Client) sendData(now mono.Time, s *stream, out *proto.Out) (whole bool, wake mono.Time) {
	t, d := &c.target, &s.upload
	before := d.held
	for wake = c.passTurns(now, s); d.sent < s.upTo(); {
		n := min(int64(s.upTo()-d.sent), int64(t.maxFrame), t.window, t.initial+s.window)
		if n <= 0 {
			break
		}
		flags, end := uint8(0), d.sent+int(n)
		if end == d.end && s.end && len(s.trailers)+len(s.turns) == 0 && !s.socket.waits() {
			flags, s.end = flagEndStream, false
		}
		out.Text = appendHeader(out.Text, int(n), frameData, flags, s.target)
		d.send(int(n), &c.words, out)
		t.window -= n
		s.window -= n
		wake = c.passTurns(now, s)
	}
	sent := d.sent
	some := d.trim()
	if c.held -= before - d.held; some {
		s.from = d.parts[d.first].from
		return false, wake
	}
	s.moveTurns(sent)
	switch {
	case len(s.turns) > 0:
		s.from = s.turns[0].from
	case s.socket.waits():
		s.from = s.socket.from(s.from)
		return false, wake
	}
	return len(s.turns) == 0, wake
}
