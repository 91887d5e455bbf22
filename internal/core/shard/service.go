package shard

import (
	"net/netip"
	"slices"
	"time"

	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/gate"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
)

// Service is what a shard does with the traffic of one mapping. The shard owns it; Configure
// changes it.
type Service struct {
	Session *session.Service
	How     gate.Config // the configuration of Session.Gate
	Targets *balance.Group
	// Baseline is the old version, which gets one copy of each session, with an account of its own,
	// if Opposed is set. It stays for the sessions that have one.
	Baseline *balance.Group
	Opposed  bool

	// Copies is how many copies each session gets, 1 or more; 2.5 means two for each session and a
	// third one for half of them. With balance.All each target gets that many.
	Copies float64
	// Stagger delays each further copy by that much against the copy before.
	Stagger time.Duration
	// Sample is the share of the sessions to copy, 0 to 1. Ramp is the time from Since over which
	// the share grows from 0. SampleClients samples clients by their address instead of
	// connections.
	Sample        float64
	SampleClients bool
	Ramp          time.Duration
	Since         mono.Time
	// Only are the networks of the clients to copy; empty: all. Except are those to leave out.
	Only, Except []netip.Prefix
	// MaxRate bounds the copies that begin, in sessions a second; MaxBandwidth bounds what clients
	// send, in bytes a second. Both are for this shard, and each copy counts. 0: no bound.
	MaxRate, MaxBandwidth float64
	// Closed: a reload has removed the mapping. Its sessions go on, and no other begins.
	Closed bool

	answers   bool // production's segments are captured
	lanes     map[*balance.Target]*lane
	rate      bucket
	bandwidth bucket
}

// The salts make independent choices of one hash of a connection.
const (
	saltSample = 1
	saltCopies = 2
)

// copies returns how many copies of a connection each target gets.
func (s *Service) copies(key *Tuple) int {
	whole := int(s.Copies)
	part := s.Copies - float64(whole)
	if part > 0 && balance.Share(key.stable(), saltCopies) < part {
		whole++
	}
	return max(whole, 1)
}

// leftOut returns why the user's settings leave a connection out, or None. The choice is the same
// in every process: every packet of a connection, and every copier that sees it, gets the same
// result.
func (s *Service) leftOut(now mono.Time, key *Tuple) ledger.Reason {
	if len(s.Only)+len(s.Except) > 0 {
		a := key.Client().Addr()
		has := func(p netip.Prefix) bool { return p.Contains(a) }
		if len(s.Only) > 0 && !slices.ContainsFunc(s.Only, has) ||
			slices.ContainsFunc(s.Except, has) {
			return ledger.Filtered
		}
	}
	share := s.Sample
	if s.Ramp > 0 {
		share *= min(1, float64(now.Sub(s.Since))/float64(s.Ramp))
	}
	if !Sampled(key.Client(), key.Server(), s.SampleClients, share) {
		return ledger.SampledOut
	}
	return ledger.None
}

// Sampled reports whether a connection is among a share (0 to 1) of all connections; with clients,
// whether its client is among that share of all clients. The choice is the same in every process,
// and a larger share includes every smaller one.
func Sampled(client, production netip.AddrPort, clients bool, share float64) bool {
	if share >= 1 {
		return true
	}
	hash := balance.HashConnection(client, production, 0)
	if clients {
		hash = balance.HashClient(client.Addr())
	}
	return balance.Share(hash, saltSample) < share
}

// Configure changes the i-th service by f; where i is the number of services, f gets a new one.
// Sessions that exist go on.
func (sh *Shard) Configure(i int, f func(*Service)) {
	if i == len(sh.cfg.Services) {
		sh.cfg.Services = append(sh.cfg.Services, &Service{})
	}
	f(sh.cfg.Services[i])
	sh.cfg.Services[i].limit(sh.now)
	sh.cfg.Services[i].forgetLanes(sh)
}

// limit sets the bounds as configured.
func (s *Service) limit(now mono.Time) {
	s.rate.set(now, s.MaxRate, max(s.MaxRate/10, 1))
	s.bandwidth.set(now, s.MaxBandwidth, s.MaxBandwidth)
}

// TargetCount is the account of one target of a service.
type TargetCount struct {
	Service int
	Addr    netip.AddrPort
	Weight  int
	Out     bool // out of use, because it does not answer
	Count   ledger.Target
}

// Targets returns the account of the targets of every service, except those that were removed.
func (sh *Shard) Targets() []TargetCount {
	var all []TargetCount
	for i, s := range sh.cfg.Services {
		if s.Closed {
			continue
		}
		for _, t := range s.Targets.Targets() {
			all = append(all, TargetCount{i, t.Addr, t.Weight, s.Targets.Out(t), t.Count})
		}
	}
	return all
}
