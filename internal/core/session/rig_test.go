package session

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"tcpcopy/internal/core/chunk"
	"tcpcopy/internal/core/gate"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/proto"
)

const (
	ms  = mono.Time(time.Millisecond)
	sec = mono.Time(time.Second)
)

// rig is a session between a client and a server, whose packets a test makes, and a target that the
// test plays. After each step it advances the session and checks the account.
type rig struct {
	*testing.T
	pool  chunk.Pool
	count ledger.Counters
	svc   Service
	s     Session
	now   mono.Time
	wake  mono.Time
	begun bool
	if0   int32         // where packets are captured
	deaf  bool          // streams read no answers
	waits bool          // no copy may begin
	away  ledger.Reason // why the target is away; None: it is not
	// further reports that it is not the first copy of its connection.
	further bool
	compare Comparer

	isn, irs seqnum.Value // of the client and the server
	next     int          // the client's next offset
	seen     int          // of the server's bytes
	sent     int          // by the server

	streams []*fakeStream

	watch func() // called after every step that may change the phase; nil: it is not watched
}

// fakeStream is a Stream that records what it is told.
type fakeStream struct {
	r        *rig
	spec     OpenSpec
	text     string // what was released
	taken    int
	unacked  int // of what was taken
	received uint64
	shut     bool // CloseWrite
	aborted  bool
	gone     bool
	kinds    []proto.Kind // of ReadAnswers
	hints    []string     // of Expect
}

// ReadAnswers implements AnswerReader.
func (f *fakeStream) ReadAnswers(k proto.Kind) {
	f.check("ReadAnswers")
	if len(f.text) > 0 || len(f.kinds) > 0 {
		f.r.Errorf("at %v: ReadAnswers(%v) after %q, %v", f.r.now, k, f.text, f.kinds)
	}
	f.kinds = append(f.kinds, k)
}

// Expect implements AnswerReader.
func (f *fakeStream) Expect(request uint64, h proto.Hint) {
	f.check("Expect")
	f.hints = append(f.hints, fmt.Sprintf("%d:%d behind %d", request, h, len(f.text)))
}

// deafStream is a Stream that reads no answers.
type deafStream struct{ f *fakeStream }

func (d deafStream) Release(now mono.Time, end uint64) { d.f.Release(now, end) }
func (d deafStream) CloseWrite(now mono.Time)          { d.f.CloseWrite(now) }
func (d deafStream) Abort(now mono.Time)               { d.f.Abort(now) }

func (f *fakeStream) check(what string) {
	if f.gone {
		f.r.Errorf("at %v: %s on a stream that is gone", f.r.now, what)
	}
}

func (f *fakeStream) Release(now mono.Time, end uint64) {
	f.check("Release")
	if f.shut {
		f.r.Errorf("at %v: Release after CloseWrite", now)
	}
	if end <= uint64(len(f.text)) {
		f.r.Errorf("at %v: Release(%d) after %d", now, end, len(f.text))
	}
	for uint64(len(f.text)) < end {
		v := f.spec.Record.View(uint64(len(f.text)), int(end)-len(f.text))
		if len(v) == 0 {
			f.r.Fatalf("at %v: released %d, but the record ends at %d", now, end, len(f.text))
		}
		f.text += string(v)
	}
}

func (f *fakeStream) CloseWrite(now mono.Time) {
	f.check("CloseWrite")
	if f.shut {
		f.r.Errorf("at %v: CloseWrite twice", now)
	}
	f.shut = true
}

func (f *fakeStream) Acked() uint64 {
	f.check("Acked")
	return uint64(f.taken - f.unacked)
}

func (f *fakeStream) Abort(now mono.Time) {
	f.check("Abort")
	f.aborted, f.gone = true, true
}

// Ready implements Opener: the copy waits while the target is away, or the rig is not ready.
func (r *rig) Ready(ID, mono.Time) (bool, ledger.Reason) {
	return !r.waits && r.away == ledger.None, r.away
}

func (r *rig) Open(_ mono.Time, spec *OpenSpec) Stream {
	f := &fakeStream{r: r, spec: *spec}
	r.streams = append(r.streams, f)
	if r.deaf {
		return deafStream{f}
	}
	return f
}

var (
	clientAddr     = netip.MustParseAddrPort("192.0.2.1:40000")
	productionAddr = netip.MustParseAddrPort("198.51.100.1:80")
)

// newRig returns a rig in which no packet was sent. Sequence numbers wrap soon.
func newRig(t *testing.T, change ...func(*Service)) *rig {
	r := &rig{T: t, now: 100 * sec, isn: 0xfffffff0, irs: 0xffffff00, if0: 1}
	r.svc = Service{
		Gate:     gate.NewService(gate.Config{Limit: 10 * time.Second}),
		MaxBytes: 1 << 20, Idle: 120 * time.Second, Stall: 20 * time.Second,
	}
	for _, f := range change {
		f(&r.svc)
	}
	t.Cleanup(func() {
		if !t.Failed() {
			r.end()
		}
	})
	return r
}

// fresh returns a new connection that is established in production and at the target.
func fresh(t *testing.T, change ...func(*Service)) *rig {
	r := newRig(t, change...)
	r.syn()
	r.opened()
	return r
}

// end ends the session and checks that nothing is left.
func (r *rig) end() {
	if !r.begun {
		return
	}
	if r.s.State() != Gone {
		r.s.Shutdown(r.now)
		r.settle()
	}
	if r.s.State() != Gone {
		r.Errorf("after Shutdown the state is %d", r.s.State())
	}
	r.s.Close()
	if r.pool.InUse() != 0 {
		r.Errorf("%d bytes of the pool are in use after the end", r.pool.InUse())
	}
	if n := r.count.Sessions.InFlight(); n != 0 {
		r.Errorf("%d sessions are in flight after the end", n)
	}
	if n := r.count.Bytes.InFlight(); n != 0 {
		r.Errorf("%d bytes are in flight after the end", n)
	}
	for i, f := range r.streams {
		if !f.gone {
			r.Errorf("stream %d was left open", i)
		}
	}
}

// settle advances the session and checks what must hold after every step.
func (r *rig) settle() {
	r.Helper()
	if r.watch != nil {
		r.watchAdvance()
	}
	if r.s.State() != Gone {
		r.wake = r.s.Advance(r.now)
		if r.wake <= r.now {
			r.Fatalf("at %v: Advance wants to be called at %v", r.now, r.wake)
		}
	}
	if r.s.State() != Gone {
		was, count := r.s, r.count
		again := r.s.Advance(r.now)
		if again != r.wake || !reflect.DeepEqual(was, r.s) || count != r.count {
			r.Fatalf("at %v: Advance again changes things: wakes at %v and %v,\n%+v\n%+v", r.now,
				r.wake, again, was, r.s)
		}
	} else {
		r.wake = mono.Never
	}
	r.balance()
}

// watchAdvance does what Advance does, one step at a time.
func (r *rig) watchAdvance() {
	r.watch()
	if r.s.State() == Gone {
		return
	}
	r.s.expire(r.now)
	r.watch()
	for was := r.s.phase; ; was = r.s.phase {
		r.s.act(r.now)
		r.watch()
		if r.s.phase == was || r.s.State() == Gone {
			return
		}
	}
}

func (r *rig) balance() {
	r.Helper()
	if err := r.count.Check(); err != nil {
		r.Fatalf("at %v: %v", r.now, err)
	}
	var sessions, bytes uint64
	if r.s.State() != Gone {
		bytes = r.s.reader.Next() - r.s.settled
		if r.s.phase.accounted() {
			sessions = 1
		}
	}
	if got := r.count.Sessions.InFlight(); got != sessions {
		r.Fatalf("at %v: %d sessions in flight by the ledger, %d in fact", r.now, got, sessions)
	}
	if got := r.count.Bytes.InFlight(); got != bytes {
		r.Fatalf("at %v: %d bytes in flight by the ledger, %d in fact", r.now, got, bytes)
	}
	if kept := r.s.Held(); r.s.State() != Gone && int64(kept) != r.pool.InUse() {
		r.Fatalf("at %v: the session keeps %d, of the pool are %d in use", r.now, kept,
			r.pool.InUse())
	}
}

// wait lets time pass, and advances the session when it is due.
func (r *rig) wait(d mono.Time) {
	r.Helper()
	end := r.now + d
	for i := 0; r.wake <= end; i++ {
		if i > 1000 {
			r.Fatalf("at %v: Advance wants to be called again and again", r.now)
		}
		r.now = r.wake
		r.settle()
	}
	r.now = end
	r.settle()
}

// ---- the client ----

func (r *rig) init(seg packet.Segment, midTurn bool) {
	r.begun = true
	r.s.Init(&Env{Pool: &r.pool, Count: &r.count, Opener: r,
		Compare: r.compare}, &r.svc, &OpenSpec{ID: 7,
		Client: clientAddr, Production: productionAddr, Further: r.further}, r.now, &seg, midTurn)
}

func (r *rig) fromClient(seg packet.Segment) {
	r.Helper()
	seg.Src, seg.Dst = clientAddr, productionAddr
	seg.Len = max(seg.Len, len(seg.Payload))
	if !r.begun {
		r.init(seg, false)
	}
	r.s.FromClient(r.now, &seg, r.now, r.if0)
	r.settle()
}

// seg has the client send a segment with the offset, payload, and flags in addition to ACK.
func (r *rig) seg(off int, payload string, flags packet.Flags) {
	r.Helper()
	r.fromClient(packet.Segment{Seq: r.isn.Add(1 + off), Ack: r.irs.Add(1 + r.seen),
		Flags:  packet.ACK | flags,
		Window: 500, Payload: []byte(payload)})
	r.next = max(r.next, off+len(payload))
}

func (r *rig) syn() {
	r.Helper()
	r.fromClient(packet.Segment{Seq: r.isn, Flags: packet.SYN, Window: 64240,
		Opts: packet.Options{MSS: 1460}})
	r.fromServer(packet.Segment{Seq: r.irs, Ack: r.isn + 1, Flags: packet.SYN | packet.ACK})
	r.ack()
}

func (r *rig) ack() { r.Helper(); r.seg(r.next, "", 0) }

// data has the client send the next bytes.
func (r *rig) data(payload string) { r.Helper(); r.seg(r.next, payload, packet.PSH) }

func (r *rig) fin() { r.Helper(); r.seg(r.next, "", packet.FIN) }
func (r *rig) rst() { r.Helper(); r.seg(r.next, "", packet.RST) }

// ---- the production server ----

func (r *rig) fromServer(seg packet.Segment) {
	r.Helper()
	seg.Src, seg.Dst = productionAddr, clientAddr
	r.s.FromServer(&seg, r.now)
	r.settle()
}

// says has the server send n bytes that the client has not seen yet.
func (r *rig) says(n int) {
	r.Helper()
	r.fromServer(packet.Segment{Seq: r.irs.Add(1 + r.sent), Ack: r.isn.Add(1 + r.next),
		Flags: packet.ACK, Len: n})
	r.sent += n
}

// answers has the server send n bytes, and the client acknowledge them.
func (r *rig) answers(n int) {
	r.Helper()
	r.says(n)
	r.seen = r.sent
	r.ack()
}

func (r *rig) serverAcks(off int) {
	r.Helper()
	r.fromServer(packet.Segment{Seq: r.irs.Add(1 + r.sent), Ack: r.isn.Add(1 + off),
		Flags: packet.ACK})
}

func (r *rig) serverFIN() {
	r.Helper()
	r.fromServer(packet.Segment{Seq: r.irs.Add(1 + r.sent), Ack: r.isn.Add(1 + r.next),
		Flags: packet.ACK | packet.FIN})
}

// ---- the target ----

func (r *rig) stream() *fakeStream {
	r.Helper()
	if len(r.streams) == 0 {
		r.Fatalf("at %v: there is no copy", r.now)
	}
	return r.streams[len(r.streams)-1]
}

func (r *rig) event(ev Event) {
	r.Helper()
	ev.ID, ev.At = 7, r.now
	f := r.stream()
	if f.gone {
		r.Fatalf("at %v: the test has %+v happen on a stream that is gone", r.now, ev)
	}
	if ev.Kind == Finished || ev.Kind == ResetByPeer || ev.Kind == Failed {
		f.gone = true
	}
	r.s.Handle(r.now, &ev)
	r.settle()
}

func (r *rig) opened() { r.Helper(); r.event(Event{Kind: Opened}) }

// takes has the stream take all that was released.
func (r *rig) takes() {
	r.Helper()
	f := r.stream()
	f.taken = len(f.text)
	r.event(Event{Kind: Taken, N: uint64(f.taken)})
}

// replies has the target send n bytes.
func (r *rig) replies(n int) {
	r.Helper()
	f := r.stream()
	f.received += uint64(n)
	r.event(Event{Kind: Received, N: f.received})
}

func (r *rig) targetShuts() { r.Helper(); r.event(Event{Kind: Shut}) }
func (r *rig) finishes() {
	r.Helper()
	r.event(Event{Kind: Finished,
		N: uint64(len(r.stream().text))})
}
func (r *rig) targetResets(acked int) {
	r.Helper()
	r.event(Event{Kind: ResetByPeer, N: uint64(acked)})
}

func (r *rig) fails(why ledger.Reason, acked int) {
	r.Helper()
	r.event(Event{Kind: Failed, Reason: why, N: uint64(acked)})
}

// ---- what is expected ----

// copied checks what the current copy was given.
func (r *rig) copied(text string) {
	r.Helper()
	if got := r.stream().text; got != text {
		r.Fatalf("at %v: the copy was given %q, wanted %q", r.now, got, text)
	}
}

func (r *rig) copies(n int) {
	r.Helper()
	if len(r.streams) != n {
		r.Fatalf("at %v: %d copies were begun, wanted %d", r.now, len(r.streams), n)
	}
}

func (r *rig) state(want State) {
	r.Helper()
	if r.s.State() != want {
		r.Fatalf("at %v: state %d, wanted %d", r.now, r.s.State(), want)
	}
}

// ended checks that the session is over, how its copy ended, and its account.
func (r *rig) ended(aborted bool, why ledger.Reason) {
	r.Helper()
	r.state(Gone)
	if f := r.stream(); f.aborted != aborted {
		r.Errorf("at %v: the copy was aborted: %v, wanted %v", r.now, f.aborted, aborted)
	}
	r.sessions(1, why, 1)
}

// sessions checks how many sessions were captured, and how many of these ended for a reason.
func (r *rig) sessions(captured uint64, why ledger.Reason, n uint64) {
	r.Helper()
	r.flow("sessions", &r.count.Sessions, captured, why, n)
}

func (r *rig) bytes(captured uint64, why ledger.Reason, n uint64) {
	r.Helper()
	r.flow("bytes", &r.count.Bytes, captured, why, n)
}

func (r *rig) flow(what string, f *ledger.Flow, captured uint64, why ledger.Reason, n uint64) {
	r.Helper()
	if f.Captured != captured {
		r.Errorf("at %v: %d %s captured, wanted %d", r.now, f.Captured, what, captured)
	}
	got := f.Delivered
	if why != ledger.None {
		got = f.Dropped[why]
	}
	if got != n {
		r.Errorf("at %v: %d %s %s, wanted %d (of %+v)", r.now, got, what, why, n, *f)
	}
}
