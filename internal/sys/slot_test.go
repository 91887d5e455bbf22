package sys

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// FuzzReadSlot: no length in a slot is believed beyond the slot.
func FuzzReadSlot(f *testing.F) {
	f.Add(uint16(80), uint32(100), uint32(100))
	f.Add(uint16(80), uint32(1<<31), uint32(0))
	f.Add(uint16(65535), uint32(1<<32-1), uint32(1<<32-1))
	f.Fuzz(func(t *testing.T, net uint16, snap, wire uint32) {
		b := make([]byte, slotSize)
		binary.NativeEndian.PutUint16(b[slotNetOff:], net)
		binary.NativeEndian.PutUint32(b[slotSnapLenOff:], snap)
		binary.NativeEndian.PutUint32(b[slotLenOff:], wire)
		var got RingFrame
		readSlot(b, unix.TP_STATUS_USER, &got)
		if int(net)+int(snap) <= slotSize && len(got.Data) != int(snap) ||
			len(got.Data) > slotSize || got.Wire < len(got.Data) {
			t.Errorf("%d bytes of %d", len(got.Data), got.Wire)
		}
	})
}
