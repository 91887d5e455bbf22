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
	// readMost is how many bytes one read takes where they are looked at.
	readMost = 64 << 10
	// skipMost is how many bytes that tell nothing are copied out of the kernel rather than skipped by a call of
	// their own.
	skipMost = 4 << 10
)

// answers is the poller's part of a connection whose target's bytes are looked at.
type answers struct {
	follower proto.Follower
	decided  bool   // ReadAnswers was called
	told     bool   // that they were lost
	early    []byte // what came before that
}

// news is what the shard tells the poller of a connection whose answers are read. It must be known before
// what is read after it is looked at.
type news struct {
	conn    *conn
	request uint64
	hint    proto.Hint // of a request; 0: the protocol is kind
	kind    proto.Kind
}

// told is what a note tells of answers.
type told struct {
	proto.Told
	from, to int // of Bytes, in the batch's
}

var _ session.AnswerReader = (*conn)(nil)

// listen has what the target says kept until its protocol is known, of a new connection.
func (c *conn) listen(spec *session.OpenSpec) {
	if spec.Listen {
		c.polled.answers = new(answers)
	}
}

// ReadAnswers implements session.AnswerReader. What has come before may be all that comes: the poller looks at it
// now.
func (c *conn) ReadAnswers(kind proto.Kind) {
	c.tellPoller(news{conn: c, kind: kind})
	if !c.gone && !c.out.closed {
		c.out.poller.wake()
	}
}

// Expect implements session.AnswerReader.
func (c *conn) Expect(request uint64, h proto.Hint) {
	c.tellPoller(news{conn: c, request: request, hint: h})
}

// tellPoller has the poller know before it looks at any byte that it reads from now on.
func (c *conn) tellPoller(n news) {
	if c.gone || c.out.closed {
		return
	}
	p := c.out.poller
	p.mu.Lock()
	p.news = append(p.news, n)
	p.mu.Unlock()
	p.hasNews.Store(true)
}

// takeNews takes in what the shard has told by now.
func (p *poller) takeNews() {
	if !p.hasNews.Swap(false) {
		return
	}
	p.mu.Lock()
	p.fresh, p.news = p.news, p.fresh[:0]
	p.mu.Unlock()
	for i := range p.fresh {
		n := &p.fresh[i]
		p.heedNews(n)
		*n = news{}
	}
	p.fresh = p.fresh[:0]
}

func (p *poller) heedNews(n *news) {
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
		if reader == nil || s.received > uint64(len(a.early)) {
			a.follower.Lose()
		}
		if len(a.early) > 0 || a.follower.Lost() {
			p.early = append(p.early, n.conn)
		}
	}
}

// hearEarly looks at what came before the protocol was known, of those connections that have not been
// read from since.
func (p *poller) hearEarly() {
	for i, c := range p.early {
		p.early[i] = nil
		if a := c.polled.answers; a != nil && c.polled.state != stateClosed && (len(a.early) > 0 || a.follower.Lost() && !a.told) {
			from := len(p.batch.told)
			p.hear(c, nil)
			n := p.note(c, 0)
			n.from, n.to = from, len(p.batch.told)
			a.tellLost(n)
		}
	}
	p.early = p.early[:0]
}

// receive takes bytes of the target's from the kernel, looks at them where it should, and says how many
// there were, of how many at the most.
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
		p.takeNews()
		if a.decided {
			p.hear(c, nil)
		}
		return n, earlyMost - at, errno
	}
	if blind := a.follower.Blind(); blind >= skipMost && len(a.early) == 0 {
		most = int(min(blind, uint64(sys.MaxDiscard)))
		n, errno = sys.Discard(s.fd, most)
		p.batch.list = a.follower.Skip(p.batch.at, uint64(n), p.batch.list[:0], &p.scratch)
		p.tell()
		return n, most, errno
	}
	if p.room == nil {
		p.room = make([]byte, readMost)
	}
	n, errno = sys.Receive(s.fd, p.room)
	p.takeNews()
	p.hear(c, p.room[:n])
	return n, readMost, errno
}

// hear hands bytes to the connection's reader, after those that came before the protocol was known.
func (p *poller) hear(c *conn, b []byte) {
	a := c.polled.answers
	if len(a.early) > 0 {
		p.batch.list = a.follower.Feed(p.batch.at, a.early, p.batch.list[:0], &p.scratch)
		p.tell()
		a.early = nil
	}
	p.batch.list = a.follower.Feed(p.batch.at, b, p.batch.list[:0], &p.scratch)
	p.tell()
}

// hearEnd says to the connection's reader that the target has ended its direction.
func (p *poller) hearEnd(c *conn) {
	if a := c.polled.answers; a != nil && a.decided {
		p.batch.list = a.follower.Close(p.batch.at, p.batch.list[:0], &p.scratch)
		p.tell()
	}
}

// tell adds what a reader has found to the batch.
func (p *poller) tell() {
	b := p.batch
	for i := range b.list {
		t := told{Told: b.list[i]}
		if len(t.Bytes) > 0 {
			t.from = len(b.bytes)
			b.bytes = append(b.bytes, t.Bytes...)
			t.to = len(b.bytes)
			t.Bytes = nil
		}
		b.told = append(b.told, t)
	}
}

// tellLost has the note say that the answers are lost, once.
func (a *answers) tellLost(n *note) {
	if a.decided && a.follower.Lost() && !a.told {
		a.told = true
		n.what |= noteLost
	}
}

// hearing tells the session what a note tells of answers.
func (c *conn) hearing(b *Batch, n *note) {
	for i := n.from; i < n.to; i++ {
		t := &b.told[i]
		ev := session.Event{ID: c.id, At: t.At}
		if t.to > t.from {
			ev.Kind, ev.Bytes = session.AnswerBytes, b.bytes[t.from:t.to:t.to]
		} else {
			ev.Kind, ev.Answer, ev.First = session.AnswerEnd, t.Answer, t.First
		}
		c.out.events = append(c.out.events, ev)
	}
	if n.what&noteLost != 0 {
		c.out.tell(c, session.AnswersLost, 0, b.at)
	}
}
