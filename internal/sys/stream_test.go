package sys

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

// streams returns the two ends of a connection over loopback.
func streams(t testing.TB) (a, b net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	d, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	a, b = NewStream(c), NewStream(d)
	t.Cleanup(func() { a.Close(); b.Close() })
	if _, ok := a.(*Stream); !ok {
		t.Fatalf("a TCP connection became a %T", a)
	}
	return a, b
}

// TestStreamCarriesBytes sends more than the kernel's buffers hold, so that both sides have to
// wait.
func TestStreamCarriesBytes(t *testing.T) {
	a, b := streams(t)
	want := make([]byte, 32<<20)
	for i := range want {
		want[i] = byte(i ^ i>>8 ^ i>>16)
	}
	wrote := make(chan error, 1)
	go func() {
		n, err := a.Write(want)
		if err == nil && n != len(want) {
			err = io.ErrShortWrite
		}
		wrote <- errors.Join(err, a.(*Stream).CloseWrite())
	}()
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v; want the %d that were written", len(got), err, len(want))
	}
	if err := <-wrote; err != nil {
		t.Error("write:", err)
	}
	// The other direction is open still.
	if _, err := b.Write([]byte("answer")); err != nil {
		t.Error(err)
	}
	buf := make([]byte, 10)
	if n, err := a.Read(buf); err != nil || string(buf[:n]) != "answer" {
		t.Errorf("read %q, %v", buf[:n], err)
	}
	if n, err := a.Read(nil); n != 0 || err != nil {
		t.Errorf("reading nothing: %d, %v", n, err)
	}
}

func TestStreamErrors(t *testing.T) {
	for _, test := range []struct {
		name string
		do   func(a, b net.Conn) error
		want error
	}{
		{"read after the deadline", func(a, _ net.Conn) error {
			a.SetReadDeadline(time.Unix(1, 0))
			_, err := a.Read(make([]byte, 1))
			return err
		}, os.ErrDeadlineExceeded},
		{"write after the deadline", func(a, _ net.Conn) error {
			a.SetWriteDeadline(time.Unix(1, 0))
			_, err := a.Write(make([]byte, 1))
			return err
		}, os.ErrDeadlineExceeded},
		{"deadline while the peer does not read", func(a, _ net.Conn) error {
			a.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
			_, err := a.Write(make([]byte, 64<<20))
			return err
		}, os.ErrDeadlineExceeded},
		{"read of what was closed here", func(a, _ net.Conn) error {
			a.Close()
			_, err := a.Read(make([]byte, 1))
			return err
		}, net.ErrClosed},
		{"closed while it is read", func(a, _ net.Conn) error {
			go a.Close()
			_, err := a.Read(make([]byte, 1))
			return err
		}, net.ErrClosed},
		{"read after a reset", func(a, b net.Conn) error {
			b.(*Stream).Conn.(*net.TCPConn).SetLinger(0)
			b.Close()
			_, err := a.Read(make([]byte, 1))
			return err
		}, syscall.ECONNRESET},
		{"read after the end", func(a, b net.Conn) error {
			b.Close()
			_, err := a.Read(make([]byte, 1))
			return err
		}, io.EOF},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, b := streams(t)
			err := test.do(a, b)
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			var timeout net.Error
			if is := errors.As(err, &timeout) &&
				timeout.Timeout(); is != (test.want == os.ErrDeadlineExceeded) {
				t.Errorf("%v is a timeout: %v", err, is)
			}
		})
	}
}

func TestStreamOfOtherConnections(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if NewStream(a) != a {
		t.Error("a pipe was wrapped")
	}
}

func TestStreamAllocatesNothing(t *testing.T) {
	a, b := streams(t)
	out, in := make([]byte, 100), make([]byte, 100)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := a.Write(out); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(b, in); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations for a write and a read", n)
	}
}
