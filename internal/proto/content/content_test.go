package content

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"tcpcopy/internal/proto"
)

var seed = rand.Uint64()

func with() *proto.Digesting { return proto.NewDigesting(seed, 1<<24) }

func digestJSON(t *testing.T, text string) *proto.Digest {
	t.Helper()
	b := New(with())
	b.Reset(1_764_072_000)
	if !b.JSON("body", []byte(text)) {
		t.Fatalf("not JSON: %.100q", text)
	}
	return finish(b, proto.Compared)
}

func finish(b *Builder, skip proto.Skip) *proto.Digest {
	d := new(proto.Digest)
	b.Finish(d, skip)
	return d
}

// paths lists fields in a few letters.
func paths(d *proto.Digest) (all []string) {
	for _, f := range d.Fields {
		all = append(all, fmt.Sprintf("%s %d %d %d", f.Path, f.Types, f.Count, f.Length))
	}
	return all
}

func TestJSONFields(t *testing.T) {
	for _, c := range []struct {
		text string
		want []string
	}{
		{`7`, []string{"body 4 1 1"}},
		{`{}`, []string{"body 32 1 0"}},
		{` { "a" : "x\u00e9" , "b" : [ ] } `,
			[]string{"body 32 1 0", "body.a 8 1 3", "body.b 16 1 0"}},
		{`[1,"a",[2]]`, []string{"body 16 1 3", "body[] 28 3 3", "body[][] 4 1 1"}},
		{`{"a":1,"a":2}`, []string{"body 32 1 0", "body.a 4 2 2"}},
		{`{"users":{"1001":{"n":1},"1002":{"n":2}}}`, []string{"body 32 1 0", "body.users 32 1 0",
			"body.users.{id} 32 2 0", "body.users.{id}.n 4 2 2"}},
		{`{"a.b":1,"c[]":2,"\u0007":3}`, []string{"body 32 1 0", "body._ 4 1 1", "body.a_b 4 1 1",
			"body.c__ 4 1 1"}},
		{`{"m@x.org":1}`, []string{"body 32 1 0", "body.{id} 4 1 1"}},
	} {
		if d := cmp.Diff(c.want, paths(digestJSON(t, c.text))); d != "" {
			t.Errorf("%s: (-want +got)\n%s", c.text, d)
		}
	}
}

func TestJSONThatIsTheSame(t *testing.T) {
	for _, c := range [][2]string{
		{`{"a":1,"b":2}`, ` {"b":2.0 , "a":10e-1}`},
		{`"\u0041\/"`, `"A/"`}, {`"\ud83d\ude00"`, `"😀"`}, {`-0`, `0.00e7`}, {`1200`, `1.2e3`},
	} {
		if d := cmp.Diff(digestJSON(t, c[0]).Fields, digestJSON(t, c[1]).Fields,
			cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".Length" },
				cmp.Ignore())); d != "" {
			t.Errorf("%s and %s: %s", c[0], c[1], d)
		}
	}
	for _, c := range [][2]string{
		{`1234567890123456789`, `1234567890123456788`}, {`1e400`, `1e401`}, {`"1"`, `1`},
		{`[1,2]`, `[2,1]`}, {`0.1`, `0.01`}, {`10`, `1`}, {`-1`, `1`}, {`null`, `false`},
	} {
		if cmp.Equal(digestJSON(t, c[0]).Fields, digestJSON(t, c[1]).Fields) {
			t.Errorf("%s and %s are the same", c[0], c[1])
		}
	}
	a, b := digestJSON(t, `[1,2]`).Fields[1], digestJSON(t, `[2,1]`).Fields[1]
	if a.Sum != b.Sum || a.Order == b.Order {
		t.Error("another order is not one")
	}
}

// The canonical form of two numbers is the same if, and only if, they are equal.
func TestNumbersAreExact(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	digits := func(n int) string {
		s := ""
		for range n {
			s += string(rune('0' + r.IntN(3)))
		}
		return s
	}
	one := func() string {
		s := strings.TrimLeft(digits(1+r.IntN(3)), "0")
		if s == "" {
			s = "0"
		}
		if r.IntN(2) == 0 {
			s += "." + digits(1+r.IntN(3))
		}
		if r.IntN(2) == 0 {
			s += fmt.Sprintf("e%d", r.IntN(5)-2)
		}
		if r.IntN(2) == 0 {
			s = "-" + s
		}
		return s
	}
	for range 20000 {
		x, y := one(), one()
		a, ok := new(big.Rat).SetString(x)
		b, ok2 := new(big.Rat).SetString(y)
		if !ok || !ok2 {
			t.Fatal(x, y)
		}
		same := bytes.Equal(canonical(nil, []byte(x)), canonical(nil, []byte(y)))
		if same != (a.Cmp(b) == 0) {
			t.Fatalf("%s and %s: same is %v", x, y, same)
		}
	}
}

func TestRecognised(t *testing.T) {
	for text, want := range map[string]proto.Recognised{
		`"f81d4fae-7dec-11d0-a765-00a0c91e6bf6"`: proto.UUID,
		`"f81d4fae-7dec-11d0-a765-00a0c91e6bfg"`: proto.Plain,
		`"2026-03-01T12:00:00.5+02:00"`:          proto.Timestamp,
		`"2026-03-41T12:00:00Z"`:                 proto.Plain,
		`1764072001`:                             proto.Epoch,
		`1764072001123`:                          proto.Epoch,
		`1764072001.5`:                           proto.Epoch,
		`1264072001`:                             proto.Plain,
		`"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"`: proto.JWT,
		`"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0"`:              proto.Plain,
	} {
		if got := digestJSON(t, text).Fields[0].Kind; got != want {
			t.Errorf("%s is %q, want %q", text, got, want)
		}
	}
}

// compressed returns text in each coding.
func compressed(t *testing.T, text []byte) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for name, open := range map[string]func(io.Writer) io.WriteCloser{
		"gzip": func(w io.Writer) io.WriteCloser { return gzip.NewWriter(w) },
		"gzip, level 1": func(w io.Writer) io.WriteCloser {
			z, _ := gzip.NewWriterLevel(w, 1)
			return z
		},
		"deflate": func(w io.Writer) io.WriteCloser { return zlib.NewWriter(w) },
		"deflate, bare": func(w io.Writer) io.WriteCloser {
			z, _ := flate.NewWriter(w, 6)
			return z
		},
		"br": func(w io.Writer) io.WriteCloser { return brotli.NewWriter(w) },
		"zstd": func(w io.Writer) io.WriteCloser {
			z, _ := zstd.NewWriter(w)
			return z
		},
	} {
		var b bytes.Buffer
		w := open(&b)
		if _, err := w.Write(text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		all[name] = b.Bytes()
	}
	return all
}

func body(b *Builder, media, coding string, p []byte) (*proto.Digest, proto.Skip) {
	b.Reset(0)
	var y Body
	y.Begin(b.with, media, coding, 0)
	for len(p) > 0 {
		n := min(len(p), 1000)
		y.Write(p[:n])
		p = p[n:]
	}
	c := y.End()
	skip := b.AddContent(&c)
	return finish(b, skip), skip
}

// Content is the same whatever its coding. All decoders are used again.
func TestCodings(t *testing.T) {
	w := with()
	b := New(w)
	for _, media := range []string{"application/json", "text/html", ""} {
		text := []byte(`{"a":[` + strings.Repeat("1,", 5000) + `2]}`)
		want, _ := body(b, media, "", text)
		for range 2 {
			for name, p := range compressed(t, text) {
				coding, _, _ := strings.Cut(name, ",")
				got, skip := body(b, media, coding, p)
				if d := cmp.Diff(want.Fields, got.Fields); d != "" || skip != proto.Compared {
					t.Errorf("%s in %s: %v %s", media, name, skip, d)
				}
				if _, skip := body(b, media, coding, p[:len(p)/2]); skip != proto.UnknownEncoding {
					t.Errorf("half of %s: %v", name, skip)
				}
			}
		}
	}
	if _, skip := body(b, "text/html", "x-own", []byte("a")); skip != proto.UnknownEncoding {
		t.Errorf("an unknown coding: %v", skip)
	}
	if w.Room != 1<<24 {
		t.Errorf("%d bytes of room are lost", 1<<24-w.Room)
	}
}

// What a Builder remembers of the answers before changes no answer's fields.
func TestBuildersForget(t *testing.T) {
	w := with()
	b := New(w)
	for i := range 3000 {
		text := fmt.Appendf(nil, `{"a":[%d],"b":{"c":"%s"},"%s":1,"a":{"%s":2}}`, i,
			letters(i/2%700), letters(i%7), letters(i%11))
		if i%5 == 0 {
			text = append(text, '?')
		}
		media := []string{"application/json", "text/plain", formMedia}[i%3]
		got, _ := body(b, media, "", text)
		want, _ := body(New(with()), media, "", text)
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("body %d: (-want +got)\n%s", i, d)
		}
		if !slices.IsSortedFunc(got.Fields, func(x, y proto.Field) int {
			return strings.Compare(x.Path, y.Path)
		}) {
			t.Fatalf("body %d: not sorted: %v", i, paths(got))
		}
	}
}

// A small body that inflates to much is left out, and takes little memory.
func TestBombs(t *testing.T) {
	for name, p := range compressed(t, make([]byte, 64<<20)) {
		if strings.Contains(name, ",") {
			continue
		}
		b := New(with())
		before := allocated()
		if len(p) > maxKept {
			t.Fatalf("%s: the bomb has %d bytes", name, len(p))
		}
		_, skip := body(b, "application/json", name, p)
		if skip != proto.Oversize {
			t.Errorf("%s: %v", name, skip)
		}
		if grown := allocated() - before; grown > 32<<20 {
			t.Errorf("%s: %d MB were allocated", name, grown>>20)
		}
	}
}

func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// Large bodies are compared as a whole while they pass by, or left out if they must be parsed.
func TestLargeBodies(t *testing.T) {
	b := New(with())
	piece := make([]byte, 64<<10)
	before := allocated()
	for _, c := range []struct {
		media string
		want  proto.Skip
	}{{"application/octet-stream", proto.Compared}, {"application/json", proto.Oversize}} {
		b.Reset(0)
		var y Body
		y.Begin(b.with, c.media, "", 100<<20)
		for range 1600 { // 100 MB
			y.Write(piece)
		}
		all := y.End()
		got := b.AddContent(&all)
		if got != c.want || all.Length != 1600*64<<10 || all.Hash == 0 {
			t.Errorf("%s: %v, %+v", c.media, got, all)
		}
		d := finish(b, got)
		if c.want == proto.Compared && (len(d.Fields) != 1 || d.Fields[0].Length != 1600*64<<10) {
			t.Errorf("%s: %+v", c.media, d)
		}
	}
	if grown := allocated() - before; grown > 8<<20 {
		t.Errorf("%d MB were allocated", grown>>20)
	}
}

// A length that is announced takes room when the first byte comes, not more than there is.
func TestAnnouncedLengthsTakeRoom(t *testing.T) {
	w := proto.NewDigesting(seed, 1<<20)
	var all [100]Body
	kept := 0
	for i := range all {
		all[i].Begin(w, "application/json", "", 1<<40)
		all[i].Write([]byte("{"))
		if kept += cap(all[i].Text); i == 0 && w.Room != 1<<20-kept {
			t.Errorf("%d bytes are kept, and %d of room taken", kept, 1<<20-w.Room)
		}
	}
	if kept > 1<<20 || all[99].Skip != proto.Oversize {
		t.Errorf("%d bytes are kept of %d", kept, 1<<20)
	}
	for i := range all {
		all[i].Close()
	}
	if w.Room != 1<<20 {
		t.Errorf("%d bytes of room are lost", 1<<20-w.Room)
	}
}

// A million paths in one answer, and in many: what is kept is bounded.
func TestManyPaths(t *testing.T) {
	var text bytes.Buffer
	for i := range 1_000_000 {
		fmt.Fprintf(&text, `,"k%s":1`, letters(i))
	}
	b := New(with())
	if b.JSON("body", append([]byte{'{'}, append(text.Bytes()[1:], '}')...)) {
		t.Error("an object of a million keys is taken field by field")
	}
	if len(b.fields) > 0 {
		t.Errorf("%d fields are left", len(b.fields))
	}
	w := with()
	b = New(w)
	for i := range 10_000 {
		b.Reset(0)
		b.JSON("body", fmt.Appendf(nil, `{"k%s":{"l%s":1,"m":%s}}`, letters(i), letters(i*i),
			strings.Repeat("[", 100)+strings.Repeat("]", 100)))
		finish(b, proto.Compared)
	}
	if len(w.Paths) > 1<<13 || len(b.paths) > maxNodes+maxFields {
		t.Errorf("%d paths and %d nodes are kept", len(w.Paths), len(b.paths))
	}
}

// letters writes a number in letters that are no hexadecimal digits.
func letters(i int) string {
	s := ""
	for ; i > 0; i /= 16 {
		s += string(rune('g' + i%16))
	}
	return s
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{"a":[1,-2.5e3,"x\u00e9",null,true]}`, `[[[]]]`, `"\ud800"`, `{"":0}`,
		"{\"a\"", "[1,]", "01", "\"\x01\"",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		b := New(with())
		b.Reset(0)
		if taken := b.JSON("body", p); taken != json.Valid(p) && depth(p) <= maxDepth {
			t.Errorf("%q: taken is %v", p, taken)
		} else if !taken && len(b.fields) > 0 {
			t.Errorf("%q leaves %d fields", p, len(b.fields))
		}
	})
}

// depth bounds how deep a text may be nested.
func depth(p []byte) (n int) { return bytes.Count(p, []byte{'['}) + bytes.Count(p, []byte{'{'}) }

func FuzzBody(f *testing.F) {
	f.Add("application/json", "gzip", []byte{31, 139, 8})
	f.Add("application/x-www-form-urlencoded", "", []byte("a=b%20c&d"))
	f.Fuzz(func(t *testing.T, media, coding string, p []byte) {
		w := with()
		b := New(w)
		body(b, media, coding, p)
		if w.Room != 1<<24 {
			t.Errorf("%d bytes of room are lost", 1<<24-w.Room)
		}
	})
}

// Digests have the values that are wanted, and nothing that names a secret or looks like one.
func TestWantedValues(t *testing.T) {
	w := with()
	w.Wanted.Values = []string{"body.a", "body.list[].n", "body.secret", "body.jwt*", "body.o",
		"body.list", "body.t*"}
	b := New(w)
	for range 2 { // the second time with the nodes of the first
		b.Reset(0)
		if !b.JSON("body", []byte(`{"a":1.50,"secret":"x","jwt":"y","o":{"p":1},"b":"hidden",`+
			`"list":[{"n":"one"},{"n":null},{"n":true}],`+
			`"t1":"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0"}`,
		)) {
			t.Fatal("not JSON")
		}
		got := map[string][]string{}
		for _, f := range finish(b, proto.Compared).Fields {
			if len(f.Values) > 0 {
				got[f.Path] = f.Values
			}
		}
		want := map[string][]string{"body.a": {"1.50"}, "body.list[].n": {"one", "null", "true"}}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("(-want +got)\n%s", d)
		}
	}
}
