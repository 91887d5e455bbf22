package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// service is a server of lines: it answers each line with the same line, and remembers all of them.
type service struct {
	t testing.TB
	l net.Listener

	mu       sync.Mutex
	opened   int
	bytes    int64
	lines    []string // with the connection's serial before each
	times    []time.Time
	peers    []netip.AddrPort
	accepts  []time.Time
	open     map[net.Conn]struct{}
	conns    sync.WaitGroup
	accepted chan struct{}
}

// serve starts a service on a host; address is an address to listen on with its port.
func serve(t testing.TB, host *netlab.Namespace, address string) *service {
	t.Helper()
	l, err := host.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &service{t: t, l: l, open: map[net.Conn]struct{}{}, accepted: make(chan struct{})}
	go s.accept()
	t.Cleanup(s.close)
	return s
}

func (s *service) accept() {
	defer close(s.accepted)
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.opened++
		id := s.opened
		p := c.RemoteAddr().(*net.TCPAddr).AddrPort()
		s.peers = append(s.peers, netip.AddrPortFrom(p.Addr().Unmap(), p.Port()))
		s.accepts = append(s.accepts, time.Now())
		s.open[c] = struct{}{}
		s.mu.Unlock()
		s.conns.Go(func() {
			s.talk(c, id)
			c.Close()
			s.mu.Lock()
			delete(s.open, c)
			s.mu.Unlock()
		})
	}
}

func (s *service) talk(c net.Conn, id int) {
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadString('\n')
		s.mu.Lock()
		s.bytes += int64(len(line))
		if line != "" {
			s.lines = append(s.lines, fmt.Sprintf("%d %s", id, strings.TrimSuffix(line, "\n")))
			s.times = append(s.times, time.Now())
		}
		s.mu.Unlock()
		if err != nil {
			return
		}
		if _, err := io.WriteString(c, line); err != nil {
			return
		}
	}
}

// close ends the service: connections that are open are reset.
func (s *service) close() {
	s.l.Close()
	<-s.accepted
	s.mu.Lock()
	for c := range s.open {
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	s.mu.Unlock()
	s.conns.Wait()
}

// counts is what has arrived so far.
func (s *service) counts() (opened, lines int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened, len(s.lines), s.bytes
}

func (s *service) lineCount() int { _, n, _ := s.counts(); return n }

// said is what each connection has sent, sorted.
func (s *service) said() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	byConn := map[string]string{}
	for _, l := range s.lines {
		id, text, _ := strings.Cut(l, " ")
		byConn[id] += text + "|"
	}
	all := make([]string, 0, len(byConn))
	for _, text := range byConn {
		all = append(all, text)
	}
	slices.Sort(all)
	return all
}

// clients is the clients' addresses that the service saw, sorted.
func (s *service) clients() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]string, len(s.peers))
	for i, p := range s.peers {
		all[i] = p.String()
	}
	slices.Sort(all)
	return all
}

// client is a connection to a service.
type client struct {
	net.Conn
	in *bufio.Reader
}

// dial connects from a host; from is the local address, or none.
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

// ask sends a line and awaits its answer.
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

// finish ends the connection in order: it waits until the server has closed too.
func (c *client) finish() error {
	c.Conn.(*net.TCPConn).CloseWrite()
	_, err := io.Copy(io.Discard, c.in)
	return errors.Join(err, c.Close())
}

// talk is so many connections, in parallel, with so many lines each.
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

// pair is a service at production and one at the target.
type pair struct{ production, target *service }

func (s *stand) pair() pair {
	s.t.Helper()
	return pair{serve(s.t, s.net.Production, fmt.Sprintf(":%d", productionPort)),
		serve(s.t, s.net.Target, fmt.Sprintf(":%d", targetPort))}
}

// same reports whether the target has been told what production has.
func (p pair) same(t testing.TB) {
	t.Helper()
	same(t, "what connections said", p.target.said(), p.production.said())
}

// caughtUp waits until the target has as many lines as production.
func (p pair) caughtUp(t testing.TB) {
	t.Helper()
	eventually(t, "the target has all lines",
		func() bool { return p.target.lineCount() >= p.production.lineCount() })
}
