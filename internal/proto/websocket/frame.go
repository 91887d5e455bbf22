package websocket

import (
	"encoding/binary"
	"fmt"

	"tcpcopy/internal/proto"
)

// The opcodes (RFC 6455 §5.2). A control frame's is 8 or more.
const (
	opContinuation = 0
	opText         = 1
	opBinary       = 2
	opClose        = 8
	opPing         = 9
	opPong         = 10
)

// The bits of a frame's first two bytes, and the longest payload of a control frame.
const (
	bitFin     = 0x80
	bitDeflate = 0x40 // RSV1 (RFC 7692 §6)
	bitsOther  = 0x30 // RSV2 and RSV3
	bitMask    = 0x80
	maxControl = 125
)

// frame is a frame's header.
type frame struct {
	fin    bool
	rsv    byte // the reserved bits, where they stand
	op     byte
	masked bool
	mask   [4]byte
	length uint64
}

// control reports whether it is a control frame.
func (f *frame) control() bool { return f.op >= opClose }

// endsMessage reports whether a message ends with the frame.
func (f *frame) endsMessage() bool { return f.fin && !f.control() }

// cut returns how much of the payload, of a target's frame, is handed back to the copier: of a
// message the last byte.
func (f *frame) cut() uint64 {
	if f.control() {
		return f.length
	}
	return min(f.length, 1)
}

// check reports what is wrong with the header of a frame that must be masked, or must not be.
func (f *frame) check(masked bool) error {
	switch {
	case f.masked != masked:
		return lost("mask of a frame of the opcode", f.op)
	case f.op > opBinary && f.op < opClose || f.op > opPong:
		return lost("opcode", f.op)
	case f.control() && (!f.fin || f.length > maxControl || f.rsv != 0):
		return lost("control frame of the length", f.length)
	case f.length >= 1<<63:
		return lost("frame of the length", f.length)
	}
	return nil
}

func lost(what string, got any) error {
	return fmt.Errorf("websocket: %w: %s %v", proto.ErrLost, what, got)
}

// headers reads the headers of frames from bytes that come in parts.
type headers struct {
	buf  [14]byte
	have int
}

// next reads up to the end of a header. ok is false if more bytes are needed.
func (h *headers) next(p []byte, f *frame) (used int, ok bool) {
	for {
		need := 2
		if h.have >= 2 {
			need = headerLen(h.buf[1])
		}
		n := copy(h.buf[h.have:need], p[used:])
		used += n
		if h.have += n; h.have < need {
			return used, false
		}
		if need > 2 || headerLen(h.buf[1]) == 2 {
			f.parse(h.buf[:need])
			h.have = 0
			return used, true
		}
	}
}

// headerLen returns the length of a header with that second byte.
func headerLen(second byte) int {
	n := 2
	switch second &^ bitMask {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if second&bitMask != 0 {
		n += 4
	}
	return n
}

// parse parses a whole header.
func (f *frame) parse(p []byte) {
	*f = frame{fin: p[0]&bitFin != 0, rsv: p[0] & (bitDeflate | bitsOther), op: p[0] & 0x0f,
		masked: p[1]&bitMask != 0, length: uint64(p[1] &^ bitMask)}
	switch p = p[2:]; f.length {
	case 126:
		f.length = uint64(binary.BigEndian.Uint16(p))
		p = p[2:]
	case 127:
		f.length = binary.BigEndian.Uint64(p)
		p = p[8:]
	}
	if f.masked {
		f.mask = [4]byte(p)
	}
}

// appendFrame appends a client's whole frame.
func appendFrame(dst []byte, op byte, mask [4]byte, payload []byte) []byte {
	dst = append(dst, bitFin|op)
	switch n := len(payload); {
	case n <= maxControl:
		dst = append(dst, bitMask|byte(n))
	case n < 1<<16:
		dst = binary.BigEndian.AppendUint16(append(dst, bitMask|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, bitMask|127), uint64(n))
	}
	dst = append(dst, mask[:]...)
	at := len(dst)
	dst = append(dst, payload...)
	unmask(dst[at:], mask, 0)
	return dst
}

// unmask applies a mask to bytes of a payload, the first of which has the offset at.
func unmask(p []byte, mask [4]byte, at uint64) {
	for i := range p {
		p[i] ^= mask[(at+uint64(i))&3]
	}
}
