package e2e

import (
	"net/netip"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/lab/netlab"
)

// floodNet has the made-up addresses of a flood. Production has a route there, and nobody answers.
var floodNet = netip.MustParsePrefix("10.79.0.0/16")

// TestFlood checks that segments from made-up addresses make no connection at the target, that
// clients beside them are copied whole, and that the copier's memory stays bounded.
func TestFlood(t *testing.T) {
	for _, f := range []struct {
		name string
		of   packet.Segment
	}{
		{"SYNs", packet.Segment{Flags: packet.SYN,
			Opts: packet.Options{MSS: 1460, SACKPermitted: true}}},
		{"data", packet.Segment{Flags: packet.ACK | packet.PSH, Ack: 1,
			Payload: []byte("a line that nobody has sent\n")}},
	} {
		t.Run(f.name, func(t *testing.T) { floodBeside(t, f.of) })
	}
}

// floodBeside sends copies of a segment from made-up addresses beside clients, on each way.
func floodBeside(t *testing.T, of packet.Segment) {
	const maxRSS = 256 << 20
	rate, lasts := 50_000, 20*time.Second
	if testing.Short() {
		rate, lasts = 10_000, 3*time.Second
	}
	someWays(t, only(socket), func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		add := s.net.Production.Command(t.Context(), find(t, "ip"), "route", "add",
			floodNet.String(), "via", netlab.ClientAddr(0, false).String())
		if out, err := add.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		p := s.pair()
		c := s.copyPair()
		kept := s.keepOpen(productionPort, 20)
		kept.say()
		sent := make(chan int)
		go func() { sent <- s.flood(of, rate, lasts) }()
		conns := int(lasts/time.Second) * 20
		s.paced("beside", conns, 20, 3, 100*time.Millisecond)
		kept.say()
		segments := <-sent
		kept.say()
		kept.finish()
		p.caughtUp(t)
		opened, _, bytes := p.production.counts()
		atTarget, _, _ := p.target.counts()
		r := c.end()
		t.Logf("%d segments, %d of them counted; %d connections at production, %d at the "+
			"target; %d packets lost in the kernel; memory %d MB", segments, r.NoHandshake, opened,
			atTarget, r.Packets.KernelDrop, r.Resources.MaxRSSBytes>>20)
		if opened != conns+20 || atTarget != opened {
			t.Errorf("%d connections at the target and %d at production, wanted %d", atTarget,
				opened, conns+20)
		}
		expectComplete(t, r, opened, bytes)
		p.expectSame(t)
		if n := int(r.NoHandshake); n > segments || n < segments/2 {
			t.Errorf("%d connections without a handshake were counted, of %d", n, segments)
		}
		if r.Resources.MaxRSSBytes > maxRSS {
			t.Errorf("%d MB of memory, wanted at most %d", r.Resources.MaxRSSBytes>>20, maxRSS>>20)
		}
	})
}

// flood sends production copies of a segment from the addresses of floodNet, rate a second, and
// returns how many it has sent.
func (s *stand) flood(of packet.Segment, rate int, lasts time.Duration) (sent int) {
	err := s.net.Client.Try(func() error {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_RAW, syscall.IPPROTO_RAW)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		to := netip.AddrPortFrom(s.production, productionPort)
		at := &syscall.SockaddrInet4{Addr: s.production.As4()}
		from := floodNet.Addr().As4()
		var buf []byte
		for begun := time.Now(); ; {
			since := min(time.Since(begun), lasts)
			for ; sent < int(float64(rate)*since.Seconds()); sent++ {
				from[2], from[3] = byte(sent>>8), byte(sent)
				of.Src = netip.AddrPortFrom(netip.AddrFrom4(from), uint16(1024+sent%60000))
				of.Dst, of.Window, of.Seq = to, 64000, seqnum.Value(sent*1000)
				of.Len = len(of.Payload)
				buf = packet.Append(buf[:0], &of)
				if err := syscall.Sendto(fd, buf, 0, at); err != nil {
					return err
				}
			}
			if since == lasts {
				return nil
			}
			wait(time.Millisecond)
		}
	})
	if err != nil {
		s.t.Errorf("flood: %v", err)
	}
	return sent
}
