package afpacket_test

import (
	"net"
	"testing"
	"time"

	"tcpcopy/internal/source/afpacket"
)

// TestReaderMayPause: a block is handed over after the block timeout however little is in it, so
// that few packets can use up a ring of few blocks. The default ring has enough for a reader that
// is kept from its processor for a while.
func TestReaderMayPause(t *testing.T) {
	ns := two(t)
	s := open(t, afpacket.Config{Filter: udpOnly(t, 1<<16), IgnoreOutgoing: true})
	dst := udp(t, "10.7.0.1:0")
	var src net.PacketConn
	ns.Do(func() { src = udp(t, "10.7.0.2:0") })
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 40 {
		<-tick.C
		send(t, src, dst.LocalAddr(), []byte("one in a block"))
	}
	if st := s.Stats(); st.Dropped != 0 || st.Offered != 40 {
		t.Errorf("after a pause of 40 ms: %+v", st)
	}
}
