package sys

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// testFrame is one frame of a block that a test makes.
type testFrame struct {
	data           []byte
	wire           int
	sec, nsec      uint32
	status, vlan   uint32
	protocol       uint16
	ifindex        int32
	hwtype         uint16
	pktType        uint8
	nextOff, count uint32 // if not zero, these instead of the true ones (count: for the block)
}

// block lays frames out as the kernel does.
func block(size int, frames ...testFrame) []byte {
	ne := binary.NativeEndian
	b := make([]byte, size)
	ne.PutUint32(b[blockStatusOff:], 1)
	ne.PutUint32(b[blockCountOff:], uint32(len(frames)))
	ne.PutUint32(b[blockFirstOff:], blockDescLen)
	off := blockDescLen
	for i, f := range frames {
		h := b[off:]
		const net = frameHeaderLen + 12 // as if there were padding
		next := uint32((net + len(f.data) + 15) &^ 15)
		if f.count != 0 {
			ne.PutUint32(b[blockCountOff:], f.count)
		}
		copy(h[net:], f.data)
		ne.PutUint32(h[frameSecOff:], f.sec)
		ne.PutUint32(h[frameNsecOff:], f.nsec)
		ne.PutUint32(h[frameSnapLenOff:], uint32(len(f.data)))
		ne.PutUint32(h[frameLenOff:], uint32(f.wire))
		ne.PutUint32(h[frameStatusOff:], f.status)
		ne.PutUint16(h[frameNetOff-2:], net)
		ne.PutUint16(h[frameNetOff:], net)
		ne.PutUint32(h[frameVLANOff:], f.vlan)
		sll := h[frameSLLOff:]
		binary.BigEndian.PutUint16(sll[2:], f.protocol)
		ne.PutUint32(sll[4:], uint32(f.ifindex))
		ne.PutUint16(sll[8:], f.hwtype)
		sll[10] = f.pktType
		off += int(next)
		switch {
		case f.nextOff != 0:
			next = f.nextOff
		case i == len(frames)-1:
			next = 0
		}
		ne.PutUint32(h[frameNextOff:], next)
	}
	return b
}

var (
	whole = testFrame{
		data: []byte("packet one"), wire: 10, sec: 5, nsec: 7,
		protocol: EthPIP, ifindex: 3, hwtype: 1, pktType: PacketHost,
	}
	cut = testFrame{
		data: []byte("two"), wire: 1500, sec: 6, status: statusVLANValid, vlan: 42,
		protocol: EthPIPv6, ifindex: 4, hwtype: HWLoopback, pktType: PacketOutgoing,
	}
)

func TestReadBlock(t *testing.T) {
	r := ReadBlock(block(4096, whole, cut))
	var f RingFrame
	if !r.Next(&f) || string(f.Data) != "packet one" || f.Wire != 10 ||
		f.Nanos != 5_000_000_007 || f.HasVLAN || f.Protocol != EthPIP || f.Ifindex != 3 ||
		f.HWType != 1 || f.PktType != PacketHost {
		t.Errorf("first: %+v", f)
	}
	if !r.Next(&f) || string(f.Data) != "two" || f.Wire != 1500 || f.Nanos != 6_000_000_000 ||
		!f.HasVLAN || f.VLAN != 42 || f.Protocol != EthPIPv6 || f.Ifindex != 4 ||
		f.HWType != HWLoopback || f.PktType != PacketOutgoing {
		t.Errorf("second: %+v", f)
	}
	if r.Next(&f) || r.Corrupt() {
		t.Errorf("after the last: %+v, corrupt %v", f, r.Corrupt())
	}
	if cap(f.Data) != len(f.Data) {
		t.Error("a frame's view can be extended into the next")
	}
}

func TestCorruptBlocks(t *testing.T) {
	with := func(change func(b []byte)) []byte {
		b := block(4096, whole, cut)
		change(b)
		return b
	}
	put := func(off int, v uint32) func([]byte) {
		return func(b []byte) { binary.NativeEndian.PutUint32(b[off:], v) }
	}
	for _, tt := range []struct {
		name  string
		block []byte
		good  int // frames before the corruption
	}{
		{"empty", nil, 0},
		{"shorter than its descriptor", make([]byte, blockDescLen-1), 0},
		{"first frame within the descriptor", with(put(blockFirstOff, 8)), 0},
		{"first frame past the end", with(put(blockFirstOff, 4095)), 0},
		{"first frame far past the end", with(put(blockFirstOff, 0xffffffff)), 0},
		{"more data than block", with(put(blockDescLen+frameSnapLenOff, 5000)), 0},
		{"data length that wraps", with(put(blockDescLen+frameSnapLenOff, 0xffffffff)), 0},
		{"chain ends before the count", block(4096, whole, testFrame{count: 9}), 2},
		{"chain points at itself", block(4096, testFrame{nextOff: 1}, cut), 1},
		{"chain leads past the end", block(4096, testFrame{nextOff: 0xfffffff0}, cut), 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := ReadBlock(tt.block)
			var f RingFrame
			n := 0
			for r.Next(&f) {
				n++
			}
			if n != tt.good || !r.Corrupt() {
				t.Errorf("%d frames, corrupt %v; want %d, true", n, r.Corrupt(), tt.good)
			}
		})
	}
}

func FuzzReadBlock(f *testing.F) {
	f.Add(block(512, whole, cut))
	f.Add(block(512, whole, testFrame{count: 9}))
	f.Add(block(512, testFrame{nextOff: 1}, cut))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		kept := bytes.Clone(b)
		r := ReadBlock(b)
		var fr RingFrame
		n := 0
		for r.Next(&fr) {
			if fr.Wire < len(fr.Data) || len(fr.Data) > len(b) {
				t.Fatalf("frame of %d bytes, %d on the wire, in a block of %d",
					len(fr.Data), fr.Wire, len(b))
			}
			if n++; n > len(b)/frameHeaderLen {
				t.Fatalf("more than %d frames in %d bytes", n, len(b))
			}
		}
		if r.Next(&fr) || !bytes.Equal(b, kept) {
			t.Fatal("went on after the end, or wrote to the block")
		}
	})
}

func BenchmarkReadBlock(b *testing.B) {
	var frames []testFrame
	for range 500 {
		frames = append(frames, testFrame{data: make([]byte, 60), wire: 60, protocol: EthPIP})
	}
	blk := block(256<<10, frames...)
	b.ReportAllocs()
	for n := 0; n < b.N; n += len(frames) {
		r := ReadBlock(blk)
		var f RingFrame
		for r.Next(&f) {
		}
	}
}
