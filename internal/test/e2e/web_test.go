package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// url is where clients reach production.
func (s *stand) url(path string) string {
	return "http://" + netip.AddrPortFrom(s.production, productionPort).String() + path
}

// curl runs curl on the client's host.
func (s *stand) curl(args ...string) {
	s.t.Helper()
	args = append([]string{"--silent", "--show-error", "--max-time", "30"}, args...)
	if out, err := s.net.Client.Command(s.t.Context(), find(s.t, "curl"),
		args...).CombinedOutput(); err != nil {
		s.t.Fatalf("curl %q: %v\n%s", args, err, out)
	}
}

// urls is the static files, each with a query that names the request, and a place for each answer.
func (s *stand) urls(name string, n int) []string {
	var args []string
	for i := range n {
		args = append(args, "-o", "/dev/null", s.url(fmt.Sprintf("/%d?%s.%d", i%len(fileSizes),
			name, i)))
	}
	return args
}

// curlLoad is what a shell script does to a web server.
func (s *stand) curlLoad() {
	body := filepath.Join(s.dir, "body")
	writeFile(s.t, body, noise(99, 100_000))
	s.curl(s.urls("several-on-one", 16)...)
	for i := range fileSizes {
		s.curl(s.urls(fmt.Sprintf("one-each-%d", i), 1)...)
	}
	s.curl(append([]string{"-H", "Connection: close"}, s.urls("close", 1)...)...)
	s.curl(append([]string{"--http1.0"}, s.urls("old", 3)...)...)
	s.curl("--head", "-o", "/dev/null", s.url("/3?head"))
	s.curl("-o", "/dev/null", s.url("/missing"))
	s.curl("--data-binary", "@"+body, "-o", "/dev/null", s.url("/post?plain"))
	s.curl("--data-binary", "@"+body, "-H", "Expect: 100-continue", "-o", "/dev/null",
		s.url("/post?continue"))
	s.curl("-H", "Transfer-Encoding: chunked", "--data-binary", "@"+body, "-o", "/dev/null",
		s.url("/post?chunked"))
	s.curl("-T", body, "-o", "/dev/null", s.url("/put/by-curl"))
	s.curl("--limit-rate", "300k", "--data-binary", "@"+body, "-o", "/dev/null",
		s.url("/post?slowly"))
}

// webLoad is many keepalive connections at once that ask for this and that.
type webLoad struct {
	conns, requests int
	uploads         bool // some of the requests are uploads of 100 KB
	think           time.Duration
}

func (s *stand) webLoad(l webLoad) {
	s.t.Helper()
	var all sync.WaitGroup
	failed := make(chan error, l.conns)
	for i := range l.conns {
		all.Go(func() {
			if err := s.webClient(i, l); err != nil {
				failed <- fmt.Errorf("client %d: %w", i, err)
			}
		})
	}
	all.Wait()
	close(failed)
	for err := range failed {
		s.t.Error(err)
	}
}

// webClient is one connection of a webLoad.
func (s *stand) webClient(i int, l webLoad) error {
	r := rand.New(rand.NewPCG(uint64(i), 1))
	d := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netlab.ClientAddr(i%4,
		s.ipv6), 0))}
	transport := &http.Transport{
		MaxConnsPerHost:    1,
		DisableCompression: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return s.net.Client.Dial(ctx, d, network, address)
		},
	}
	defer transport.CloseIdleConnections()
	client := http.Client{Transport: transport, Timeout: patience}
	for n := range l.requests {
		if l.think > 0 {
			wait(time.Duration(r.Int64N(int64(2 * l.think))))
		}
		if err := s.webRequest(&client, r, l.uploads, i, n); err != nil {
			return fmt.Errorf("request %d: %w", n, err)
		}
	}
	return nil
}

// wait is a client's think time.
func wait(d time.Duration) { <-time.After(d) }

func (s *stand) webRequest(client *http.Client, r *rand.Rand, uploads bool, conn, n int) error {
	file := r.IntN(len(fileSizes))
	method, path, want := http.MethodGet, fmt.Sprintf("/%d?c=%d&n=%d", file, conn,
		n), fileSizes[file]
	var body []byte
	if uploads && r.IntN(8) == 0 {
		method, path, want, body = http.MethodPut, fmt.Sprintf("/put/%d/%d", conn,
			n), -1, noise(r.Uint64(), 100_000)
	}
	req, err := http.NewRequest(method, s.url(path), bytes.NewReader(body))
	if err != nil {
		return err
	}
	answer, err := client.Do(req)
	if err != nil {
		return err
	}
	got, err := io.Copy(io.Discard, answer.Body)
	answer.Body.Close()
	if err != nil {
		return err
	}
	if answer.StatusCode/100 != 2 || want >= 0 && got != int64(want) {
		return fmt.Errorf("%s %s: status %d and %d bytes, wanted %d", method, path,
			answer.StatusCode, got, want)
	}
	return nil
}

// webRun plays a load between two nginx and a copier, and compares all that the two have.
func webRun(t *testing.T, s *stand, parameters string, load func(), copyArgs ...string) (production,
	target []logged) {
	t.Helper()
	atProduction := startNginx(t, s.net.Production, productionPort, "")
	atTarget := startNginx(t, s.net.Target, targetPort, parameters)
	c := s.copyPair(copyArgs...)
	load()
	within(patience/2,
		func() bool { return len(atTarget.requests()) >= len(atProduction.requests()) })
	report := c.end()
	production, target = atProduction.end(), atTarget.end()
	expectSame(t, "requests of each connection", sortedConversations(target, nil),
		sortedConversations(production, nil))
	expectSame(t, "uploaded files", sums(t, filepath.Join(atTarget.dir, "www"), true),
		sums(t, filepath.Join(atProduction.dir, "www"), true))
	expectSame(t, "request bodies", sums(t, filepath.Join(atTarget.dir, "bodies"), false),
		sums(t, filepath.Join(atProduction.dir, "bodies"), false))
	expectComplete(t, report, len(conversations(production)), bytesOf(production))
	if len(production) == 0 {
		t.Error("production's log is empty")
	}
	return production, target
}

// TestNginx checks that nginx receives the same requests and uploads on the target as on
// production.
func TestNginx(t *testing.T) {
	t.Parallel()
	for i, test := range []struct {
		name string
		ipv6 bool
		load func(s *stand)
	}{
		{"curl", false, (*stand).curlLoad},
		{"curl, IPv6", true, (*stand).curlLoad},
		{"50 connections", false,
			func(s *stand) { s.webLoad(webLoad{conns: 50, requests: 40}) }},
		{"50 connections with uploads", false,
			func(s *stand) { s.webLoad(webLoad{conns: 50, requests: 30, uploads: true}) }},
		{"50 connections that think, IPv6", true, func(s *stand) {
			s.webLoad(webLoad{conns: 50, requests: 40, uploads: true,
				think: 10 * time.Millisecond})
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			inTurn(t, i, func(t *testing.T, way string) {
				t.Parallel()
				s := newStand(t, setting{way: way, ipv6: test.ipv6})
				production, target := webRun(t, s, "", func() { test.load(s) })
				if way != socket {
					expectSame(t, "requests of each client address", sortedConversations(target,
						peer),
						sortedConversations(production, peer))
				}
			})
		})
	}
}

func TestNginxProxyProtocol(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v1", "v2"} {
		for _, ipv6 := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, IPv6 %v", version, ipv6), func(t *testing.T) {
				s := newStand(t, setting{way: socket, ipv6: ipv6})
				production, target := webRun(t, s, "proxy_protocol", func() {
					s.webLoad(webLoad{conns: 20, requests: 20, uploads: true})
				}, "--proxy-protocol", version)
				// what nginx was told at the target is what it saw at production
				for i := range production {
					o := &production[i]
					o.Proxied, o.ProxiedPort = o.Addr.String(), fmt.Sprint(o.Port)
				}
				expectSame(t, "requests of each client told of", sortedConversations(target,
					proxied),
					sortedConversations(production, proxied))
			})
		}
	}
}
