package app

import (
	"bufio"
	"bytes"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/proto/known"
	"tcpcopy/internal/source/capfile"
	"tcpcopy/internal/test/toyproto"
)

// A protocol that is registered is part of the whole program: recognised, waited for, counted,
// with its options in help, files and refusals, and its words in the account.
func TestAnotherProtocol(t *testing.T) {
	t.Run("registered", func(t *testing.T) {
		toyproto.Register(t)
		t.Run("recognised", toyRecognised)
		t.Run("option", toyOption)
		t.Run("refused", toyRefused)
	})
	if _, help, _ := inProcess("tcpcopy", "copy", "--help"); known.Named(toyproto.Name) != nil ||
		strings.Contains(help, "toy") {
		t.Error("the protocol is still there after its test")
	}
	if _, ok := ledger.ReasonNamed("toy_denied"); ok {
		t.Error("its reason is still there after its test")
	}
}

func toyRecognised(t *testing.T) {
	target := newToyTarget(t, 600*time.Millisecond)
	summary, report := replayToy(t, target, "+ok\n", []string{"?one\n", "?two\n", "?bad\n"})
	if got := target.log(); got != "?one +fine; ?two +fine; ?bad -bad" {
		t.Errorf("the target saw %s", got)
	}
	if target.early {
		t.Error("a request came before the answer to the one before was whole")
	}
	p := &report.Protocol
	if p.Sent != 3 || p.Answered != 3 || p.Failed != 1 || p.Lost != 0 ||
		p.Status["toy fine"] != 2 || p.Status["toy wrong"] != 1 {
		t.Errorf("reported: %+v", p)
	}
	if report.Gate.Known != 3 { // two requests, and the client's end
		t.Errorf("%d turns waited for an answer whose end was known, wanted 3", report.Gate.Known)
	}
	for _, want := range []string{"3 requests sent, 0 rewritten; 3 answers, 1 failed",
		"status: 2 toy fine, 1 toy wrong"} {
		if !strings.Contains(summary, want) {
			t.Errorf("no %q in\n%s", want, summary)
		}
	}
}

func toyOption(t *testing.T) {
	file := filepath.Join(t.TempDir(), "copy.yaml")
	if err := os.WriteFile(file, []byte("toy-deny: [secret, two]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"--toy-deny", "secret", "--toy-deny", "two"},
		{"--config", file}} {
		target := newToyTarget(t, 0)
		summary, report := replayToy(t, target, "+ok\n",
			[]string{"?one\n", "?two\n", "?the secret\n", "?four\n"}, args...)
		if got := target.log(); got != "?one +fine; ?four +fine" {
			t.Errorf("%v: the target saw %s", args, got)
		}
		if n := report.Protocol.Dropped["toy_denied"]; n != 2 ||
			report.Bytes.Dropped["toy_denied"] != 17 {
			t.Errorf("%v: reported: %d denied, bytes %v", args, n, report.Bytes.Dropped)
		}
		if pct := report.Bytes.DeliveredPercent; pct == nil || *pct != 100 {
			t.Errorf("%v: what was left out on request counts as lost", args)
		}
		for _, want := range []string{"left out: 2 toy_denied",
			"a request that --toy-deny keeps from the target"} {
			if !strings.Contains(summary, want) {
				t.Errorf("%v: no %q in\n%s", args, want, summary)
			}
		}
	}
	_, help, _ := inProcess("tcpcopy", "copy", "--help")
	if !strings.Contains(help,
		"--toy-deny WORD            do not send toy requests that have this word") {
		t.Errorf("the option is not in\n%s", help)
	}
}

func toyRefused(t *testing.T) {
	for _, tt := range []struct{ env, args, want string }{
		{"", "--toy-deny 'two words'", `tcpcopy: --toy-deny: word "two words": wanted one word`},
		{"", "--toy-deny a --proto none",
			`tcpcopy: --proto "none": does not go with options for requests of toy`},
		{"", "--proto tow", `tcpcopy: --proto "tow": wanted auto, none, websocket, http2, ` +
			`http1, redis, mysql or toy`},
		{"x", "--proto toy", "tcpcopy: the environment's TCPCOPY_TOY: is set: wanted nothing"},
	} {
		t.Setenv("TCPCOPY_TOY", tt.env)
		code, _, stderr := inProcess(words("tcpcopy -x 80-10.0.0.2:8080 " + tt.args)...)
		if code != exitBadInput || !strings.HasPrefix(stderr, tt.want) {
			t.Errorf("%s: exit code %d, %s", tt.args, code, stderr)
		}
	}
}

// toyTarget answers one connection. An answer comes in two parts, of which the first is longer
// than the whole of production's. The pause between them is longer than a gate waits that guesses.
type toyTarget struct {
	net.Listener
	pause time.Duration
	done  chan struct{}
	lines []string
	early bool // a request came between the parts
}

func newToyTarget(t *testing.T, pause time.Duration) *toyTarget {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &toyTarget{Listener: l, pause: pause, done: make(chan struct{})}
	t.Cleanup(func() {
		l.Close()
		<-s.done
	})
	go s.serve()
	return s
}

func (s *toyTarget) serve() {
	defer close(s.done)
	c, err := s.Accept()
	if err != nil {
		return
	}
	defer c.Close()
	for r := bufio.NewReader(c); ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		answer := "+fine"
		if strings.HasPrefix(line, "?bad") {
			answer = "-bad"
		}
		s.lines = append(s.lines, strings.TrimSpace(line)+" "+answer)
		c.Write([]byte(answer))
		if s.pause > 0 {
			c.SetReadDeadline(time.Now().Add(s.pause))
			if _, err := r.Peek(1); err == nil {
				s.early = true
			}
			c.SetReadDeadline(time.Time{})
		}
		c.Write([]byte("\n"))
	}
}

// log returns what came, once the connection has ended.
func (s *toyTarget) log() string {
	<-s.done
	return strings.Join(s.lines, "; ")
}

// replayToy replays a connection on which each request was answered in the same way, and returns
// the summary and the report.
func replayToy(t *testing.T, target *toyTarget, answer string, requests []string,
	args ...string) (string, *export.Report) {
	t.Helper()
	dir := t.TempDir()
	file, report := filepath.Join(dir, "toy.pcap"), filepath.Join(dir, "report.json")
	if err := os.WriteFile(file, recordedCall(t, answer, requests), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, said bytes.Buffer
	p := &program{out: &out, err: &said}
	p.wire()
	args = append([]string{
		"tcpcopy", "replay", file, "-x", "80-" + target.Addr().String(), "--report", report,
		"--status", "off", "--stats", "0",
	}, args...)
	if code := p.run(args); code != exitOK {
		t.Fatalf("exit code %d\n%s%s", code, &out, &said)
	}
	r, err := export.ReadReport(report)
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), r
}

// recordedCall returns a capture file of one connection.
func recordedCall(t *testing.T, answer string, requests []string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := capfile.NewWriter(&buf, capfile.PCAP, capfile.LinkRaw, 0)
	if err != nil {
		t.Fatal(err)
	}
	client, server := netip.MustParseAddrPort("192.0.2.7:40000"),
		netip.MustParseAddrPort("10.0.0.1:80")
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixNano()
	seq, ack := seqnum.Value(1000), seqnum.Value(77)
	put := func(s packet.Segment, text string) {
		s.Window, s.Payload, s.Len = 65535, []byte(text), len(text)
		b := packet.Append(nil, &s)
		w.Write(now, b, len(b))
		now += 1e6
	}
	up := func(flags packet.Flags, text string) {
		put(packet.Segment{Src: client, Dst: server, Seq: seq, Ack: ack, Flags: flags}, text)
		seq = seq.Add(len(text))
	}
	down := func(flags packet.Flags, text string) {
		put(packet.Segment{Src: server, Dst: client, Seq: ack, Ack: seq, Flags: flags}, text)
		ack = ack.Add(len(text))
	}
	up(packet.SYN, "")
	seq++
	down(packet.SYN|packet.ACK, "")
	ack++
	up(packet.ACK, "")
	for _, q := range requests {
		up(packet.ACK|packet.PSH, q)
		down(packet.ACK|packet.PSH, answer)
		up(packet.ACK, "")
	}
	up(packet.ACK|packet.FIN, "")
	seq++
	down(packet.ACK|packet.FIN, "")
	ack++
	up(packet.ACK, "")
	w.Flush()
	return buf.Bytes()
}
