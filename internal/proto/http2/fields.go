package http2

import (
	"bytes"

	"tcpcopy/internal/proto/hpack"
)

// fields is a header block that is encoded for the target. Its memory is used again.
type fields struct {
	set      *Settings
	trailers bool
	dst      []byte // what the target gets
	unknown  bool   // it has a field that cannot be read
	grpc     bool   // it is a gRPC call
	socket   bool   // with the method CONNECT it opens a WebSocket (RFC 8441)
	method   []byte // of a request
	path     []byte
	lower    []byte
	have     uint64 // the fields of rules.Set that were written, by number
}

func (r *fields) reset(s *Settings, trailers bool) {
	*r = fields{set: s, trailers: trailers, dst: r.dst[:0], method: r.method[:0],
		path: r.path[:0], lower: r.lower[:0]}
}

var typeGRPC = []byte("application/grpc")

// add adds a field.
func (r *fields) add(f *hpack.Field) {
	if r.trailers {
		r.dst = hpack.Append(r.dst, f)
		return
	}
	switch string(f.Name) {
	case ":method":
		r.method = append(r.method[:0], f.Value...)
	case ":path":
		r.path = append(r.path[:0], f.Value...)
	case "content-type":
		r.grpc = isGRPC(f.Value)
	case ":protocol":
		r.socket = bytes.EqualFold(f.Value, []byte("websocket"))
	case "grpc-timeout":
		if r.set.Deadline.None {
			return
		}
		r.lower = r.set.Deadline.scale(r.lower[:0], f.Value)
		f = &hpack.Field{Name: f.Name, Value: r.lower, Never: f.Never}
	}
	if r.set.Rules != nil {
		for i := range r.set.Rules.Set {
			h := &r.set.Rules.Set[i]
			if h.Is(f.Name) || h.IsHost() && string(f.Name) == ":authority" {
				if r.have&(1<<i) == 0 {
					r.dst = hpack.Append(r.dst, &hpack.Field{Name: f.Name,
						Value: append(r.lower[:0], h.Value...), Never: f.Never})
				}
				r.have |= 1 << i
				return
			}
		}
	}
	r.dst = hpack.Append(r.dst, f)
}

// finish adds the fields to set that the request does not have.
func (r *fields) finish() {
	if r.set.Rules == nil || r.trailers {
		return
	}
	for i := range r.set.Rules.Set {
		if h := &r.set.Rules.Set[i]; r.have&(1<<i) == 0 {
			name := bytes.ToLower([]byte(h.Name))
			r.dst = hpack.Append(r.dst, &hpack.Field{Name: name, Value: []byte(h.Value)})
		}
	}
}

// isGRPC reports whether a content type is gRPC's, with or without a suffix.
func isGRPC(value []byte) bool {
	rest, ok := bytes.CutPrefix(value, typeGRPC)
	return ok && (len(rest) == 0 || rest[0] == '+' || rest[0] == ';')
}
