package capfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
	"pgregory.net/rapid"
)

// record is a packet that a test writes or has read.
type record struct {
	time int64
	data string
	wire int
	link LinkType
}

// all reads a file to its end. At io.EOF its error is nil.
func all(b []byte) (list []record, c Counts, err error) {
	r, err := NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, c, err
	}
	var p Packet
	for {
		if err = r.Next(&p); err != nil {
			break
		}
		list = append(list, record{p.Time, string(p.Data), p.Wire, p.Link})
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return list, r.Counts(), err
}

func drawRecords(t *rapid.T) (list []record) {
	now := rapid.Int64Range(0, 4e18).Draw(t, "time")
	for range rapid.IntRange(0, 20).Draw(t, "packets") {
		data := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "data")
		now += rapid.Int64Range(0, 1e10).Draw(t, "later")
		list = append(list, record{now, string(data),
			len(data) + rapid.IntRange(0, 2000).Draw(t, "cut"), LinkRaw})
	}
	return list
}

// TestWriter checks that this package and pcapgo read what Writer writes.
func TestWriter(t *testing.T) {
	for _, format := range []Format{PCAPNG, PCAP} {
		t.Run(fmt.Sprint(format), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				want := drawRecords(t)
				for i := range want {
					if format == PCAP { // 32 bits of seconds
						want[i].time %= 4e18
					}
				}
				var b bytes.Buffer
				w, err := NewWriter(&b, format, LinkRaw, 0)
				if err != nil {
					t.Fatal(err)
				}
				for _, p := range want {
					if err := w.Write(p.time, []byte(p.data), p.wire); err != nil {
						t.Fatal(err)
					}
				}
				if err := w.End(5e18, Counts{Received: 12, Dropped: 3}); err != nil {
					t.Fatal(err)
				}
				if w.Size() != int64(b.Len()) {
					t.Fatalf("%d bytes, and Size() is %d", b.Len(), w.Size())
				}
				got, counts, err := all(b.Bytes())
				if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
					t.Fatalf("read %v (%v), wrote %v", got, err, want)
				}
				if format == PCAPNG && counts != (Counts{12, 3}) {
					t.Fatalf("counts %+v", counts)
				}
				var oracle gopacket.PacketDataSource
				if format == PCAP {
					oracle, err = pcapgo.NewReader(&b)
				} else {
					oracle, err = pcapgo.NewNgReader(&b, pcapgo.DefaultNgReaderOptions)
				}
				if err != nil {
					t.Fatal(err)
				}
				for i, p := range want {
					data, info, err := oracle.ReadPacketData()
					if err != nil || string(data) != p.data ||
						info.Timestamp.UnixNano() != p.time || info.Length != p.wire {
						t.Fatalf("packet %d: pcapgo reads %x at %d of %d (%v), wanted %x at %d "+
							"of %d", i, data,
							info.Timestamp.UnixNano(), info.Length, err, p.data, p.time, p.wire)
					}
				}
				if _, _, err := oracle.ReadPacketData(); !errors.Is(err, io.EOF) {
					t.Fatalf("pcapgo: %v after the last packet", err)
				}
			})
		})
	}
}

// TestReaderOfOthersFiles reads what pcapgo writes: pcap with microseconds, pcapng with several
// interfaces.
func TestReaderOfOthersFiles(t *testing.T) {
	at := time.Date(2026, 11, 25, 3, 0, 0, 123456789, time.UTC)
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	w.WriteFileHeader(100, layers.LinkTypeEthernet)
	w.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: 3, Length: 1500},
		[]byte("abc"))
	got, _, err := all(b.Bytes())
	if want := []record{{at.UnixNano() / 1000 * 1000, "abc", 1500, LinkEthernet}}; err != nil ||
		fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("pcap: %v (%v), wanted %v", got, err, want)
	}

	b.Reset()
	ng, err := pcapgo.NewNgWriterInterface(&b, pcapgo.NgInterface{LinkType: layers.LinkTypeEthernet,
		SnapLength: 0}, pcapgo.NgWriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	id, err := ng.AddInterface(pcapgo.NgInterface{LinkType: layers.LinkTypeLinuxSLL2})
	if err != nil {
		t.Fatal(err)
	}
	ng.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: 2, Length: 2}, []byte("xy"))
	ng.WritePacket(gopacket.CaptureInfo{Timestamp: at, CaptureLength: 3, Length: 4,
		InterfaceIndex: id}, []byte("abc"))
	ng.WriteInterfaceStats(id, pcapgo.NgInterfaceStatistics{LastUpdate: at, PacketsReceived: 7,
		PacketsDropped: 2})
	ng.Flush()
	got, counts, err := all(b.Bytes())
	if want := []record{{at.UnixNano(), "xy", 2, LinkEthernet},
		{at.UnixNano(), "abc", 4, LinkSLL2}}; err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("pcapng: %v (%v), wanted %v", got, err, want)
	}
	if counts != (Counts{7, 2}) {
		t.Errorf("counts %+v", counts)
	}
}

// block returns a pcapng block in a byte order.
func block(o binary.AppendByteOrder, kind uint32, body ...[]byte) []byte {
	b := o.AppendUint32(o.AppendUint32(nil, kind), 0)
	for _, p := range body {
		b = append(b, p...)
	}
	b = append(b, make([]byte, -len(b)&3)...)
	n := uint32(len(b) + 4)
	copy(b[4:], o.AppendUint32(nil, n))
	return o.AppendUint32(b, n)
}

func section(o binary.AppendByteOrder) []byte {
	return block(o, blockSection, o.AppendUint32(nil, byteOrderMagic),
		o.AppendUint16(o.AppendUint16(nil, 1), 0), o.AppendUint64(nil, ^uint64(0)))
}

func iface(o binary.AppendByteOrder, link LinkType, snap uint32, options ...byte) []byte {
	return block(o, blockInterface, o.AppendUint16(o.AppendUint16(nil, uint16(link)), 0),
		o.AppendUint32(nil, snap), options)
}

func packetAt(o binary.AppendByteOrder, kind, id uint32, units uint64, captured, wire uint32,
	data string) []byte {
	first := o.AppendUint32(nil, id)
	if kind == blockOldPacket {
		first = o.AppendUint16(o.AppendUint16(nil, uint16(id)), 0)
	}
	return block(o, kind, first, o.AppendUint32(o.AppendUint32(nil, uint32(units>>32)),
		uint32(units)),
		o.AppendUint32(o.AppendUint32(nil, captured), wire), []byte(data))
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestPCAPNG(t *testing.T) {
	le, be := binary.LittleEndian, binary.BigEndian
	for _, c := range []struct {
		name string
		file []byte
		want []record
		err  error
	}{
		{"microseconds by default", join(section(le), iface(le, LinkRaw, 0),
			packetAt(le, blockPacket, 0, 1_000_001, 2, 9, "ab")),
			[]record{{1_000_001_000, "ab", 9, LinkRaw}}, nil},
		{"big-endian", join(section(be), iface(be, LinkRaw, 0),
			packetAt(be, blockPacket, 0, 5, 2, 2, "ab")), []record{{5000, "ab", 2, LinkRaw}}, nil},
		{"powers of two", join(section(le), iface(le, LinkRaw, 0, 9, 0, 1, 0, 0x80|10, 0, 0, 0),
			packetAt(le, blockPacket, 0, 1536, 1, 1, "a")),
			[]record{{1_500_000_000, "a", 1, LinkRaw}}, nil},
		{"an offset in seconds", join(section(be),
			iface(be, LinkRaw, 0, 0, 14, 0, 8, 0, 0, 0, 0, 0, 0, 0, 100),
			packetAt(be, blockPacket, 0, 1, 1, 1, "a")),
			[]record{{100_000_001_000, "a", 1, LinkRaw}}, nil},
		{"a resolution of picoseconds", join(section(le),
			iface(le, LinkRaw, 0, 9, 0, 1, 0, 12, 0, 0, 0),
			packetAt(le, blockPacket, 0, 7_000_000, 1, 1, "a")),
			[]record{{7000, "a", 1, LinkRaw}}, nil},
		{"an obsolete packet", join(section(le), iface(le, LinkRaw, 0),
			packetAt(le, blockOldPacket, 0, 5, 2, 2, "ab")), []record{{5000, "ab", 2, LinkRaw}},
			nil},
		{"a simple packet, cut", join(section(le), iface(le, LinkRaw, 3),
			block(le, blockSimple, le.AppendUint32(nil, 5), []byte("abc"))),
			[]record{{0, "abc", 5, LinkRaw}}, nil},
		{"a second section of another byte order",
			join(section(le), iface(le, LinkRaw, 0), section(be), iface(be, LinkEthernet, 0),
				packetAt(be, blockPacket, 0, 5, 1, 1, "a")),
			[]record{{5000, "a", 1, LinkEthernet}}, nil},
		{"unknown blocks", join(section(le), block(le, 0x0bad, make([]byte, 5000)),
			iface(le, LinkRaw, 0), block(le, 4, []byte("name")),
			packetAt(le, blockPacket, 0, 5, 1, 1, "a")),
			[]record{{5000, "a", 1, LinkRaw}}, nil},
		{"nothing but a section", section(le), nil, nil},

		{"an unknown interface", join(section(le),
			packetAt(le, blockPacket, 0, 5, 1, 1, "a")), nil, ErrCorrupt},
		{"a packet larger than its block", join(section(le), iface(le, LinkRaw, 0),
			packetAt(le, blockPacket, 0, 5, 100, 100, "a")), nil, ErrCorrupt},
		{"a block without a length", join(section(le), make([]byte, 12)), nil, ErrCorrupt},
		{"an enormous packet", join(section(le), le.AppendUint32(le.AppendUint32(nil, blockPacket),
			1<<31)), nil, ErrCorrupt},
		{"cut off in a block", join(section(le), iface(le, LinkRaw, 0),
			packetAt(le, blockPacket, 0, 5, 1, 1, "a")[:20]), nil, ErrTruncated},
		{"cut off in an unknown block", join(section(le),
			block(le, 0x0bad, make([]byte, 100))[:50]), nil, ErrTruncated},
		{"neither byte order", join(section(le)[:8], []byte("what")), nil, ErrFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _, err := all(c.file)
			if !errors.Is(err, c.err) || err != nil && c.err == nil ||
				fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%v (%v), wanted %v (%v)", got, err, c.want, c.err)
			}
		})
	}
}

func TestPCAP(t *testing.T) {
	header := func(o binary.AppendByteOrder, magic uint32) []byte {
		b := o.AppendUint16(o.AppendUint16(o.AppendUint32(nil, magic), 2), 4)
		return o.AppendUint32(append(b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0), uint32(LinkLoop))
	}
	rec := func(o binary.AppendByteOrder, sec, frac, captured, wire uint32, data string) []byte {
		return append(o.AppendUint32(o.AppendUint32(o.AppendUint32(o.AppendUint32(nil, sec), frac),
			captured), wire), data...)
	}
	le, be := binary.LittleEndian, binary.BigEndian
	for _, c := range []struct {
		name string
		file []byte
		want []record
		err  error
	}{
		{"microseconds", join(header(le, magicMicros), rec(le, 1, 2, 1, 9, "a")),
			[]record{{1_000_002_000, "a", 9, LinkLoop}}, nil},
		{"nanoseconds, big-endian", join(header(be, magicNanos), rec(be, 1, 2, 1, 0, "a")),
			[]record{{1_000_000_002, "a", 1, LinkLoop}}, nil},
		{"no packet", header(le, magicMicros), nil, nil},
		{"cut off in a header", join(header(le, magicMicros), rec(le, 1, 2, 1, 9, "a"),
			[]byte{1, 2, 3}), []record{{1_000_002_000, "a", 9, LinkLoop}}, ErrTruncated},
		{"cut off in a packet", join(header(le, magicMicros), rec(le, 1, 2, 5, 9, "abc")), nil,
			ErrTruncated},
		{"an enormous packet", join(header(le, magicMicros), rec(le, 1, 2, 1<<30, 9, "abc")), nil,
			ErrCorrupt},
		{"cut off in the file's header", header(le, magicMicros)[:20], nil, ErrTruncated},
		{"empty", nil, nil, ErrFormat},
		{"text", []byte("hello, world"), nil, ErrFormat},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _, err := all(c.file)
			if !errors.Is(err, c.err) || err != nil && c.err == nil ||
				fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%v (%v), wanted %v (%v)", got, err, c.want, c.err)
			}
		})
	}
}

func FuzzReader(f *testing.F) {
	le := binary.LittleEndian
	f.Add(join(section(le), iface(le, LinkRaw, 0, 9, 0, 1, 0, 9, 0, 0, 0),
		packetAt(le, blockPacket, 0, 5, 1, 1, "a")))
	f.Add(join(section(le), iface(le, LinkRaw, 3),
		block(le, blockSimple, le.AppendUint32(nil, 5), []byte("abc"))))
	var b bytes.Buffer
	w, _ := NewWriter(&b, PCAP, LinkEthernet, 0)
	w.Write(1, []byte("abc"), 3)
	w.End(2, Counts{1, 2})
	f.Add(b.Bytes())
	f.Fuzz(func(t *testing.T, file []byte) {
		list, _, _ := all(file)
		n := 0
		for _, p := range list {
			n += len(p.data)
			if p.wire < len(p.data) || p.time < 0 {
				t.Fatalf("a packet of %d bytes, %d on the wire, at %d", len(p.data), p.wire, p.time)
			}
		}
		if n > len(file) {
			t.Fatalf("%d bytes of packets in a file of %d", n, len(file))
		}
	})
}

func BenchmarkRead(b *testing.B) {
	for _, format := range []Format{PCAP, PCAPNG} {
		b.Run(map[Format]string{PCAP: "pcap", PCAPNG: "pcapng"}[format], func(b *testing.B) {
			var file bytes.Buffer
			w, _ := NewWriter(&file, format, LinkRaw, 0)
			data := make([]byte, 300)
			const packets = 10000
			for i := range packets {
				w.Write(int64(i), data, len(data))
			}
			w.Flush()
			b.ReportAllocs()
			b.SetBytes(int64(file.Len()))
			for b.Loop() {
				r, _ := NewReader(bytes.NewReader(file.Bytes()))
				var p Packet
				n := 0
				for r.Next(&p) == nil {
					n++
				}
				if n != packets {
					b.Fatal(n)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/packets, "ns/packet")
		})
	}
}

// TestWhole checks that Whole finds exactly the packets that a Reader finds in the beginning of a
// file.
func TestWhole(t *testing.T) {
	for _, format := range []Format{PCAPNG, PCAP} {
		t.Run(fmt.Sprint(format), func(t *testing.T) {
			var b bytes.Buffer
			w, err := NewWriter(&b, format, LinkRaw, 0)
			if err != nil {
				t.Fatal(err)
			}
			w.Flush()
			head := b.Len()
			for i := range 3 {
				w.Write(int64(i), make([]byte, 10*i+1), 100)
			}
			w.Flush()
			for n := range b.Len() - head + 1 {
				good := head + format.Whole(b.Bytes()[head:head+n])
				list, _, err := all(b.Bytes()[:good])
				whole, _, _ := all(b.Bytes()[:head+n])
				if err != nil || len(list) != len(whole) {
					t.Errorf("of %d bytes %d are whole: %d packets of %d, %v", head+n, good,
						len(list), len(whole), err)
				}
			}
		})
	}
}
