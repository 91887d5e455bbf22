package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/lab/netlab"
)

// crowds is one target's servers, and for each of some copiers its server on production and its
// clients.
type crowds struct {
	s                           *stand
	lines, rate                 int // of a round of a copier's clients; 0: a line on each, at once
	clients, production, target []*process
}

// crowds starts servers: as many on the target's one port as there are copiers, and one for each on
// production.
func (s *stand) crowds(copiers int) *crowds {
	s.t.Helper()
	c := &crowds{s: s}
	for i := range copiers {
		c.target = append(c.target, startCrowd(s.t, s.net.Target, "serve",
			fmt.Sprintf(":%d", targetPort)))
		c.production = append(c.production, startCrowd(s.t, s.net.Production, "serve",
			fmt.Sprintf(":%d", productionPort+i)))
	}
	return c
}

// come has so many clients of each copier's connect, and say a line; all of them stay.
func (c *crowds) come(conns int) {
	c.s.t.Helper()
	for i := range c.production {
		at := netip.AddrPortFrom(c.s.production, uint16(productionPort+i)).String()
		c.clients = append(c.clients, startCrowd(c.s.t, c.s.net.Client, "ask", fmt.Sprintf("host%d",
			i), fmt.Sprint(i*conns), fmt.Sprint(conns), at, fmt.Sprint(c.lines),
			fmt.Sprint(c.rate)))
	}
	c.ready(1)
}

// again has the clients say a round of lines.
func (c *crowds) again() {
	c.s.t.Helper()
	for _, p := range c.clients {
		p.signal(syscall.SIGUSR2)
	}
	c.ready(2)
}

func (c *crowds) ready(rounds int) {
	c.s.t.Helper()
	for _, p := range c.clients {
		for !within(2*patience, func() bool {
			return p.hasEnded() || strings.Count(p.output(),
				crowdReady) == rounds
		}) || p.hasEnded() {
			c.s.t.Fatalf("the clients are not ready:\n%s", p.output())
		}
	}
}

// goAway has all clients end their connections in order, and waits until the servers have seen
// the end of all.
func (c *crowds) goAway(all tally) {
	c.s.t.Helper()
	for _, p := range c.clients {
		if code := p.stop(syscall.SIGTERM); code != 0 {
			c.s.t.Errorf("clients end with exit code %d", code)
		}
	}
	for _, servers := range [][]*process{c.production, c.target} {
		eventually(c.s.t, "the ends", func() bool { return talliesOf(servers).open == 0 })
	}
	if got := talliesOf(c.production).said(); got != all.said() {
		c.s.t.Errorf("production heard %+v, and the clients said %+v", got, all)
	}
}

// pool gives the production host so many addresses more on the test net, each with so many ports,
// and is --bind of them.
func (s *stand) pool(addresses int, ports string) string {
	s.t.Helper()
	set(s.t, s.net.Production, "ipv4/ip_local_port_range", ports)
	for i := range addresses {
		add := s.net.Production.Command(s.t.Context(), find(s.t, "ip"), "addr", "add",
			fmt.Sprintf("10.77.2.%d/24", 100+i), "dev", netlab.ProductionTestDevice)
		if out, err := add.CombinedOutput(); err != nil {
			s.t.Fatalf("ip addr add: %v: %s", err, out)
		}
	}
	return fmt.Sprintf("--bind=10.77.2.100-10.77.2.%d", 100+addresses-1)
}

// poolCase is a pool of addresses, each with a range of ports, and how many of so many connections
// it carries.
type poolCase struct {
	name      string
	addresses int
	ports     string
	conns     int
	carried   int
}

// poolCases returns the cases of TestBindPool.
func poolCases() []poolCase {
	large := poolCase{"a pool that is large enough", 4, "20000 24999", 18_000, 18_000}
	if testing.Short() {
		large.ports, large.conns, large.carried = "20000 21499", 5400, 5400
	}
	return []poolCase{large, {"a pool that is too small", 2, "20000 20999", 2500, 2000}}
}

// TestBindPool connects from a pool of addresses that has more ports than any address, and from one
// that has too few. Sessions without a port must be in the account.
func TestBindPool(t *testing.T) {
	for _, tc := range poolCases() {
		t.Run(tc.name, func(t *testing.T) {
			s := newStand(t, setting{way: socket, net: netlab.Config{Crowd: true}})
			crowds := s.crowds(1)
			c := s.copyPair(s.pool(tc.addresses, tc.ports),
				"--stats", "50ms")
			crowds.come(tc.conns)
			settled := func() bool {
				at := talliesOf(crowds.target)
				r := c.progress()
				return r != nil && at.lines == uint64(tc.carried) &&
					at.lines+r.Sessions.Dropped["no_source_address"] == uint64(tc.conns)
			}
			if !within(patience, settled) {
				t.Errorf("the target has %+v, and the account is %+v", talliesOf(crowds.target),
					c.progress().Sessions)
			}
			if at := talliesOf(crowds.target); at.open != uint64(tc.carried) {
				t.Errorf("%d connections are open at the target, wanted %d", at.open, tc.carried)
			}
			if tc.carried == tc.conns {
				crowds.again()
			}
			all := talliesOf(crowds.clients)
			crowds.goAway(all)
			memory := export.PeakMemory(c.cmd.Process.Pid)
			r := c.end()
			got := talliesOf(crowds.target)
			t.Logf("%d connections from %d addresses; the copier took %d MB and %v of CPU",
				got.opened, tc.addresses, memory>>20, cpu(c))
			if tc.carried == tc.conns {
				expectComplete(t, r, tc.conns, int64(all.bytes))
				if got.said() != all.said() {
					t.Errorf("the target heard %+v, and the clients said %+v", got, all)
				}
				return
			}
			lost, lostBytes := uint64(tc.conns-tc.carried), all.bytes-got.bytes
			if r.Sessions.Captured != uint64(tc.conns) ||
				r.Sessions.Delivered != uint64(tc.carried) ||
				r.Sessions.Dropped["no_source_address"] != lost {
				t.Errorf("sessions %+v, wanted %d delivered and %d without an address", r.Sessions,
					tc.carried, lost)
			}
			if r.Bytes.Captured != all.bytes || r.Bytes.Delivered != got.bytes ||
				r.Bytes.Dropped["no_source_address"] != lostBytes {
				t.Errorf("bytes %+v, wanted %d delivered and %d without an address", r.Bytes,
					got.bytes, lostBytes)
			}
			if got.opened != uint64(tc.carried) || got.lines != uint64(tc.carried) {
				t.Errorf("the target heard %+v, wanted %d connections with a line each", got,
					tc.carried)
			}
		})
	}
}

// cpu is what an ended process took.
func cpu(c *copier) time.Duration {
	return c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()
}

// TestSixtyThousand has four copiers on one host hold 60,000 connections to one address and port at
// the same time, from four addresses that they share. With -short there are 6,000.
func TestSixtyThousand(t *testing.T) {
	const copiers, most = 4, 80 << 20 // bytes of memory, of which 16 MB are the capture ring
	// of each: a process may hold 20,000 descriptors on many a host
	conns := 15_000
	if testing.Short() {
		conns /= 10
	}
	s := newStand(t, setting{way: socket, net: netlab.Config{Crowd: true}})
	crowds := s.crowds(copiers)
	bind := s.pool(4, "32768 60999") // Linux's own
	var all []*copier
	for i := range uint16(copiers) {
		all = append(all, s.copy("-x", s.mapping(productionPort+i, targetPort), bind))
	}
	begun := time.Now()
	crowds.come(conns)
	want := uint64(copiers * conns)
	opened := func() bool {
		at := talliesOf(crowds.target)
		return at.open == want &&
			at.lines == want
	}
	if !within(patience, opened) {
		for i, c := range all {
			r := c.end()
			t.Logf("copier %d: sessions %+v, bytes %+v, packets %+v", i, r.Sessions, r.Bytes,
				r.Packets)
		}
		t.Fatalf("the target has %+v, wanted %d open connections, with a line each",
			talliesOf(crowds.target), want)
	}
	took := time.Since(begun)
	crowds.again()
	said := talliesOf(crowds.clients)
	if at := talliesOf(crowds.production); at.open != want {
		t.Errorf("%d connections are open at production, wanted %d", at.open, want)
	}
	eventually(t, "the target has all",
		func() bool { return talliesOf(crowds.target).lines == 2*want })
	if at := talliesOf(crowds.target); at.open != want {
		t.Errorf("%d connections are open at the target, wanted %d", at.open, want)
	}
	crowds.goAway(said)
	if got := talliesOf(crowds.target); got.said() != said.said() {
		t.Errorf("the target heard %+v, and the clients said %+v", got, said)
	}
	t.Logf("%d connections stood after %v; all was over after %v", want, took, time.Since(begun))
	for i, c := range all {
		memory := export.PeakMemory(c.cmd.Process.Pid)
		r := c.end()
		expectComplete(t, r, conns, int64(said.bytes/copiers))
		t.Logf("copier %d: %d MB, %.1f KB for each connection; %v of CPU", i, memory>>20,
			float64(memory)/1024/float64(conns), cpu(c))
		if memory == 0 || memory > most {
			t.Errorf("copier %d took %d bytes of memory, wanted at most %d", i, memory, most)
		}
	}
}
