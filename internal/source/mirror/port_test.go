package mirror_test

import (
	"net"
	"testing"
	"time"

	"tcpcopy/internal/source/afpacket"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/source/mirror"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/test/testnet"
)

// frame is a frame's payload and its EtherType.
type frame struct {
	protocol uint16
	b        []byte
}

// transmit sends frames from the namespace's device b, to an address that is not the other end's.
func transmit(t *testing.T, ns *testnet.NS, frames ...frame) {
	t.Helper()
	var err error
	ns.Do(func() {
		var out *sys.SendSocket
		if out, err = sys.OpenPacketSender(sys.SendConfig{}); err != nil {
			return
		}
		defer out.Close()
		var dev *net.Interface
		if dev, err = net.InterfaceByName("b"); err != nil {
			return
		}
		for _, f := range frames {
			batch := sys.NewSendBatch()
			batch.AddToLink(dev.Index, f.protocol, [6]byte{2, 9, 9, 9, 9, 9}, f.b, nil)
			if _, err = out.Send(batch, 0); err != nil {
				return
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPort sends to a mirror port what a switch does, to whichever address.
func TestPort(t *testing.T) {
	testnet.Enter(t)
	ns := testnet.New(t)
	testnet.Veth(t, "a", "10.7.0.1/24", ns, "b", "10.7.0.2/24")
	expr, err := filter.Parse("not src host 10.0.0.9")
	if err != nil {
		t.Fatal(err)
	}
	spec := filter.CaptureSpec{Ports: []uint16{80}, AnyDirection: true, Encapsulated: true,
		Expr: expr}
	outer, err := filter.Capture(spec)
	if err != nil {
		t.Fatal(err)
	}
	within, err := filter.CompileExpr(expr, filter.Options{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := mirror.OpenPort(afpacket.Config{Interfaces: []string{"a"}, Filter: outer}, within,
		mirror.Carriers{All: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close(); s.Next(0) })

	ip := inner("10.0.0.1:1000", 10)
	filtered := inner("10.0.0.9:1000", 10)
	gre := func(header string, within []byte) []byte {
		b := append(unhex("45000000 00004000 402f0000 0a070002 0a070001"+header), within...)
		b[3] = byte(len(b))
		return b
	}
	tags := func(header string, b []byte) []byte { return append(unhex(header), b...) }
	frames := []frame{
		{0x0800, ip},
		{0x0800, filtered},
		{0x8100, tags("0005 0800", ip)},           // one tag, which the kernel takes off
		{0x88a8, tags("0005 8100 0006 0800", ip)}, // QinQ
		{0x0800, gre("0000 0800", ip)},
		{0x0800, gre("0000 0800", filtered)},
		{0x0800, gre("1000 88be 00000001 1005 0864 00000000"+frameHeader, ip)},
		{0x0800, gre("1000 22eb 00000001 2005 0864 12345678 0000 8000"+frameHeader, ip)},
		{0x0800, gre("0000 8847", ip)}, // MPLS, which is not supported
		{0x0800, gre("2000", nil)},     // cut
		{0x0806, make([]byte, 28)},     // ARP, which the filter refuses
	}
	// A new link loses frames until it is up.
	var before uint64
	end := time.Now().Add(deadline)
	for ; before == 0 && time.Now().Before(end); before = s.Stats().Delivered {
		transmit(t, ns, frames[0])
		if _, err := s.Next(20 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	for {
		if f, err := s.Next(50 * time.Millisecond); err != nil || len(f) == 0 {
			break
		}
	}
	before = s.Stats().Delivered
	transmit(t, ns, frames...)
	for i, f := range receive(t, s, 6) {
		if string(f.Data) != string(ip) || f.Wire != len(ip) {
			t.Errorf("frame %d: %d of %d bytes %x", i, len(f.Data), f.Wire, f.Data)
		}
	}
	st := s.Stats()
	if st.Delivered != before+6 || st.Foreign != 1 || st.Malformed != 1 || st.Offered != before+8 ||
		st.Dropped != 0 {
		t.Errorf("%+v", st)
	}
}
