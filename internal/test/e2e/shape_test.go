package e2e

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"tcpcopy/internal/lab/netlab"
	"tcpcopy/internal/sys"
)

// ending is how a server saw a connection end.
type ending struct {
	text string // all that came
	how  string // "closed", "reset", or "died": the server reset it
}

// listener takes connections, reads them to their end, and answers each line. It closes first after
// a line "bye", and resets after a line "die".
type listener struct {
	mu   sync.Mutex
	ends []string
}

func listen(t *testing.T, host *netlab.Namespace, port int) *listener {
	t.Helper()
	s := new(listener)
	accept(t, host, onPort(port), func(c net.Conn) { s.talk(c.(*net.TCPConn)) })
	return s
}

func (s *listener) talk(c *net.TCPConn) {
	var e ending
	b := make([]byte, 64<<10)
	for {
		n, err := c.Read(b)
		e.text += string(b[:n])
		switch {
		case err == io.EOF:
			e.how = "closed"
		case err != nil:
			e.how = "reset"
		case strings.HasSuffix(e.text, "die\n"):
			// With this answer the other side hears that all has come. A reset may overtake a mere
			// acknowledgment: each processor sends by itself.
			c.Write(b[:n])
			awaitAcknowledged(c)
			c.SetLinger(0)
			e.how = "died"
		case strings.HasSuffix(e.text, "bye\n"):
			c.Write(b[:n])
			c.CloseWrite()
			continue
		case strings.HasSuffix(e.text, "\n"):
			c.Write(b[:n])
		}
		if e.how != "" {
			// what comes after the client's end
			if e.how == "closed" && strings.HasPrefix(e.text, "half") {
				c.Write([]byte("late answer\n"))
			}
			s.mu.Lock()
			s.ends = append(s.ends, fmt.Sprintf("%s %.40q (%d)", e.how, e.text, len(e.text)))
			s.mu.Unlock()
			return
		}
	}
}

// awaitAcknowledged waits until the other side has acknowledged what was written, or has reset the
// connection.
func awaitAcknowledged(c *net.TCPConn) {
	within(patience, func() (done bool) {
		raw, err := c.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) {
				done = sys.Unacked(int(fd)) == 0 || sys.StatusTCP(int(fd)).Over
			})
		}
		return done || err != nil
	})
}

func (s *listener) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ends)
}

// reset closes the connection with a reset.
func (c *client) reset() {
	c.Conn.(*net.TCPConn).SetLinger(0)
	c.Close()
}

// shapes are ways in which a connection can be used and end.
var shapes = []struct {
	name string
	play func(c *client) error
	may  string // a reason for which sessions may count as dropped
}{
	{"connect and close", func(c *client) error { return c.finish() }, ""},
	{"connect and reset", func(c *client) error { c.reset(); return nil }, ""},
	{"ask and close", func(c *client) error {
		if err := c.ask("hello"); err != nil {
			return err
		}
		return c.finish()
	}, ""},
	{"ask and reset", func(c *client) error {
		err := c.ask("hello")
		c.reset()
		return err
	}, ""},
	{"half-close, and hear an answer", func(c *client) error {
		io.WriteString(c, "half")
		c.Conn.(*net.TCPConn).CloseWrite()
		answer, err := io.ReadAll(c.in)
		if string(answer) != "late answer\n" {
			return fmt.Errorf("the answer after the end is %q, %v", answer, err)
		}
		return nil
	}, ""},
	{"the server closes first", func(c *client) error {
		if err := c.ask("bye"); err != nil {
			return err
		}
		return c.finish()
	}, ""},
	{"the server resets", func(c *client) error {
		io.WriteString(c, "die\n")
		io.Copy(io.Discard, c.in)
		return nil
	}, "target_reset"},
	{"a large upload, and close", func(c *client) error {
		if _, err := c.Write(append(noiseText(300_000), '\n')); err != nil {
			return err
		}
		if _, err := c.in.ReadString('\n'); err != nil {
			return err
		}
		return c.finish()
	}, ""},
}

// TestShapes checks that connections are opened, half-closed, closed and reset at the target as at
// production.
func TestShapes(t *testing.T) {
	t.Parallel()
	const conns = 30
	for i, shape := range shapes {
		t.Run(shape.name, func(t *testing.T) {
			inTurn(t, i, func(t *testing.T, way string) {
				t.Parallel()
				s := newStand(t, setting{way: way})
				production, target := listen(t, s.net.Production, productionPort), listen(t,
					s.net.Target, targetPort)
				c := s.copyPair()
				for i := range conns {
					cl := dial(t, s.net.Client, netlab.ClientAddr(i%4, false),
						netip.AddrPortFrom(s.production, productionPort))
					if err := shape.play(cl); err != nil {
						t.Fatal(err)
					}
					cl.Close()
				}
				eventually(t, "production sees all ends",
					func() bool { return production.count() == conns })
				within(patience/6, func() bool { return target.count() == conns })
				r := c.end()
				expectSame(t, "ends of connections", sorted(target.ends), sorted(production.ends))
				// A target that resets as production does is not told from one that resets on its
				// own.
				if done := r.Sessions.Delivered + r.Sessions.Dropped[shape.may]; done != conns ||
					r.Sessions.Captured != conns {
					t.Errorf("sessions %+v, wanted %d delivered", r.Sessions, conns)
				}
				if len(r.Bytes.Dropped) > 0 {
					t.Errorf("bytes %+v, wanted all delivered", r.Bytes)
				}
			})
		})
	}
}

// TestResetWithoutAcknowledgment has the target reset connections, and its acknowledgments of what
// it had read get lost. The copier does not know that it had: the bytes were reset.
func TestResetWithoutAcknowledgment(t *testing.T) {
	t.Parallel()
	const conns, line = 5, "one line"
	s := newStand(t, setting{way: socket})
	listen(t, s.net.Production, productionPort)
	accept(t, s.net.Target, onPort(targetPort), func(c net.Conn) {
		io.ReadFull(c, make([]byte, len(line)+1))
		c.(*net.TCPConn).SetLinger(0)
	})
	const headers = 52 // of IP and TCP, with a time stamp
	if err := commands(s.net.Target, "nft add table ip lossy",
		"nft add chain ip lossy out { type filter hook output priority 0 ; }",
		fmt.Sprintf("nft add rule ip lossy out tcp sport %d tcp flags == ack ip length <= %d drop",
			targetPort, headers)); err != nil {
		t.Fatal(err)
	}
	c := s.copyPair("--stats", "50ms")
	for i := range conns {
		cl := dial(t, s.net.Client, netlab.ClientAddr(i%4, false),
			netip.AddrPortFrom(s.production, productionPort))
		if err := cl.ask(line); err != nil {
			t.Fatal(err)
		}
		defer cl.Close()
	}
	const why = "target_reset"
	eventually(t, "all were reset", func() bool {
		r := c.progress()
		return r != nil && r.Sessions.Dropped[why] == conns
	})
	r := c.end()
	if n := r.Bytes.Dropped[why]; r.Bytes.Captured != n || n != conns*uint64(len(line)+1) {
		t.Errorf("bytes %+v, wanted all reset", r.Bytes)
	}
	if n := r.Sessions.Dropped[why]; r.Sessions.Captured != n || n != conns {
		t.Errorf("sessions %+v, wanted all reset", r.Sessions)
	}
}

// noiseText is bytes without a line's end.
func noiseText(n int) []byte {
	b := noise(5, n)
	for i := range b {
		b[i] = 'a' + b[i]%26
	}
	return b
}
