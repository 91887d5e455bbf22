package agent

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/way/link/wire"
)

func filled(q *queue, at mono.Time, size int) *batch {
	b := q.fresh()
	b.add(&wire.Record{At: at, Wire: size, Data: make([]byte, size)})
	return b
}

func TestQueue(t *testing.T) {
	q := newQueue(4 * batchSize)
	for i := range 4 {
		if !q.put(filled(q, mono.Time(i)*mono.Time(time.Second), 100)) {
			t.Fatalf("no room for batch %d", i)
		}
	}
	over := filled(q, 0, 100)
	if q.put(over) {
		t.Error("more is taken than there is room for")
	}
	if n := q.expire(mono.Time(3*time.Second)+1, 2*time.Second); n != 2 {
		t.Errorf("%d packets are too old, want those of 2 batches", n)
	}
	if !q.put(over) {
		t.Error("no room, after two were dropped")
	}
	for i := 2; i < 4; i++ {
		if b := q.pop(); b == nil || b.at != mono.Time(i)*mono.Time(time.Second) || b.count != 1 {
			t.Fatalf("batch %d: %+v", i, b)
		} else {
			q.recycle(b)
		}
	}
	if q.pop() != over || q.pop() != nil || q.bytes != 0 {
		t.Errorf("%d bytes are left", q.bytes)
	}
}

// TestQueueBoundsLargeBatches: what counts is the room that a batch has grown to.
func TestQueueBoundsLargeBatches(t *testing.T) {
	q := newQueue(4 * batchSize)
	if q.put(filled(q, 0, 5*batchSize)) {
		t.Error("a batch larger than the bound is taken")
	}
	big := filled(q, 0, 3*batchSize)
	if !q.put(big) || q.bytes < 3*batchSize {
		t.Errorf("%d bytes are counted", q.bytes)
	}
}

func TestPack(t *testing.T) {
	noise := make([]byte, 10_000)
	rand.Read(noise)
	text := bytes.Repeat([]byte("GET /index.html HTTP/1.1\r\n"), 400)
	for _, tc := range []struct {
		name    string
		mode    Compress
		records []byte
		want    wire.Packing
	}{
		{"off", CompressOff, text, wire.Plain},
		{"on", CompressOn, text, wire.S2},
		{"on, and it would grow", CompressOn, noise, wire.Plain},
		{"auto, where it pays", CompressAuto, text, wire.S2},
		{"auto, where it does not", CompressAuto, noise, wire.Plain},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := packer{mode: tc.mode}
			out, packing := p.pack(tc.records)
			if packing == wire.S2 {
				var err error
				if out, err = s2.Decode(nil, out); err != nil {
					t.Fatal(err)
				}
			}
			if packing != tc.want || !bytes.Equal(out, tc.records) {
				t.Errorf("packing %d, want %d", packing, tc.want)
			}
		})
	}
	p := packer{mode: CompressAuto}
	p.pack(noise)
	for i := range tryEvery {
		if _, packing := p.pack(text); packing != wire.Plain {
			t.Fatalf("batch %d after one that did not shrink is compressed", i)
		}
	}
	if _, packing := p.pack(text); packing != wire.S2 {
		t.Error("compression is never tried again")
	}
}
