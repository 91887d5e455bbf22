// Package tunnel carries copies as operations over the copier's connections to an intercept that stands
// on the target and opens the connections there, from the clients' own addresses.
//
// A Hub is all of a copier's connections to its intercepts; an Output is one shard's streams. The shard's
// goroutine calls the Output; the links' goroutines call the Hub, which sorts events by shard and queues
// them. Nothing is sent that the intercept has not given credit for (wire.Window), and nothing is kept
// here: the bytes stay in the session's record until the intercept has handed them to the target's host.
//
// It knows nothing of sockets, keys or reconnecting (package link does that) and decides nothing about
// what is sent when (package session does). The engine makes the Hub and joins the two.
package tunnel

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/way/link/wire"
)

// Conn is a connection to an intercept; *link.Conn is one.
type Conn interface {
	comparable
	// Put queues a frame, which is copied, and says whether there was room.
	Put(frame []byte) bool
}

// shardBits are the low bits of a stream's number on the wire: which shard's it is.
const (
	shardBits = 6
	maxShards = 1 << shardBits
)

// batchesQueued is how many batches wait for a shard; then the link's reader does, and so, in the end, the
// intercept.
const batchesQueued = 16

// Batch is what the intercepts have told, for Output.Step alone.
type Batch[C Conn] struct {
	events []session.Event // ID: the stream's number
	bytes  []byte          // what their Bytes are views of
	conn   C               // whose events they are, or which is lost or has room
	lost   bool            // the connection has ended
	room   bool            // the connection takes frames again
}

// Hub is a copier's connections to intercepts, and its shards' streams over them.
type Hub[C Conn] struct {
	now     func() mono.Time
	outputs []*Output[C]
	quit    chan struct{}
	once    sync.Once
	up      atomic.Pointer[[]end[C]]
	mu      sync.Mutex // guards changes of up
	spare   sync.Pool
}

// End is what a connection leads to.
type End struct {
	Host         netip.Addr
	ReadsAnswers bool // the intercept reads what targets answer
}

// end is a connection and what it leads to.
type end[C Conn] struct {
	conn C
	End
}

// NewHub returns a Hub for a number of shards, at most 64.
func NewHub[C Conn](shards int, now func() mono.Time) *Hub[C] {
	h := &Hub[C]{now: now, quit: make(chan struct{})}
	h.up.Store(&[]end[C]{})
	h.spare.New = func() any { return new(Batch[C]) }
	for i := range min(shards, maxShards) {
		h.outputs = append(h.outputs, &Output[C]{hub: h, index: i, batches: make(chan *Batch[C], batchesQueued),
			streams: make(map[uint64]*stream[C]), frames: make(map[C]*frame[C])})
	}
	return h
}

// Output is a shard's.
func (h *Hub[C]) Output(shard int) *Output[C] { return h.outputs[shard] }

// Up says whether there is a connection.
func (h *Hub[C]) Up() bool { return len(*h.up.Load()) > 0 }

// Close lets go of whoever waits for a shard.
func (h *Hub[C]) Close() { h.once.Do(func() { close(h.quit) }) }

// Connected enters a connection to an intercept, or takes one out that is lost: its streams fail.
func (h *Hub[C]) Connected(c C, to End, up bool) {
	h.mu.Lock()
	list := slices.Clone(*h.up.Load())
	if up {
		list = append(list, end[C]{c, to})
	} else if i := slices.IndexFunc(list, func(e end[C]) bool { return e.conn == c }); i >= 0 {
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

// Room says that a connection takes frames again.
func (h *Hub[C]) Room(c C) {
	for _, o := range h.outputs {
		b := h.batch(c)
		b.room = true
		h.queue(o, b)
	}
}

// Events takes the body of a message of events. An error says that it breaks the protocol.
func (h *Hub[C]) Events(c C, body []byte) error {
	if len(body) > wire.MaxEvents {
		return fmt.Errorf("%w: %d bytes of events, want at most %d", wire.ErrTooLong, len(body), wire.MaxEvents)
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
		b.events = append(b.events, session.Event{ID: session.ID(ev.ID >> shardBits), Kind: kinds[ev.Kind],
			N: ev.N, Reason: ev.Reason, Answer: ev.Answer, First: now.Add(-ev.Age), Bytes: b.keep(ev.Data), At: now})
	}
	for i, b := range sorted[:len(h.outputs)] {
		if b != nil {
			h.queue(h.outputs[i], b)
		}
	}
	return failed
}

var kinds = [...]session.EventKind{
	wire.EventOpened: session.Opened, wire.EventTaken: session.Taken, wire.EventReceived: session.Received,
	wire.EventShut: session.Shut, wire.EventFinished: session.Finished, wire.EventReset: session.ResetByPeer,
	wire.EventFailed: session.Failed, wire.EventAnswer: session.AnswerEnd, wire.EventBytes: session.AnswerBytes,
	wire.EventLost: session.AnswersLost,
}

// keep copies bytes of a message to where the batch has its own.
func (b *Batch[C]) keep(p []byte) []byte {
	if len(p) == 0 {
		return nil
	}
	at := len(b.bytes)
	b.bytes = append(b.bytes, p...) // views of what it was before stay as they are
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
	case <-h.quit:
	}
}
