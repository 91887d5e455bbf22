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
	state  digestState
	answer semantics.Digest // what it has of the present answer

	// head is what has come of a head that is not whole. If known, it is the last one, and answer
	// and framing are of it: the next one on a connection is often the same.
	head    []byte
	known   bool
	framing head

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
	if d.known && bytes.HasPrefix(p, d.head) {
		d.answer.Again()
		d.beginBody()
		return p[len(d.head):]
	}
	if d.known {
		d.forget()
	}
	had := len(d.head)
	part := p[:min(len(p), maxDigestHead+4-had)]
	if had == 0 { // most often it comes whole
		if end := d.begin(part); end >= 0 {
			d.head = append(d.head, part[:end]...)
			return p[end:]
		}
		d.forget()
	}
	d.head = append(d.head, part...)
	if end := headEnd(d.head, had); end >= 0 {
		d.head = d.head[:end]
		d.begin(d.head)
		return p[end-had:]
	}
	if len(d.head) >= maxDigestHead {
		d.giveUp(proto.Oversize)
	}
	return nil
}

// forget empties the digester for another head.
func (d *digester) forget() {
	d.known, d.head = false, d.head[:0]
	d.answer.Begin(d.with)
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

// begin reads the head at the beginning of p, begins the body, and returns where the head ends. If
// it does not end in p, begin returns -1, and the answer must begin anew.
func (d *digester) begin(p []byte) int {
	var failed error
	d.framing.reset('1')
	for at := bytes.IndexByte(p, '\n') + 1; ; { // behind the status line
		n := bytes.IndexByte(p[at:], '\n')
		if at == 0 || n < 0 {
			return -1
		}
		text := cutCR(p[at : at+n])
		at += n + 1
		if len(text) == 0 {
			if d.known = failed == nil; d.known {
				d.beginBody()
			} else {
				d.giveUp(proto.UnknownEncoding)
			}
			return at
		}
		if failed == nil {
			failed = d.field(text)
		}
	}
}

// field reads a header line.
func (d *digester) field(text []byte) error {
	var l line
	l.set(text)
	colon, err := d.framing.field(&l)
	if err != nil {
		return err
	}
	if colon < 0 {
		colon = bytes.IndexByte(text, ':')
	}
	name, value := text, []byte(nil)
	if colon >= 0 {
		name, value = text[:colon], trim(text[colon+1:])
	}
	var room [64]byte
	d.answer.Header(appendLower(room[:0], trim(name)), value)
	return nil
}

// beginBody begins the body that the head has announced.
func (d *digester) beginBody() {
	h := &d.framing
	d.state = digestBody
	d.answer.BeginBody(&d.body, uint64(max(h.length, 0)))
	d.lines.reset()
	if d.frame = (body{state: bodyToEnd}); h.chunked {
		d.frame.state = bodySize
	} else if h.length >= 0 {
		d.frame.begin(h)
	}
}

// End is of proto.Digester.
func (d *digester) End(a *proto.Answer) *proto.Digest {
	defer d.reset()
	if a.Interim {
		d.body.Close()
		return nil
	}
	if d.state == digestHead { // where the head ends its reader sees, this one not
		d.forget()
		d.answer.Leave(proto.UnknownEncoding)
	}
	if d.state != digestBody {
		return d.answer.End(a.Status, nil, nil)
	}
	c := d.body.End()
	return d.answer.End(a.Status, &c, nil)
}

func (d *digester) reset() {
	d.state, d.frame = digestHead, body{}
	if !d.known {
		d.forget()
	}
}

// Close is of proto.Digester.
func (d *digester) Close() {
	d.body.Close()
	d.reset()
}

// appendLower appends p with ASCII letters in lower case.
func appendLower(dst, p []byte) []byte {
	for _, c := range p {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return dst
}

// labeller labels the requests of one connection.
type labeller struct {
	with     *proto.Digesting
	hash     proto.Hash
	some     bool // a request has begun
	done     bool // the endpoint is known
	endpoint string
	line     []byte // the beginning of a request line that has not come whole
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
		part = part[:min(len(part), maxLabelLine-len(l.line))]
		if !more || len(l.line) > 0 {
			l.line = append(l.line, part...)
			part = l.line
		}
		if part = cutCR(part); more && len(part) > 0 {
			l.endpoint, l.done = endpoint(l.with, part), true
		}
		if more {
			l.line = l.line[:0]
		}
	}
}

// endpoint returns the method and the path of a request line; segments of it that look like
// identifiers are one.
func endpoint(with *proto.Digesting, line []byte) string {
	method, rest, _ := bytes.Cut(line, []byte{' '})
	target, _, _ := bytes.Cut(rest, []byte{' '})
	if len(target) > 0 && target[0] != '/' { // maybe an absolute form, of a proxy's client
		if i := bytes.Index(target, []byte("://")); i >= 0 {
			target = target[i+3:]
			target = target[max(0, bytes.IndexByte(target, '/')):]
		}
	}
	var room [256]byte
	label := append(append(room[:0], method...), ' ')
	return with.Path(semantics.AppendEndpoint(label, target))
}

// End is of proto.Labeller.
func (l *labeller) End() (string, uint64) {
	name, hash := l.endpoint, l.hash.Sum()
	if !l.done {
		name = endpoint(l.with, l.line)
	}
	l.endpoint, l.line, l.done, l.some = "", l.line[:0], false, false
	return name, hash
}
