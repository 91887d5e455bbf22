package semantics

import (
	"bytes"
	"encoding/binary"
	"slices"
	"strings"
	"time"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/content"
)

// imfDate is the layout of a Date (RFC 9110 §5.6.7).
const imfDate = "Mon, 02 Jan 2006 15:04:05 GMT"

// regard is what of a header is compared. Of headers that are not in the list it is asPresent.
type regard uint8

const (
	asPresent regard = iota // whether it is there
	asValue                 // its value
	asCookie                // the cookie's name
	notAtAll                // nothing: it is of a connection, a host, a moment, or the content
)

// regardOf returns the regard of a header, whose name is in lower case. A map would take six times
// as long.
func regardOf(name []byte) regard {
	switch string(name) {
	case "age", "alt-svc", "connection", "content-encoding", "content-length", "date",
		"etag", "expires", "keep-alive", "last-modified", "server", "trailer",
		"transfer-encoding", "via":
		return notAtAll
	case "access-control-allow-headers", "access-control-allow-methods",
		"access-control-allow-origin", "allow", "cache-control", "content-disposition",
		"content-language", "content-location", "content-range", "content-security-policy",
		"content-type", "location", "vary", "www-authenticate":
		return asValue
	case "set-cookie":
		return asCookie
	}
	return asPresent
}

// Digest collects what a digest has of one answer of HTTP: headers, and what they say of the body.
type Digest struct {
	Media   string // the media type
	codings string
	with    *proto.Digesting
	skip    proto.Skip
	// fields are the headers that are compared, each with a line feed behind it: its path and, if
	// it has a value, a zero byte and that.
	fields []byte
	heads  int // bytes of fields that are of headers, once the body has begun
	// shared is a copy of fields that does not change, if there is one.
	shared []byte
	now    int64 // seconds since 1970, of the answer's Date; 0: it has none
	// The last Date that was read, and what it is.
	dateText string
	dateIs   int64
	// The last Content-Type, what is compared of it, and the media type.
	typeText, typeMedia string
	typeIs              []byte
}

// Begin begins an answer.
func (d *Digest) Begin(with *proto.Digesting) {
	d.Media, d.codings, d.with, d.skip, d.now = "", "", with, proto.Compared, 0
	d.fields, d.shared = d.fields[:0], nil
}

// Again begins an answer with the headers of the one before, whose body had begun.
func (d *Digest) Again() {
	if len(d.fields) > d.heads { // trailers
		d.fields, d.shared = d.fields[:d.heads], nil
	}
	d.skip = proto.Compared
}

// Size returns how many bytes its headers take.
func (d *Digest) Size() int { return len(d.fields) }

// Leave has the present answer compared without its content.
func (d *Digest) Leave(why proto.Skip) { d.skip = why }

// Header reads a header, whose name is in lower case.
func (d *Digest) Header(name, value []byte) {
	switch string(name) {
	case "content-encoding":
		d.addCodings(value)
	case "content-type":
		value = d.mediaType(value)
	case "date":
		d.now = d.date(value)
	}
	as := regardOf(name)
	if named, listed := d.with.Wanted.Compares(name); listed && !named {
		as = notAtAll
	} else if named && as != asCookie {
		as = asValue
	}
	switch as {
	case notAtAll:
	case asCookie: // one field for each cookie, by name
		cookie, _, _ := bytes.Cut(value, []byte{'='})
		if cookie = bytes.Trim(cookie, " \t"); content.Identifying(cookie) {
			cookie = []byte(content.Anonymous)
		}
		d.add(cookies, cookie, nil, false)
	default:
		d.add(proto.HeaderPath, name, value, as == asValue)
	}
}

// Trailer adds a field that follows the content; compared has its value compared.
func (d *Digest) Trailer(name, value []byte, compared bool) {
	d.add(proto.TrailerPath, name, value, compared)
}

// add adds a field.
func (d *Digest) add(path string, name, value []byte, compared bool) {
	d.shared = nil
	d.fields = appendClean(append(d.fields, path...), name)
	if compared {
		d.fields = appendClean(append(d.fields, 0), value)
	}
	d.fields = append(d.fields, '\n')
}

// appendClean appends p without what separates fields.
func appendClean(dst, p []byte) []byte {
	from := len(dst)
	dst = append(dst, p...)
	if bytes.IndexByte(p, 0) < 0 && bytes.IndexByte(p, '\n') < 0 {
		return dst
	}
	for i, c := range dst[from:] {
		if c == 0 || c == '\n' {
			dst[from+i] = ' '
		}
	}
	return dst
}

// BeginBody begins the body that the headers have announced. want is as in content.Body.
func (d *Digest) BeginBody(y *content.Body, want uint64) {
	d.heads = len(d.fields)
	y.Begin(d.with, d.Media, d.codings, want)
	if strings.HasPrefix(d.Media, "multipart/") { // its boundary is chosen at random
		y.Leave(proto.UnknownEncoding)
	}
}

// date returns a Date in seconds since 1970; 0 if it is none. Answers of one second have the same.
func (d *Digest) date(value []byte) int64 {
	if string(value) != d.dateText {
		d.dateText, d.dateIs = string(value[:min(len(value), len(imfDate)+1)]), 0
		if t, err := time.Parse(imfDate, d.dateText); err == nil {
			d.dateIs = t.Unix()
		}
	}
	return d.dateIs
}

// addCodings adds a line of codings behind those of others.
func (d *Digest) addCodings(value []byte) {
	all := d.codings
	for c := range strings.SplitSeq(strings.ToLower(string(value)), ",") {
		switch c = strings.TrimSpace(c); {
		case c == "" || c == "identity":
		case all == "":
			all = c
		default:
			all += "," + c
		}
	}
	d.codings = d.with.Path([]byte(all))
}

// cookies begins the paths of cookies.
const cookies = proto.HeaderPath + "set-cookie "

// End ends the answer, and returns its digest. Of one whose content is not compared, c is nil.
// messages, if not nil, are compared in place of the content.
func (d *Digest) End(status uint16, c *content.Content, messages *proto.Field) *proto.Digest {
	p := proto.Again[*packed](d.with)
	if p == nil {
		p = new(packed)
	} else {
		*p = packed{}
	}
	if d.shared == nil {
		d.shared = content.New(d.with).Share(d.fields)
	}
	p.now, p.fields, p.skip = d.now, d.shared, d.skip
	p.Status = status
	if messages != nil {
		p.messages = new(*messages)
	}
	if c != nil {
		p.content = *c
	}
	if p.skip == proto.Compared {
		p.Sum = p.sum(d.with)
	}
	p.Size = packedSize + len(p.fields) + cap(p.content.Text)
	if p.Packed = p; p.content.IsLarge() {
		p.Digest.Unpack(d.with)
	}
	return &p.Digest
}

// sum returns the hash of everything that is compared.
func (p *packed) sum(with *proto.Digesting) uint64 {
	c, m := &p.content, p.messages
	if m == nil {
		m = new(proto.Field)
	}
	var room [128]byte
	rest := append(append(room[:0], 0), c.Codings...)
	for _, n := range [...]uint64{c.Hash, c.Length, m.Order, m.Length, uint64(m.Count)} {
		rest = binary.LittleEndian.AppendUint64(rest, n)
	}
	var h proto.Hash
	h.Begin(with)
	h.Write(p.fields)
	h.Write(rest)
	return h.Sum()
}

// packed is an answer of which the fields are not needed yet.
type packed struct {
	proto.Digest
	now      int64
	fields   []byte // as in Digest; they belong to others, too
	content  content.Content
	messages *proto.Field // in place of content; nil: there are none
	skip     proto.Skip
}

// packedSize is roughly what a packed answer takes, without its bytes.
const packedSize = 240

// Unpack is of proto.Packed.
func (p *packed) Unpack(with *proto.Digesting, d *proto.Digest) {
	b := content.New(with)
	b.Reset(p.now)
	skip := p.skip
	if !addHeaders(b, p.fields) {
		skip = proto.Oversize
	}
	switch {
	case skip != proto.Compared:
	case p.messages != nil:
		b.AddMessages([]byte("messages"), p.messages)
	default:
		skip = b.AddContent(&p.content)
	}
	b.Finish(d, skip)
	with.Free(p.content.Text)
	p.fields, p.content = nil, content.Content{}
}

// Drop is of proto.Packed. The digest is a part of p. It was last used a while ago, so that most of
// it is not in the cache: what is small stays until p is used again.
func (p *packed) Drop(with *proto.Digesting) {
	with.Free(p.content.Text)
	p.content.Text = nil
	with.Retire(p)
}

// addHeaders adds the fields of headers and trailers. It returns false if there are too many.
func addHeaders(b *content.Builder, fields []byte) bool {
	for len(fields) > 0 {
		var one []byte
		one, fields, _ = bytes.Cut(fields, []byte{'\n'})
		path, value, _ := bytes.Cut(one, []byte{0})
		as := proto.Text
		if bytes.HasPrefix(path, []byte(cookies)) {
			as, value = proto.Opaque, nil
		}
		if !b.Add(path, value, as) {
			return false
		}
	}
	return true
}

// maxType bounds a Content-Type that is remembered.
const maxType = 256

// mediaType sets the media type, and returns what of a Content-Type is compared, which nobody may
// change. Answers on one connection often have the same.
func (d *Digest) mediaType(value []byte) []byte {
	text, is, media := d.typeText, d.typeIs, d.typeMedia
	if string(value) != text {
		text = string(value)
		is = mediaType(bytes.Clone(value))
		first, _, _ := bytes.Cut(is, []byte{';'})
		media = d.with.Path(first)
		if len(text) <= maxType {
			d.typeText, d.typeIs, d.typeMedia = text, is, media
		}
	}
	d.Media = media
	return is
}

// mediaType returns a media type in one of the ways in which it can be written (RFC 9110 §8.3.1).
// It changes value.
func mediaType(value []byte) []byte {
	for i, c := range value {
		if 'A' <= c && c <= 'Z' {
			value[i] = c + ('a' - 'A')
		}
	}
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
	media = bytes.Trim(media, " \t")
	if len(params) == 0 {
		return media
	}
	return append(append(slices.Clip(media), ';'), strings.Join(params, ";")...)
}

// AppendEndpoint appends the path of a request without its query, in which segments that look like
// identifiers are one.
func AppendEndpoint(dst, path []byte) []byte {
	path, _, _ = bytes.Cut(path, []byte{'?'})
	if len(path) == 0 || path[0] != '/' {
		dst = append(dst, path[:min(len(path), 1)]...)
	}
	_, rest, more := bytes.Cut(path, []byte{'/'})
	for more {
		var part []byte
		part, rest, more = bytes.Cut(rest, []byte{'/'})
		if dst = append(dst, '/'); content.Identifying(part) {
			dst = append(dst, content.Anonymous...)
		} else {
			dst = append(dst, part...)
		}
	}
	return dst
}
