package http2

import (
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/hpack"
	"tcpcopy/internal/proto/semantics"
)

// labeller labels the requests of one connection: see proto.StreamLabeller.
type labeller struct {
	with *proto.Digesting
	frames
	lost   bool // the frames cannot be read
	latest uint32
	open   map[uint32]*proto.Hash // of requests that have not ended
	ended  []labelled
	label  []byte // of the newest request
	sum    uint64 // of its headers
	method []byte
	path   []byte
	grpc   bool
}

// labelled is a request that has ended.
type labelled struct{ stream, hash uint64 }

// maxLabelPath bounds what is kept of a request's path.
const maxLabelPath = 4096

func newLabeller(with *proto.Digesting) *labeller {
	l := &labeller{with: with, open: make(map[uint32]*proto.Hash)}
	l.frames.begin(true)
	return l
}

var _ proto.StreamLabeller = (*labeller)(nil)

// Write is of proto.Labeller.
func (l *labeller) Write(p []byte) {
	for len(p) > 0 && !l.lost {
		used, f, err := l.step(p)
		p = p[used:]
		if l.lost = err != nil; l.lost {
			return
		}
		h := l.open[f.stream]
		switch f.event {
		case blockEnd:
			h = l.block(h, &f)
		case upgradeHead:
			h = l.begin(f.stream)
			f.asked.each(func(x *hpack.Field) { l.field(h, x, true) })
			l.label, l.sum = l.appendLabel(l.label[:0]), h.Sum()
		case dataPart:
			if h != nil {
				h.Write(f.piece)
			}
		case streamReset:
			delete(l.open, f.stream)
		}
		if f.ends && h != nil {
			l.ended = append(l.ended, labelled{uint64(f.stream), h.Sum()})
			delete(l.open, f.stream)
		}
	}
}

// begin begins a request.
func (l *labeller) begin(stream uint32) *proto.Hash {
	l.latest = stream
	h := new(proto.Hash)
	h.Begin(l.with)
	l.open[stream] = h
	forget(l.open, maxStreams, nil)
	l.method, l.path, l.grpc = l.method[:0], l.path[:0], false
	return h
}

// block reads a header block of a stream: a request, or, if h is not nil, its trailers. It returns
// the hash of the request.
func (l *labeller) block(h *proto.Hash, f *found) *proto.Hash {
	fresh := f.stream > l.latest
	if fresh {
		h = l.begin(f.stream)
	}
	block := hpack.NewBlock(f.block)
	var x hpack.Field
	for {
		more, err := l.decoder.Next(&block, &x)
		if l.lost = err != nil; l.lost || !more {
			break
		}
		if h != nil {
			l.field(h, &x, fresh)
		}
	}
	if fresh {
		l.label, l.sum = l.appendLabel(l.label[:0]), h.Sum()
	}
	return h
}

// field reads a field of a request, or, if it is not fresh, of its trailers.
func (l *labeller) field(h *proto.Hash, x *hpack.Field, fresh bool) {
	if string(x.Name) == "grpc-timeout" { // what is left of a deadline
		return
	}
	h.Write(x.Name)
	h.Write(separator)
	h.Write(x.Value)
	h.Write(separator)
	if !fresh {
		return
	}
	switch string(x.Name) {
	case ":method":
		l.method = append(l.method, x.Value[:min(len(x.Value), semantics.MaxMethod)]...)
	case ":path":
		l.path = append(l.path, x.Value[:min(len(x.Value), maxLabelPath)]...)
	case "content-type":
		l.grpc = isGRPC(x.Value)
	}
}

// separator ends names and values in a hash.
var separator = []byte{0}

// appendLabel appends the endpoint of the newest request: the name of a method of gRPC, or, as for
// HTTP/1, the method and the path.
func (l *labeller) appendLabel(dst []byte) []byte {
	if l.grpc {
		return append(dst, l.path...)
	}
	return semantics.AppendEndpoint(append(append(dst, l.method...), ' '), l.path)
}

// End is of proto.Labeller. The request is the newest, whose header block has ended.
func (l *labeller) End() (endpoint string, hash uint64) { return l.with.Path(l.label), l.sum }

// Ended is of proto.StreamLabeller.
func (l *labeller) Ended() (stream, hash uint64, ok bool) {
	if len(l.ended) == 0 {
		return 0, 0, false
	}
	e := l.ended[0]
	l.ended = l.ended[:copy(l.ended, l.ended[1:])]
	return e.stream, e.hash, true
}
