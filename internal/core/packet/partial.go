package packet

import "encoding/binary"

// AppendPartial is AppendHeaders for a packet with payload bytes of payload that the sender cuts
// into segments and checksums later (TCP segmentation offload). s.Payload is not looked at. The TCP
// checksum is the sum of the pseudo-header, not complemented, as Linux and virtio (1.2, §5.1.6.2)
// want it. The IP header's length and checksum count all of the payload, which must fit its length
// field.
func AppendPartial(dst []byte, s *Segment, payload int) []byte {
	be := binary.BigEndian
	bare := *s
	bare.Payload = nil
	start := len(dst)
	dst = AppendHeaders(dst, &bare)
	ip := dst[start:]
	if s.Dst.Addr().Is4() {
		be.PutUint16(ip[2:], uint16(len(ip)+payload))
		be.PutUint16(ip[10:], 0)
		be.PutUint16(ip[10:], finish(sum(0, ip[:ip4HeaderLen])))
		tcp := ip[ip4HeaderLen:]
		be.PutUint16(tcp[16:], ^finish(pseudo(ip[12:20], protoTCP, len(tcp)+payload)))
		return dst
	}
	tcp := ip[ip6HeaderLen:]
	be.PutUint16(ip[4:], uint16(len(tcp)+payload))
	be.PutUint16(tcp[16:], ^finish(pseudo(ip[8:ip6HeaderLen], protoTCP, len(tcp)+payload)))
	return dst
}
