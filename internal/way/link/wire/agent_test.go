package wire

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"tcpcopy/internal/core/mono"
)

// frameOf cuts one frame out of what was appended.
func frameOf(t testing.TB, b []byte) Frame {
	t.Helper()
	var r Reader
	r.Introduced()
	in := append([]byte(Preface), b...)
	for len(in) > 0 {
		n := copy(r.Space(), in)
		r.Filled(n)
		in = in[n:]
	}
	f, ok, err := r.Next()
	if err != nil || !ok {
		t.Fatalf("a frame: %v, %v", ok, err)
	}
	return f
}

func TestAgentMessages(t *testing.T) {
	var counts AgentCounts
	for i, f := range counts.fields() {
		*f = uint64(i + 100)
	}
	hello := AgentHello{Version: Version, Instance: Instance{1, 2, 3}, Name: "web1",
		Software: "tcpcopy 1", Next: 77, Counts: counts}
	f := frameOf(t, hello.Append(nil))
	var again AgentHello
	if err := again.Decode(f.Body); err != nil || f.Type != TypeAgentHello || again != hello {
		t.Errorf("%v: %+v, %v", f.Type, again, err)
	}
	for n := range len(f.Body) {
		if err := again.Decode(f.Body[:n]); !errors.Is(err, ErrShort) {
			t.Fatalf("the first %d bytes of a hello: %v", n, err)
		}
	}
	var other AgentHello
	if err := other.Decode([]byte{0, 9}); err != nil || other.Version != 9 {
		t.Errorf("another version: %+v, %v", other, err)
	}
	w := AgentWelcome{Version: Version, Software: "tcpcopy 2"}
	f = frameOf(t, w.Append(nil))
	var gotW AgentWelcome
	if err := gotW.Decode(f.Body); err != nil || f.Type != TypeAgentWelcome || gotW != w {
		t.Errorf("%v: %+v, %v", f.Type, gotW, err)
	}
	f = frameOf(t, counts.Append(nil))
	var gotC AgentCounts
	if err := gotC.Decode(f.Body); err != nil || f.Type != TypeAgentCounts || gotC != counts {
		t.Errorf("%v: %+v, %v", f.Type, gotC, err)
	}
	if err := gotC.Decode([]byte{1, 0, 0, 0, 0, 0, 0, 0, 5}); err != nil ||
		gotC != (AgentCounts{Sent: 5}) {
		t.Errorf("an agent with fewer counts: %+v, %v", gotC, err)
	}
	if n := reflect.TypeFor[AgentCounts]().NumField(); n != len(counts.fields()) {
		t.Errorf("%d counts of %d travel", len(counts.fields()), n)
	}
}

func TestAgentCountsSince(t *testing.T) {
	c := AgentCounts{Sent: 10, ShedCPU: 3, ShedRate: 4, OverMemory: 1, LinkDown: 2}
	if d := c.Since(&AgentCounts{Sent: 4, ShedCPU: 5}); d.Sent != 6 || d.ShedCPU != 3 {
		t.Errorf("%+v", d)
	}
	if c.Shed() != 7 || c.Unsent() != 3 {
		t.Errorf("shed %d, unsent %d", c.Shed(), c.Unsent())
	}
	c.Add(&AgentCounts{Sent: 1, LinkDown: 1})
	if c.Sent != 11 || c.LinkDown != 3 {
		t.Errorf("%+v", c)
	}
}

func packetsBody(t testing.TB) ([]byte, []Record) {
	t.Helper()
	recs := []Record{
		{At: 1000, Ifindex: 2, Wire: 3, Data: []byte("abc")},
		{At: 900, Ifindex: 3, Wire: 9000, Data: []byte("d")}, // of another interface
		{At: 5_000_000_000, Ifindex: 0, Wire: 300, Data: bytes.Repeat([]byte("e"), 300)},
	}
	p := Packets{First: 7, Count: 3, At: 950, Sent: 6_000_000_000}
	var b []byte
	before := p.At
	for i := range recs {
		b = AppendRecord(b, before, &recs[i])
		before = recs[i].At
	}
	p.Size = uint32(len(b))
	return append(p.AppendHeader(nil, len(b)), b...), recs
}

func TestPackets(t *testing.T) {
	b, want := packetsBody(t)
	f := frameOf(t, b)
	var p Packets
	if err := p.Decode(f.Body); err != nil || f.Type != TypePackets {
		t.Fatal(f.Type, err)
	}
	if p.First != 7 || p.Count != 3 || p.At != 950 || p.Sent != 6_000_000_000 ||
		int(p.Size) != len(p.Records) {
		t.Errorf("%+v", p)
	}
	r := p.Unpacked(p.Records)
	var rec Record
	for i := range want {
		if ok, err := r.Next(&rec); !ok || err != nil || !reflect.DeepEqual(rec, want[i]) {
			t.Fatalf("record %d: %+v, %v, %v", i, rec, ok, err)
		}
	}
	if ok, err := r.Next(&rec); ok || err != nil {
		t.Errorf("after the last: %v, %v", ok, err)
	}
	for name, spoil := range map[string]func(b []byte){
		"more announced than came":       func(b []byte) { b[packetsHeader-1]++ },
		"more packets than there can be": func(b []byte) { b[8] = 1 },
		"a packing that nobody knows":    func(b []byte) { b[28] = 2 },
		"records without bound":          func(b []byte) { b[28], b[29] = 1, 1 },
	} {
		bad := append([]byte(nil), f.Body...)
		spoil(bad)
		if err := p.Decode(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzPackets(f *testing.F) {
	b, _ := packetsBody(f)
	f.Add(b[FrameHeader:])
	f.Fuzz(func(t *testing.T, body []byte) {
		var h AgentHello
		_ = h.Decode(body)
		var w AgentWelcome
		_ = w.Decode(body)
		var c AgentCounts
		_ = c.Decode(body)
		var p Packets
		if p.Decode(body) != nil || p.Packing != Plain {
			return
		}
		r, total := p.Unpacked(p.Records), 0
		var rec Record
		var again []byte
		before := p.At
		for {
			ok, err := r.Next(&rec)
			if err != nil {
				return
			}
			if !ok {
				break
			}
			if len(rec.Data) == 0 || rec.Wire < len(rec.Data) || rec.Wire > 1<<24 {
				t.Fatalf("%+v", rec)
			}
			total += len(rec.Data)
			again = AppendRecord(again, before, &rec)
			before = rec.At
		}
		if total > len(body) || len(again) > len(p.Records) {
			t.Fatalf("%d bytes of packets in %d; %d bytes when written again, for %d", total,
				len(body), len(again), len(p.Records))
		}
		q := Packets{Count: p.Count, At: p.At}
		r = q.Unpacked(again)
		for at := mono.Time(0); ; at = rec.At {
			ok, err := r.Next(&rec)
			if err != nil {
				t.Fatal(err, at)
			}
			if !ok {
				return
			}
		}
	})
}

// TestTextIsPrintable checks that what peers say of themselves reaches no terminal as it came.
func TestTextIsPrintable(t *testing.T) {
	for text, want := range map[string]string{
		"web1 (Zürich) 1.0":         "web1 (Zürich) 1.0",
		"web1\x1b[2J\x1b]0;title\a": "web1?[2J?]0;title?",
		"a\r\nb\tc\x7f\u0085\u202e": "a??b?c???",
		"\xff\xfe":                  "??",
	} {
		hello := AgentHello{Version: Version, Name: text, Software: text}
		var got AgentHello
		if err := got.Decode(frameOf(t, hello.Append(nil)).Body); err != nil ||
			got.Name != want || got.Software != want {
			t.Errorf("%q is read as %q and %q (%v), wanted %q", text, got.Name, got.Software, err,
				want)
		}
		refuse := Refuse{Code: CodeFull, Text: text}
		var gotR Refuse
		if err := gotR.Decode(frameOf(t, refuse.Append(nil)).Body); err != nil ||
			gotR.Text != want {
			t.Errorf("%q is read as %q (%v), wanted %q", text, gotR.Text, err, want)
		}
	}
}
