package send_test

import (
	"bytes"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/afpacket"
	"tcpcopy/internal/test/testnet"
	"tcpcopy/internal/way/raw/send"
)

const (
	mark     = 0x7c9
	deadline = 5 * time.Second
)

// path is a copier's host (this thread's namespace), and a target, joined by a veth. The target
// routes what it answers to clients back over the veth, where it is captured.
type path struct {
	target         *testnet.NS
	capture        *afpacket.Source
	client, server netip.AddrPort
	listener       net.Listener
}

func newPath(t testing.TB, ipv6 bool) *path {
	t.Helper()
	testnet.Enter(t)
	p := &path{target: testnet.New(t)}
	here, there, client, clients := "10.9.0.1/24", "10.9.0.2/24", "172.16.5.6:4321", "172.16.0.0/16"
	if ipv6 {
		here, there, client, clients = "fd09::1/64", "fd09::2/64", "[fd16::6]:4321", "fd16::/64"
	}
	testnet.Veth(t, "out", here, p.target, "in", there)
	p.client = netip.MustParseAddrPort(client)
	p.target.Do(func() {
		testnet.Route(t, "in", clients, netip.MustParsePrefix(here).Addr().String())
		server := netip.AddrPortFrom(netip.MustParsePrefix(there).Addr(), 0)
		l, err := net.Listen("tcp", server.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		p.listener = l
	})
	p.server = p.listener.Addr().(*net.TCPAddr).AddrPort()
	var err error
	p.capture, err = afpacket.Open(afpacket.Config{
		Interfaces: []string{"out"}, IgnoreOutgoing: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.capture.Close(); p.capture.Next(0) })
	return p
}

func newSender(t testing.TB) *send.Sender {
	t.Helper()
	s, err := send.New(send.Config{Mark: mark})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// answer waits for a segment from the server that has all of the flags.
func (p *path) answer(t testing.TB, flags packet.Flags) packet.Segment {
	t.Helper()
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		frames, err := p.capture.Next(100 * time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		for i := range frames {
			var s packet.Segment
			if packet.Decode(frames[i].Data, frames[i].Wire, &s) == nil &&
				s.Src == p.server && s.Dst == p.client && s.Flags.Has(flags) {
				return s
			}
		}
	}
	t.Fatalf("no %v from %v to %v", flags, p.server, p.client)
	return packet.Segment{}
}

// exchange opens a connection by hand and sends payload over it, cut at the MSS that the target
// offered.
func (p *path) exchange(t testing.TB, s *send.Sender, payload []byte) {
	t.Helper()
	const isn = seqnum.Value(1000)
	must := func(segs ...packet.Segment) {
		t.Helper()
		if n, tooBig := s.Send(segs); n != len(segs) {
			t.Fatalf("sent %d of %d, too big %v: %+v", n, len(segs), tooBig, s.Stats())
		}
	}
	base := packet.Segment{Src: p.client, Dst: p.server, Window: 65535}
	syn := base
	syn.Seq, syn.Flags = isn, packet.SYN
	syn.Opts = packet.Options{
		MSS: 1400, HasWScale: true, WScale: 7, SACKPermitted: true, HasTS: true, TSVal: 1,
	}
	must(syn)
	synAck := p.answer(t, packet.SYN|packet.ACK)
	if synAck.Ack != isn.Add(1) {
		t.Fatalf("SYN-ACK %v", &synAck)
	}
	mss := int(synAck.Opts.MSS) - 12
	var segs []packet.Segment
	for off := 0; off < len(payload); off += mss {
		seg := base
		seg.Seq, seg.Ack, seg.Flags = isn.Add(1+off), synAck.Seq.Add(1), packet.ACK
		if off+mss >= len(payload) {
			seg.Flags |= packet.PSH
		}
		seg.Opts = packet.Options{HasTS: true, TSVal: 2, TSEcr: synAck.Opts.TSVal}
		seg.Payload = payload[off:min(off+mss, len(payload))]
		seg.Len = len(seg.Payload)
		segs = append(segs, seg)
	}
	must(segs...)
	conn, err := p.listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.RemoteAddr().(*net.TCPAddr).AddrPort(); got != p.client {
		t.Errorf("the server sees %v, want %v", got, p.client)
	}
	conn.SetReadDeadline(time.Now().Add(deadline))
	got := make([]byte, 0, len(payload))
	for buf := make([]byte, 64<<10); len(got) < len(payload); {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatalf("after %d of %d bytes: %v", len(got), len(payload), err)
		}
		got = append(got, buf[:n]...)
	}
	if !bytes.Equal(got, payload) {
		t.Error("the server read other bytes than were sent")
	}
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7 >> 3)
	}
	return b
}

func TestKernelAcceptsOurConnections(t *testing.T) {
	for _, tt := range []struct {
		name string
		ipv6 bool
	}{{"ipv4", false}, {"ipv6", true}} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPath(t, tt.ipv6)
			// More segments than one batch has; less than the receive window of a new connection.
			request := append([]byte("GET / HTTP/1.1\r\n\r\n"), pattern(40_001)...)
			p.exchange(t, newSender(t), request)
		})
	}
}

func TestOnDevice(t *testing.T) {
	for _, tt := range []struct {
		name string
		ipv6 bool
	}{{"ipv4", false}, {"ipv6", true}} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPath(t, tt.ipv6)
			mac, err := send.Resolve("out", p.server.Addr(), deadline)
			if err != nil {
				t.Fatal(err)
			}
			s, err := send.OnDevice(send.Config{Mark: mark}, send.Device{Name: "out", Gateway: mac})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			p.exchange(t, s, pattern(10_000))
		})
	}
}

func TestTooBigIsReportedByIndex(t *testing.T) {
	for _, tt := range []struct {
		name string
		ipv6 bool
	}{{"ipv4", false}, {"ipv6", true}} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPath(t, tt.ipv6)
			s := newSender(t)
			base := packet.Segment{Src: p.client, Dst: p.server, Flags: packet.ACK}
			segs := []packet.Segment{base, base, base, base}
			segs[1].Payload = pattern(1480)
			segs[3].Payload = pattern(60_000)
			sent, tooBig := s.Send(segs)
			if sent != 2 || len(tooBig) != 2 || tooBig[0] != 1 || tooBig[1] != 3 {
				t.Errorf("sent %d, too big %v; want 2, [1 3]: %+v", sent, tooBig, s.Stats())
			}
			if n, err := send.PathMTU(p.server.Addr(), mark); n != 1500 || err != nil {
				t.Errorf("path MTU %d, %v; want 1500", n, err)
			}
		})
	}
}

// TestPathOfASmallerMTU: the interface would take the segment; the path is known not to.
func TestPathOfASmallerMTU(t *testing.T) {
	for _, tt := range []struct {
		name, network, gateway, dst string
		ipv6                        bool
		overhead                    int
	}{
		{"ipv4", "10.99.0.0/16", "10.9.0.2", "10.99.0.1:80", false, 40},
		{"ipv6", "fd99::/64", "fd09::2", "[fd99::1]:80", true, 60},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPath(t, tt.ipv6)
			const mtu = 1300
			testnet.RouteMTU(t, "out", tt.network, tt.gateway, mtu)
			s := newSender(t)
			fits := packet.Segment{
				Src: p.client, Dst: netip.MustParseAddrPort(tt.dst), Flags: packet.ACK,
				Payload: pattern(mtu - tt.overhead),
			}
			over := fits
			over.Payload = pattern(mtu - tt.overhead + 1)
			sent, tooBig := s.Send([]packet.Segment{over, fits})
			if sent != 1 || len(tooBig) != 1 || tooBig[0] != 0 {
				t.Errorf("sent %d, too big %v; want 1, [0]: %+v", sent, tooBig, s.Stats())
			}
		})
	}
}

func TestWhatCannotBeSentIsCounted(t *testing.T) {
	testnet.Enter(t)
	s := newSender(t)
	v4, v6 := netip.MustParseAddrPort("10.1.1.1:1"), netip.MustParseAddrPort("[fd01::1]:1")
	sent, tooBig := s.Send([]packet.Segment{
		{Src: v4, Dst: v4}, {Src: v6, Dst: v6}, // no route
		{Src: v4, Dst: v6}, {Src: v6, Dst: v4}, {}, {Src: v4}, // no such packet
	})
	want := send.Stats{NoRoute: 2, Impossible: 4}
	if got := s.Stats(); sent != 0 || len(tooBig) != 0 || got != want {
		t.Errorf("sent %d, too big %v, %+v; want %+v", sent, tooBig, got, want)
	}
}

// TestNoTrack: conntrack sees our half of a connection alone, and a firewall that drops what it
// calls invalid drops our packets, unless they are exempt.
func TestNoTrack(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is not installed")
	}
	p := newPath(t, false)
	nft := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("nft", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("nft %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	nft("add table inet fw; add chain inet fw out { type filter hook output priority 0; };" +
		" add rule inet fw out ct state invalid drop; add table ip nat;" +
		" add chain ip nat post { type nat hook postrouting priority 100; };" +
		" add rule ip nat post masquerade")
	s := newSender(t)
	ack := packet.Segment{
		Src: p.client, Dst: p.server, Flags: packet.ACK, Seq: 5, Ack: 6,
		Opts: packet.Options{SACKPermitted: true},
	}
	bad := ack
	bad.Flags = packet.SYN | packet.FIN // invalid to conntrack whatever came before
	if sent, _ := s.Send([]packet.Segment{bad}); sent != 0 || s.Stats().Forbidden != 1 {
		t.Fatalf("the firewall let it pass: sent %d, %+v", sent, s.Stats())
	}

	e, err := send.NoTrack(mark)
	if err != nil {
		t.Fatal(err)
	}
	if e == nil {
		t.Skip("connection tracking is not loaded")
	}
	rules := nft("list", "ruleset")
	for _, want := range []string{
		"table inet tcpcopy", "flags owner", "priority raw", "meta mark 0x000007c9 notrack",
	} {
		if !strings.Contains(rules, want) {
			t.Errorf("no %q in:\n%s", want, rules)
		}
	}
	second, err := send.NoTrack(mark + 1)
	if err != nil || second.Table() == e.Table() {
		t.Errorf("a second copier beside: %v, %v", second, err)
	} else {
		second.Close()
	}
	if sent, _ := s.Send([]packet.Segment{bad}); sent != 1 {
		t.Errorf("the firewall dropped it, exempt as it is: %+v", s.Stats())
	}
	p.exchange(t, s, pattern(5000))

	if err := e.Close(); err != nil {
		t.Error(err)
	}
	waitFor(t, "the table to go", func() bool {
		return !strings.Contains(nft("list", "ruleset"), "tcpcopy")
	})
	if sent, _ := s.Send([]packet.Segment{bad}); sent != 0 {
		t.Error("exempt after Close")
	}
}

func waitFor(t testing.TB, what string, done func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(deadline); time.Now().Before(end); <-tick.C {
		if done() {
			return
		}
	}
	t.Fatalf("no %s within the deadline", what)
}

func TestMarkIsExcludedFromCapture(t *testing.T) {
	p := newPath(t, false)
	seen, err := afpacket.Open(afpacket.Config{Filter: notMarked(mark)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { seen.Close(); seen.Next(0) })
	plain, err := send.New(send.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	first := packet.Segment{Src: p.client, Dst: p.server, Flags: packet.SYN, Seq: 1}
	last := first
	last.Src = netip.AddrPortFrom(p.client.Addr(), p.client.Port()+1)
	if n, _ := newSender(t).Send([]packet.Segment{first}); n != 1 {
		t.Fatal("not sent")
	}
	if n, _ := plain.Send([]packet.Segment{last}); n != 1 {
		t.Fatal("not sent")
	}
	waitFor(t, "the packet without mark", func() bool {
		frames, err := seen.Next(100 * time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		for i := range frames {
			var s packet.Segment
			if packet.Decode(frames[i].Data, frames[i].Wire, &s) != nil ||
				frames[i].PktType != source.Outgoing {
				continue
			}
			switch s.Src {
			case first.Src:
				t.Error("the marked packet was captured")
			case last.Src:
				return true
			}
		}
		return false
	})
}

func TestSendAllocatesNothing(t *testing.T) {
	p := newPath(t, false)
	segs := upload(p, 100_000, 1448)
	for name, s := range senders(t, p) {
		if strings.HasSuffix(name, "groups") {
			groups(t, s, segs)
		}
		if n := testing.AllocsPerRun(20, func() { s.Send(segs) }); n != 0 {
			t.Errorf("%s: %v allocations for %d segments", name, n, len(segs))
		}
	}
}

// bench is segments of 512 bytes, and a sender of each kind for them. They reach the other end of a
// veth, which has no use for them.
func bench(t testing.TB) (segs []packet.Segment, routed, onDevice *send.Sender) {
	t.Helper()
	p := newPath(t, false)
	p.capture.Close()
	testnet.Route(t, "out", "10.99.0.0/16", p.server.Addr().String())
	mac, err := send.Resolve("out", netip.MustParseAddr("10.99.0.1"), deadline)
	if err != nil {
		t.Fatal(err)
	}
	onDevice, err = send.OnDevice(send.Config{Mark: mark}, send.Device{Name: "out", Gateway: mac})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { onDevice.Close() })
	segs = make([]packet.Segment, 64)
	for i := range segs {
		segs[i] = packet.Segment{
			Src: p.client, Dst: netip.MustParseAddrPort("10.99.0.1:80"), Flags: packet.ACK,
			Payload: pattern(512), Len: 512, Opts: packet.Options{HasTS: true},
		}
	}
	return segs, newSender(t), onDevice
}

func BenchmarkSend(b *testing.B) {
	segs, routed, onDevice := bench(b)
	for _, k := range []struct {
		name string
		s    *send.Sender
	}{{"routed", routed}, {"device", onDevice}} {
		b.Run(k.name, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; n < b.N; n += len(segs) {
				if sent, _ := k.s.Send(segs); sent != len(segs) {
					b.Fatalf("sent %d of %d: %+v", sent, len(segs), k.s.Stats())
				}
			}
		})
	}
}
