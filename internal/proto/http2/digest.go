package http2

import (
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/content"
	"tcpcopy/internal/proto/hpack"
	"tcpcopy/internal/proto/semantics"
)

var comparison = &proto.Comparison{
	NewDigester: func(d *proto.Digesting) proto.Digester { return newDigester(d) },
	NewLabeller: func(d *proto.Digesting) proto.Labeller { return newLabeller(d) },
}

const (
	// maxDigestHead bounds what is kept of an answer's headers and trailers.
	maxDigestHead = 64 << 10
	// maxDigested bounds the answers of one connection that have not ended. Of those that their
	// clients have cancelled, the server does not tell.
	maxDigested = 2048
)

// digester digests the answers of one connection: see proto.StreamDigester.
type digester struct {
	with *proto.Digesting
	frames
	lost  bool // the frames cannot be read
	open  map[uint32]*answer
	free  []*answer
	ready []digested
}

// digested is an answer that has ended.
type digested struct {
	stream uint64
	digest *proto.Digest
}

// answer is what has come of an answer.
type answer struct {
	answerHead
	of    semantics.Digest
	taken int // bytes of the room that its headers take
	large bool

	body content.Body
	call bool // messages are read, and no body
	messages
}

// messages are hashed one by one.
type messages struct {
	message
	over bool // what comes is no message
	hash proto.Hash
	all  proto.Field
}

func newDigester(with *proto.Digesting) *digester {
	d := &digester{with: with, open: make(map[uint32]*answer)}
	d.frames.begin(false)
	return d
}

var _ proto.StreamDigester = (*digester)(nil)

// Write is of proto.Digester.
func (d *digester) Write(p []byte) {
	for len(p) > 0 && !d.lost {
		used, f, err := d.step(p)
		p = p[used:]
		if err != nil {
			d.lose()
			return
		}
		a := d.open[f.stream]
		switch f.event {
		case blockEnd:
			a = d.block(a, &f)
		case dataPart:
			if a != nil && a.status != 0 {
				a.write(d.with, f.piece)
			}
		case streamReset:
			d.remove(f.stream, a)
			continue
		}
		if f.ends && a != nil {
			if a.status != 0 {
				d.ready = append(d.ready, digested{uint64(f.stream), a.end(d.with)})
			}
			d.remove(f.stream, a)
		}
	}
}

// lose ends the reading.
func (d *digester) lose() {
	d.Close()
	d.lost = true
}

// block reads a header block of an answer; a is nil if it is the first.
func (d *digester) block(a *answer, f *found) *answer {
	if a == nil {
		a = d.add(f.stream)
	}
	first := a.status == 0
	a.answerHead.begin()
	block := hpack.NewBlock(f.block)
	var h hpack.Field
	for {
		more, err := d.decoder.Next(&block, &h)
		if err != nil {
			d.lose()
			return nil
		}
		if !more {
			break
		}
		a.answerHead.field(&h)
		d.field(a, &h, first)
	}
	switch interim := a.answerHead.end(); {
	case interim != 0:
		a.of.Begin(d.with)
		a.take(d.with)
	case first && a.status != 0:
		if a.call = a.grpc; !a.call {
			a.of.BeginBody(&a.body, 0)
		} else {
			a.messages.begin(d.with)
		}
	}
	return a
}

// field adds a field of a header block. The call's status is compared as the answer's, and a
// message that follows from it belongs to the trailers wherever it stands.
func (d *digester) field(a *answer, h *hpack.Field, first bool) {
	switch {
	case a.large:
		return
	case len(h.Name) == 0 || h.Name[0] == ':' || string(h.Name) == "grpc-status":
		return
	case a.of.Size()+len(h.Name)+len(h.Value) > maxDigestHead || d.with.Room < len(h.Value):
		a.large = true
		a.of.Leave(proto.Oversize)
		return
	}
	switch name := string(h.Name); {
	case name == "grpc-message" || name == "grpc-status-details-bin":
		a.of.Trailer(h.Name, h.Value, true)
	case first:
		a.of.Header(h.Name, h.Value)
	default:
		a.of.Trailer(h.Name, h.Value, false)
	}
	a.take(d.with)
}

// take takes room for the headers.
func (a *answer) take(with *proto.Digesting) {
	with.Room += a.taken - a.of.Size()
	a.taken = a.of.Size()
}

// add adds an answer that begins.
func (d *digester) add(stream uint32) *answer {
	var a *answer
	if n := len(d.free) - 1; n >= 0 {
		a, d.free = d.free[n], d.free[:n]
	} else {
		a = new(answer)
	}
	a.of.Begin(d.with)
	d.open[stream] = a
	forget(d.open, maxDigested, d.drop)
	return a
}

// drop frees what is kept of an answer.
func (d *digester) drop(a *answer) {
	a.body.Close()
	d.with.Room += a.taken
	a.answerHead, a.taken, a.large, a.call = answerHead{}, 0, false, false
	a.body, a.messages = content.Body{}, messages{}
	if a.of.Begin(d.with); len(d.free) < maxFree {
		d.free = append(d.free, a)
	}
}

func (d *digester) remove(stream uint32, a *answer) {
	if a != nil {
		delete(d.open, stream)
		d.drop(a)
	}
}

// write reads content.
func (a *answer) write(with *proto.Digesting, p []byte) {
	if a.call {
		a.messages.read(with, p)
	} else {
		a.body.Write(p)
	}
}

// end ends an answer.
func (a *answer) end(with *proto.Digesting) *proto.Digest {
	if a.call {
		a.messages.end(with)
		return a.of.End(a.status, nil, &a.all)
	}
	c := a.body.End()
	return a.of.End(a.status, &c, nil)
}

// Next is of proto.StreamDigester.
func (d *digester) Next() (stream uint64, digest *proto.Digest) {
	if len(d.ready) == 0 {
		return 0, nil
	}
	f := d.ready[0]
	d.ready[0] = digested{}
	d.ready = d.ready[:copy(d.ready, d.ready[1:])]
	return f.stream, f.digest
}

// End is of proto.Digester. What ends here is told by Next.
func (d *digester) End(*proto.Answer) *proto.Digest { return nil }

// Close is of proto.Digester.
func (d *digester) Close() {
	for _, f := range d.ready {
		f.digest.Drop(d.with)
	}
	for _, a := range d.open {
		d.drop(a)
	}
	clear(d.open)
	d.ready = nil
}

// begin begins the messages of an answer.
func (m *messages) begin(with *proto.Digesting) {
	*m = messages{}
	m.hash.Begin(with)
}

// read reads content. What is no message is hashed as one.
func (m *messages) read(with *proto.Digesting, p []byte) {
	for len(p) > 0 {
		if m.over {
			m.hash.Write(p)
			m.all.Length += uint64(len(p))
			return
		}
		if n := int(min(m.left, int64(len(p)))); n > 0 {
			m.hash.Write(p[:n])
			m.all.Length += uint64(n)
			p = p[n:]
			if m.left -= int64(n); m.left == 0 {
				m.whole(with)
			}
			continue
		}
		n := min(prefixLen-m.have, len(p))
		flag := m.have == 0
		whole, ok := m.message.begin(p[:n])
		switch {
		case !ok:
			m.over = true
			continue
		case flag:
			m.hash.Write(p[:1]) // it tells whether the message is compressed
		}
		if p = p[n:]; whole {
			m.whole(with)
		}
	}
}

// whole notes a message that has ended.
func (m *messages) whole(with *proto.Digesting) {
	m.all.Add(m.hash.Sum(), proto.Opaque)
	m.hash.Begin(with)
}

// end ends the content. What is no whole message counts as one.
func (m *messages) end(with *proto.Digesting) {
	if m.over || m.within() {
		m.whole(with)
	}
}
