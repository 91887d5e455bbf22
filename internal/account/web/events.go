package web

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// maxEvents bounds the readers of events at the same time.
const maxEvents = 32

// Events serves the state of a node as Server-Sent Events: one at the start, and one each interval.
// A reader that falls behind is cut. Each reader gets the newest state, so nothing is queued.
type Events struct {
	Every time.Duration // between two events
	// Get returns a state as one line of text, and its number; false: there is none now.
	Get func() (text []byte, number uint64, ok bool)

	mu      sync.Mutex // guards readers
	readers int
}

// ServeHTTP sends events until the reader or the server goes.
func (e *Events) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !e.enter() {
		http.Error(
			w,
			fmt.Sprintf("%d readers are there already", maxEvents),
			http.StatusServiceUnavailable,
		)
		return
	}
	defer e.leave()
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Time{}) // the request has been read
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(e.Every)
	defer tick.Stop()
	for {
		_ = rc.SetWriteDeadline(time.Now().Add(Patience))
		if _, err := w.Write(e.event()); err != nil {
			return
		}
		if err := rc.Flush(); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// event returns the next event, or a comment if there is no state now.
func (e *Events) event() []byte {
	text, number, ok := e.Get()
	if !ok {
		return []byte(": no state\n\n")
	}
	var b bytes.Buffer
	b.Grow(len(text) + 64)
	b.WriteString("id: " + strconv.FormatUint(number, 10) + "\nevent: state\ndata: ")
	b.Write(bytes.ReplaceAll(text, []byte("\n"), []byte("\ndata: ")))
	b.WriteString("\n\n")
	return b.Bytes()
}

func (e *Events) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.readers >= maxEvents {
		return false
	}
	e.readers++
	return true
}

func (e *Events) leave() {
	e.mu.Lock()
	e.readers--
	e.mu.Unlock()
}
