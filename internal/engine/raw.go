package engine

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/send"
	"tcpcopy/internal/way/raw/tcp"
)

// rawWay is what the raw way needs beside the shards: senders, links to the intercepts, and what is known
// of the paths.
type rawWay struct {
	cp      *copier // whose settings a reload changes: for the goroutine of Run
	mark    uint32
	group   *link.Group
	shards  []*shardLoop
	senders []*send.Sender
	exempt  *send.Exemption
	device  *send.Device // nil: the kernel routes
	segment sync.Map     // of netip.Addr: the largest payload to it, an int
	shift   shard.Raw    // for ReplyPort
	reports sync.Pool
	hurried atomic.Int64 // when the intercepts were last told to hurry, a mono.Time; 0: never

	mu    sync.Mutex
	conns map[string]int // connections by intercept
}

// ipHeaders are the lengths of IP and TCP headers without options.
const (
	ipv4Headers = 20 + 20
	ipv6Headers = 40 + 20
)

func openRaw(cp *copier) (*rawWay, error) {
	c := cp.c
	if err := checkStandIns(c, cp.locals.All()); err != nil {
		return nil, err
	}
	r := &rawWay{cp: cp, mark: c.Mark}
	r.reports.New = func() any { return new(report) }
	r.shift.PortShift = c.PortShift
	for _, t := range c.Targets() {
		if err := r.measure(t.Addr()); err != nil {
			return nil, err
		}
	}
	if c.OutputDevice != "" {
		if err := r.findDevice(); err != nil {
			return nil, err
		}
	}
	exempt, err := send.NoTrack(c.Mark)
	if err != nil {
		cp.ctl.Log.Warn("packets of the copies are tracked like others': a firewall that drops or masquerades them will harm the copy", "err", err)
	}
	r.exempt = exempt
	return r, nil
}

// measure finds the largest segment that the path to a target takes.
func (r *rawWay) measure(target netip.Addr) error {
	c := r.cp.c
	headers := headersTo(target)
	switch {
	case c.MSS > 0:
		r.segment.Store(target, c.MSS)
	case c.MTU > 0:
		r.segment.Store(target, c.MTU-headers)
	default:
		mtu, err := send.PathMTU(target, c.Mark)
		if err != nil {
			return err
		}
		r.segment.Store(target, min(mtu, 65535)-headers)
	}
	return nil
}

// maxSegment is what measure found.
func (r *rawWay) maxSegment(target netip.Addr) int {
	n, _ := r.segment.Load(target)
	return n.(int)
}

func headersTo(target netip.Addr) int {
	if target.Is4() || target.Is4In6() {
		return ipv4Headers
	}
	return ipv6Headers
}

// neighbourWait is how long to wait for a neighbour to say its link address.
const neighbourWait = 3 * time.Second

// findDevice looks up who on the output device takes packets to the targets.
func (r *rawWay) findDevice() error {
	c := r.cp.c
	r.device = &send.Device{Name: c.OutputDevice, Direct: make(map[netip.Addr]net.HardwareAddr)}
	for _, t := range c.Targets() {
		hop, err := send.Resolve(c.OutputDevice, t.Addr(), neighbourWait)
		if err != nil {
			return err
		}
		r.device.Direct[t.Addr()] = hop
	}
	return nil
}

// config is the shards' part of the settings.
func (r *rawWay) config() shard.Raw {
	c := r.cp.c
	wall := time.Now()
	elapsed := time.Since(r.cp.origin)
	start := wall.Add(-elapsed)
	raw := shard.Raw{
		Clients: c.Clients, LocalhostAs: c.LocalhostAs, PortShift: c.PortShift,
		ISNAtZero: seqnum.Value(start.UnixMicro() / 4), TSAtZero: uint32(start.UnixMilli()),
		MaxSegment:     r.maxSegment,
		ConnectTimeout: c.ConnectTimeout, UserTimeout: c.SessionTimeout,
	}
	switch c.SYN {
	case config.SYNFull:
		raw.SYN = shard.SYNFull
	case config.SYNMinimal:
		raw.SYN = shard.SYNMinimal
	}
	raw.Congestion = congestion(c.Congestion)
	return raw
}

// congestion is which congestion control copies have. By default it is what this host's kernel uses, so that they
// go as fast as the host's own connections would; where we do not have that, it is CUBIC.
func congestion(c config.Congestion) uint8 {
	if c == config.AutoCongestion {
		name, err := sys.CongestionControl()
		if err != nil {
			name = "" // nothing is read where there is no /proc
		}
		c = config.Congestion(name)
	}
	switch c {
	case config.BBR:
		return tcp.BBR
	case config.Reno:
		return tcp.Reno
	default:
		return tcp.CUBIC
	}
}

// sender makes a shard's way out.
func (r *rawWay) sender() (sender, error) {
	cfg := send.Config{Mark: r.cp.c.Mark}
	var s *send.Sender
	var err error
	if r.device != nil {
		s, err = send.OnDevice(cfg, *r.device)
	} else {
		s, err = send.New(cfg)
	}
	if err != nil {
		return nil, err
	}
	r.senders = append(r.senders, s)
	return s, nil
}

// connect begins the links to the intercepts, and waits for them unless the user would rather not.
func (r *rawWay) connect(shards []*shardLoop) error {
	c := r.cp.c
	r.shards = shards
	cfg := r.cp.linkConfig()
	cfg.OnBatch, cfg.OnState, cfg.OnOwner, cfg.OnICMP = r.heard, r.changed, r.owned, r.narrower
	cfg.OnSought, cfg.OnRefused = r.sought, r.refused
	cfg.OnAnswers = r.found
	if c.Clients != nil {
		cfg.Clients = c.Clients.Prefixes()
	}
	r.group = link.NewGroup(r.cp.intercepts(), cfg)
	r.group.Start()
	if c.Lonely {
		return nil
	}
	if err := r.cp.untilStopped(r.group.WaitReady); err != nil {
		return err
	}
	return offers(r.group, wire.WayRaw)
}

// changed tells the shards whether the target's answers will be heard, and the intercept which
// connections are ours. Links change at the same time: how they stand is asked when the shard is told, so
// that what it was told last is true.
func (r *rawWay) changed(s link.State) {
	anew := r.tellsAnew(s)
	for _, l := range r.shards {
		l.call(func(sh *shard.Shard) {
			sh.SetLink(r.anyUp(), r.group.Slot())
			if anew {
				sh.SetReaders(r.readers())
			}
			if s.Up {
				r.group.Claim(wireTuples(sh.Tuples()))
			}
		})
	}
}

// tellsAnew says whether, with a link's new state, what its intercept has said of answers may be incomplete: a
// connection to it has come first, or has gone, with what was on its way.
func (r *rawWay) tellsAnew(s link.State) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conns == nil {
		r.conns = make(map[string]int)
	}
	before := r.conns[s.Intercept]
	r.conns[s.Intercept] = s.Conns
	return s.Conns < before || before == 0 || !s.Up
}

// readers is how many intercepts read answers: all that are up, or it is none.
func (r *rawWay) readers() (n int) {
	for _, l := range r.group.Links() {
		switch s := l.State(); {
		case s.Up && !s.Reads:
			return 0
		case s.Up:
			n++
		}
	}
	return n
}

// found deals what the intercepts have found of answers to the shards, after the segments that it is about.
func (r *rawWay) found(body []byte) error {
	var shares [maxShards]*report
	var f wire.Found
	for len(body) > 0 {
		var err error
		if body, err = wire.NextFound(body, &f); err != nil {
			return err
		}
		f.Data = bytes.Clone(f.Data)
		k := shard.Of(r.shift.ReplyPort(f.Tuple.Client.Port()), len(r.shards))
		if shares[k] == nil {
			shares[k] = r.reports.Get().(*report)
			shares[k].reset(r.free)
		}
		shares[k].found = append(shares[k].found, f)
		shares[k].last = shares[k].last || f.Kind == wire.FoundConfirmed
	}
	r.deal(&shares)
	return nil
}

// deal hands the shards what is theirs.
func (r *rawWay) deal(shares *[maxShards]*report) {
	for k, rep := range shares[:len(r.shards)] {
		if rep == nil {
			continue
		}
		select {
		case r.shards[k].reported <- rep:
		case <-r.shards[k].ended:
		}
	}
}

func (r *rawWay) anyUp() bool {
	for _, l := range r.group.Links() {
		if l.State().Up {
			return true
		}
	}
	return false
}

// loopOf is the shard that a tuple's connection belongs to.
func (r *rawWay) loopOf(client netip.AddrPort) *shardLoop {
	return r.shards[shard.Of(r.shift.ReplyPort(client.Port()), len(r.shards))]
}

// heard deals the target's segments to the shards. The batch is the link's again when it returns.
func (r *rawWay) heard(b *link.Batch) {
	var shares [maxShards]*report
	for i := range b.Segments {
		seg := &b.Segments[i]
		k := shard.Of(r.shift.ReplyPort(seg.Dst.Port()), len(r.shards))
		if shares[k] == nil {
			shares[k] = r.reports.Get().(*report)
			shares[k].reset(r.free)
		}
		shares[k].segs = append(shares[k].segs, *seg)
	}
	r.deal(&shares)
}

func (r *rawWay) free(rep *report) { r.reports.Put(rep) }

// owned passes on that no other copier owns a connection which answered our SYN; we ourselves may, since
// we sought it and heard that answer.
func (r *rawWay) owned(t wire.Tuple, o wire.Ownership) {
	if o != wire.Nobody && o != wire.You {
		return
	}
	l := r.loopOf(t.Client)
	select {
	case l.freed <- shard.TupleOf(t.Client, t.Target):
	case <-l.ended:
	}
}

// sought passes on whether a tuple may be opened, or is another copier's.
func (r *rawWay) sought(t wire.Tuple, free bool) {
	l, tuple := r.loopOf(t.Client), shard.TupleOf(t.Client, t.Target)
	if !free {
		l.call(func(sh *shard.Shard) { sh.Taken(tuple) })
		return
	}
	select {
	case l.free <- tuple:
	case <-l.ended:
	}
}

// refused passes on that tuples are another copier's.
func (r *rawWay) refused(tuples []wire.Tuple) {
	for _, t := range tuples {
		r.sought(t, false)
	}
}

// narrower passes on that a path takes smaller packets only.
func (r *rawWay) narrower(m wire.ICMP) {
	if m.Kind != packet.FragNeeded && m.Kind != packet.PacketTooBig {
		return
	}
	payload := int(m.MTU) - headersTo(m.Tuple.Target.Addr())
	r.loopOf(m.Tuple.Client).call(func(sh *shard.Shard) {
		sh.SetPathMTU(shard.TupleOf(m.Tuple.Client, m.Tuple.Target), payload)
	})
}

// ask puts the shards' questions to the intercepts.
func (r *rawWay) ask(tuples []shard.Tuple) {
	for _, t := range wireTuples(tuples) {
		r.group.Query(t)
	}
}

// hurry tells the intercepts that copies are behind, now and then.
func (r *rawWay) hurry(now mono.Time) {
	last := r.hurried.Load()
	if last != 0 && now.Sub(mono.Time(last)) < wire.HurryFor/2 || !r.hurried.CompareAndSwap(last, int64(now)) {
		return
	}
	r.group.Hurry()
}

func wireTuples(tuples []shard.Tuple) []wire.Tuple {
	out := make([]wire.Tuple, len(tuples))
	for i, t := range tuples {
		out[i] = wireTuple(t)
	}
	return out
}

func wireTuple(t shard.Tuple) wire.Tuple { return wire.Tuple{Client: t.Client(), Target: t.Server()} }

// pathMTU is the payload bound that the kernel knows of now for the path to a target.
func (r *rawWay) pathMTU(target netip.Addr) (payload int, ok bool) {
	mtu, err := send.PathMTU(target, r.mark)
	if err != nil {
		return 0, false
	}
	return mtu - headersTo(target), true
}

// fill adds what the shards do not count.
func (r *rawWay) fill(s *export.Snapshot) {
	for _, snd := range r.senders {
		st := snd.Stats()
		s.Counters.SendErrors += st.TooBig + st.Forbidden + st.QueueFull + st.NoRoute + st.Impossible
	}
	if r.group != nil {
		fillLinks(s, r.group)
	}
}

func (r *rawWay) close() {
	if r.group != nil {
		r.group.Close()
	}
	for _, s := range r.senders {
		s.Close()
	}
	if r.exempt != nil {
		r.exempt.Close()
	}
}
