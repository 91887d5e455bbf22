package send_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/way/raw/send"
)

// upload returns n bytes of a connection from client to server in segments of size bytes.
func upload(p *path, n, size int) []packet.Segment {
	payload := pattern(n)
	var segs []packet.Segment
	for off := 0; off < n; off += size {
		s := packet.Segment{
			Src: p.client, Dst: p.server, Flags: packet.ACK,
			Seq: seqnum.Value(1000).Add(off), Ack: 5, Window: 500,
			Opts:    packet.Options{HasTS: true, TSVal: 7, TSEcr: 8},
			Payload: payload[off:min(off+size, n)],
		}
		s.Len = len(s.Payload)
		segs = append(segs, s)
	}
	segs[len(segs)-1].Flags |= packet.PSH
	return segs
}

// senders returns a sender that groups and one that does not, of each kind.
func senders(t testing.TB, p *path) map[string]*send.Sender {
	t.Helper()
	mac, err := send.Resolve("out", p.server.Addr(), deadline)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]*send.Sender)
	for _, single := range []bool{true, false} {
		name := "groups"
		if single {
			name = "single"
		}
		cfg := send.Config{Mark: mark, Single: single}
		dev := send.Device{Name: "out", Gateway: mac}
		routed, err1 := send.New(cfg)
		device, err2 := send.OnDevice(cfg, dev)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		t.Cleanup(func() { routed.Close(); device.Close() })
		all["routed/"+name], all["device/"+name] = routed, device
	}
	return all
}

// groups sends until the sender groups.
func groups(t testing.TB, s *send.Sender, segs []packet.Segment) {
	t.Helper()
	before := s.Stats().Grouped
	waitFor(t, "groups", func() bool { s.Send(segs); return s.Stats().Grouped > before })
}

// singly sends until the sender has refused several times to group, and once more. No segments may
// be grouped.
func singly(t testing.TB, s *send.Sender, segs []packet.Segment) {
	t.Helper()
	const often = 3 // the first time the neighbour may not be known
	dst := segs[0].Dst.Addr()
	waitFor(t, "refusal to group", func() bool {
		s.Send(segs)
		return send.Refused(s, dst, often) >= often
	})
	s.Send(segs)
	if st := s.Stats(); st.Grouped > 0 {
		t.Errorf("grouped: %+v", st)
	}
}

func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkUpload is what 100 KB in segments of 1,448 bytes cost, with the receiving end of a veth,
// which refuses them.
func BenchmarkUpload(b *testing.B) {
	for _, offloads := range []bool{true, false} {
		p := newPath(b, false)
		p.capture.Close()
		if err := sys.SetOffloads("out", offloads); err != nil {
			b.Fatal(err)
		}
		segs := upload(p, 100_000, 1448)
		all := senders(b, p)
		names := []string{"routed/single", "routed/groups", "device/single", "device/groups"}
		for _, name := range names {
			s := all[name]
			if name == "routed/groups" || name == "device/groups" {
				groups(b, s, segs)
			}
			b.Run(fmt.Sprintf("offloads=%v/%s", offloads, name), func(b *testing.B) {
				b.ReportAllocs()
				start := cpu()
				for b.Loop() {
					if sent, _ := s.Send(segs); sent != len(segs) {
						b.Fatalf("sent %d of %d: %+v", sent, len(segs), s.Stats())
					}
				}
				b.ReportMetric(float64(cpu()-start)/float64(b.N), "cpu-ns/op")
			})
		}
	}
}
