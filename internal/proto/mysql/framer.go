package mysql

// headMost is how many bytes of a packet's payload are kept: the status of an OK packet lies
// within them.
const headMost = 24

// framer cuts a stream into packets, and keeps a packet's first bytes.
type framer struct {
	header   [headerLen]byte
	head     [headMost]byte
	inHeader uint8 // bytes of the header that have come
	have     uint8 // bytes of the payload in head
	seq      uint8 // sequence id
	more     bool  // the packet continues the one before, which had maxPayload bytes
	open     bool  // the header has come, and the packet has not ended
	length   int   // of the payload
	left     int   // bytes of the payload that follow
}

// start reads bytes of a packet's header; it returns how many, and whether the header is whole.
func (f *framer) start(p []byte) (used int, whole bool) {
	used = copy(f.header[f.inHeader:], p)
	if f.inHeader += uint8(used); f.inHeader < headerLen {
		return used, false
	}
	f.length = int(f.header[0]) | int(f.header[1])<<8 | int(f.header[2])<<16
	f.seq, f.left, f.have, f.open = f.header[3], f.length, 0, true
	return used, true
}

// look reads bytes of the payload into head, up to want in all. enough reports whether they are
// there, or the payload has no more.
func (f *framer) look(p []byte, want int) (used int, enough bool) {
	if want = min(want, f.length, headMost); int(f.have) < want {
		used = copy(f.head[f.have:want], p)
		f.have += uint8(used)
		f.left -= used
	}
	return used, int(f.have) >= want
}

// pass skips at most n bytes of the payload, and reports whether the packet ends there.
func (f *framer) pass(n int) (used int, whole bool) {
	used = min(n, f.left)
	f.left -= used
	return used, f.left == 0
}

// end prepares for the next header. whole is false if the next packet continues this one.
func (f *framer) end() (whole bool) {
	f.inHeader, f.open = 0, false
	f.more = f.length == maxPayload
	return !f.more
}
