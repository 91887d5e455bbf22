package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/verdict"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/agents"
	"tcpcopy/internal/source/locals"
	"tcpcopy/internal/way"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/ways"
)

// Control carries a run's stop signals, logger and callbacks.
type Control struct {
	Context context.Context     // done: end at once
	Stop    <-chan struct{}     // closed: end the capture, let the sessions drain, and return
	Log     *slog.Logger        // for everything that users have to know
	Ready   func(detail string) // called once, when everything is open
	Version string              // of this program
	// Reload receives new settings. A copy applies their mappings, and what may differ between
	// mappings, and ignores the rest. If Reload is nil, nothing can be reloaded.
	Reload <-chan *config.Copy
	// Reloaded is called after each reload, with its error. It may be nil.
	Reloaded func(error)
	// Ask receives requests for the current state; the run sends one Snapshot on each channel. If
	// Ask is nil, no state can be requested.
	Ask <-chan chan<- *export.Snapshot
	// AskSessions receives requests for some of the sessions. If it is nil, there are none.
	AskSessions <-chan *AskedSessions
	// AskRecording is Ask for a recording.
	AskRecording <-chan chan<- *Recorded
}

// copier is a run of tcpcopy copy or replay.
type copier struct {
	ctl    *Control
	c      *config.Copy
	parts  parts
	origin time.Time
	now    func() mono.Time

	// maps are the mappings, in the shards' order. A mapping that a reload has removed stays here
	// for its sessions.
	maps    []mapping.Mapping
	source  source.Source
	agents  *agents.Source // the source, if it is agents; else nil
	local   localAddresses
	reader  *reader
	shards  []*shardLoop
	way     way.Way
	ready   context.CancelFunc // ends the goroutine behind way.Host.Context
	replay  *replay            // nil: packets are captured live
	running bool               // the shards' goroutines run
	final   bool               // they have ended
	// seed is of the digests of answers, which are comparable within a run only.
	seed    uint64
	buffers way.Buffers // of answers that are compared
}

// parts are what a run is made of, where tests use others than users do.
type parts struct {
	way    func(*way.Settings) (way.Way, error)
	source func(*copier) (source.Source, error)
	local  func() (localAddresses, error)
}

// localAddresses knows this host's addresses; *locals.Set does.
type localAddresses interface {
	Has(netip.Addr) bool
	All() []netip.Addr
	Close() error
}

func watchLocals() (localAddresses, error) { return locals.Watch() }

// Run copies until it is told to stop, or until a recording has ended. It calls progress every
// c.Stats, and returns the final state; nil if the copy could not begin. The error is the
// context's if that ended the run before the sessions had drained.
func Run(ctl *Control, c *config.Copy, progress func(*export.Snapshot)) (*export.Snapshot, error) {
	return run(ctl, c, progress, parts{way: ways.New, source: (*copier).openSource,
		local: watchLocals})
}

func run(
	ctl *Control, c *config.Copy, progress func(*export.Snapshot), p parts,
) (*export.Snapshot, error) {
	origin := time.Now()
	cp := &copier{
		ctl: ctl, c: c, parts: p, origin: origin, maps: slices.Clone(c.Mappings),
		now:  func() mono.Time { return mono.Time(time.Since(origin)) },
		seed: randomSeed(),
	}
	defer cp.close()
	if err := cp.open(); err != nil {
		return nil, asProblem(err)
	}
	stop, served := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(served)
		cp.serveSessions(stop)
	}()
	err := cp.work(progress)
	close(stop)
	<-served
	cp.end()
	return cp.snapshot(), err
}

// asProblem returns a way's complaint about a setting as the configuration's own.
func asProblem(err error) error {
	var p *way.Problem
	if errors.As(err, &p) {
		problem := config.Problem(*p)
		return &problem
	}
	return err
}

// open opens everything, from the targets' side to the source, so that the first packet finds all
// of it in place.
func (cp *copier) open() error {
	set, err := cp.parts.local()
	if err != nil {
		return err
	}
	cp.local = set
	if err := cp.openWay(); err != nil {
		return err
	}
	if cp.c.Replay != nil {
		if cp.replay, err = openReplay(cp); err != nil {
			return err
		}
	}
	if err := cp.openShards(); err != nil {
		return err
	}
	for _, l := range cp.shards {
		go l.run()
		cp.running = true
	}
	if err := cp.way.Connect(); err != nil {
		return err
	}
	src, err := cp.parts.source(cp)
	if err != nil {
		return err
	}
	cp.source = src
	served, err := newServed(cp.c, cp.maps)
	if err != nil {
		return err
	}
	cp.reader = newReader(src, classifier{served: served, isLocal: set.Has}, cp.shards, cp.c.Memory)
	cp.reader.replay = cp.replay
	return nil
}

// openWay opens the way to the targets.
func (cp *copier) openWay() error {
	settings := cp.c.Settings
	settings.SendTimeout = cp.c.SessionTimeout
	w, err := cp.parts.way(&settings)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(cp.ctl.Context)
	cp.ready = cancel
	go func() {
		select {
		case <-cp.ctl.Stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	cp.way = w
	host := &way.Host{
		Context: ctx, Log: cp.ctl.Log, Software: "tcpcopy " + cp.ctl.Version,
		Run: link.NewInstance(), Origin: cp.origin, Now: cp.now, Addresses: cp.local.All,
	}
	if cp.c.Compare.On {
		host.Digesting = cp.digesting
	}
	return w.Open(host, &settings, wayTargets(cp.c))
}

// wayTargets returns the targets of all mappings, each once.
func wayTargets(c *config.Copy) (all []way.Target) {
	for i := range c.Mappings {
		for _, a := range c.TargetsOf(i) {
			copies := c.Of(i).Copies
			if a == c.OldVersion(i) {
				copies = 1
			}
			k := slices.IndexFunc(all, func(o way.Target) bool { return o.Addr == a })
			if k < 0 {
				all = append(all, way.Target{Addr: a, Copies: copies})
				continue
			}
			all[k].Copies = max(all[k].Copies, copies)
		}
	}
	return all
}

// shardCount returns how many shards run: as many as configured, or one for each processor that the
// program may use, except for one, which the reader needs.
func shardCount(c *config.Copy) int {
	if c.Shards > 0 {
		return min(c.Shards, way.MaxShards)
	}
	return max(1, min(runtime.GOMAXPROCS(0)-1, way.MaxShards))
}

// digestMemory bounds, in bytes, the answers of all shards that wait for their counterparts. Half
// as much is kept for later comparisons, and as much bounds what was read of answers that have not
// ended. A replay, which is not on a production host and may be as fast as can be, has more.
const (
	digestMemory = 32 << 20
	replayMemory = 128 << 20
)

// digesting returns what the digests of one goroutine share.
func (cp *copier) digesting() *proto.Digesting {
	room := digestMemory
	if cp.c.Replay != nil {
		room = replayMemory
	}
	d := proto.NewDigesting(cp.seed, room/shardCount(cp.c))
	d.Buffers, d.Wanted = &cp.buffers, cp.c.Compare.Rules.Wanted()
	return d
}

// bases returns how many answers of a shard are kept for later comparisons. What a replay costs,
// production does not pay.
func (cp *copier) bases() int {
	if cp.c.Replay != nil {
		return verdict.ManyBases
	}
	return verdict.FewBases
}

// maxHalfOpen is how many half-open connections all shards keep together.
const maxHalfOpen = 1 << 17

// randomSeed returns a key for digests.
func randomSeed() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return binary.LittleEndian.Uint64(b[:])
}

// openShards makes the shards, each with its end of the way.
func (cp *copier) openShards() error {
	c, n := cp.c, shardCount(cp.c)
	for i := range n {
		end, err := cp.way.Attach(i, n)
		if err != nil {
			return err
		}
		cfg := shard.Config{
			Services: services(c, n, cp.now()), Streams: end,
			MaxSessions: max(1, c.MaxSessions/n), MaxMemory: c.Memory / int64(n), Start: cp.now(),
			MaxHalfOpen: maxHalfOpen / n,
			BothSides:   c.From.Kind == config.FromHost && c.Filter == nil,
		}
		var tally *verdict.Tally
		if c.Compare.On {
			tally = verdict.NewTally(cp.digesting(), &c.Compare.Rules, cp.bases())
			cfg.Compare = tally
		}
		l := newShardLoop(shard.New(cfg), end, cp.now)
		l.tally = tally
		if cp.replay == nil {
			l.bounded, l.limit = true, maxLimit
		}
		cp.shards = append(cp.shards, l)
	}
	return nil
}

// work runs until it is told to end, and lets the sessions drain.
func (cp *copier) work(progress func(*export.Snapshot)) error {
	read := make(chan error, 1)
	go func() { read <- cp.reader.run() }()
	cp.ctl.Ready(cp.describe())
	if cp.c.Compare.On {
		ended := make(chan struct{})
		defer close(ended)
		go cp.watchMachine(ended)
	}

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
		case to := <-cp.ctl.Ask:
			to <- cp.snapshot()
		case c := <-cp.ctl.Reload:
			err := cp.reload(c)
			if cp.ctl.Reloaded != nil {
				cp.ctl.Reloaded(err)
			}
			if err != nil {
				cp.ctl.Log.Error("not reloaded: everything goes on as before", "error",
					asProblem(err))
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

// drainPoll is how often drain counts the sessions that are left.
const drainPoll = 20 * time.Millisecond

// drain gives the sessions time to deliver what was captured and to close in order.
func (cp *copier) drain(tick <-chan time.Time, progress func(*export.Snapshot)) error {
	for _, l := range cp.shards {
		l.call(func(sh *shard.Shard) { sh.Drain(cp.now()) })
	}
	limit := time.NewTimer(cp.c.Drain)
	defer limit.Stop()
	poll := time.NewTicker(drainPoll)
	defer poll.Stop()
	for cp.live() > 0 {
		select {
		case <-tick:
			progress(cp.snapshot())
		case <-poll.C:
		case to := <-cp.ctl.Ask:
			to <- cp.snapshot()
		case <-limit.C:
			return nil
		case <-cp.ctl.Context.Done():
			return cp.ctl.Context.Err()
		}
	}
	return nil
}

// live returns how many sessions the shards hold.
func (cp *copier) live() (n int) {
	for _, l := range cp.shards {
		l.call(func(sh *shard.Shard) { n += sh.Live() })
	}
	return n
}

// end ends the shards, and drops what is left of their sessions.
func (cp *copier) end() {
	for _, l := range cp.shards {
		close(l.stop)
		<-l.ended
	}
	cp.final = true
}

// close frees whatever was opened.
func (cp *copier) close() {
	if cp.running && !cp.final {
		cp.end()
	}
	if cp.way != nil {
		cp.way.Close()
		cp.ready()
	}
	if cp.local != nil {
		cp.local.Close()
	}
	if cp.replay != nil {
		cp.replay.source.Close()
	}
}

// snapshot returns the current state.
func (cp *copier) snapshot() *export.Snapshot {
	s := &export.Snapshot{
		Version: cp.ctl.Version, Via: cp.way.Name(), Mappings: cp.c.MappingStrings(),
		From:  cp.c.From.Text,
		Start: cp.origin, Now: time.Now(), Final: cp.final, Resources: export.Spent(),
	}
	for _, l := range cp.shards {
		c := l.snapshot()
		s.Counters.Add(&c)
		s.StoodStill = max(s.StoodStill, time.Duration(l.stood.Load()))
	}
	s.Baseline = cp.baseline()
	s.Targets = cp.targets()
	s.Compare = cp.compared()
	p := cp.reader.packets()
	s.Counters.Packets.Add(&p)
	cp.fillAgents(s)
	account := cp.way.Account()
	s.Counters.SendErrors += account.SendErrors
	for _, l := range account.Links {
		s.Links = append(s.Links, export.LinkState(l))
	}
	if cp.replay != nil {
		cp.replay.fill(s)
	}
	return s
}

// baseline returns the account of the copies to old versions; nil if there are none.
func (cp *copier) baseline() *ledger.Counters {
	if len(cp.c.OldVersions()) == 0 {
		return nil
	}
	all := new(ledger.Counters)
	for _, l := range cp.shards {
		all.Add(l.baseline())
	}
	return all
}

// compared returns the result of the comparison so far; nil if answers are not compared.
func (cp *copier) compared() *verdict.Result {
	if !cp.c.Compare.On {
		return nil
	}
	all := new(verdict.Account)
	for _, l := range cp.shards {
		one := l.compared(cp.final)
		all.Add(one)
		all.AddTimes(one)
	}
	r := all.Result(&cp.c.Compare.Rules)
	if old := cp.c.OldVersions(); len(old) > 0 {
		r.AskedAgainst(old, cp.c.Compare.OldOnly)
	}
	if !cp.final {
		r.Shorten()
	}
	return r
}

// describe returns what the run does, for people.
func (cp *copier) describe() string {
	if cp.c.Replay != nil {
		return describeReplay(cp.c, cp.way.Name())
	}
	d := "copying " + strings.Join(cp.c.MappingStrings(), ", ") + " via " + cp.way.Name()
	switch {
	case cp.c.From.Remote():
		d += " from " + cp.c.From.Text
	case len(cp.c.Interfaces) > 0:
		d += fmt.Sprintf(" from %v", cp.c.Interfaces)
	}
	return d
}
