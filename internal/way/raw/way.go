// Package raw is the raw way: copies are TCP connections of our own, whose segments leave with the
// addresses of the clients. What a target answers never reaches this host; intercepts report it.
//
// A Way has what the shards share: the links to the intercepts, and what is known of the paths.
// Its end for each shard has the streams (package stream, which is pure), and a sender (package
// send). Package tcp is the TCP, route and intercept are the intercepts' side.
//
// It decides nothing about what is sent when (core/session does), and opens no link by itself
// (package link does).
package raw

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/way"
	"tcpcopy/internal/way/address"
	"tcpcopy/internal/way/intercepts"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/send"
	"tcpcopy/internal/way/raw/stream"
	"tcpcopy/internal/way/raw/tcp"
)

// Way is the raw way.
type Way struct {
	host      *way.Host
	settings  *way.Settings
	targets   []netip.AddrPort
	rules     address.Rules
	group     *link.Group
	linked    bool // the group was started
	ends      []*end
	exempt    *send.Exemption
	isnSecret [32]byte
	device    *send.Device // nil: the kernel routes
	segment   sync.Map     // by target, a netip.Addr: the largest payload on the path, an int
	reports   sync.Pool    // of *report
	hurried   atomic.Int64 // when the intercepts were last told to hurry, a mono.Time; 0: never

	mu    sync.Mutex
	conns map[string]int // connections by intercept
}

// NewWay returns the raw way.
func NewWay() way.Way {
	w := &Way{conns: make(map[string]int)}
	w.reports.New = func() any { return new(report) }
	return w
}

// Name implements way.Way.
func (w *Way) Name() string { return "raw" }

// Open implements way.Way.
func (w *Way) Open(h *way.Host, s *way.Settings, targets []way.Target) error {
	w.host, w.settings, w.targets, w.rules = h, s, way.Addrs(targets), intercepts.Rules(s)
	w.isnSecret = secretOfISN(s.Key)
	if err := intercepts.CheckAddresses(s, targets, h.Addresses()); err != nil {
		return err
	}
	for _, t := range w.targets {
		if err := w.measure(t.Addr()); err != nil {
			return err
		}
	}
	if s.OutputDevice != "" {
		if err := w.findDevice(); err != nil {
			return err
		}
	}
	exempt, err := send.NoTrack(s.Mark)
	if err != nil {
		h.Log.Warn("the firewall tracks the packets of the copies like others: "+
			"rules that drop or masquerade them will harm the copy", "err", err)
	}
	w.exempt = exempt
	cfg := intercepts.Config(h, s, w.targets)
	cfg.OnState, cfg.OnBatch, cfg.OnAnswers, cfg.OnICMP = w.onState, w.onBatch, w.onAnswers,
		w.onICMP
	cfg.OnOwner, cfg.OnSought, cfg.OnRefused = w.onOwner, w.onSought, w.onRefused
	w.group = link.NewGroup(intercepts.Names(s), cfg)
	return nil
}

// secretOfISN returns what the copies' initial sequence numbers depend on (RFC 6528). It is the
// same when the copier is started again, so that those of a tuple go on rising: the target may be
// in TIME-WAIT. It is also the same at other copiers with the key, so that their slots keep the
// numbers of two copiers apart; see stream.Stream. Without a key it is this boot's.
func secretOfISN(k *key.Key) [32]byte {
	if k != nil {
		return k.Derive("tcpcopy initial sequence numbers")
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		boot = []byte(rand.Text()) // there is no /proc
	}
	return sha256.Sum256(boot)
}

// The lengths of IP and TCP headers without options.
const (
	ipv4Headers = 20 + 20
	ipv6Headers = 40 + 20
)

func headersTo(target netip.Addr) int {
	if target.Is4() || target.Is4In6() {
		return ipv4Headers
	}
	return ipv6Headers
}

// measure finds the largest segment on the path to a target.
func (w *Way) measure(target netip.Addr) error {
	s, headers := w.settings, headersTo(target)
	switch {
	case s.MSS > 0:
		w.segment.Store(target, s.MSS)
	case s.MTU > 0:
		w.segment.Store(target, s.MTU-headers)
	default:
		mtu, err := send.PathMTU(target, s.Mark)
		if err != nil {
			return err
		}
		w.segment.Store(target, min(mtu, 65535)-headers)
	}
	return nil
}

// maxSegment returns what measure has found.
func (w *Way) maxSegment(target netip.Addr) int {
	n, _ := w.segment.Load(target)
	return n.(int)
}

// pathMTU returns the payload bound that the kernel knows of now for the path to a target.
func (w *Way) pathMTU(target netip.Addr) (payload int, ok bool) {
	mtu, err := send.PathMTU(target, w.settings.Mark)
	if err != nil {
		return 0, false
	}
	return mtu - headersTo(target), true
}

// neighbourWait is how long to wait for a neighbour's link address.
const neighbourWait = 3 * time.Second

// findDevice finds the next hops to the targets on the output device.
func (w *Way) findDevice() error {
	name := w.settings.OutputDevice
	var to []netip.Addr
	for _, t := range w.targets {
		to = append(to, t.Addr())
	}
	next, err := send.Follow(name, to, neighbourWait)
	if err != nil {
		return err
	}
	w.device = &send.Device{Name: name, Next: next}
	return nil
}

// Attach implements way.Way.
func (w *Way) Attach(index, count int) (way.End, error) {
	cfg := send.Config{Mark: w.settings.Mark}
	var out *send.Sender
	var err error
	if w.device != nil {
		out, err = send.OnDevice(cfg, *w.device)
	} else {
		out, err = send.New(cfg)
	}
	if err != nil {
		return nil, err
	}
	e := newEnd(w, stream.New(w.streamConfig(index, count)), out)
	w.ends = append(w.ends, e)
	return e, nil
}

// streamConfig returns the configuration of a shard's streams.
func (w *Way) streamConfig(index, count int) stream.Config {
	s := w.settings
	start := time.Now().Add(-time.Since(w.host.Origin)) // the wall clock's time of mono time 0
	cfg := stream.Config{
		Address: address.Chooser{
			Rules: w.rules, Index: index, Count: count, OtherFamily: ledger.NoSourceAddress,
		},
		ISNAtZero: seqnum.Value(start.UnixMicro() / 4), ISNSecret: w.isnSecret,
		TSAtZero:   uint32(start.UnixMilli()),
		MaxSegment: w.maxSegment, Congestion: congestion(s.Congestion),
		ConnectTimeout: s.ConnectTimeout, UserTimeout: s.SendTimeout,
	}
	if w.host.Digesting != nil {
		cfg.Keep = func() []netip.AddrPort { return w.targets }
	}
	switch s.SYN {
	case way.SYNFull:
		cfg.SYN = stream.SYNFull
	case way.SYNMinimal:
		cfg.SYN = stream.SYNMinimal
	}
	return cfg
}

// congestion returns the congestion control of the copies. The default is the one of this host's
// kernel, so that copies are as fast as the host's own connections; CUBIC, if package tcp has not
// that one.
func congestion(c way.Congestion) uint8 {
	if c == way.AutoCongestion {
		name, err := sys.CongestionControl()
		if err != nil {
			name = "" // there is no /proc
		}
		c = way.Congestion(name)
	}
	switch c {
	case way.BBR:
		return tcp.BBR
	case way.Reno:
		return tcp.Reno
	default:
		return tcp.CUBIC
	}
}

// Connect implements way.Way.
func (w *Way) Connect() error {
	w.linked = true
	return intercepts.Connect(w.host, w.settings, w.group, wire.WayRaw)
}

// Check implements way.Way.
func (w *Way) Check(all []way.Target, added []netip.AddrPort) error {
	if err := intercepts.CheckAddresses(w.settings, all, w.host.Addresses()); err != nil {
		return err
	}
	for _, t := range added {
		switch {
		case t.Addr().IsLoopback():
			return fmt.Errorf("target %s on this host cannot answer to the clients' addresses: "+
				"wanted an address of another host", t)
		case w.device != nil:
			if _, ok := w.device.Next.To(t.Addr()); !ok {
				return fmt.Errorf("target %s is new: with -o, wanted a restart", t)
			}
		}
		if err := w.measure(t.Addr()); err != nil {
			return err
		}
	}
	return nil
}

// SetTargets implements way.Way.
func (w *Way) SetTargets(all []netip.AddrPort) { w.group.SetTargets(all) }

// Account implements way.Way.
func (w *Way) Account() (a way.Account) {
	for _, e := range w.ends {
		st := e.sender.Stats()
		a.SendErrors += st.TooBig + st.Forbidden + st.QueueFull + st.NoRoute + st.Impossible
	}
	a.Links = intercepts.Account(w.group)
	return a
}

// Close implements way.Way.
func (w *Way) Close() {
	if w.linked {
		w.group.Close()
	}
	for _, e := range w.ends {
		e.sender.Close()
	}
	if w.device != nil {
		w.device.Next.Close()
	}
	if w.exempt != nil {
		w.exempt.Close()
	}
}

// hurry tells the intercepts that copies are behind, at most twice in wire.HurryFor.
func (w *Way) hurry(now mono.Time) {
	last := w.hurried.Load()
	if last != 0 && now.Sub(mono.Time(last)) < wire.HurryFor/2 ||
		!w.hurried.CompareAndSwap(last, int64(now)) {
		return
	}
	w.group.Hurry()
}
