package hpack

// codeLens holds the length of each byte's code in bits (RFC 7541 appendix B). The codes are
// canonical: they ascend by length, and then by byte.
var codeLens = [256]uint8{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30,
	28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5,
	5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
	7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6,
	6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23,
	22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23,
	24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22,
	23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27,
	26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21,
	22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27,
	27, 27, 27, 27, 26,
}

// maxCode is the length of the longest code.
const maxCode = 30

// short is a code of at most 8 bits: the byte and the code's length; 0 if the code is longer.
type short struct{ sym, len uint8 }

// huffman is what decoding needs: the short codes by the 8 bits that begin with them, and for each
// length the first code and where its bytes begin in order.
var huffman = func() (h struct {
	short [256]short
	first [maxCode + 2]uint32 // the first code of that length
	count [maxCode + 2]uint32
	index [maxCode + 2]int // of its byte in order
	order [256]uint8
}) {
	n, code := 0, uint32(0)
	for l := uint8(1); l <= maxCode; l++ {
		code <<= 1
		h.first[l], h.index[l] = code, n
		for s, sl := range codeLens {
			if sl != l {
				continue
			}
			h.order[n] = uint8(s)
			if l <= 8 {
				for i := range uint32(1) << (8 - l) {
					h.short[code<<(8-l)|i] = short{uint8(s), l}
				}
			}
			n, code = n+1, code+1
		}
		h.count[l] = code - h.first[l]
	}
	return h
}()

// appendHuffman appends the bytes that p encodes; ok is false if p is no valid code.
func appendHuffman(dst, p []byte) (_ []byte, ok bool) {
	var acc uint64 // the last bits bits are not decoded
	bits := 0
	for i := 0; ; {
		for bits <= 56 && i < len(p) {
			acc, bits = acc<<8|uint64(p[i]), bits+8
			i++
		}
		if bits < 8 {
			break
		}
		if s := huffman.short[uint8(acc>>(bits-8))]; s.len > 0 {
			dst = append(dst, s.sym)
			bits -= int(s.len)
			continue
		}
		sym, n := long(acc, bits)
		if n == 0 {
			return dst, false // also the end-of-string symbol, which no valid code has
		}
		dst = append(dst, sym)
		bits -= n
	}
	// Less than 8 bits are left: codes, and then ones as padding (RFC 7541 §5.2).
	for bits > 0 {
		s := huffman.short[uint8(acc<<(8-bits)|0xff>>bits)]
		if s.len == 0 || int(s.len) > bits {
			return dst, uint8(acc)|0xff<<bits == 0xff
		}
		dst = append(dst, s.sym)
		bits -= int(s.len)
	}
	return dst, true
}

// long decodes a code of more than 8 bits. n is 0 if there is none.
func long(acc uint64, bits int) (sym uint8, n int) {
	for l := 9; l <= maxCode && l <= bits; l++ {
		code := uint32(acc>>(bits-l)) & (1<<l - 1)
		if k := code - huffman.first[l]; code >= huffman.first[l] && k < huffman.count[l] {
			return huffman.order[huffman.index[l]+int(k)], l
		}
	}
	return 0, 0
}
