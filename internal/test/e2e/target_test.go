package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// TestTargetComesUpLater checks that requests are dropped and counted until the target is up, and
// arrive afterwards.
func TestTargetComesUpLater(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		production := s.serve(s.net.Production, productionPort)
		c := s.copyPair("--stats", "50ms")
		s.talk(productionPort, "before", 10, 5)
		_, _, lost := production.counts()
		eventually(t, "the sessions are refused", func() bool {
			r := c.progress()
			return r != nil && r.Live == 0 && r.Bytes.Dropped["target_refused"] == uint64(lost)
		})
		target := s.serve(s.net.Target, targetPort)
		s.talk(productionPort, "after", 10, 5)
		eventually(t, "the later lines arrive", func() bool { return target.lineCount() == 50 })
		r := c.end()
		// A session that was refused is tried again at its client's next turn, and counted again,
		// as adopted.
		if refused := r.Sessions.Dropped["target_refused"]; refused < 10 ||
			r.Sessions.Delivered != 10 || r.Sessions.Captured != 10+refused ||
			r.Adopted != refused-10 {
			t.Errorf("sessions %+v, %d of them adopted: wanted 10 delivered and 10 or more "+
				"refused, all but 10 adopted", r.Sessions, r.Adopted)
		}
		opened, lines, bytes := target.counts()
		if r.Bytes.Delivered != uint64(bytes) || r.Bytes.Dropped["target_refused"] != uint64(lost) {
			t.Errorf("bytes %+v, wanted %d delivered and %d refused", r.Bytes, bytes, lost)
		}
		if opened != 10 || lines != 50 {
			t.Errorf("%d connections and %d lines at the target, wanted 10 and 50", opened, lines)
		}
	})
}

// TestTargetDies kills the target. Its connections must end, and the copier must go on when it is
// up again.
func TestTargetDies(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		p := s.pair()
		c := s.copyPair("--stats", "50ms")
		ch := s.chat(20)
		eventually(t, "lines reach the target", func() bool { return p.target.lineCount() > 200 })
		p.target.close()
		eventually(t, "the copier notices", func() bool {
			r := c.progress()
			return r != nil && len(r.Sessions.Dropped) > 0
		})
		prefixOf(t, p)
		second := s.serve(s.net.Target, targetPort)
		// A session that was lost begins another copy at a turn of its client's.
		ch.end()
		s.talk(productionPort, "second", 10, 10)
		eventually(t, "the new connections reach the new target", func() bool {
			n := 0
			for _, text := range second.said() {
				if strings.HasPrefix(text, "second ") {
					n++
				}
			}
			return n == 10
		})
		r := c.end()
		_, _, first := p.target.counts()
		_, _, then := second.counts()
		if have := uint64(first + then); r.Bytes.Delivered > have+have/10 {
			t.Errorf("the account says %d bytes delivered, and the two targets have %d",
				r.Bytes.Delivered, have)
		}
		t.Logf("sessions %+v, bytes %+v; targets have %d and %d bytes", r.Sessions, r.Bytes, first,
			then)
	})
}

// TestTLSIsRefused checks that no byte of an encrypted session reaches the target.
func TestTLSIsRefused(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		config := &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}}
		accept(t, s.net.Production, onPort(productionPort), func(c net.Conn) {
			conn := tls.Server(c, config)
			b := make([]byte, 100)
			if n, err := conn.Read(b); err == nil {
				conn.Write(b[:n])
			}
		})
		target := s.serve(s.net.Target, targetPort)
		c := s.copyPair()
		for i := range 5 {
			plain := dial(t, s.net.Client, netlab.ClientAddr(i%4, false),
				netip.AddrPortFrom(s.production, productionPort))
			conn := tls.Client(plain.Conn, &tls.Config{InsecureSkipVerify: true})
			if _, err := conn.Write([]byte("secret\n")); err != nil {
				t.Fatal(err)
			}
			if _, err := conn.Read(make([]byte, 100)); err != nil {
				t.Fatal(err)
			}
			conn.Close()
		}
		r := c.end()
		if r.Sessions.Captured != 5 || r.Sessions.Dropped["tls"] != 5 || r.Sessions.Delivered != 0 {
			t.Errorf("sessions %+v, wanted 5 dropped for tls", r.Sessions)
		}
		if r.Bytes.Dropped["tls"] != r.Bytes.Captured || r.Bytes.Captured == 0 {
			t.Errorf("bytes %+v, wanted all dropped for tls", r.Bytes)
		}
		if _, lines, bytes := target.counts(); lines > 0 || bytes > 0 {
			t.Errorf("the target received %d bytes", bytes)
		}
	})
}

// TestPausedCopier stops a copier for a while. What the kernel could not keep must be in the
// ledger, and later requests must arrive.
func TestPausedCopier(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way string) {
		t.Parallel()
		s := newStand(t, setting{way: way})
		p := s.pair()
		c := s.copyPair("-B", "2", "--stats", "50ms")
		c.signal(syscall.SIGSTOP)
		// More than the ring holds, of connections that stay. It takes less time than a link lasts
		// without a word from the copier.
		var clients []*client
		for i := range 10 {
			clients = append(clients, dial(t, s.net.Client, netlab.ClientAddr(i%4, false),
				netip.AddrPortFrom(s.production, productionPort)))
		}
		big := make([]byte, 200_000)
		for i := range big {
			big[i] = 'x'
		}
		for n := range 8 {
			for i, cl := range clients {
				if err := cl.ask(fmt.Sprintf("paused %d.%d %s", i, n, big)); err != nil {
					t.Fatal(err)
				}
			}
		}
		c.signal(syscall.SIGCONT)
		eventually(t, "the loss is noticed", func() bool {
			r := c.progress()
			return r != nil && r.Packets.KernelDrop > 0
		})
		// A connection that was silent for a while is between two turns, whatever was lost before.
		wait(1500 * time.Millisecond)
		for n := range 10 {
			for i, cl := range clients {
				if err := cl.ask(fmt.Sprintf("resumed %d.%d", i, n)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for _, cl := range clients {
			if err := cl.finish(); err != nil {
				t.Error(err)
			}
		}
		resumed := func() (n int) {
			p.target.mu.Lock()
			defer p.target.mu.Unlock()
			for _, l := range p.target.lines {
				if strings.Contains(l, " resumed ") {
					n++
				}
			}
			return n
		}
		// What shows the loss may be the first of them; then they go on with the second.
		within(patience/2, func() bool { return resumed() >= 90 })
		r := c.end()
		if n := resumed(); n < 90 {
			t.Errorf("%d lines after the pause at the target, wanted 90 of 100 at least", n)
		}
		if got := r.Sessions; got.Delivered < 10 ||
			got.Captured != got.Delivered+got.Dropped["capture_gap"] {
			t.Errorf("sessions %+v, wanted those that went on delivered, and the others ended "+
				"by a gap", got)
		}
		// Of lines that are lost whole no byte was captured that could be dropped.
		const gap = "capture_gap"
		if r.Packets.KernelDrop == 0 || r.Sessions.Dropped[gap]+r.Bytes.Dropped[gap] == 0 {
			t.Errorf("packets %+v, sessions %+v, bytes %+v: wanted the loss in all", r.Packets,
				r.Sessions, r.Bytes)
		}
		t.Logf("packets %+v, sessions %+v, bytes %+v, adopted %d", r.Packets, r.Sessions, r.Bytes,
			r.Adopted)
	})
}

// TestTargetHangs has a target accept connections and answer nothing. Only turns that wait for an
// answer may be held back.
func TestTargetHangs(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		s.serve(s.net.Production, productionPort)
		got := make(chan string, 10)
		accept(t, s.net.Target, onPort(targetPort), func(c net.Conn) { got <- readAll(c) })
		c := s.copyPair("--gate-limit", "300ms")
		s.talk(productionPort, "hang", 10, 3)
		for range 10 {
			select {
			case text := <-got:
				if n := strings.Count(text, "\n"); n != 1 {
					t.Errorf("the target got %d lines and answered none, wanted 1: %q", n, text)
				}
			case <-time.After(patience):
				t.Fatal("the copies stay open")
			}
		}
		r := c.end()
		if r.Sessions.Dropped["gate_timeout"] < 10 || r.Sessions.Delivered > 0 {
			t.Errorf("sessions %+v, wanted all dropped for gate_timeout", r.Sessions)
		}
	})
}

func readAll(c net.Conn) string {
	defer c.Close()
	var all []byte
	b := make([]byte, 4096)
	for {
		n, err := c.Read(b)
		all = append(all, b[:n]...)
		if err != nil {
			return string(all)
		}
	}
}
