package packet

import (
	"net"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// The packet in the encapsulations below, in hex: "hi" from 10.0.0.1:1234 to 10.0.0.2:80, 42 bytes;
// and the same with a third of it cut off, whose header still has the length 42.
const (
	innerHeader = "4500002a 00004000 4006 0000" + v4addrs
	innerTCP    = ports + "00000001 00000002 5018 ffff 0000 0000"
	inner4      = innerHeader + innerTCP + "6869"
	inner6      = "60000000 0016 06 40" + v6addrs + innerTCP + "6869"
	macs        = "020000000002 020000000001"
)

type decoder func([]byte, *Inner) error

func TestEncapsulations(t *testing.T) {
	for _, tc := range []struct {
		name    string
		decode  decoder
		hex     string
		want    string // hex of the inner packet; empty with err
		wire    int    // 0: as long as want
		network uint32
		vlan    uint16
		err     error
	}{
		{name: "Ethernet", decode: DecodeEthernet, hex: macs + "0800" + inner4, want: inner4},
		{name: "Ethernet, IPv6", decode: DecodeEthernet, hex: macs + "86dd" + inner6, want: inner6},
		{name: "Ethernet, padding stays", decode: DecodeEthernet, hex: macs + "0800" + inner4 +
			"0000", want: inner4 + "0000", wire: 44},
		{name: "Ethernet, a tag", decode: DecodeEthernet, hex: macs + "8100 6005 0800" + inner4,
			want: inner4, vlan: 0x6005},
		{name: "Ethernet, QinQ", decode: DecodeEthernet, hex: macs + "88a8 0005 8100 0007 86dd" +
			inner6, want: inner6, vlan: 5},
		{name: "Ethernet, tags without end", decode: DecodeEthernet,
			hex: macs + "8100 0001 8100 0001 8100 0001 8100 0001 8100 0001 0800" + inner4,
			err: ErrNotIP},
		{name: "Ethernet, ARP", decode: DecodeEthernet, hex: macs + "0806 0001 0800",
			err: ErrNotIP},
		{name: "Ethernet, 802.3 length", decode: DecodeEthernet, hex: macs + "0026 4242 03",
			err: ErrNotIP},
		{name: "Ethernet, header cut", decode: DecodeEthernet, hex: macs, err: ErrMalformed},
		{name: "Ethernet, tag cut", decode: DecodeEthernet, hex: macs + "8100 0001",
			err: ErrMalformed},
		{name: "Ethernet, IP header cut", decode: DecodeEthernet, hex: macs + "0800 4500002a",
			err: ErrMalformed},
		{name: "Ethernet, no version of IP", decode: DecodeEthernet,
			hex: macs + "0800 1500002a 00004000 40060000" + v4addrs, err: ErrNotIP},

		{name: "VXLAN", decode: DecodeVXLAN, hex: "08000000 00007b00" + macs + "0800" + inner4,
			want: inner4, network: 123},
		{name: "VXLAN, reserved bits set", decode: DecodeVXLAN, hex: "ffffffff 00007bff" + macs +
			"0800" + inner4, want: inner4, network: 123},
		{name: "VXLAN, a tag within", decode: DecodeVXLAN, hex: "08000000 00007b00" + macs +
			"8100 0007 0800" + inner4, want: inner4, network: 123, vlan: 7},
		{name: "VXLAN, cut by the mirror", decode: DecodeVXLAN, hex: "08000000 00007b00" + macs +
			"0800" + innerHeader + innerTCP, want: innerHeader + innerTCP, wire: 42, network: 123},
		{name: "VXLAN, cut by the mirror, IPv6", decode: DecodeVXLAN, hex: "08000000 00007b00" +
			macs + "86dd 60000000 0016 06 40" + v6addrs + ports, want: "60000000 0016 06 40" +
			v6addrs + ports, wire: 62, network: 123},
		{name: "VXLAN, no identifier", decode: DecodeVXLAN, hex: "00000000 00000000" + macs +
			"0800" + inner4, err: ErrMalformed},
		{name: "VXLAN, cut", decode: DecodeVXLAN, hex: "08000000 00007b", err: ErrMalformed},
		{name: "VXLAN, nothing within", decode: DecodeVXLAN, hex: "08000000 00007b00",
			err: ErrMalformed},

		{name: "GENEVE", decode: DecodeGENEVE, hex: "0000 6558 00007b00" + macs + "0800" + inner4,
			want: inner4, network: 123},
		{name: "GENEVE, bare IPv4", decode: DecodeGENEVE, hex: "0000 0800 00007b00" + inner4,
			want: inner4, network: 123},
		{name: "GENEVE, bare IPv6", decode: DecodeGENEVE, hex: "0000 86dd 00007b00" + inner6,
			want: inner6, network: 123},
		{name: "GENEVE, options, one critical", decode: DecodeGENEVE,
			hex:  "0340 6558 00007b00 01028001 deadbeef 01030000" + macs + "0800" + inner4,
			want: inner4, network: 123},
		{name: "GENEVE, options cut", decode: DecodeGENEVE,
			hex: "0340 6558 00007b00 01028001 deadbeef", err: ErrMalformed},
		{name: "GENEVE, control", decode: DecodeGENEVE, hex: "0080 6558 00007b00" + macs + "0800" +
			inner4, err: ErrNotIP},
		{name: "GENEVE, version 1", decode: DecodeGENEVE, hex: "4000 6558 00007b00" + macs +
			"0800" + inner4, err: ErrNotIP},
		{name: "GENEVE, some other protocol", decode: DecodeGENEVE, hex: "0000 8847 00007b00" +
			inner4, err: ErrNotIP},
		{name: "GENEVE, cut", decode: DecodeGENEVE, hex: "0000 6558", err: ErrMalformed},

		{name: "GRE, IPv4", decode: DecodeGRE, hex: "0000 0800" + inner4, want: inner4},
		{name: "GRE, IPv6", decode: DecodeGRE, hex: "0000 86dd" + inner6, want: inner6},
		{name: "GRE, Ethernet", decode: DecodeGRE, hex: "0000 6558" + macs + "0800" + inner4,
			want: inner4},
		{name: "GRE, checksum, key and sequence number", decode: DecodeGRE,
			hex: "b000 6558 abcd0000 00000009 00000001" + macs + "0800" + inner4, want: inner4,
			network: 9},
		{name: "GRE, key cut", decode: DecodeGRE, hex: "2000 6558 0000", err: ErrMalformed},
		{name: "GRE, sequence number cut", decode: DecodeGRE, hex: "1000 6558 0000",
			err: ErrMalformed},
		{name: "GRE, routing", decode: DecodeGRE, hex: "4000 0800 00000000" + inner4,
			err: ErrNotIP},
		{name: "GRE, PPTP", decode: DecodeGRE, hex: "3001 880b 00000000 00000000", err: ErrNotIP},
		{name: "GRE, some other protocol", decode: DecodeGRE, hex: "0000 8847" + inner4,
			err: ErrNotIP},
		{name: "GRE, cut", decode: DecodeGRE, hex: "0000", err: ErrMalformed},

		{name: "ERSPAN I", decode: DecodeGRE, hex: "0000 88be" + macs + "0800" + inner4,
			want: inner4},
		{name: "ERSPAN II", decode: DecodeGRE, hex: "1000 88be 00000001 1005 0864 00000000" + macs +
			"0800" + inner4, want: inner4, network: 100},
		{name: "ERSPAN II, a tag within", decode: DecodeGRE,
			hex:  "1000 88be 00000001 1005 0864 00000000" + macs + "8100 0005 0800" + inner4,
			want: inner4, network: 100, vlan: 5},
		{name: "ERSPAN II, another version", decode: DecodeGRE,
			hex: "1000 88be 00000001 7005 0864 00000000" + macs + "0800" + inner4, err: ErrNotIP},
		{name: "ERSPAN II, cut", decode: DecodeGRE, hex: "1000 88be 00000001 1005 0864",
			err: ErrMalformed},
		{name: "ERSPAN III", decode: DecodeGRE,
			hex:  "1000 22eb 00000001 2005 0864 12345678 0000 8000" + macs + "0800" + inner4,
			want: inner4, network: 100},
		{name: "ERSPAN III, platform's part", decode: DecodeGRE,
			hex: "1000 22eb 00000001 2005 0864 12345678 0000 8001 1122334455667788" + macs +
				"86dd" + inner6, want: inner6, network: 100},
		{name: "ERSPAN III, a bare IP packet", decode: DecodeGRE,
			hex: "1000 22eb 00000001 2005 0864 12345678 0000 8800" + inner4, want: inner4,
			network: 100},
		{name: "ERSPAN III, a frame of another kind", decode: DecodeGRE,
			hex: "1000 22eb 00000001 2005 0864 12345678 0000 8400" + inner4, err: ErrNotIP},
		{name: "ERSPAN III, another version", decode: DecodeGRE,
			hex: "1000 22eb 00000001 1005 0864 12345678 0000 8000" + inner4, err: ErrNotIP},
		{name: "ERSPAN III, platform's part cut", decode: DecodeGRE,
			hex: "1000 22eb 00000001 2005 0864 12345678 0000 8001 1122", err: ErrMalformed},
		{name: "ERSPAN III, cut", decode: DecodeGRE, hex: "1000 22eb 00000001 2005 0864 12345678",
			err: ErrMalformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			in := Inner{Network: 77, VLAN: 77} // of an earlier packet
			if err := tc.decode(unhex(t, tc.hex), &in); err != tc.err {
				t.Fatalf("error %v, want %v", err, tc.err)
			}
			if tc.err != nil {
				return
			}
			want := unhex(t, tc.want)
			wire := tc.wire
			if wire == 0 {
				wire = len(want)
			}
			if string(in.Data) != string(want) || in.Wire != wire || in.Network != tc.network ||
				in.VLAN != tc.vlan {
				t.Errorf("%d of %d bytes %x, network %d, tag %#x; "+
					"want %d of %d bytes %x, network %d, tag %#x",
					len(in.Data), in.Wire, in.Data, in.Network, in.VLAN, len(want), wire, want,
					tc.network, tc.vlan)
			}
			var s Segment
			err := Decode(in.Data, in.Wire, &s)
			if cut := tc.wire > len(want); cut && err == nil && !s.Cut() {
				t.Errorf("%v is taken for whole", &s)
			} else if !cut && (err != nil || string(s.Payload) != "hi") {
				t.Errorf("payload %q, %v", s.Payload, err)
			}
		})
	}
}

func TestDecodeTagged(t *testing.T) {
	var in Inner
	if err := DecodeTagged(0x8100, unhex(t, "0007 0800"+inner4), &in); err != nil || in.VLAN != 7 ||
		len(in.Data) != 42 {
		t.Errorf("%+v, %v", in, err)
	}
	if err := DecodeTagged(0x6558, unhex(t, macs+"0800"+inner4), &in); err != ErrNotIP {
		t.Errorf("Ethernet in Ethernet: %v", err)
	}
}

func TestUnwrap(t *testing.T) {
	gre := func(inner string, length string) string {
		return "4500" + length + "00004000 402f 0000" + v4addrs + inner
	}
	for _, tc := range []struct {
		name    string
		hex     string
		changed bool
		network uint32
		err     error
	}{
		{name: "no encapsulation", hex: inner4},
		{name: "no encapsulation, IPv6", hex: inner6},
		{name: "ERSPAN", hex: gre("1000 88be 00000001 1005 0864 00000000"+macs+"0800"+inner4,
			"0058"), changed: true, network: 100},
		{name: "GRE over IPv6", hex: "60000000 002e 2f 40" + v6addrs + "0000 0800" + inner4,
			changed: true},
		{
			name: "VXLAN within GENEVE, as a gateway load balancer has it",
			hex: "45000064 00004000 4011 0000" + v4addrs + "c000 17c1 0050 0000" +
				"0000 0800 00000100" +
				"45000052 00004000 4011 0000" + v4addrs + "c000 12b5 003e 0000" +
				"08000000 00007b00" + macs + "0800" + inner4,
			changed: true, network: 1,
		},
		{name: "UDP to some other port", hex: "4500001c 00004000 4011 0000" + v4addrs +
			"c000 0035 0008 0000"},
		{name: "GRE that cannot be read", hex: gre("0000 8847", "0018"), changed: true,
			err: ErrNotIP},
		{name: "a fragment", hex: "4500002c 00002000 402f 0000" + v4addrs + "0000 0800",
			err: ErrFragment},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := unhex(t, tc.hex)
			in := Inner{Data: b, Wire: len(b)}
			changed, err := Unwrap(&in)
			if changed != tc.changed || err != tc.err {
				t.Fatalf("changed %v, error %v; want %v, %v", changed, err, tc.changed, tc.err)
			}
			if err == nil && changed && (string(in.Data) != string(unhex(t, inner4)) ||
				in.Network != tc.network) {
				t.Errorf("network %d, packet %x", in.Network, in.Data)
			}
		})
	}
}

// TestEncapsulationsOfOthers decodes packets that gopacket, an independent encoder, has written.
func TestEncapsulationsOfOthers(t *testing.T) {
	const teb = layers.EthernetTypeTransparentEthernetBridging
	eth := &layers.Ethernet{SrcMAC: make(net.HardwareAddr, 6), DstMAC: make(net.HardwareAddr, 6),
		EthernetType: layers.EthernetTypeIPv4}
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP,
		SrcIP: net.IP{10, 0, 0, 1}, DstIP: net.IP{10, 0, 0, 2}}
	tcp := &layers.TCP{SrcPort: 1234, DstPort: 80, Seq: 7, ACK: true}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name    string
		decode  decoder
		outer   []gopacket.SerializableLayer
		network uint32
	}{
		{"VXLAN", DecodeVXLAN, []gopacket.SerializableLayer{&layers.VXLAN{ValidIDFlag: true,
			VNI: 0xabcdef}}, 0xabcdef},
		{"GENEVE", DecodeGENEVE,
			[]gopacket.SerializableLayer{&layers.Geneve{Protocol: teb, VNI: 5}}, 5},
		{"GRE", DecodeGRE,
			[]gopacket.SerializableLayer{&layers.GRE{Protocol: teb, ChecksumPresent: true,
				KeyPresent: true, Key: 6}}, 6},
		{"ERSPAN II", DecodeGRE, []gopacket.SerializableLayer{
			&layers.GRE{Protocol: layers.EthernetTypeERSPAN, SeqPresent: true, Seq: 1},
			&layers.ERSPANII{Version: 1, SessionID: 0x3aa},
		}, 0x3aa},
	} {
		t.Run(tc.name, func(t *testing.T) {
			buf := gopacket.NewSerializeBuffer()
			all := append(tc.outer, eth, ip, tcp, gopacket.Payload("request"))
			if err := gopacket.SerializeLayers(buf,
				gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
				all...); err != nil {
				t.Fatal(err)
			}
			var in Inner
			var s Segment
			err := tc.decode(buf.Bytes(), &in)
			if err == nil {
				err = Decode(in.Data, in.Wire, &s)
			}
			if err != nil || in.Network != tc.network || string(s.Payload) != "request" ||
				!ChecksumOK(in.Data) {
				t.Errorf("network %#x, %v, %v", in.Network, &s, err)
			}
		})
	}
}

func TestEncapsulationsAllocateNothing(t *testing.T) {
	vxlan := unhex(t, "08000000 00007b00"+macs+"8100 0007 0800"+inner4)
	n := testing.AllocsPerRun(100, func() {
		var in Inner
		if DecodeVXLAN(vxlan, &in) != nil {
			t.Fail()
		}
		if _, err := Unwrap(&in); err != nil {
			t.Fail()
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for a packet", n)
	}
}

// FuzzEncapsulations checks that every decoder stays within its input, and never takes a cut packet
// for a whole one.
func FuzzEncapsulations(f *testing.F) {
	for _, s := range []string{
		macs + "8100 6005 0800" + inner4, "08000000 00007b00" + macs + "86dd" + inner6,
		"0340 6558 00007b00 01028001 deadbeef 01030000" + macs + "0800" + inner4,
		"0000 86dd 00007b00" + inner6,
		"b000 6558 abcd0000 00000009 00000001" + macs + "0800" + inner4,
		"1000 88be 00000001 1005 0864 00000000" + macs + "0800" + innerHeader + innerTCP,
		"1000 22eb 00000001 2005 0864 12345678 0000 8001 1122334455667788" + macs + "86dd" + inner6,
		"45000064 00004000 4011 0000" + v4addrs + "c000 17c1 0050 0000" + "0000 0800 00000100" +
			"45000052 00004000 4011 0000" + v4addrs + "c000 12b5 003e 0000" + "08000000 00007b00" +
			macs + "0800" + inner4,
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, decode := range map[string]decoder{
			"ethernet": DecodeEthernet, "vxlan": DecodeVXLAN, "geneve": DecodeGENEVE,
			"gre":    DecodeGRE,
			"tagged": func(b []byte, in *Inner) error { return DecodeTagged(0x8100, b, in) },
			"unwrap": func(b []byte, in *Inner) error {
				*in = Inner{Data: b, Wire: len(b)}
				_, err := Unwrap(in)
				return err
			},
		} {
			var in Inner
			switch err := decode(b, &in); err {
			case ErrNotIP, ErrMalformed, ErrFragment:
				continue
			case nil:
			default:
				t.Fatalf("%s: %v", name, err)
			}
			if len(in.Data) > len(b) || in.Wire < len(in.Data) || in.Wire > max(len(b), 40+65535) {
				t.Fatalf("%s: %d of %d bytes within %d", name, len(in.Data), in.Wire, len(b))
			}
			var s Segment
			if Decode(in.Data, in.Wire, &s) == nil && s.Len-len(s.Payload) > in.Wire-len(in.Data) {
				t.Fatalf("%s: %d bytes of payload are missing, of %d of the packet", name,
					s.Len-len(s.Payload), in.Wire-len(in.Data))
			}
		}
	})
}
