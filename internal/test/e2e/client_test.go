package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// client is a connection to a server.
type client struct {
	net.Conn
	in *bufio.Reader
}

// dial connects from a host. If from is not valid, the kernel chooses the local address.
func dial(t testing.TB, host *netlab.Namespace, from netip.Addr, to netip.AddrPort) *client {
	t.Helper()
	c, err := tryDial(host, from, to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func tryDial(host *netlab.Namespace, from netip.Addr, to netip.AddrPort) (*client, error) {
	d := &net.Dialer{Timeout: patience}
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	c, err := host.Dial(context.Background(), d, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(2 * patience))
	return &client{c, bufio.NewReader(c)}, nil
}

// ask sends a line and waits for its answer.
func (c *client) ask(line string) error {
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return err
	}
	answer, err := c.in.ReadString('\n')
	if err == nil && answer != line+"\n" {
		err = fmt.Errorf("asked %.60q, and the answer is %.60q", line, answer)
	}
	return err
}

// finish closes the client's direction and waits until the server has closed the other.
func (c *client) finish() error {
	c.Conn.(*net.TCPConn).CloseWrite()
	_, err := io.Copy(io.Discard, c.in)
	return errors.Join(err, c.Close())
}

// talk opens conns connections at the same time, each of which sends lines lines in turn.
func (s *stand) talk(port uint16, name string, conns, lines int) {
	s.t.Helper()
	var all sync.WaitGroup
	for i := range conns {
		all.Go(func() {
			c, err := tryDial(s.net.Client, netlab.ClientAddr(i%4, s.ipv6),
				netip.AddrPortFrom(s.production, port))
			for n := 0; n < lines && err == nil; n++ {
				err = c.ask(fmt.Sprintf("%s connection %d line %d", name, i, n))
			}
			if err == nil {
				err = c.finish()
			}
			if err != nil {
				s.t.Errorf("client %d: %v", i, err)
			}
		})
	}
	all.Wait()
}

// short opens conns connections, 40 at a time, from each of the clients' addresses in turn. Each
// sends one line and stays open for think after the answer.
func (s *stand) short(port uint16, name string, conns int, think time.Duration) {
	s.t.Helper()
	from := func(i int) netip.Addr {
		return netlab.ClientAddr(i%max(s.setting.net.Clients, 4),
			s.ipv6)
	}
	s.shortTo(netip.AddrPortFrom(s.production, port), from, name, conns, think)
}

// shortTo is short to any server; from returns the address of the i-th connection.
func (s *stand) shortTo(to netip.AddrPort, from func(i int) netip.Addr, name string, conns int,
	think time.Duration) {
	s.t.Helper()
	var all sync.WaitGroup
	const at = 40
	for w := range at {
		all.Go(func() {
			for i := w; i < conns; i += at {
				c, err := tryDial(s.net.Client, from(i), to)
				if err == nil {
					err = c.ask(fmt.Sprintf("%s %d", name, i))
				}
				if err == nil {
					wait(think)
					err = c.finish()
				}
				if err != nil {
					s.t.Errorf("connection %d: %v", i, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// bytesOfShort returns how many bytes the connections of short send.
func bytesOfShort(name string, n int) (sum int64) {
	for i := range n {
		sum += int64(len(fmt.Sprintf("%s %d\n", name, i)))
	}
	return sum
}

// paced opens rate connections a second, conns in all, from each of the clients' addresses in turn.
// Each sends lines lines, one after the other, and stays open for think after the last answer.
func (s *stand) paced(name string, conns, rate, lines int, think time.Duration) {
	s.t.Helper()
	var all sync.WaitGroup
	begun := time.Now()
	for i := range conns {
		wait(time.Until(begun.Add(time.Duration(i) * time.Second / time.Duration(rate))))
		all.Go(func() {
			c, err := tryDial(s.net.Client, netlab.ClientAddr(i%4, s.ipv6),
				netip.AddrPortFrom(s.production, productionPort))
			for n := 0; n < lines && err == nil; n++ {
				err = c.ask(fmt.Sprintf("%s connection %d line %d", name, i, n))
			}
			if err == nil {
				wait(think)
				err = c.finish()
			}
			if err != nil {
				s.t.Errorf("%s connection %d: %v", name, i, err)
			}
		})
	}
	all.Wait()
}

// keptOpen is a set of connections to production that stay open; say sends a line on each.
type keptOpen struct {
	s    *stand
	open []*client
	n    int // lines said
}

// keepOpen opens n connections, from each of the clients' addresses in turn.
func (s *stand) keepOpen(port uint16, n int) *keptOpen {
	k := &keptOpen{s: s}
	s.t.Helper()
	to := netip.AddrPortFrom(s.production, port)
	for i := range n {
		from := netlab.ClientAddr(i%max(s.setting.net.Clients, 4), s.ipv6)
		k.open = append(k.open, dial(s.t, s.net.Client, from, to))
	}
	return k
}

// say sends a line on each connection and waits for the answer.
func (k *keptOpen) say() {
	k.s.t.Helper()
	for i, c := range k.open {
		if err := c.ask(fmt.Sprintf("keeper %d line %d", i, k.n)); err != nil {
			k.s.t.Errorf("keeper %d: %v", i, err)
		}
	}
	k.n++
}

// finish ends all connections in order.
func (k *keptOpen) finish() {
	k.s.t.Helper()
	for i, c := range k.open {
		if err := c.finish(); err != nil {
			k.s.t.Errorf("keeper %d: %v", i, err)
		}
	}
}

// bytes returns how many bytes the connections have sent.
func (k *keptOpen) bytes() (n int) {
	for i := range k.open {
		for j := range k.n {
			n += len(fmt.Sprintf("keeper %d line %d\n", i, j))
		}
	}
	return n
}

// dialFrom connects from an address and port that may be in use for connections to other servers.
// If the last connection of the two is not quite closed, it tries again: a process that another
// test starts has this one's files until it is another program.
func dialFrom(t *testing.T, host *netlab.Namespace, from, to netip.AddrPort) *client {
	t.Helper()
	d := &net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(from)}
	d.Control = func(_, _ string, raw syscall.RawConn) (err error) {
		raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET,
				syscall.SO_REUSEADDR, 1)
		})
		return err
	}
	var conn net.Conn
	var err error
	within(patience, func() bool {
		conn, err = host.Dial(context.Background(), d, "tcp", to.String())
		return !errors.Is(err, syscall.EADDRNOTAVAIL)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * patience))
	return &client{conn, bufio.NewReader(conn)}
}
