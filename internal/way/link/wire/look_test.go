package wire

import (
	"net/netip"
	"slices"
	"testing"

	"tcpcopy/internal/core/packet"
)

// TestProbes checks that probes and their answers are known by their numbers, and nothing else is.
func TestProbes(t *testing.T) {
	q := &Look{
		Client: client4.Addr(), Target: target4, Outside: Probe{61000, 0xffffffff},
		Inside: Probe{61001, 5},
	}
	answer := func(p Probe, flags packet.Flags) packet.Segment {
		return packet.Segment{
			Src: target4, Dst: netip.AddrPortFrom(q.Client, p.Port), Ack: p.Seq.Add(1),
			Flags: flags | packet.ACK,
		}
	}
	change := func(s packet.Segment, c func(*packet.Segment)) packet.Segment {
		c(&s)
		return s
	}
	elsewhere := netip.MustParseAddrPort("10.0.0.9:8080")
	for _, c := range []struct {
		name string
		seg  packet.Segment
		want Seen
	}{
		{"a probe", q.SYN(q.Outside), Seen{Outside: Count{SYNs: 1}}},
		{"the other probe", q.SYN(q.Inside), Seen{Inside: Count{SYNs: 1}}},
		{"from another address", change(q.SYN(q.Inside), func(s *packet.Segment) {
			s.Src = elsewhere
		}), Seen{Inside: Count{SYNs: 1}, Source: elsewhere.Addr()}},
		{"another SYN", q.SYN(Probe{61000, 6}), Seen{}},
		{"the reset", q.Reset(q.Outside), Seen{}},
		{"an answer", answer(q.Outside, packet.SYN), Seen{Outside: Count{Answers: 1}}},
		{"a reset", answer(q.Inside, packet.RST), Seen{Inside: Count{Resets: 1}}},
		{"by another", change(answer(q.Inside, packet.SYN), func(s *packet.Segment) {
			s.Src = elsewhere
		}), Seen{Inside: Count{Answers: 1}, Answerer: elsewhere.Addr()}},
		{"to another port", answer(Probe{61001, 0xffffffff}, packet.SYN), Seen{}},
		{"to another client", change(answer(q.Inside, packet.SYN), func(s *packet.Segment) {
			s.Dst = elsewhere
		}), Seen{}},
	} {
		var got Seen
		known := got.Saw(q, &c.seg) || got.Arrived(q, &c.seg)
		if !equal(&got, &c.want) || known == equal(&c.want, &Seen{}) {
			t.Errorf("%s: %+v, known %v; want %+v", c.name, got, known, c.want)
		}
	}
	full := Seen{Outside: Count{SYNs: 255}}
	one := q.SYN(q.Outside)
	if full.Arrived(q, &one); full.Outside.SYNs != 255 {
		t.Errorf("255 and one are %d", full.Outside.SYNs)
	}
}

func equal(a, b *Seen) bool {
	x, y := *a, *b
	same := slices.Equal(x.Findings, y.Findings)
	x.Findings, y.Findings = nil, nil
	return same && x.ID == y.ID && x.Step == y.Step && x.Witness == y.Witness &&
		x.Refused == y.Refused && x.Witnesses == y.Witnesses && x.Outside == y.Outside &&
		x.Inside == y.Inside && x.Source == y.Source && x.Answerer == y.Answerer
}

// TestLookRefuses checks that a Look makes sense.
func TestLookRefuses(t *testing.T) {
	for _, q := range []Look{
		{Step: 0, Client: client4.Addr(), Target: target4},
		{Step: LookEnd + 1, Client: client4.Addr(), Target: target4},
		{Step: LookBegin, Client: client6.Addr(), Target: target4},
	} {
		if err := new(Look).Decode(q.Append(nil)[FrameHeader:]); err == nil {
			t.Errorf("%+v is read", q)
		}
	}
	long := Seen{Findings: make([]byte, MaxFindings+1)}
	var got Seen
	if err := got.Decode(long.Append(nil)[FrameHeader:]); err != nil || len(got.Findings) > 0 {
		t.Errorf("%v, %d bytes of findings, want none", err, len(got.Findings))
	}
}

func FuzzLook(f *testing.F) {
	for _, m := range messages() {
		f.Add(m.bytes[FrameHeader:])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var q, back Look
		if q.Decode(body) == nil {
			if err := back.Decode(q.Append(nil)[FrameHeader:]); err != nil ||
				!slices.Equal(q.Clients, back.Clients) || q.Outside != back.Outside {
				t.Fatalf("%+v came back as %+v, %v", q, back, err)
			}
		}
		var s, again Seen
		if s.Decode(body) == nil {
			if err := again.Decode(s.Append(nil)[FrameHeader:]); err != nil || !equal(&s, &again) {
				t.Fatalf("%+v came back as %+v, %v", s, again, err)
			}
		}
	})
}
