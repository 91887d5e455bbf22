package http2

import (
	"encoding/binary"
	"slices"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/websocket"
)

// prefixLen is the length of what precedes each message of gRPC: a flag, which tells whether it is
// compressed, and its length.
const prefixLen = 5

// message is where one direction of a stream is in its messages.
type message struct {
	prefix [prefixLen]byte
	have   int   // bytes of the prefix
	left   int64 // bytes of the message that are to come
}

// within reports whether a message has begun, and not ended.
func (m *message) within() bool { return m.have > 0 || m.left > 0 }

// begin takes bytes of the prefix, and no more. It reports whether that is the whole message. ok is
// false if the bytes are of no message.
func (m *message) begin(p []byte) (whole, ok bool) {
	m.have += copy(m.prefix[m.have:], p)
	if m.prefix[0] > 1 {
		*m = message{}
		return false, false
	}
	if m.have < prefixLen {
		return false, true
	}
	m.have, m.left = 0, int64(binary.BigEndian.Uint32(m.prefix[1:]))
	return m.left == 0, true
}

// counter counts the messages of a stream's content.
type counter struct {
	message
	whole uint64
	over  bool // the content has no messages
}

// read reads the next bytes.
func (c *counter) read(p []byte) {
	for len(p) > 0 && !c.over {
		if n := min(c.left, int64(len(p))); n > 0 {
			if c.left -= n; c.left == 0 {
				c.whole++
			}
			p = p[n:]
			continue
		}
		n := min(prefixLen-c.have, len(p))
		whole, ok := c.begin(p[:n])
		if c.over = !ok; whole {
			c.whole++
		}
		p = p[n:]
	}
}

// contents reads the DATA frames of a server, and finds where messages of gRPC end in them. It
// needs few of their bytes: the prefixes of messages, how long padding is, and each frame's last
// byte, which stands for all that precede it. Others are skipped. Where a frame's first byte, or
// the byte behind a message, begins no message, the rest of the frame has none.
//
// The reader of the target's bytes and the Client each have one, and both must find the same by the
// frames alone, however these come.
type contents struct {
	partial map[uint32]message // the streams whose last frame ends within a message

	stream uint32
	left   int  // bytes of the present payload that are to come
	pad    int  // how many of them are padding; -1: the next byte tells
	plain  bool // what is left has no messages
	closes bool // the stream ends with the frame
	message
	whole uint64 // messages that have ended in the present frame

	// Of streams for WebSocket, the readers of what the server sends on them, as much of whose
	// content is needed as they need.
	sockets map[uint32]*websocket.Answers
	socket  *websocket.Answers // of the present frame; nil: its stream is another
	kept    []byte             // of the present frame: what socket has handed back
	marks   []proto.Answer     // scratch
}

// maxPartial bounds the streams that are within a message: a client may have cancelled them. Of
// more, the older half is forgotten.
const maxPartial = 4096

// header reads the header of the next frame. follow tells whether the stream may have messages.
func (d *contents) header(h *header, follow bool) {
	switch {
	case h.kind == frameReset, h.kind == frameHeaders && h.has(flagEndStream):
		delete(d.partial, h.stream)
		delete(d.sockets, h.stream)
	case h.kind == frameData:
		if d.socket = d.sockets[h.stream]; d.socket != nil {
			follow, d.kept = true, d.kept[:0]
		}
		d.stream, d.left, d.pad, d.plain = h.stream, h.length, 0, !follow
		d.closes, d.whole, d.message = h.has(flagEndStream), 0, message{}
		if follow {
			if d.socket == nil {
				d.message = d.partial[h.stream]
			}
			if h.has(flagPadded) {
				d.pad = -1
			}
		}
		if d.left == 0 {
			d.end()
		}
	}
}

// run returns how many of the next bytes are alike: needed, or not. Those that are needed are given
// to read, as many as have come, and the others to skip.
func (d *contents) run() (n int, needed bool) {
	content := d.left - d.pad
	switch {
	case d.left == 0, d.pad < 0:
		return min(d.left, 1), true
	case d.plain || content <= 0:
		n = d.left - 1
	case d.socket != nil:
		n = int(min(d.socket.Blind(), uint64(content), uint64(d.left-1)))
	case d.message.left > 0:
		n = int(min(d.message.left, int64(content), int64(d.left-1)))
	case d.have == 0:
		return 1, true
	default:
		return min(prefixLen-d.have, content), true
	}
	if n == 0 {
		return 1, true
	}
	return n, false
}

// read reads bytes that are needed. It returns an error if padding is longer than its frame.
func (d *contents) read(p []byte) error {
	if d.pad < 0 {
		d.left--
		if d.pad = int(p[0]); d.pad > d.left {
			return lost("padding of the length", d.pad)
		}
		if d.left == 0 {
			d.end()
		}
		return nil
	}
	if d.socket != nil && d.left > d.pad {
		if d.socket.Kept() {
			d.kept = append(d.kept, p...)
		}
		// Of what is no frame, and of all that follows it, nothing is handed back.
		d.marks, _ = d.socket.Feed(p, d.marks[:0])
		d.advance(len(p))
		return nil
	}
	if !d.plain && d.left > d.pad && d.message.left == 0 {
		whole, ok := d.begin(p)
		if d.plain = !ok; whole {
			d.whole++
		}
		d.advance(len(p))
		return nil
	}
	d.skip(len(p))
	return nil
}

// skip reads bytes that are not needed.
func (d *contents) skip(n int) {
	switch {
	case d.plain || d.left <= d.pad:
	case d.socket != nil:
		d.marks = d.socket.Skip(uint64(n), d.marks[:0])
	default:
		if d.message.left -= int64(n); d.message.left == 0 {
			d.whole++
		}
	}
	d.advance(n)
}

func (d *contents) advance(n int) {
	if d.left -= n; d.left == 0 {
		d.end()
	}
}

// addSocket notes that a stream is for WebSocket.
func (d *contents) addSocket(stream uint32) {
	if d.sockets == nil {
		d.sockets = make(map[uint32]*websocket.Answers)
	}
	d.sockets[stream] = websocket.NewStreamAnswers()
}

// end ends the present frame.
func (d *contents) end() {
	if d.closes {
		delete(d.sockets, d.stream)
	}
	if d.closes || !d.within() {
		delete(d.partial, d.stream)
		return
	}
	if d.partial == nil {
		d.partial = make(map[uint32]message)
	}
	d.partial[d.stream] = d.message
	forget(d.partial, maxPartial, nil)
}

// forget removes the older half of the streams if there are more than most. It tells gone of each.
func forget[T any](m map[uint32]T, most int, gone func(T)) {
	if len(m) <= most {
		return
	}
	all := make([]uint32, 0, len(m))
	for id := range m {
		all = append(all, id)
	}
	slices.Sort(all)
	for _, id := range all[:len(all)/2] {
		if gone != nil {
			gone(m[id])
		}
		delete(m, id)
	}
}
