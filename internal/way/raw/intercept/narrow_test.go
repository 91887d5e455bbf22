package intercept

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/source"
	"tcpcopy/internal/way/link/wire"
)

// wholeBed is a bed that records the targets whose packets are captured whole.
func wholeBed(t *testing.T, copiers int) (b *earlyBed, whole func() []netip.AddrPort) {
	b = newEarlyBed(t, copiers)
	var last []netip.AddrPort
	b.s.cfg.Whole = func(targets []netip.AddrPort) error {
		last = append(last[:0], targets...)
		return nil
	}
	return b, func() []netip.AddrPort {
		return slices.SortedFunc(slices.Values(last), netip.AddrPort.Compare)
	}
}

// readsOf makes a copier ask for the answers of a connection to a target.
func (b *earlyBed) readsOf(copier int, target netip.AddrPort) {
	b.Helper()
	b.serial++
	r := wire.Reading{Proto: http1.Kind, Base: 1, BaseKnown: true, Serial: b.serial,
		Tuple: wire.Tuple{Client: earlyClient(int(b.serial)), Target: target}}
	f := wire.Frame{Type: wire.TypeReadAnswers, Body: wire.AppendReading(nil, &r)}
	if err := b.s.readAnswers(b.peers[copier], f); err != nil {
		b.Fatal(err)
	}
}

// TestKeepsFromTheBeginning: a copier may ask for what a target says first before any connection to
// it, and only of targets that it sends to.
func TestKeepsFromTheBeginning(t *testing.T) {
	b, whole := wholeBed(t, 1)
	for _, target := range []netip.AddrPort{earlyTarget, netip.MustParseAddrPort("10.66.0.1:80")} {
		b.serial++
		r := wire.Reading{Proto: wire.AnyProto, Serial: b.serial, Held: true, Tuple: wire.Tuple{
			Client: netip.AddrPortFrom(netip.IPv4Unspecified(), 1), Target: target}}
		f := wire.Frame{Type: wire.TypeReadAnswers, Body: wire.AppendReading(nil, &r)}
		if err := b.s.readAnswers(b.peers[0], f); err != nil {
			t.Fatal(err)
		}
	}
	b.toldIs(0, "confirmed") // the first
	if got := whole(); !slices.Equal(got, []netip.AddrPort{earlyTarget}) {
		t.Errorf("captured whole: %v", got)
	}
	if n := len(b.s.answers.followed); n != 0 {
		t.Errorf("%d connections are followed", n)
	}
	b.opens(1, 7, 100)
	b.says(1, 100, reply)
	b.told(0)
	b.reads(0, 1, 100)
	if got := b.told(0); !strings.HasPrefix(got, "whole ") {
		t.Errorf("told %q of a connection that was kept", got)
	}
}

// TestNarrowsAgain: what is captured whole is cut again when no copier reads it any more.
func TestNarrowsAgain(t *testing.T) {
	b, whole := wholeBed(t, 2)
	is := func(when string, want ...netip.AddrPort) {
		t.Helper()
		if got := whole(); !slices.Equal(got, want) {
			t.Errorf("%s: %v are captured whole, want %v", when, got, want)
		}
		if got := slices.SortedFunc(maps.Keys(b.s.answers.targets),
			netip.AddrPort.Compare); !slices.Equal(got, want) {
			t.Errorf("%s: %v are known, want %v", when, got, want)
		}
	}
	b.readsOf(0, earlyTarget)
	b.readsOf(0, earlyOther)
	b.readsOf(1, earlyTarget)
	is("two copiers read", earlyTarget, earlyOther)
	targets := func(copier int, list ...netip.AddrPort) {
		f := wire.Frame{Type: wire.TypeTargets, Body: (&wire.Targets{List: list}).Append(
			nil)[wire.FrameHeader:]}
		if err := b.s.handle(b.peers[copier], f, new(requests)); err != nil {
			t.Fatal(err)
		}
	}
	targets(0, earlyTarget)
	is("one of them sends to one target only", earlyTarget)
	b.s.remove(b.peers[0])
	is("it is gone", earlyTarget)
	b.opens(1, 8, 100)
	b.says(1, 100, reply)
	b.s.remove(b.peers[1])
	is("both are gone")
	b.keepsNothing()
	b.join(9, 0)
	b.readsOf(2, earlyOther)
	is("another one has come", earlyOther)
}

// TestMostReads: a copier that names targets without end has only so many captured whole.
func TestMostReads(t *testing.T) {
	b, whole := wholeBed(t, 0)
	p, out := joined(b, b.s, &wire.Hello{Instance: wire.Instance{7}, Slot: 7, Conns: 1})
	b.peers, b.out = append(b.peers, p), append(b.out, out)
	target := netip.MustParseAddrPort("10.9.0.1:1000")
	for i := range maxReads + 500 {
		a := target.Addr().As4()
		a[2], a[3] = byte(i>>8), byte(i)
		b.readsOf(0, netip.AddrPortFrom(netip.AddrFrom4(a), target.Port()))
	}
	if n := len(b.s.answers.targets); n != maxReads || len(p.copier.reads) != n ||
		len(whole()) != n {
		t.Errorf("%d targets are known, %d of the copier, %d are captured whole; want %d", n,
			len(p.copier.reads), len(whole()), maxReads)
	}
	b.s.remove(p)
	if len(b.s.answers.targets)+len(whole())+len(b.s.answers.followed) != 0 {
		t.Errorf("%d targets are known when nobody reads, %d are captured whole",
			len(b.s.answers.targets), len(whole()))
	}
}

// TestICMPIsBounded: whoever knows a connection's addresses can have its copier told only so often.
func TestICMPIsBounded(t *testing.T) {
	b := newEarlyBed(t, 1)
	b.opens(1, 7, 100)
	lost := packet.Append(nil, &packet.Segment{Src: earlyClient(1), Dst: earlyTarget, Seq: 777,
		Flags: packet.ACK})
	icmp := append([]byte{0x45, 0, 0, byte(28 + len(lost)), 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1,
		10, 1, 2, 0}, 3, 4, 0, 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(icmp[26:], 1400)
	icmp = append(icmp, lost...)
	const each = 3000
	for range 5 { // seconds
		for range each {
			b.s.batch(b.now, []source.Frame{{Data: icmp, Wire: len(icmp), Time: b.now}},
				new(packet.Segment))
			b.now += mono.Time(icmpEvery) / each
		}
	}
	if f := b.s.frames; f.ICMP < 5*mostICMP || f.ICMP > 6*mostICMP || f.ICMP+f.ICMPOver != 5*each {
		t.Errorf("%d are reported and %d are not, in 5 s", f.ICMP, f.ICMPOver)
	}
}

// TestMostFollowed: a copier that has the answers of connections read without end has only so many
// followed, and is told of each further one.
func TestMostFollowed(t *testing.T) {
	b, _ := wholeBed(t, 1)
	const each = 1000
	for i := 0; i < maxFollowed+2*each; i += each {
		var body []byte
		for n := range each {
			b.serial++
			k := i + n
			from := netip.AddrFrom4([4]byte{10, 1 + byte(k>>16), byte(k >> 8), byte(k)})
			body = wire.AppendReading(body, &wire.Reading{Proto: http1.Kind, Serial: b.serial,
				Tuple: wire.Tuple{Client: netip.AddrPortFrom(from, 20000), Target: earlyTarget}})
		}
		f := wire.Frame{Type: wire.TypeReadAnswers, Body: body}
		if err := b.s.readAnswers(b.peers[0], f); err != nil {
			t.Fatal(err)
		}
		b.out[0].drain()
	}
	if n := len(b.s.answers.followed); n != maxFollowed {
		t.Errorf("%d connections are followed, want %d", n, maxFollowed)
	}
	b.reads(0, 7, 100)
	b.toldIs(0, "lost")
	b.s.remove(b.peers[0])
	if n := len(b.s.answers.followed); n != 0 {
		t.Errorf("%d connections are followed of one who is gone", n)
	}
}
