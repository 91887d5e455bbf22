package http1

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/proto"
)

var digestSeed = rand.Uint64()

// digests reads a server's bytes, in pieces of n, and returns the digests of the final answers.
func digests(t *testing.T, text string, n int, heads ...uint64) (all []*proto.Digest) {
	t.Helper()
	return digestsWith(t, proto.NewDigesting(digestSeed, 1<<24), text, n, heads...)
}

func digestsWith(t *testing.T, w *proto.Digesting, text string, n int, heads ...uint64) (
	all []*proto.Digest) {
	t.Helper()
	f := proto.Follow(NewAnswers())
	f.Digest(newDigester(w))
	for _, h := range heads {
		f.Expect(h, hintHead)
	}
	var out []proto.Told
	var scratch []proto.Answer
	for len(text) > 0 {
		k := min(n, len(text))
		out = f.Feed(0, []byte(text[:k]), out, &scratch)
		text = text[k:]
	}
	out = f.Close(0, out, &scratch)
	for _, o := range out {
		if o.Digest != nil {
			o.Digest.Unpack(w)
			all = append(all, o.Digest)
		}
	}
	if w.Room != 1<<24 {
		t.Errorf("%d bytes of room are lost", 1<<24-w.Room)
	}
	return all
}

func fieldPaths(d *proto.Digest) (all []string) {
	for _, f := range d.Fields {
		all = append(all, f.Path)
	}
	return all
}

func zipped(text string, level int) string {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, level)
	_, _ = w.Write([]byte(text))
	_ = w.Close()
	return b.String()
}

// sized is an answer with a body of known length.
func sized(headers, body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", headers, len(body),
		body)
}

const chunkedJSON = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n" +
	"Transfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4;x=y\r\n\":1}\r\n0\r\nTrailer: 1\r\n\r\n"

func TestDigests(t *testing.T) {
	const object = "Content-Type: application/json\r\n"
	for _, c := range []struct {
		name string
		text string
		head bool
		want []string
	}{
		{"sized", sized(object, `{"a":1}`), false,
			[]string{"body", "body.a", "header content-type"}},
		{"chunked", chunkedJSON, false, []string{"body", "body.a", "header content-type"}},
		{"to the end", "HTTP/1.0 200 OK\r\n" + object + "\r\n{\"a\":1}", false,
			[]string{"body", "body.a", "header content-type"}},
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true, []string{"body"}},
		{"204", "HTTP/1.1 204 None\r\nX-Trace: 1\r\n\r\n", false,
			[]string{"body", "header x-trace"}},
		{"cookies", sized("Set-Cookie: sid=1; Path=/\r\nset-cookie: lang=en\r\n", ""), false,
			[]string{"body", "header set-cookie lang", "header set-cookie sid"}},
		{"after an interim answer", "HTTP/1.1 103 Early\r\nLink: a\r\n\r\n" + sized(object, "1"),
			false, []string{"body", "header content-type"}},
		{"what is not compared", sized("Date: x\r\nServer: y\r\nETag: z\r\n", "a"), false,
			[]string{"body"}},
		{"parts with a boundary", sized("Content-Type: multipart/byteranges; boundary=7\r\n", "a"),
			false, []string{"header content-type"}},
	} {
		for n := 1; n <= len(c.text); n += 1 + n/4 {
			var heads []uint64
			if c.head {
				heads = []uint64{0}
			}
			got := digests(t, c.text, n, heads...)
			if len(got) != 1 {
				t.Fatalf("%s in pieces of %d: %d digests", c.name, n, len(got))
			}
			if d := cmp.Diff(c.want, fieldPaths(got[0])); d != "" {
				t.Errorf("%s in pieces of %d: (-want +got)\n%s", c.name, n, d)
			}
		}
	}
}

// Two ways to say the same are the same; what is not is not.
func TestDigestsThatAreTheSame(t *testing.T) {
	const object = "Content-Type: application/json\r\n"
	text := `{"a":"` + strings.Repeat("x", 3000) + `"}`
	for _, c := range []struct {
		name string
		a, b string
		same bool
	}{
		{"chunked or not", chunkedJSON, sized(object, `{"a":1}`), true},
		{"gzip of another level", sized(object+"Content-Encoding: gzip\r\n", zipped(text, 1)),
			sized(object+"Content-Encoding: gzip\r\n", zipped(text, 9)), true},
		{"gzip or not", sized(object+"Content-Encoding: gzip\r\n", zipped(text, 1)),
			sized(object, text), true},
		{"a media type in another way",
			sized("Content-Type: Text/HTML; Charset=\"utf-8\"\r\n", "a"),
			sized("content-type: text/html;charset=UTF-8\r\n", "a"), true},
		{"another charset", sized("Content-Type: text/html; charset=utf-8\r\n", "a"),
			sized("Content-Type: text/html; charset=latin1\r\n", "a"), false},
		{"another page", sized("", "abc"), sized("", "abd"), false},
		{"a header more", sized("", "abc"), sized("X-A: 1\r\n", "abc"), false},
		{"a header with another value", sized("X-A: 1\r\n", ""), sized("X-A: 2\r\n", ""), true},
		{"another place", sized("Location: /a\r\n", ""), sized("Location: /b\r\n", ""), false},
	} {
		a, b := digests(t, c.a, 100)[0], digests(t, c.b, 77)[0]
		if a.Same(b) && !c.same {
			t.Errorf("%s: the same sum", c.name)
		}
		if same := cmp.Equal(a.Fields, b.Fields); same != c.same {
			t.Errorf("%s: same is %v: %s", c.name, same, cmp.Diff(a, b))
		}
	}
}

// Answers follow each other on a connection; each has its own digest, however they are split.
func TestDigestsOfSeveralAnswers(t *testing.T) {
	var text strings.Builder
	for i := range 20 {
		text.WriteString(sized("Content-Type: application/json\r\n", fmt.Sprintf(`{"n":%d}`, i/2)))
	}
	whole := digests(t, text.String(), 1<<20)
	if len(whole) != 20 {
		t.Fatalf("%d digests", len(whole))
	}
	for i := 0; i < 20; i += 2 {
		if !whole[i].Same(whole[i+1]) || i > 0 && whole[i].Same(whole[i-1]) ||
			!cmp.Equal(whole[i], whole[i+1]) || i > 0 && cmp.Equal(whole[i], whole[i-1]) {
			t.Errorf("answer %d: same or not is wrong", i)
		}
	}
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		if d := cmp.Diff(whole, digests(t, text.String(), 1+r.IntN(50))); d != "" {
			t.Fatal(d)
		}
	}
}

func TestLabels(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"GET /user/1001/posts?token=secret HTTP/1.1\r\nHost: a\r\n\r\n", "GET /user/{id}/posts"},
		{"\r\nGET / HTTP/1.1\r\n\r\n", "GET /"},
		{"POST /a/f81d4fae-7dec-11d0-a765-00a0c91e6bf6/ HTTP/1.1\r\n\r\n{}", "POST /a/{id}/"},
		{"GET http://host/a/b HTTP/1.1\r\n\r\n", "GET /a/b"},
		{"GET /a?next=http://host/b HTTP/1.1\r\n\r\n", "GET /a"},
		{"OPTIONS * HTTP/1.1\r\n\r\n", "OPTIONS *"},
		{"GET /x\x1b[31m/%41 HTTP/1.1\r\n\r\n", "GET /x_[31m/{id}"},
	} {
		l := &labeller{with: proto.NewDigesting(digestSeed, 1<<20)}
		var hashes [3]uint64
		for n, size := range [...]int{1, len(c.text), 5} {
			for piece := range slices.Chunk([]byte(c.text), size) {
				l.Write(piece)
			}
			var got string
			if got, hashes[n] = l.End(); got != c.want {
				t.Errorf("%q is %q, want %q", c.text, got, c.want)
			}
		}
		l.Write([]byte(c.text + "x"))
		_, other := l.End()
		if hashes[0] != hashes[1] || hashes[1] != hashes[2] || other == hashes[0] {
			t.Errorf("%q: hashes %v, %v of another", c.text, hashes, other)
		}
	}
}

// Answers of which only what is not compared differs have the same sum.
func TestSumLeavesOut(t *testing.T) {
	a := "HTTP/1.1 200 OK\r\nDate: Mon, 30 Nov 2026 04:00:00 GMT\r\nServer: a\r\nX-Id: 1\r\n" +
		"Set-Cookie: s=1\r\nContent-Length: 3\r\n\r\nabc"
	b := "HTTP/1.1 200 Fine\r\ndate: Mon, 30 Nov 2026 04:00:09 GMT\r\nETag: b\r\nx-id: 2\r\n" +
		"Set-Cookie: s=2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
	if !digests(t, a, 10)[0].Same(digests(t, b, 100)[0]) {
		t.Error("answers that are the same have other sums")
	}
	for _, c := range [][2]string{{"abc", "abd"}, {"X-Id", "X-Ie"}, {"s=1", "r=1"}} {
		if digests(t, a, 10)[0].Same(digests(t, strings.Replace(a, c[0], c[1], 1), 10)[0]) {
			t.Errorf("%s instead of %s has the same sum", c[1], c[0])
		}
	}
	c := strings.Replace(a, "200", "201", 1)
	if digests(t, a, 10)[0].Same(digests(t, c, 10)[0]) {
		t.Error("another status is the same")
	}
}

// What is remembered of a head is used for the same head alone: each answer has the digest that it
// has on a connection of its own.
func TestDigestsOfOneConnection(t *testing.T) {
	const plain, object = "Vary: a\r\nX-Id: 1\r\n", "Content-Type: application/json\r\n"
	const early = "HTTP/1.1 103 Early\r\nLink: a\r\n\r\n"
	all := []string{
		sized(plain, "one"), sized(plain, "two"), sized(plain, ""), sized(plain, "one"),
		sized(object, `{"a":1}`), sized(object, `{"a":2}`), sized(object+object, `{"a":2}`),
		early + sized(plain, "one"), early + sized(plain, "two"), sized(plain, "two"),
		chunkedJSON, chunkedJSON, sized("Content-Type: multipart/mixed; boundary=1\r\n", "a"),
		sized("Content-Type: multipart/mixed; boundary=1\r\n", "a"), sized(plain, "one"),
		sized("Set-Cookie: a=1\r\n", "a"), sized("Set-Cookie: a=1\r\n", "b"),
	}
	text := strings.Join(all, "")
	for n := 1; n <= len(text); n += 1 + n/8 {
		got := digests(t, text, n)
		if len(got) != len(all) {
			t.Fatalf("in pieces of %d: %d digests", n, len(got))
		}
		for i, one := range all {
			if d := cmp.Diff(digests(t, one, len(one))[0], got[i]); d != "" {
				t.Errorf("in pieces of %d, answer %d: (-alone +got)\n%s", n, i, d)
			}
		}
	}
}

func FuzzDigest(f *testing.F) {
	f.Add([]byte(chunkedJSON), 3)
	f.Add([]byte(sized("Vary: a\r\n", "1")+sized("Vary: a\r\n", "2")), 40)
	f.Add([]byte(sized("Content-Type: application/json\r\n", "{}")), 100)
	f.Add([]byte("HTTP/1.1 200 OK\n\nrest"), 1)
	f.Fuzz(func(t *testing.T, p []byte, n int) {
		n = max(1, n%1000)
		a, b := digests(t, string(p), n), digests(t, string(p), 1<<20)
		if d := cmp.Diff(b, a); d != "" {
			t.Errorf("in pieces of %d: (-whole +got)\n%s", n, d)
		}
	})
}

func BenchmarkDigest(b *testing.B) {
	var list []string
	for i := range 28 {
		list = append(list, fmt.Sprintf(`{"id":%d,"name":"user number %d","score":%d.5}`, i, i, i))
	}
	for name, text := range map[string]string{
		"JSON": sized("Date: Mon, 30 Nov 2026 01:00:00 GMT\r\nContent-Type: application/json\r\n",
			`{"users":[`+strings.Join(list, ",")+`]}`),
		"text": sized("Server: nginx\r\nDate: Mon, 30 Nov 2026 01:00:00 GMT\r\nContent-Type: "+
			"text/html; charset=utf-8\r\nConnection: keep-alive\r\nVary: Accept-Encoding\r\n"+
			"Cache-Control: no-cache\r\n", strings.Repeat("<p>hello</p>\n", 158)),
	} {
		for _, unpack := range []bool{false, true} { // as of answers that are the same, or not
			b.Run(fmt.Sprintf("%s/unpack=%v", name, unpack), func(b *testing.B) {
				b.ReportAllocs()
				f := proto.Follow(NewAnswers())
				with := proto.NewDigesting(digestSeed, 1<<24)
				with.Buffers = new(spare)
				f.Digest(newDigester(with))
				var out []proto.Told
				var scratch []proto.Answer
				p := []byte(text)
				for b.Loop() {
					out = f.Feed(0, p, out[:0], &scratch)
					if len(out) != 1 || out[0].Digest == nil {
						b.Fatal("no digest")
					}
					if unpack {
						out[0].Digest.Unpack(with)
					}
					out[0].Digest.Drop(with)
				}
			})
		}
	}
}

// spare is proto.Buffers of one digest.
type spare struct{ p proto.Packed }

func (s *spare) Get(n int) []byte         { return make([]byte, 0, n) }
func (s *spare) Put([]byte)               {}
func (s *spare) PutPacked(p proto.Packed) { s.p = p }
func (s *spare) GetPacked() (p proto.Packed) {
	p, s.p = s.p, nil
	return p
}

// What an intercept reports of answers in turn takes no memory of its own, and is what each answer
// has.
func TestMoveTo(t *testing.T) {
	all := []string{sized("Vary: a\r\nX-Id: 1\r\n", "one"), sized("Vary: a\r\n", "two"),
		sized("Content-Type: application/json\r\n", `{"a":[1,2],"b":null}`), chunkedJSON}
	var want []*proto.Digest
	for _, text := range all {
		want = append(want, digests(t, text, len(text))...)
	}
	with := proto.NewDigesting(digestSeed, 1<<24)
	with.Buffers = new(spare)
	f := proto.Follow(NewAnswers())
	f.Digest(newDigester(with))
	var to proto.Digest
	var out []proto.Told
	var scratch []proto.Answer
	turn := func() {
		for i, text := range all {
			out = f.Feed(0, []byte(text), out[:0], &scratch)
			if got := out[0].Digest.MoveTo(&to, with); !reflect.DeepEqual(got, want[i]) {
				t.Fatalf("(-want +got)\n%s", cmp.Diff(want[i], got))
			}
		}
	}
	turn()
	if d := want[0]; d.MoveTo(&to, with) != d {
		t.Error("a digest that was unpacked is not itself")
	}
	p := []byte(all[0])
	n := testing.AllocsPerRun(100, func() {
		out = f.Feed(0, p, out[:0], &scratch)
		out[0].Digest.MoveTo(&to, with)
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// A digest is one allocation, if answers with the same headers came before, and none where one was
// dropped before.
func TestDigestAllocates(t *testing.T) {
	p := []byte(sized("Date: Mon, 30 Nov 2026 01:00:00 GMT\r\n"+
		"Content-Type: Text/HTML; Charset=\"utf-8\"\r\n", "<p>"))
	for _, c := range []struct {
		drop bool
		want float64
	}{{false, 1}, {true, 0}} {
		f := proto.Follow(NewAnswers())
		with := proto.NewDigesting(digestSeed, 1<<24)
		with.Buffers = new(spare)
		f.Digest(newDigester(with))
		var out []proto.Told
		var scratch []proto.Answer
		var sum uint64
		n := testing.AllocsPerRun(1000, func() {
			out = f.Feed(0, p, out[:0], &scratch)
			if len(out) != 1 || out[0].Digest == nil {
				t.Fatal("no digest")
			}
			d := out[0].Digest
			if d.Status != 200 || sum != 0 && d.Sum != sum {
				t.Fatalf("%+v, before it was %x", d, sum)
			}
			if sum = d.Sum; c.drop {
				d.Drop(with)
			}
		})
		if n != c.want {
			t.Errorf("dropped is %v: %v allocations", c.drop, n)
		}
	}
}

// Where headers are named, these are compared, by their values, and no others.
func TestNamedHeaders(t *testing.T) {
	w := proto.NewDigesting(digestSeed, 1<<24)
	w.Wanted.Headers = []string{"server", "x-version", "set-cookie"}
	d := digestsWith(t, w, "HTTP/1.1 200 OK\r\nServer: a\r\nX-Version: 1.2\r\nX-Other: 1\r\n"+
		"Content-Type: application/json\r\nSet-Cookie: id=1\r\nContent-Length: 7\r\n\r\n"+
		`{"a":1}`, 1000)
	var got []string
	for _, f := range d[0].Fields {
		got = append(got, fmt.Sprint(f.Path, " ", f.Length))
	}
	want := []string{"body 0", "body.a 1", "header server 1", "header set-cookie id 0",
		"header x-version 3"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}
