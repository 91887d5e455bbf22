package content

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"io"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"tcpcopy/internal/proto"
)

const (
	// maxPacked bounds the bytes of a body of which fields are made when they are needed. Of a
	// larger one they are made at once: its bytes need not be kept.
	maxPacked = 32 << 10
	// maxKept bounds the bytes of a body that has to be kept whole.
	maxKept = 1 << 20
	// maxInflated bounds what a compressed body inflates to.
	maxInflated = 4 << 20
)

// Body reads one body. The zero value must Begin.
type Body struct {
	with *proto.Digesting
	Content
	keep bool // it is parsed or inflated
	want int  // how many bytes may be expected
	hash proto.Hash
}

// Content is what is known of a body.
type Content struct {
	Media   string // application/json, in lower case; empty: unknown
	Codings string // that were applied, in order, with commas; empty: none
	Length  uint64
	Hash    uint64
	Text    []byte     // of a body that is parsed or inflated: as it came
	Skip    proto.Skip // why the body has no fields, as far as it is known yet
}

// Begin begins a body of a media type, to which codings were applied. want is how many bytes may
// be expected, 0 if that is not known.
func (y *Body) Begin(with *proto.Digesting, media, codings string, want uint64) {
	*y = Body{with: with, Content: Content{Media: media, Codings: codings},
		want: int(min(want, maxPacked))}
	if codings != "" {
		for c := range strings.SplitSeq(codings, ",") {
			if !decodes(c) {
				y.Skip = proto.UnknownEncoding
			}
		}
	}
	y.keep = codings != "" || structured(media)
	y.hash.Begin(with)
}

// structured reports whether bodies of a media type have fields.
func structured(media string) bool {
	return media == "application/json" || strings.HasSuffix(media, "+json") ||
		media == formMedia
}

const formMedia = "application/x-www-form-urlencoded"

func decodes(coding string) bool {
	switch coding {
	case "gzip", "x-gzip", "deflate", "br", "zstd":
		return true
	}
	return false
}

// Write takes the next bytes of the body.
func (y *Body) Write(p []byte) {
	y.Length += uint64(len(p))
	y.hash.Write(p)
	more := len(p)
	if y.Text == nil {
		more = max(more, y.want)
	}
	switch room := &y.with.Room; {
	case !y.keep || y.Skip != 0:
	case len(y.Text)+len(p) > maxKept || *room < more:
		y.Leave(proto.Oversize)
	default:
		*room += cap(y.Text)
		if y.Text == nil {
			y.Text = y.with.Buffer(more)
		}
		y.Text = append(y.Text, p...)
		*room -= cap(y.Text)
	}
}

// Leave notes why the body will have no fields. Its bytes still count for the hash.
func (y *Body) Leave(why proto.Skip) {
	y.Skip = why
	y.Close()
}

// Close frees what is kept of a body whose end will not come.
func (y *Body) Close() {
	if y.with != nil {
		y.with.Room += cap(y.Text)
		y.with.Free(y.Text)
		y.Text = nil
	}
}

// End returns the content of the body, which has ended. Its text is the caller's, who may free it.
func (y *Body) End() Content {
	y.Content.Hash = y.hash.Sum()
	c := y.Content
	y.with.Room += cap(y.Text)
	y.Text = nil
	return c
}

// IsLarge reports whether the fields should be made at once.
func (c *Content) IsLarge() bool { return len(c.Text) > maxPacked }

// AddContent adds the fields of a body at the path "body". It reports why it has none.
func (b *Builder) AddContent(c *Content) proto.Skip {
	if c.Skip != proto.Compared {
		return c.Skip
	}
	body := b.node([]byte("body"))
	isMapped := structured(c.Media)
	if !isMapped && c.Codings == "" {
		b.add(body, c.Hash, c.Length, proto.Opaque, proto.Plain)
		return proto.Compared
	}
	text := c.Text
	for more, coding := c.Codings, ""; more != "" && c.Length > 0; { // the last one first
		more, coding = cutLast(more)
		var err error
		switch text, err = b.decode.inflate(coding, text); {
		case errors.Is(err, errTooLarge):
			return proto.Oversize
		case err != nil:
			return proto.UnknownEncoding
		}
	}
	switch {
	case c.Media == formMedia && b.form(text), c.Media != formMedia && isMapped &&
		b.JSON("body", text):
	default:
		b.add(body, b.with.Hash(text), uint64(len(text)), proto.Opaque, proto.Plain)
	}
	return proto.Compared
}

// cutLast returns the last of several codings, and those before it.
func cutLast(codings string) (before, last string) {
	i := strings.LastIndexByte(codings, ',')
	return codings[:max(i, 0)], codings[i+1:]
}

// form adds the fields of a form.
func (b *Builder) form(text []byte) bool {
	n := b.mark()
	for part := range bytes.SplitSeq(text, []byte{'&'}) {
		name, value, _ := bytes.Cut(part, []byte{'='})
		key, ok := unescape(name)
		v, ok2 := unescape(value)
		b.path = AppendKey(append(b.path[:0], "body"...), key)
		if !ok || !ok2 || !b.Add(b.path, v, proto.Text) {
			b.cut(n)
			return false
		}
	}
	return true
}

// unescape undoes the encoding of a form's name or value.
func unescape(p []byte) ([]byte, bool) {
	if bytes.IndexByte(p, '%') < 0 && bytes.IndexByte(p, '+') < 0 {
		return p, true
	}
	out := make([]byte, 0, len(p))
	for i := 0; i < len(p); i++ {
		c := p[i]
		switch {
		case c == '+':
			c = ' '
		case c != '%':
		case i+2 >= len(p) || !isHex(p[i+1]) || !isHex(p[i+2]):
			return nil, false
		default:
			c = digit(p[i+1])<<4 | digit(p[i+2])
			i += 2
		}
		out = append(out, c)
	}
	return out, true
}

// digit returns the value of a hexadecimal digit.
func digit(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return (c | 0x20) - 'a' + 10
}

var errTooLarge = errors.New("content: too large")

// decoders are used again from body to body.
type decoders struct {
	gzip *gzip.Reader
	br   *brotli.Reader
	zstd *zstd.Decoder
	in   bytes.Reader
}

// inflate undoes one coding (RFC 9110 §8.4.1).
func (f *decoders) inflate(coding string, p []byte) ([]byte, error) {
	f.in.Reset(p)
	r, err := f.reader(coding, p)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if len(p) != 0 {
		out.Grow(min(maxInflated, 4*len(p)))
	}
	switch n, err := io.Copy(&out, io.LimitReader(r, maxInflated+1)); {
	case err != nil:
		return nil, err
	case n > maxInflated:
		return nil, errTooLarge
	}
	return out.Bytes(), nil
}

// reader returns a reader of what p, which is in f.in, stands for.
func (f *decoders) reader(coding string, p []byte) (r io.Reader, err error) {
	switch coding {
	case "gzip", "x-gzip":
		if f.gzip == nil {
			f.gzip, err = gzip.NewReader(&f.in)
		} else {
			err = f.gzip.Reset(&f.in)
		}
		return f.gzip, err
	case "deflate":
		// Some servers send no zlib header (RFC 9110 §8.4.1.2).
		if len(p) > 1 && p[0]&0xf == 8 && (uint(p[0])<<8|uint(p[1]))%31 == 0 {
			return zlib.NewReader(&f.in)
		}
		return flate.NewReader(&f.in), nil
	case "br":
		if f.br == nil {
			f.br = brotli.NewReader(&f.in)
			return f.br, nil
		}
		return f.br, f.br.Reset(&f.in)
	default:
		if f.zstd == nil {
			f.zstd, err = zstd.NewReader(&f.in, zstd.WithDecoderConcurrency(1),
				zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20))
		} else {
			err = f.zstd.Reset(&f.in)
		}
		return f.zstd, err
	}
}
