// Package localroute keeps a target's answers to copied connections on the target. tcpcopy opens
// these connections there from clients' own addresses, and the host would else send the answers
// over the network.
//
// There are two variants. The less intrusive one is used where it serves.
//
// Loopback: the server answers on loopback too. Connections go there. A routing rule sends what
// comes from that address and the server's port to a table in which every address is local. The
// address is 127.124.0.1, which nobody else uses, or 127.0.0.1 for a server that listens on that
// alone. No other packet for elsewhere comes from there, unless a firewall forwards clients to
// 127.0.0.1, which takes route_localnet. Where that is on, such a server takes the mark.
//
// Mark: the server listens on one address only. Connections are marked. Three sysctls make the
// server's side carry the mark, and a rule sends what has it to the same table. The sysctls
// concern every marked packet of the host.
//
// Every change is in a plan, which is data, and in a journal before it is made. Leave reverts
// what is still ours, and so does the next run if this one is killed. The package speaks netlink
// and needs no tools. It opens no connections: package ontarget does, and asks here where to. The
// command makes the Host. Calls act on the network namespace of the calling thread, unless
// Config.Do says otherwise.
//
// Read localroute.go first, then plan.go (the changes) and reach.go (which variant).
package localroute

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"tcpcopy/internal/sys"
)

// Reach is the choice of variants.
type Reach uint8

// The choices.
const (
	Least        Reach = iota // loopback where it serves, else the mark
	LoopbackOnly              // never the mark: no sysctl is touched
	MarkOnly                  // the server sees its own address, not loopback, as the local end
)

// Config is what a Host needs. The zero value is usable.
type Config struct {
	Ports []uint16 // of the servers that copies go to; empty: any
	// Loopback are ports whose server may be reached although it listens on loopback alone.
	Loopback []uint16
	Reach    Reach
	// Dir is the journal's directory; empty: /run/tcpcopy, or one below /tmp without permission
	// for that.
	Dir string
	Do  func(func() error) error // runs its argument in the target's network namespace; nil: here
}

func (c *Config) do(f func() error) error {
	if c.Do == nil {
		return f()
	}
	return c.Do(f)
}

const (
	// surveyEvery is how long a list of the host's servers is used.
	surveyEvery = time.Second
	// markEvery is how long after a failure the mark variant is tried again.
	markEvery = 10 * time.Second
)

// Host is the target's host with its routing prepared. Its methods are safe from any goroutine.
type Host struct {
	cfg Config

	mu      sync.Mutex
	journal *journal
	plan    Plan
	found   *survey
	servers []tcpSocket
	own     map[netip.Addr]bool // this host's addresses
	casts   map[netip.Addr]bool // its networks' broadcast addresses
	seen    time.Time           // when these were read

	// outer are the addresses of the process's own namespace, if that is another one.
	outer          map[netip.Addr]bool
	containers     []netip.Prefix // the networks of containers, in both namespaces
	containersSeen time.Time

	left bool

	markFailed error     // why the mark variant could not be set up
	markTried  time.Time // when

	// Recovered are the changes of a killed run that were reverted, as commands.

	Recovered []string
}

// Stand prepares the host. It first reverts the changes of a killed run. On failure nothing is
// changed.
func Stand(cfg Config) (*Host, error) {
	h := &Host{cfg: cfg}
	if err := cfg.do(h.stand); err != nil {
		return nil, explain("prepare target", err)
	}
	return h, nil
}

// explain adds what was tried, and the capability that is missing, if one is.
func explain(op string, err error) error {
	if errors.Is(err, syscall.EPERM) {
		return &sys.CapabilityError{Op: op, Need: sys.CapNetAdmin, Err: err}
	}
	return fmt.Errorf("%s: %w", op, err)
}

func (h *Host) stand() (err error) {
	if h.journal, err = openJournal(h.cfg.Dir); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			h.journal.close()
		}
	}()
	if h.Recovered, err = h.restore(); err != nil {
		return fmt.Errorf("revert the changes of an earlier run: %w", err)
	}
	if h.plan, h.found, err = draft(&h.cfg); err != nil {
		return err
	}
	h.journal.Mark, h.journal.Ports = h.plan.Mark, h.cfg.Ports
	if err := h.apply(h.plan.Changes); err != nil {
		_, undo := h.restore()
		return errors.Join(err, undo)
	}
	return nil
}

// Draft returns the plan that Stand would carry out now. It changes nothing.
func Draft(cfg Config) (plan Plan, err error) {
	err = cfg.do(func() error {
		plan, _, err = draft(&cfg)
		return err
	})
	if err != nil {
		err = fmt.Errorf("plan: %w", err)
	}
	return plan, err
}

func draft(cfg *Config) (Plan, *survey, error) {
	k, err := openKernel()
	if err != nil {
		return Plan{}, nil, err
	}
	defer k.close()
	s, err := look(k)
	if err != nil {
		return Plan{}, nil, err
	}
	servers, err := listeners()
	if err != nil {
		return Plan{}, nil, err
	}
	p, err := choose(cfg, s, servers)
	return p, s, err
}

// choose makes the plan from what was found. It has the mark variant only if a server needs it.
func choose(cfg *Config, s *survey, servers []tcpSocket) (p Plan, err error) {
	if p.Table, err = chooseTable(s.tables); err != nil {
		return p, err
	}
	if p.Priority, err = choosePriority(s.rules); err != nil {
		return p, err
	}
	p.Changes = tableChanges(p.Table, true, s.ipv6)
	p.Changes = append(p.Changes, loopbackChanges(p.Table, p.Priority,
		ownLoopback(netip.IPv4Unspecified()), cfg.Ports)...)
	if s.ipv6 {
		p.Changes = append(p.Changes, loopbackChanges(p.Table, p.Priority, netip.IPv6Loopback(),
			cfg.Ports)...)
	}
	p.Loopback = true
	marked := cfg.Reach == MarkOnly
	for i := range servers {
		sv := &servers[i]
		if len(cfg.Ports) == 0 || !slices.Contains(cfg.Ports, sv.local.Port()) {
			continue
		}
		target := sv.local
		if target.Addr().IsUnspecified() || target.Addr().IsLoopback() && !alone(servers, target) {
			continue // loopback serves, or another server is in its way, which Way will find
		}
		w, err := chooseWay(servers, target, cfg.Reach, s.redirects != "")
		if err != nil {
			p.Warnings = append(p.Warnings, err.Error())
			continue
		}
		if w.private && !slices.Contains(cfg.Loopback, target.Port()) {
			p.Warnings = append(p.Warnings, fmt.Sprintf("the server on %s listens on loopback "+
				"alone, and is not reached: wanted --allow loopback:%d if it is to be", target,
				target.Port()))
			continue
		}
		marked = marked || w.marked
		if more, err := p.cover(w, cfg.Ports); err != nil {
			p.Warnings = append(p.Warnings, err.Error())
		} else if len(more) > 0 {
			p.Changes = append(p.Changes, more...)
			if s.redirects != "" && target.Addr().Is4() {
				p.Warnings = append(p.Warnings, fmt.Sprintf(
					"%s=1, and the server on %s is reached by a rule about that address: "+
						"where a firewall of this host sends a port's clients on to it, they get "+
						"no answer while the intercept runs; --reach auto keeps their answers",
					s.redirects, target))
			}
		}
	}
	if marked {
		return p, p.addMark(s)
	}
	return p, nil
}

// alone reports whether a server on the usual loopback address is the only one on its port.
func alone(servers []tcpSocket, at netip.AddrPort) bool {
	return at.Addr() == loopbackOf(at.Addr()) &&
		!slices.ContainsFunc(servers, func(s tcpSocket) bool {
			return s.local.Port() == at.Port() && !s.local.Addr().IsLoopback()
		})
}

// cover returns the rules that a way over loopback still needs.
func (p *Plan) cover(w way, ports []uint16) ([]Change, error) {
	to := w.dest.Addr()
	if w.marked || !to.IsLoopback() {
		return nil, nil
	}
	have := p.loopbacks()
	switch {
	case slices.Contains(have, to):
		return nil, nil
	case len(have) >= maxLoopbacks:
		return nil, &Unreachable{w.dest, fmt.Sprintf(
			"servers on %d loopback addresses are reached already", len(have))}
	}
	return loopbackChanges(p.Table, p.Priority, to, ports), nil
}

// addMark adds the mark variant to the plan.
func (p *Plan) addMark(s *survey) (err error) {
	if p.Mark, err = chooseMark(s.marks); err != nil {
		return err
	}
	p.Changes = append(p.Changes, markChanges(p.Table, p.Priority, p.Mark, true, s.ipv6,
		s.sysctls)...)
	p.Marked = true
	if len(s.legacy) > 0 {
		p.Warnings = append(p.Warnings, fmt.Sprintf(
			"rules of iptables' older kind are in use here, and their marks cannot be read: "+
				"wanted none about mark %#x among those that '%s -S' lists",
			p.Mark, strings.Join(s.legacy, " -S' and '")))
	}
	for _, u := range s.marks {
		p.Warnings = append(p.Warnings, fmt.Sprintf(
			"%s uses mark %#x/%#x: while the intercept runs, accepted connections of this host "+
				"carry the mark that their SYN had",
			u.where, u.mark, u.mask))
		if len(p.Warnings) >= 8 {
			break
		}
	}
	return nil
}

// apply writes each change to the journal, and then makes it.
func (h *Host) apply(changes []Change) error {
	k, err := openKernel()
	if err != nil {
		return err
	}
	defer k.close()
	for i := range changes {
		h.journal.Changes = append(h.journal.Changes, changes[i])
		if err := h.journal.write(); err != nil {
			h.journal.Changes = h.journal.Changes[:len(h.journal.Changes)-1]
			return err
		}
		if err := k.apply(&changes[i]); err != nil {
			// The kernel has refused it: there is nothing to revert.
			if errno := syscall.Errno(0); errors.As(err, &errno) {
				h.journal.Changes = h.journal.Changes[:len(h.journal.Changes)-1]
			}
			return err
		}
	}
	return nil
}

// restore closes what is left of connections and reverts the journal's changes, the last one
// first. It returns what it did, as commands.
func (h *Host) restore() (done []string, err error) {
	j := h.journal
	if len(j.Changes) == 0 {
		return nil, j.remove()
	}
	n, err := destroyOurs(j.match())
	if n > 0 {
		done = append(done, fmt.Sprintf("close %d sockets of connections from clients' addresses",
			n))
	}
	if err != nil {
		return done, err
	}
	undone, err := h.undo(0)
	done = append(done, undone...)
	if err != nil {
		return done, err
	}
	return done, j.remove()
}

// undo reverts the journal's changes from number first on, the last one first. They stay in the
// journal. It returns what it did, as commands.
func (h *Host) undo(first int) (done []string, failed error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	defer k.close()
	for i := len(h.journal.Changes) - 1; i >= first; i-- {
		c := &h.journal.Changes[i]
		gone, err := k.revert(c)
		failed = errors.Join(failed, err)
		if err == nil && !gone {
			done = append(done, c.Undo())
		}
	}
	return done, failed
}

// match returns a function that reports whether a socket is of a copied connection, at either
// end: it has the mark, or one end is an address that a rule is about and the other is none of
// this host's.
func (j *journal) match() func(*tcpSocket) bool {
	mark := j.Mark
	own, _ := addresses()
	served := func(server netip.AddrPort) bool {
		for i := range j.Changes {
			if c := &j.Changes[i]; c.Kind == Rule && c.From.IsValid() &&
				c.From.Contains(server.Addr()) && (c.Port == 0 || c.Port == server.Port()) {
				return true
			}
		}
		return false
	}
	return func(s *tcpSocket) bool {
		if mark != 0 && s.mark == mark {
			return true
		}
		server, client := s.local, s.remote
		if !server.Addr().IsLoopback() {
			server, client = client, server
		}
		return served(server) && !client.Addr().IsLoopback() && !client.Addr().IsUnspecified() &&
			!own[client.Addr()]
	}
}

// Plan returns the changes that are in force.
func (h *Host) Plan() Plan {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.plan
	p.Changes = slices.Clone(p.Changes)
	return p
}

// Way returns where to connect, and with which mark (0: none), so that the server of target
// answers here. The target must be an address of this host. If the server needs the mark variant,
// Way sets it up. An error is an *Unreachable, the kernel's, or ErrPrivate, for which nothing is
// set up.
func (h *Host) Way(target netip.AddrPort) (dest netip.AddrPort, mark uint32, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.refresh(); err != nil {
		return dest, 0, err
	}
	if target.Addr().Is6() && !h.found.ipv6 {
		return dest, 0, &Unreachable{target,
			"IPv6 was switched off on this host's lo when the intercept started"}
	}
	w, err := chooseWay(h.servers, target, h.cfg.Reach, h.found.redirects != "")
	if err != nil {
		return dest, 0, err
	}
	if w.private && !slices.Contains(h.cfg.Loopback, target.Port()) {
		return dest, 0, fmt.Errorf("reach %s: %w", target, ErrPrivate)
	}
	if !w.marked {
		return w.dest, 0, h.reach(w)
	}
	if !h.plan.Marked && !h.left {
		if now := time.Now(); now.Sub(h.markTried) >= markEvery {
			h.markTried, h.markFailed = now, h.cfg.do(h.mark)
		}
		if h.markFailed != nil {
			return dest, 0, fmt.Errorf("reach %s: %w", target, h.markFailed)
		}
	}
	return w.dest, h.plan.Mark, nil
}

// reach adds the rules for a server that listens on a loopback address alone, if they are
// missing. The lock is held.
func (h *Host) reach(w way) error {
	more, err := h.plan.cover(w, h.cfg.Ports)
	if err != nil || len(more) == 0 || h.left {
		return err
	}
	journaled := len(h.journal.Changes)
	err = h.cfg.do(func() error {
		err := h.apply(more)
		if err == nil {
			return nil
		}
		_, kept := h.undo(journaled)
		if kept == nil {
			h.journal.Changes = h.journal.Changes[:journaled]
			kept = h.journal.write()
		}
		return errors.Join(err, kept)
	})
	if err != nil {
		return fmt.Errorf("reach %s: %w", w.dest, err)
	}
	h.plan.Changes = append(h.plan.Changes, more...)
	return nil
}

// refresh reads servers and addresses again, if they are too old. The lock is held.
func (h *Host) refresh() error {
	now := time.Now()
	if now.Sub(h.seen) < surveyEvery {
		return nil
	}
	again := now.Sub(h.containersSeen) >= containersEvery
	if again {
		h.containers, h.containersSeen = nil, now
	}
	if h.cfg.Do != nil {
		h.outer, _ = addresses()
		if again {
			h.containers = containerNetworks()
		}
	}
	return h.cfg.do(func() error {
		servers, err := listeners()
		if err != nil {
			return err
		}
		h.servers, h.seen = servers, now
		h.own, h.casts = addresses()
		if again {
			h.containers = append(h.containers, containerNetworks()...)
		}
		return nil
	})
}

// Free lets a connection from a client's address to dest, which Way has returned, follow at once
// on one with the same ends that has ended.
func (h *Host) Free(client, dest netip.AddrPort) error {
	return h.cfg.do(func() error {
		d, err := openDiag()
		if err != nil {
			return err
		}
		defer d.close()
		return d.free(client, dest)
	})
}

// Owns reports whether an address is this host's: a loopback address, or one of an interface.
func (h *Host) Owns(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.refresh() // on failure the last addresses are used
	return a.IsLoopback() || h.own[a]
}

// Client reports whether connections can come from an address: not from this host's own and those
// of its containers, which its server may trust, and not from loopback, zero, broadcast, multicast
// or link-local addresses.
func (h *Host) Client(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	if !a.IsValid() || a.Is4() && a.As4()[0] == 0 || a.IsLoopback() || a.IsUnspecified() ||
		a.IsMulticast() || a.IsLinkLocalUnicast() && a.Is6() || a == broadcast {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_ = h.refresh()
	return !h.own[a] && !h.casts[a] && !h.outer[a] && !h.contained(a)
}

// mark adds the mark variant to the loopback variant. On failure nothing of it remains.
func (h *Host) mark() error {
	k, err := openKernel()
	if err != nil {
		return err
	}
	defer k.close()
	found, err := look(k) // the last look may be old
	if err != nil {
		return err
	}
	plan, before, journaled := h.plan, len(h.plan.Changes), len(h.journal.Changes)
	if err := plan.addMark(found); err != nil {
		return err
	}
	h.journal.Mark = plan.Mark
	if err := h.apply(plan.Changes[before:]); err != nil {
		_, kept := h.undo(journaled)
		if kept == nil {
			h.journal.Mark, h.journal.Changes = h.plan.Mark, h.journal.Changes[:journaled]
			kept = h.journal.write()
		}
		return errors.Join(err, kept)
	}
	h.plan = plan
	return nil
}

// Leave reverts all changes. The caller has closed its sockets before.
func (h *Host) Leave() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left {
		return nil
	}
	h.left = true
	defer h.journal.close()
	err := h.cfg.do(func() error {
		_, err := h.restore()
		return err
	})
	if err != nil {
		return explain("restore target", err)
	}
	return nil
}

// Cleanup reverts the changes of killed runs of all users, and nothing else. It returns what it
// did, as commands.
func Cleanup(cfg Config) (done []string, err error) {
	h := &Host{cfg: cfg}
	err = cfg.do(func() (err error) {
		if h.journal, err = openJournal(cfg.Dir); err != nil {
			return err
		}
		defer h.journal.close()
		if done, err = h.restore(); err != nil || cfg.Dir != "" {
			return err
		}
		more, err := h.cleanPlaces(filepath.Dir(h.journal.path))
		done = append(done, more...)
		return err
	})
	if err != nil {
		return done, explain("clean up target", err)
	}
	return done, nil
}
