package content

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"errors"
	"hash/maphash"
	"io"
	"slices"
	"strings"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"tcpcopy/internal/proto"
)

const (
	// maxIdle bounds the memory that is kept for the next body.
	maxIdle = 4096
	// maxKept bounds the bytes of a body that has to be kept whole.
	maxKept = 1 << 20
	// maxInflated bounds what a compressed body inflates to.
	maxInflated = 4 << 20
)

// Body digests one body of a Builder's, which makes it: Begin.
type Body struct {
	b       *Builder
	media   string   // application/json, in lower case; empty: unknown
	codings []string // that were applied, in order
	kept    []byte   // of a body that is parsed or inflated
	keep    bool
	over    proto.Skip
	hash    maphash.Hash // of a body that is not
	length  uint64
}

// Begin begins a body of a media type, to which codings were applied.
func (b *Builder) Begin(media string, codings []string) *Body {
	y := &b.body
	y.b, y.media, y.codings, y.over, y.length = b, media, codings, proto.Compared, 0
	for _, c := range codings {
		if !decodes(c) {
			y.over = proto.UnknownEncoding
		}
	}
	y.keep = len(codings) > 0 || structured(media)
	y.hash.SetSeed(b.with.Seed)
	y.hash.Reset()
	return y
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
	y.length += uint64(len(p))
	switch room := &y.b.with.Room; {
	case y.over != 0:
	case !y.keep:
		y.hash.Write(p)
	case len(y.kept)+len(p) > maxKept || *room < len(p):
		y.over = proto.Oversize
		y.free()
	default:
		*room -= len(p)
		y.kept = append(y.kept, p...)
	}
}

// free returns the room of what is kept.
func (y *Body) free() {
	y.b.with.Room += len(y.kept)
	if y.kept = y.kept[:0]; cap(y.kept) > maxIdle {
		y.kept = nil
	}
}

// Close frees what is kept of a body whose end will not come.
func (y *Body) Close() { y.free() }

// End adds the body's fields at the path "body". It reports why it has none.
func (y *Body) End() proto.Skip {
	defer y.free()
	text := y.kept
	for i := len(y.codings) - 1; i >= 0 && y.over == 0 && y.length > 0; i-- {
		var err error
		switch text, err = y.b.inflate(y.codings[i], text); {
		case errors.Is(err, errTooLarge):
			y.over = proto.Oversize
		case err != nil:
			y.over = proto.UnknownEncoding
		}
	}
	switch {
	case y.over != 0:
		return y.over
	case !y.keep:
		y.b.add([]byte("body"), y.hash.Sum64(), y.length, proto.Opaque, proto.Plain)
		return proto.Compared
	}
	y.b.known(y.media, text)
	return proto.Compared
}

// known adds the fields of a text, from memory if the same text came before.
func (b *Builder) known(media string, text []byte) {
	s := b.shared()
	hash := b.with.Hash(text)
	key := memory{hash, media, b.now / (epochSlack / 2)}
	if fields, ok := s.fields[key]; ok {
		b.fields = append(b.fields, fields...) // nothing is added after them
		return
	}
	n := b.mark()
	switch {
	case media == formMedia && b.form(text), media != formMedia && structured(media) &&
		b.JSON("body", text):
	default:
		b.add([]byte("body"), hash, uint64(len(text)), proto.Opaque, proto.Plain)
	}
	s.remember(key, b.fields[n:])
}

// memory is what the fields of a text depend on: the text, its media type, and roughly the time, by
// which numbers are recognised as times.
type memory struct {
	hash  uint64
	media string
	when  int64
}

// maxRemembered bounds the fields that are remembered.
const maxRemembered = 1 << 14

// remember keeps fields, and forgets all others if there are too many.
func (s *scratch) remember(key memory, fields []proto.Field) {
	if s.kept += 1 + len(fields); s.kept > maxRemembered || s.fields == nil {
		s.fields, s.kept = make(map[memory][]proto.Field), 1+len(fields)
	}
	s.fields[key] = slices.Clone(fields)
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

// scratch is Digesting.Scratch: decoders, which are used in turn, and the fields of texts that came
// before.
type scratch struct {
	fields map[memory][]proto.Field
	kept   int // fields, and as many as there are texts

	gzip *gzip.Reader
	br   *brotli.Reader
	zstd *zstd.Decoder
	in   bytes.Reader
}

// shared returns what all Builders share.
func (b *Builder) shared() *scratch {
	s, ok := b.with.Scratch.(*scratch)
	if !ok {
		s = new(scratch)
		b.with.Scratch = s
	}
	return s
}

// inflate undoes one coding (RFC 9110 §8.4.1). The result is valid until the next call.
func (b *Builder) inflate(coding string, p []byte) ([]byte, error) {
	f := b.shared()
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
func (f *scratch) reader(coding string, p []byte) (r io.Reader, err error) {
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
