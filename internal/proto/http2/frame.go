package http2

import (
	"encoding/binary"
	"fmt"

	"tcpcopy/internal/proto"
)

// preface is what a client sends before its first frame (RFC 9113 §3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// headerLen is the length of a frame's header.
const headerLen = 9

// maxFrame is the length of the longest payload unless the receiver allows more (RFC 9113 §4.2).
const maxFrame = 1 << 14

// The types of frames (RFC 9113 §6).
const (
	frameData         = 0
	frameHeaders      = 1
	framePriority     = 2
	frameReset        = 3
	frameSettings     = 4
	framePush         = 5
	framePing         = 6
	frameGoAway       = 7
	frameWindow       = 8
	frameContinuation = 9
)

// The flags of frames.
const (
	flagEndStream  = 0x1 // of DATA and HEADERS
	flagAck        = 0x1 // of SETTINGS and PING
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// The settings that matter here (RFC 9113 §6.5.2).
const (
	settingTableSize     = 1
	settingPush          = 2
	settingMaxStreams    = 3
	settingInitialWindow = 4
	settingMaxFrame      = 5
	settingConnect       = 8 // ENABLE_CONNECT_PROTOCOL (RFC 8441 §3)
)

// The sizes of flow control windows (RFC 9113 §6.9).
const (
	defaultWindow = 1<<16 - 1
	maxWindow     = 1<<31 - 1
)

// header is a frame's header.
type header struct {
	length int
	kind   uint8
	flags  uint8
	stream uint32
}

// has reports whether the flag is set.
func (h *header) has(flag uint8) bool { return h.flags&flag != 0 }

func parseHeader(p *[headerLen]byte) header {
	return header{
		length: int(p[0])<<16 | int(p[1])<<8 | int(p[2]),
		kind:   p[3], flags: p[4],
		stream: binary.BigEndian.Uint32(p[5:]) &^ (1 << 31),
	}
}

// appendHeader appends a frame's header.
func appendHeader(dst []byte, length int, kind, flags uint8, stream uint32) []byte {
	dst = append(dst, byte(length>>16), byte(length>>8), byte(length), kind, flags)
	return binary.BigEndian.AppendUint32(dst, stream)
}

// appendWindow appends a WINDOW_UPDATE.
func appendWindow(dst []byte, stream uint32, n int) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(dst, 4, frameWindow, 0, stream), uint32(n))
}

// appendSetting appends one setting of a SETTINGS frame.
func appendSetting(dst []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(dst, id), value)
}

// appendBlock appends a HEADERS frame, and as many CONTINUATION frames as the block needs. The
// priority is empty, or the 5 bytes of one.
func appendBlock(dst, block, priority []byte, most int, flags uint8, stream uint32) []byte {
	n := min(len(block), most-len(priority))
	if len(priority) > 0 {
		flags |= flagPriority
	}
	kind := uint8(frameHeaders)
	for {
		if n == len(block) {
			flags |= flagEndHeaders
		}
		dst = appendHeader(dst, len(priority)+n, kind, flags, stream)
		dst = append(append(dst, priority...), block[:n]...)
		if block = block[n:]; len(block) == 0 {
			return dst
		}
		kind, flags, priority = frameContinuation, 0, nil
		n = min(len(block), most)
	}
}

// unpad returns the payload of a frame without its padding (RFC 9113 §6.1).
func unpad(h *header, p []byte) ([]byte, error) {
	if !h.has(flagPadded) {
		return p, nil
	}
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, lost("padding of a frame of the length", len(p))
	}
	return p[1 : len(p)-int(p[0])], nil
}

func lost(what string, got any) error {
	return fmt.Errorf("http2: %w: %s %v", proto.ErrLost, what, got)
}

// collector puts frames together from bytes that come in parts.
type collector struct {
	head [headerLen]byte
	have int // bytes of head
	h    header
	open bool   // h is the present frame's
	part []byte // the payload so far, if it came in parts
}

// header reads the header of the next frame, unless it was read. ok is false if more bytes are
// needed.
func (c *collector) header(p []byte) (used int, ok bool) {
	if c.open {
		return 0, true
	}
	used = copy(c.head[c.have:], p)
	if c.have += used; c.have < headerLen {
		return used, false
	}
	c.h, c.open, c.have = parseHeader(&c.head), true, 0
	return used, true
}

// payload reads a payload of n bytes. It returns the whole payload, which is valid until the next
// call, or false if more bytes are needed.
func (c *collector) payload(p []byte, n int) (whole []byte, used int, ok bool) {
	used = min(n-len(c.part), len(p))
	if len(c.part) == 0 && used == n {
		return p[:n], used, true
	}
	c.part = append(c.part, p[:used]...)
	return c.part, used, len(c.part) == n
}

// end ends the present frame. It keeps a small buffer.
func (c *collector) end() {
	if c.open = false; cap(c.part) > 4096 {
		c.part = nil
	}
	c.part = c.part[:0]
}
