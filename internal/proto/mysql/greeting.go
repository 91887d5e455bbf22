package mysql

import (
	"bytes"
	"encoding/binary"
)

// versionMost is the length of the longest server version, in bytes.
const versionMost = 250

// greeting reads a server's capabilities from its first packet, however it is split.
type greeting struct {
	framer
	at   int // bytes of the payload that were read
	tail int // bytes behind the version that were read
	caps uint32
	code uint16 // of an error in place of a greeting
	over bool
	name bool // the version has been read
}

// step reads some of p, at most to the packet's end.
func (g *greeting) step(p []byte) (used int, err error) {
	if !g.open {
		n, whole := g.start(p)
		if used = n; !whole {
			return used, nil
		}
		if g.length < 3 || g.length > loginMost {
			return used, lost("length of a greeting", g.length)
		}
	}
	rest := p[used:min(len(p), used+g.left)]
	for _, c := range rest {
		if err := g.byte(c); err != nil {
			return used, err
		}
	}
	n, whole := g.pass(len(rest))
	g.over = whole
	if whole && g.code == 0 && g.tail < greetingTail {
		return used + n, lost("length of a greeting", g.length)
	}
	return used + n, nil
}

// Offsets behind the version: the connection's id, 8 bytes of the challenge, a zero, the lower
// half of the capabilities, the character set, the status, the upper half.
const (
	lowerAt      = 4 + 8 + 1
	upperAt      = lowerAt + 2 + 1 + 2
	greetingTail = upperAt + 2
)

func (g *greeting) byte(c byte) error {
	at := g.at
	g.at++
	switch {
	case at == 0:
		if c != 10 && c != 0xff {
			return lost("version of the protocol", c)
		}
		g.head[0] = c
	case g.head[0] == 0xff:
		if at <= 2 {
			g.code |= uint16(c) << (8 * (at - 1))
		}
	case !g.name:
		if g.name = c == 0; at > versionMost {
			return lost("version of a server", "without an end")
		}
	default:
		switch g.tail {
		case lowerAt, lowerAt + 1:
			g.caps |= uint32(c) << (8 * (g.tail - lowerAt))
		case upperAt, upperAt + 1:
			g.caps |= uint32(c) << (8 * (g.tail - upperAt + 2))
		}
		g.tail++
	}
	return nil
}

// hello is a greeting, as far as it was captured.
type hello struct {
	scramble []byte
	plugin   string
	caps     uint32
	ext      uint32
	status   uint16
	charset  byte
	upper    bool // the upper half of the capabilities is known
}

// parseHello parses the payload of a greeting, or its beginning; false if that ends before the
// lower half of the capabilities.
func parseHello(p []byte) (h hello, ok bool) {
	if len(p) == 0 || p[0] != 10 {
		return h, false
	}
	end := bytes.IndexByte(p[:min(len(p), versionMost+2)], 0)
	if end < 0 || len(p) < end+1+lowerAt+2 {
		return h, false
	}
	p = p[end+1:]
	h.scramble = append(h.scramble, p[4:12]...)
	h.caps = uint32(binary.LittleEndian.Uint16(p[lowerAt:]))
	if len(p) < greetingTail {
		return h, true
	}
	h.charset, h.status = p[lowerAt+2], binary.LittleEndian.Uint16(p[lowerAt+3:])
	h.caps |= uint32(binary.LittleEndian.Uint16(p[upperAt:])) << 16
	h.upper = true
	if len(p) < greetingTail+11 {
		return h, true
	}
	n := max(13, int(p[greetingTail])-8)
	if h.caps&capLongPassword == 0 {
		h.ext = binary.LittleEndian.Uint32(p[greetingTail+7:])
	}
	p = p[greetingTail+11:]
	part := p[:min(n, len(p))]
	h.scramble = append(h.scramble, bytes.TrimSuffix(part, []byte{0})...)
	if p = p[len(part):]; len(p) > 0 && h.caps&capPluginAuth != 0 {
		if end := bytes.IndexByte(p, 0); end >= 0 {
			p = p[:end]
		}
		h.plugin = string(p)
	}
	return h, true
}
