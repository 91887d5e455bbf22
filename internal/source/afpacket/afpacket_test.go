package afpacket_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/bpf"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/afpacket"
	"tcpcopy/internal/test/testnet"
)

const deadline = 5 * time.Second

func open(t testing.TB, cfg afpacket.Config) *afpacket.Source {
	t.Helper()
	s, err := afpacket.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); s.Next(0) })
	return s
}

// rings runs a test with rings of blocks, and of slots.
func rings(t *testing.T, test func(t *testing.T, immediate bool)) {
	t.Run("blocks", func(t *testing.T) { test(t, false) })
	t.Run("slots", func(t *testing.T) { test(t, true) })
}

// until reads frames until done says so, and fails when that takes too long.
func until(t testing.TB, s source.Source, what string, done func(f *source.Frame) bool) {
	t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		frames, err := s.Next(100 * time.Millisecond)
		if err != nil {
			t.Fatalf("waiting for %s: %v", what, err)
		}
		for i := range frames {
			if done(&frames[i]) {
				return
			}
		}
	}
	t.Fatalf("no %s within %v; %+v", what, deadline, s.Stats())
}

func udp(t testing.TB, address string) net.PacketConn {
	t.Helper()
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t testing.TB, c net.PacketConn, to net.Addr, payload []byte) {
	t.Helper()
	if _, err := c.WriteTo(payload, to); err != nil {
		t.Fatal(err)
	}
}

func TestLoopbackIsSeenTwice(t *testing.T) { rings(t, loopbackIsSeenTwice) }

func loopbackIsSeenTwice(t *testing.T, immediate bool) {
	for _, tt := range []struct{ name, address string }{
		{"ipv4", "127.0.0.1:0"}, {"ipv6", "[::1]:0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testnet.Enter(t)
			s := open(t, afpacket.Config{Immediate: immediate})
			a, b := udp(t, tt.address), udp(t, tt.address)
			payload := []byte("seen twice")
			send(t, a, b.LocalAddr(), payload)
			var out, in int
			until(t, s, "both sightings", func(f *source.Frame) bool {
				if !bytes.HasSuffix(f.Data, payload) {
					return false
				}
				if !f.Loopback || f.Wire != len(f.Data) ||
					f.Outgoing != (f.PktType == source.Outgoing) {
					t.Errorf("frame %+v", f)
				}
				if f.Outgoing {
					out++
				} else {
					in++
				}
				return out == 1 && in == 1
			})
		})
	}
}

func TestCloseInterruptsNext(t *testing.T) { rings(t, closeInterruptsNext) }

func closeInterruptsNext(t *testing.T, immediate bool) {
	testnet.Enter(t)
	s := open(t, afpacket.Config{Immediate: immediate})
	done := make(chan error)
	go func() {
		_, err := s.Next(-1)
		done <- err
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if !errors.Is(err, source.ErrClosed) {
			t.Fatalf("Next after Close: %v", err)
		}
	case <-time.After(deadline):
		t.Fatal("Next did not return")
	}
}

// udpOnly accepts IPv4 UDP packets, up to limit bytes of each.
func udpOnly(t testing.TB, limit uint32) []bpf.RawInstruction {
	t.Helper()
	prog, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtProto},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x0800, SkipFalse: 3},
		bpf.LoadAbsolute{Off: 9, Size: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 17, SkipFalse: 1},
		bpf.RetConstant{Val: limit},
		bpf.RetConstant{Val: 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	return prog
}

// two joins this namespace and another with a veth: a here, b there.
func two(t testing.TB) *testnet.NS {
	t.Helper()
	testnet.Enter(t)
	ns := testnet.New(t)
	testnet.Veth(t, "a", "10.7.0.1/24", ns, "b", "10.7.0.2/24")
	testnet.Address(t, "a", "fd07::1/64")
	ns.Do(func() { testnet.Address(t, "b", "fd07::2/64") })
	return ns
}

func TestFilterAndTime(t *testing.T) { rings(t, filterAndTime) }

func filterAndTime(t *testing.T, immediate bool) {
	ns := two(t)
	start := time.Now()
	now := func() mono.Time { return mono.Time(time.Since(start)) }
	s := open(t, afpacket.Config{Immediate: immediate, Filter: udpOnly(t, 40), Now: now})
	dst := udp(t, "10.7.0.1:0")
	var src net.PacketConn
	ns.Do(func() { src = udp(t, "10.7.0.2:0") })
	const count = 100
	before := now()
	for range count {
		send(t, src, dst.LocalAddr(), make([]byte, 500))
	}
	after := now()
	var n int
	last := before
	until(t, s, "all packets", func(f *source.Frame) bool {
		if f.Wire != 528 || len(f.Data) != 40 || f.Outgoing || f.PktType != source.Host ||
			f.Ifindex == 0 {
			t.Errorf("frame %+v", f)
		}
		if f.Time < last || f.Time > after {
			t.Errorf("time %v, want one from %v to %v", f.Time, last, after)
		}
		last = f.Time
		n++
		return n == count
	})
	if st := s.Stats(); st.Offered != count || st.Delivered != count || st.Dropped != 0 {
		t.Errorf("%+v", st)
	}
}

// TestLargeFrames: segmentation offload gives frames of nearly 64 KB, BIG TCP more; they come
// whole.
func TestLargeFrames(t *testing.T) { rings(t, largeFrames) }

func largeFrames(t *testing.T, immediate bool) {
	for _, tt := range []struct {
		name, address string
		maxSize       int // of the sender's GSO; 0: the default
		want          int // at least, for the largest frame
	}{
		{"ipv4", "10.7.0.1", 0, 60_000},
		{"ipv6", "fd07::1", 0, 60_000},
		{"ipv6 jumbo", "fd07::1", 180_000, 70_000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ns := two(t)
			if tt.maxSize > 0 {
				testnet.GSOMaxSize(t, "a", tt.maxSize)
				ns.Do(func() { testnet.GSOMaxSize(t, "b", tt.maxSize) })
			}
			s := open(t, afpacket.Config{Immediate: immediate, IgnoreOutgoing: true})
			l, err := net.Listen("tcp", net.JoinHostPort(tt.address, "0"))
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				if c, err := l.Accept(); err == nil {
					io.Copy(io.Discard, c)
					c.Close()
				}
			}()
			var c net.Conn
			ns.Do(func() { c, err = net.Dial("tcp", l.Addr().String()) })
			if err != nil {
				t.Fatal(err)
			}
			go func() {
				c.Write(make([]byte, 20<<20))
				c.Close()
			}()
			largest := 0 // that has come whole
			until(t, s, "large frame", func(f *source.Frame) bool {
				// The queue of a ring of slots may have no room.
				if f.Wire != len(f.Data) && !(immediate && len(f.Data) > 1500) {
					t.Errorf("%d of %d bytes captured", len(f.Data), f.Wire)
				}
				if f.Wire == len(f.Data) {
					largest = max(largest, f.Wire)
				}
				return largest >= tt.want
			})
		})
	}
}

// TestDropsAreCounted: a reader that stops loses packets, and every one is in the account.
func TestDropsAreCounted(t *testing.T) {
	ns := two(t)
	s := open(t, afpacket.Config{
		Filter: udpOnly(t, 1<<16), IgnoreOutgoing: true, Memory: 1 << 20, BlockSize: 256 << 10,
	})
	dst := udp(t, "10.7.0.1:0")
	var src net.PacketConn
	ns.Do(func() { src = udp(t, "10.7.0.2:0") })
	const count = 3000 // of 1,400 bytes: four times the ring
	for range count {
		send(t, src, dst.LocalAddr(), make([]byte, 1400))
	}
	var got uint64
	for {
		frames, err := s.Next(100 * time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if len(frames) == 0 {
			break
		}
		got += uint64(len(frames))
	}
	st := s.Stats()
	if st.Offered != count || st.Delivered != got || st.Dropped != count-got ||
		st.Dropped < count/2 || st.Stalls == 0 {
		t.Errorf("%d frames read; %+v", got, st)
	}
	again := s.Stats()
	if again != st {
		t.Errorf("read twice: %+v, then %+v", st, again)
	}
	send(t, src, dst.LocalAddr(), []byte("capture goes on"))
	until(t, s, "packet after the stall", func(f *source.Frame) bool {
		return bytes.HasSuffix(f.Data, []byte("goes on"))
	})
}

func TestSeveralInterfaces(t *testing.T) {
	testnet.Enter(t)
	ns := testnet.New(t)
	testnet.Veth(t, "a1", "10.7.1.1/24", ns, "b1", "10.7.1.2/24")
	testnet.Veth(t, "a2", "10.7.2.1/24", ns, "b2", "10.7.2.2/24")
	testnet.Veth(t, "a3", "10.7.3.1/24", ns, "b3", "10.7.3.2/24")
	for _, tt := range []struct {
		name       string
		interfaces []string
		want       string
	}{
		{"two of three", []string{"a1", "a3", "a1"}, "1.3"},
		{"all", nil, "123"},
		{"any", []string{"any"}, "123"},
	} {
		func() {
			s := open(t, afpacket.Config{
				Interfaces: tt.interfaces, Filter: udpOnly(t, 1<<16), IgnoreOutgoing: true,
			})
			for i := 3; i >= 1; i-- {
				dst := udp(t, fmt.Sprintf("10.7.%d.1:0", i))
				var src net.PacketConn
				ns.Do(func() { src = udp(t, fmt.Sprintf("10.7.%d.2:0", i)) })
				send(t, src, dst.LocalAddr(), []byte{byte('0' + i)})
			}
			seen := []byte("...")
			until(t, s, tt.name, func(f *source.Frame) bool {
				i := f.Data[len(f.Data)-1]
				seen[i-'1'] = i
				return string(seen) == tt.want
			})
		}()
	}
}

// TestInterfacesComeAndGo: capture outlives the interfaces that it is on.
func TestInterfacesComeAndGo(t *testing.T) { rings(t, interfacesComeAndGo) }

func interfacesComeAndGo(t *testing.T, immediate bool) {
	for _, tt := range []struct {
		name       string
		interfaces []string
	}{{"named", []string{"a"}}, {"all", nil}} {
		t.Run(tt.name, func(t *testing.T) {
			ns := two(t)
			s := open(t, afpacket.Config{Immediate: immediate,
				Interfaces: tt.interfaces, Filter: udpOnly(t, 1<<16), IgnoreOutgoing: true,
				Promiscuous: true,
			})
			captured := func(what string) {
				t.Helper()
				dst := udp(t, "10.7.0.1:0")
				var src net.PacketConn
				ns.Do(func() { src = udp(t, "10.7.0.2:0") })
				for end := time.Now().Add(deadline); time.Now().Before(end); {
					// It may be lost until the ring is bound again.
					src.WriteTo([]byte(what), dst.LocalAddr())
					frames, err := s.Next(50 * time.Millisecond)
					if err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					for i := range frames {
						if bytes.HasSuffix(frames[i].Data, []byte(what)) {
							return
						}
					}
				}
				t.Fatalf("nothing captured %s: %+v", what, s.Stats())
			}
			captured("at first")
			testnet.Down(t, "a")
			s.Next(10 * time.Millisecond)
			testnet.Up(t, "a")
			captured("after down and up")
			testnet.Delete(t, "a")
			s.Next(10 * time.Millisecond)
			testnet.Veth(t, "a", "10.7.0.1/24", ns, "b", "10.7.0.2/24")
			captured("after it was made anew")
			if downs := s.Stats().Downs; (downs > 0) != (tt.interfaces != nil) {
				t.Errorf("counted %d times down", downs)
			}
		})
	}
}

func TestOpenErrors(t *testing.T) {
	testnet.Enter(t)
	_, err := afpacket.Open(afpacket.Config{Interfaces: []string{"eth77"}})
	if err == nil || !strings.Contains(err.Error(), `"eth77"`) ||
		!strings.Contains(err.Error(), "wanted one of lo") {
		t.Errorf("unknown interface: %v", err)
	}
	_, err = afpacket.Open(afpacket.Config{Filter: []bpf.RawInstruction{{Op: 0xffff}}})
	if err == nil || !strings.Contains(err.Error(), "attach filter of 1 instructions") {
		t.Errorf("broken filter: %v", err)
	}
	testnet.DropCapabilities(t)
	_, err = afpacket.Open(afpacket.Config{})
	const want = "capture: open packet socket: operation not permitted (needs CAP_NET_RAW)"
	if !errors.Is(err, os.ErrPermission) || err.Error() != want {
		t.Errorf("without capabilities: %v, want %s", err, want)
	}
}

// TestBatchOutlivesClose: memory under a batch goes only when the reader comes back.
func TestBatchOutlivesClose(t *testing.T) { rings(t, batchOutlivesClose) }

func batchOutlivesClose(t *testing.T, immediate bool) {
	testnet.Enter(t)
	s := open(t, afpacket.Config{Immediate: immediate})
	a := udp(t, "127.0.0.1:0")
	send(t, a, a.LocalAddr(), []byte("still here"))
	frames, err := s.Next(deadline)
	if err != nil || len(frames) == 0 {
		t.Fatal(frames, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !bytes.HasSuffix(frames[0].Data, []byte("still here")) {
		t.Error("the batch changed")
	}
	before := s.Stats()
	if _, err := s.Next(-1); !errors.Is(err, source.ErrClosed) {
		t.Error(err)
	}
	if after := s.Stats(); after.Offered < before.Offered || after.Delivered != before.Delivered {
		t.Errorf("statistics before the end %+v, after %+v", before, after)
	}
}

// flood sends count packets of n bytes over loopback, from and to sockets of the caller's
// namespace.
func flood(t testing.TB, count, n int) {
	t.Helper()
	a := udp(t, "127.0.0.1:0")
	payload := make([]byte, n)
	for range count {
		send(t, a, a.LocalAddr(), payload)
	}
}

func TestNextAllocatesNothing(t *testing.T) {
	allocatesNothing(t, afpacket.Config{}, 20_000, 30)
}

// allocatesNothing reads so many batches of so many packets.
func allocatesNothing(t *testing.T, cfg afpacket.Config, packets, batches int) {
	t.Helper()
	testnet.Enter(t)
	cfg.IgnoreOutgoing, cfg.Filter = true, udpOnly(t, 1<<16)
	s := open(t, cfg)
	flood(t, packets, 100)
	s.Next(deadline)
	frames := 0
	n := testing.AllocsPerRun(batches, func() {
		f, err := s.Next(0)
		if err != nil {
			t.Fatal(err)
		}
		frames += len(f)
	})
	if n != 0 || frames < 1000 {
		t.Errorf("%v allocations for each of %d batches with %d frames in all", n, batches, frames)
	}
	if n := testing.AllocsPerRun(30, func() { s.Next(time.Millisecond) }); n != 0 {
		t.Errorf("%v allocations for a wait", n)
	}
}

// BenchmarkNext is what a frame costs the reader, from the kernel's block to the batch; what it
// costs the kernel is not in it.
func BenchmarkNext(b *testing.B) {
	testnet.Enter(b)
	s := open(b, afpacket.Config{IgnoreOutgoing: true, Filter: udpOnly(b, 1<<16)})
	b.ReportAllocs()
	b.StopTimer()
	b.ResetTimer()
	for n := 0; n < b.N; {
		flood(b, 20_000, 100)
		for {
			b.StartTimer()
			frames, err := s.Next(0)
			b.StopTimer()
			if err != nil {
				b.Fatal(err)
			}
			if len(frames) == 0 {
				break
			}
			n += len(frames)
		}
	}
}
