package collect

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/google/nftables"

	"tcpcopy/internal/doctor"
)

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

var (
	inHooks  = []*nftables.ChainHook{nftables.ChainHookPrerouting, nftables.ChainHookInput}
	outHooks = []*nftables.ChainHook{nftables.ChainHookOutput, nftables.ChainHookPostrouting}
)

// verdicts asks what the firewall of this host does with the packets of the copies.
func (c *collector) verdicts() {
	now := readRules()
	if c.Role == doctor.Copier {
		for i := range c.facts.Targets {
			if c.Via == "tunnel" {
				break
			}
			c.toTarget(&now, &c.facts.Targets[i])
		}
		for _, a := range c.Intercepts {
			r := route(a.Addr())
			c.there(&now, a, r, r.Source)
		}
	}
	for _, port := range c.Listens {
		c.arriving(&now, port, netip.Addr{}, "")
	}
	if c.Role != doctor.Target || c.Via == "tunnel" {
		return
	}
	for _, port := range c.Ports {
		c.translated(&now, port)
		for _, p := range c.facts.ReturnRoutes {
			c.arriving(&now, port, p.Client, p.Arrives)
			c.leaving(&now, port, &p)
		}
		if len(c.facts.ReturnRoutes) == 0 {
			c.arriving(&now, port, netip.Addr{}, "")
		}
	}
}

// translated notes whether connections to a port are passed on to another address, as to a
// container.
func (c *collector) translated(now *ruleset, port uint16) {
	for _, v6 := range []bool{false, true} {
		if rule := now.translates(&probe{dport: port, state: stateNew, v6: v6}); rule != "" {
			if c.facts.Translated == nil {
				c.facts.Translated = map[uint16]string{}
			}
			c.facts.Translated[port] = rule
		}
	}
}

// toTarget asks about the packets to a target and, of ordinary connections, about its answers.
func (c *collector) toTarget(now *ruleset, t *doctor.TargetFacts) {
	if t.Route.Err != "" {
		return
	}
	if c.Via == "socket" {
		c.there(now, t.Addr, t.Route, t.Route.Source)
		return
	}
	// Packets of raw have the clients' addresses and our mark, and are not tracked.
	p := probe{
		dst: t.Addr.Addr(), dport: t.Addr.Port(), out: t.Route.Device, mark: c.Mark,
		state: stateUntracked, v6: t.Addr.Addr().Is6(),
	}
	match := fmt.Sprintf("%s daddr %s tcp dport %d", family(t.Addr.Addr()), t.Addr.Addr(),
		t.Addr.Port())
	c.ask(now, &p, t.Addr.String(), "output", match, outHooks)
}

// there asks about an ordinary connection of this host: its packets, and the answers.
func (c *collector) there(now *ruleset, to netip.AddrPort, r doctor.Route, from netip.Addr) {
	about := to.String()
	v6 := to.Addr().Is6()
	out := probe{
		src: from, dst: to.Addr(), dport: to.Port(), out: r.Device, state: stateNew, v6: v6,
	}
	c.ask(now, &out, about, "output",
		fmt.Sprintf("%s daddr %s tcp dport %d", family(to.Addr()), to.Addr(), to.Port()), outHooks)
	in := probe{
		src: to.Addr(), dst: from, sport: to.Port(), in: r.Device, state: stateEstablished,
		answer: true,
		v6:     v6,
	}
	c.ask(now, &in, about, "input",
		fmt.Sprintf("%s saddr %s tcp sport %d", family(to.Addr()), to.Addr(), to.Port()), inHooks)
}

// arriving asks about the first packet of a connection to a port of this host.
func (c *collector) arriving(now *ruleset, port uint16, client netip.Addr, device string) {
	p := probe{src: client, dport: port, in: device, state: stateNew, v6: client.Is6()}
	about := fmt.Sprintf("port %d", port)
	if client.IsValid() {
		about = client.String()
	}
	c.ask(now, &p, about, "input", fmt.Sprintf("tcp dport %d", port), inHooks)
}

// leaving asks about a server's answer to a client.
func (c *collector) leaving(now *ruleset, port uint16, to *doctor.ReturnPath) {
	p := probe{
		dst: to.Client, sport: port, out: to.Route.Device, state: stateEstablished, answer: true,
		v6: to.Client.Is6(),
	}
	c.ask(now, &p, to.Client.String(), "output", fmt.Sprintf("tcp sport %d", port), outHooks)
}

// ask adds the firewall's verdict on a packet. match is what a rule needs to accept such packets.
func (c *collector) ask(
	now *ruleset, p *probe, about, hook, match string, hooks []*nftables.ChainHook,
) {
	f := now.judge(p, &c.before, hooks...)
	v := doctor.Verdict{About: about, Hook: hook, Action: f.action, Hits: f.hits, Err: f.why}
	switch {
	case f.action == "accept" && now.err != "":
		v.Action, v.Err = "unknown", now.err
	case f.action == "drop" || f.action == "reject":
		v.Rule = f.chain.words() + ", the chain's policy"
		v.Accept = fmt.Sprintf("nft add rule %s %s accept", f.chain.words(), match)
		if f.handle != 0 {
			v.Rule = fmt.Sprintf("%s, handle %d", f.chain.words(), f.handle)
			v.Accept = fmt.Sprintf("nft insert rule %s position %d %s accept", f.chain.words(),
				f.handle,
				match)
		}
	}
	c.facts.Firewall = append(c.facts.Firewall, v)
}

// family returns the word of nft for an address's family.
func family(a netip.Addr) string {
	if a.Is6() {
		return "ip6"
	}
	return "ip"
}
