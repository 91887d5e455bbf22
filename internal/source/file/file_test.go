package file

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/capfile"
	"tcpcopy/internal/source/schedule"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const noon = int64(1_764_072_000) * 1e9

// ip returns a TCP packet whose payload is the text.
func ip(text string) []byte {
	s := packet.Segment{
		Src:   netip.MustParseAddrPort("192.0.2.7:40000"),
		Dst:   netip.MustParseAddrPort("10.0.0.1:80"),
		Flags: packet.ACK, Payload: []byte(text), Len: len(text),
	}
	return packet.Append(nil, &s)
}

// entry is a packet of a file, with its time in milliseconds after noon.
type entry struct {
	at   int64
	text string
}

// write returns a capture file of bare IP packets.
func write(t testing.TB, format capfile.Format, list ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := capfile.NewWriter(&b, format, capfile.LinkRaw, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		w.Write(noon+e.at*1e6, ip(e.text), len(ip(e.text)))
	}
	if err := w.End(noon, capfile.Counts{Received: uint64(len(list)) + 3, Dropped: 3}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func zipped(b []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(b)
	w.Close()
	return out.Bytes()
}

func zstded(b []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(b, nil)
}

// save writes files and returns their names.
func save(t testing.TB, contents ...[]byte) (names []string) {
	t.Helper()
	dir := t.TempDir()
	for i, c := range contents {
		name := filepath.Join(dir, fmt.Sprint(i))
		if err := os.WriteFile(name, c, 0o600); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	return names
}

// player is a source on a clock that the test advances.
type player struct {
	*Source
	t   testing.TB
	now mono.Time
}

func open(t testing.TB, cfg Config, contents ...[]byte) *player {
	t.Helper()
	p := &player{t: t, now: 5e9}
	cfg.Now = func() mono.Time { return p.now }
	if cfg.Passes == 0 {
		cfg.Passes = 1
	}
	if len(cfg.Paths) == 0 {
		cfg.Paths = save(t, contents...)
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	p.Source = s
	t.Cleanup(func() { s.Close() })
	return p
}

// texts returns the payloads of frames, each with the time in ms since the start at which Next
// returned it.
func texts(frames []source.Frame) (all []string) {
	for _, f := range frames {
		var s packet.Segment
		if err := packet.Decode(f.Data, f.Wire, &s); err != nil {
			all = append(all, err.Error())
			continue
		}
		all = append(all, fmt.Sprintf("%s@%d", s.Payload, (f.Time-5e9)/1e6))
	}
	return all
}

// play advances the clock by a millisecond whenever no packet is due, and returns what is played.
func (p *player) play() (all []string) {
	p.t.Helper()
	for idle := 0; idle < 100_000; {
		// A packet that is due comes at once, but the feeder may not have read it yet.
		frames, err := p.Next(0)
		if errors.Is(err, io.EOF) {
			more, err := p.Again()
			if err != nil {
				p.t.Fatal(err)
			}
			if !more {
				return all
			}
			all = append(all, "again")
			continue
		}
		if err != nil {
			p.t.Fatal(err)
		}
		all = append(all, texts(frames)...)
		if len(frames) == 0 {
			if p.batch != nil && p.at < len(p.batch.packets) {
				p.now += 1e6
			} else if err := p.nextBatch(-1); err != nil && !errors.Is(err, io.EOF) {
				p.t.Fatal(err)
			}
			idle++
		}
	}
	p.t.Fatal("no end")
	return nil
}

func TestSource(t *testing.T) {
	speed := func(s float64) Config { return Config{Schedule: schedule.Config{Speed: s}} }
	one := write(t, capfile.PCAPNG, entry{0, "a"}, entry{20, "c"}, entry{40, "e"})
	two := write(t, capfile.PCAP, entry{10, "b"}, entry{30, "d"}, entry{40, "f"})
	late := write(t, capfile.PCAPNG, entry{50, "g"})
	for _, test := range []struct {
		name  string
		cfg   Config
		files [][]byte
		want  string
		state State
	}{
		{name: "one file", cfg: speed(1), files: [][]byte{one}, want: "a@0 c@20 e@40",
			state: State{Packets: 3, LostBefore: 3, Played: 40e6}},
		{name: "twice as fast", cfg: speed(2), files: [][]byte{one}, want: "a@0 c@10 e@20",
			state: State{Packets: 3, LostBefore: 3, Played: 40e6}},
		{name: "as fast as can be", cfg: speed(0), files: [][]byte{one}, want: "a@0 c@0 e@0",
			state: State{Packets: 3, LostBefore: 3, Played: 40e6}},
		{
			name: "merged by time, whatever their order and compression", cfg: speed(1),
			files: [][]byte{late, zipped(two), zstded(one)},
			want:  "a@0 b@10 c@20 d@30 e@40 f@40 g@50",
			state: State{Packets: 7, LostBefore: 6, Played: 50e6},
		},
		{
			name: "ends in the middle of a packet", cfg: speed(0),
			files: [][]byte{two[:len(two)-3], late},
			want:  "b@0 d@0 g@0", state: State{Packets: 3, Truncated: 1, LostBefore: 3,
				Played: 40e6},
		},
		{
			name: "compressed, and ends in the middle", cfg: speed(0),
			files: [][]byte{zipped(late), zipped(two)[:60]},
			want:  "g@0", state: State{Packets: 1, Truncated: 1, LostBefore: 3},
		},
		{
			name: "twice", cfg: Config{Passes: 2, Schedule: schedule.Config{Speed: 1}},
			files: [][]byte{one},
			want:  "a@0 c@20 e@40 again a@40 c@60 e@80",
			state: State{Pass: 2, Packets: 6, LostBefore: 3, Played: 40e6},
		},
		{
			name: "for a while", cfg: Config{Duration: 25 * time.Millisecond,
				Schedule: schedule.Config{Speed: 1}}, files: [][]byte{one},
			want: "a@0 c@20", state: State{Packets: 2, LostBefore: 3, Played: 40e6},
		},
		{
			name: "a part", cfg: Config{Schedule: schedule.Config{Speed: 1,
				From: 10 * time.Millisecond, To: 40 * time.Millisecond}}, files: [][]byte{one, two},
			want: "b@0 c@10 d@20", state: State{Packets: 3, OutsidePart: 1, LostBefore: 3,
				Played: 30e6},
		},
		{
			name: "a part that is empty, for ever", cfg: Config{Passes: 1 << 30,
				Schedule: schedule.Config{From: time.Hour}}, files: [][]byte{one},
			state: State{OutsidePart: 3, LostBefore: 3},
		},
		{name: "no packet", cfg: speed(1), files: [][]byte{write(t, capfile.PCAP)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := open(t, test.cfg, test.files...)
			if got := strings.Join(p.play(), " "); got != test.want {
				t.Errorf("played %s\nwanted %s", got, test.want)
			}
			st := p.State()
			got := State{
				Pass: max(st.Pass, 1), Packets: st.Packets, Truncated: st.Truncated,
				LostBefore: st.LostBefore, OutsidePart: st.OutsidePart, Played: st.Played,
			}
			test.state.Pass = max(test.state.Pass, 1)
			if d := cmp.Diff(test.state, got, cmp.AllowUnexported(ledger.Delays{})); d != "" {
				t.Error(d)
			}
		})
	}
}

// TestLinks checks which link layers are decoded.
func TestLinks(t *testing.T) {
	p := ip("x")
	ether := func(tags ...byte) []byte {
		return slices.Concat(make([]byte, 12), tags, []byte{8, 0}, p)
	}
	sll := append(make([]byte, 14), 8, 0)
	for _, test := range []struct {
		name string
		link capfile.LinkType
		data []byte
	}{
		{"Ethernet", capfile.LinkEthernet, ether()},
		{"802.1Q", capfile.LinkEthernet, ether(0x81, 0, 0, 5)},
		{"QinQ", capfile.LinkEthernet, ether(0x88, 0xa8, 0, 5, 0x81, 0, 0, 6)},
		{"Linux cooked", capfile.LinkSLL, slices.Concat(sll, p)},
		{"Linux cooked, version 2", capfile.LinkSLL2,
			slices.Concat([]byte{8, 0}, make([]byte, 18), p)},
		{"raw", capfile.LinkRaw, p}, {"raw, BSD", capfile.LinkRawBSD, p},
		{"raw, other", capfile.LinkRawOther, p}, {"IPv4", capfile.LinkIPv4, p},
		{"null", capfile.LinkNull, slices.Concat([]byte{2, 0, 0, 0}, p)},
		{"loop", capfile.LinkLoop, slices.Concat([]byte{0, 0, 0, 2}, p)},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b bytes.Buffer
			w, _ := capfile.NewWriter(&b, capfile.PCAPNG, test.link, 0)
			w.Write(noon, test.data, len(test.data))
			w.Flush()
			if got := strings.Join(open(t, Config{}, b.Bytes()).play(), " "); got != "x@0" {
				t.Errorf("played %s", got)
			}
		})
	}
}

func TestCounts(t *testing.T) {
	var b bytes.Buffer
	w, _ := capfile.NewWriter(&b, capfile.PCAPNG, capfile.LinkEthernet, 0)
	w.Write(noon, make([]byte, 60), 60) // not IP
	w.Write(noon, make([]byte, 10), 60) // no complete link layer
	w.Write(noon, slices.Concat(make([]byte, 12), []byte{8, 0}, ip("cut"))[:56], 57)
	w.Flush()
	var odd bytes.Buffer
	w, _ = capfile.NewWriter(&odd, capfile.PCAPNG, 147, 0)
	w.Write(noon, make([]byte, 60), 60)
	w.Flush()
	bad := append(write(t, capfile.PCAPNG, entry{0, "a"}), 6, 0, 0, 0, 13, 0, 0, 0)
	opens := 0
	p := open(t, Config{Pick: func(b []byte, wire int) Pick {
		if wire > len(b) {
			opens++
			return Opens
		}
		return Skip
	}}, b.Bytes(), odd.Bytes(), bad)
	if got := p.play(); len(got) != 1 {
		t.Errorf("played %v", got)
	}
	st := p.State()
	if st.NotIP != 1 || st.Malformed != 1 || st.UnknownLink != 1 || st.LeftOut != 1 ||
		st.Opened != 1 || len(st.Corrupt) != 1 || opens != 1 {
		t.Errorf("%+v", st)
	}
	if s := p.Stats(); s.Offered != 5 || s.Delivered != 1 || s.Foreign != 4 {
		t.Errorf("%+v", s)
	}
}

func TestNoCaptureFile(t *testing.T) {
	for name, content := range map[string]string{"nothing": "", "text": "hello, world",
		"a broken gzip": "\x1f\x8b\x08"} {
		t.Run(name, func(t *testing.T) {
			path := save(t, []byte(content))[0]
			_, err := Open(Config{Paths: []string{path}})
			if err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, wanted an error that names the file", err)
			}
		})
	}
	if _, err := Open(Config{Paths: []string{"/nonexistent"}}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// TestPipe checks that packets written into a pipe are played as they come.
func TestPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip(err)
	}
	p := open(t, Config{Paths: []string{path}, Schedule: schedule.Config{Speed: 1}})
	w, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	content := write(t, capfile.PCAP, entry{0, "a"}, entry{0, "b"})
	tail := len(content) - 16 - len(ip("b"))
	w.Write(content[:tail])
	frames, err := p.Next(20 * time.Second)
	if got := strings.Join(texts(frames), " "); got != "a@0" || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	w.Write(content[tail:])
	frames, err = p.Next(20 * time.Second)
	if got := strings.Join(texts(frames), " "); got != "b@0" || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	w.Close()
	if _, err := p.Next(20 * time.Second); !errors.Is(err, io.EOF) {
		t.Errorf("%v", err)
	}
}

// TestClose checks that Close ends a Next that waits for a packet's time.
func TestClose(t *testing.T) {
	p := open(t, Config{Schedule: schedule.Config{Speed: 1}},
		write(t, capfile.PCAP, entry{0, "a"}, entry{3_600_000, "b"}))
	if _, err := p.Next(time.Minute); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() {
		_, err := p.Next(-1)
		ended <- err
	}()
	p.Close()
	if err := <-ended; !errors.Is(err, source.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// FuzzSource checks that a file of any bytes is read to its end.
func FuzzSource(f *testing.F) {
	good := write(f, capfile.PCAPNG, entry{0, "a"}, entry{20, "c"})
	f.Add(good)
	f.Add(write(f, capfile.PCAP, entry{0, "a"}, entry{-20_000, "c"}))
	f.Add(zipped(good))
	f.Add(zstded(good))
	dir := f.TempDir()
	path := filepath.Join(dir, "fuzz")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Config{Paths: []string{path, path}, Passes: 2,
			Now: func() mono.Time { return 0 }})
		if err != nil {
			return
		}
		defer s.Close()
		var offered int
		for {
			frames, err := s.Next(time.Minute)
			if errors.Is(err, io.EOF) {
				if more, err := s.Again(); err != nil || !more {
					break
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			offered += len(frames)
			for _, fr := range frames {
				if len(fr.Data) == 0 || fr.Wire < len(fr.Data) {
					t.Fatalf("a frame of %d bytes, %d on the wire", len(fr.Data), fr.Wire)
				}
			}
		}
		if st := s.Stats(); st.Delivered != uint64(offered) {
			t.Fatalf("%d frames, counted %d", offered, st.Delivered)
		}
	})
}

// BenchmarkSource reads packets of 300 bytes from a file in the page cache.
func BenchmarkSource(b *testing.B) {
	var list []entry
	text := strings.Repeat("x", 260)
	for i := range 200_000 {
		list = append(list, entry{int64(i), text})
	}
	content := write(b, capfile.PCAP, list...)
	paths := save(b, content)
	b.SetBytes(int64(len(content)))
	b.ReportAllocs()
	for b.Loop() {
		s, err := Open(Config{Paths: paths, Passes: 1, Now: func() mono.Time { return 0 }})
		if err != nil {
			b.Fatal(err)
		}
		n := 0
		for {
			frames, err := s.Next(time.Minute)
			if err != nil {
				break
			}
			n += len(frames)
		}
		s.Close()
		if n != len(list) {
			b.Fatal(n)
		}
	}
	b.ReportMetric(float64(len(list))*float64(b.N)/b.Elapsed().Seconds()/1e6, "Mpkts/s")
}
