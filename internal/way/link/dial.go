package link

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"tcpcopy/internal/sys"
	"tcpcopy/internal/way/link/wire"
)

const (
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 5 * time.Second
)

// Dialer makes the end of a connection that connects.
type Dialer struct {
	Options
	Addr string // host:port
	// Dial connects; nil: TCP, from this process's network namespace.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// What errors say. Peer is what is to answer: "intercept". Wanted is the same in full, where
	// another program answers. Keyless is what connects without a key.
	Peer, Wanted, Keyless string
}

// Connect connects, proves the key, sends the hello, which appends itself as a frame, and returns
// the endpoint, not yet started, and the peer's answer, a frame of type welcome, whose body is
// valid until the first Receive. Errors do not name the address.
func (d *Dialer) Connect(ctx context.Context, hello func([]byte) []byte, welcome wire.Type) (
	*Endpoint, wire.Frame, error) {
	dial := d.Dial
	if dial == nil {
		dial = (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext // TCP_NODELAY is Go's default
	}
	dialing, cancel := context.WithTimeout(ctx, dialTimeout)
	raw, err := dial(dialing, "tcp", d.Addr)
	cancel()
	if err != nil {
		return nil, wire.Frame{}, err
	}
	raw = sys.NewStream(raw)
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	raw.SetDeadline(time.Now().Add(handshakeTimeout))
	e := newEndpoint(raw, d.Peer, &d.Options)
	f, err := d.greet(e, hello, welcome)
	if err != nil {
		e.Close()
		return nil, wire.Frame{}, err
	}
	return e, f, nil
}

// greet proves the key and introduces this end.
func (d *Dialer) greet(e *Endpoint, hello func([]byte) []byte, welcome wire.Type) (
	wire.Frame, error) {
	if d.TLS != nil {
		t := tls.Client(e.raw, d.TLS)
		if err := t.Handshake(); err != nil {
			return wire.Frame{}, d.explain(err)
		}
		e.conn = t
	}
	if _, err := e.conn.Write(hello([]byte(wire.Preface))); err != nil {
		return wire.Frame{}, d.explain(err)
	}
	f, err := e.next(0)
	if err != nil {
		return f, d.explain(err)
	}
	switch f.Type {
	case welcome:
		e.in.Introduced()
		return f, nil
	case wire.TypeRefuse:
		return f, d.refused(f.Body)
	case wire.TypeBye:
		return f, errors.New("the " + d.Peer + " is shutting down")
	}
	return f, fmt.Errorf("greet: got %v, want %v", f.Type, welcome)
}

// Backoff chooses how long to wait before the next attempt to connect: longer after each failure,
// and at random, so that many ends do not come at once.
type Backoff struct {
	Low, High time.Duration // bounds, before chance takes up to half
	current   time.Duration
}

// Next returns the wait after a connection that lasted for lived; 0: there was none.
func (b *Backoff) Next(lived time.Duration) time.Duration {
	if b.current == 0 || lived > 2*b.High {
		b.current = b.Low
	}
	half := int(b.current / 2)
	b.current = min(2*b.current, b.High)
	return time.Duration(half + random(0, half))
}

// Sleep waits for d, or until ctx is done.
func Sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// random returns a number from low to high, at least 0.
func random(low, high int) int {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return low + int(binary.NativeEndian.Uint64(b[:])%uint64(high-low+1))
}

// NewInstance names a run of a copier or an agent, at random.
func NewInstance() (id wire.Instance) {
	rand.Read(id[:])
	return id
}
