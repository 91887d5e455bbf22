package link

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/way/link/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// allBut is the set of all slots without some.
func allBut(free ...uint8) (s wire.Slots) {
	for n := 1; n <= 255; n++ {
		s.Add(uint8(n))
	}
	for _, f := range free {
		s[f>>3] &^= 1 << (f & 7)
	}
	return s
}

func TestSlot(t *testing.T) {
	for range 100 {
		if NewSlot().Get() == 0 {
			t.Fatal("slot 0")
		}
	}
	s := NewSlot()
	first, changed := s.watch()
	if !s.refused("a", first, allBut(10, 20)) {
		t.Error("no slot found")
	}
	select {
	case <-changed.Done():
	default:
		t.Error("the change was not told")
	}
	if got := s.Get(); got != 10 && got != 20 {
		t.Errorf("slot %d, want 10 or 20", got)
	}
	second, changed := s.watch()
	if !s.refused("b", first, allBut()) || s.Get() != second {
		t.Error("a refusal of the old slot changed the new one")
	}
	select {
	case <-changed.Done():
		t.Error("a change was told that was none")
	default:
	}
	// a has 10 and 20 free, b only what a has not: b's word is the newer, a is asked again.
	if !s.refused("b", second, allBut(30)) || s.Get() != 30 {
		t.Errorf("slot %d, want 30", s.Get())
	}
	if s.refused("b", 30, allBut()) {
		t.Error("found a slot where none is free")
	}
}

func TestSlotsInCommon(t *testing.T) {
	s := NewSlot()
	s.refused("a", s.Get(), allBut(10, 20, 30))
	s.refused("b", s.Get(), allBut(20, 40))
	if s.Get() != 20 && s.Get() != 40 { // 40 where 20 was the one that b refused
		t.Errorf("slot %d", s.Get())
	}
}

func TestGroupAnswer(t *testing.T) {
	tuple := wire.Tuple{Client: netip.MustParseAddrPort("10.0.0.1:1"),
		Target: netip.MustParseAddrPort("10.0.0.2:2")}
	for _, tc := range []struct {
		name    string
		answers []wire.Ownership
		want    wire.Ownership // 0: none
	}{
		{"nobody", []wire.Ownership{wire.Nobody, wire.Nobody}, wire.Nobody},
		{"you at one", []wire.Ownership{wire.You, wire.Nobody}, wire.You},
		{"another at one", []wire.Ownership{wire.You, wire.Another}, wire.Another},
		{"unsure at one", []wire.Ownership{wire.Unsure, wire.Nobody}, wire.Unsure},
		{"another outdoes unsure", []wire.Ownership{wire.Unsure, wire.Another}, wire.Another},
		{"an answer of a later version forbids", []wire.Ownership{99, wire.Nobody}, 99},
		{"one is missing", []wire.Ownership{wire.Nobody}, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got wire.Ownership
			g := &Group{cfg: &Config{OnOwner: func(_ wire.Tuple, o wire.Ownership) { got = o }}}
			g.pending = map[uint32]*question{7: {tuple: tuple, left: 2, worst: wire.Nobody}}
			g.answer(wire.Owner{ID: 8, Owner: wire.Another, Tuple: tuple}) // to no question
			for _, a := range tc.answers {
				g.answer(wire.Owner{ID: 7, Owner: a, Tuple: tuple})
			}
			if got != tc.want {
				t.Errorf("%v, want %v", got, tc.want)
			}
		})
	}
}

// TestUnreachable: the link tries again, reports the state once, and closes.
func TestUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	attempts := make(chan struct{}, 1000)
	states := make(chan State, 1000)
	l := Dial(addr, NewSlot(), Config{BackoffLo: time.Millisecond, BackoffHi: 4 * time.Millisecond,
		Log: slog.New(slog.DiscardHandler), OnState: func(s State) { states <- s },
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			attempts <- struct{}{}
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}})
	for range 5 {
		select {
		case <-attempts:
		case <-time.After(10 * time.Second):
			t.Fatal("no further attempt")
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	var op *net.OpError
	if err := l.WaitReady(ctx); !errors.As(err, &op) {
		t.Errorf("error %v", err)
	}
	l.Close()
	if len(states) != 1 {
		t.Errorf("%d states reported, want 1", len(states))
	}
	if s := <-states; s.Up || s.Fatal || s.Err == nil {
		t.Errorf("%+v", s)
	}
}

func BenchmarkReport(b *testing.B) {
	var batch wire.HeaderBatch
	s := packet.Segment{Src: netip.MustParseAddrPort("10.0.0.2:80"),
		Dst: netip.MustParseAddrPort("10.1.2.3:4000"), Len: 100, Opts: packet.Options{HasTS: true}}
	for range 64 {
		batch.Add(&s, 5)
	}
	body := batch.Seal(9)[wire.FrameHeader:]
	n := 0
	l := &Link{cfg: Config{
		Now: func() mono.Time { return 1 }, OnBatch: func(b *Batch) { n += len(b.Segments) }}}
	var h wire.Headers
	var out Batch
	b.ReportAllocs()
	for b.Loop() {
		if err := h.Decode(body); err != nil {
			b.Fatal(err)
		}
		l.report(&h, &out)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/header")
}
