package engine

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"tcpcopy/internal/config"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/afpacket"
	"tcpcopy/internal/source/capfile"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/source/locals"
	"tcpcopy/internal/source/recording"
	"tcpcopy/internal/source/scrub"
)

// Recorded is the state of a recording.
type Recorded struct {
	Start, Now time.Time
	Packets    ledger.Packets
	Sampled    uint64 // packets that --sample has left out
	Sessions   uint64 // recorded sessions whose beginning was captured
	File       recording.State
	Scrubbed   scrub.Stats // by --scrub and --scrub-json
}

// recorder captures packets and writes them to a file.
type recorder struct {
	c      *config.Record
	source source.Source
	class  classifier
	out    *recording.Writer
	scrub  *scrub.Scrubber // nil: packets are written as they are
	origin time.Time

	sampled, sessions uint64 // so far

	mu    sync.Mutex // guards state
	state Recorded
}

// Record records until it is told to stop. It calls progress every c.Stats, and returns the final
// state; nil if it could not begin.
func Record(ctl *Control, c *config.Record, progress func(*Recorded)) (*Recorded, error) {
	r := &recorder{c: c, origin: time.Now()}
	set, err := locals.Watch()
	if err != nil {
		return nil, err
	}
	defer set.Close()
	served, err := recordedServers(c)
	if err != nil {
		return nil, err
	}
	r.class = classifier{served: served, isLocal: set.Has}
	program, err := recordFilter(c)
	if err != nil {
		return nil, err
	}
	now := func() mono.Time { return mono.Time(time.Since(r.origin)) }
	r.source, err = opened(afpacket.Open(afpacket.Config{Interfaces: c.Interfaces, Filter: program,
		Memory: int(c.Ring), Now: now}))
	if err != nil {
		return nil, err
	}
	defer func() {
		r.source.Close()
		r.source.Next(0) // releases the last batch
	}()
	if !c.Scrub.Empty() {
		r.scrub = scrub.New(c.Scrub)
	}
	if r.out, err = recording.New(c.File, r.origin); err != nil {
		return nil, err
	}
	ctl.Ready(r.describe())
	failed := make(chan error, 1)
	stop := make(chan struct{})
	go func() { failed <- r.run(stop, now) }()
	err = r.attend(ctl, progress, stop, failed)
	state := r.snapshot()
	return &state, err
}

// attend waits for the end, and calls progress.
func (r *recorder) attend(ctl *Control, progress func(*Recorded), stop chan struct{},
	failed <-chan error) error {
	var tick, over <-chan time.Time
	if r.c.Stats > 0 {
		t := time.NewTicker(r.c.Stats)
		defer t.Stop()
		tick = t.C
	}
	if r.c.Duration > 0 {
		t := time.NewTimer(r.c.Duration)
		defer t.Stop()
		over = t.C
	}
	for {
		select {
		case <-tick:
			s := r.snapshot()
			progress(&s)
			continue
		case answer := <-ctl.AskRecording:
			s := r.snapshot()
			answer <- &s
			continue
		case err := <-failed:
			return err
		case <-over:
		case <-ctl.Stop:
		case <-ctl.Context.Done():
		}
		close(stop)
		return <-failed
	}
}

// run records until stop is closed, and then what the kernel had captured by that time, and ends
// the file.
func (r *recorder) run(stop <-chan struct{}, now func() mono.Time) error {
	ending, last := mono.Never, 0
	for last < drainLate {
		wait := pollEvery
		select {
		case <-stop:
			if wait = lastWait; ending == mono.Never {
				ending = now()
			}
		default:
		}
		frames, err := r.source.Next(wait)
		if err != nil {
			return fmt.Errorf("capture ended: %w", err)
		}
		if err := r.write(frames); err != nil {
			return err
		}
		if err := r.out.Tick(time.Now()); err != nil {
			return err
		}
		r.publish(len(frames))
		switch {
		case ending == mono.Never:
		case len(frames) == 0:
			last = drainLate
		case frames[0].Time > ending:
			last++
		}
	}
	err := r.out.Close(time.Now(), r.seen())
	r.publish(0)
	return err
}

// write writes those frames of a batch that are to be recorded.
func (r *recorder) write(frames []source.Frame) error {
	for i := range frames {
		f := &frames[i]
		var p shard.Packet
		if !r.class.classify(f, &p) {
			continue
		}
		client, production := p.Seg.Src, p.Seg.Dst
		if p.FromServer {
			client, production = production, client
		}
		if !shard.Sampled(client, production, r.c.SampleBy == config.ByClient, r.c.Sample/100) {
			r.sampled++
			continue
		}
		if !p.FromServer && p.Seg.Flags&(packet.SYN|packet.ACK) == packet.SYN {
			r.sessions++
		}
		if r.scrub != nil {
			r.scrub.Segment(&p.Seg, p.FromServer)
			packet.RenewChecksum(f.Data, &p.Seg)
		}
		if err := r.out.Write(r.origin.Add(time.Duration(f.Time)), f.Data, f.Wire,
			r.seen()); err != nil {
			return err
		}
	}
	return nil
}

// seen returns what the kernel has captured and lost.
func (r *recorder) seen() capfile.Counts {
	return capfile.Counts{Received: r.class.packets.Seen + r.class.packets.KernelDrop,
		Dropped: r.class.packets.KernelDrop}
}

// publish makes the state visible to snapshot, after a batch of so many frames.
func (r *recorder) publish(frames int) {
	r.class.packets.Seen += uint64(frames)
	s := r.source.Stats()
	r.class.packets.KernelDrop = s.Dropped
	r.mu.Lock()
	r.state.Packets = r.class.packets
	r.state.Packets.Offered = r.class.packets.Seen + s.Dropped
	if r.scrub != nil {
		r.state.Scrubbed = r.scrub.Stats()
	}
	r.state.File, r.state.Sampled, r.state.Sessions = r.out.State(), r.sampled, r.sessions
	r.mu.Unlock()
}

// snapshot returns the current state.
func (r *recorder) snapshot() Recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.state
	s.Start, s.Now = r.origin, time.Now()
	return s
}

// describe returns what is recorded, for people.
func (r *recorder) describe() string {
	words := make([]string, len(r.c.Production))
	for i, o := range r.c.Production {
		words[i] = fmt.Sprintf("port %d", o.Port())
		if o.Addr().IsValid() {
			words[i] = o.String()
		}
	}
	return "recording " + strings.Join(words, ", ") + " to " + r.out.State().Name
}

// recordedServers returns the servers whose traffic is recorded.
func recordedServers(c *config.Record) (*served, error) {
	maps := make([]mapping.Mapping, len(c.Production))
	for i, o := range c.Production {
		maps[i].Production = o
	}
	return newServed(&config.Copy{}, maps)
}

// recordFilter returns the filter by which the kernel selects packets.
func recordFilter(c *config.Record) (filter.Program, error) {
	spec := filter.CaptureSpec{Expr: c.Filter, ExcludeMark: config.DefaultMark}
	if c.Both {
		spec.ResponseLen = filter.WholePacket
	}
	for _, o := range c.Production {
		spec.Ports = append(spec.Ports, o.Port())
		spec.AnyDirection = spec.AnyDirection || o.Addr().IsValid()
	}
	return filter.Capture(spec)
}
