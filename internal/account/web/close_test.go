package web

import (
	"crypto/tls"
	"net"
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
