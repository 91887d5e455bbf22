package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// asksOf returns what a log says was asked, sorted.
func asksOf(log []logged) []string {
	var all []string
	for i := range log {
		all = append(all, fmt.Sprintf("%s %s %d", log[i].Method, log[i].URI, log[i].Status))
	}
	slices.Sort(all)
	return all
}

// h2load asks production's nginx so often, over 4 connections with so many streams at once.
func (s *stand) h2load(requests, streams int) {
	s.t.Helper()
	args := []string{"-n", fmt.Sprint(requests), "-c", "4", "-m", fmt.Sprint(streams)}
	for i := range fileSizes[:len(fileSizes)-1] {
		args = append(args, fmt.Sprintf("http://%s/%d?m=%d",
			netip.AddrPortFrom(s.production, productionPort), i, streams))
	}
	out, err := s.net.Client.Command(s.t.Context(), find(s.t, "h2load"), args...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), fmt.Sprintf("%d succeeded", requests)) {
		s.t.Fatalf("h2load: %v\n%s", err, out)
	}
}

// TestHTTP2 copies HTTP/2 to an nginx that is not like production's. It must be asked what
// production was asked.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		quick   []string // ways with -short
		scale   float64  // how many times as large the target's files are
		changes []string // of the target's configuration
	}{
		// It takes fewer streams at once, and closes a connection after some requests.
		{"limits", ways, 1, []string{"keepalive_requests 100000", "keepalive_requests 60", "http {",
			"http { http2_max_concurrent_streams 8;"}},
		{"larger answers", nil, 5, nil},
		{"smaller answers", nil, 0.2, nil},
		{"slower answers", nil, 1, []string{"http {", "http { limit_rate 500k;"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			someWays(t, tt.quick, func(t *testing.T, way string) {
				copyStreams(t, way, tt.scale, tt.changes...)
			})
		})
	}
}

// TestHTTP2Lag checks that the last request comes to a target that is as fast as production at most
// 100 ms after production's. It is measured with nothing beside it, and not with -short.
func TestHTTP2Lag(t *testing.T) {
	const rounds, most = 3, 100 * time.Millisecond
	someWays(t, only(), func(t *testing.T, way string) {
		var late []time.Duration
		for range rounds {
			late = append(late, copyStreams(t, way, 1))
		}
		slices.Sort(late)
		if late[rounds/2] > most {
			t.Errorf("the last request came %v after production's, wanted %v at most",
				late[rounds/2], most)
		}
	})
}

// copyStreams copies requests of HTTP/2, with more and more of them under way, to a target whose
// files are so many times as large as production's and whose configuration has the changes. It
// returns how long after production's the target's last request came, without the time for which
// the copier stood still.
func copyStreams(t *testing.T, way string, scale float64, changes ...string) (late time.Duration) {
	t.Helper()
	s := newStand(t, setting{way: way})
	production := startNginx(t, s.net.Production, productionPort, "http2")
	target := startNginx(t, s.net.Target, targetPort, "http2", changes...)
	for i, size := range fileSizes {
		writeFile(t, filepath.Join(target.dir, "www", fmt.Sprint(i)),
			noise(uint64(i), int(scale*float64(size))))
	}
	c := s.copyPair("--both")
	const requests = 300
	for _, streams := range []int{1, 10, 100} {
		s.h2load(requests, streams)
	}
	within(patience, func() bool { return len(target.requests()) >= 3*requests })
	r := c.end()
	got, want := target.end(), production.end()
	expectSame(t, "requests", asksOf(got), asksOf(want))
	if p := r.Protocol; p.Sent != 3*requests || p.Answered != 3*requests || p.Failed != 0 ||
		p.Lost != 0 {
		t.Errorf("the account: %+v", p)
	}
	if r.Sessions.Delivered != r.Sessions.Captured || r.Bytes.Delivered != r.Bytes.Captured {
		t.Errorf("the account: %+v, %+v, wanted all delivered", r.Sessions, r.Bytes)
	}
	late = lastOf(got) - lastOf(want)
	t.Logf("the target's last request came %v after production's", late)
	return late - stoodStill(r)
}

// TestHTTP2Uploads copies uploads to an nginx whose windows are small at first, and then opened as
// it reads. It must receive the same content.
func TestHTTP2Uploads(t *testing.T) {
	t.Parallel()
	size := 10 << 20
	if testing.Short() {
		size = 1 << 20
	}
	inTurn(t, 1, func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		production := startNginx(t, s.net.Production, productionPort, "http2")
		target := startNginx(t, s.net.Target, targetPort, "http2", "http {",
			"http { http2_max_concurrent_streams 8; http2_body_preread_size 1k;")
		c := s.copyPair("--both")
		content := filepath.Join(t.TempDir(), "content")
		writeFile(t, content, noise(1, size))
		const uploads = 2
		out, err := s.net.Client.Command(t.Context(), find(t, "h2load"), "-n", fmt.Sprint(uploads),
			"-c", "2", "-m", "1", "-d", content, fmt.Sprintf("http://%s/post",
				netip.AddrPortFrom(s.production, productionPort))).CombinedOutput()
		if err != nil || !strings.Contains(string(out), fmt.Sprintf("%d succeeded", uploads)) {
			t.Fatalf("h2load: %v\n%s", err, out)
		}
		within(patience, func() bool { return len(target.requests()) >= uploads })
		r := c.end()
		expectSame(t, "requests", asksOf(target.end()), asksOf(production.end()))
		expectSame(t, "content", sums(t, filepath.Join(target.dir, "bodies"), false),
			sums(t, filepath.Join(production.dir, "bodies"), false))
		if p := r.Protocol; p.Sent != uploads || p.Answered != uploads || p.Failed != 0 ||
			p.Lost != 0 || r.Bytes.Delivered != r.Bytes.Captured {
			t.Errorf("the account: %+v, %+v", p, r.Bytes)
		}
	})
}

// streamSite is a server of HTTP/2 that knows what its clients had seen answered when they asked.
type streamSite struct {
	pause time.Duration // within an answer
	polls chan struct{} // closed: the long polls are answered

	mu    sync.Mutex
	asked []string
	ended map[string]bool
	early []string
}

// startStreamSite starts a server of HTTP/2 without TLS on a host.
func startStreamSite(t testing.TB, host *netlab.Namespace, port uint16,
	pause time.Duration) *streamSite {
	t.Helper()
	s := &streamSite{pause: pause, polls: make(chan struct{}), ended: map[string]bool{}}
	server := &http.Server{Handler: s, Protocols: new(http.Protocols)}
	server.Protocols.SetUnencryptedHTTP2(true)
	serveOn(t, host, port, server)
	return s
}

// serveOn runs a server on a port of a host until the test ends.
func serveOn(t testing.TB, host *netlab.Namespace, port uint16, server *http.Server) {
	t.Helper()
	l := listenOn(t, host, fmt.Sprintf(":%d", port))
	var served sync.WaitGroup
	served.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		server.Close()
		served.Wait()
	})
}

// ServeHTTP answers /poll when it is told to, and other paths in two parts. The header Seen lists
// the requests that the client has seen answered: they must have been answered here, too.
func (s *streamSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	what := fmt.Sprintf("%s %s", r.Method, r.URL.RequestURI())
	s.mu.Lock()
	for _, before := range strings.Fields(r.Header.Get("Seen")) {
		if !s.ended[before] {
			s.early = append(s.early, what+" before the end of "+before)
		}
	}
	s.mu.Unlock()
	n, _ := io.Copy(io.Discard, r.Body)
	if r.URL.Path == "/poll" {
		select {
		case <-s.polls:
		case <-r.Context().Done():
		}
	} else {
		w.Write(make([]byte, 3000))
		w.(http.Flusher).Flush()
		wait(s.pause)
		w.Write(make([]byte, 3000))
	}
	s.mu.Lock()
	s.asked = append(s.asked, fmt.Sprintf("%s %d", what, n))
	s.ended[r.Header.Get("Name")] = true
	s.mu.Unlock()
	w.Header().Set(http.TrailerPrefix+"Checksum", "1")
}

// drain returns what was asked, sorted, and what was early.
func (s *streamSite) drain() (asked, early []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slices.Sort(s.asked)
	return slices.Clone(s.asked), s.early
}

// streamClient is a client of a streamSite with one connection.
type streamClient struct {
	*http.Client
	base, name string

	mu   sync.Mutex
	next int
	seen []string // answered, the latest last
}

// streamTransport speaks HTTP/2 without TLS from the address of a client.
func (s *stand) streamTransport(client int) *http.Transport {
	d := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(
		netlab.ClientAddr(client%4, s.ipv6), 0))}
	t := &http.Transport{
		Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return s.net.Client.Dial(ctx, d, network, address)
		},
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	return t
}

func (s *stand) streamClient(i int) *streamClient {
	return &streamClient{Client: &http.Client{Timeout: patience, Transport: s.streamTransport(i)},
		base: "http://" + s.siteAddr().String(), name: fmt.Sprint(i)}
}

// ask makes a request with content of that size.
func (c *streamClient) ask(path string, size int) error {
	c.mu.Lock()
	name := fmt.Sprintf("%s.%d", c.name, c.next)
	c.next++
	seen := strings.Join(c.seen[max(0, len(c.seen)-8):], " ")
	c.mu.Unlock()
	method := http.MethodGet
	var body io.Reader
	if size > 0 {
		method, body = http.MethodPut, strings.NewReader(strings.Repeat("x", size))
	}
	r, err := http.NewRequest(method, c.base+path+"?"+name, body)
	if err != nil {
		return err
	}
	r.Header.Set("Name", name)
	r.Header.Set("Seen", seen)
	answer, err := c.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	c.mu.Lock()
	c.seen = append(c.seen, name)
	c.mu.Unlock()
	return nil
}

// load has several requests at a time under way, while a long poll is.
func (c *streamClient) load(t testing.TB, rounds int) {
	var all sync.WaitGroup
	for worker := range 5 {
		all.Go(func() {
			for n := range rounds {
				size := 0
				if n%5 == 4 {
					size = 1 + 30000*worker
				}
				if err := c.ask("/item", size); err != nil {
					t.Errorf("client %s: %v", c.name, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestHTTP2Order copies clients that have several streams under way to a slower target. No request
// may arrive before the target has answered what its client had seen answered, and a long poll
// holds nothing up.
func TestHTTP2Order(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		production := startStreamSite(t, s.net.Production, siteProduction, 0)
		target := startStreamSite(t, s.net.Target, siteTarget, 3*time.Millisecond)
		c := s.copy("-x", s.mapping(siteProduction, siteTarget), "--both")
		const clients, rounds = 4, 20
		var all, polls sync.WaitGroup
		for i := range clients {
			client := s.streamClient(i)
			defer client.CloseIdleConnections()
			all.Go(func() {
				if err := client.ask("/item", 0); err != nil { // then the connection is open
					t.Error(err)
				}
				polls.Go(func() {
					if err := client.ask("/poll", 0); err != nil {
						t.Error(err)
					}
				})
				client.load(t, rounds)
			})
		}
		all.Wait()
		if !within(patience, func() bool {
			asked, _ := target.drain()
			return len(asked) >= clients*(5*rounds+1)
		}) {
			asked, _ := target.drain()
			t.Errorf("the target was asked %d times while polls wait, wanted %d", len(asked),
				clients*(5*rounds+1))
		}
		close(production.polls)
		close(target.polls)
		polls.Wait()
		r := c.end()
		want, _ := production.drain()
		if !within(patience, func() bool {
			got, _ := target.drain()
			return slices.Equal(got, want)
		}) {
			got, _ := target.drain()
			t.Errorf("the target was asked %d times, production %d", len(got), len(want))
		}
		if _, early := target.drain(); len(early) > 0 {
			t.Errorf("%d were early: %s", len(early), early[0])
		}
		if r.Protocol.Failed != 0 || r.Protocol.Lost != 0 || r.Gate.Forced != 0 {
			t.Errorf("the account: %+v, %+v", r.Protocol, r.Gate)
		}
	})
}
