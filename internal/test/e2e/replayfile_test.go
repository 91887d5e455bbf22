package e2e

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/source/capfile"
)

// tape is a capture file that a test makes, packet by packet.
type tape struct {
	buf  bytes.Buffer
	w    *capfile.Writer
	now  int64
	snap int // what is kept of the payload's packets; 0: all
}

func newTape(t *testing.T, link capfile.LinkType) *tape {
	t.Helper()
	r := &tape{now: 1_764_072_000e9}
	var err error
	if r.w, err = capfile.NewWriter(&r.buf, capfile.PCAPNG, link, 0); err != nil {
		t.Fatal(err)
	}
	return r
}

var recordedServer = netip.MustParseAddrPort("10.0.0.1:80")

func recordedClient(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("192.0.2.7"), uint16(40000+i))
}

func (r *tape) packet(src, dst netip.AddrPort, seq, ack uint32, flags packet.Flags, text string) {
	s := packet.Segment{
		Src: src, Dst: dst, Seq: seqnum.Value(seq), Ack: seqnum.Value(ack), Flags: flags,
		Window: 65535, Payload: []byte(text), Len: len(text),
	}
	b := packet.Append(nil, &s)
	kept := b
	if r.snap > 0 && len(b) > r.snap {
		kept = b[:r.snap]
	}
	r.w.Write(r.now, kept, len(b))
	r.now += 1e6
}

// call is one connection: requests, with answers of their length, from a SYN (or the middle) to a
// FIN.
func (r *tape) call(i int, syn bool, requests ...string) {
	c, s := recordedClient(i), recordedServer
	seq, ack := uint32(1000*i), uint32(77)
	if syn {
		r.packet(c, s, seq-1, 0, packet.SYN, "")
		r.packet(s, c, ack-1, seq, packet.SYN|packet.ACK, "")
		r.packet(c, s, seq, ack, packet.ACK, "")
	}
	for _, q := range requests {
		r.packet(c, s, seq, ack, packet.ACK|packet.PSH, q)
		seq += uint32(len(q))
		r.packet(s, c, ack, seq, packet.ACK|packet.PSH, strings.ToUpper(q))
		ack += uint32(len(q))
		r.packet(c, s, seq, ack, packet.ACK, "")
	}
	r.packet(c, s, seq, ack, packet.ACK|packet.FIN, "")
	r.packet(s, c, ack, seq+1, packet.ACK|packet.FIN, "")
	r.packet(c, s, seq+1, ack+1, packet.ACK, "")
}

func (r *tape) bytes() []byte {
	r.w.Flush()
	return r.buf.Bytes()
}

// capitals is a target that answers in capitals, and keeps what each connection sent.
type capitals struct {
	net.Listener
	mu   sync.Mutex
	sent []string
	busy sync.WaitGroup
}

func newCapitals(t *testing.T) *capitals {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &capitals{Listener: l}
	e.busy.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.busy.Go(func() { e.serve(c) })
		}
	})
	t.Cleanup(e.end)
	return e
}

func (e *capitals) serve(c net.Conn) {
	defer c.Close()
	var all []byte
	b := make([]byte, 64<<10)
	for {
		n, err := c.Read(b)
		all = append(all, b[:n]...)
		if err != nil {
			break
		}
		c.Write(bytes.ToUpper(b[:n]))
	}
	e.mu.Lock()
	e.sent = append(e.sent, string(all))
	e.mu.Unlock()
}

func (e *capitals) end() {
	e.Close()
	e.busy.Wait()
}

// replayFiles replays files to a target of its own.
func replayFiles(t *testing.T, stdin io.Reader, args ...string) (sent []string, r *export.Report,
	code int, output string) {
	t.Helper()
	e := newCapitals(t)
	report := filepath.Join(t.TempDir(), "report.json")
	cmd := exec.CommandContext(t.Context(), binary,
		append(args, "-x", fmt.Sprintf("80-%s", e.Addr()), "--report", report)...)
	cmd.Stdin = stdin
	out, err := cmd.CombinedOutput()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	e.end()
	if r, err = export.ReadReport(report); err == nil && (!r.Balanced || !r.Final ||
		r.Sessions.InFlight != 0) {
		t.Errorf("the account: %+v", r)
	}
	slices.Sort(e.sent)
	return e.sent, r, cmd.ProcessState.ExitCode(), string(out)
}

// oddFile is a replay of unusual capture files, and what it must say of them.
type oddFile struct {
	name    string
	files   [][]byte
	args    []string
	want    []string
	dropped string // a reason, of one session
	code    int
	says    string
}

// oddFiles returns the cases of TestReplayOddFiles.
func oddFiles(t *testing.T) []oddFile {
	taped := func(link capfile.LinkType, play func(*tape)) []byte {
		r := newTape(t, link)
		play(r)
		return r.bytes()
	}
	raw := func(play func(*tape)) []byte { return taped(capfile.LinkRaw, play) }
	two := raw(func(r *tape) { r.call(1, true, "one", "two"); r.call(2, true, "three") })
	long := strings.Repeat("x", 3000)
	return []oddFile{
		{name: "as it should be", files: [][]byte{two}, want: []string{"onetwo", "three"}},
		{name: "TCPCopy's letters", files: [][]byte{two}, args: []string{"-a", "2", "-I", "100",
			"-T", "2"}, want: []string{"onetwo", "onetwo", "three", "three"}},
		{name: "three times, as fast as can be", files: [][]byte{two}, args: []string{"--loop", "3",
			"--speed", "max"},
			want: []string{"onetwo", "onetwo", "onetwo", "three", "three", "three"}},
		{name: "connections under way, twice",
			files: [][]byte{raw(func(r *tape) {
				r.call(1, false, "one",
					"two")
			})}, args: []string{"--loop", "2"},
			want: []string{"two", "two"}},
		{
			name: "the clock is set back", want: []string{"onetwo",
				"three"}, says: "clock was set back 1 time",
			files: [][]byte{raw(func(r *tape) {
				r.call(1, true, "one",
					"two")
				r.now -= 3600e9
				r.call(2, true, "three")
			})},
		},
		{name: "cut off in the middle of a packet", files: [][]byte{two[:len(two)-20]},
			want: []string{"onetwo", "three"}, says: "1 file ends in the middle of a packet"},
		{name: "rubbish at the end", files: [][]byte{append(slices.Clone(two), 6, 0, 0, 0, 13, 0, 0,
			0)}, want: []string{"onetwo", "three"}, says: "read only so far"},
		{
			name: "packets that were cut", want: []string{"", "three"}, dropped: "capture_gap",
			files: [][]byte{raw(func(r *tape) {
				r.snap = 100
				r.call(1, true, long)
				r.call(2, true,
					"three")
			})},
		},
		{
			name: "a foreign link type beside it", files: [][]byte{taped(147,
				func(r *tape) { r.call(3, true, "never") }), two},
			want: []string{"onetwo", "three"}, says: "of a link type that cannot be read",
		},
		{name: "nothing of ours", files: [][]byte{two}, args: []string{"-F", "port 81"}, code: 1,
			says: "there was nothing to replay"},
		{name: "a part of it", files: [][]byte{two}, args: []string{"--from", "11ms"},
			want: []string{"three"}},
		{name: "no capture file", files: [][]byte{[]byte("hello, world")}, code: 2,
			says: "not a pcap or pcapng file"},
	}
}

// TestReplayOddFiles checks that unusual files are replayed as far as possible, and that the rest
// is counted.
func TestReplayOddFiles(t *testing.T) {
	t.Parallel()
	for _, test := range oddFiles(t) {
		t.Run(test.name, func(t *testing.T) {
			args := []string{"replay"}
			for i, f := range test.files {
				name := filepath.Join(t.TempDir(), fmt.Sprintf("%d.pcapng", i))
				if err := os.WriteFile(name, f, 0o600); err != nil {
					t.Fatal(err)
				}
				args = append(args, name)
			}
			if test.name == "TCPCopy's letters" {
				args = []string{"-i", args[1]}
			}
			sent, r, code, out := replayFiles(t, nil, append(args, test.args...)...)
			if !slices.Equal(sent, test.want) || code != test.code || !strings.Contains(out,
				test.says) {
				t.Errorf("exit code %d, the target got %q, wanted %d, %q and %q in\n%s", code, sent,
					test.code, test.want, test.says, out)
			}
			if test.dropped != "" && r.Sessions.Dropped[test.dropped] != 1 {
				t.Errorf("%+v", r.Sessions)
			}
		})
	}
}

// TestReplayOtherPorts checks that the ports of a file without the mapped one are named.
func TestReplayOtherPorts(t *testing.T) {
	r := newTape(t, capfile.LinkRaw)
	c := recordedClient(1)
	r.packet(c, netip.MustParseAddrPort("10.0.0.1:8081"), 1, 0, packet.SYN, "")
	r.packet(netip.MustParseAddrPort("10.0.0.1:6379"), c, 1, 2, packet.ACK, "x")
	_, _, code, out := replayFiles(t, bytes.NewReader(r.bytes()), "replay", "-")
	if code != 1 || !strings.Contains(out, "servers were seen on port 6379, 8081") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// TestReplayStdin replays what another program writes into a pipe. The target must receive it
// before the pipe ends.
func TestReplayStdin(t *testing.T) {
	e := newCapitals(t)
	cmd := exec.CommandContext(t.Context(), binary, "replay", "-", "-x", "80-"+e.Addr().String())
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r := newTape(t, capfile.LinkRaw)
	r.call(1, true, "one", "two")
	in.Write(r.bytes())
	eventually(t, "the target has the first connection", func() bool {
		e.mu.Lock()
		defer e.mu.Unlock()
		return len(e.sent) == 1
	})
	n := len(r.bytes())
	r.call(2, true, "three")
	in.Write(r.bytes()[n:])
	in.Close()
	err = cmd.Wait()
	e.end()
	if err != nil || !slices.Equal(e.sent, []string{"onetwo", "three"}) {
		t.Errorf("%v, the target got %q\n%s", err, e.sent, out.String())
	}
}

// TestReplayUnknownProtocol checks that an unknown protocol arrives byte for byte, from the
// recordings of several tools.
func TestReplayUnknownProtocol(t *testing.T) {
	r := newTape(t, capfile.LinkRaw)
	var want []string
	for i := range 20 {
		var requests []string
		for k := range 10 {
			requests = append(requests, string(noise(uint64(100*i+k), 1+(i*k*37)%1400)))
		}
		r.call(1+i, true, requests...)
		want = append(want, strings.Join(requests, ""))
	}
	slices.SortFunc(want, cmp.Compare)
	name := filepath.Join(t.TempDir(), "a.pcapng")
	if err := os.WriteFile(name, r.bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, speed := range []string{"1", "max"} {
		sent, _, code, out := replayFiles(t, nil, "replay", name, "--speed", speed)
		if code != 0 || !slices.Equal(sent, want) {
			t.Errorf("at speed %s: exit code %d, %d connections, not what was recorded\n%s", speed,
				code, len(sent), out)
		}
	}
}
