package http1

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/content"
)

var comparison = &proto.Comparison{
	NewDigester: func(d *proto.Digesting) proto.Digester { return newDigester(d) },
	NewLabeller: func(d *proto.Digesting) proto.Labeller { return &labeller{with: d} },
}

// imfDate is the layout of a Date (RFC 9110 §5.6.7).
const imfDate = "Mon, 02 Jan 2006 15:04:05 GMT"

// maxDigestHead bounds the head of an answer that is digested.
const maxDigestHead = 64 << 10

// headersIgnored lists the headers that say something of a connection, a host or a moment, or that
// are compared by what they describe.
var headersIgnored = map[string]bool{
	"age": true, "alt-svc": true, "connection": true, "content-encoding": true,
	"content-length": true, "date": true, "etag": true, "expires": true, "keep-alive": true,
	"last-modified": true, "server": true, "trailer": true, "transfer-encoding": true, "via": true,
}

// headersCompared lists the headers of which the value is compared. Of others it is compared
// whether they are there.
var headersCompared = map[string]bool{
	"access-control-allow-headers": true, "access-control-allow-methods": true,
	"access-control-allow-origin": true, "allow": true, "cache-control": true,
	"content-disposition": true, "content-language": true, "content-location": true,
	"content-range": true, "content-security-policy": true, "content-type": true,
	"location": true, "vary": true, "www-authenticate": true,
}

// digester digests the answers of one connection. That the bytes of an answer are in order, and
// where it ends, it takes from its caller.
type digester struct {
	with  *proto.Digesting
	head  []byte // up to the empty line, with it
	state digestState
	skip  proto.Skip
	// fields are the headers that are compared, each with a line feed behind it: the end of its
	// path and, if it has a value, a zero byte and that.
	fields []byte
	now    int64 // seconds since 1970, of the answer's Date; 0: it has none
	// The last Date that was read, and what it is.
	dateText string
	dateIs   int64

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

func newDigester(with *proto.Digesting) *digester { return &digester{with: with} }

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
	had := len(d.head)
	d.head = append(d.head, p[:min(len(p), maxDigestHead+4-had)]...)
	end := headEnd(d.head, had)
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
	d.skip, d.state = why, digestOver
	d.body.Close()
}

// begin reads the head, and begins the body.
func (d *digester) begin() {
	var h head
	h.reset('1')
	var codings, media string
	d.state = digestBody
	_, rest, _ := bytes.Cut(d.head, []byte{'\n'}) // without the status line
	for len(rest) > 0 {
		var ln []byte
		ln, rest, _ = bytes.Cut(rest, []byte{'\n'})
		ln = cutCR(ln)
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
		switch string(name) {
		case "content-encoding":
			codings = d.codings(codings, value)
		case "content-type":
			value = mediaType(value)
			text, _, _ := bytes.Cut(value, []byte{';'})
			media = d.with.Path(text)
		case "date":
			d.now = d.date(value)
		}
		d.header(name, value)
	}
	d.body.Begin(d.with, media, codings, uint64(max(h.length, 0)))
	d.lines.reset()
	if d.frame = (body{state: bodyToEnd}); h.chunked {
		d.frame.state = bodySize
	} else if h.length >= 0 {
		d.frame.begin(&h)
	}
	if strings.HasPrefix(media, "multipart/") { // its boundary is chosen at random
		d.body.Leave(proto.UnknownEncoding)
	}
}

// date returns a Date in seconds since 1970; 0 if it is none. Answers of one second have the same.
func (d *digester) date(value []byte) int64 {
	if string(value) != d.dateText {
		d.dateText, d.dateIs = string(value[:min(len(value), len(imfDate)+1)]), 0
		if t, err := time.Parse(imfDate, d.dateText); err == nil {
			d.dateIs = t.Unix()
		}
	}
	return d.dateIs
}

// codings returns a list of codings with those of another line behind it.
func (d *digester) codings(all string, value []byte) string {
	for c := range strings.SplitSeq(strings.ToLower(string(value)), ",") {
		switch c = strings.TrimSpace(c); {
		case c == "" || c == "identity":
		case all == "":
			all = c
		default:
			all += "," + c
		}
	}
	return d.with.Path([]byte(all))
}

const cookies = "set-cookie "

// header adds a header to those that are compared.
func (d *digester) header(name, value []byte) {
	switch {
	case headersIgnored[string(name)]:
		return
	case string(name) == "set-cookie": // one field for each cookie, by name
		cookie, _, _ := bytes.Cut(value, []byte{'='})
		if cookie = trim(cookie); content.Identifying(cookie) {
			cookie = []byte(content.Anonymous)
		}
		d.fields = append(append(d.fields, cookies...), cookie...)
	case headersCompared[string(name)]:
		d.fields = append(append(d.fields, name...), 0)
		d.fields = append(d.fields, value...)
	default:
		d.fields = append(d.fields, name...)
	}
	d.fields = append(d.fields, '\n')
}

// End is of proto.Digester.
func (d *digester) End(a *proto.Answer) *proto.Digest {
	defer d.reset()
	if a.Interim {
		d.body.Close()
		return nil
	}
	p := &packed{now: d.now, fields: bytes.Clone(d.fields), skip: d.skip}
	switch p.Status = a.Status; d.state {
	case digestHead:
		p.skip = proto.UnknownEncoding // where the head ends its reader sees, and this one does not
	case digestBody:
		p.content = d.body.End()
		p.Sum = d.sum(&p.content)
	}
	p.Size = packedSize + len(p.fields) + cap(p.content.Text)
	if p.Packed = p; p.content.IsLarge() {
		p.Digest.Unpack(d.with)
	}
	return &p.Digest
}

// sum returns the hash of everything that is compared.
func (d *digester) sum(c *content.Content) uint64 {
	var more [16]byte
	binary.LittleEndian.PutUint64(more[:], c.Hash)
	binary.LittleEndian.PutUint64(more[8:], c.Length)
	d.fields = append(append(append(d.fields, 0), c.Codings...), more[:]...)
	return d.with.Hash(d.fields)
}

func (d *digester) reset() {
	d.state, d.skip, d.head, d.frame = digestHead, proto.Compared, d.head[:0], body{}
	d.fields, d.now = d.fields[:0], 0
}

// Close is of proto.Digester.
func (d *digester) Close() {
	d.body.Close()
	d.reset()
}

// packed is an answer of which the fields are not needed yet.
type packed struct {
	proto.Digest
	now     int64
	fields  []byte // as in digester
	skip    proto.Skip
	content content.Content
}

// packedSize is roughly what a packed answer takes, without its bytes.
const packedSize = 256

// Unpack is of proto.Packed.
func (p *packed) Unpack(with *proto.Digesting, d *proto.Digest) {
	b := content.New(with)
	b.Reset(p.now)
	skip := p.skip
	if !addHeaders(b, p.fields) {
		skip = proto.Oversize
	}
	if skip == proto.Compared {
		skip = b.AddContent(&p.content)
	}
	b.Finish(d, skip)
	p.Drop(with)
}

// Drop is of proto.Packed.
func (p *packed) Drop(with *proto.Digesting) {
	with.Free(p.content.Text)
	p.fields, p.content = nil, content.Content{}
}

// addHeaders adds the fields of headers. It returns false if there are too many.
func addHeaders(b *content.Builder, fields []byte) bool {
	path := append(make([]byte, 0, 64), proto.HeaderPath...)
	own := len(path)
	for len(fields) > 0 {
		var one []byte
		one, fields, _ = bytes.Cut(fields, []byte{'\n'})
		name, value, _ := bytes.Cut(one, []byte{0})
		as := proto.Text
		if bytes.HasPrefix(name, []byte(cookies)) {
			as, value = proto.Opaque, nil
		}
		if path = append(path[:own], name...); !b.Add(path, value, as) {
			return false
		}
	}
	return true
}

// lower puts ASCII letters into lower case.
func lower(p []byte) {
	for i, c := range p {
		if 'A' <= c && c <= 'Z' {
			p[i] = c + ('a' - 'A')
		}
	}
}

// mediaType returns a media type in one of the ways in which it can be written (RFC 9110 §8.3.1).
// It changes value.
func mediaType(value []byte) []byte {
	lower(value)
	media, rest, more := bytes.Cut(value, []byte{';'})
	if !more {
		return value
	}
	var params []string
	for p := range strings.SplitSeq(string(rest), ";") {
		p = strings.ReplaceAll(strings.ReplaceAll(p, `"`, ""), " ", "")
		if p != "" && !strings.HasPrefix(p, "boundary=") {
			params = append(params, p)
		}
	}
	slices.Sort(params)
	media = trim(media)
	if len(params) == 0 {
		return media
	}
	return append(append(slices.Clip(media), ';'), strings.Join(params, ";")...)
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
	target, _, _ = bytes.Cut(target, []byte{'?'})
	label := append(append(l.label[:0], method...), ' ')
	if len(target) == 0 || target[0] != '/' {
		label = append(label, target[:min(len(target), 1)]...)
	}
	_, rest, more := bytes.Cut(target, []byte{'/'})
	for more {
		var part []byte
		part, rest, more = bytes.Cut(rest, []byte{'/'})
		if label = append(label, '/'); content.Identifying(part) {
			label = append(label, content.Anonymous...)
		} else {
			label = append(label, part...)
		}
	}
	l.label = label
	hash := l.hash.Sum()
	l.line, l.done, l.some = l.line[:0], false, false
	return l.with.Path(label), hash
}
