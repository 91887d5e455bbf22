package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/agents"
	"tcpcopy/internal/source/locals"
	"tcpcopy/internal/way/socket"
)

// Control is how a run is told to end, and how it speaks.
type Control struct {
	Context context.Context // done: end at once
	Stop    <-chan struct{} // closed: capture no more, let sessions end, and return
	Log     *slog.Logger
	Ready   func(detail string) // called once when everything is open
	Version string
	// Reload gets new settings: of their mappings, and of what may differ between them, the copy makes its
	// own at once. nil: none come.
	Reload <-chan *config.Copy
	// Ask gets who wants to know how it stands: each is sent one state. nil: nobody.
	Ask <-chan chan<- *export.Snapshot
}

// copier is a run of tcpcopy copy.
type copier struct {
	ctl    *Control
	c      *config.Copy
	origin time.Time
	now    func() mono.Time

	// maps are the mappings, in the shards' order. One that a reload has taken out stays, for the sessions that
	// it has.
	maps    []mapping.Mapping
	source  source.Source
	agents  *agents.Source // the source, where it is agents; else nil
	locals  *locals.Set
	reader  *reader
	shards  []*shardLoop
	outputs []*socket.Output
	raw     *rawWay
	tunnel  *tunnelWay
	replay  *replay // nil: packets are captured as they come
	running bool    // the shards' goroutines
	final   bool    // and they have ended
}

// Run copies until it is told to stop, calls progress every c.Stats, and returns the last state; nil if
// the copy could not begin. The error is the context's if that ended the run before the sessions had
// drained.
func Run(ctl *Control, c *config.Copy, progress func(*export.Snapshot)) (*export.Snapshot, error) {
	origin := time.Now()
	cp := &copier{ctl: ctl, c: c, origin: origin, now: func() mono.Time { return mono.Time(time.Since(origin)) }}
	defer cp.close()
	if err := cp.open(); err != nil {
		return nil, err
	}
	err := cp.work(progress)
	cp.end()
	return cp.snapshot(), err
}

// open makes everything, from the target's side to the capture's, so that the first packet finds all of
// it in place.
func (cp *copier) open() error {
	if err := cp.learnWay(); err != nil {
		return err
	}
	c := cp.c
	cp.maps = slices.Clone(c.Mappings)
	if err := checkPorts(c); err != nil {
		return err
	}
	if c.Replay != nil {
		var err error
		if cp.replay, err = openReplay(cp); err != nil {
			return err
		}
	}
	set, err := locals.Watch()
	if err != nil {
		return err
	}
	cp.locals = set
	if c.Via == config.ViaRaw {
		if cp.raw, err = openRaw(cp); err != nil {
			return err
		}
	}
	if c.Via == config.ViaTunnel {
		if err := checkStandIns(c, nil); err != nil {
			return err
		}
		cp.tunnel = openTunnel(cp, shardCount(c))
	}
	if err := cp.openShards(); err != nil {
		return err
	}
	for _, l := range cp.shards {
		go l.run()
		cp.running = true
	}
	if cp.raw != nil {
		if err := cp.raw.connect(cp.shards); err != nil {
			return err
		}
	}
	if cp.tunnel != nil {
		if err := cp.tunnel.connect(); err != nil {
			return err
		}
	}
	src, err := cp.openSource()
	if err != nil {
		return err
	}
	cp.source = src
	served, err := newServed(c, cp.maps)
	if err != nil {
		return err
	}
	cp.reader = newReader(src, classifier{served: served, isLocal: set.Has}, cp.shards)
	cp.reader.replay = cp.replay
	return nil
}

// maxShards is how many shards there may be.
const maxShards = 64

// shardCount is how many shards to run: one for each processor that the program may use, but for one, which
// the reader needs.
func shardCount(c *config.Copy) int {
	if c.Shards > 0 {
		return min(c.Shards, maxShards)
	}
	return max(1, min(runtime.GOMAXPROCS(0)-1, maxShards))
}

func (cp *copier) openShards() error {
	c, n := cp.c, shardCount(cp.c)
	for i := range n {
		cfg := shard.Config{
			Index: i, Count: n, Services: services(c, n, cp.now()),
			MaxSessions: max(1, c.MaxSessions/n), MaxMemory: c.Memory / int64(n), Start: cp.now(),
		}
		if cp.raw != nil {
			cfg.Raw = cp.raw.config()
			loop := newShardLoop(shard.New(cfg), cp.now)
			snd, err := cp.raw.sender()
			if err != nil {
				return err
			}
			loop.sender, loop.raw = snd, cp.raw
			cp.shards = append(cp.shards, loop)
			continue
		}
		if cp.tunnel != nil {
			out := cp.tunnel.hub.Output(i)
			cfg.Opener, cfg.Sources = out, true
			cfg.Raw = shard.Raw{Clients: c.Clients, LocalhostAs: c.LocalhostAs, PortShift: c.PortShift}
			loop := newShardLoop(shard.New(cfg), cp.now)
			loop.tunnel, loop.told = out, out.Events()
			cp.shards = append(cp.shards, loop)
			continue
		}
		out, err := socket.New(socket.Config{
			Now: cp.now, Mark: c.Mark, Bind: c.Bind, ConnectTimeout: c.ConnectTimeout,
			SendTimeout: c.SessionTimeout, Proxy: socket.Proxy(c.ProxyProtocol),
		})
		if err != nil {
			return err
		}
		cp.outputs = append(cp.outputs, out)
		cfg.Opener = out
		loop := newShardLoop(shard.New(cfg), cp.now)
		loop.sockets, loop.events = out, out.Events()
		cp.shards = append(cp.shards, loop)
	}
	return nil
}

// work runs until it is told to end, and lets the sessions drain.
func (cp *copier) work(progress func(*export.Snapshot)) error {
	read := make(chan error, 1)
	go func() { read <- cp.reader.run() }()
	cp.ctl.Ready(cp.describe())

	var tick <-chan time.Time
	if cp.c.Stats > 0 {
		t := time.NewTicker(cp.c.Stats)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-tick:
			progress(cp.snapshot())
		case who := <-cp.ctl.Ask:
			who <- cp.snapshot()
		case c := <-cp.ctl.Reload:
			if err := cp.reload(c); err != nil {
				cp.ctl.Log.Error("not reloaded: all goes on as before", "error", err)
			} else {
				cp.ctl.Log.Info("reloaded: " + cp.describe())
			}
		case err := <-read:
			if cp.replay != nil && errors.Is(err, io.EOF) {
				return cp.drain(tick, progress)
			}
			return fmt.Errorf("capture ended: %w", err)
		case <-cp.ctl.Context.Done():
			close(cp.reader.stop)
			<-read
			return cp.ctl.Context.Err()
		case <-cp.ctl.Stop:
			close(cp.reader.stop)
			if err := <-read; err != nil {
				return fmt.Errorf("capture: %w", err)
			}
			return cp.drain(tick, progress)
		}
	}
}

// drainLook is how often drain looks whether sessions are left.
const drainLook = 20 * time.Millisecond

// drain gives the sessions time to send what was captured and to be closed in order.
func (cp *copier) drain(tick <-chan time.Time, progress func(*export.Snapshot)) error {
	for _, l := range cp.shards {
		l.call(func(sh *shard.Shard) { sh.Drain(cp.now()) })
	}
	over := time.NewTimer(cp.c.Drain)
	defer over.Stop()
	look := time.NewTicker(drainLook)
	defer look.Stop()
	for cp.live() > 0 {
		select {
		case <-tick:
			progress(cp.snapshot())
		case <-look.C:
		case who := <-cp.ctl.Ask:
			who <- cp.snapshot()
		case <-over.C:
			return nil
		case <-cp.ctl.Context.Done():
			return cp.ctl.Context.Err()
		}
	}
	return nil
}

func (cp *copier) live() (n int) {
	for _, l := range cp.shards {
		l.call(func(sh *shard.Shard) { n += sh.Live() })
	}
	return n
}

// end stops the shards: what is left of their sessions is dropped.
func (cp *copier) end() {
	for _, l := range cp.shards {
		close(l.stop)
		<-l.ended
	}
	cp.final = true
}

// close gives everything back, whatever was opened.
func (cp *copier) close() {
	if cp.running && !cp.final {
		cp.end()
	}
	for _, o := range cp.outputs {
		o.Close()
	}
	if cp.raw != nil {
		cp.raw.close()
	}
	if cp.tunnel != nil {
		cp.tunnel.close()
	}
	if cp.locals != nil {
		cp.locals.Close()
	}
	if cp.replay != nil {
		cp.replay.source.Close()
	}
}

func (cp *copier) snapshot() *export.Snapshot {
	s := &export.Snapshot{
		Version: cp.ctl.Version, Via: string(cp.c.Via), Mappings: cp.c.MappingStrings(), From: cp.c.From.Text,
		Start: cp.origin, Now: time.Now(), Final: cp.final, Resources: export.Spent(),
	}
	for _, l := range cp.shards {
		c := l.snapshot()
		s.Counters.Add(&c)
	}
	s.Targets = cp.targets()
	p := cp.reader.packets()
	s.Counters.Packets.Add(&p)
	cp.fillAgents(s)
	if cp.raw != nil {
		cp.raw.fill(s)
	}
	if cp.tunnel != nil {
		cp.tunnel.fill(s)
	}
	if cp.replay != nil {
		cp.replay.fill(s)
	}
	return s
}

// describe says what was begun, for people.
func (cp *copier) describe() string {
	if cp.c.Replay != nil {
		return describeReplay(cp.c)
	}
	d := "copying " + joinMappings(cp.c.MappingStrings()) + " via " + string(cp.c.Via)
	switch {
	case cp.c.From.Remote():
		d += " from " + cp.c.From.Text
	case len(cp.c.Interfaces) > 0:
		d += fmt.Sprintf(" from %v", cp.c.Interfaces)
	}
	return d
}

func joinMappings(all []string) string {
	s := ""
	for i, m := range all {
		if i > 0 {
			s += ", "
		}
		s += m
	}
	return s
}
