package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// listenOn listens on a host, at an address with a port. If the port was just in use, it tries
// again: a process that another test starts has this one's files until it is another program.
func listenOn(t testing.TB, host *netlab.Namespace, address string) (l net.Listener) {
	t.Helper()
	var err error
	within(patience/3, func() bool {
		l, err = host.Listen("tcp", address)
		return !errors.Is(err, syscall.EADDRINUSE)
	})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// accept listens on a host, at an address with a port, and calls serve for each connection in a
// goroutine; the connection is closed when serve returns. When the test ends, the listener and all
// connections are closed.
func accept(t testing.TB, host *netlab.Namespace, address string, serve func(net.Conn)) {
	t.Helper()
	l := listenOn(t, host, address)
	var mu sync.Mutex
	var all sync.WaitGroup
	open := make(map[net.Conn]struct{})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[c] = struct{}{}
			mu.Unlock()
			all.Go(func() {
				serve(c)
				c.Close()
				mu.Lock()
				delete(open, c)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for c := range open {
			c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
}

// onPort is the address of a port, on all addresses of a host.
func onPort(port int) string { return fmt.Sprintf(":%d", port) }

// lineServer answers each line with the same line, and records all of them.
type lineServer struct {
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

// serve starts a server on a port of all of a host's addresses.
func (s *stand) serve(host *netlab.Namespace, port int) *lineServer {
	s.t.Helper()
	return serveAt(s.t, host, onPort(port))
}

// serveAt starts a server on a host, at an address with a port.
func serveAt(t testing.TB, host *netlab.Namespace, address string) *lineServer {
	t.Helper()
	l := listenOn(t, host, address)
	s := &lineServer{t: t, l: l, open: map[net.Conn]struct{}{}, accepted: make(chan struct{})}
	go s.accept()
	t.Cleanup(s.close)
	return s
}

func (s *lineServer) accept() {
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

func (s *lineServer) talk(c net.Conn, id int) {
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

// close ends the server. Open connections are reset.
func (s *lineServer) close() {
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

// counts returns how many connections were opened, and how many lines and bytes have arrived.
func (s *lineServer) counts() (opened, lines int, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened, len(s.lines), s.bytes
}

func (s *lineServer) lineCount() int { _, n, _ := s.counts(); return n }

// said returns what each connection has sent, sorted: its lines, each followed by "|".
func (s *lineServer) said() []string {
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

// clients returns the clients' addresses and ports that the server saw, sorted.
func (s *lineServer) clients() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]string, len(s.peers))
	for i, p := range s.peers {
		all[i] = p.String()
	}
	slices.Sort(all)
	return all
}

// saidBy is said for the connections of the peers that chosen selects.
func (s *lineServer) saidBy(chosen func(peer netip.AddrPort) bool) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	byConn := make(map[int]string)
	for _, l := range s.lines {
		var id int
		fmt.Sscan(l, &id)
		if _, text, _ := strings.Cut(l, " "); chosen(s.peers[id-1]) {
			byConn[id] += text + "|"
		}
	}
	var all []string
	for _, text := range byConn {
		all = append(all, text)
	}
	return sorted(all)
}

// everyLine returns all lines of a server, sorted, regardless of their connections.
func everyLine(s *lineServer) (all []string) {
	for _, said := range s.said() {
		all = append(all, strings.Split(strings.TrimSuffix(said, "|"), "|")...)
	}
	return sorted(all)
}

// lines returns how many lines the servers have received.
func lines(all []*lineServer) (n int) {
	for _, s := range all {
		n += s.lineCount()
	}
	return n
}

// saidAll is said for several servers.
func saidAll(services []*lineServer) (all []string) {
	for _, s := range services {
		all = append(all, s.said()...)
	}
	return sorted(all)
}

// pair is a server on production and one on the target.
type pair struct{ production, target *lineServer }

// pair starts both servers.
func (s *stand) pair() pair {
	s.t.Helper()
	return pair{s.serve(s.net.Production, productionPort),
		s.serve(s.net.Target, targetPort)}
}

// caughtUp waits until the target has as many lines as production.
func (p pair) caughtUp(t testing.TB) {
	t.Helper()
	eventually(t, "the target has all lines",
		func() bool { return p.target.lineCount() >= p.production.lineCount() })
}

// several starts n servers on the target, on consecutive ports from targetPort on.
func (s *stand) several(n int) (all []*lineServer) {
	s.t.Helper()
	for i := range n {
		all = append(all, serveAt(s.t, s.net.Target, fmt.Sprintf(":%d", targetPort+i)))
	}
	return all
}

// on starts a server on each of the hosts.
func (s *stand) on(hosts []*netlab.Namespace, port int) (all []*lineServer) {
	s.t.Helper()
	for _, host := range hosts {
		all = append(all, serveAt(s.t, host, fmt.Sprintf(":%d", port)))
	}
	return all
}
