package http2

import "tcpcopy/internal/proto/hpack"

// frames reads the frames of one direction of a connection, from its first byte on, for those that
// follow it and change nothing. It trusts no byte.
type frames struct {
	client  bool // the direction is the client's
	opening opening
	in      collector
	decoder hpack.Decoder

	data   int    // DATA: content that is to come
	pad    int    // DATA: padding that is to come; -1: its length is to come
	skip   int    // bytes of another payload that are to come
	first  header // of the header block
	block  []byte // of the header block that CONTINUATION follows
	within bool   // CONTINUATION follows
}

// event is what a step of frames has found.
type event uint8

const (
	_ event = iota
	// A header block is whole: first is the header of its first frame.
	blockEnd
	// Some content of DATA has come, or its frame has ended.
	dataPart
	// A stream was reset.
	streamReset
	// The head of a request that asks for an upgrade is whole: asked. It is the first stream's.
	upgradeHead
)

// found is what a step has found.
type found struct {
	event
	stream uint32
	ends   bool   // the sender has ended the stream
	block  []byte // of blockEnd: to be decoded before the next step
	piece  []byte // of dataPart: content
	asked  *upgrade
}

// begin prepares for a connection.
func (r *frames) begin(client bool) {
	*r = frames{client: client}
	r.decoder.Reset(maxTable, false)
}

// step reads some of p, which is not empty, up to the next thing that it finds.
func (r *frames) step(p []byte) (used int, f found, err error) {
	switch {
	case !r.opening.done && r.client:
		used, o, err := r.opening.client(p)
		f.stream, f.ends, f.asked, f.piece = 1, o.ends, o.asked, o.piece
		switch {
		case f.asked != nil:
			f.event = upgradeHead
		case len(f.piece) > 0 || f.ends:
			f.event = dataPart
		}
		return used, f, err
	case !r.opening.done:
		used, err = r.opening.server(p)
		return used, f, err
	case r.skip > 0:
		n := min(len(p), r.skip)
		if r.skip -= n; r.skip == 0 {
			r.in.end()
		}
		return n, f, nil
	case !r.in.open:
		n, ok := r.in.header(p)
		if used = n; !ok {
			return used, f, nil
		}
		if err := r.check(); err != nil {
			return used, f, err
		}
	}
	h := &r.in.h
	switch f.stream = h.stream; h.kind {
	case frameData:
		n, err := r.readData(p[used:], &f)
		return used + n, f, err
	case frameHeaders, frameContinuation, frameReset:
		payload, n, ok := r.in.payload(p[used:], h.length)
		if used += n; !ok {
			return used, f, nil
		}
		if h.kind == frameReset {
			f.event = streamReset
		} else {
			err = r.readBlock(payload, &f)
		}
		r.in.end()
		return used, f, err
	}
	if r.skip = h.length; r.skip == 0 {
		r.in.end()
	}
	return used, f, nil
}

// check checks the header of a frame.
func (r *frames) check() error {
	h := &r.in.h
	goesOn := h.kind == frameContinuation
	switch {
	case r.within != goesOn, goesOn && h.stream != r.first.stream:
		return lost("frame within a header block, of the type", h.kind)
	case ofStream(h.kind) && h.stream == 0:
		return lost("frame of the connection, of the type", h.kind)
	case h.kind == frameReset && h.length != 4, h.length > maxData,
		(h.kind == frameHeaders || goesOn) && h.length > maxBlock-len(r.block):
		return lost("frame of the length", h.length)
	case h.kind == frameData:
		if r.data, r.pad = h.length, 0; h.has(flagPadded) {
			if r.pad = -1; h.length == 0 {
				return lost("padded frame of the length", 0)
			}
		}
	}
	return nil
}

// readData reads some of a DATA frame.
func (r *frames) readData(p []byte, f *found) (used int, err error) {
	if r.pad < 0 && len(p) > 0 {
		r.pad = int(p[0])
		if r.data -= 1 + r.pad; r.data < 0 {
			return 1, lost("padding of the length", r.pad)
		}
		used = 1
	}
	if r.pad >= 0 {
		n := min(r.data, len(p)-used)
		f.piece = p[used : used+n]
		used += n
		r.data -= n
		if r.data == 0 {
			n = min(r.pad, len(p)-used)
			used += n
			r.pad -= n
		}
	}
	if r.data == 0 && r.pad == 0 {
		f.ends = r.in.h.has(flagEndStream)
		r.in.end()
	}
	if len(f.piece) > 0 || f.ends {
		f.event = dataPart
	}
	return used, nil
}

// readBlock reads a HEADERS or CONTINUATION frame.
func (r *frames) readBlock(p []byte, f *found) (err error) {
	h := &r.in.h
	if h.kind == frameHeaders {
		if p, err = unpad(h, p); err != nil {
			return err
		}
		if h.has(flagPriority) {
			if len(p) < 5 {
				return lost("HEADERS of the length", len(p))
			}
			p = p[5:]
		}
		if r.first = *h; cap(r.block) > 4096 {
			r.block = nil
		}
		r.block = r.block[:0]
	}
	whole := h.has(flagEndHeaders)
	if !whole || h.kind == frameContinuation {
		r.block = append(r.block, p...)
		p = r.block
	}
	if r.within = !whole; whole {
		f.event, f.block, f.ends = blockEnd, p, r.first.has(flagEndStream)
	}
	return nil
}

// size returns how many bytes are held.
func (r *frames) size() int {
	return cap(r.opening.head) + cap(r.block) + cap(r.in.part) + r.decoder.Size()
}
