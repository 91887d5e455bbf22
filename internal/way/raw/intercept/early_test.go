package intercept

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/proto/mysql"
	"tcpcopy/internal/proto/redis"
	"tcpcopy/internal/source"
	"tcpcopy/internal/way/link/wire"
)

const ms = mono.Time(time.Millisecond)

var (
	earlyTarget = netip.MustParseAddrPort("10.0.0.2:8080")
	earlyOther  = netip.MustParseAddrPort("10.0.0.2:9090")
)

// earlyBed is an intercept whose clock and packets are the test's, with one connection each of
// copiers with the slots 7, 8 and so on.
type earlyBed struct {
	testing.TB
	s      *Intercept
	now    mono.Time
	peers  []*peer
	out    []*outbox // of the peers
	serial uint32
}

func newEarlyBed(t testing.TB, copiers int) *earlyBed {
	b := &earlyBed{TB: t, now: 1000 * ms}
	var err error
	b.s, err = New(Config{Sources: []source.Source{noSource{}},
		Listen:          []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")},
		AllowForwarding: true, Log: slog.New(slog.DiscardHandler),
		Now:   func() mono.Time { return b.now },
		Whole: func([]netip.AddrPort) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	for i := range copiers {
		b.join(uint8(7+i), 0)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		b.s.Run(ctx)
	})
	return b
}

// join adds a connection, by its number, of the copier of a slot.
func (b *earlyBed) join(slot, number uint8) {
	b.Helper()
	p, out := joined(b, b.s, &wire.Hello{Instance: wire.Instance{slot}, Slot: slot, Conn: number,
		Conns: number + 1, Targets: []netip.AddrPort{earlyTarget, earlyOther}})
	b.peers, b.out = append(b.peers, p), append(b.out, out)
}

func earlyClient(n int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(n >> 16), byte(n >> 8)}),
		uint16(20000+n&0xff))
}

// see captures a segment of the target's to client n, except its last cut bytes.
func (b *earlyBed) see(n int, seg packet.Segment, cut int) {
	b.s.batch(b.now, []source.Frame{b.frame(n, seg, cut)}, new(packet.Segment))
}

// frame is a segment of the target's to client n as it is captured, without its last cut bytes.
func (b *earlyBed) frame(n int, seg packet.Segment, cut int) source.Frame {
	seg.Src, seg.Dst, seg.Len = earlyTarget, earlyClient(n), len(seg.Payload)
	if seg.Flags&(packet.SYN|packet.ACK) == 0 {
		seg.Flags |= packet.ACK
	}
	data := packet.Append(nil, &seg)
	return source.Frame{Data: data[:len(data)-cut], Wire: len(data), Time: b.now}
}

// opens captures a SYN-ACK for the copier of a slot. base is the number of the first byte.
func (b *earlyBed) opens(n int, slot uint8, base seqnum.Value) {
	b.see(n, packet.Segment{Flags: packet.SYN | packet.ACK, Seq: base - 1,
		Ack: seqnum.Value(0x5500) + seqnum.Value(slot) + 1}, 0)
}

func (b *earlyBed) says(n int, seq seqnum.Value, text string) {
	b.see(n, packet.Segment{Seq: seq, Payload: []byte(text)}, 0)
}

// asks carries out a copier's reading about client n's connection.
func (b *earlyBed) asks(copier, n int, r wire.Reading) {
	b.Helper()
	b.serial++
	r.Tuple, r.Serial = wire.Tuple{Client: earlyClient(n), Target: earlyTarget}, b.serial
	f := wire.Frame{Type: wire.TypeReadAnswers, Body: wire.AppendReading(nil, &r)}
	if err := b.s.readAnswers(b.peers[copier], f); err != nil {
		b.Fatal(err)
	}
}

// reads makes a copier ask for the answers, of HTTP, that begin at base.
func (b *earlyBed) reads(copier, n int, base seqnum.Value) {
	b.Helper()
	b.asks(copier, n, wire.Reading{Proto: http1.Kind, Base: base, BaseKnown: true})
}

// known makes the copiers read the target, so that what it sends early is kept.
func (b *earlyBed) known() *earlyBed {
	b.Helper()
	for i := range b.peers {
		b.reads(i, 1<<20+i, 1)
		if got := b.told(i); got != "confirmed" {
			b.Fatalf("told %q", got)
		}
	}
	return b
}

// told returns what was queued for a copier, in order: h is a header, with the length of its
// payload.
func (b *earlyBed) told(copier int) string {
	b.Helper()
	b.s.batch(b.now, nil, nil)
	data := append([]byte(wire.Preface), b.out[copier].drain()...)
	var in wire.Reader
	in.Introduced()
	var all []string
	for {
		f, ok, err := in.Next()
		if err != nil {
			b.Fatal(err)
		}
		if !ok {
			if len(data) == 0 {
				return strings.Join(all, " ")
			}
			n := copy(in.Space(), data)
			in.Filled(n)
			data = data[n:]
			continue
		}
		switch f.Type {
		case wire.TypeHeaders:
			var h wire.Headers
			if err := h.Decode(f.Body); err != nil {
				b.Fatal(err)
			}
			for i := range h.Segments {
				all = append(all, fmt.Sprintf("h%d", h.Segments[i].Len))
			}
		case wire.TypeAnswers:
			var found wire.Found
			for body := f.Body; len(body) > 0; {
				if body, err = wire.NextFound(body, &found); err != nil {
					b.Fatal(err)
				}
				all = append(all, foundText(&found))
			}
		}
	}
}

func foundText(f *wire.Found) string {
	switch {
	case f.Kind == wire.FoundConfirmed && f.Whole:
		return "whole"
	case f.Kind == wire.FoundConfirmed:
		return "confirmed"
	case f.Kind == wire.FoundAnswer && f.Age > 0:
		return fmt.Sprintf("%d(%v)", f.Answer.End, f.Age)
	case f.Kind == wire.FoundAnswer:
		return fmt.Sprint(f.Answer.End)
	case f.Kind == wire.FoundBytes:
		return fmt.Sprintf("%q", f.Data)
	}
	return "lost"
}

func (b *earlyBed) toldIs(copier int, want string) {
	b.Helper()
	if got := b.told(copier); got != want {
		b.Errorf("told %q, want %q", got, want)
	}
}

// keepsNothing checks that no bytes are kept, and that none of the pool are in use.
func (b *earlyBed) keepsNothing() {
	b.Helper()
	if a := &b.s.answers; a.earlyBytes != 0 || a.pool.InUse() != 0 {
		b.Errorf("%d bytes are kept, %d of the pool", a.earlyBytes, a.pool.InUse())
	}
}

// TestEarlyIsAsIfAskedInTime: whether the copier asks before the target's segments, between any
// two of them, or after them, the same is found, and what had come before is reported at once.
func TestEarlyIsAsIfAskedInTime(t *testing.T) {
	const base = seqnum.Value(0xfffffff0)
	for _, tc := range followCases {
		first := slices.IndexFunc(tc.parts, func(p part) bool { return p.flags.Has(packet.SYN) })
		if first < 0 {
			continue
		}
		for k := first + 1; k <= len(tc.parts); k++ {
			t.Run(fmt.Sprintf("%s, asked after %d", tc.name, k), func(t *testing.T) {
				b := newEarlyBed(t, 1).known()
				var got []string
				for i, p := range tc.parts {
					seg := packet.Segment{Seq: base.Add(p.off), Flags: p.flags,
						Payload: []byte(p.text)}
					if p.flags.Has(packet.SYN) {
						b.opens(1, 7, base)
					} else {
						b.see(1, seg, p.cut)
					}
					if i+1 == k {
						b.reads(0, 1, base)
					}
					for w := range strings.FieldsSeq(b.told(0)) {
						if w[0] != 'h' && w != "whole" {
							got = append(got, w)
						}
					}
				}
				if !slices.Equal(got, tc.want) {
					t.Errorf("told %q, want %q", got, tc.want)
				}
				b.s.mu.Lock()
				b.s.forgetOwner(b.peers[0].copier.owner)
				b.s.mu.Unlock()
				b.keepsNothing()
			})
		}
	}
}

// TestEarlyOrder: what was kept is reported after the headers and the confirmation, with its times.
func TestEarlyOrder(t *testing.T) {
	b := newEarlyBed(t, 1).known()
	b.opens(1, 7, 100)
	b.says(1, 100, reply[:10])
	b.now += 4 * ms
	b.says(1, 110, reply[10:])
	b.toldIs(0, "h0 h10 h30")
	b.now += 50 * ms
	b.reads(0, 1, 100)
	b.toldIs(0, "whole 40(4ms)")
	b.keepsNothing()
	b.says(1, 140, reply)
	b.toldIs(0, "h40 80")
	// Asked again, as by a copier that has several intercepts: nothing is told twice.
	b.reads(0, 1, 100)
	b.toldIs(0, "whole")
	b.asks(0, 1, wire.Reading{Request: 2, Hint: 1})
	b.toldIs(0, "whole")
}

// TestEarlyConfirmations: a confirmation that something waits for is sent at once. Others are
// sent with what is reported next, and are true then.
func TestEarlyConfirmations(t *testing.T) {
	b := newEarlyBed(t, 1).known()
	pending := func() int { return len(b.out[0].pending) }
	b.asks(0, 1, wire.Reading{Proto: http1.Kind})
	if n := pending(); n > 0 {
		t.Errorf("%d bytes are sent for a confirmation that nothing waits for", n)
	}
	b.opens(1, 7, 100)
	b.toldIs(0, "h0 whole")
	b.asks(0, 2, wire.Reading{Proto: http1.Kind})
	b.asks(0, 3, wire.Reading{Proto: http1.Kind, Held: true})
	if pending() == 0 {
		t.Error("nothing is sent where something waits")
	}
	b.toldIs(0, "confirmed confirmed")
	b.opens(4, 7, 100)
	b.told(0)
	b.reads(0, 4, 100)
	b.see(4, packet.Segment{Seq: 100, Flags: packet.FIN | packet.ACK, Payload: []byte(reply)}, 0)
	b.toldIs(0, "40 h40 whole")
	b.reads(0, 4, 100)
	for i := range maxUnconfirmed {
		if pending() > 0 {
			t.Fatalf("sent after %d", i)
		}
		b.asks(0, 5, wire.Reading{Proto: http1.Kind})
	}
	if pending() == 0 {
		t.Errorf("nothing is sent though %d wait", maxUnconfirmed+1)
	}
}

// TestEarlyGreeting: of a target that speaks first the copier has the bytes once it knows the
// protocol.
func TestEarlyGreeting(t *testing.T) {
	b := newEarlyBed(t, 1).known()
	greeting := "\x4a\x00\x00\x00\x0a8.0.36\x00" + strings.Repeat("x", 66)
	b.opens(1, 7, 100)
	b.says(1, 100, greeting[:20])
	b.says(1, 120, greeting[20:])
	b.toldIs(0, "h0 h20 h58")
	b.now += 2000 * ms
	b.asks(0, 1, wire.Reading{Proto: mysql.Kind, Base: 100, BaseKnown: true})
	b.toldIs(0, fmt.Sprintf("whole %q %q", greeting[:20], greeting[20:]))
}

// keptReply opens client 1's connection and captures a reply, which is kept.
func keptReply(b *earlyBed) {
	b.opens(1, 7, 100)
	b.says(1, 100, reply)
}

// askForReply makes the first copier ask for the answers on that connection.
func askForReply(b *earlyBed) { b.reads(0, 1, 100) }

// earlyEnds are the ways in which early segments end.
var earlyEnds = []struct {
	name string
	do   func(b *earlyBed)
	want string
	more string // queued for the next reply of the target
}{
	{"in time", func(b *earlyBed) {
		keptReply(b)
		b.now += mono.Time(wire.EarlyFor) - ms
		b.says(2, 1, "")
		askForReply(b)
	}, "h0 h40 whole 40", "h40 80"},
	{"in time, and a while ago", func(b *earlyBed) {
		keptReply(b)
		askForReply(b)
		b.now += mono.Time(wire.EarlyFor)
		b.says(2, 1, "")
	}, "h0 h40 whole 40", "h40 80"},
	{"too late", func(b *earlyBed) {
		keptReply(b)
		b.now += mono.Time(wire.EarlyFor)
		b.says(2, 1, "")
		b.keepsNothing()
		askForReply(b)
	}, "h0 h40 confirmed", "h40 lost"},
	{"nothing said, and too late", func(b *earlyBed) {
		b.opens(1, 7, 140)
		b.now += mono.Time(wire.EarlyFor)
		b.says(2, 1, "")
		b.reads(0, 1, 140)
	}, "h0 confirmed", "h40 40"},
	{"reset", func(b *earlyBed) {
		keptReply(b)
		b.see(1, packet.Segment{Seq: 140, Flags: packet.RST | packet.ACK}, 0)
		b.keepsNothing()
		askForReply(b)
	}, "h0 h40 h0 confirmed", "h40 lost"},
	{"released", func(b *earlyBed) {
		keptReply(b)
		b.s.release(b.peers[0].copier.owner,
			[]wire.Tuple{{Client: earlyClient(1), Target: earlyTarget}})
		b.keepsNothing()
		askForReply(b)
	}, "h0 h40 confirmed", "h40 lost"},
	{"more than is kept of one", func(b *earlyBed) {
		b.opens(1, 7, 100)
		for i := range 2 {
			b.says(1, seqnum.Value(100).Add(i*40000), strings.Repeat("x", 40000))
		}
		b.keepsNothing()
		askForReply(b)
	}, "h0 h40000 h40000 lost", "h40"},
	{"many empty ends", func(b *earlyBed) {
		b.opens(1, 7, 100)
		for range 2000 {
			b.see(1, packet.Segment{Seq: 100, Flags: packet.FIN | packet.ACK}, 0)
		}
		b.keepsNothing()
		b.told(0)
		askForReply(b)
	}, "lost", "h40"},
	{"the tuple is used again", func(b *earlyBed) {
		keptReply(b)
		b.opens(1, 7, 140)
		b.keepsNothing()
		b.reads(0, 1, 140)
	}, "h0 h40 h0 whole", "h40 40"},
	{"the tuple was used before", func(b *earlyBed) {
		keptReply(b)
		b.reads(0, 1, 140)
	}, "h0 h40 confirmed", "h40 40"},
	{"the tuple is used again while it is read", func(b *earlyBed) {
		keptReply(b)
		askForReply(b)
		b.opens(1, 7, 140)
		b.reads(0, 1, 140)
	}, "h0 h40 whole 40 h0 lost whole", "h40 40"},
	{"the tuple is used again after its end", func(b *earlyBed) {
		keptReply(b)
		askForReply(b)
		b.see(1, packet.Segment{Seq: 140, Flags: packet.FIN | packet.ACK}, 0)
		b.opens(1, 7, 140)
		b.reads(0, 1, 140)
	}, "h0 h40 whole 40 h0 h0 whole", "h40 40"},
	{"another copier's", func(b *earlyBed) {
		b.opens(1, 8, 100)
		b.says(1, 100, reply)
		askForReply(b)
	}, "confirmed", ""},
	{"another copier's before", func(b *earlyBed) {
		b.opens(1, 8, 100)
		b.says(1, 100, reply)
		b.now += 2 * mono.Time(wire.EarlyFor)
		b.opens(1, 7, 140)
		b.keepsNothing()
		b.reads(0, 1, 140)
	}, "h0 whole", "h40 40"},
	{"a hint before it is asked for", func(b *earlyBed) {
		keptReply(b)
		b.asks(0, 1, wire.Reading{Request: 0, Hint: 1})
		askForReply(b)
	}, "h0 h40 confirmed whole 40", "h40 80"},
	{"no such protocol", func(b *earlyBed) {
		keptReply(b)
		b.asks(0, 1, wire.Reading{Proto: 99, Base: 100, BaseKnown: true})
		b.keepsNothing()
	}, "h0 h40 lost", "h40"},
}

func TestEarlyEnds(t *testing.T) {
	for _, tc := range earlyEnds {
		t.Run(tc.name, func(t *testing.T) {
			b := newEarlyBed(t, 2).known()
			tc.do(b)
			b.toldIs(0, tc.want)
			b.says(1, 140, reply)
			b.toldIs(0, tc.more)
		})
	}
}

// TestEarlyIsForReaders: nothing is kept for copiers that do not read the target.
func TestEarlyIsForReaders(t *testing.T) {
	b := newEarlyBed(t, 2)
	b.opens(1, 7, 100)
	b.says(1, 100, reply)
	b.reads(1, 9, 100) // another copier reads that target
	b.opens(2, 7, 100)
	b.says(2, 100, reply)
	b.keepsNothing()
	if n := len(b.s.answers.followed); n != 1 {
		t.Errorf("%d connections are known, want the one that is read", n)
	}
	b.opens(3, 8, 100)
	b.says(3, 100, reply)
	if b.s.answers.earlyBytes == 0 {
		t.Error("nothing is kept for who reads")
	}
	b.s.remove(b.peers[1])
	b.keepsNothing()
	if n := len(b.s.answers.followed); n != 0 {
		t.Errorf("%d connections are known of one who is gone", n)
	}
}

// TestEarlyBounds: the bytes that are kept of all connections, and their number, are bounded.
func TestEarlyBounds(t *testing.T) {
	b := newEarlyBed(t, 1).known()
	text := reply + strings.Repeat(reply, 999) // 40,000 bytes
	const conns = 700
	for i := range conns {
		b.opens(i, 7, 100)
		b.says(i, 100, text)
		if b.s.answers.earlyBytes > earlyAll+earlyEach ||
			b.s.answers.pool.InUse() > earlyAll+earlyEach {
			t.Fatalf("%d bytes are kept, %d of the pool", b.s.answers.earlyBytes,
				b.s.answers.pool.InUse())
		}
	}
	b.told(0)
	b.reads(0, 0, 100)
	if got := b.told(0); !strings.HasPrefix(got, "whole 40 80 ") {
		t.Errorf("of the first: told %.20q", got)
	}
	b.reads(0, conns-1, 100)
	b.toldIs(0, "lost")
	for i := range earlyConns + 10 {
		b.opens(1000+i, 7, 100)
	}
	a := &b.s.answers
	if len(a.early) > earlyConns || len(a.followed) > earlyConns+10 {
		t.Errorf("%d connections wait, %d are known", len(a.early), len(a.followed))
	}
	b.told(0)
	b.reads(0, 1000, 100)
	b.toldIs(0, "confirmed")
	b.reads(0, 1000+earlyConns, 100)
	b.toldIs(0, "whole")
	b.now += mono.Time(wire.EarlyFor)
	b.says(0, 1, "")
	b.keepsNothing()
	if len(a.early) > 0 {
		t.Errorf("%d connections wait when nobody has asked in time", len(a.early))
	}
}

// TestEarlyWhateverComes: after any events, in any order, all that is kept is accounted for.
func TestEarlyWhateverComes(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 0))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	const clients = 4
	kinds := []proto.Kind{proto.None, http1.Kind, redis.Kind, mysql.Kind, 99}
	for range 300 {
		b := newEarlyBed(t, 2).known()
		for range 200 {
			n, copier, seq := r.IntN(clients), r.IntN(2), seqnum.Value(100+r.IntN(3)*40)
			switch r.IntN(10) {
			case 0, 1:
				b.opens(n, uint8(7+copier), seq)
			case 2, 3, 4:
				b.says(n, seq, reply)
			case 5:
				flags := []packet.Flags{packet.FIN, packet.RST, packet.FIN | packet.RST,
					packet.SYN | packet.FIN | packet.ACK}
				b.see(n, packet.Segment{Seq: seq, Ack: seqnum.Value(0x5500 + 8 + copier),
					Flags: flags[r.IntN(4)], Payload: []byte(reply[:r.IntN(40)])}, 0)
			case 6, 7:
				b.asks(copier, n, wire.Reading{Proto: kinds[r.IntN(len(kinds))], Base: seq,
					BaseKnown: r.IntN(2) == 0, Hint: proto.Hint(r.IntN(256)),
					Request: r.Uint64(), Held: r.IntN(2) == 0})
			case 8:
				b.s.release(b.peers[copier].copier.owner,
					[]wire.Tuple{{Client: earlyClient(n), Target: earlyTarget}})
			case 9:
				b.now += mono.Time(r.Int64N(int64(wire.EarlyFor)))
				b.told(copier)
			}
		}
		cost := 0
		for _, f := range b.s.answers.followed {
			cost += f.early.cost
		}
		if a := &b.s.answers; cost != a.earlyBytes || len(a.followed) > 2*clients+2 {
			t.Fatalf("%d bytes are kept, %d of %d connections", a.earlyBytes, cost, len(a.followed))
		}
		for _, p := range b.peers {
			b.s.remove(p)
		}
		if b.keepsNothing(); len(b.s.answers.followed) > 0 {
			t.Fatalf("%d connections are known of copiers that are gone", len(b.s.answers.followed))
		}
	}
}

// TestGreetingBeforeItsBase: on the first connection to a target that speaks first, the SYN-ACK
// passes before the copier's reading, and the greeting before the copier has said where the first
// byte is.
func TestGreetingBeforeItsBase(t *testing.T) {
	greeting := "\x4a\x00\x00\x00\x0a8.0.36\x00" + strings.Repeat("x", 66)
	ask := wire.Reading{Proto: mysql.Kind, Held: true}
	based := wire.Reading{Proto: mysql.Kind, Base: 100, BaseKnown: true, Held: true}
	for _, tc := range []struct {
		name string
		do   func(b *earlyBed)
		want string
	}{
		{"in two segments", func(b *earlyBed) {
			b.says(1, 100, greeting[:20])
			b.says(1, 120, greeting[20:])
			b.asks(0, 1, based)
		}, fmt.Sprintf("h20 h58 whole %q %q", greeting[:20], greeting[20:])},
		{"out of order", func(b *earlyBed) {
			b.says(1, 120, greeting[20:])
			b.asks(0, 1, based)
			b.says(1, 100, greeting[:20])
		}, "h58 confirmed lost h20"},
		{"after the base", func(b *earlyBed) {
			b.asks(0, 1, based)
			b.says(1, 100, greeting)
			b.asks(0, 1, based)
		}, fmt.Sprintf("confirmed h78 %q whole", greeting)},
		{"the SYN-ACK comes again", func(b *earlyBed) {
			b.says(1, 100, greeting)
			b.opens(1, 7, 100)
			b.asks(0, 1, based)
		}, fmt.Sprintf("h78 h0 %q whole", greeting)},
		{"the copier does not say where", func(b *earlyBed) {
			b.says(1, 100, greeting)
			b.now += mono.Time(wire.EarlyFor)
			b.says(2, 1, "")
		}, "h78 lost"},
		{"it was not captured whole", func(b *earlyBed) {
			b.see(1, packet.Segment{Seq: 100, Payload: []byte(greeting)}, 10)
			b.asks(0, 1, based)
		}, "h78 lost confirmed"},
		{"the connection is reset", func(b *earlyBed) {
			b.says(1, 100, greeting)
			b.see(1, packet.Segment{Seq: 178, Flags: packet.RST | packet.ACK}, 0)
		}, "h78 h0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newEarlyBed(t, 1)
			b.opens(1, 7, 100)
			b.asks(0, 1, ask)
			b.toldIs(0, "h0 confirmed")
			tc.do(b)
			b.toldIs(0, tc.want)
			if b.keepsNothing(); len(b.s.answers.early) > 1 {
				t.Errorf("%d connections wait", len(b.s.answers.early))
			}
		})
	}
}

// TestConfirmationsFollowHeaders: a copier with several connections receives a confirmation after
// the headers of the segments that were captured before.
func TestConfirmationsFollowHeaders(t *testing.T) {
	b := newEarlyBed(t, 1)
	b.join(7, 1)
	b.told(0)
	b.told(1)
	seen := map[int]bool{}
	for n := range 20 {
		b.opens(n, 7, 100)
		with := slices.IndexFunc(b.out, func(o *outbox) bool { return len(o.pending) > 0 })
		seen[with] = true
		b.asks(1-with, n, wire.Reading{Proto: mysql.Kind, Held: true})
		want := "h0 confirmed"
		if n > 0 {
			want = "h0 whole" // the target is read by then
		}
		b.toldIs(with, want)
		b.toldIs(1-with, "")
	}
	if len(seen) < 2 {
		t.Error("all connections have the same hash")
	}
}
