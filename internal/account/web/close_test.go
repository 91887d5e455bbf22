package web

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"
)

// pipes is a listener of connections without any buffer.
type pipes struct {
	conns chan net.Conn
	ended chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.ended:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.ended); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// TestCloseWaitsForNobody: readers over TLS that take nothing more, not even the message that the
// connection ends, do not keep the server from closing.
func TestCloseWaitsForNobody(t *testing.T) {
	path, roots := certificate(t)
	cert, err := LoadCertificate(path)
	if err != nil {
		t.Fatal(err)
	}
	l := &pipes{conns: make(chan net.Conn), ended: make(chan struct{})}
	s := serveAt(l, Access{Token: "token", Certificate: cert}, hello)
	for range 3 {
		ours, theirs := net.Pipe()
		defer ours.Close()
		l.conns <- theirs
		c := tls.Client(ours, &tls.Config{RootCAs: roots, ServerName: "copier.example"})
		c.SetDeadline(time.Now().Add(5 * time.Second))
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	s.Close()
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("closed after %v", took)
	}
}

// TestStrangersKeepNobodyOut: connections that ask for nothing keep no reader waiting, and only so
// many are open at a time. A reader that was served before is not closed for them.
func TestStrangersKeepNobodyOut(t *testing.T) {
	s, err := Listen("127.0.0.1:0", Access{}, hello)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	at := s.Addr().String()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(5 * time.Second))
		return c
	}
	get := func(c net.Conn) error {
		if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"); err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil && resp.StatusCode != 200 {
			err = fmt.Errorf("status %d", resp.StatusCode)
		}
		return err
	}
	kept := dial()
	if err := get(kept); err != nil {
		t.Fatal(err)
	}
	for range 5 * maxReaders {
		dial()
	}
	began := time.Now()
	if err := get(dial()); err != nil {
		t.Error(err)
	}
	if err := get(kept); err != nil {
		t.Errorf("a reader that was served before: %v", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("served after %v", took)
	}
	s.readers.mu.Lock()
	defer s.readers.mu.Unlock()
	if n := len(s.readers.open); n > maxReaders {
		t.Errorf("%d connections are open, want at most %d", n, maxReaders)
	}
}
