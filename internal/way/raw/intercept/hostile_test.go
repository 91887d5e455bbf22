package intercept_test

import (
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/intercept"
	"tcpcopy/internal/way/raw/route"
)

// hello is a copier's first words.
func hello(instance, slot uint8) []byte {
	h := wire.Hello{Version: wire.Version, Instance: wire.Instance{instance}, Slot: slot, Conns: 1}
	return h.Append([]byte(wire.Preface))
}

// welcomed reads the answer to a hello.
func welcomed(t testing.TB, c net.Conn) bool {
	t.Helper()
	b := make([]byte, len(wire.Preface)+wire.FrameHeader)
	if _, err := io.ReadFull(c, b); err != nil {
		t.Fatal(err)
	}
	return wire.Type(b[len(wire.Preface)]) == wire.TypeWelcome
}

// TestSlotsComeFreeWithoutSources: an intercept without sources forgets copiers all the same.
func TestSlotsComeFreeWithoutSources(t *testing.T) {
	d := start(t, func(c *intercept.Config) {
		c.Sources, c.Streams = nil, noStreams
		c.Route = route.Config{Grace: time.Nanosecond}
	})
	first := sendBytes(t, d.addr, hello(1, 9))
	if !welcomed(t, first) {
		t.Fatal("the first is refused")
	}
	first.Close()
	wait(t, "its end", func() bool {
		c := d.Snapshot().Copiers
		return len(c) == 1 && c[0].Conns == 0
	})
	if !welcomed(t, sendBytes(t, d.addr, hello(2, 9))) {
		t.Error("the slot of one who has left long ago is not given to another")
	}
}

// idleStreams does nothing.
type idleStreams struct{ closed func() }

func (idleStreams) Operations([]byte) error { return nil }

func (s idleStreams) Close() {
	if s.closed != nil {
		s.closed()
	}
}

func noStreams(*wire.Hello, *key.Holder, func([]byte) bool, func()) (
	intercept.StreamHandler, error) {
	return idleStreams{}, nil
}

// stuck is a copier's connection which does not read, and whose writer has more than the kernel
// takes.
func stuck(t *testing.T) (d *daemon, ended chan struct{}) {
	ended = make(chan struct{}, 10)
	full := make(chan struct{})
	d = start(t, func(c *intercept.Config) {
		c.Sources = nil
		c.Streams = func(_ *wire.Hello, _ *key.Holder, send func([]byte) bool, _ func()) (
			intercept.StreamHandler, error) {
			select {
			case <-full: // the second connection
			default:
				for b := make([]byte, 64<<10); send(b); {
				}
				close(full)
			}
			return idleStreams{func() { ended <- struct{}{} }}, nil
		}
	})
	sendBytes(t, d.addr, hello(1, 9))
	<-full
	return d, ended
}

// TestReplacedConnection: a connection that a newer one replaces ends soon, with its streams,
// though its writer is stuck.
func TestReplacedConnection(t *testing.T) {
	d, ended := stuck(t)
	sendBytes(t, d.addr, hello(1, 9))
	select {
	case <-ended:
	case <-time.After(4 * time.Second):
		t.Error("the streams of the connection that was replaced live on")
	}
}

// TestStuckWriterEnds: a copier that does not read does not keep the intercept from ending.
func TestStuckWriterEnds(t *testing.T) {
	d, _ := stuck(t)
	began := time.Now()
	d.stop()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("ended after %v", took)
	}
}

// TestSlowLink: a message may take longer than DeadAfter, as long as some of it arrives.
func TestSlowLink(t *testing.T) {
	d := start(t, func(c *intercept.Config) {
		c.Sources, c.Streams, c.DeadAfter = nil, noStreams, 200*time.Millisecond
	})
	c := sendBytes(t, d.addr, hello(1, 9))
	if !welcomed(t, c) {
		t.Fatal("refused")
	}
	long := wire.AppendRaw(nil, wire.TypeOperations, 0, make([]byte, 60<<10))
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for part := range slices.Chunk(long, 2<<10) { // 0.6 s
		<-tick.C
		if _, err := c.Write(part); err != nil {
			t.Fatalf("the connection was closed: %v", err)
		}
	}
	if s := d.Snapshot(); s.Conns.Dead != 0 || s.Copiers[0].Conns != 1 {
		t.Errorf("%+v", s.Conns)
	}
}

// TestCopierWithoutEnd: a copier that has the key, and then claims, asks, opens, reads and greets
// without end, makes the intercept hold no more than its bounds, and takes nothing from another
// copier.
func TestCopierWithoutEnd(t *testing.T) {
	const entries = 1 << 13
	rounds := 100
	if testing.Short() {
		rounds = 8
	}
	k := newKey(t)
	d := start(t, func(c *intercept.Config) {
		withKey(k)(c)
		c.Route = route.Config{MaxEntries: entries}
		c.Whole = func([]netip.AddrPort) error { return nil }
	})
	c := dial(t, []string{d.addr}, usingKey(k))
	ready(t, c)
	for i := range 100 {
		d.src.see(synAck(client(i), c.Slot()))
	}
	wait(t, "the other copier's connections", func() bool { return c.total() == 100 })
	keyed := func() net.Conn {
		raw, err := net.Dial("tcp", d.addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { raw.Close() })
		raw.SetDeadline(time.Now().Add(2 * deadline))
		return tls.Client(raw, key.ClientTLS(k))
	}
	for i := range 300 { // greets
		n := keyed()
		h := wire.Hello{Version: wire.Version, Instance: wire.Instance{9, byte(i), byte(i >> 8)},
			Slot: uint8(100 + i%100), Conns: 1}
		if _, err := n.Write(h.Append([]byte(wire.Preface))); err != nil {
			t.Fatal(err)
		}
		welcomed(t, n)
		n.Close()
	}
	n := keyed()
	if _, err := n.Write(hello(8, 99)); err != nil || !welcomed(t, n) {
		t.Fatal("refused", err)
	}
	go io.Copy(io.Discard, n)
	serial, tuples := uint32(0), make([]wire.Tuple, wire.MaxTuples)
	for range rounds {
		var b []byte
		for i := range tuples {
			serial++
			from := netip.AddrFrom4([4]byte{10, 200, byte(serial >> 16), byte(serial >> 8)})
			tuples[i] = wire.Tuple{Client: netip.AddrPortFrom(from, 20000+uint16(serial&0xff)),
				Target: target}
		}
		b = wire.AppendTuples(b, wire.TypeClaim, tuples)
		for i, tu := range tuples[:200] {
			b = (&wire.Query{ID: serial + uint32(i), Tuple: tu}).Append(b)
			b = (&wire.Seek{ID: serial + uint32(i), Tuple: tu}).Append(b)
			reading := wire.BeginFrame(nil, wire.TypeReadAnswers)
			reading = wire.AppendReading(reading, &wire.Reading{Proto: 1, Tuple: tu,
				Serial: serial, Base: 1, BaseKnown: true})
			b = append(b, wire.EndFrame(reading, 0)...)
		}
		if _, err := n.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	wait(t, "the last claims", func() bool {
		s := d.Snapshot().Route
		return s.Claimed+s.ClaimsRefused == uint64(rounds*len(tuples))
	})
	if s := d.Snapshot(); s.Route.Entries > entries || len(s.Copiers) > 255 {
		t.Errorf("%d entries, %d copiers", s.Route.Entries, len(s.Copiers))
	}
	for i := range 100 {
		d.src.see(data(client(i), 101, 10))
	}
	wait(t, "the other copier's answers", func() bool { return c.total() == 200 })
}
