package mirror_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/source/mirror"
	"tcpcopy/internal/test/testnet"
)

const deadline = 5 * time.Second

// inner returns a TCP packet from a client to port 80 of a server that is not this host.
func inner(client string, payload int) []byte {
	s := packet.Segment{Src: netip.MustParseAddrPort(client),
		Dst: netip.MustParseAddrPort("192.0.2.80:80"), Seq: 1, Flags: packet.ACK,
		Payload: make([]byte, payload)}
	return packet.Append(nil, &s)
}

const frameHeader = "020000000002 020000000001 0800"

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

func vxlan(vni uint32, ip []byte) []byte {
	b := binary.BigEndian.AppendUint32(unhex("08000000"), vni<<8)
	return append(append(b, unhex(frameHeader)...), ip...)
}

func listen(t testing.TB, cfg mirror.Config) *mirror.Source {
	t.Helper()
	s, err := mirror.Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); s.Next(0) })
	return s
}

func dial(t testing.TB, to netip.AddrPort) *net.UDPConn {
	t.Helper()
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func send(t testing.TB, c net.Conn, datagrams ...[]byte) {
	t.Helper()
	for _, d := range datagrams {
		if _, err := c.Write(d); err != nil {
			t.Fatal(err)
		}
	}
}

// receive reads n frames and returns copies.
func receive(t testing.TB, s source.Source, n int) (all []source.Frame) {
	t.Helper()
	for end := time.Now().Add(deadline); len(all) < n; {
		frames, err := s.Next(100 * time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames {
			f.Data = append([]byte(nil), f.Data...)
			all = append(all, f)
		}
		if time.Now().After(end) {
			t.Fatalf("%d frames of %d; %+v", len(all), n, s.Stats())
		}
	}
	return all
}

func TestVXLAN(t *testing.T) {
	testnet.Enter(t)
	expr, err := filter.Parse("not src host 10.0.0.9")
	if err != nil {
		t.Fatal(err)
	}
	prog, err := filter.CompileExpr(expr, filter.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s := listen(t, mirror.Config{Listen: netip.MustParseAddrPort("127.0.0.1:4789"),
		Networks: []uint32{7, 8}, Filter: prog})
	c := dial(t, s.Addr())
	jumbo := inner("10.0.0.2:1000", 9001-40)
	send(t, c,
		vxlan(7, inner("10.0.0.1:1000", 10)),
		vxlan(9, inner("10.0.0.1:1000", 10)), // another network
		[]byte("not a header"),
		vxlan(7, unhex("45")),                // no IP header
		vxlan(7, inner("10.0.0.9:1000", 10)), // filtered
		vxlan(8, jumbo),
		vxlan(8, inner("10.0.0.3:1000", 200)[:100]), // cut by the mirror
	)
	got := receive(t, s, 3)
	for i, want := range []struct{ data, wire, ifindex int }{{50, 50, 7}, {9001, 9001, 8},
		{100, 240, 8}} {
		f := got[i]
		if len(f.Data) != want.data || f.Wire != want.wire || int(f.Ifindex) != want.ifindex ||
			f.Outgoing || f.Loopback {
			t.Errorf("frame %d: %d of %d bytes, interface %d; want %+v", i, len(f.Data), f.Wire,
				f.Ifindex, want)
		}
	}
	want := source.Stats{Offered: 6, Delivered: 3, Foreign: 1, Malformed: 2}
	if st := s.Stats(); st != want {
		t.Errorf("%+v, want %+v", st, want)
	}
}

func TestGENEVE(t *testing.T) {
	testnet.Enter(t)
	s := listen(t, mirror.Config{Kind: mirror.GENEVE,
		Listen: netip.AddrPortFrom(netip.Addr{}, 6081)})
	ip := inner("10.0.0.1:1000", 10)
	nested := append(unhex("4500004e 00004000 40110000 0a000001 0a000002 c000 12b5 003a 0000 00"),
		0)[:28]
	for _, to := range []string{"127.0.0.1:6081", "[::1]:6081"} {
		c := dial(t, netip.MustParseAddrPort(to))
		send(t, c,
			append(unhex("0000 0800 00000500"), ip...),
			append(unhex("0140 6558 00000500 01028000"+frameHeader), ip...),
			// within a load balancer's
			append(append(unhex("0000 0800 00000600"), nested...), vxlan(7, ip)...),
		)
		for i, f := range receive(t, s, 3) {
			if string(f.Data) != string(ip) || f.Ifindex != int32([]int{5, 5, 6}[i]) {
				t.Errorf("%s: frame %d: network %d, %x", to, i, f.Ifindex, f.Data)
			}
		}
	}
}

// TestNoChecksum receives a datagram without a UDP checksum, as tunnels over IPv6 send it.
func TestNoChecksum(t *testing.T) {
	testnet.Enter(t)
	s := listen(t, mirror.Config{Listen: netip.MustParseAddrPort("[::1]:4789")})
	c := dial(t, s.Addr())
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	const noCheck6TX = 101 // UDP_NO_CHECK6_TX
	raw.Control(func(fd uintptr) {
		err = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_UDP,
			noCheck6TX, 1)
	})
	if err != nil {
		t.Fatal(err)
	}
	send(t, c, vxlan(1, inner("10.0.0.1:1000", 10)))
	receive(t, s, 1)
}

func TestCloseInterruptsNext(t *testing.T) {
	testnet.Enter(t)
	s := listen(t, mirror.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0")})
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
			t.Error(err)
		}
	case <-time.After(deadline):
		t.Fatal("Next goes on after Close")
	}
	s.Stats()
}

// TestForeignTrafficDoesNotHold checks that other datagrams do not prolong a wait.
func TestForeignTrafficDoesNotHold(t *testing.T) {
	testnet.Enter(t)
	s := listen(t, mirror.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0")})
	c := dial(t, s.Addr())
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-stop:
				return
			default:
				c.Write([]byte("noise that is no header"))
			}
		}
	}()
	frames, err := s.Next(20 * time.Millisecond)
	close(stop)
	<-ended
	if len(frames) != 0 || err != nil {
		t.Error(frames, err)
	}
}

// TestDropsAreCounted checks that every packet that a slow reader loses is counted.
func TestDropsAreCounted(t *testing.T) {
	testnet.Enter(t)
	s := listen(t, mirror.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0"), Buffer: 1 << 16})
	c := dial(t, s.Addr())
	const count = 1000
	for range count {
		send(t, c, vxlan(1, inner("10.0.0.1:1000", 1000)))
	}
	var got uint64
	for {
		frames, err := s.Next(50 * time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if len(frames) == 0 {
			break
		}
		got += uint64(len(frames))
	}
	st := s.Stats()
	if got == count || st.Offered != count || st.Dropped != count-got || st.Delivered != got {
		t.Errorf("%d read; %+v", got, st)
	}
	if again := s.Stats(); again != st {
		t.Errorf("read twice: %+v, then %+v", st, again)
	}
}

func TestListenErrors(t *testing.T) {
	testnet.Enter(t)
	s := listen(t, mirror.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0")})
	_, err := mirror.Listen(mirror.Config{Listen: s.Addr()})
	if want := fmt.Sprintf("capture: listen on UDP port %d: address already in use",
		s.Addr().Port()); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestNextAllocatesNothing(t *testing.T) {
	testnet.Enter(t)
	s := listen(t, mirror.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0")})
	c := dial(t, s.Addr())
	d := vxlan(1, inner("10.0.0.1:1000", 1000))
	frames := 0
	n := testing.AllocsPerRun(50, func() {
		for range 10 {
			c.Write(d)
		}
		f, err := s.Next(time.Second)
		if err != nil {
			t.Fatal(err)
		}
		frames += len(f)
	})
	if n != 0 || frames < 500 {
		t.Errorf("%v allocations for a batch, %d frames in all", n, frames)
	}
}

// BenchmarkNext measures what a mirrored packet costs the reader, without sending it over loopback.
func BenchmarkNext(b *testing.B) {
	testnet.Enter(b)
	s := listen(b, mirror.Config{Listen: netip.MustParseAddrPort("127.0.0.1:0")})
	c := dial(b, s.Addr())
	d := vxlan(1, inner("10.0.0.1:1000", 200))
	b.ReportAllocs()
	b.ResetTimer()
	b.StopTimer()
	for n := 0; n < b.N; {
		for range 1000 {
			c.Write(d)
		}
		for {
			b.StartTimer()
			f, err := s.Next(0)
			b.StopTimer()
			if err != nil {
				b.Fatal(err)
			}
			if len(f) == 0 {
				break
			}
			n += len(f)
		}
	}
}

// TestTimeOfArrival: a datagram's time is when it came, not when it was read.
func TestTimeOfArrival(t *testing.T) {
	testnet.Enter(t)
	start := time.Now()
	now := func() mono.Time { return mono.Time(time.Since(start)) }
	s := listen(t, mirror.Config{Listen: netip.MustParseAddrPort("127.0.0.1:4789"), Now: now})
	c := dial(t, s.Addr())
	var sent [1000]mono.Time // when each had been sent; none is read before all are
	for i := range sent {
		send(t, c, vxlan(7, inner("10.0.0.1:1000", 10)))
		sent[i] = now()
	}
	for i, f := range receive(t, s, len(sent)) {
		if f.Time > sent[i] {
			t.Fatalf("the time of datagram %d is %v, and it was sent by %v", i, f.Time, sent[i])
		}
	}
}
