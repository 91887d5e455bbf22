package http1

import (
	"bytes"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/content"
	"tcpcopy/internal/proto/semantics"
)

var comparison = &proto.Comparison{
	NewDigester: func(d *proto.Digesting) proto.Digester { return newDigester(d) },
	NewLabeller: func(d *proto.Digesting) proto.Labeller { return &labeller{with: d} },
}

// maxDigestHead bounds the head of an answer that is digested.
const maxDigestHead = 64 << 10

// digester digests the answers of one connection. That the bytes of an answer are in order, and
// where it ends, it takes from its caller.
type digester struct {
	with   *proto.Digesting
	head   []byte // up to the empty line, with it
	state  digestState
	answer semantics.Digest // what it has of the present answer

	body  content.Body
	frame body
	lines liner
}

type digestState uint8

const (
	digestHead digestState = iota
	digestBody
	digestOver // nothing more of this answer is needed
)

func newDigester(with *proto.Digesting) *digester {
	d := &digester{with: with}
	d.reset()
	return d
}

// Write is of proto.Digester.
func (d *digester) Write(p []byte) {
	if d.state == digestHead {
		p = d.readHead(p)
	}
	for len(p) > 0 && d.state == digestBody {
		n := int(min(uint64(len(p)), d.frame.blind()))
		switch {
		case n > 0:
			d.body.Write(p[:n])
			d.frame.skip(uint64(n))
		case d.frame.state == bodyNone:
			return // what follows the content is not part of it
		default:
			var err error
			if n, err = d.frame.framing(p, &d.lines); err != nil {
				d.giveUp(proto.UnknownEncoding)
				return
			}
		}
		p = p[n:]
	}
}

// readHead takes bytes of the head, and returns those that follow it.
func (d *digester) readHead(p []byte) []byte {
	had, end := len(d.head), -1
	part := p[:min(len(p), maxDigestHead+4-had)]
	if had == 0 { // most often the head comes whole, and content with it, which need not be copied
		if end = headEnd(part, 0); end >= 0 {
			part = part[:end]
		}
	}
	if d.head = append(d.head, part...); had > 0 {
		end = headEnd(d.head, had)
	}
	if end < 0 {
		if len(d.head) >= maxDigestHead {
			d.giveUp(proto.Oversize)
		}
		return nil
	}
	d.head = d.head[:end]
	d.begin()
	return p[end-had:]
}

// headEnd returns where the head ends in p, whose first had bytes have no end; -1 if it does not.
func headEnd(p []byte, had int) int {
	for from := max(0, had-3); ; {
		i := bytes.IndexByte(p[from:], '\n')
		if i < 0 {
			return -1
		}
		from += i + 1
		switch rest := p[from:]; {
		case bytes.HasPrefix(rest, []byte("\n")):
			return from + 1
		case bytes.HasPrefix(rest, []byte("\r\n")):
			return from + 2
		}
	}
}

// giveUp compares the present answer without its content.
func (d *digester) giveUp(why proto.Skip) {
	d.answer.Leave(why)
	d.state = digestOver
	d.body.Close()
}

// begin reads the head, and begins the body.
func (d *digester) begin() {
	var h head
	h.reset('1')
	d.state = digestBody
	rest := d.head[bytes.IndexByte(d.head, '\n')+1:] // without the status line
	for len(rest) > 0 {
		end := bytes.IndexByte(rest, '\n') // there is one: the head is whole
		ln := cutCR(rest[:end])
		rest = rest[end+1:]
		var l line
		if l.set(ln); l.len == 0 {
			continue
		}
		if h.field(&l) != nil {
			d.giveUp(proto.UnknownEncoding)
			return
		}
		name, value, _ := bytes.Cut(ln, []byte{':'})
		name, value = trim(name), trim(value)
		lower(name)
		d.answer.Header(name, value)
	}
	d.answer.BeginBody(&d.body, uint64(max(h.length, 0)))
	d.lines.reset()
	if d.frame = (body{state: bodyToEnd}); h.chunked {
		d.frame.state = bodySize
	} else if h.length >= 0 {
		d.frame.begin(&h)
	}
}

// End is of proto.Digester.
func (d *digester) End(a *proto.Answer) *proto.Digest {
	defer d.reset()
	if a.Interim {
		d.body.Close()
		return nil
	}
	if d.state == digestHead {
		d.answer.Leave(proto.UnknownEncoding) // where the head ends its reader sees, this one not
	}
	if d.state != digestBody {
		return d.answer.End(a.Status, nil, nil)
	}
	c := d.body.End()
	return d.answer.End(a.Status, &c, nil)
}

func (d *digester) reset() {
	d.state, d.head, d.frame = digestHead, d.head[:0], body{}
	d.answer.Begin(d.with)
}

// Close is of proto.Digester.
func (d *digester) Close() {
	d.body.Close()
	d.reset()
}

// lower puts ASCII letters into lower case.
func lower(p []byte) {
	for i, c := range p {
		if 'A' <= c && c <= 'Z' {
			p[i] = c + ('a' - 'A')
		}
	}
}

// labeller labels the requests of one connection.
type labeller struct {
	with *proto.Digesting
	line []byte // of the request, as far as it was read
	// label is scratch.
	label []byte
	done  bool // the line is whole
	hash  proto.Hash
	some  bool // a request has begun
}

// maxLabelLine bounds the request line that is kept.
const maxLabelLine = 4096

// Write is of proto.Labeller.
func (l *labeller) Write(p []byte) {
	if !l.some {
		l.some = true
		l.hash.Begin(l.with)
	}
	l.hash.Write(p)
	for more := true; more && !l.done; { // empty lines may precede the request line
		var part []byte
		part, p, more = bytes.Cut(p, []byte{'\n'})
		l.line = append(l.line, part[:min(len(part), maxLabelLine-len(l.line))]...)
		if more {
			l.line = cutCR(l.line)
			l.done = len(l.line) > 0
		}
	}
}

// End is of proto.Labeller. The endpoint is the method and the path, of which segments that look
// like identifiers are one.
func (l *labeller) End() (string, uint64) {
	method, rest, _ := bytes.Cut(l.line, []byte{' '})
	target, _, _ := bytes.Cut(rest, []byte{' '})
	if i := bytes.Index(target, []byte("://")); i >= 0 { // an absolute form, of a proxy's client
		target = target[i+3:]
		target = target[max(0, bytes.IndexByte(target, '/')):]
	}
	l.label = semantics.AppendEndpoint(append(append(l.label[:0], method...), ' '), target)
	hash := l.hash.Sum()
	l.line, l.done, l.some = l.line[:0], false, false
	return l.with.Path(l.label), hash
}
