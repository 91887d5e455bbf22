package shard

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"
	"unsafe"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/way/raw/tcp"
)

// quietOpener's streams take everything and keep nothing: what a socket costs is not the shard's.
type quietOpener struct{ events []session.Event }

type quietStream struct {
	o  *quietOpener
	id session.ID
}

func (o *quietOpener) Open(_ mono.Time, spec *session.OpenSpec) session.Stream {
	o.events = append(o.events, session.Event{ID: spec.ID, Kind: session.Opened})
	return &quietStream{o, spec.ID}
}

func (s *quietStream) Release(_ mono.Time, end uint64) {
	s.o.events = append(s.o.events, session.Event{ID: s.id, Kind: session.Taken, N: end},
		session.Event{ID: s.id, Kind: session.Received, N: end})
}
func (s *quietStream) CloseWrite(mono.Time) {}
func (s *quietStream) Abort(mono.Time)      {}

// load is a shard with many established sessions, raw or not, each of which has had an exchange.
type load struct {
	sh      *Shard
	now     mono.Time
	opener  *quietOpener
	in      Input
	payload []byte
	clients []loadClient
}

type loadClient struct {
	addr            netip.AddrPort
	sent, seen      int
	isn, irs        seqnum.Value // of the copy: what the target has seen, and what it says
	copySent, heard int
}

func newLoad(raw bool, n int) *load {
	l := &load{now: 100 * sec, payload: make([]byte, 100), clients: make([]loadClient, n)}
	cfg := Config{Services: []*Service{serviceFor(target)}, Count: 1, MaxSessions: n,
		MaxMemory: 1 << 32}
	if raw {
		rawConfig(&cfg)
		cfg.Raw.Congestion = tcp.BBR // the dearest
	} else {
		l.opener = &quietOpener{}
		cfg.Opener = l.opener
	}
	cfg.Services[0].Session.Idle = 24 * time.Hour
	l.sh = New(cfg)
	l.sh.SetLink(true, 7)
	for i := range l.clients {
		c := &l.clients[i]
		c.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), uint16(1024+i%60000))
		l.client(c, packet.Segment{Seq: 1000, Flags: packet.SYN, Opts: packet.Options{MSS: 1460, SACKPermitted: true, HasTS: true, HasWScale: true, WScale: 7}})
		l.step()
		if raw {
			syn := l.sh.Output()[0]
			c.isn, c.irs = syn.Seq+1, 9001
			l.target(c, packet.Segment{Seq: 9000, Ack: c.isn, Flags: packet.SYN | packet.ACK, Opts: packet.Options{MSS: 1460,
				SACKPermitted: true, HasTS: true, TSVal: 1, TSEcr: syn.Opts.TSVal, HasWScale: true, WScale: 7}})
			l.step()
		}
		l.request(c)
		l.answer(c)
		l.now += mono.Time(10 * 1000)
	}
	return l
}

func (l *load) client(c *loadClient, seg packet.Segment) {
	seg.Src, seg.Dst, seg.Window, seg.Len = c.addr, production, 1000, len(seg.Payload)
	l.in.Packets = append(l.in.Packets, Packet{Seg: seg, At: l.now, Ifindex: 1})
}

func (l *load) target(c *loadClient, seg packet.Segment) {
	seg.Src, seg.Dst, seg.Window = target, c.addr, 60000
	l.in.Feedback = append(l.in.Feedback, seg)
}

func (l *load) step() {
	l.sh.Step(l.now, &l.in)
	l.in.Packets, l.in.Feedback, l.in.Events = l.in.Packets[:0], l.in.Feedback[:0], l.in.Events[:0]
	if l.opener != nil {
		for len(l.opener.events) > 0 {
			l.in.Events = append(l.in.Events, l.opener.events...)
			l.opener.events = l.opener.events[:0]
			l.sh.Step(l.now, &l.in)
			l.in.Events = l.in.Events[:0]
		}
	}
}

// request is the client's next turn, sent when it has seen the answer to the last.
func (l *load) request(c *loadClient) (sent bool) {
	l.client(c, packet.Segment{Seq: seqnum.Value(1001 + c.sent), Ack: seqnum.Value(5001 + c.seen), Flags: packet.ACK | packet.PSH, Payload: l.payload})
	c.sent += len(l.payload)
	l.step()
	c.seen += len(l.payload)
	for _, s := range l.sh.Output() {
		sent = sent || s.Len == len(l.payload)
	}
	return sent
}

// answer is the target's answer, with its acknowledgment.
func (l *load) answer(c *loadClient) {
	if l.opener != nil {
		return
	}
	c.copySent += len(l.payload)
	l.target(c, packet.Segment{Seq: c.irs.Add(c.heard), Ack: c.isn.Add(c.copySent), Flags: packet.ACK | packet.PSH, Len: len(l.payload),
		Opts: packet.Options{HasTS: true, TSVal: 1}})
	c.heard += len(l.payload)
	l.step()
}

// BenchmarkStepRaw is an exchange: a captured request that goes to the target in the same step, and the
// step that takes the target's answer.
func BenchmarkStepRaw(b *testing.B) {
	for _, sessions := range []int{1, 1000, 20000} {
		b.Run(fmt.Sprint("sessions=", sessions), func(b *testing.B) {
			l := newLoad(true, sessions)
			i := 0
			for range 3 * sessions { // until the lengths of answers are known
				c := &l.clients[i%sessions]
				l.request(c)
				l.now += 25 * ms
				l.step()
				l.answer(c)
				i++
			}
			b.ReportAllocs()
			late := 0
			var toTarget time.Duration
			for b.Loop() {
				c := &l.clients[i%sessions]
				i++
				l.now += mono.Time(50 * 1000)
				start := time.Now()
				sent := l.request(c)
				toTarget += time.Since(start)
				if !sent {
					late++
				}
				l.answer(c)
			}
			b.ReportMetric(float64(toTarget.Nanoseconds())/float64(b.N), "ns/request")
			if late > 0 {
				b.Errorf("%d of %d requests did not go at once", late, b.N)
			}
		})
	}
}

func BenchmarkStepSocket(b *testing.B) {
	l := newLoad(false, 1000)
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		l.now += mono.Time(50 * 1000)
		l.request(&l.clients[i%1000])
		i++
	}
}

// A session that is idle costs little: the heap holds at most 2 KB for it.
func TestIdleSessionsAreSmall(t *testing.T) {
	n := 100_000
	if testing.Short() {
		n = 10_000
	}
	for _, raw := range []bool{false, true} {
		heap := func() uint64 {
			runtime.GC()
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.HeapAlloc
		}
		before := heap()
		l := newLoad(raw, n)
		clients := uint64(n) * uint64(unsafe.Sizeof(loadClient{}))
		each := (heap() - before - clients) / uint64(n)
		if l.sh.Live() != n {
			t.Fatalf("%d sessions live, wanted %d", l.sh.Live(), n)
		}
		t.Logf("raw=%v: %d bytes for each of %d idle sessions", raw, each, n)
		if each > 2048 {
			t.Errorf("raw=%v: an idle session costs %d bytes, wanted at most 2048", raw, each)
		}
		runtime.KeepAlive(l)
	}
	var r rawStream
	var e entry
	t.Logf("an entry has %d bytes, of which the session %d; a connection %d, of which TCP %d", unsafe.Sizeof(e), unsafe.Sizeof(e.Session),
		unsafe.Sizeof(r), unsafe.Sizeof(r.conn))
}
