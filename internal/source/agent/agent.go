// Package agent captures on a production host and sends what it captured to a copier on another
// host. It decides only what it must leave out to stay within its bounds, and counts that. The
// copier's end is package agents.
//
// One goroutine reads the capture, one sends; while there is a connection a third reads from it,
// and a fourth writes counts and pings. Between the first two is a queue of bounded size. Where
// it is full, packets are dropped: production never waits.
package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/source"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/wire"
)

const (
	pollEvery   = 200 * time.Millisecond // the longest wait for packets
	adjustEvery = 250 * time.Millisecond // between checks of the bounds
	lastWaits   = 20 * time.Millisecond  // at the end, for blocks of the ring that are not full
	lastBatches = 1024                   // at most, at the end
)

// Production is the address of a server whose traffic is captured. An Addr that is not valid stands
// for all of this host's.
type Production struct {
	Addr netip.Addr
	Port uint16
}

// Config is what an agent needs.
type Config struct {
	To         string      // the copier, host:port
	TLS        *tls.Config // key.AgentClientTLS; nil: no key
	Source     source.Source
	Production []Production          // at least one
	IsLocal    func(netip.Addr) bool // reports whether an address is this host's
	MaxRate    float64               // bytes a second over the connection; 0: no bound
	MaxCPU     float64               // of one processor; 0: no bound
	Memory     int                   // bytes that may wait for the connection
	Compress   Compress
	Name       string // of this host
	Software   string
	Now        func() mono.Time // the source's clock
	Log        *slog.Logger     // nil: slog.Default()
	// Spent returns the CPU time of this process; nil: as the kernel counts it.
	Spent func() time.Duration
}

// Agent captures and sends. Make one with New, then Run it once.
type Agent struct {
	cfg      Config
	instance wire.Instance
	queue    *queue
	seed     maphash.Seed

	// Of the goroutine that reads the capture.
	batch    *batch
	governor governor
	bound    uint64 // sessions whose hash is below it are sent
	shedder  shedder
	offered  uint64 // bytes of records since the last adjustment
	adjusted mono.Time
	cpu      time.Duration
	seg      packet.Segment

	sender sender
	count  counters

	mu    sync.Mutex
	state LinkState
	share float64
	cause Bound
}

// counters are the fields of wire.AgentCounts.
type counters struct {
	sent, sentBytes, kernelDrop, notOurs, shedCPU, shedRate, shedSessions atomic.Uint64
	overMemory, linkDown                                                  atomic.Uint64
}

func (c *counters) counts() wire.AgentCounts {
	return wire.AgentCounts{
		Sent: c.sent.Load(), SentBytes: c.sentBytes.Load(),
		KernelDrop: c.kernelDrop.Load(), NotOurs: c.notOurs.Load(),
		ShedCPU: c.shedCPU.Load(), ShedRate: c.shedRate.Load(), ShedSessions: c.shedSessions.Load(),
		OverMemory: c.overMemory.Load(), LinkDown: c.linkDown.Load(),
	}
}

// LinkState is the state of the connection to the copier.
type LinkState struct {
	Up       bool
	Since    time.Time
	Connects uint64
	Software string // the copier's
	Err      error  // why it is down, or last was; nil if it never was
}

// Snapshot is the agent's account at one moment.
type Snapshot struct {
	Captured uint64 // packets, including those that the kernel dropped
	Counts   wire.AgentCounts
	Share    float64 // of the sessions that are sent now
	Cause    Bound   // the bound that reduces Share
	Link     LinkState
}

// New makes an agent.
func New(cfg Config) (*Agent, error) {
	if cfg.Source == nil || len(cfg.Production) == 0 || cfg.Now == nil {
		return nil, errors.New("agent: wanted a capture source, its clock, and what to capture")
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.Spent == nil {
		cfg.Spent = spent
	}
	if cfg.IsLocal == nil {
		cfg.IsLocal = func(netip.Addr) bool { return true }
	}
	a := &Agent{
		cfg: cfg, instance: link.NewInstance(), queue: newQueue(cfg.Memory),
		seed: maphash.MakeSeed(), governor: newGovernor(cfg.MaxCPU, cfg.MaxRate),
		share: 1, state: LinkState{Since: time.Now()},
	}
	a.bound = a.governor.threshold()
	a.sender = newSender(a)
	return a, nil
}

// spent returns the process's CPU time, in user and kernel mode.
func spent() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// Run captures and sends until ctx is done, sends what was captured until then, and closes the
// source. An error is the capture's.
func (a *Agent) Run(ctx context.Context) error {
	sending, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { a.sender.run(sending) })
	err := a.capture(ctx)
	stop()
	wg.Wait()
	a.cfg.Source.Close()
	a.cfg.Source.Next(0) // gives the last batch back
	if errors.Is(err, source.ErrClosed) {
		return nil
	}
	return err
}

// capture reads the source.
func (a *Agent) capture(ctx context.Context) error {
	a.adjusted, a.cpu = a.cfg.Now(), a.cfg.Spent()
	for ctx.Err() == nil {
		frames, err := a.cfg.Source.Next(pollEvery)
		if err != nil {
			return fmt.Errorf("agent: %w", err)
		}
		a.add(frames)
		a.adjust()
	}
	for range lastBatches {
		frames, err := a.cfg.Source.Next(lastWaits)
		if err != nil || len(frames) == 0 {
			break
		}
		a.add(frames)
	}
	a.count.kernelDrop.Store(a.cfg.Source.Stats().Dropped)
	return nil
}

// add queues what is to be sent of a batch of frames.
func (a *Agent) add(frames []source.Frame) {
	for i := range frames {
		f := &frames[i]
		fromServer, ok := a.match(f)
		if !ok {
			a.count.notOurs.Add(1)
			continue
		}
		data := f.Data
		if a.bound < 1<<32 {
			if data = a.shed(data, fromServer); data == nil {
				continue
			}
		}
		if a.batch == nil {
			a.batch = a.queue.fresh()
		}
		before := len(a.batch.records)
		a.batch.add(&wire.Record{
			At: f.Time, Ifindex: uint32(f.Ifindex), Wire: f.Wire, Data: data})
		a.offered += uint64(len(a.batch.records) - before)
		if len(a.batch.records) >= batchSize-2048 {
			a.seal()
		}
	}
	a.seal()
}

// seal queues the batch.
func (a *Agent) seal() {
	b := a.batch
	if b == nil || b.count == 0 {
		return
	}
	if a.queue.put(b) {
		a.batch = nil
		return
	}
	a.countUnsent(uint64(b.count))
	b.records, b.count = b.records[:0], 0
}

// countUnsent counts packets that found no room, by whether there is a connection.
func (a *Agent) countUnsent(n uint64) {
	a.mu.Lock()
	up := a.state.Up
	a.mu.Unlock()
	if up {
		a.count.overMemory.Add(n)
	} else {
		a.count.linkDown.Add(n)
	}
}

// match decodes a frame. It reports whether the frame is to or from a production server, and which.
// Where the server's address is not given it must be this host's, and the packet must arrive from a
// client or leave from the server. On loopback, where each packet is captured twice, the same rule
// leaves one of the two.
func (a *Agent) match(f *source.Frame) (fromServer, ok bool) {
	if packet.Decode(f.Data, f.Wire, &a.seg) != nil {
		return false, false
	}
	for _, o := range a.cfg.Production {
		for _, fromServer := range [2]bool{false, true} {
			side := a.seg.Dst
			if fromServer {
				side = a.seg.Src
			}
			named := o.Addr.IsValid()
			if side.Port() != o.Port || named && side.Addr() != o.Addr {
				continue
			}
			if f.Outgoing != fromServer && (f.Loopback || !named) {
				continue
			}
			if named || a.cfg.IsLocal(side.Addr()) {
				return fromServer, true
			}
		}
	}
	return false, false
}

// shed returns what is sent of a packet: all of it, its headers, or nil, where its session is left
// out.
func (a *Agent) shed(data []byte, fromServer bool) []byte {
	client := a.seg.Src
	if fromServer {
		client = a.seg.Dst
	}
	hash := uint32(maphash.Comparable(a.seed, client))
	if uint64(hash) < a.bound {
		return data
	}
	fate, fresh := a.shedder.decide(hash, fromServer, &a.seg)
	if fresh {
		a.count.shedSessions.Add(1)
	}
	switch {
	case fate == headers:
		return data[:len(data)-len(a.seg.Payload)]
	case a.governor.cause == Rate:
		a.count.shedRate.Add(1)
	default:
		a.count.shedCPU.Add(1)
	}
	return nil
}

// adjust checks the bounds, and reads what the kernel has dropped.
func (a *Agent) adjust() {
	now := a.cfg.Now()
	d := now.Sub(a.adjusted)
	if d < adjustEvery {
		return
	}
	cpu := a.cfg.Spent()
	a.governor.adjust(d, cpu-a.cpu, float64(a.offered)*a.sender.ratio())
	a.bound = a.governor.threshold()
	a.adjusted, a.cpu, a.offered = now, cpu, 0
	a.count.kernelDrop.Store(a.cfg.Source.Stats().Dropped)
	a.mu.Lock()
	a.share, a.cause = a.governor.share, a.governor.cause
	a.mu.Unlock()
}

// Snapshot returns the account at this moment. It is safe from any goroutine.
func (a *Agent) Snapshot() Snapshot {
	s := Snapshot{Captured: a.cfg.Source.Stats().Offered, Counts: a.count.counts()}
	a.mu.Lock()
	defer a.mu.Unlock()
	s.Share, s.Cause, s.Link = a.share, a.cause, a.state
	return s
}
