package socket

import (
	"syscall"

	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/known"
	"tcpcopy/internal/sys"
)

const (
	// earlyMost bounds what is kept of a target that speaks before its protocol is known.
	earlyMost = 1024
	// readMost is how many bytes one read takes where they are parsed.
	readMost = 64 << 10
	// skipMost is how many bytes that need no parsing are read with the others rather than
	// discarded by a system call of their own.
	skipMost = 4 << 10
)

// answers is the poller's part of a connection whose target's bytes are parsed.
type answers struct {
	follower proto.Follower
	decided  bool   // ReadAnswers was called
	reported bool   // noteLost was sent
	early    []byte // what came before ReadAnswers
}

// instruction is what the shard tells the poller of a connection whose answers are read. The poller
// applies it before it parses bytes that it reads later.
type instruction struct {
	conn    *conn
	request uint64
	hint    proto.Hint // of the request; 0: the protocol is kind
	kind    proto.Kind
}

// found is what a reader has found of answers.
type found struct {
	proto.Told
	from, to int // where Bytes are, in Batch.bytes
}

var _ session.AnswerReader = (*conn)(nil)

// listen prepares a new connection to keep what the target sends until its protocol is known.
func (c *conn) listen(spec *session.OpenSpec) {
	if spec.Listen {
		c.polled.answers = new(answers)
	}
}

// ReadAnswers implements session.AnswerReader. It wakes the poller, which parses what has come
// before: that may be all that comes.
func (c *conn) ReadAnswers(kind proto.Kind) {
	c.instruct(instruction{conn: c, kind: kind})
	if !c.gone && !c.out.closed {
		c.out.poller.wake()
	}
}

// Expect implements session.AnswerReader.
func (c *conn) Expect(request uint64, h proto.Hint) {
	c.instruct(instruction{conn: c, request: request, hint: h})
}

// instruct queues an instruction for the poller.
func (c *conn) instruct(n instruction) {
	if c.gone || c.out.closed {
		return
	}
	p := c.out.poller
	p.mu.Lock()
	p.instructions = append(p.instructions, n)
	p.mu.Unlock()
	p.hasInstructions.Store(true)
}

// takeInstructions applies the instructions that are queued.
func (p *poller) takeInstructions() {
	if !p.hasInstructions.Swap(false) {
		return
	}
	p.mu.Lock()
	p.applying, p.instructions = p.instructions, p.applying[:0]
	p.mu.Unlock()
	for i := range p.applying {
		n := &p.applying[i]
		p.apply(n)
		*n = instruction{}
	}
	p.applying = p.applying[:0]
}

// apply applies an instruction.
func (p *poller) apply(n *instruction) {
	s := &n.conn.polled
	a := s.answers
	switch {
	case a == nil || s.state == stateClosed:
	case n.hint != 0:
		if a.decided {
			a.follower.Expect(n.request, n.hint)
		}
	case a.decided:
	default:
		reader := known.Answers(n.kind)
		if n.kind == proto.None {
			s.answers = nil
			return
		}
		a.decided = true
		a.follower = proto.Follow(reader)
		if p.cfg.Digesting != nil {
			a.follower.Digest(known.Digester(n.kind, p.cfg.Digesting))
		}
		if reader == nil || s.received > uint64(len(a.early)) {
			a.follower.Lose()
		}
		if len(a.early) > 0 || a.follower.Lost() {
			p.early = append(p.early, n.conn)
		}
	}
}

// feedEarly parses what came before the protocol was known, on connections of which nothing was
// read since.
func (p *poller) feedEarly() {
	for i, c := range p.early {
		p.early[i] = nil
		if a := c.polled.answers; a != nil && c.polled.state != stateClosed &&
			(len(a.early) > 0 || a.follower.Lost() && !a.reported) {
			from := len(p.batch.found)
			p.feed(c, nil)
			n := p.note(c, 0)
			n.from, n.to = from, len(p.batch.found)
			a.noteLoss(n)
		}
	}
	p.early = p.early[:0]
}

// receive reads bytes of the target from the kernel, and parses or discards them. It returns how
// many there were, and how many it would have taken.
func (p *poller) receive(c *conn) (n, most int, errno syscall.Errno) {
	s := &c.polled
	a := s.answers
	switch {
	case a == nil || a.decided && a.follower.Over() || !a.decided && len(a.early) == earlyMost:
		n, errno = sys.Discard(s.fd, sys.MaxDiscard)
		return n, sys.MaxDiscard, errno
	case !a.decided:
		if a.early == nil {
			a.early = make([]byte, 0, earlyMost)
		}
		at := len(a.early)
		n, errno = sys.Receive(s.fd, a.early[at:earlyMost])
		a.early = a.early[:at+n]
		p.takeInstructions()
		if a.decided {
			p.feed(c, nil)
		}
		return n, earlyMost - at, errno
	}
	if blind := a.follower.Blind(); blind >= skipMost && len(a.early) == 0 {
		most = int(min(blind, uint64(sys.MaxDiscard)))
		n, errno = sys.Discard(s.fd, most)
		p.batch.list = a.follower.Skip(p.batch.at, uint64(n), p.batch.list[:0], &p.scratch)
		p.collect()
		return n, most, errno
	}
	if p.room == nil {
		p.room = make([]byte, readMost)
	}
	n, errno = sys.Receive(s.fd, p.room)
	p.takeInstructions()
	p.feed(c, p.room[:n])
	return n, readMost, errno
}

// feed hands bytes to the connection's reader, after those that came before the protocol was known.
func (p *poller) feed(c *conn, b []byte) {
	a := c.polled.answers
	if len(a.early) > 0 {
		p.batch.list = a.follower.Feed(p.batch.at, a.early, p.batch.list[:0], &p.scratch)
		p.collect()
		a.early = nil
	}
	p.batch.list = a.follower.Feed(p.batch.at, b, p.batch.list[:0], &p.scratch)
	p.collect()
}

// feedEnd tells the connection's reader that the target has ended its direction.
func (p *poller) feedEnd(c *conn) {
	if a := c.polled.answers; a != nil && a.decided {
		p.batch.list = a.follower.Close(p.batch.at, p.batch.list[:0], &p.scratch)
		p.collect()
	}
}

// collect adds what a reader has found to the batch.
func (p *poller) collect() {
	b := p.batch
	for i := range b.list {
		t := found{Told: b.list[i]}
		if len(t.Bytes) > 0 {
			t.from = len(b.bytes)
			b.bytes = append(b.bytes, t.Bytes...)
			t.to = len(b.bytes)
			t.Bytes = nil
		}
		b.found = append(b.found, t)
	}
}

// noteLoss sets noteLost in a note, once, if the answers are lost.
func (a *answers) noteLoss(n *note) {
	if a.decided && a.follower.Lost() && !a.reported {
		a.reported = true
		n.what |= noteLost
	}
}

// reportAnswers reports what a note has of answers.
func (c *conn) reportAnswers(b *Batch, n *note) {
	for i := n.from; i < n.to; i++ {
		t := &b.found[i]
		ev := session.Event{ID: c.id, At: t.At}
		if t.to > t.from {
			ev.Kind, ev.Bytes = session.AnswerBytes, b.bytes[t.from:t.to:t.to]
		} else {
			ev.Kind, ev.Answer, ev.First = session.AnswerEnd, t.Answer, t.First
		}
		c.out.events = append(c.out.events, ev)
	}
	if n.what&noteLost != 0 {
		c.out.report(c, session.AnswersLost, 0, b.at)
	}
}
