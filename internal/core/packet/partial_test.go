package packet

import (
	"bytes"
	"encoding/binary"
	"testing"

	"pgregory.net/rapid"
)

// TestAppendPartial compares with AppendHeaders: the headers agree in all but the TCP checksum, and
// that agrees once it is finished over TCP header and payload.
func TestAppendPartial(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawSegment(t, 3000)
		want := Append([]byte{1, 2, 3}, s)[3:]
		payload := s.Payload
		s.Payload = []byte("not looked at")
		got := AppendPartial([]byte{1, 2, 3}, s, len(payload))
		if !bytes.HasPrefix(got, []byte{1, 2, 3}) {
			t.Fatalf("changed what it was given: %x", got[:3])
		}
		got = append(got[3:], payload...)
		tcp := ip6HeaderLen
		if s.Dst.Addr().Is4() {
			tcp = ip4HeaderLen
		}
		binary.BigEndian.PutUint16(got[tcp+16:], finish(sum(0, got[tcp:])))
		if !bytes.Equal(got, want) {
			t.Errorf("got  %x\nwant %x", got, want)
		}
	})
}
