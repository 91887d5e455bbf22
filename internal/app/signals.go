package app

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// lifetime carries the signals that end a daemon.
type lifetime struct {
	ctx    context.Context // done at the second signal: end at once
	stop   chan struct{}   // closed at the first: stop capturing, let sessions end
	cancel context.CancelFunc
	caught chan os.Signal // signals that have arrived
	gone   chan struct{}  // closed when the goroutine has ended
	again  chan struct{}  // receives each SIGHUP, if that reloads the configuration
}

// watchSignals closes stop at the first SIGINT or SIGTERM, and ends the context at the second.
// SIGHUP counts as well, unless it was ignored at the start, as under nohup. A third signal has its
// default effect. watchSignals prints stopping at the first signal. With reloads, SIGHUP ends
// nothing but is sent to again. release ends the watching.
func watchSignals(parent context.Context, w io.Writer, stopping string, reloads bool) *lifetime {
	l := &lifetime{
		stop: make(chan struct{}), caught: make(chan os.Signal, 2),
		gone: make(chan struct{}), again: make(chan struct{}, 1),
	}
	l.ctx, l.cancel = context.WithCancel(parent)
	watched := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if reloads || !signal.Ignored(syscall.SIGHUP) {
		watched = append(watched, syscall.SIGHUP)
	}
	// A reader of our output that ends must not end the copy.
	signal.Ignore(syscall.SIGPIPE)
	signal.Notify(l.caught, watched...)
	go func() {
		defer close(l.gone)
		stopped := false
		for {
			var got os.Signal
			select {
			case got = <-l.caught:
			case <-l.ctx.Done():
				return
			}
			if reloads && got == syscall.SIGHUP {
				select {
				case l.again <- struct{}{}:
				default: // a reload is waiting
				}
				continue
			}
			if stopped {
				signal.Stop(l.caught)
				say(w, "ending at once")
				l.cancel()
				return
			}
			stopped = true
			if stopping != "" {
				say(w, "%s", stopping)
			}
			close(l.stop)
		}
	}()
	return l
}

// release ends the watching.
func (l *lifetime) release() {
	signal.Stop(l.caught)
	l.cancel()
	<-l.gone
}
