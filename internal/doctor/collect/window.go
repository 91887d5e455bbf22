package collect

import (
	"context"
	"slices"
	"sync"
	"time"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/doctor"
	"tcpcopy/internal/way/link/wire"
)

// examineFor bounds an examination that is not ended.
const examineFor = 15 * time.Second

// window is the time between the begin and the end of an examination that another host has asked
// for, with what was seen of its probes. A nil window is none.
type window struct {
	look   *wire.Look
	seen   wire.Seen
	opened func() // packets are counted from now on
	ended  <-chan struct{}
}

func (w *window) open() {
	if w != nil {
		w.opened()
	}
}

func (w *window) wait() {
	if w != nil {
		<-w.ended
	}
}

// saw counts a packet if it is a probe, or an answer to one.
func (w *window) saw(s *packet.Segment, outgoing bool) {
	switch {
	case w == nil:
	case outgoing:
		w.seen.Saw(w.look, s)
	default:
		w.seen.Arrived(w.look, s)
	}
}

// Examination is one of this host that another host has asked for. It ends by itself if End is not
// called.
type Examination struct {
	ctx    context.Context
	end    context.CancelFunc
	done   chan struct{}
	window window
	facts  *doctor.Facts
}

// Begin begins to examine this host as the subject says, for the target and clients of look. When
// it returns, packets are counted.
func Begin(s *Subject, look *wire.Look) *Examination {
	one := *s
	one.Watch, one.Clients = 0, slices.Clone(look.Clients)
	if !slices.Contains(one.Clients, look.Client) {
		one.Clients = append(one.Clients, look.Client)
	}
	one.Ports = []uint16{look.Target.Port()}
	x := &Examination{done: make(chan struct{})}
	x.ctx, x.end = context.WithTimeout(context.Background(), examineFor)
	opened := make(chan struct{})
	x.window = window{look: look, ended: x.ctx.Done(), opened: sync.OnceFunc(func() {
		close(opened)
	})}
	go func() {
		defer close(x.done)
		defer x.window.opened() // if the host could not be examined at all
		x.facts = gather(context.Background(), &one, true, &x.window)
	}()
	<-opened
	return x
}

// End ends the examination, and returns what it found: the report, and what was seen of the probes,
// with the findings. What is found about the probes' own address alone is left out if the same is
// found about real clients.
func (x *Examination) End() (*doctor.Report, wire.Seen) {
	x.end()
	<-x.done
	r := doctor.Diagnose(x.facts)
	probe := x.window.look.Client.String()
	r.Findings = slices.DeleteFunc(r.Findings, func(f doctor.Finding) bool {
		return f.About == probe && slices.ContainsFunc(r.Findings, func(g doctor.Finding) bool {
			return g.Code == f.Code && g.About != probe
		})
	})
	seen := x.window.seen
	seen.Findings = doctor.EncodeFindings(r.Findings)
	return r, seen
}

// over reports whether the examination has ended.
func (x *Examination) over() bool { return x.ctx.Err() != nil }
