package collect

import (
	"cmp"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/google/nftables"

	"tcpcopy/internal/doctor"
)

func itoa(n uint64) string { return strconv.FormatUint(n, 10) }

var (
	inHooks      = []*nftables.ChainHook{nftables.ChainHookPrerouting, nftables.ChainHookInput}
	forwardHooks = []*nftables.ChainHook{
		nftables.ChainHookForward, nftables.ChainHookPostrouting,
	}
	outHooks = []*nftables.ChainHook{nftables.ChainHookOutput, nftables.ChainHookPostrouting}
)

// verdicts asks what the firewall of this host does with the packets of the copies.
func (c *collector) verdicts() {
	now := readRules()
	if c.Role == doctor.Copier {
		for i := range c.Mappings {
			m := c.Mappings[i].Production
			c.passedOn(&now, m.Port(), m.Addr())
		}
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
	if c.Role != doctor.Target {
		return
	}
	for _, port := range c.Ports {
		c.passedOn(&now, port, netip.Addr{})
	}
	if c.Via == "tunnel" {
		c.locally(&now)
		return
	}
	for _, port := range c.Ports {
		for _, p := range c.facts.ReturnRoutes {
			on := c.translation(port, p.Client)
			if on != nil && !on.Local {
				c.forwarded(&now, on, &p)
				continue
			}
			at := port
			if on != nil {
				at = cmp.Or(on.To.Port(), port)
			}
			c.arriving(&now, at, p.Client, p.Arrives)
			c.leaving(&now, at, &p)
		}
		if len(c.facts.ReturnRoutes) == 0 {
			c.arriving(&now, port, netip.Addr{}, "")
		}
	}
}

// locally asks about the connections that an intercept opens on the target itself, from clients'
// addresses: their packets, and the answers, leave on loopback and come in there.
func (c *collector) locally(now *ruleset) {
	const loopback = "lo"
	clients := c.Clients
	if len(clients) == 0 {
		clients = []netip.Addr{{}} // not known
	}
	for _, port := range c.Ports {
		to, from := packetWords{port: port}, packetWords{port: port, from: true}
		for _, a := range clients {
			about := portWords(port)
			if a.IsValid() {
				about = a.String()
			}
			syn := probe{src: a, dport: port, state: stateNew, v6: a.Is6()}
			answer := probe{dst: a, sport: port, state: stateEstablished, answer: true, v6: a.Is6()}
			for _, p := range []struct {
				packet probe
				match  packetWords
			}{{syn, to}, {answer, from}} {
				p.packet.out = loopback
				c.ask(now, &p.packet, about, "output", p.match, outHooks)
				p.packet.in, p.packet.out = loopback, ""
				c.ask(now, &p.packet, about, "input", p.match, inHooks)
			}
		}
	}
}

// portWords names a port that a verdict is about, where no client is known.
func portWords(port uint16) string { return fmt.Sprintf("port %d", port) }

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
	c.ask(now, &p, t.Addr.String(), "output", packetTo(t.Addr), outHooks)
}

// there asks about an ordinary connection of this host: its packets, and the answers.
func (c *collector) there(now *ruleset, to netip.AddrPort, r doctor.Route, from netip.Addr) {
	about := to.String()
	v6 := to.Addr().Is6()
	out := probe{
		src: from, dst: to.Addr(), dport: to.Port(), out: r.Device, state: stateNew, v6: v6,
	}
	c.ask(now, &out, about, "output", packetTo(to), outHooks)
	in := probe{
		src: to.Addr(), dst: from, sport: to.Port(), in: r.Device, state: stateEstablished,
		answer: true,
		v6:     v6,
	}
	answers := packetWords{addr: to.Addr(), port: to.Port(), from: true}
	c.ask(now, &in, about, "input", answers, inHooks)
}

// arriving asks about the first packet of a connection to a port of this host.
func (c *collector) arriving(now *ruleset, port uint16, client netip.Addr, device string) {
	if device == "" {
		device = c.onlyDevice()
	}
	p := probe{src: client, dport: port, in: device, state: stateNew, v6: client.Is6()}
	about := portWords(port)
	if client.IsValid() {
		about = client.String()
	}
	c.ask(now, &p, about, "input", packetWords{port: port}, inHooks)
}

// translation returns where the connections of a client to a port are passed on to, or nil.
func (c *collector) translation(port uint16, client netip.Addr) *doctor.PassedOn {
	for i := range c.facts.PassedOn {
		if on := &c.facts.PassedOn[i]; on.Port == port && on.V6 == client.Is6() {
			return on
		}
	}
	return nil
}

// forwarded asks about the first packet of a client's connection that is passed on to another
// address, and about the answer to it.
func (c *collector) forwarded(now *ruleset, on *doctor.PassedOn, from *doctor.ReturnPath) {
	about := from.Client.String()
	syn := probe{
		src: from.Client, dport: on.Port, in: from.Arrives, state: stateNew, v6: on.V6,
	}
	c.ask(now, &syn, about, "prerouting", packetWords{port: on.Port},
		[]*nftables.ChainHook{nftables.ChainHookPrerouting})
	inside := route(on.To.Addr()).Device
	syn.dst, syn.dport, syn.out = on.To.Addr(), on.To.Port(), inside
	to := packetWords{addr: on.To.Addr(), port: on.To.Port()}
	c.ask(now, &syn, about, "forward", to, forwardHooks)
	answer := probe{
		src: on.To.Addr(), dst: from.Client, sport: on.To.Port(), in: inside,
		out: from.Route.Device, state: stateEstablished, answer: true, v6: on.V6,
	}
	to.from = true
	c.ask(now, &answer, about, "forward", to, forwardHooks)
}

// leaving asks about a server's answer to a client.
func (c *collector) leaving(now *ruleset, port uint16, to *doctor.ReturnPath) {
	p := probe{
		dst: to.Client, sport: port, out: to.Route.Device, state: stateEstablished, answer: true,
		v6: to.Client.Is6(),
	}
	c.ask(now, &p, to.Client.String(), "output", packetWords{port: port, from: true}, outHooks)
}

// packetWords says which packets a rule is to accept.
type packetWords struct {
	addr netip.Addr // invalid: any
	port uint16
	from bool // from the address and port, else to them
}

func packetTo(a netip.AddrPort) packetWords { return packetWords{addr: a.Addr(), port: a.Port()} }

// nft returns the words for nft.
func (m *packetWords) nft() string {
	words := fmt.Sprintf("tcp %sport %d", pick(m.from, "s", "d"), m.port)
	if m.addr.IsValid() {
		words = fmt.Sprintf("%s %saddr %s %s", pick(m.addr.Is6(), "ip6", "ip"),
			pick(m.from, "s", "d"), m.addr, words)
	}
	return words
}

// iptables returns the words for iptables and ip6tables.
func (m *packetWords) iptables() string {
	words := fmt.Sprintf("-p tcp --%sport %d", pick(m.from, "s", "d"), m.port)
	if m.addr.IsValid() {
		words = fmt.Sprintf("-%s %s %s", pick(m.from, "s", "d"), m.addr, words)
	}
	return words
}

// ask adds the firewall's verdict on a packet. What a rule would have to accept is in match.
func (c *collector) ask(
	now *ruleset, p *probe, about, hook string, match packetWords, hooks []*nftables.ChainHook,
) {
	f := now.judge(p, &c.before, hooks...)
	v := doctor.Verdict{About: about, Hook: hook, Action: f.action, Hits: f.hits, Err: f.why}
	switch {
	case f.action == "accept" && now.err != "":
		v.Action, v.Err = "unknown", now.err
	case f.action == "drop" || f.action == "reject":
		v.Rule = f.chain.words() + ", the chain's policy"
		if f.handle != 0 {
			v.Rule = f.chain.ruleWords(f.handle)
		}
		v.Accept = f.chain.accepting(&match, f.handle)
	}
	c.facts.Firewall = append(c.facts.Firewall, v)
}
