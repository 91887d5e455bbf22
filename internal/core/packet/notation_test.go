package packet

import "testing"

func TestString(t *testing.T) {
	src, dst := ap("10.0.0.1:1234"), ap("10.0.0.2:80")
	for _, tc := range []struct {
		name string
		s    Segment
		want string
		rel  string // counted from 1000 and 2000
	}{
		{
			"SYN-ACK with options",
			Segment{Src: src, Dst: dst, Seq: 1000, Ack: 2001, Flags: SYN | ACK, Window: 65535,
				Opts: Options{MSS: 1460, SACKPermitted: true, HasTS: true, TSVal: 1, TSEcr: 2,
					HasWScale: true, WScale: 7}},
			"10.0.0.1:1234 > 10.0.0.2:80: S. 1000:1000(0) ack 2001 win 65535 " +
				"<mss 1460,sackOK,TS val 1 ecr 2,nop,wscale 7>",
			"S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK,TS val 1 ecr 2,nop,wscale 7>",
		},
		{
			"data",
			Segment{Src: src, Dst: dst, Seq: 1001, Ack: 2001, Flags: PSH | ACK, Window: 502,
				Len: 100},
			"10.0.0.1:1234 > 10.0.0.2:80: P. 1001:1101(100) ack 2001 win 502",
			"P. 1:101(100) ack 1 win 502",
		},
		{
			"SACK blocks count with the acknowledgment",
			Segment{Src: src, Dst: dst, Seq: 1001, Ack: 2001, Flags: ACK, Window: 502,
				Opts: Options{NSACK: 2, SACK: [4]SACKBlock{{2003, 2005}, {2007, 2009}}}},
			"10.0.0.1:1234 > 10.0.0.2:80: . 1001:1001(0) ack 2001 win 502 " +
				"<sack 2003:2005 2007:2009>",
			". 1:1(0) ack 1 win 502 <sack 3:5 7:9>",
		},
		{
			"a RST without ACK has none",
			Segment{Src: ap("[fd00::1]:1"), Dst: ap("[fd00::2]:2"), Seq: 1001, Ack: 77, Flags: RST},
			"[fd00::1]:1 > [fd00::2]:2: R 1001:1001(0) win 0",
			"R 1:1(0) win 0",
		},
		{
			"numbers wrap",
			Segment{Src: src, Dst: dst, Seq: 0xffffffff, Flags: FIN, Len: 2},
			"10.0.0.1:1234 > 10.0.0.2:80: F 4294967295:1(2) win 0",
			"F 4294966295:4294966297(2) win 0",
		},
		{
			"all flags, urgent pointer",
			Segment{Src: src, Dst: dst, Flags: 0xff, Urgent: 5, Ack: 2000, Seq: 1000},
			"10.0.0.1:1234 > 10.0.0.2:80: FSRP.UEW 1000:1000(0) ack 2000 win 0 urg 5",
			"FSRP.UEW 0:0(0) ack 0 win 0 urg 5",
		},
		{
			"no flags",
			Segment{Src: src, Dst: dst, Seq: 1000},
			"10.0.0.1:1234 > 10.0.0.2:80: none 1000:1000(0) win 0",
			"none 0:0(0) win 0",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.s.String(); got != tc.want {
				t.Errorf("String:\ngot  %s\nwant %s", got, tc.want)
			}
			if got := tc.s.Relative(1000, 2000); got != tc.rel {
				t.Errorf("Relative:\ngot  %s\nwant %s", got, tc.rel)
			}
		})
	}
}
