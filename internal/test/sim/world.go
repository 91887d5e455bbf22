// Package sim is a network that exists in the computer's memory and in virtual time: links that
// delay, lose, reorder and repeat packets as a seed says, and an independent TCP, gVisor's, at the
// far end. It is for tests only: the simulator's matrix runs package tcp against it, over many
// kinds of bad network.
//
// Nothing here sleeps, and a seed gives the same run every time.
package sim

import (
	"container/heap"
	"math/rand"
	"sync"

	"tcpcopy/internal/core/mono"
)

// World is a virtual clock with an agenda of events. One goroutine runs it. Other goroutines may
// call At while the caller of Run waits for them.
type World struct {
	Rand *rand.Rand // for the goroutine that runs the world only

	mu     sync.Mutex
	now    mono.Time
	events eventHeap
	serial uint64
}

type event struct {
	at     mono.Time
	serial uint64 // what was planned first happens first
	do     func()
}

type eventHeap []*event

func (h eventHeap) Len() int { return len(h) }
func (h eventHeap) Less(i, j int) bool {
	return h[i].at < h[j].at || h[i].at == h[j].at && h[i].serial < h[j].serial
}
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)   { *h = append(*h, x.(*event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

// NewWorld returns a world at time zero, with random numbers from seed.
func NewWorld(seed int64) *World {
	return &World{Rand: rand.New(rand.NewSource(seed))}
}

// Now returns the virtual time.
func (w *World) Now() mono.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// At plans do for the time at, or for now if that has passed.
func (w *World) At(at mono.Time, do func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serial++
	heap.Push(&w.events, &event{max(at, w.now), w.serial, do})
}

// Step lets the next planned event happen, and moves the time to it. It returns false if there is
// none, or none before until.
func (w *World) Step(until mono.Time) bool {
	w.mu.Lock()
	if len(w.events) == 0 || w.events[0].at > until {
		w.mu.Unlock()
		return false
	}
	e := heap.Pop(&w.events).(*event)
	w.now = e.at
	w.mu.Unlock()
	e.do()
	return true
}
