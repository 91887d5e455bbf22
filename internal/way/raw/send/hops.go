package send

import (
	"net/netip"
	"sync"
	"time"
)

// hop is where frames to a destination go.
type hop struct {
	ifindex  int
	src, dst [6]byte // link addresses
	mtu      int     // of the path, in bytes with the IP header
}

const (
	// A hop that is in use is looked up again every refreshHop, and not believed longer than
	// trustHop.
	refreshHop = time.Second
	trustHop   = 2 * time.Second
	// Where there is none, it is looked up again after retryHop, which doubles up to maxRetryHop.
	retryHop    = 50 * time.Millisecond
	maxRetryHop = 10 * time.Second
	// maxHops bounds the destinations that are remembered.
	maxHops = 4096
)

// hops knows the hops of the destinations that groups go to. Its goroutine looks them up, since the
// kernel may make whoever asks wait.
type hops struct {
	find  func(dst netip.Addr) (hop, error)
	free  func()
	ask   chan netip.Addr
	ended chan struct{}

	mu    sync.Mutex
	known map[netip.Addr]*knownHop
}

type knownHop struct {
	hop
	ok    bool
	until time.Time // ok: not to be used after this
	next  time.Time // when to look it up again
	wait  time.Duration
}

// newHops starts the goroutine, which calls find and, at the end, free.
func newHops(find func(dst netip.Addr) (hop, error), free func()) *hops {
	h := &hops{
		find: find, free: free, ask: make(chan netip.Addr, 64), ended: make(chan struct{}),
		known: make(map[netip.Addr]*knownHop),
	}
	go h.run()
	return h
}

// get returns the hop to dst, if there is one. It never waits: a hop that is not known is looked up
// meanwhile.
func (h *hops) get(dst netip.Addr) (hop, bool) {
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	k := h.known[dst]
	if k == nil {
		if len(h.known) >= maxHops {
			clear(h.known)
		}
		k = new(knownHop)
		h.known[dst] = k
	}
	if !now.Before(k.next) {
		select {
		case h.ask <- dst:
			k.next = now.Add(refreshHop)
		default:
		}
	}
	return k.hop, k.ok && now.Before(k.until)
}

// forget drops the hop to dst, to which sending has just failed.
func (h *hops) forget(dst netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if k := h.known[dst]; k != nil {
		k.fail(time.Now())
	}
}

// fail notes that there is no hop, or none that works.
func (k *knownHop) fail(now time.Time) {
	k.ok = false
	k.wait = min(max(2*k.wait, retryHop), maxRetryHop)
	k.next = now.Add(k.wait)
}

func (h *hops) run() {
	defer close(h.ended)
	defer h.free()
	for dst := range h.ask {
		to, err := h.find(dst)
		now := time.Now()
		h.mu.Lock()
		if k := h.known[dst]; k == nil {
			// It was forgotten meanwhile.
		} else if err != nil {
			k.fail(now)
		} else {
			k.hop, k.ok, k.wait = to, true, 0
			k.until, k.next = now.Add(trustHop), now.Add(refreshHop)
		}
		h.mu.Unlock()
	}
}

// stop ends the goroutine. No call of get may be under way or follow.
func (h *hops) stop() {
	close(h.ask)
	<-h.ended
}
