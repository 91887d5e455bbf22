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

// Service is what a shard does with the traffic of one mapping. It is the shard's own; Configure changes
// it.
type Service struct {
	Session *session.Service
	How     gate.Config // what Session.Gate was made of
	Targets *balance.Group

	// Copies is how many copies of each session there are, 1 or more; of 2.5 two, and a third of every
	// other session. With balance.All each target gets so many.
	Copies float64
	// Stagger is how much later each further copy lives all that the one before lives.
	Stagger time.Duration
	// Sample is the share of the sessions to copy, 0 to 1, and Ramp the time from Since over which it
	// grows from nothing. SampleClients chooses clients by their address, and not connections.
	Sample        float64
	SampleClients bool
	Ramp          time.Duration
	Since         mono.Time
	// Only are the networks of the clients to copy, empty: all; Except are those to leave out.
	Only, Except []netip.Prefix
	// MaxRate bounds the copies begun, in sessions a second, MaxBandwidth what clients send, in bytes a
	// second: of this shard, each copy by itself. 0: no bound.
	MaxRate, MaxBandwidth float64
	// Closed: the mapping is no more. Sessions that are there go on, and none begins.
	Closed bool

	rate      bucket
	bandwidth bucket
}

// salts of the choices that are made by one hash of a connection.
const (
	saltSample = 1
	saltCopies = 2
)

// copies is how many copies of a connection there are for each target.
func (s *Service) copies(key *Tuple) int {
	whole := int(s.Copies)
	part := s.Copies - float64(whole)
	if part > 0 && balance.Share(key.stable(), saltCopies) < part {
		whole++
	}
	return max(whole, 1)
}

// chosen says why the connection of a client is not to be copied, by what the user has said. The choice
// is the same in every process, so that every packet of a connection, and every copier that sees it, meets
// the same answer.
func (s *Service) chosen(now mono.Time, key *Tuple) ledger.Reason {
	if len(s.Only)+len(s.Except) > 0 {
		a := key.Client().Addr()
		has := func(p netip.Prefix) bool { return p.Contains(a) }
		if len(s.Only) > 0 && !slices.ContainsFunc(s.Only, has) || slices.ContainsFunc(s.Except, has) {
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

// Sampled says whether a connection is among the given share (0 to 1) of all, or its client of all clients: in
// every process the same ones, and of a larger share all that are among a smaller one.
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

// stable is the connection's hash that every process agrees on.
func (t *Tuple) stable() uint64 { return balance.HashConnection(t.Client(), t.Server(), 0) }

// Configure changes the i-th service by f, which gets a fresh one where i is the number of services so
// far. Sessions that are there go on.
func (sh *Shard) Configure(i int, f func(*Service)) {
	if i == len(sh.cfg.Services) {
		sh.cfg.Services = append(sh.cfg.Services, &Service{})
	}
	f(sh.cfg.Services[i])
	sh.cfg.Services[i].limit(sh.now)
}

// limit makes the bounds follow the settings.
func (s *Service) limit(now mono.Time) {
	s.rate.set(now, s.MaxRate, max(s.MaxRate/10, 1))
	s.bandwidth.set(now, s.MaxBandwidth, s.MaxBandwidth)
}

// TargetCount is what was counted of one target of a service.
type TargetCount struct {
	Service int
	Addr    netip.AddrPort
	Weight  int
	Out     bool // taken out for now
	Count   ledger.Target
}

// Targets returns what was counted of the targets of every service, but for those removed.
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
