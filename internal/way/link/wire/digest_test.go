package wire

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/proto"
)

// digestOf returns a digest of n fields, as package content makes them.
func digestOf(r *rand.Rand, n int) *proto.Digest {
	d := &proto.Digest{Status: uint16(r.IntN(600)), Sum: r.Uint64()}
	for i := range n {
		f := proto.Field{Path: fmt.Sprintf("body.%s%06d[]", strings.Repeat("é", i/100), i),
			Kind: proto.Recognised(r.IntN(5)), Length: r.Uint64() >> r.IntN(64)}
		for range 1 + r.IntN(3) {
			f.Add(r.Uint64(), 1<<r.IntN(7))
		}
		d.Fields = append(d.Fields, f)
	}
	for i := range r.IntN(4) {
		f := proto.Field{Path: fmt.Sprintf("header x-%d", i)}
		f.Add(r.Uint64(), proto.Text)
		for range r.IntN(3) {
			f.Keep([]byte(fmt.Sprint(r.Uint64())))
		}
		d.Fields = append(d.Fields, f)
	}
	return d
}

// sent returns what comes of a digest on a link.
func sent(t *testing.T, d *proto.Digest) *proto.Digest {
	t.Helper()
	out := StreamEvent{Kind: EventAnswer, ID: 7, Answer: proto.Answer{Status: d.Status, Digest: d}}
	body := AppendStreamEvent(nil, &out)
	if len(body) > MaxDigest+100 {
		t.Errorf("%d bytes of %d fields", len(body), len(d.Fields))
	}
	var in StreamEvent
	rest, err := NextStreamEvent(body, &in)
	if err != nil || len(rest) > 0 || in.Answer.Digest == nil {
		t.Fatalf("%v, %d bytes are left, %+v", err, len(rest), in)
	}
	clear(body) // it is used again
	got := in.Answer.Digest
	if got.Size < len(got.Fields) || !got.Same(d) {
		t.Errorf("%+v is not known to be the same", got)
	}
	with := proto.NewDigesting(1, 0)
	with.Wanted.Values = []string{"header x-*"}
	got.Unpack(with)
	return got
}

func TestDigestsCross(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 200 {
		d := digestOf(r, n)
		d.Skipped = proto.Skip(n % 3)
		got := sent(t, d)
		if diff := cmp.Diff(d.Fields, got.Fields); diff != "" || d.Skipped != got.Skipped {
			t.Fatalf("%d fields, skipped %d: %s", n, got.Skipped, diff)
		}
	}
}

// Of a digest that is too large the headers cross, or nothing but its sum.
func TestLargeDigests(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	d := digestOf(r, 20_000)
	got := sent(t, d)
	if got.Skipped != proto.Oversize || len(got.Fields) != len(d.Fields)-20_000 {
		t.Errorf("skipped %d, %d fields", got.Skipped, len(got.Fields))
	}
	for i := range 20_000 {
		d.Fields[i].Path = fmt.Sprintf("header a%06d", i)
	}
	if got = sent(t, d); got.Skipped != proto.Headless || got.Fields != nil {
		t.Errorf("skipped %d, %d fields", got.Skipped, len(got.Fields))
	}
}

// What an intercept may send instead of a digest does no harm.
func FuzzDigest(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := range 20 {
		f.Add(appendFields(nil, digestOf(r, n).Fields, false), byte(n))
	}
	f.Add([]byte{200, 1, 3, 'a'}, byte(255))
	f.Fuzz(func(t *testing.T, fields []byte, skipped byte) {
		p := &packed{skipped: proto.Skip(skipped), fields: fields}
		p.Packed = p
		with := proto.NewDigesting(1, 0)
		with.Wanted.Values = []string{"*"}
		p.Digest.Unpack(with)
		for i, f := range p.Fields {
			if _ = f.Kind.String(); len(f.Values) > proto.MaxValues {
				t.Errorf("%d values", len(f.Values))
			}
			if i > 0 && p.Fields[i-1].Path >= f.Path {
				t.Errorf("%q follows %q", f.Path, p.Fields[i-1].Path)
			}
		}
		if p.Skipped > proto.Headless || len(p.Fields) > len(fields) {
			t.Errorf("skipped %d, %d fields of %d bytes", p.Skipped, len(p.Fields), len(fields))
		}
	})
}

// What a copier has not named is not kept, whatever an intercept sends; and not more than there can
// be.
func TestUnwantedValues(t *testing.T) {
	f := proto.Field{Path: "body.name"}
	f.Add(1, proto.Text)
	f.Keep([]byte("hidden"))
	if got := sent(t, &proto.Digest{Sum: 1, Fields: []proto.Field{f}}); len(got.Fields) != 1 ||
		got.Fields[0].Values != nil {
		t.Errorf("%+v", got.Fields)
	}
	f.Values = make([]string, proto.MaxValues+1)
	got := sent(t, &proto.Digest{Sum: 1, Fields: []proto.Field{f}})
	if got.Skipped != proto.Headless {
		t.Errorf("too many values: %+v", got)
	}
}

func TestWantedInHello(t *testing.T) {
	want := proto.Wanted{Values: []string{"body.name", "body.price"}, Headers: []string{"vary"}}
	h := Hello{Version: Version, Slot: 1, Conns: 1, Capabilities: Digests | Names, Wanted: want}
	var got Hello
	if err := got.Decode(h.Append(nil)[FrameHeader:]); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got.Digesting()().Wanted); d != "" {
		t.Error(d)
	}
	h.Wanted.Values = make([]string, proto.MaxWanted+5)
	if err := got.Decode(h.Append(nil)[FrameHeader:]); err != nil ||
		len(got.Wanted.Values) != proto.MaxWanted {
		t.Errorf("too many: %v, %d", err, len(got.Wanted.Values))
	}
}

func TestSeedInHello(t *testing.T) {
	h := Hello{Version: Version, Slot: 1, Conns: 1, Seed: 1 << 60}
	for _, caps := range []Capabilities{0, ReadsAnswers, Digests | ReadsAnswers} {
		h.Capabilities = caps
		var got Hello
		if err := got.Decode(h.Append(nil)[FrameHeader:]); err != nil {
			t.Fatal(err)
		}
		with := got.Digesting()
		if caps.Has(Digests) != (with != nil) || with != nil && with().Seed != h.Seed {
			t.Errorf("capabilities %b: seed %d", caps, got.Seed)
		}
	}
}
