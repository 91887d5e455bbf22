package agent

import (
	"sync"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/way/link/wire"
)

const (
	// batchSize is the size of a full batch, in bytes of records.
	batchSize = 64 << 10
	// spareBatches is how many empty batches are kept.
	spareBatches = 8
)

// batch holds records on their way to the copier.
type batch struct {
	records []byte
	count   uint32
	at      mono.Time // the first record's
	last    mono.Time // the last record's
}

// add appends a record.
func (b *batch) add(r *wire.Record) {
	if b.count == 0 {
		b.at, b.last = r.At, r.At
	}
	b.records = wire.AppendRecord(b.records, b.last, r)
	b.last = r.At
	b.count++
}

// queue holds batches until they can be sent, up to a number of bytes. Its methods are safe from
// any goroutine.
type queue struct {
	wake chan struct{} // a token: there may be a batch

	mu    sync.Mutex
	limit int
	bytes int
	list  []*batch
	spare []*batch
}

func newQueue(limit int) *queue {
	return &queue{limit: max(limit, 4*batchSize), wake: make(chan struct{}, 1)}
}

// fresh returns an empty batch.
func (q *queue) fresh() *batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	if n := len(q.spare); n > 0 {
		b := q.spare[n-1]
		q.spare = q.spare[:n-1]
		return b
	}
	return &batch{records: make([]byte, 0, batchSize)}
}

// put queues a batch. It reports whether there was room.
func (q *queue) put(b *batch) bool {
	q.mu.Lock()
	if q.bytes+cap(b.records) > q.limit {
		q.mu.Unlock()
		return false
	}
	q.bytes += cap(b.records)
	q.list = append(q.list, b)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
	return true
}

// pop removes and returns the oldest batch, nil if there is none.
func (q *queue) pop() *batch {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) == 0 {
		q.list = nil
		return nil
	}
	b := q.list[0]
	q.list[0] = nil
	q.list = q.list[1:]
	q.bytes -= cap(b.records)
	return b
}

// expire drops the batches that are older than age, and returns how many packets they had.
func (q *queue) expire(now mono.Time, age time.Duration) (packets uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.list) > 0 && now.Sub(q.list[0].last) > age {
		b := q.list[0]
		q.list[0] = nil
		q.list = q.list[1:]
		q.bytes -= cap(b.records)
		packets += uint64(b.count)
		q.keep(b)
	}
	return packets
}

// recycle takes a batch back that pop has returned.
func (q *queue) recycle(b *batch) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.keep(b)
}

// keep empties and keeps a batch, unless it has grown for large packets. The lock is held.
func (q *queue) keep(b *batch) {
	if len(q.spare) < spareBatches && cap(b.records) <= 4*batchSize {
		b.records, b.count = b.records[:0], 0
		q.spare = append(q.spare, b)
	}
}
