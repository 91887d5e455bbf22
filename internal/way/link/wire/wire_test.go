package wire

import (
	"encoding/hex"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
)

var update = flag.Bool("update", false, "write the golden files anew")

var compare = cmp.Options{
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

var (
	client4 = netip.MustParseAddrPort("10.1.2.3:40001")
	target4 = netip.MustParseAddrPort("10.0.0.2:8080")
	client6 = netip.MustParseAddrPort("[fd00::1:2]:40001")
	target6 = netip.MustParseAddrPort("[fd00::2]:8080")
)

var segments = []packet.Segment{
	{Src: target4, Dst: client4, Seq: 0xdeadbeef, Ack: 0x01020304, Flags: packet.SYN | packet.ACK,
		TTL: 64, Window: 65160,
		Opts: packet.Options{MSS: 1460, WScale: 7, HasWScale: true, SACKPermitted: true,
			HasTS: true, TSVal: 1000, TSEcr: 2000}},
	{Src: target4, Dst: client4, Seq: 0xdeadbef0, Ack: 0x01020305, Flags: packet.ACK | packet.PSH,
		TTL: 64, Window: 501, Len: 65483,
		Opts: packet.Options{HasTS: true, TSVal: 1001, TSEcr: 2001}},
	{Src: target6, Dst: client6, Seq: 5, Ack: 6, Flags: packet.ACK | packet.URG, Window: 0,
		Urgent: 3, Len: 200000,
		Opts: packet.Options{NSACK: 2, SACK: [4]packet.SACKBlock{{First: 10, End: 20},
			{First: 0xfffffff0, End: 4}}}},
	{Src: target6, Dst: client6, Seq: 0, Ack: 7, Flags: packet.RST | packet.ACK},
}

// decoder is what every message but Headers and the tuple lists is.
type decoder interface{ Decode([]byte) error }

// messages is one of each kind, with a fresh value to decode it into.
func messages() []struct {
	name  string
	bytes []byte
	want  any
	into  any
} {
	hello := &Hello{Version: Version, Instance: Instance{1, 2, 3, 15: 16}, Slot: 77, Conn: 1,
		Conns: 2, Capabilities: 1 << 40,
		Software: "1.2.3", Targets: []netip.AddrPort{target4, target6},
		Clients: []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16"),
			netip.MustParsePrefix("fd09::/64")}, ConnectTimeout: 1500 * time.Millisecond}
	welcome := &Welcome{Version: Version, Way: WayRaw, Slot: 77, Capabilities: 3, HoldMillis: 200,
		Software:  "1.2.4",
		Forbidden: []netip.AddrPort{target6}}
	refuse := &Refuse{Code: CodeSlot, Text: "slot 77 is taken"}
	refuse.Slots.Add(77)
	refuse.Slots.Add(255)
	query := &Query{ID: 9, Tuple: Tuple{client4, target4}}
	seek := &Seek{ID: 9, Age: 1000, Tuple: Tuple{client4, target4}}
	owner := &Owner{ID: 9, Owner: Another, Tuple: Tuple{client6, target6}}
	icmp := &ICMP{Kind: packet.FragNeeded, Code: 4, MTU: 1400, Seq: 0xfffffffe,
		Tuple: Tuple{client4, target4}}
	look := &Look{ID: 9, Step: LookBegin, Client: client4.Addr(), Target: target4,
		Outside: Probe{Port: 61000, Seq: 0xfffffe4d}, Inside: Probe{Port: 61001, Seq: 0x14d},
		Clients: []netip.Addr{client4.Addr(), client6.Addr()}}
	seen := &Seen{ID: 9, Step: LookEnd, Witness: true, Refused: "no", Witnesses: 2,
		Outside: Count{SYNs: 3}, Inside: Count{SYNs: 3, Answers: 1, Resets: 2},
		Source: target6.Addr(), Findings: []byte(`[]`)}
	ping, pong := &Ping{ID: 12}, &Pong{ID: 12, At: mono.Time(3 * time.Second)}
	bye := &Bye{Reason: ByeShutdown, Text: "signal"}
	targets := &Targets{List: []netip.AddrPort{target4, target6}}
	tuples := &[]Tuple{{client4, target4}, {client6, target6}}

	var b HeaderBatch
	for i := range segments {
		b.Add(&segments[i], mono.Time(time.Second).Add(time.Duration(i)*time.Millisecond))
	}
	frame := b.Seal(mono.Time(time.Second).Add(10 * time.Millisecond))
	headers := &Headers{Base: mono.Time(time.Second), Segments: segments,
		Ages: []time.Duration{10 * time.Millisecond, 9 * time.Millisecond, 8 * time.Millisecond,
			7 * time.Millisecond}}

	return []struct {
		name  string
		bytes []byte
		want  any
		into  any
	}{
		{"hello", hello.Append(nil), hello, new(Hello)},
		{"targets", targets.Append(nil), targets, new(Targets)},
		{"welcome", welcome.Append(nil), welcome, new(Welcome)},
		{"refuse", refuse.Append(nil), refuse, new(Refuse)},
		{"headers", frame, headers, new(Headers)},
		{"claim", AppendTuples(nil, TypeClaim, *tuples), tuples, new([]Tuple)},
		{"claim-refused", AppendTuples(nil, TypeClaimRefused, *tuples), tuples, new([]Tuple)},
		{"release", AppendTuples(nil, TypeRelease, *tuples), tuples, new([]Tuple)},
		{"query", query.Append(nil), query, new(Query)},
		{"seek", seek.Append(nil), seek, new(Seek)},
		{"owner", owner.Append(nil), owner, new(Owner)},
		{"look", look.Append(nil), look, new(Look)},
		{"seen", seen.Append(nil), seen, new(Seen)},
		{"icmp", icmp.Append(nil), icmp, new(ICMP)},
		{"ping", ping.Append(nil), ping, new(Ping)},
		{"pong", pong.Append(nil), pong, new(Pong)},
		{"bye", bye.Append(nil), bye, new(Bye)},
	}
}

func decode(f Frame, into any) error {
	if ts, ok := into.(*[]Tuple); ok {
		var err error
		*ts, err = DecodeTuples((*ts)[:0], f.Type, f.Body)
		return err
	}
	return into.(decoder).Decode(f.Body)
}

// read cuts a single frame out of bytes.
func read(t testing.TB, b []byte) Frame {
	t.Helper()
	var r Reader
	r.Introduced()
	feed(&r, []byte(Preface))
	feed(&r, b)
	f, ok, err := r.Next()
	if err != nil || !ok {
		t.Fatalf("frame: %v %v", ok, err)
	}
	return f
}

func feed(r *Reader, b []byte) {
	for len(b) > 0 {
		n := copy(r.Space(), b)
		r.Filled(n)
		b = b[n:]
	}
}

func TestRoundTrip(t *testing.T) {
	for _, m := range messages() {
		t.Run(m.name, func(t *testing.T) {
			f := read(t, m.bytes)
			if got := f.Type.String(); got != m.name {
				t.Errorf("type %q", got)
			}
			if err := decode(f, m.into); err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(m.want, m.into, compare); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
}

// TestGolden holds the bytes fixed: two versions of the program that both speak version 2 must
// agree.
func TestGolden(t *testing.T) {
	var out strings.Builder
	for _, m := range messages() {
		out.WriteString(m.name + "\n" + hex.Dump(m.bytes) + "\n")
	}
	file := filepath.Join("testdata", "version2.golden")
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), out.String()); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
}

// TestCut takes bytes off the end of every message: each length that is too short is an error,
// not a panic and not a half-filled value.
func TestCut(t *testing.T) {
	for _, m := range messages() {
		t.Run(m.name, func(t *testing.T) {
			body := m.bytes[FrameHeader:]
			for n := range len(body) {
				err := decode(Frame{Type: Type(m.bytes[0]), Body: body[:n]}, m.into)
				if m.name == "headers" && err == nil {
					if h := m.into.(*Headers); len(h.Segments) == len(segments) {
						t.Fatalf("%d of %d bytes make a whole batch", n, len(body))
					}
					continue // cut between two records
				}
				if err == nil {
					t.Fatalf("%d of %d bytes: no error", n, len(body))
				}
			}
			if m.name == "headers" {
				return
			}
			if err := decode(Frame{Type: Type(m.bytes[0]),
				Body: append(body[:len(body):len(body)], "more"...)}, m.into); err != nil {
				t.Errorf("fields of a later version: %v", err)
			}
		})
	}
}

func TestReader(t *testing.T) {
	ping := (&Ping{ID: 1}).Append(nil)
	later := AppendRaw(nil, 200, Skippable, []byte("x"))
	for _, tc := range []struct {
		name   string
		in     string
		frames int
		err    error
	}{
		{"nothing", "", 0, nil},
		{"part of the preface", Preface[:3], 0, nil},
		{"preface only", Preface, 0, nil},
		{"frames", Preface + string(ping) + string(ping) + string(later), 3, nil},
		{"half a frame", Preface + string(ping) + string(ping[:9]), 1, nil},
		{"http", "GET / HTTP/1.0\r\n\r\n", 0, ErrPreface},
		{"tls", "\x16\x03\x01\x02\x00\x01", 0, ErrPreface},
		{"one wrong byte", "x", 0, ErrPreface},
		{"other preface", "tcpcopy\x02", 0, ErrPreface},
		{"too long", Preface + "\x0b\x00\xff\xff\xff\xff", 0, ErrTooLong},
		{"too long for a stranger", Preface + "\x01\x00\x00\x02\x00\x01", 0, ErrTooLong},
	} {
		for _, step := range []int{1, 5, 1 << 20} {
			t.Run(tc.name, func(t *testing.T) {
				var r Reader
				var got int
				var err error
				for in := tc.in; len(in) > 0 && err == nil; {
					n := min(step, len(in))
					feed(&r, []byte(in[:n]))
					in = in[n:]
					for {
						var ok bool
						if _, ok, err = r.Next(); !ok {
							break
						}
						got++
					}
				}
				if got != tc.frames || !errors.Is(err, tc.err) {
					t.Errorf("%d frames, %v; want %d, %v", got, err, tc.frames, tc.err)
				}
			})
		}
	}
}

func TestReaderLargestFrame(t *testing.T) {
	body := make([]byte, MaxBody)
	body[MaxBody-1] = 7
	frame := AppendRaw(nil, TypeHeaders, 0, body)
	var r Reader
	r.Introduced()
	feed(&r, []byte(Preface))
	for range 5 {
		feed(&r, frame)
		f, ok, err := r.Next()
		if !ok || err != nil || len(f.Body) != MaxBody || f.Body[MaxBody-1] != 7 {
			t.Fatalf("%v %v, %d bytes", ok, err, len(f.Body))
		}
	}
	if len(r.buf) > 4*MaxBody {
		t.Errorf("the buffer grew to %d bytes", len(r.buf))
	}
}

func TestUnexpected(t *testing.T) {
	if err := (Frame{Type: 77, Flags: Skippable}).Unexpected(); err != nil {
		t.Errorf("skippable: %v", err)
	}
	err := Frame{Type: 77}.Unexpected()
	if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "type 77") {
		t.Errorf("not skippable: %v", err)
	}
}

// TestHurry: an intercept that does not know it goes on.
func TestHurry(t *testing.T) {
	var r Reader
	n := copy(r.Space(), AppendHurry([]byte(Preface)))
	r.Filled(n)
	f, ok, err := r.Next()
	if !ok || err != nil || f.Type != TypeHurry || len(f.Body) != 0 {
		t.Fatalf("%+v %v %v", f, ok, err)
	}
	f.Type = 77
	if err := f.Unexpected(); err != nil {
		t.Error(err)
	}
}

func TestHelloOfAnotherVersion(t *testing.T) {
	var h Hello
	if err := h.Decode([]byte{0, 9, 1, 2}); err != nil || h.Version != 9 {
		t.Errorf("%v, version %d", err, h.Version)
	}
}

func TestHeaderBatchFills(t *testing.T) {
	var b HeaderBatch
	n := 0
	for b.Add(&segments[0], 0) {
		n++
		if n > MaxBody {
			t.Fatal("never full")
		}
	}
	if b.Len() != n {
		t.Errorf("Len %d, added %d", b.Len(), n)
	}
	frame := b.Seal(0)
	if len(frame) > FrameHeader+MaxBody {
		t.Errorf("frame of %d bytes", len(frame))
	}
	var h Headers
	if err := h.Decode(read(t, frame).Body); err != nil || len(h.Segments) != n {
		t.Errorf("%v, %d of %d segments", err, len(h.Segments), n)
	}
	if b.Seal(0) != nil {
		t.Error("an empty batch yields a frame")
	}
}

func TestRecordSizeIPv4(t *testing.T) {
	if n := len(appendRecord(nil, &segments[1], 0)); n != 40 {
		t.Errorf("%d bytes, want 40", n)
	}
}

func TestAllocations(t *testing.T) {
	var b HeaderBatch
	var h Headers
	var f []byte
	if n := testing.AllocsPerRun(100, func() {
		for i := range segments {
			b.Add(&segments[i], mono.Time(i))
		}
		f = b.Seal(10)
		if err := h.Decode(f[FrameHeader:]); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations for a batch", n)
	}
}

func FuzzReader(f *testing.F) {
	for _, m := range messages() {
		f.Add(append([]byte(Preface), m.bytes...), uint8(7))
	}
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		var r Reader
		r.Introduced()
		for len(in) > 0 {
			n := min(int(step)+1, len(in))
			feed(&r, in[:n])
			in = in[n:]
			for {
				frame, ok, err := r.Next()
				if err != nil {
					return
				}
				if !ok {
					break
				}
				for _, m := range messages() {
					if m.bytes[0] == byte(frame.Type) {
						_ = decode(frame, m.into)
					}
				}
			}
		}
	})
}

// FuzzHeaders: what can be decoded is encoded to the same bytes again, and means the same.
func FuzzHeaders(f *testing.F) {
	for i := range segments {
		f.Add(appendRecord(nil, &segments[i], uint32(i)))
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		if len(record) == 0 {
			return
		}
		var s packet.Segment
		rest, after := readRecord(record, &s)
		if rest == nil {
			return
		}
		var again packet.Segment
		out := appendRecord(nil, &s, after)
		if rest, after2 := readRecord(out, &again); rest == nil || len(rest) != 0 ||
			after2 != after {
			t.Fatalf("cannot be read again: %x", out)
		}
		if s.Src.Addr().Is4In6() != s.Dst.Addr().Is4In6() {
			return
		}
		again.Src = netip.AddrPortFrom(again.Src.Addr().Unmap(), again.Src.Port())
		s.Src = netip.AddrPortFrom(s.Src.Addr().Unmap(), s.Src.Port())
		again.Dst = netip.AddrPortFrom(again.Dst.Addr().Unmap(), again.Dst.Port())
		s.Dst = netip.AddrPortFrom(s.Dst.Addr().Unmap(), s.Dst.Port())
		if d := cmp.Diff(s, again, compare); d != "" {
			t.Fatalf("-want +got\n%s", d)
		}
	})
}

func BenchmarkAdd(b *testing.B) {
	var batch HeaderBatch
	b.ReportAllocs()
	for b.Loop() {
		if !batch.Add(&segments[1], 5) || batch.Len() == 64 {
			batch.Seal(9)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	var batch HeaderBatch
	for range 64 {
		batch.Add(&segments[1], 5)
	}
	body := batch.Seal(9)[FrameHeader:]
	var h Headers
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Decode(body); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/header")
}
