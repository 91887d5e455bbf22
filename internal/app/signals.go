package app

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// lifetime is how a daemon is told to end.
type lifetime struct {
	ctx    context.Context // done: end at once
	stop   chan struct{}   // closed: stop capturing, let sessions end
	cancel context.CancelFunc
	caught chan os.Signal
	gone   chan struct{}
	again  chan struct{} // gets a SIGHUP each, if that has the configuration read again
}

// watchSignals makes the first SIGINT or SIGTERM (or SIGHUP, unless it was ignored, as under nohup) close
// stop, and the second end the context. A third has its usual effect. stopping is what to say at the
// first. With reloads, SIGHUP ends nothing: it is passed on. release ends the watching.
func watchSignals(parent context.Context, w io.Writer, stopping string, reloads bool) *lifetime {
	l := &lifetime{stop: make(chan struct{}), caught: make(chan os.Signal, 2), gone: make(chan struct{}), again: make(chan struct{}, 1)}
	l.ctx, l.cancel = context.WithCancel(parent)
	watched := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if reloads || !signal.Ignored(syscall.SIGHUP) {
		watched = append(watched, syscall.SIGHUP)
	}
	// A reader of our output that goes away must not end the copy.
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
				default: // one is waiting
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

func (l *lifetime) release() {
	signal.Stop(l.caught)
	l.cancel()
	<-l.gone
}
