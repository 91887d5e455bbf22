package http2

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"

	"tcpcopy/internal/proto"
)

var digestSeed = rand.Uint64()

// digestRoom is what the digesters of these tests may keep.
const digestRoom = 1 << 24

// digests reads a server's frames in pieces of n bytes, and returns the digest of each stream.
func digests(t *testing.T, frames []byte, n int) map[uint64]*proto.Digest {
	t.Helper()
	w := proto.NewDigesting(digestSeed, digestRoom)
	f := proto.Follow(NewAnswers())
	f.Digest(newDigester(w))
	all := map[uint64]*proto.Digest{}
	var scratch []proto.Answer
	for len(frames) > 0 {
		k := min(n, len(frames))
		for _, told := range f.Feed(0, frames[:k], nil, &scratch) {
			if d := told.Digest; d != nil {
				if !told.Mark || all[told.Stream] != nil {
					t.Errorf("told %+v", told.Answer)
				}
				d.Unpack(w)
				all[told.Stream] = d
			}
		}
		frames = frames[k:]
	}
	f.Close(0, nil, &scratch)
	if w.Room != digestRoom {
		t.Errorf("%d bytes of room are lost", digestRoom-w.Room)
	}
	return all
}

// prefixed returns messages of gRPC.
func prefixed(messages ...string) (all []byte) {
	for _, m := range messages {
		all = binary.BigEndian.AppendUint32(append(all, 0), uint32(len(m)))
		all = append(all, m...)
	}
	return all
}

var callHead = []string{":status 200", "content-type application/grpc"}

// replies are answers on the stream 1. Those with the same number are equal.
var replies = []struct {
	name  string
	equal int
	write func(p *peer)
}{
	{"a page", 1, func(p *peer) {
		p.head(1, false, ":status 200", "server a", "x-a 1", "content-type text/plain")
		must(p.WriteData(1, true, []byte("hello")))
	}},
	{"in other frames", 1, func(p *peer) {
		p.head(1, false, ":status 103", "link x")
		must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, PadLength: 7,
			BlockFragment: p.fields(":status 200", "content-type Text/plain")}))
		must(p.WritePing(false, [8]byte{}))
		p.out.Truncate(p.out.Len() - headerLen - 8)
		must(p.WriteContinuation(1, true, p.fields("server b", "x-a 2")))
		must(p.WritePing(false, [8]byte{}))
		must(p.WriteDataPadded(1, false, []byte("hel"), make([]byte, 9)))
		p.answer(3)
		must(p.WriteData(1, false, nil))
		must(p.WriteData(1, false, []byte("lo")))
		must(p.WriteData(1, true, nil))
	}},
	{"another body", 2, func(p *peer) {
		p.head(1, false, ":status 200", "x-a 1", "content-type text/plain")
		must(p.WriteData(1, true, []byte("hellO")))
	}},
	{"with a trailer", 3, func(p *peer) {
		p.head(1, false, ":status 200", "x-a 1", "content-type text/plain")
		must(p.WriteData(1, false, []byte("hello")))
		p.head(1, true, "checksum 1")
	}},
	{"without a body", 4, func(p *peer) {
		p.head(1, true, ":status 200", "x-a 1", "content-type text/plain")
	}},
	{"another status", 5, func(p *peer) { p.head(1, true, ":status 404", "x-a 1") }},
	{"a call", 6, func(p *peer) {
		p.head(1, false, callHead...)
		must(p.WriteData(1, false, prefixed("one", "", "three")))
		p.head(1, true, "grpc-status 0", "grpc-message ")
	}},
	{"the call in other frames", 6, func(p *peer) {
		p.head(1, false, callHead...)
		for _, b := range prefixed("one", "", "three") {
			must(p.WriteDataPadded(1, false, []byte{b}, make([]byte, b%5)))
		}
		p.head(1, true, "grpc-message ", "grpc-status 0")
	}},
	{"messages in another order", 7, func(p *peer) {
		p.head(1, false, callHead...)
		must(p.WriteData(1, false, prefixed("three", "", "one")))
		p.head(1, true, "grpc-status 0", "grpc-message ")
	}},
	{"one message less", 8, func(p *peer) {
		p.head(1, false, callHead...)
		must(p.WriteData(1, false, prefixed("one", "three")))
		p.head(1, true, "grpc-status 0", "grpc-message ")
	}},
	{"a call that failed", 9, func(p *peer) {
		p.head(1, true, ":status 200", "content-type application/grpc", "grpc-status 5",
			"grpc-message none")
	}},
	{"with another text", 10, func(p *peer) {
		p.head(1, true, ":status 200", "content-type application/grpc", "grpc-status 5",
			"grpc-message no")
	}},
	{"no messages", 11, func(p *peer) {
		p.head(1, false, callHead...)
		must(p.WriteData(1, true, []byte("\x07junk")))
	}},
}

// TestDigests compares all answers with each other, however they are split.
func TestDigests(t *testing.T) {
	all := make([]*proto.Digest, len(replies))
	for i, r := range replies {
		p := newPeer()
		must(p.WriteSettings())
		r.write(p)
		frames := p.take()
		for n := len(frames); n > 0; n-- {
			d := digests(t, frames, n)[1]
			if d == nil {
				t.Fatalf("%s: no digest", r.name)
			}
			if all[i] == nil {
				all[i] = d
			}
			if diff := cmp.Diff(all[i], d); diff != "" {
				t.Fatalf("%s, in pieces of %d: %s", r.name, n, diff)
			}
		}
	}
	for i, x := range replies {
		for j, y := range replies {
			same := all[i].Status == all[j].Status && cmp.Equal(all[i].Fields, all[j].Fields)
			if same != (x.equal == y.equal) {
				t.Errorf("%s is the same as %s: %v", x.name, y.name, same)
			}
			if all[i].Same(all[j]) && !same {
				t.Errorf("%s and %s have the same sum", x.name, y.name)
			}
		}
	}
}

func TestDigestFields(t *testing.T) {
	for i, want := range map[int]string{
		3:  "200: body, header content-type, header x-a, trailer checksum",
		6:  "60000: header content-type, messages, messages[], trailer grpc-message",
		10: "60005: header content-type, messages, trailer grpc-message",
	} {
		p := newPeer()
		must(p.WriteSettings())
		replies[i].write(p)
		d := digests(t, p.take(), 1<<20)[1]
		var paths []string
		for _, f := range d.Fields {
			paths = append(paths, f.Path)
		}
		if got := fmt.Sprintf("%d: %s", d.Status, strings.Join(paths, ", ")); got != want {
			t.Errorf("%s: got %s, wanted %s", replies[i].name, got, want)
		}
	}
}

// TestDigestsOfManyStreams checks that streams are told apart, that what a server keeps open is
// bounded, and that a stream that is reset has no digest.
func TestDigestsOfManyStreams(t *testing.T) {
	p := newPeer()
	must(p.WriteSettings())
	const streams = 2*maxDigested + 10
	for i := range uint32(streams) {
		p.head(2*i+1, false, ":status 200")
		must(p.WriteData(2*i+1, false, []byte{1}))
	}
	for i := range uint32(streams) {
		if i%7 == 0 {
			must(p.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
		} else {
			must(p.WriteData(2*i+1, true, binary.BigEndian.AppendUint32(nil, i)))
		}
	}
	all := digests(t, p.take(), 1000)
	if len(all) < maxDigested/3 || len(all) > maxDigested {
		t.Errorf("%d digests", len(all))
	}
	seen := map[uint64]bool{}
	for stream, d := range all {
		if stream/2%7 == 0 || seen[d.Sum] {
			t.Errorf("the stream %d has the sum %x", stream, d.Sum)
		}
		seen[d.Sum] = true
	}
}

// TestDigestsAreBounded checks that a server's headers take a bounded amount of memory.
func TestDigestsAreBounded(t *testing.T) {
	p := newPeer()
	must(p.WriteSettings())
	var fields []string
	for i := range 100 {
		fields = append(fields, fmt.Sprintf("vary %d%s", i, strings.Repeat("v", 1500)))
	}
	must(p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.fields(
		":status 200")}))
	for _, f := range fields {
		must(p.WriteContinuation(1, false, p.fields(f)))
	}
	must(p.WriteContinuation(1, true, nil))
	must(p.WriteData(1, true, []byte("hello")))
	d := digests(t, p.take(), 1000)
	if d[1] == nil || d[1].Skipped != proto.Oversize || d[1].Sum != 0 {
		t.Errorf("the digest of large headers: %+v", d[1])
	}
}

// labels reads a client's bytes, in pieces of n, as production's reader does. It returns what the
// requests are for, and the hash of each that is whole.
func labels(t *testing.T, text []byte, n int) (all []string, hashes map[uint64]uint64) {
	t.Helper()
	w := proto.NewDigesting(digestSeed, digestRoom)
	c, l := new(watcher), newLabeller(w)
	hashes = map[uint64]uint64{}
	var out proto.Out
	must(c.Begin(false, &out))
	for len(text) > 0 {
		p := text[:min(n, len(text))]
		text = text[len(p):]
		out.Reset()
		must(c.Feed(p, 0, &out))
		for i := range out.Steps {
			switch st := &out.Steps[i]; st.Kind {
			case proto.PassOn:
				l.Write(p[:st.N])
				p = p[st.N:]
			case proto.Requested:
				endpoint, _ := l.End()
				all = append(all, fmt.Sprintf("%d %s", st.Request.Stream, endpoint))
			case proto.Abandoned:
				all = append(all, fmt.Sprintf("%d cancelled", st.Request.Number))
			}
		}
		for {
			stream, hash, ok := l.Ended()
			if !ok {
				break
			}
			hashes[stream] = hash
		}
		if len(p) > 0 {
			t.Fatalf("%d bytes were not passed", len(p))
		}
	}
	return all, hashes
}

func TestLabels(t *testing.T) {
	p := newPeer()
	p.out.WriteString(preface)
	must(p.WriteSettings())
	p.get(1, "/orders/4711?token=1")
	p.head(3, false, ":method POST", ":scheme http", ":authority a", ":path /pkg.Orders/Get",
		"content-type application/grpc", "grpc-timeout 99m")
	must(p.WriteData(3, false, prefixed("one")))
	p.get(5, "/orders/4712?token=1")
	must(p.WriteData(3, true, prefixed("two")))
	p.post(7, "/")
	must(p.WriteData(7, false, []byte("x")))
	p.head(7, true, "checksum 1")
	p.post(9, "/")
	must(p.WriteRSTStream(9, http2.ErrCodeCancel))
	p.get(11, "/orders/4711?token=1")
	p.head(13, false, ":method POST", ":scheme http", ":authority a", ":path /pkg.Orders/Get",
		"content-type application/grpc", "grpc-timeout 12m")
	must(p.WriteData(13, true, prefixed("one", "two")))
	p.head(15, false, ":method POST", ":scheme http", ":authority a", ":path /pkg.Orders/Get",
		"content-type application/grpc")
	must(p.WriteData(15, true, prefixed("one", "twO")))
	text := p.take()
	want := []string{"1 GET /orders/{id}", "3 /pkg.Orders/Get", "5 GET /orders/{id}", "7 POST /",
		"9 POST /", "9 cancelled", "11 GET /orders/{id}", "13 /pkg.Orders/Get",
		"15 /pkg.Orders/Get"}
	var before map[uint64]uint64
	for n := len(text); n > 0; n-- {
		got, hashes := labels(t, text, n)
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("in pieces of %d: %s", n, d)
		}
		if before == nil {
			before = hashes
		}
		if d := cmp.Diff(before, hashes); d != "" {
			t.Fatalf("in pieces of %d: %s", n, d)
		}
	}
	for _, c := range []struct {
		x, y uint64
		same bool
	}{{1, 11, true}, {1, 5, false}, {3, 13, true}, {3, 15, false}} {
		if (before[c.x] == before[c.y]) != c.same || before[c.x] == 0 {
			t.Errorf("the requests %d and %d have the same hash: %v", c.x, c.y, !c.same)
		}
	}
	if _, ok := before[9]; ok || len(before) != 7 {
		t.Errorf("%d requests are whole", len(before))
	}
}

// TestWatchedAnswers checks what is told of production's answers, however they are split.
func TestWatchedAnswers(t *testing.T) {
	p := newPeer()
	must(p.WriteSettings())
	p.head(1, false, ":status 100")
	p.head(3, false, callHead...)
	p.head(1, false, ":status 404")
	must(p.WriteData(3, false, prefixed("one")))
	must(p.WriteData(1, true, []byte("none")))
	must(p.WriteRSTStream(5, http2.ErrCodeRefusedStream))
	p.head(7, false, ":status 200")
	must(p.WriteRSTStream(7, http2.ErrCodeInternal))
	p.head(3, true, "grpc-status 0")
	p.head(9, true, ":status 200", "content-type application/grpc+proto", "grpc-status 13")
	text := p.take()
	want := []string{"1 begins", "1 100 interim", "3 begins", "1 404 failed",
		"5 0 failed", "7 begins",
		"7 0 failed", "3 60000", "9 begins", "9 60013 failed"}
	for n := len(text); n > 0; n-- {
		var got []string
		f := proto.Follow(newWatchedAnswers())
		var scratch []proto.Answer
		for rest := text; len(rest) > 0; rest = rest[min(n, len(rest)):] {
			for _, told := range f.Feed(0, rest[:min(n, len(rest))], nil, &scratch) {
				s := fmt.Sprint(told.Stream)
				switch {
				case told.Mark:
					s += " begins"
				default:
					s += fmt.Sprint(" ", told.Status)
				}
				if told.Interim {
					s += " interim"
				}
				if told.Failed {
					s += " failed"
				}
				got = append(got, s)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("in pieces of %d: %s", n, d)
		}
	}
}

// FuzzWatch has all readers that change nothing read bytes, whole and in pieces: they must find the
// same, and keep nothing in the end.
func FuzzWatch(f *testing.F) {
	p := newPeer()
	for _, r := range replies {
		r.write(p)
	}
	f.Add(p.take(), uint8(3))
	p.out.WriteString(preface)
	must(p.WriteSettings())
	p.get(1, "/a")
	p.post(3, "/b")
	must(p.WriteDataPadded(3, true, []byte("x"), []byte{0, 0}))
	must(p.WriteRSTStream(3, http2.ErrCodeCancel))
	f.Add(p.take(), uint8(1))
	f.Fuzz(func(t *testing.T, text []byte, n uint8) {
		whole := watchAll(t, text, len(text))
		if parts := watchAll(t, text, max(1, int(n))); parts != whole {
			t.Errorf("whole: %s\nin parts: %s", whole, parts)
		}
	})
}

// watchAll returns what the readers find.
func watchAll(t *testing.T, text []byte, n int) string {
	w := proto.NewDigesting(7, digestRoom)
	c, a, d, l := new(watcher), newWatchedAnswers(), newDigester(w), newLabeller(w)
	var out proto.Out
	must(c.Begin(false, &out))
	var b strings.Builder
	var answers []proto.Answer
	var lostClient, lostAnswers error
	for len(text) > 0 {
		p := text[:min(n, len(text))]
		text = text[len(p):]
		out.Reset()
		if lostClient == nil {
			lostClient = c.Feed(p, 0, &out)
		}
		if lostAnswers == nil {
			answers, lostAnswers = a.Feed(p, answers)
		}
		for i := range out.Steps {
			if st := &out.Steps[i]; st.Kind != proto.PassOn {
				fmt.Fprintf(&b, "%d %d, ", st.Kind, st.Request.Number)
			}
		}
		d.Write(p)
		l.Write(p)
	}
	fmt.Fprintf(&b, "%v %v %+v", lostClient != nil, lostAnswers != nil, answers)
	for {
		stream, digest := d.Next()
		if digest == nil {
			break
		}
		digest.Unpack(w)
		fmt.Fprintf(&b, ", %d: %d %x %+v", stream, digest.Status, digest.Sum, digest.Fields)
	}
	for {
		stream, hash, ok := l.Ended()
		if !ok {
			break
		}
		fmt.Fprintf(&b, ", %d %x", stream, hash)
	}
	d.Close()
	if w.Room != digestRoom {
		t.Errorf("%d bytes of room are lost", digestRoom-w.Room)
	}
	return b.String()
}
