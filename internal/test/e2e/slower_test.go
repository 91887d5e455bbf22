package e2e

import (
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// TestSlower replays a recording against servers that are as fast as the old one, and slower, with
// a copier that stands still now and then, and on a machine that is busy with something else. Only
// the slow server is slower. Times are judged by blocks of a second, and of fewer than 20 they are
// not, so a short run leaves this out.
func TestSlower(t *testing.T) {
	if testing.Short() {
		return
	}
	const length, pause = 24 * time.Second, 2 * time.Millisecond
	s := newStand(t, setting{way: socket, net: netlab.Config{Clients: 6}})
	startSite(t, s.net.Production, productionPort, 1, pause)
	startSite(t, s.net.Target, targetPort, 1, pause)
	startSite(t, s.net.Target, targetPort+1, 1, 2*pause)
	recording := s.file("peak.pcapng")
	rec := start(t, s.net.Production, "record", binary, "record", "-x", fmt.Sprint(productionPort),
		"--both", "-o", recording)
	rec.awaitOutput("tcpcopy: ready")
	s.steadyLoad(6, 25*time.Millisecond, length)
	if code := rec.stop(syscall.SIGINT); code != 0 {
		t.Fatalf("record: exit code %d\n%s", code, rec.output())
	}
	replay := func(name string, port uint16, still, busy bool) string {
		path := s.file(name)
		if busy {
			for range runtime.NumCPU() {
				defer busyLoop(t)()
			}
		}
		p := start(t, s.net.Production, "replay", binary, "replay", recording, "-x",
			s.mapping(productionPort, port), "--compare", "--report", path, "--stats", "0")
		for tick := time.NewTicker(100 * time.Millisecond); still && !p.hasEnded(); {
			p.signal(syscall.SIGSTOP)
			<-tick.C
			p.signal(syscall.SIGCONT)
			for range 4 {
				<-tick.C
			}
		}
		eventually(t, name, p.hasEnded)
		if code := p.wait(); code != 0 {
			t.Errorf("%s: exit code %d\n%s", name, code, p.output())
		}
		return path
	}
	old := replay("old.json", targetPort, false, false)
	for _, c := range []struct {
		name  string
		port  uint16
		still bool
		busy  bool
		codes []int
	}{
		{"as fast", targetPort, false, false, []int{0, 5}},
		{"as fast, and a copier that stands still now and then", targetPort, true, false,
			[]int{0, 5}},
		{"as fast, on a busy machine", targetPort, false, true, []int{0, 5}},
		{"slower", targetPort + 1, false, false, []int{4}},
	} {
		path := replay(c.name, c.port, c.still, c.busy)
		p := start(t, s.net.Production, "diff", binary, "diff", "--fail-on", "slower", old, path)
		code := p.wait()
		t.Logf("%s: exit code %d\n%s", c.name, code, p.output())
		if code != c.codes[0] && code != c.codes[len(c.codes)-1] {
			t.Errorf("%s: exit code %d, wanted %v\n%s", c.name, code, c.codes, p.output())
		}
	}
}

// steadyLoad is clients of a site, each of which asks every so often, on a connection of its own.
func (s *stand) steadyLoad(clients int, every, length time.Duration) {
	s.t.Helper()
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			client := s.siteClient(i)
			defer client.CloseIdleConnections()
			tick := time.NewTicker(every)
			defer tick.Stop()
			for end := time.Now().Add(length); time.Now().Before(end); <-tick.C {
				answer, err := client.Get(fmt.Sprintf("http://%s/length/500",
					netip.AddrPortFrom(s.production, productionPort)))
				if err != nil {
					s.t.Error(err)
					return
				}
				io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
			}
		})
	}
	all.Wait()
}
