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

func TestGatherAndDiscard(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	e, err := NewEpoll()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	fd, err := OpenTCP(false)
	if err != nil {
		t.Fatal(err)
	}
	defer ResetTCP(fd)
	if err := ConnectTCP(fd, netip.MustParseAddrPort(l.Addr().String()), 0); err != nil {
		t.Fatal(err)
	}
	const tag = 0xfedcba9876543210
	if err := e.Add(fd, tag); err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	_ = peer.SetDeadline(time.Now().Add(10 * time.Second))

	evs := make([]EpollEvent, 1)
	if n, err := e.Wait(evs, 10*time.Second); n != 1 || err != nil || evs[0].Tag() != tag || !evs[0].Writable() || evs[0].HungUp() {
		t.Fatalf("Wait = %d, %v: %+v, wanted one writable socket", n, err, evs[0])
	}
	if got, want := LocalAddr(fd).String(), peer.RemoteAddr().String(); got != want {
		t.Errorf("LocalAddr = %s, wanted %s", got, want)
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
		t.Errorf("room for %d views, wanted 64", n)
	}
	if sent, errno := g.Send(fd); sent != len(want) || errno != 0 {
		t.Fatalf("Send = %d, %v, wanted %d", sent, errno, len(want))
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(peer, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("the peer read something else (%v)", err)
	}

	if n, errno := Discard(fd, MaxDiscard); n != 0 || errno != syscall.EAGAIN {
		t.Errorf("Discard = %d, %v, wanted EAGAIN", n, errno)
	}
	if _, err := peer.Write(make([]byte, 5000)); err != nil {
		t.Fatal(err)
	}
	peer.Close()
	total := 0
	for {
		n, errno := Discard(fd, MaxDiscard)
		if errno == syscall.EAGAIN {
			if n, err := e.Wait(evs, 10*time.Second); n != 1 || err != nil {
				t.Fatalf("Wait = %d, %v, wanted one", n, err)
			}
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
		t.Errorf("%d bytes discarded, wanted 5000", total)
	}
	for _, b := range scrap {
		if b != 0 {
			t.Fatal("the kernel copied what was to be discarded")
		}
	}
	if s := StatusTCP(fd); s.Over || s.Acked != uint64(1+len(want)) {
		t.Errorf("status %+v, wanted an open connection with %d acknowledged", s, 1+len(want))
	}
	ShutdownWrite(fd)
	for !StatusTCP(fd).Over {
		if n, err := e.Wait(evs, 10*time.Second); n != 1 || err != nil {
			t.Fatalf("Wait = %d, %v, wanted the end", n, err)
		}
	}
	if n := Unacked(fd); n != 0 {
		t.Errorf("%d bytes unacknowledged, wanted none", n)
	}
}
