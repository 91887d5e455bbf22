package tunnel

import (
	"errors"
	"net/netip"
	"testing"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/way"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/wire"
)

// fakeConn keeps what was put, as long as it has room.
type fakeConn struct {
	room int
	ops  []wire.Op
}

func (c *fakeConn) Put(frame []byte) bool {
	if c.room == 0 {
		return false
	}
	c.room--
	for body := frame[wire.FrameHeader:]; len(body) > 0; {
		var op wire.Op
		rest, err := wire.NextOp(body, &op)
		if err != nil {
			panic(err)
		}
		op.Data = append([]byte(nil), op.Data...)
		c.ops = append(c.ops, op)
		body = rest
	}
	return true
}

// bytes is how many data bytes of a stream were put.
func (c *fakeConn) bytes(id uint64) (n int) {
	for _, op := range c.ops {
		if op.ID == id {
			n += len(op.Data)
		}
	}
	return n
}

// zeros is a record of any length.
type zeros struct{}

func (zeros) View(off uint64, max int) []byte { return make([]byte, min(max, 1448)) }

var (
	client = netip.MustParseAddrPort("192.0.2.7:40000")
	target = netip.MustParseAddrPort("10.0.0.2:8080")
)

func clock() mono.Time { return 0 }

func spec(id session.ID) *session.OpenSpec {
	return &session.OpenSpec{ID: id, Client: client, Target: target, Record: zeros{}}
}

func events(ev ...wire.StreamEvent) (body []byte) {
	for i := range ev {
		body = wire.AppendStreamEvent(body, &ev[i])
	}
	return body
}

func TestCreditOfOneHoldsUpNoOther(t *testing.T) {
	h := NewHub[*fakeConn](1, clock)
	c := &fakeConn{room: 1 << 30}
	h.Connected(c, End{Host: target.Addr(), ReadsAnswers: true}, true)
	o := h.Output(0)
	slow, fast := o.Open(0, spec(1)), o.Open(0, spec(2))
	slow.Release(0, 10<<20)
	fast.Release(0, 100)
	o.Flush()
	if got := c.bytes(1 << shardBits); got != wire.Window {
		t.Errorf("%d bytes without credit, want %d", got, wire.Window)
	}
	fast.Release(0, 200)
	fast.CloseWrite(0)
	o.Flush()
	if got := c.bytes(2 << shardBits); got != 200 {
		t.Errorf("the other stream sent %d bytes, want 200", got)
	}
	if last := c.ops[len(c.ops)-1]; last.Kind != wire.OpCloseWrite {
		t.Errorf("last operation %v, want close-write", last.Kind)
	}
	if err := h.Events(c, events(wire.StreamEvent{Kind: wire.EventTaken, ID: 1 << shardBits,
		N: 1000})); err != nil {
		t.Fatal(err)
	}
	if ev := o.Step(0, <-o.Events()); len(ev) != 1 || ev[0].Kind != session.Taken ||
		ev[0].N != 1000 || ev[0].ID != 1 {
		t.Errorf("events %+v", ev)
	}
	o.Flush()
	if got := c.bytes(1 << shardBits); got != wire.Window+1000 {
		t.Errorf("%d bytes with 1000 more of credit, want %d", got, wire.Window+1000)
	}
}

func TestNoRoom(t *testing.T) {
	h := NewHub[*fakeConn](1, clock)
	c := &fakeConn{}
	h.Connected(c, End{Host: target.Addr(), ReadsAnswers: true}, true)
	o := h.Output(0)
	const n = 20000
	for id := range session.ID(n) {
		s := o.Open(0, spec(id))
		s.Release(0, 10)
		o.Flush()
		if id%2 == 1 {
			s.Abort(0)
		}
	}
	c.room = 1 << 30
	h.Room(c)
	o.Step(0, <-o.Events())
	o.Flush()
	opened, aborted, data := map[uint64]bool{}, 0, 0
	for _, op := range c.ops {
		switch op.Kind {
		case wire.OpOpen:
			opened[op.ID] = true
		case wire.OpAbort:
			aborted++
		case wire.OpData:
			data += len(op.Data)
		}
		if !opened[op.ID] {
			t.Fatalf("%+v before its open", op)
		}
	}
	if len(opened) != n || aborted != n/2 || data != 10*n/2 {
		t.Errorf("%d opened, %d aborted, %d bytes; want %d, %d, %d", len(opened), aborted, data, n,
			n/2, 10*n/2)
	}
}

func TestLostConnection(t *testing.T) {
	h := NewHub[*fakeConn](1, clock)
	c, other := &fakeConn{room: 1 << 30}, &fakeConn{room: 1 << 30}
	o := h.Output(0)
	o.Open(0, spec(7))
	if ev := o.Step(0, nil); len(ev) != 1 || ev[0].Reason != ledger.LinkDown {
		t.Fatalf("without a connection: %+v", ev)
	}
	h.Connected(c, End{Host: target.Addr(), ReadsAnswers: true}, true)
	h.Connected(other, End{Host: netip.MustParseAddr("10.0.0.3")}, true)
	s := o.Open(0, spec(1))
	s.Release(0, 100)
	o.Flush()
	if len(other.ops) != 0 {
		t.Error("the connection to another host was taken")
	}
	h.Connected(c, End{Host: target.Addr(), ReadsAnswers: true}, false)
	if ev := o.Step(0, <-o.Events()); len(ev) != 1 || ev[0].ID != 1 ||
		ev[0].Kind != session.Failed || ev[0].Reason != ledger.LinkDown {
		t.Errorf("after the loss: %+v", ev)
	}
	s.Release(0, 200) // a stream that has failed does nothing
	s.Abort(0)
	o.Flush()
	o.Open(0, spec(2)).Release(0, 5)
	o.Flush()
	if len(other.ops) != 2 {
		t.Errorf("the other connection got %+v", other.ops)
	}
}

func TestEventsOfAnybody(t *testing.T) {
	h := NewHub[*fakeConn](2, clock)
	c := &fakeConn{room: 1 << 30}
	h.Connected(c, End{Host: target.Addr(), ReadsAnswers: true}, true)
	o := h.Output(1)
	o.Open(0, spec(1)).Release(0, 100)
	o.Flush()
	id := uint64(1<<shardBits | 1)
	if err := h.Events(c, events(
		wire.StreamEvent{Kind: wire.EventTaken, ID: id, N: 5000}, // more than was sent
		wire.StreamEvent{Kind: wire.EventTaken, ID: 99<<shardBits | 1, N: 1},
		wire.StreamEvent{Kind: wire.EventOpened, ID: 63},
		wire.StreamEvent{Kind: wire.EventReset, ID: id, N: 5000},
		wire.StreamEvent{Kind: wire.EventReceived, ID: id, N: 5},
	)); err != nil {
		t.Fatal(err)
	}
	ev := o.Step(0, <-o.Events())
	if len(ev) != 1 || ev[0].Kind != session.ResetByPeer || ev[0].N != 100 {
		t.Errorf("events %+v, want one reset with 100 acknowledged", ev)
	}
	if err := h.Events(c, []byte{99, 1}); err == nil {
		t.Error("an unknown event is not an error")
	}
}

// TestOpenedAgain: what comes of a stream that was aborted is not taken for the next one of the
// same session.
func TestOpenedAgain(t *testing.T) {
	h := NewHub[*fakeConn](1, clock)
	c := &fakeConn{room: 1 << 30}
	h.Connected(c, End{Host: target.Addr(), ReadsAnswers: true}, true)
	o := h.Output(0)
	o.Open(0, spec(1)).Abort(0)
	s := o.Open(0, spec(1))
	s.Release(0, 100)
	o.Flush()
	first, second := c.ops[0].ID, c.ops[2].ID
	if first == second {
		t.Errorf("two streams have the number %d on the wire", first)
	}
	if err := h.Events(c, events(wire.StreamEvent{Kind: wire.EventReset, ID: first,
		N: 5})); err != nil {
		t.Fatal(err)
	}
	if ev := o.Step(0, <-o.Events()); len(ev) != 0 {
		t.Errorf("events of the first: %+v", ev)
	}
	if err := h.Events(c, events(wire.StreamEvent{Kind: wire.EventTaken, ID: second,
		N: 100})); err != nil {
		t.Fatal(err)
	}
	if ev := o.Step(0, <-o.Events()); len(ev) != 1 || ev[0].ID != 1 || ev[0].N != 100 {
		t.Errorf("events of the second: %+v", ev)
	}
}

// TestEventsOfAnotherConnection: an intercept speaks of its own streams only.
func TestEventsOfAnotherConnection(t *testing.T) {
	h := NewHub[*fakeConn](1, clock)
	c, other := &fakeConn{room: 1 << 30}, &fakeConn{room: 1 << 30}
	h.Connected(c, End{Host: target.Addr(), ReadsAnswers: true}, true)
	h.Connected(other, End{Host: netip.MustParseAddr("10.0.0.3")}, true)
	o := h.Output(0)
	o.Open(0, spec(1))
	o.Flush()
	if err := h.Events(other, events(wire.StreamEvent{Kind: wire.EventReset,
		ID: c.ops[0].ID})); err != nil {
		t.Fatal(err)
	}
	if ev := o.Step(0, <-o.Events()); len(ev) != 0 {
		t.Errorf("events %+v", ev)
	}
}

// TestNothingToSay: a stream without credit sends no empty messages.
func TestNothingToSay(t *testing.T) {
	h := NewHub[*fakeConn](1, clock)
	c := &fakeConn{room: 1 << 30}
	h.Connected(c, End{Host: target.Addr(), ReadsAnswers: true}, true)
	o := h.Output(0)
	s := o.Open(0, spec(1))
	s.Release(0, 2*wire.Window)
	o.Flush()
	before := c.room
	s.Release(0, 3*wire.Window)
	o.Flush()
	if c.room != before {
		t.Errorf("%d messages that say nothing", before-c.room)
	}
}

// TestEventsAreBounded: an intercept cannot make the copier keep as many events as it likes.
func TestEventsAreBounded(t *testing.T) {
	h := NewHub[*fakeConn](1, clock)
	c := &fakeConn{}
	h.Connected(c, End{Host: target.Addr(), ReadsAnswers: true}, true)
	var body []byte
	for len(body) < wire.MaxBody-100 {
		body = wire.AppendStreamEvent(body, &wire.StreamEvent{Kind: wire.EventOpened, ID: 0})
	}
	if err := h.Events(c, body); !errors.Is(err, wire.ErrTooLong) {
		t.Errorf("error %v, want %v", err, wire.ErrTooLong)
	}
	if n := len(h.Output(0).Events()); n != 0 {
		t.Errorf("%d batches are queued", n)
	}
}

// TestEndDelivers: the shard is woken for what an intercept has sent, takes one batch in each step,
// and learns that more are pending.
func TestEndDelivers(t *testing.T) {
	w := &Way{host: &way.Host{Now: clock}, settings: &way.Settings{}}
	e, err := w.Attach(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	c := new(link.Conn)
	w.hub.Room(c)
	w.hub.Room(c)
	select {
	case <-e.Wake():
	default:
		t.Fatal("not woken")
	}
	for left := 1; left >= 0; left-- {
		if !e.Pending() {
			t.Fatalf("nothing is pending, with %d batches to come", left+1)
		}
		e.Deliver(0, false)
		if n := len(w.hub.Output(0).batches); n != left {
			t.Errorf("%d batches are left, wanted %d", n, left)
		}
	}
	select {
	case <-e.Wake():
		t.Error("woken for nothing")
	default:
	}
}

// TestSources: copies come from tuples of their own, which are free again when they end.
func TestSources(t *testing.T) {
	h := NewHub[*fakeConn](1, clock)
	h.Connected(&fakeConn{room: 1 << 30}, End{}, true)
	o := h.Output(0)
	at := func(index int) *session.OpenSpec {
		s := spec(session.ID(index + 1))
		s.Index = index
		return s
	}
	first := o.Open(0, at(0)).(*stream[*fakeConn])
	second := o.Open(0, at(1)).(*stream[*fakeConn])
	if first.tuple.Client() != client || second.tuple.Client() == client || len(o.used) != 2 {
		t.Errorf("from %v and %v", first.tuple.Client(), second.tuple.Client())
	}
	again := o.Open(0, at(0)).(*stream[*fakeConn]) // the client's next connection
	first.Abort(0)
	if again.tuple != first.tuple || len(o.used) != 2 {
		t.Errorf("the next connection comes from %v; %d in use", again.tuple.Client(), len(o.used))
	}
	again.Abort(0)
	second.Abort(0)
	if len(o.used) != 0 {
		t.Errorf("%d tuples are in use at the end", len(o.used))
	}
	o.sources.OtherFamily = ledger.BadClientAddress
	six := at(0)
	six.Client = netip.MustParseAddrPort("[2001:db8::1]:40000")
	o.Open(0, six)
	ev := o.Step(0, nil)
	if len(ev) != 1 || ev[0].Kind != session.Failed || ev[0].Reason != ledger.BadClientAddress {
		t.Errorf("a client of another IP version: %+v", ev)
	}
}
