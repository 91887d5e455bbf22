package e2e

import (
	"bytes"
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

// Ports of the sites, beside those of nginx.
const (
	siteProduction = 81
	siteTarget     = 8081
)

// sitePaths are what a client of a site asks for, in turn.
var sitePaths = []struct{ method, path string }{
	{"GET", "/length/20"}, {"POST", "/length/100"}, {"GET", "/chunked/5000"}, {"HEAD",
		"/length/700"}, {"GET", "/none"},
	{"PUT", "/chunked/10"}, {"GET", "/same"}, {"GET", "/length/30000"}, {"GET",
		"/chunked/1"}, {"GET", "/end/2000"},
}

// siteLoad is clients of a site, each with its own connections and one request at a time.
func (s *stand) siteLoad(clients, rounds int) {
	s.t.Helper()
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			client := s.siteClient(i)
			defer client.CloseIdleConnections()
			for n := range rounds * len(sitePaths) {
				p := sitePaths[n%len(sitePaths)]
				if err := s.siteRequest(client, p.method, fmt.Sprintf("%s?c=%d&n=%d", p.path, i, n),
					n); err != nil {
					s.t.Errorf("client %d: %v", i, err)
					return
				}
			}
		})
	}
	all.Go(func() { s.sitePipeline(8) })
	all.Go(s.siteUpgrade)
	all.Wait()
}

func (s *stand) siteClient(i int) *http.Client {
	d := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netlab.ClientAddr(i%4,
		s.ipv6), 0))}
	return &http.Client{Timeout: patience, Transport: &http.Transport{
		MaxConnsPerHost: 1, DisableCompression: true, ExpectContinueTimeout: patience,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return s.net.Client.Dial(ctx, d, network, address)
		},
	}}
}

func (s *stand) siteAddr() netip.AddrPort {
	return netip.AddrPortFrom(s.production,
		siteProduction)
}

// siteRequest asks for one path; a PUT waits for leave to send its body, or sends it in chunks.
func (s *stand) siteRequest(client *http.Client, method, path string, n int) error {
	var body io.Reader
	if method == "POST" || method == "PUT" {
		body = bytes.NewReader(noise(uint64(n), 100*n))
	}
	if method == "PUT" && n%2 == 0 {
		body = struct{ io.Reader }{body} // of unknown length: chunked
	}
	req, err := http.NewRequest(method, "http://"+s.siteAddr().String()+path, body)
	if err != nil {
		return err
	}
	if method == "PUT" {
		req.Header.Set("Expect", "100-continue")
	}
	answer, err := client.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

// sitePipeline sends several requests at once, with bodies and without, before it reads any answer.
func (s *stand) sitePipeline(rounds int) {
	c, err := tryDial(s.net.Client, netlab.ClientAddr(1, s.ipv6), s.siteAddr())
	if err != nil {
		s.t.Error(err)
		return
	}
	defer c.Close()
	for n := range rounds {
		var out bytes.Buffer
		methods := []string{"GET", "HEAD", "POST", "GET"}
		for i, m := range methods {
			fmt.Fprintf(&out, "%s /length/%d?piped=%d.%d HTTP/1.1\r\nHost: "+
				"site\r\nContent-Length: %d\r\n\r\n", m, 500*i, n, i, i)
			out.Write(bytes.Repeat([]byte("\n"), i))
		}
		c.Write(out.Bytes())
		for _, m := range methods {
			answer, err := http.ReadResponse(c.in, &http.Request{Method: m})
			if err == nil {
				_, err = io.Copy(io.Discard, answer.Body)
			}
			if err != nil {
				s.t.Errorf("pipeline: %v", err)
				return
			}
		}
	}
}

// siteUpgrade asks for another protocol after some requests, and speaks it.
func (s *stand) siteUpgrade() {
	c, err := tryDial(s.net.Client, netlab.ClientAddr(2, s.ipv6), s.siteAddr())
	if err != nil {
		s.t.Error(err)
		return
	}
	defer c.Close()
	for _, path := range []string{"/length/10?up", "/upgrade"} {
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: site\r\nConnection: Upgrade\r\nUpgrade: "+
			"lines\r\n\r\n", path)
		answer, err := http.ReadResponse(c.in, nil)
		if err == nil && answer.StatusCode == 200 {
			_, err = io.Copy(io.Discard, answer.Body)
		}
		if err != nil {
			s.t.Errorf("upgrade: %v", err)
			return
		}
	}
	for n := range 3 {
		if err := c.ask(fmt.Sprintf("\x01line %d", n)); err != nil {
			s.t.Errorf("upgraded: %v", err)
			return
		}
	}
	if err := c.finish(); err != nil {
		s.t.Errorf("upgraded: %v", err)
	}
}

// wrk runs wrk for a second.
func (s *stand) wrk(path string) {
	s.t.Helper()
	out, err := s.net.Client.Command(s.t.Context(), find(s.t, "wrk"), "-t", "1", "-c", "20", "-d",
		"1", s.url(path)).CombinedOutput()
	if err != nil || bytes.Contains(out, []byte("Socket errors")) ||
		bytes.Contains(out, []byte("Non-2xx")) {
		s.t.Fatalf("wrk: %v\n%s", err, out)
	}
}

// nginxPipeline asks an nginx for static files, several at once.
func (s *stand) nginxPipeline() {
	c := dial(s.t, s.net.Client, netlab.ClientAddr(3, s.ipv6), netip.AddrPortFrom(s.production,
		productionPort))
	for n := range 10 {
		var out bytes.Buffer
		for i := range fileSizes {
			fmt.Fprintf(&out, "GET /%d?piped.%d HTTP/1.1\r\nHost: a\r\n\r\n", i, n)
		}
		c.Write(out.Bytes())
		for range fileSizes {
			answer, err := http.ReadResponse(c.in, nil)
			if err == nil {
				_, err = io.Copy(io.Discard, answer.Body)
			}
			if err != nil {
				s.t.Fatal(err)
			}
		}
	}
	if err := c.finish(); err != nil {
		s.t.Error(err)
	}
}

// TestHTTP copies to servers whose answers are larger and slower. Each request must arrive in
// order, and none before its turn. Then some requests are left out or changed.
func TestHTTP(t *testing.T) {
	t.Parallel()
	someWays(t, only(raw), func(t *testing.T, way string) {
		t.Parallel()
		s := newStand(t, setting{way: way})
		web, copied := startNginx(t, s.net.Production, productionPort, ""), startNginx(t,
			s.net.Target, targetPort, "")
		for i, size := range fileSizes {
			writeFile(t, filepath.Join(copied.dir, "www", fmt.Sprint(i)),
				noise(uint64(i), 3*size+7))
		}
		production := startSite(t, s.net.Production, siteProduction, 1, 0)
		target := startSite(t, s.net.Target, siteTarget, 5, 3*time.Millisecond)

		c := s.copy("-x", s.mapping(productionPort, targetPort)+","+s.mapping(siteProduction,
			siteTarget))
		var all sync.WaitGroup
		all.Go(func() { s.siteLoad(6, 3) })
		all.Go(func() {
			s.curlLoad()
			s.nginxPipeline()
			s.wrk("/4?wrk")
		})
		all.Wait()
		within(patience/2, func() bool {
			return len(copied.requests()) >= len(web.requests()) &&
				target.count() >= production.count()
		})
		report := c.end()
		was, is := web.end(), copied.end()
		expectSame(t, "requests of each connection", sortedConversations(is, nil),
			sortedConversations(was, nil))
		if n := pipelined(is); n > 0 {
			t.Errorf("%d requests came to nginx before the answer to the one before had gone", n)
		}
		compareSites(t, production, target, nil)
		p := report.Protocol
		if p.Lost > 0 || p.Sent == 0 || report.Gate.Quiet > 10 || report.Gate.Forced > 0 {
			t.Errorf("the account: %+v, %+v, wanted nothing lost, and hardly a turn by guessing", p,
				report.Gate)
		}

		c = s.copy("-x", s.mapping(siteProduction, siteTarget), "--http-deny", "POST /length",
			"--http-deny", "* /chunked/1*",
			"--http-set", "X-Copy: yes", "--http-host", "test.example.org")
		s.siteLoad(6, 3)
		denied := func(what string) bool {
			path, _, _ := strings.Cut(strings.Fields(what)[1], "?")
			return strings.HasPrefix(what, "POST /length") || strings.HasPrefix(path, "/chunked/1")
		}
		within(patience/2, func() bool { return target.count() >= production.count()*7/10 })
		report = c.end()
		n := compareSites(t, production, target, denied)
		if p := report.Protocol; p.Dropped["denied"] != uint64(n) || p.Lost > 0 ||
			p.Rewritten != p.Sent {
			t.Errorf("the account: %+v, wanted %d requests dropped, and all others changed", p, n)
		}
	})
}

// pipelined counts the requests that nginx had in its buffer while it still answered the one
// before, where the client did not mean that.
func pipelined(log []logged) (n int) {
	for i := range log {
		if log[i].Pipe == "p" && !strings.Contains(log[i].URI, "piped") {
			n++
		}
	}
	return n
}

// compareSites compares what the sites were asked, without what was denied, of which it returns the
// number.
func compareSites(t *testing.T, production, target *site, denied func(what string) bool) (n int) {
	t.Helper()
	was, _, _ := production.drain()
	is, early, hosts := target.drain()
	if len(early) > 0 {
		t.Errorf("%d requests came before their time, as %v", len(early),
			early[:min(len(early), 5)])
	}
	if denied != nil {
		var left []string
		for _, c := range was {
			lines := strings.Split(c, " | ")
			all := len(lines)
			lines = slices.DeleteFunc(lines, denied)
			if n += all - len(lines); len(lines) > 0 {
				left = append(left, strings.Join(lines, " | "))
			}
		}
		slices.Sort(left)
		was = left
		if want := []string{`test.example.org "yes"`}; !slices.Equal(hosts, want) {
			t.Errorf("the target was asked for %q, wanted %q", hosts, want)
		}
	}
	expectSame(t, "requests of each connection to the site", is, was)
	if len(was) == 0 {
		t.Error("production's site was asked nothing")
	}
	return n
}
