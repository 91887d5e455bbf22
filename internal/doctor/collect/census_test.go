package collect

import (
	"net/netip"
	"testing"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
)

// TestTranslations checks that a SYN which goes to another address than before is known again, and
// that others are not taken for it.
func TestTranslations(t *testing.T) {
	s := census{
		syns: map[synKey]netip.AddrPort{}, passed: map[[2]netip.AddrPort]int{},
	}
	syn := func(client, server string, seq uint32) {
		s.countSYN(&packet.Segment{
			Src: netip.MustParseAddrPort(client), Dst: netip.MustParseAddrPort(server),
			Seq: seqnum.Value(seq), Flags: packet.SYN,
		})
	}
	const front, back = "10.0.0.1:80", "172.17.0.2:8080"
	syn("192.0.2.1:40000", front, 7)
	syn("192.0.2.1:40000", front, 7) // on the interface below, or sent again
	syn("192.0.2.1:40000", back, 7)
	syn("192.0.2.1:40000", back, 7) // on a port of the bridge
	syn("192.0.2.1:40001", front, 8)
	syn("192.0.2.1:40001", "10.0.0.1:81", 9) // another connection
	syn("192.0.2.2:40000", "10.0.0.1:81", 7) // another client
	want := [2]netip.AddrPort{netip.MustParseAddrPort(front), netip.MustParseAddrPort(back)}
	if len(s.passed) != 1 || s.passed[want] != 1 {
		t.Errorf("%v, want 1 SYN %v", s.passed, want)
	}
}
