package http2

import "encoding/binary"

// socketContents is what is read of production's content on streams for WebSocket. Only a server
// that has offered them in its SETTINGS has such streams.
type socketContents struct {
	of       map[uint32]*stream // the client's streams
	latest   uint32             // the newest stream that was read of the client
	connects bool               // the server opens WebSockets
	setting  [6]byte            // a setting that is coming in

	// What comes on a later stream is kept: it is not known yet whether that is for WebSocket.
	pieces map[uint32][]byte
	pieced int    // bytes of it
	gaps   uint32 // some of the streams up to this one was not kept
}

// maxPieces bounds the bytes that are kept of later streams.
const maxPieces = 64 << 10

// readSettings reads bytes of a frame that is not DATA.
func (r *production) readSettings(p []byte) {
	if r.h.kind != frameSettings || r.h.has(flagAck) {
		return
	}
	at := r.h.length - r.left
	for i, b := range p {
		k := (at + i) % len(r.setting)
		if r.setting[k] = b; k == len(r.setting)-1 &&
			binary.BigEndian.Uint16(r.setting[:]) == settingConnect {
			r.connects = binary.BigEndian.Uint32(r.setting[2:]) == 1
		}
	}
}

// readContent reads bytes of a DATA frame before data does.
func (r *production) readContent(p []byte) {
	n := min(len(p), r.data.left-r.data.pad)
	if !r.connects || r.data.pad < 0 || n <= 0 {
		return
	}
	p = p[:n]
	id := r.h.stream
	switch s := r.of[id]; {
	case s != nil && s.socket != nil:
		s.socket.serve(p)
	case id <= r.latest || id <= r.gaps:
		return
	case r.pieced+n > maxPieces:
		r.gaps = max(r.gaps, id)
		r.pieced -= len(r.pieces[id])
		delete(r.pieces, id)
		return
	default:
		if r.pieces == nil {
			r.pieces = make(map[uint32][]byte)
		}
		r.pieces[id] = append(r.pieces[id], p...)
		r.pieced += n
	}
	if last := len(r.ends) - 1; last >= 0 && r.ends[last].stream == id &&
		r.ends[last].bytes > 0 && r.ends[last].off == r.at {
		r.ends[last].off += uint64(n)
		r.ends[last].bytes += uint32(n)
		return
	}
	r.ends = append(r.ends, end{off: r.at + uint64(n), stream: id, bytes: uint32(n)})
}

// known notes a stream that was read of the client.
func (r *production) known(s *stream) {
	r.latest = s.id
	if s.socket != nil {
		if s.id <= r.gaps {
			s.socket.Lose()
		}
		s.socket.serve(r.pieces[s.id])
	}
	for id, p := range r.pieces {
		if id <= s.id {
			r.pieced -= len(p)
			delete(r.pieces, id)
		}
	}
}

// serve reads content that production's server has sent.
func (k *socket) serve(p []byte) {
	if len(p) > 0 {
		k.Server(k.served, p)
		k.served += uint64(len(p))
	}
}
