package sys

import "encoding/binary"

// Layout of a TPACKET_V3 block (linux/if_packet.h): a block descriptor, then frames, each a
// tpacket3_hdr, a sockaddr_ll, and the packet. Words are the host's.
const (
	blockStatusOff = 8  // tpacket_hdr_v1.block_status
	blockCountOff  = 12 // num_pkts
	blockFirstOff  = 16 // offset_to_first_pkt
	blockDescLen   = 48

	frameNextOff    = 0
	frameSecOff     = 4
	frameNsecOff    = 8
	frameSnapLenOff = 12
	frameLenOff     = 16
	frameStatusOff  = 20
	frameNetOff     = 26 // tp_net; equals tp_mac on a SOCK_DGRAM socket
	frameVLANOff    = 32
	frameSLLOff     = 48 // TPACKET_ALIGN(sizeof(struct tpacket3_hdr))
	frameHeaderLen  = frameSLLOff + 20

	statusVLANValid = 1 << 4 // TP_STATUS_VLAN_VALID
)

// RingFrame is one frame of a block. Data is a view of the block.
type RingFrame struct {
	Data     []byte // from the network header on, as much as was captured
	Wire     int    // length of the packet from the network header on, before any cut
	Nanos    int64  // CLOCK_REALTIME when the kernel saw it, nanoseconds since 1970
	Ifindex  int32
	Protocol uint16 // EtherType, host order
	HWType   uint16 // ARPHRD_… of the interface
	VLAN     uint16 // tag control information; valid if HasVLAN
	PktType  uint8  // PacketHost …
	HasVLAN  bool
	Cut      bool // set by Ring.Slot alone: the queue had no room for the packet
}

// BlockReader iterates over the frames of one block. The zero value is an empty block.
type BlockReader struct {
	b       []byte
	off     uint64
	left    uint32
	corrupt bool
}

// ReadBlock returns a reader at the first frame of a block as the kernel hands it over. A block
// that contradicts itself ends early, with Corrupt; nothing outside b is read.
func ReadBlock(b []byte) BlockReader {
	if len(b) < blockDescLen {
		return BlockReader{corrupt: true}
	}
	return BlockReader{
		b:    b,
		off:  uint64(binary.NativeEndian.Uint32(b[blockFirstOff:])),
		left: binary.NativeEndian.Uint32(b[blockCountOff:]),
	}
}

// Corrupt reports whether the frames ended because the block contradicts itself.
func (r *BlockReader) Corrupt() bool { return r.corrupt }

// Next fills f with the next frame and reports whether there was one.
func (r *BlockReader) Next(f *RingFrame) bool {
	if r.left == 0 {
		return false
	}
	if r.off < blockDescLen || r.off+frameHeaderLen > uint64(len(r.b)) {
		return r.fail()
	}
	h := r.b[r.off : r.off+frameHeaderLen : r.off+frameHeaderLen]
	net := r.off + uint64(binary.NativeEndian.Uint16(h[frameNetOff:]))
	end := net + uint64(binary.NativeEndian.Uint32(h[frameSnapLenOff:]))
	if end > uint64(len(r.b)) {
		return r.fail()
	}
	f.Data = r.b[net:end:end]
	f.Wire = max(int(binary.NativeEndian.Uint32(h[frameLenOff:])), len(f.Data))
	f.Nanos = int64(binary.NativeEndian.Uint32(h[frameSecOff:]))*1e9 +
		int64(binary.NativeEndian.Uint32(h[frameNsecOff:]))
	f.HasVLAN = binary.NativeEndian.Uint32(h[frameStatusOff:])&statusVLANValid != 0
	f.VLAN = uint16(binary.NativeEndian.Uint32(h[frameVLANOff:]))
	sll := h[frameSLLOff:]
	f.Protocol = binary.BigEndian.Uint16(sll[2:])
	f.Ifindex = int32(binary.NativeEndian.Uint32(sll[4:]))
	f.HWType = binary.NativeEndian.Uint16(sll[8:])
	f.PktType = sll[10]

	r.left--
	if r.left > 0 {
		next := binary.NativeEndian.Uint32(h[frameNextOff:])
		if next < frameHeaderLen { // also 0, which ends the frames: the count was wrong
			r.fail()
			return true
		}
		r.off += uint64(next)
	}
	return true
}

func (r *BlockReader) fail() bool {
	r.left, r.corrupt = 0, true
	return false
}
