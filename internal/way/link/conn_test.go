package link

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/way/link/wire"
)

// served starts an intercept that sends nothing after its welcome, and a link to it.
func served(t *testing.T, cfg Config, serve func(net.Conn)) *Link {
	t.Helper()
	return offering(t, cfg, 0, serve)
}

// offering is served by an intercept with these capabilities.
func offering(t *testing.T, cfg Config, offers wire.Capabilities, serve func(net.Conn)) *Link {
	t.Helper()
	// A pipe holds nothing: what is written has been read.
	cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
		near, far := net.Pipe()
		go func() {
			defer far.Close()
			b := make([]byte, 64<<10)
			if _, err := far.Read(b); err != nil { // the hello
				return
			}
			w := wire.Welcome{Version: wire.Version, Way: wire.WayTunnel, Slot: 1,
				Capabilities: offers}
			if _, err := far.Write(w.Append([]byte(wire.Preface))); err == nil {
				serve(far)
			}
		}()
		return near, nil
	}
	cfg.Log = slog.New(slog.DiscardHandler)
	l := Dial("somewhere", NewSlot(), cfg)
	t.Cleanup(l.Close)
	return l
}

// TestReadyWhenTold: WaitReady does not return before the callbacks that tell of the link. A copy
// that was opened in between would find no link.
func TestReadyWhenTold(t *testing.T) {
	telling, tell := make(chan string), make(chan struct{})
	halt := func(what string, up bool) {
		if up {
			telling <- what
			<-tell
		}
	}
	l := served(t, Config{
		OnState:   func(s State) { halt("state", s.Up) },
		OnStreams: func(_ *Conn, up bool) { halt("streams", up) },
	}, func(c net.Conn) { io.Copy(io.Discard, c) })
	for _, want := range []string{"state", "streams"} {
		if got := within(t, want, telling); got != want {
			t.Fatalf("told of the %s, want the %s", got, want)
		}
		select {
		case <-l.ready:
			t.Errorf("the link is ready, and its %s is not told", want)
		default:
		}
		tell <- struct{}{}
	}
	if err := l.WaitReady(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestSlowPeer: a connection lives as long as the peer accepts something now and then.
func TestSlowPeer(t *testing.T) {
	shortWrites(t, 300*time.Millisecond)
	up, lost := make(chan *Conn, 1), make(chan struct{}, 1)
	took := make(chan int, 1)
	const size = 400 << 10
	cfg := Config{DeadAfter: time.Minute, PingEvery: time.Minute,
		BackoffLo: time.Minute, BackoffHi: time.Minute}
	cfg.OnStreams = func(c *Conn, isUp bool) {
		if isUp {
			up <- c
		} else {
			lost <- struct{}{}
		}
	}
	served(t, cfg, func(c net.Conn) {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		n, b := 0, make([]byte, 24<<10)
		for n < size {
			<-tick.C
			m, err := c.Read(b)
			n += m
			if err != nil {
				break
			}
		}
		took <- n
		_, _ = io.Copy(io.Discard, c)
	})
	if !(<-up).Put(make([]byte, size)) {
		t.Fatal("no room")
	}
	if n := <-took; n < size {
		t.Errorf("%d bytes arrived, want %d: the link gave up", n, size)
	}
	select {
	case <-lost:
		t.Error("the connection is lost")
	default:
	}
}

// unwritten returns a connection whose queue nobody writes.
func unwritten(limit int) *Conn {
	return &Conn{Endpoint: newEndpoint(nil, "", &Options{Queue: limit})}
}

// TestSecondConnectionServes: when the first connection of a link has ended, the second takes over.
func TestSecondConnectionServes(t *testing.T) {
	l := newLink("nowhere", NewSlot(), Config{Queue: 100})
	dead, live := unwritten(100), unwritten(100)
	dead.out.ended = true
	l.up = []*Conn{dead, live}
	if !l.Claim([]wire.Tuple{{}}) {
		t.Error("the claim went nowhere")
	}
	if len(live.out.pending) == 0 {
		t.Error("the claim is not queued")
	}
	full := unwritten(100)
	full.out.pending = make([]byte, 101)
	l.up = []*Conn{full, live}
	if l.Claim([]wire.Tuple{{}}) {
		t.Error("a claim has overtaken those that wait on the first connection")
	}
}

// TestCloseDespiteStuckPeer: a peer that reads nothing does not keep the link from closing.
func TestCloseDespiteStuckPeer(t *testing.T) {
	up, over := make(chan *Conn, 1), make(chan struct{})
	defer close(over)
	l := served(t, Config{PingEvery: time.Minute, OnStreams: func(c *Conn, isUp bool) {
		if isUp {
			up <- c
		}
	}}, func(c net.Conn) { <-over })
	c := <-up
	for b := make([]byte, 64<<10); c.Put(b); {
	}
	began := time.Now()
	l.Close()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("closed after %v", took)
	}
}

// TestAllClaimsFit: a copier with as many sessions as it may have can claim them all at once.
func TestAllClaimsFit(t *testing.T) {
	cfg := Config{Log: slog.New(slog.DiscardHandler)}
	cfg.defaults()
	l := newLink("nowhere", NewSlot(), cfg)
	l.up = []*Conn{unwritten(cfg.Queue)}
	a := netip.MustParseAddrPort("[fd00::1]:1")
	all := make([]wire.Tuple, 262144)
	for i := range all {
		all[i] = wire.Tuple{Client: a, Target: a}
	}
	if !l.Claim(all) {
		t.Error("not all claims found room")
	}
}

// TestNoDigests: an intercept that makes no digests, or does not say so, is refused by name by a
// copier that compares answers, and by no other.
func TestNoDigests(t *testing.T) {
	for _, wants := range []bool{false, true} {
		l := served(t, Config{Digests: wants, Seed: 7},
			func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
		err := l.WaitReady(t.Context())
		if wants != errors.Is(err, ErrOld) || !wants && err != nil || l.State().Fatal != wants {
			t.Errorf("with digests %v: %v", wants, err)
		}
		if wants && !strings.Contains(err.Error(), "somewhere: the intercept there, ") {
			t.Errorf("%v does not say what is wrong", err)
		}
	}
}

// An intercept that makes digests and knows no names is refused where something is named.
func TestNoNames(t *testing.T) {
	for _, c := range []struct {
		wanted proto.Wanted
		offers wire.Capabilities
		fails  bool
	}{
		{proto.Wanted{}, wire.Digests, false},
		{proto.Wanted{Values: []string{"body.name"}}, wire.Digests, true},
		{proto.Wanted{Headers: []string{"vary"}}, wire.Digests, true},
		{proto.Wanted{Headers: []string{"vary"}}, wire.Digests | wire.Names, false},
	} {
		l := offering(t, Config{Digests: true, Seed: 7, Wanted: c.wanted}, c.offers,
			func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
		err := l.WaitReady(t.Context())
		if c.fails != errors.Is(err, ErrOld) || !c.fails && err != nil ||
			c.fails && !strings.Contains(err.Error(), "no --show, --tolerance and --headers") {
			t.Errorf("%+v, offered %b: %v", c.wanted, c.offers, err)
		}
	}
}
