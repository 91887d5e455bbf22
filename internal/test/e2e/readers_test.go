package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/account/web"
)

// The addresses at which the copier of a test with readers answers, on the production host, and how
// many readers stall.
const (
	dashboardAt    = "127.0.0.1:8436"
	metricsAt      = "127.0.0.1:9436"
	stalledReaders = 20
)

// reader connects to a server on the production host, and asks for a path so many times.
func (s *stand) reader(network, addr, path string, times int) net.Conn {
	s.t.Helper()
	c, err := s.net.Production.Dial(s.t.Context(), new(net.Dialer), network, addr)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	if b, ok := c.(interface{ SetReadBuffer(int) error }); ok {
		_ = b.SetReadBuffer(4096)
	}
	request := fmt.Sprintf("GET %s HTTP/1.1\r\nHost: tcpcopy\r\n\r\n", path)
	if _, err := fmt.Fprint(c, strings.Repeat(request, times)); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// memory returns how much memory a process has, in bytes.
func (p *process) memory() uint64 {
	p.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.cmd.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	var all, resident uint64
	if _, err := fmt.Sscan(string(text), &all, &resident); err != nil {
		p.t.Fatal(err)
	}
	return resident * uint64(os.Getpagesize())
}

// readers returns how many connections a process has that were made to its servers: at the ports of
// dashboardAt and metricsAt, and at a unix socket.
func (p *process) readers(socket string) (n int) {
	p.t.Helper()
	table := func(name string) [][]string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", p.cmd.Process.Pid, name))
		if err != nil {
			p.t.Fatal(err)
		}
		var rows [][]string
		for line := range strings.Lines(string(text)) {
			rows = append(rows, strings.Fields(line))
		}
		return rows
	}
	const established, connected = "01", "03"
	for _, row := range table("tcp") {
		if strings.HasSuffix(row[1], ":20F4") || strings.HasSuffix(row[1], ":24DC") {
			if row[3] == established {
				n++
			}
		}
	}
	for _, row := range table("unix") {
		if row[len(row)-1] == socket && row[5] == connected {
			n++
		}
	}
	return n
}

// TestStalledReaders checks that readers of a copier's pages that read nothing cost the copy no
// packet and the copier little memory, that they are cut while traffic is copied, and that they
// keep nobody else from reading.
func TestStalledReaders(t *testing.T) {
	t.Parallel()
	s := newStand(t, setting{way: socket})
	atProduction := startNginx(t, s.net.Production, productionPort, "")
	atTarget := startNginx(t, s.net.Target, targetPort, "")
	status := shortPath(t)
	c := s.copyPair("--dashboard", dashboardAt, "--metrics", metricsAt, "--status", status)
	load := func() { s.webLoad(webLoad{conns: 30, requests: 60, think: time.Millisecond}) }
	load()
	memory := c.memory() // of a copy that nobody looks at
	for i := range stalledReaders {
		switch i % 4 {
		case 0, 1:
			s.reader("tcp", dashboardAt, "/events", 1)
		case 2:
			s.reader("unix", status, "/events", 1)
		default:
			s.reader("tcp", metricsAt, "/metrics", 50)
		}
	}
	eventually(t, "the readers are connected",
		func() bool { return c.readers(status) == stalledReaders })
	r := s.reader("tcp", dashboardAt, "/sessions", 1)
	began := time.Now()
	answer, err := http.ReadResponse(bufio.NewReader(r), nil)
	if err != nil || answer.StatusCode != http.StatusOK || time.Since(began) > web.Patience {
		t.Errorf("a reader beside them gets %v, %v after %v", answer, err, time.Since(began))
	}
	r.Close()
	// A state comes each second, and the kernel takes some of them: only then a reader stalls.
	const most = 80 * time.Second
	highest := memory
	for began := time.Now(); ; {
		load()
		highest = max(highest, c.memory())
		n := c.readers(status)
		if n == 0 {
			t.Logf("all readers are cut after %v", time.Since(began))
			break
		}
		if time.Since(began) > most {
			t.Fatalf("%d of %d stalled readers are still there after %v", n, stalledReaders, most)
		}
	}
	t.Logf("%d KB of memory before the readers, %d KB at most with them", memory>>10, highest>>10)
	if highest > memory+stalledReaders<<20 {
		t.Errorf("memory has grown by %d MB, wanted at most a megabyte for each of %d readers",
			(highest-memory)>>20, stalledReaders)
	}
	within(patience/2,
		func() bool { return len(atTarget.requests()) >= len(atProduction.requests()) })
	report := c.end()
	production, target := atProduction.end(), atTarget.end()
	expectSame(t, "requests of each connection", sortedConversations(target, nil),
		sortedConversations(production, nil))
	expectComplete(t, report, len(conversations(production)), bytesOf(production))
	if report.Packets.KernelDrop > 0 {
		t.Errorf("%d packets were lost in the kernel", report.Packets.KernelDrop)
	}
}
