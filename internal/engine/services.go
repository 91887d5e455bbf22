package engine

import (
	"net/netip"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/gate"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/known"
)

// services returns the services of one shard, which learns for itself.
func services(c *config.Copy, shards int, now mono.Time) []*shard.Service {
	list := make([]*shard.Service, len(c.Mappings))
	for i := range c.Mappings {
		list[i] = &shard.Service{Since: now}
		configure(list[i], c, i, shards)
	}
	return list
}

// configure sets a service as configured for the i-th mapping. Bounds are divided among the shards.
func configure(s *shard.Service, c *config.Copy, i, shards int) {
	m, targets := c.Of(i), c.Mappings[i].Targets
	// Sessions keep the session.Service that they began with.
	of := &session.Service{
		Hold: m.HoldTarget, WholeOnly: m.WholeSessions, MaxBytes: sessionBytes(&m, c, shards),
		Idle: m.KeepaliveTimeout, Stall: m.SessionTimeout, Production: c.AnswersWhole(),
		OldOnly: c.Compare.OldOnly,
	}
	of.Protocols, of.Certain = protocols(&m)
	if c.Replay != nil {
		of.HoleGrace = replayGrace
	}
	how := gate.Config{Mode: modes[m.Wait], Limit: m.GateLimit, RTO: assumedRTO(m.RTT)}
	if s.Session != nil && s.How == how {
		of.Gate = s.Session.Gate // and what it has learned
	} else {
		of.Gate = gate.NewService(how)
	}
	s.Session, s.How = of, how
	balanced := balance.Config{Method: m.Balance, Health: m.Checked()}
	if s.Targets == nil {
		s.Targets = balance.NewGroup(balanced, targets)
	} else {
		s.Targets.Set(balanced, targets)
	}
	old := []mapping.Target{{Addr: c.OldVersion(i), Weight: 1}}
	switch s.Opposed = old[0].Addr.IsValid(); {
	case !s.Opposed:
	case s.Baseline == nil:
		s.Baseline = balance.NewGroup(balance.Config{Method: balance.All}, old)
	default:
		s.Baseline.Set(balance.Config{Method: balance.All}, old)
	}
	s.Copies, s.Stagger = m.Copies, m.Stagger
	s.Sample, s.SampleClients, s.Ramp = m.SamplePercent/100, m.SampleBy == config.ByClient, m.Ramp
	s.Only, s.Except = m.Only, m.Except
	s.MaxRate = m.MaxRate / float64(shards)
	s.MaxBandwidth = m.MaxMbps * 1e6 / 8 / float64(shards)
	s.Closed = false
}

// sessionBytes returns the bound on the bytes of a session of m. One session alone may take half of
// what its shard has: a connection that carries many clients' requests holds as much as they did
// with connections of their own.
func sessionBytes(m *config.Mapped, c *config.Copy, shards int) int {
	if m.SessionMemory > 0 {
		return int(m.SessionMemory)
	}
	return int(c.Memory / int64(2*shards))
}

// protocols returns the protocols that a mapping's connections may speak. certain reports that all
// of them speak the only one.
func protocols(m *config.Mapped) (list []proto.Protocol, certain bool) {
	if m.Proto == config.ProtoAuto {
		return known.Auto(), false
	}
	if p := known.Named(string(m.Proto)); p != nil {
		return []proto.Protocol{p.With(m.Protocols.Of(p))}, true
	}
	return nil, false
}

var modes = map[config.Wait]gate.Mode{
	config.WaitAuto: gate.Auto, config.WaitBytes: gate.Bytes, config.WaitQuiet: gate.Quiet,
	config.WaitNone: gate.None,
}

// assumedRTO returns the retransmission time-out of a target whose round-trip time is rtt (RFC 6298
// §2.2, with Linux's minimum); 0 if rtt is.
func assumedRTO(rtt time.Duration) time.Duration {
	if rtt == 0 {
		return 0
	}
	return max(3*rtt, 200*time.Millisecond)
}

// targets returns the account of the targets, summed over the shards.
func (cp *copier) targets() []export.TargetState {
	var all []export.TargetState
	type place struct {
		service int
		addr    netip.AddrPort
	}
	at := make(map[place]int)
	for _, l := range cp.shards {
		for _, t := range l.targets() {
			i, ok := at[place{t.Service, t.Addr}]
			if !ok {
				i = len(all)
				at[place{t.Service, t.Addr}] = i
				all = append(all, export.TargetState{
					Production: cp.maps[t.Service].ProductionString(), Target: t.Addr.String(),
					Weight: t.Weight,
				})
			}
			all[i].Shards++
			if t.Out {
				all[i].OutOf++
			}
			all[i].Count.Add(&t.Count)
		}
	}
	return all
}
