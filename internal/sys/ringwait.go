package sys

import (
	"fmt"
	"time"
)

// RingWait waits for the first of several rings. One goroutine waits; any may Wake it. The
// goroutine waits in the runtime's poller (see Epoll): at a thousand blocks a second, a thread that
// blocks in poll(2) costs more than the packets do.
type RingWait struct {
	epoll *Epoll
	evs   []EpollEvent
	rings []*Ring
	spent []bool // rings of slots whose one event has come: they are added again
}

// NewRingWait makes a wait over rings, which stay the caller's.
func NewRingWait(rings []*Ring) (*RingWait, error) {
	e, err := NewEpoll()
	if err != nil {
		return nil, err
	}
	w := &RingWait{
		epoll: e, evs: make([]EpollEvent, len(rings)+1),
		rings: rings, spent: make([]bool, len(rings)),
	}
	for i, r := range rings {
		add := e.Add
		if r.slot != 0 {
			add = e.AddOnce
		}
		if err := add(r.fd, uint64(i)); err != nil {
			e.Close()
			return nil, err
		}
	}
	return w, nil
}

// Wait waits until a ring has a block, or a slot, that it did not have at the last Wait, a ring has
// an error, Wake was called, or d is over; a negative d is never over. The caller must have emptied
// every ring since the last Wait. failed is the index of a ring whose error is pending (see
// TakeError), or -1.
func (w *RingWait) Wait(d time.Duration) (failed int, err error) {
	for i, spent := range w.spent {
		if spent {
			if err := w.epoll.Again(w.rings[i].fd, uint64(i)); err != nil {
				return -1, err
			}
			w.spent[i] = false
		}
	}
	n, err := w.epoll.Wait(w.evs, d)
	if err != nil {
		return -1, fmt.Errorf("wait for packets: %w", err)
	}
	for i := range w.evs[:n] {
		w.spent[w.evs[i].Tag()] = w.rings[w.evs[i].Tag()].slot != 0
	}
	for i := range w.evs[:n] {
		if ev := &w.evs[i]; ev.Failed() || ev.HungUp() {
			return int(ev.Tag()), nil
		}
	}
	return -1, nil
}

// Wake ends the current Wait, or the next one.
func (w *RingWait) Wake() { w.epoll.Wake() }

// Close frees the wait. No Wait or Wake may be under way.
func (w *RingWait) Close() error {
	w.epoll.Close()
	return nil
}
