package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// answerSize is how long answering's answers are.
const answerSize = 12_000

// answering is a production server whose answers are of answerSize; call asks it for one, from a
// connection of its own.
func (s *stand) answering() (call func()) {
	s.t.Helper()
	accept(s.t, s.net.Production, onPort(productionPort), func(c net.Conn) {
		if _, err := bufio.NewReader(c).ReadString('\n'); err == nil {
			c.Write(noise(1, answerSize))
		}
	})
	return func() {
		s.t.Helper()
		d := &net.Dialer{Timeout: patience}
		c, err := s.net.Client.Dial(s.t.Context(), d, "tcp4",
			fmt.Sprintf("%s:%d", netlab.ProductionAddr4, productionPort))
		if err != nil {
			s.t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, "a request\n")
		if b, err := io.ReadAll(c); err != nil || len(b) != answerSize {
			s.t.Fatalf("%d bytes, %v", len(b), err)
		}
	}
}

// dumped is what tcpdump reads in a file: a line for each packet.
func dumped(t *testing.T, file string, filter ...string) (lines []string) {
	t.Helper()
	cmd := exec.Command(find(t, "tcpdump"), append([]string{"-nr", file, "-t"}, filter...)...)
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || strings.Contains(errs.String(), "truncated") {
		t.Errorf("tcpdump -r %s: %v\n%s", file, err, errs.String())
	}
	for line := range strings.Lines(string(out)) {
		lines = append(lines, line)
	}
	return lines
}

func TestRecord(t *testing.T) {
	s := newStand(t, setting{way: socket})
	call := s.answering()
	at := func(name string) string { return s.file(name) }
	run := func(args ...string) *process {
		p := start(t, s.net.Production, "record", binary, append([]string{"record", "-x", "80"},
			args...)...)
		p.awaitOutput("tcpcopy: ready: recording port 80")
		return p
	}
	headers := run("-o", at("headers.pcapng"))
	both := run("-o", at("both.pcap"), "--both")
	half := run("-o", at("half.pcapng"), "-r", "50", "--rotate", "64K", "--both", "--keep", "3")
	const calls = 100
	for range calls {
		call()
	}
	for _, p := range []*process{headers, both, half} {
		if code := p.stop(syscall.SIGINT); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
	syn, answer := "tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn", "src port 80 and len >= 1000"
	if n := len(dumped(t, at("headers.pcapng"), syn)); n != calls {
		t.Errorf("%d connections recorded, wanted %d", n, calls)
	}
	if n := len(dumped(t, at("both.pcap"), syn)); n != calls {
		t.Errorf("%d connections recorded with --both, wanted %d", n, calls)
	}
	// tcpdump's "len" is what was on the wire; files tell what was kept by their size.
	if lines := dumped(t, at("both.pcap"), answer); len(lines) < calls {
		t.Errorf("%d segments of answers, wanted %d at least", len(lines), calls)
	}
	size := func(name string) int64 {
		fi, err := os.Stat(at(name))
		if err != nil {
			t.Fatal(err)
		}
		return fi.Size()
	}
	if h, b := size("headers.pcapng"), size("both.pcap"); b < calls*answerSize || h > b/2 {
		t.Errorf("%d bytes of headers, %d with --both: wanted answers in the second only", h, b)
	}
	pieces, _ := filepath.Glob(at("half-*.pcapng"))
	if len(pieces) != 3 || !strings.Contains(half.output(), "removed (--keep)") {
		t.Errorf("%q\n%s", pieces, half.output())
	}
	var fins, syns int
	for _, p := range pieces {
		syns += len(dumped(t, p, syn))
		fins += len(dumped(t, p, "src port 80 and tcp[tcpflags] & tcp-fin != 0"))
	}
	// The last two files of 64 KB are full, or nearly: one connection after the other, of which one
	// may have begun in a file that is gone.
	if syns < 8 || syns > 20 || fins < syns-1 || fins > syns+1 {
		t.Errorf("in the last three files %d connections begin and %d end, wanted some 8 to 20 "+
			"of both", syns, fins)
	}
	if !strings.Contains(headers.output(), fmt.Sprintf("%d new sessions", calls)) ||
		!strings.Contains(half.output(), "left out by --sample") {
		t.Errorf("%s\n%s", headers.output(), half.output())
	}
}

// TestRecordFullDisk checks that a full disk gives one line and exit code 1, and that what was
// written can be read.
func TestRecordFullDisk(t *testing.T) {
	s := newStand(t, setting{way: socket})
	call := s.answering()
	file := s.file("full.pcapng")
	p := start(t, s.net.Production, "record", "/bin/sh", "-c", `ulimit -f 100 && exec "$0" "$@"`,
		binary, "record", "-x", "80", "--both", "-o", file)
	p.awaitOutput("tcpcopy: ready")
	within(patience, func() bool { call(); return p.hasEnded() })
	if code := p.wait(); code != 1 {
		t.Errorf("exit code %d, wanted 1", code)
	}
	if out := p.output(); strings.Count(out, "file too large") != 1 || !strings.Contains(out,
		"tcpcopy: record: write") {
		t.Errorf("wanted one clear line\n%s", out)
	}
	if n := len(dumped(t, file)); n < 20 {
		t.Errorf("%d packets can be read", n)
	}
}
