package sys

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"
)

func TestEpollWait(t *testing.T) {
	e, err := NewEpoll()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	evs := make([]EpollEvent, 4)
	wait := func(name string, timeout time.Duration, least time.Duration) {
		t.Helper()
		begun := time.Now()
		n, err := e.Wait(evs, timeout)
		if n != 0 || err != nil {
			t.Errorf("%s: Wait = %d, %v, wanted nothing", name, n, err)
		}
		if took := time.Since(begun); took < least {
			t.Errorf("%s: Wait ended after %v, wanted %v at least", name, took, least)
		}
	}
	e.Wake()
	wait("woken before", -1, 0)
	wait("no time", 0, 0)
	wait("a timeout", 3*time.Millisecond, 3*time.Millisecond)
	e.Wake()
	wait("woken before, with a timeout", time.Hour, 0)
	go e.Wake()
	wait("woken meanwhile", -1, 0)
	wait("a timeout after waits without one", time.Millisecond, time.Millisecond)
}

// watched is a connection from a socket of this package, which an Epoll watches, to a peer.
type watched struct {
	*Epoll
	fd   int
	peer net.Conn
	evs  []EpollEvent
}

// watchConnection connects a socket and waits until it is writable.
func watchConnection(t *testing.T) *watched {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	w := &watched{evs: make([]EpollEvent, 1)}
	if w.Epoll, err = NewEpoll(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Epoll.Close)
	if w.fd, err = OpenTCP(false); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ResetTCP(w.fd) })
	if err := ConnectTCP(w.fd, netip.MustParseAddrPort(l.Addr().String()), 0); err != nil {
		t.Fatal(err)
	}
	const tag = 0xfedcba9876543210
	if err := w.Add(w.fd, tag); err != nil {
		t.Fatal(err)
	}
	if w.peer, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.peer.Close() })
	_ = w.peer.SetDeadline(time.Now().Add(10 * time.Second))

	if ev := w.wait(t); ev.Tag() != tag || !ev.Writable() || ev.HungUp() {
		t.Fatalf("event %+v, want a writable socket", ev)
	}
	return w
}

// wait returns the next event.
func (w *watched) wait(t *testing.T) *EpollEvent {
	t.Helper()
	if n, err := w.Wait(w.evs, 10*time.Second); n != 1 || err != nil {
		t.Fatalf("Wait = %d, %v, want one event", n, err)
	}
	return &w.evs[0]
}

func TestGather(t *testing.T) {
	w := watchConnection(t)
	if got, want := LocalAddr(w.fd).String(), w.peer.RemoteAddr().String(); got != want {
		t.Errorf("LocalAddr = %s, want %s", got, want)
	}
	var g Gather
	var want []byte
	n := 0
	for ; ; n++ {
		view := bytes.Repeat([]byte{byte(n)}, n)
		if !g.Add(view) {
			break
		}
		want = append(want, view...)
	}
	if n < 64 {
		t.Errorf("room for %d views, want 64", n)
	}
	if sent, errno := g.Send(w.fd); sent != len(want) || errno != 0 {
		t.Fatalf("Send = %d, %v, want %d", sent, errno, len(want))
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(w.peer, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the peer read other bytes (%v)", err)
	}
	w.peer.Close()
	w.wait(t)
	if s := StatusTCP(w.fd); s.Over || s.Acked != uint64(1+len(want)) {
		t.Errorf("status %+v, want an open connection with %d acknowledged", s, 1+len(want))
	}
	ShutdownWrite(w.fd)
	for !StatusTCP(w.fd).Over {
		w.wait(t)
	}
	if n := Unacked(w.fd); n != 0 {
		t.Errorf("%d bytes unacknowledged, want none", n)
	}
}

func TestDiscard(t *testing.T) {
	w := watchConnection(t)
	if n, errno := Discard(w.fd, MaxDiscard); n != 0 || errno != syscall.EAGAIN {
		t.Errorf("Discard = %d, %v, want EAGAIN", n, errno)
	}
	if _, err := w.peer.Write(make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	w.peer.Close()
	total := 0
	for {
		n, errno := Discard(w.fd, MaxDiscard)
		if errno == syscall.EAGAIN {
			w.wait(t)
			continue
		}
		if errno != 0 {
			t.Fatal(errno)
		}
		if n == 0 {
			break
		}
		total += n
	}
	if total != 5000 {
		t.Errorf("%d bytes discarded, want 5000", total)
	}
	for _, b := range scrap {
		if b != 0 {
			t.Fatal("the kernel copied bytes that were to be discarded")
		}
	}
}
