package intercept_test

import (
	"io"
	"net"
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
