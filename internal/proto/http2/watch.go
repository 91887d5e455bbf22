package http2

import (
	"bytes"
	"math"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/hpack"
)

// watcher reads what a client of production sends, and changes nothing: see Protocol.Watch. Each
// stream that the client opens is a request, which is found where its header block ends. A
// connection found under way it does not read, since what its header blocks refer to is not known.
type watcher struct {
	frames
	latest uint32 // the newest stream
}

var _ proto.Client = (*watcher)(nil)

// Edits is of proto.Client.
func (w *watcher) Edits() bool { return false }

// Holds is of proto.Client.
func (w *watcher) Holds() bool { return false }

// Expects is of proto.Client.
func (w *watcher) Expects() bool { return false }

// Kept is of proto.Client.
func (w *watcher) Kept([]byte, *proto.Out) error { return nil }

// Server is of proto.Client.
func (w *watcher) Server(uint64, []byte) {}

// Size is of proto.Sizer.
func (w *watcher) Size() int { return w.frames.size() }

// Begin is of proto.Client.
func (w *watcher) Begin(adopted bool, _ *proto.Out) error {
	if w.latest = 0; adopted {
		return lost("connection found under way", adopted)
	}
	w.frames.begin(true)
	return nil
}

// Feed is of proto.Client.
func (w *watcher) Feed(p []byte, _ uint64, out *proto.Out) error {
	for len(p) > 0 {
		used, f, err := w.step(p)
		if err != nil {
			return err
		}
		out.Pass(used)
		p = p[used:]
		switch {
		case f.event == streamReset:
			out.Abandon(uint64(f.stream))
		case (f.event == blockEnd || f.event == upgradeHead) && f.stream > w.latest:
			if w.latest = f.stream; f.stream&1 == 0 {
				return lost("request on the stream", f.stream)
			}
			out.Request(proto.Request{Number: uint64(f.stream), Stream: uint64(f.stream)})
		}
	}
	return nil
}

// watchedAnswers reads the answers of production's server: see Protocol.Watch. It tells of each by
// the number of its stream.
type watchedAnswers struct {
	frames
	at   uint64
	open map[uint32]answerHead // of the streams that have not ended
}

// maxWatched bounds the streams that have not ended: of those that their clients have cancelled,
// the server does not tell.
const maxWatched = maxStreams

func newWatchedAnswers() proto.Answers {
	a := &watchedAnswers{open: make(map[uint32]answerHead)}
	a.frames.begin(false)
	return a
}

// Expect is of proto.Answers.
func (a *watchedAnswers) Expect(uint64, proto.Hint) {}

// Blind is of proto.Answers.
func (a *watchedAnswers) Blind() uint64 { return 0 }

// Skip is of proto.Answers.
func (a *watchedAnswers) Skip(_ uint64, out []proto.Answer) []proto.Answer { return out }

// Kept is of proto.Answers.
func (a *watchedAnswers) Kept() bool { return false }

// Close is of proto.Answers: no answer ends with the connection.
func (a *watchedAnswers) Close(out []proto.Answer) []proto.Answer { return out }

// Feed is of proto.Answers.
func (a *watchedAnswers) Feed(p []byte, out []proto.Answer) ([]proto.Answer, error) {
	for len(p) > 0 {
		used, f, err := a.step(p)
		if err != nil {
			return out, err
		}
		a.at += uint64(used)
		p = p[used:]
		w, known := a.open[f.stream]
		if f.event == blockEnd && !known {
			out = append(out, proto.Answer{End: a.at, Mark: true, Stream: uint64(f.stream)})
		}
		switch f.event {
		case blockEnd:
			interim, err := a.readHead(&w, f.block)
			if err != nil {
				return out, err
			}
			if interim != 0 && !f.ends {
				out = append(out, proto.Answer{End: a.at, Status: interim, Interim: true,
					Stream: uint64(f.stream)})
			}
		case streamReset:
			w.status, f.ends = 0, true // the answer on it may have ended
		default:
			if !known {
				continue
			}
		}
		if f.ends {
			out = append(out, proto.Answer{End: a.at, Status: w.status,
				Failed: failed(w.status), Stream: uint64(f.stream)})
			delete(a.open, f.stream)
			continue
		}
		if a.open[f.stream] = w; !known {
			forget(a.open, maxWatched, nil)
		}
	}
	return out, nil
}

// readHead reads a header block. It returns the status of an interim answer.
func (a *watchedAnswers) readHead(w *answerHead, p []byte) (interim uint16, err error) {
	w.begin()
	block := hpack.NewBlock(p)
	var f hpack.Field
	for {
		more, err := a.decoder.Next(&block, &f)
		switch {
		case err != nil:
			return 0, lost("header block of the server:", err)
		case !more:
			return w.end(), nil
		}
		w.field(&f)
	}
}

// answerHead is what the header blocks of an answer say of its status.
type answerHead struct {
	status uint16 // of the final answer; 0: its header block has not come
	grpc   bool   // it answers a call of gRPC

	blockStatus, blockCode uint16 // of the present block; 0 and MaxUint16: none
}

var nameType = []byte("content-type")

// begin begins a header block.
func (h *answerHead) begin() { h.blockStatus, h.blockCode = 0, math.MaxUint16 }

// field reads a field.
func (h *answerHead) field(f *hpack.Field) {
	switch {
	case bytes.Equal(f.Name, nameStatus):
		h.blockStatus = number(f.Value, 3)
	case bytes.Equal(f.Name, grpcStatus):
		h.blockCode = number(f.Value, 2)
	case bytes.Equal(f.Name, nameType) && h.status == 0:
		h.grpc = h.grpc || isGRPC(f.Value)
	}
}

// end ends a header block. If it is of an interim answer, it returns the status of that.
func (h *answerHead) end() (interim uint16) {
	switch {
	case h.blockStatus/100 == 1:
		return h.blockStatus
	case h.blockStatus != 0 && h.status == 0:
		h.status = h.blockStatus
	}
	if h.blockCode != math.MaxUint16 && h.grpc {
		h.status = grpcBase + min(h.blockCode, grpcMost)
	}
	return 0
}
