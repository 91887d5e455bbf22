package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// TestCompareHTTP2 checks that a comparison of HTTP/2 finds a header and a page that are others at
// the target, and nothing where nothing is. Answers of one connection end in any order.
func TestCompareHTTP2(t *testing.T) {
	t.Parallel()
	for i, c := range []struct {
		name, more string // directives of the target
		page       string // that is changed there; empty: none
		code       int
		want       []string
	}{
		{"the same", "", "", 0, nil},
		{"a page", "", "1", 4, []string{"GET /{id}: body: value"}},
		{"a header", "add_header X-New 1;", "", 4, []string{"GET /{id}: header x-new: extra"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inTurn(t, i, func(t *testing.T, way string) {
				s := newStand(t, setting{way: way})
				startNginx(t, s.net.Production, productionPort, "http2")
				target := startNginxWith(t, s.net.Target, targetPort, "http2", c.more)
				if c.page != "" {
					writeFile(t, filepath.Join(target.dir, "www", c.page),
						noise(99, fileSizes[1]))
				}
				copier := s.copyPair("--compare", "--proto", "http2")
				const conns, pages = 40, 4
				for n := range conns {
					s.pagesAtOnce(n, pages)
				}
				if code := copier.stop(syscall.SIGINT); code != c.code {
					t.Errorf("exit code %d, wanted %d\n%s", code, c.code, copier.output())
				}
				r := copier.account()
				checkComparison(t, r, conns*pages)
				checkProven(t, r, c.want)
				checkNoSecret(t, copier.report)
				if p := r.Protocol.Production; p.Answered != conns*pages ||
					p.Status["2xx"] != conns*pages {
					t.Errorf("production's answers: %+v", p)
				}
			})
		})
	}
}

// pagesAtOnce is a client that asks for pages side by side, over one connection.
func (s *stand) pagesAtOnce(client, pages int) {
	s.t.Helper()
	h := s.streamTransport(client)
	defer h.CloseIdleConnections()
	// The first request opens the connection, which the others then share.
	c := &http.Client{Timeout: patience, Transport: h}
	if err := s.plainPage(c, 1); err != nil {
		s.t.Error(err)
	}
	var all sync.WaitGroup
	for n := range pages - 1 {
		all.Go(func() {
			if err := s.plainPage(c, 2+n); err != nil {
				s.t.Error(err)
			}
		})
	}
	all.Wait()
}

// plainPage asks for one page.
func (s *stand) plainPage(c *http.Client, n int) error {
	answer, err := c.Get(fmt.Sprintf("http://%s/%d?token=s3cr3t",
		netip.AddrPortFrom(s.production, productionPort), n))
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

// TestCompareGRPC checks that a comparison of gRPC finds what is another at the target: a message,
// a status, the text of a status. Each is found by the name of its method.
func TestCompareGRPC(t *testing.T) {
	t.Parallel()
	for i, c := range []struct {
		name    string
		changes []string // at the target
		code    int
		want    []string
	}{
		{"the same", nil, 0, nil},
		{"a message of many", []string{"-changed", "down"}, 4,
			[]string{"/test.Peer/down: messages[]: value"}},
		{"a status", []string{"-code", "7"}, 4, []string{"/test.Peer/fail: status: status"}},
		{"the text of a status", []string{"-message", "there is no such s3cr3t"}, 4,
			[]string{"/test.Peer/fail: trailer grpc-message: value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inTurn(t, i, func(t *testing.T, way string) {
				s := newStand(t, setting{way: way})
				startCallSite(t, s.net.Production, siteProduction)
				target := startCallSite(t, s.net.Target, siteTarget, c.changes...)
				copier := s.copy("-x", s.mapping(siteProduction, siteTarget), "--compare",
					"--proto", "http2")
				const conns, calls = 40, 5
				s.call(1, "-conns", fmt.Sprint(conns), "-rounds", "1", "-kinds",
					"unary,up,down,both,fail")
				within(patience, func() bool { return len(target.served()) >= conns*calls })
				if code := copier.stop(syscall.SIGINT); code != c.code {
					t.Errorf("exit code %d, wanted %d\n%s", code, c.code, copier.output())
				}
				r := copier.account()
				checkComparison(t, r, conns*calls)
				checkProven(t, r, c.want)
				checkNoSecret(t, copier.report)
			})
		})
	}
}
