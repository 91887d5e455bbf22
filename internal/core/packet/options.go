package packet

import (
	"encoding/binary"

	"tcpcopy/internal/core/seqnum"
)

// Kinds of TCP options (RFC 9293 §3.1, RFC 7323, RFC 2018).
const (
	optEnd       = 0
	optNOP       = 1
	optMSS       = 2
	optWScale    = 3
	optSACKOK    = 4
	optSACK      = 5
	optTimestamp = 8
)

// maxWScale is the largest window shift. A larger one counts as this (RFC 7323 §2.3).
const maxWScale = 14

// maxOptionsLen is the option space of a TCP header, in bytes.
const maxOptionsLen = 40

// tsAligned is the first word of the options of nearly every segment: NOP, NOP, and timestamps of
// length 10 (RFC 7323 appendix A).
const tsAligned = optNOP<<24 | optNOP<<16 | optTimestamp<<8 | 10

// seqOf returns the sequence number in b.
func seqOf(b []byte) seqnum.Value { return seqnum.Value(binary.BigEndian.Uint32(b)) }

// parseOptions parses the options in b into o. It stops at an option with an impossible length, and
// skips one of a known kind with the wrong length.
func parseOptions(b []byte, o *Options) {
	for len(b) > 0 {
		switch b[0] {
		case optEnd:
			return
		case optNOP:
			b = b[1:]
			continue
		}
		if len(b) < 2 {
			return
		}
		n := int(b[1])
		if n < 2 || n > len(b) {
			return
		}
		switch b[0] {
		case optMSS:
			if n == 4 {
				o.MSS = binary.BigEndian.Uint16(b[2:4])
			}
		case optWScale:
			if n == 3 {
				o.HasWScale = true
				o.WScale = min(b[2], maxWScale)
			}
		case optSACKOK:
			if n == 2 {
				o.SACKPermitted = true
			}
		case optTimestamp:
			if n == 10 {
				o.HasTS = true
				o.TSVal = binary.BigEndian.Uint32(b[2:6])
				o.TSEcr = binary.BigEndian.Uint32(b[6:10])
			}
		case optSACK:
			if k := (n - 2) / 8; n == 2+8*k && k >= 1 && k <= MaxSACKBlocks {
				for i := range k {
					blk := b[2+8*i : 10+8*i]
					o.SACK[i] = SACKBlock{seqOf(blk), seqOf(blk[4:])}
				}
				o.NSACK = uint8(k)
			}
		}
		b = b[n:]
	}
}

// optionsLen returns how many bytes appendOptions writes, a multiple of four, and how many SACK
// blocks fit beside the other options.
func optionsLen(o *Options) (n, blocks int) {
	if o.MSS != 0 {
		n += 4
	}
	switch {
	case o.HasTS:
		n += 12 // SACK-permitted replaces the padding
	case o.SACKPermitted:
		n += 4
	}
	if o.HasWScale {
		n += 4
	}
	blocks = min(int(o.NSACK), MaxSACKBlocks, (maxOptionsLen-n-4)/8)
	if blocks > 0 {
		n += 4 + 8*blocks
	}
	return n, blocks
}

// appendOptions appends the options with the first blocks of the SACK blocks, in Linux's order and
// padding (tcp_options_write), so that a copy's segments look like its client's.
func appendOptions(dst []byte, o *Options, blocks int) []byte {
	be := binary.BigEndian
	if o.MSS != 0 {
		dst = append(dst, optMSS, 4, byte(o.MSS>>8), byte(o.MSS))
	}
	switch {
	case o.HasTS:
		if o.SACKPermitted {
			dst = append(dst, optSACKOK, 2, optTimestamp, 10)
		} else {
			dst = append(dst, optNOP, optNOP, optTimestamp, 10)
		}
		dst = be.AppendUint32(dst, o.TSVal)
		dst = be.AppendUint32(dst, o.TSEcr)
	case o.SACKPermitted:
		dst = append(dst, optNOP, optNOP, optSACKOK, 2)
	}
	if o.HasWScale {
		dst = append(dst, optNOP, optWScale, 3, min(o.WScale, maxWScale))
	}
	if blocks > 0 {
		dst = append(dst, optNOP, optNOP, optSACK, byte(2+8*blocks))
		for _, b := range o.SACK[:blocks] {
			dst = be.AppendUint32(dst, uint32(b.First))
			dst = be.AppendUint32(dst, uint32(b.End))
		}
	}
	return dst
}
