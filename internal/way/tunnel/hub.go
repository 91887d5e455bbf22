// Package tunnel carries copies as operations over the copier's links to an intercept that runs on
// the target and opens the connections there, from the clients' own addresses.
//
// A Hub is all of a copier's connections to its intercepts; an Output is one shard's streams; a
// Way joins them to the links. The shard's goroutine calls the Output. The links' goroutines call
// the Hub, which sorts events by shard and queues them. No data is sent without credit from the
// intercept (wire.Window), and none is kept here: it stays in the session's record until the
// intercept has written it to its socket.
//
// The package knows nothing of sockets, keys or reconnecting (package link does), and does not
// decide what is sent when (core/session does). Package ontarget is the other end.
package tunnel

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/way"
	"tcpcopy/internal/way/address"
	"tcpcopy/internal/way/link/wire"
)

// Conn is a connection to an intercept; *link.Conn is one.
type Conn interface {
	comparable
	// Put queues a copy of a frame, and reports whether there was room.
	Put(frame []byte) bool
}

// shardBits is how many low bits of a stream's number on the wire name its shard.
const (
	shardBits = 6
	maxShards = 1 << shardBits // way.MaxShards
)

// batchesQueued is how many batches wait for a shard. Beyond that the link's reader waits, and so,
// in the end, does the intercept.
const batchesQueued = 16

// Batch is what one connection has reported to one shard, for Output.Step alone.
type Batch[C Conn] struct {
	events []session.Event // ID: the stream's number
	bytes  []byte          // the Bytes of the events
	conn   C               // the connection
	lost   bool            // the connection has ended
	room   bool            // the connection takes frames again
}

// Hub is a copier's connections to its intercepts, and the shards' streams over them.
type Hub[C Conn] struct {
	now     func() mono.Time
	outputs []*Output[C]
	quit    chan struct{}
	once    sync.Once
	up      atomic.Pointer[[]peer[C]]
	mu      sync.Mutex // guards changes of up
	spare   sync.Pool
}

// End is what a connection leads to.
type End struct {
	Host         netip.Addr
	ReadsAnswers bool // the intercept reads what targets answer
	TakesLate    bool // the intercept wants to know of copies that begin late
}

// peer is a connection and what it leads to.
type peer[C Conn] struct {
	conn C
	End
}

// NewHub returns a Hub for a number of shards, at most 64.
func NewHub[C Conn](shards int, now func() mono.Time) *Hub[C] {
	h := &Hub[C]{now: now, quit: make(chan struct{})}
	h.up.Store(&[]peer[C]{})
	h.spare.New = func() any { return new(Batch[C]) }
	for i := range min(shards, maxShards) {
		h.outputs = append(h.outputs, &Output[C]{
			hub: h, index: i, batches: make(chan *Batch[C], batchesQueued), filled: way.NewWaker(),
			streams: make(map[uint64]*stream[C]), frames: make(map[C]*frame[C]),
			used: make(map[shard.Tuple]*stream[C]), sources: address.Chooser{Count: 1},
		})
	}
	return h
}

// Output returns a shard's Output.
func (h *Hub[C]) Output(shard int) *Output[C] { return h.outputs[shard] }

// Close releases the goroutines that wait for a shard.
func (h *Hub[C]) Close() { h.once.Do(func() { close(h.quit) }) }

// Connected adds a connection to an intercept, or, if it is not up, removes one: its streams fail.
func (h *Hub[C]) Connected(c C, to End, up bool) {
	h.mu.Lock()
	list := slices.Clone(*h.up.Load())
	if up {
		list = append(list, peer[C]{c, to})
	} else if i := slices.IndexFunc(list, func(e peer[C]) bool { return e.conn == c }); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	h.up.Store(&list)
	h.mu.Unlock()
	if up {
		return
	}
	for _, o := range h.outputs {
		b := h.batch(c)
		b.lost = true
		h.queue(o, b)
	}
}

// Room takes in that a connection takes frames again.
func (h *Hub[C]) Room(c C) {
	for _, o := range h.outputs {
		b := h.batch(c)
		b.room = true
		h.queue(o, b)
	}
}

// Events takes in the body of a message of events. It returns an error if the body breaks the
// protocol.
func (h *Hub[C]) Events(c C, body []byte) error {
	if len(body) > wire.MaxEvents {
		return fmt.Errorf("%w: %d bytes of events, want at most %d", wire.ErrTooLong, len(body),
			wire.MaxEvents)
	}
	now := h.now()
	var sorted [maxShards]*Batch[C]
	var ev wire.StreamEvent
	var failed error
	for len(body) > 0 {
		if body, failed = wire.NextStreamEvent(body, &ev); failed != nil {
			break
		}
		shard := int(ev.ID & (maxShards - 1))
		if shard >= len(h.outputs) {
			continue
		}
		b := sorted[shard]
		if b == nil {
			b = h.batch(c)
			sorted[shard] = b
		}
		b.events = append(b.events, session.Event{ID: session.ID(ev.ID >> shardBits),
			Kind: kinds[ev.Kind],
			N:    ev.N, Reason: ev.Reason, Answer: ev.Answer, First: now.Add(-ev.Age),
			Bytes: b.keep(ev.Data), At: now})
	}
	for i, b := range sorted[:len(h.outputs)] {
		if b != nil {
			h.queue(h.outputs[i], b)
		}
	}
	return failed
}

var kinds = [...]session.EventKind{
	wire.EventOpened: session.Opened, wire.EventTaken: session.Taken,
	wire.EventReceived: session.Received,
	wire.EventShut:     session.Shut, wire.EventFinished: session.Finished,
	wire.EventReset:  session.ResetByPeer,
	wire.EventFailed: session.Failed, wire.EventAnswer: session.AnswerEnd,
	wire.EventBytes: session.AnswerBytes,
	wire.EventLost:  session.AnswersLost,
}

// keep copies bytes of a message into the batch.
func (b *Batch[C]) keep(p []byte) []byte {
	if len(p) == 0 {
		return nil
	}
	at := len(b.bytes)
	b.bytes = append(b.bytes, p...) // earlier views keep the old array if it grows
	return b.bytes[at:len(b.bytes):len(b.bytes)]
}

func (h *Hub[C]) batch(c C) *Batch[C] {
	b := h.spare.Get().(*Batch[C])
	*b = Batch[C]{events: b.events[:0], bytes: b.bytes[:0], conn: c}
	return b
}

func (h *Hub[C]) queue(o *Output[C], b *Batch[C]) {
	select {
	case o.batches <- b:
		o.filled.Wake()
	case <-h.quit:
	}
}
