package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/lab/netlab"
)

// startSwallower starts a server that answers with the path, but never those requests whose path
// ends in a 0.
func startSwallower(t *testing.T, host *netlab.Namespace, port uint16) {
	l := listenOn(t, host, fmt.Sprintf(":%d", port))
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() { swallow(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		served.Wait()
	})
}

// swallow serves one connection of a startSwallower.
func swallow(c net.Conn) {
	defer c.Close()
	for in := bufio.NewReader(c); ; {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if !strings.HasSuffix(r.URL.Path, "0") {
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\n"+
				"Content-Length: %d\r\n\r\n%s", len(r.URL.Path), r.URL.Path)
		}
	}
}

// TestCompareSwallowed checks that each answer that the target swallows is one finding, and that
// none comes after it in its session. Where the copy waits for answers, there is none. Where it
// does not, the next one takes its place, and those that follow move up; the last are missing.
func TestCompareSwallowed(t *testing.T) {
	t.Parallel()
	const none, other = "GET /doc/{id}: answer: no answer", "GET /doc/{id}: body: value"
	for _, c := range []struct {
		wait  string
		quick string
		want  []string
	}{{"auto", raw, []string{none}}, {"none", tunnel, []string{none, other}}} {
		t.Run(c.wait, func(t *testing.T) {
			someWays(t, only(c.quick), func(t *testing.T, way string) {
				s := newStand(t, setting{way: way})
				serveOn(t, s.net.Production, productionPort, &http.Server{Handler: echoPath{}})
				startSwallower(t, s.net.Target, targetPort)
				copier := s.copyPair("--compare", "--wait", c.wait, "--gate-limit", "500ms")
				const clients, conns = 4, 20
				const swallowed = clients * conns * 3 / 5
				s.askService(clients, conns)
				if code := copier.stop(syscall.SIGINT); code != 4 {
					t.Errorf("exit code %d, wanted 4\n%s", code, copier.output())
				}
				r := copier.account()
				checkEquation(t, r)
				checkProven(t, r, c.want)
				var found uint64
				for _, cell := range r.Compare.Cells {
					found += cell.Alone
				}
				if v := r.Compare; v.First != swallowed || found != swallowed {
					t.Errorf("%d sessions differed, with %d findings; %d answers were "+
						"swallowed: %+v", v.First, found, swallowed, v.Cells)
				}
			})
		})
	}
}

// echoPath answers with the path that was asked for.
type echoPath struct{}

func (echoPath) ServeHTTP(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.URL.Path) }

// TestCompareRecordingEachWay checks that the same recording, replayed by the three ways, twice
// each, shows the same differences: the same JSON.
func TestCompareRecordingEachWay(t *testing.T) {
	if testing.Short() {
		return
	}
	t.Parallel()
	c := &nginxChanges[2]
	var recorded []byte
	var took time.Duration
	var first string
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			s := newStand(t, setting{way: way})
			path := s.file("peak.pcapng")
			if recorded == nil {
				recorded, took = s.recordPages(path)
			} else {
				writeFile(t, path, recorded)
			}
			target := startNginxWith(t, s.net.Target, targetPort, "", c.more)
			writeFile(t, filepath.Join(target.dir, "www", c.page), noise(99, fileSizes[3]))
			for range 2 {
				text := s.replayCompared(path, took, c)
				if first == "" {
					first = text
				}
				if d := cmp.Diff(first, text); d != "" {
					t.Errorf("other differences than those of the first run: %s", d)
				}
			}
		})
	}
}

// recordPages records a client of nginx, and returns the recording, and how long it lasts.
func (s *stand) recordPages(path string) ([]byte, time.Duration) {
	s.t.Helper()
	startNginxWith(s.t, s.net.Production, productionPort, "", fmt.Sprintf(compressing, 1))
	rec := start(s.t, s.net.Production, "record", binary, "record", "--both", "-x",
		fmt.Sprint(productionPort), "-o", path)
	rec.awaitOutput("tcpcopy: ready")
	began := time.Now()
	s.pagesLoad(1, 75, func(int) {})
	took := time.Since(began)
	if code := rec.stop(syscall.SIGINT); code != 0 {
		s.t.Fatalf("record: exit code %d\n%s", code, rec.output())
	}
	all, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	return all, took
}

// replayCompared replays a recording that took so long, slowly, so that the answers come in its
// order, and returns what was found, without how long answers took. A busy host has recorded
// slowly, too.
func (s *stand) replayCompared(path string, took time.Duration, c *nginxChange) string {
	s.t.Helper()
	speed := fmt.Sprintf("%.3f", max(0.1, took.Seconds()/(patience/2).Seconds()))
	report := filepath.Join(s.t.TempDir(), "report.json")
	args := append([]string{"replay", path}, s.copyArgs(report)[1:]...)
	p := start(s.t, s.net.Production, "replay", binary, append(args, "-x",
		s.mapping(productionPort, targetPort), "--compare", "--speed", speed, "--stats", "0")...)
	if code := p.wait(); code != c.code {
		s.t.Errorf("exit code %d, wanted %d\n%s", code, c.code, p.output())
	}
	r, err := export.ReadReport(report)
	if err != nil {
		s.t.Fatal(err)
	}
	checkComparison(s.t, r, 3*75)
	checkProven(s.t, r, c.want)
	r.Compare.Times = nil
	text, err := json.MarshalIndent(r.Compare, "", " ")
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}
