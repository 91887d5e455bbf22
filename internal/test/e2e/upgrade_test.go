package e2e

//lint:file-ignore SA1019 net/http has no server that accepts an upgrade

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/h2c"

	"tcpcopy/internal/lab/netlab"
)

// upgradeSite is a server that speaks HTTP/2 if a client of HTTP/1 asks for it.
type upgradeSite struct {
	mu    sync.Mutex
	asked []string
	newer int // how many of these were in HTTP/2
}

func startUpgradeSite(t testing.TB, host *netlab.Namespace, port uint16) *upgradeSite {
	t.Helper()
	s := new(upgradeSite)
	serveOn(t, host, port, &http.Server{Handler: h2c.NewHandler(s, new(http2.Server))})
	return s
}

// ServeHTTP answers with the path.
func (s *upgradeSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	content, err := io.ReadAll(r.Body)
	s.mu.Lock()
	s.asked = append(s.asked, fmt.Sprintf("%s %s %s %x %v", r.Method, r.URL.RequestURI(),
		r.Header.Get("X-Name"), sha256.Sum256(content), err))
	if r.ProtoMajor == 2 {
		s.newer++
	}
	s.mu.Unlock()
	_, _ = io.WriteString(w, r.URL.Path)
}

// drain returns what was asked, sorted.
func (s *upgradeSite) drain() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.asked)
	slices.Sort(all)
	return all
}

// TestHTTP2Upgrade copies clients that ask for HTTP/2 in HTTP/1, some with content, and others of
// HTTP/1 beside them. The target is asked the same, and its answers are the same.
func TestHTTP2Upgrade(t *testing.T) {
	t.Parallel()
	inTurn(t, 1, func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		production := startUpgradeSite(t, s.net.Production, siteProduction)
		target := startUpgradeSite(t, s.net.Target, siteTarget)
		c := s.copy("-x", s.mapping(siteProduction, siteTarget), "--compare")
		const clients, requests = 10, 3
		for i := range clients {
			version := "--http2"
			if i%5 == 4 {
				version = "--http1.1"
			}
			args := []string{version, "-sS", "-H", fmt.Sprintf("X-Name: %d", i)}
			switch i % 5 {
			case 2:
				args = append(args, "--data", string(noiseText(5000*(i+1))))
			case 3:
				args = append(args, "--data", string(noiseText(700)), "-H",
					"Transfer-Encoding: chunked")
			}
			for k := range requests {
				args = append(args, fmt.Sprintf("http://%s/%d", s.siteAddr(), k))
			}
			out, err := s.net.Client.Command(t.Context(), find(t, "curl"),
				args...).CombinedOutput()
			if err != nil {
				t.Fatalf("curl: %v\n%s", err, out)
			}
		}
		within(patience, func() bool { return len(target.drain()) >= clients*requests })
		if code := c.stop(syscall.SIGINT); code == 4 {
			t.Errorf("the servers differ\n%s", c.output())
		}
		r := c.account()
		want := production.drain()
		expectSame(t, "requests", target.drain(), want)
		// The server takes the request that asks for HTTP/2 for one of HTTP/1.
		const newer = clients * 4 / 5
		if len(want) != clients*requests || production.newer != newer*(requests-1) ||
			target.newer != newer*requests {
			t.Errorf("production was asked %d times, %d times in HTTP/2; the target %d times in it",
				len(want), production.newer, target.newer)
		}
		if p := r.Protocol; p.Sent != clients*requests || p.Answered != clients*requests ||
			p.Failed != 0 || p.Lost != 0 {
			t.Errorf("the account: %+v", p)
		}
		if r.Sessions.Delivered != clients || r.Bytes.Delivered != r.Bytes.Captured {
			t.Errorf("the account: %+v, %+v", r.Sessions, r.Bytes)
		}
		checkComparison(t, r, clients*requests)
		checkProven(t, r, nil)
	})
}
