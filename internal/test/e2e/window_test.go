package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/lab/netlab"
)

// desk is a web server that answers one request after another, in so much time, and knows how many
// it had answered on a connection when each request came.
type desk struct {
	pause time.Duration
	size  int // of an answer
	fail  int // every so manyth request fails here; 0: none

	mu sync.Mutex
	// by the connection's name: how many answers had begun when its requests came
	conns  map[string][]int
	status map[string]uint64 // answers by class
}

func startDesk(t *testing.T, host *netlab.Namespace, port int, d *desk) *desk {
	t.Helper()
	d.conns, d.status = make(map[string][]int), make(map[string]uint64)
	accept(t, host, onPort(port), d.serve)
	return d
}

// serve reads requests as they come, while others wait for their answers.
func (d *desk) serve(c net.Conn) {
	c.SetDeadline(time.Now().Add(2 * patience))
	var mu sync.Mutex
	answered := 0
	waiting := make(chan *http.Request, 1024)
	var answers sync.WaitGroup
	defer answers.Wait()
	defer close(waiting)
	answers.Go(func() {
		for r := range waiting {
			wait(d.pause)
			mu.Lock()
			answered++ // what comes from here on may have seen it
			mu.Unlock()
			d.answer(c, r)
		}
	})
	for in := bufio.NewReader(c); ; {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		io.Copy(io.Discard, r.Body)
		mu.Lock()
		had := answered
		mu.Unlock()
		name := r.URL.Query().Get("conn")
		d.mu.Lock()
		d.conns[name] = append(d.conns[name], had)
		d.mu.Unlock()
		waiting <- r
	}
}

// answer answers in pieces, in the two ways in which an answer says its length.
func (d *desk) answer(c net.Conn, r *http.Request) {
	n, _ := strconv.Atoi(r.URL.Query().Get("n"))
	code := 200
	switch {
	case d.fail > 0 && n%d.fail == 0:
		code = 503
	case n%7 == 3:
		code = 404
	}
	d.mu.Lock()
	d.status[fmt.Sprintf("%dxx", code/100)]++
	d.mu.Unlock()
	body := bytes.Repeat([]byte("x"), d.size)
	if n%2 == 0 {
		fmt.Fprintf(c, "HTTP/1.1 %d Desk\r\nContent-Length: %d\r\n\r\n%s", code, len(body), body)
		return
	}
	fmt.Fprintf(c, "HTTP/1.1 %d Desk\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", code,
		len(body), body)
	io.WriteString(c, "0\r\n\r\n")
}

func (d *desk) count() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.conns {
		n += len(c)
	}
	return n
}

// windowLoad is connections that keep so many requests under way, and send the next when they have
// seen an answer.
func (s *stand) windowLoad(conns, window, requests int) {
	s.t.Helper()
	var all sync.WaitGroup
	for i := range conns {
		all.Go(func() {
			c, err := tryDial(s.net.Client, netlab.ClientAddr(i%4, s.ipv6),
				netip.AddrPortFrom(s.production, productionPort))
			if err != nil {
				s.t.Error(err)
				return
			}
			defer c.Close()
			send := func(n int) {
				fmt.Fprintf(c, "GET /?conn=%d&n=%d HTTP/1.1\r\nHost: a\r\n\r\n",
					i, n)
			}
			for n := range window {
				send(n)
			}
			for n := range requests {
				answer, err := http.ReadResponse(c.in, nil)
				if err == nil {
					_, err = io.Copy(io.Discard, answer.Body)
				}
				if err != nil {
					s.t.Errorf("connection %d, answer %d: %v", i, n, err)
					return
				}
				if n+window < requests {
					send(n + window)
				}
			}
		})
	}
	all.Wait()
}

// windows says how many requests were under way, on average, when another came; what came before
// the client could have sent it is an error.
func (d *desk) windows(t *testing.T, conns, window, requests int) float64 {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	under := 0
	if len(d.conns) != conns {
		t.Errorf("%d connections, wanted %d", len(d.conns), conns)
	}
	for name, had := range d.conns {
		if len(had) != requests {
			t.Errorf("connection %s: %d requests, wanted %d", name, len(had), requests)
		}
		for n, answered := range had {
			if answered < n-window+1 {
				t.Errorf("connection %s: request %d came after %d answers, and its client had "+
					"seen %d", name, n, answered, n-window+1)
			}
			under += n - answered
		}
	}
	return float64(under) / float64(conns*requests)
}

const (
	windowConns, windowSize, windowRequests = 4, 4, 80
)

// windowDesks are production, whose answers are small, and a target whose answers are larger and
// slower, and where some requests fail.
func windowDesks(t *testing.T, s *stand) (production, target *desk) {
	return startDesk(t, s.net.Production, productionPort, &desk{pause: 2 * time.Millisecond,
			size: 300}),
		startDesk(t, s.net.Target, targetPort, &desk{pause: 4 * time.Millisecond, size: 4000,
			fail: 10})
}

// judge compares what the desks have seen with the account.
func judgeWindows(t *testing.T, production, target *desk, r *export.Report,
	read bool) (productionWindow, targetWindow float64) {
	t.Helper()
	productionWindow = production.windows(t, windowConns, windowSize, windowRequests)
	targetWindow = target.windows(t, windowConns, windowSize, windowRequests)
	p := r.Protocol
	if !maps.Equal(p.Status, target.status) {
		t.Errorf("the target's status: %v, wanted %v", p.Status, target.status)
	}
	if p.Times == nil || p.Times.Whole.Median < 4 || p.Times.First.Median < 4 {
		t.Errorf("the target's answers took %+v, and it pauses for 4 ms before each", p.Times)
	}
	if o := p.Production.Times; read && r.Replay == nil && (o == nil || o.Whole.Median < 2 ||
		o.First.Median < 2) {
		t.Errorf("production's answers took %+v, and it pauses for 2 ms before each", o)
	}
	want := export.ProductionReport{Status: map[string]uint64{}}
	if read {
		want = export.ProductionReport{Answered: windowConns * windowRequests,
			Failed: production.status["4xx"], Status: production.status}
	}
	if p.Production.Answered != want.Answered || p.Production.Failed != want.Failed ||
		!maps.Equal(p.Production.Status, want.Status) || p.Production.Lost > 0 {
		t.Errorf("production's answers: %+v, wanted %+v", p.Production, want)
	}
	return productionWindow, targetWindow
}

// TestWindow copies a client that keeps four requests under way. If production's answers are read,
// so does the copy; it is never ahead of its client.
func TestWindow(t *testing.T) {
	eachWay(t, func(t *testing.T, way string) {
		for _, both := range []bool{true, false} {
			t.Run(fmt.Sprintf("both %v", both), func(t *testing.T) {
				s := newStand(t, setting{way: way})
				production, target := windowDesks(t, s)
				args := []string{"-x", s.mapping(productionPort, targetPort)}
				if both {
					args = append(args, "--both")
				}
				c := s.copy(args...)
				s.windowLoad(windowConns, windowSize, windowRequests)
				within(patience, func() bool { return target.count() >= production.count() })
				r := c.end()
				was, is := judgeWindows(t, production, target, r, both)
				t.Logf("under way: %.1f in production, %.1f at the target", was, is)
				if both && is < was-0.5 {
					t.Errorf("under way at the target: %.1f, in production %.1f", is, was)
				}
			})
		}
	})
}

// TestWindowReplayed is TestWindow with a recording that has production's answers.
func TestWindowReplayed(t *testing.T) {
	s := newStand(t, setting{way: socket})
	production, target := windowDesks(t, s)
	file := s.file("recorded.pcapng")
	rec := start(t, s.net.Production, "record", binary, "record", "-x", fmt.Sprint(productionPort),
		"-o", file, "--both")
	rec.awaitOutput("tcpcopy: ready")
	s.windowLoad(windowConns, windowSize, windowRequests)
	if code := rec.stop(syscall.SIGINT); code != 0 {
		t.Fatalf("record: exit code %d", code)
	}
	report := filepath.Join(s.dir, "replay.json")
	p := start(t, s.net.Production, "replay", binary, "replay", file, "-x",
		s.mapping(productionPort, targetPort), "--speed", "max", "--report", report)
	if code := p.wait(); code != 0 {
		t.Fatalf("replay: exit code %d", code)
	}
	r, err := export.ReadReport(report)
	if err != nil {
		t.Fatal(err)
	}
	if was, is := judgeWindows(t, production, target, r, true); is < was-0.5 {
		t.Errorf("under way at the target: %.1f, in production %.1f", is, was)
	}
}

// TestWindowAside is TestWindow with packets that come from elsewhere, not truncated.
func TestWindowAside(t *testing.T) {
	for _, tc := range []struct {
		name string
		from func(s *stand) []string // the copier's arguments
		feed func(t *testing.T, s *stand)
	}{
		{"VXLAN", func(*stand) []string {
			return append([]string{"--from", "vxlan://:4789"}, fromMirror...)
		},
			func(t *testing.T, s *stand) {
				if err := vxlanMirror(s.net); err != nil {
					t.Fatal(err)
				}
			}},
		{"agent", func(s *stand) []string {
			return append([]string{"--key", s.key()},
				fromAgent...)
		}, func(t *testing.T, s *stand) {
			args := append([]string{"capture", "-x", fmt.Sprint(productionPort), "--key", s.key(),
				"--both"}, toAgent...)
			a := start(t, s.net.Production, "agent", binary, args...)
			a.awaitOutput("tcpcopy: ready")
			t.Cleanup(func() { a.stop(syscall.SIGINT) })
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newStand(t, setting{way: socket})
			production, target := windowDesks(t, s)
			from := tc.from(s)
			c := s.copyOn(s.net.Assistant, append(from, "-x", s.mapping(productionPort,
				targetPort))...)
			tc.feed(t, s)
			s.windowLoad(windowConns, windowSize, windowRequests)
			within(patience, func() bool { return target.count() >= production.count() })
			if was, is := judgeWindows(t, production, target, c.end(), true); is < was-0.5 {
				t.Errorf("under way at the target: %.1f, in production %.1f", is, was)
			}
		})
	}
}
