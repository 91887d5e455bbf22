package http1

import (
	"bytes"
	"hash/maphash"
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
	b     *content.Builder
	head  []byte // up to the empty line, with it
	state digestState
	skip  proto.Skip
	body  *content.Body // nil before the head is whole
	frame body
	lines liner
	path  []byte // scratch
}

type digestState uint8

const (
	digestHead digestState = iota
	digestBody
	digestOver // nothing more of this answer is needed
)

func newDigester(with *proto.Digesting) *digester {
	return &digester{with: with, b: content.New(with)}
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
	if d.body != nil {
		d.body.Close()
		d.body = nil
	}
}

// begin reads the head, adds its fields, and begins the body.
func (d *digester) begin() {
	var h head
	h.reset('1')
	var codings []string
	var media string
	d.state = digestBody
	d.b.Reset(0)
	_, rest, _ := bytes.Cut(d.head, []byte{'\n'}) // without the status line
	for len(rest) > 0 {
		var ln []byte
		ln, rest, _ = bytes.Cut(rest, []byte{'\n'})
		var l line
		if l.set(cutCR(ln)); l.len == 0 {
			continue
		}
		if h.field(&l) != nil {
			d.giveUp(proto.UnknownEncoding)
			return
		}
		name, value, _ := bytes.Cut(cutCR(ln), []byte{':'})
		name, value = trim(name), trim(value)
		for i, c := range name {
			if 'A' <= c && c <= 'Z' {
				name[i] = c + ('a' - 'A')
			}
		}
		switch string(name) {
		case "content-encoding":
			for c := range strings.SplitSeq(strings.ToLower(string(value)), ",") {
				if c = strings.TrimSpace(c); c != "" && c != "identity" {
					codings = append(codings, c)
				}
			}
		case "content-type":
			value = mediaType(value)
			text, _, _ := bytes.Cut(value, []byte{';'})
			media = d.with.Path(text)
		case "date":
			if t, err := time.Parse(imfDate, string(value)); err == nil {
				d.b.At(t.Unix())
			}
		}
		if !d.header(name, value) {
			d.giveUp(proto.Oversize)
			return
		}
	}
	d.body = d.b.Begin(media, codings)
	d.lines.reset()
	if d.frame = (body{state: bodyToEnd}); h.chunked {
		d.frame.state = bodySize
	} else if h.length >= 0 {
		d.frame.begin(&h)
	}
	if strings.HasPrefix(media, "multipart/") { // its boundary is chosen at random
		d.giveUp(proto.UnknownEncoding)
	}
}

// header adds the field of a header.
func (d *digester) header(name, value []byte) bool {
	path := append(append(d.path[:0], "header "...), name...)
	d.path = path
	switch {
	case headersIgnored[string(name)]:
		return true
	case string(name) == "set-cookie": // one field for each cookie, by name
		cookie, _, _ := bytes.Cut(value, []byte{'='})
		if cookie = trim(cookie); content.Identifying(cookie) {
			cookie = []byte(content.Anonymous)
		}
		path = append(append(path, ' '), cookie...)
		return d.b.Add(path, nil, proto.Opaque)
	case !headersCompared[string(name)]:
		value = nil
	}
	return d.b.Add(path, value, proto.Text)
}

// mediaType returns a media type in one of the ways in which it can be written (RFC 9110 §8.3.1).
func mediaType(value []byte) []byte {
	if bytes.IndexByte(value, ';') < 0 {
		return bytes.ToLower(value)
	}
	media, rest, _ := bytes.Cut(bytes.ToLower(value), []byte{';'})
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
	return append(append(media, ';'), strings.Join(params, ";")...)
}

// End is of proto.Digester.
func (d *digester) End(a *proto.Answer) *proto.Digest {
	if d.body != nil {
		if skip := d.body.End(); skip != proto.Compared {
			d.skip = skip
		}
		d.body = nil
	}
	var digest *proto.Digest
	if !a.Interim {
		digest = d.b.Digest(a.Status, d.skip)
	}
	d.reset()
	return digest
}

func (d *digester) reset() {
	d.state, d.skip, d.head, d.frame = digestHead, proto.Compared, d.head[:0], body{}
	d.b.Reset(0)
}

// Close is of proto.Digester.
func (d *digester) Close() {
	if d.body != nil {
		d.body.Close()
		d.body = nil
	}
	d.reset()
}

// labeller labels the requests of one connection.
type labeller struct {
	with *proto.Digesting
	line []byte // of the request, as far as it was read
	done bool   // the line is whole
	hash maphash.Hash
	some bool // a request has begun
}

// maxLabelLine bounds the request line that is kept.
const maxLabelLine = 4096

// Write is of proto.Labeller.
func (l *labeller) Write(p []byte) {
	if !l.some {
		l.some = true
		l.hash.SetSeed(l.with.Seed)
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
	label := append(append([]byte(nil), method...), ' ')
	if len(target) == 0 || target[0] != '/' {
		label = append(label, target[:min(len(target), 1)]...)
	}
	for i, part := range bytes.Split(target, []byte{'/'}) {
		switch {
		case i == 0:
			continue
		case content.Identifying(part):
			part = []byte(content.Anonymous)
		}
		label = append(append(label, '/'), part...)
	}
	hash := l.hash.Sum64()
	l.line, l.done, l.some = l.line[:0], false, false
	l.hash.Reset()
	return l.with.Path(label), hash
}
