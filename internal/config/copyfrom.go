package config

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/sys"
)

// DefaultAgentPort is the port on which a copier listens for agents.
const DefaultAgentPort = 36525

// FromKind is the kind of a source.
type FromKind string

// The sources.
const (
	FromHost   FromKind = ""       // this host's own interfaces
	FromVXLAN  FromKind = "vxlan"  // a cloud's mirror, in VXLAN over UDP
	FromGENEVE FromKind = "geneve" // the same in GENEVE
	FromMirror FromKind = "mirror" // a switch's mirror port
	FromAgent  FromKind = "agent"  // agents (tcpcopy capture) on production hosts
	FromFile   FromKind = "file"   // capture files: a replay
)

// From is the source of a copy.
type From struct {
	Kind     FromKind
	Listen   netip.AddrPort // of vxlan, geneve and agent; an invalid address: all of this host
	Networks []uint32       // VNIs to copy (vxlan, geneve); empty: all
	Peers    []netip.Prefix // senders to take traffic from; empty: all, or none (mirror: GRE)
	Text     string         // as typed
}

// Remote reports whether the traffic may be another host's, so that production need not be this
// host.
func (f *From) Remote() bool { return f.Kind != FromHost }

// Captures reports whether the copy captures packets on this host's interfaces, or sends raw ones.
func (c *Copy) Captures() bool {
	return c.From.Kind == FromHost || c.From.Kind == FromMirror || c.Via == ViaRaw
}

const fromWords = "vxlan://[IP]:PORT, geneve://[IP]:PORT, mirror:DEV or agent://[IP]:PORT"

func (o *CopyOptions) from() []option {
	return []option{
		{
			name: "from", arg: "SOURCE", group: Where, set: o.setFrom,
			help: "copy the traffic of other hosts: vxlan://:4789 or geneve://:6081 (a cloud's " +
				"mirror sends it to this host), mirror:eth1 (a switch's mirror port: plain, " +
				"802.1Q, GRE, ERSPAN), agent://:36525 (tcpcopy capture on production hosts " +
				"sends it); default: this host's own traffic",
		},
		{
			name: "from-peers", arg: "NET", group: Where, set: setNetworks(&o.fromPeers),
			help: "with --from: take traffic only from these senders: the mirrors or the agents; " +
				"addresses or networks, several with commas. vxlan and geneve need it, unless " +
				"they listen on loopback, and so does mirror for GRE and ERSPAN; or --insecure",
		},
		{
			name: "vni", arg: "N", group: Where, set: o.setVNI,
			help: "with --from vxlan or geneve: copy only these virtual networks, several with " +
				"commas (default: all)",
		},
	}
}

func (o *CopyOptions) setFrom(s string) error {
	if o.c.From.Kind != FromHost {
		return wanted("is a second source: wanted one")
	}
	f := From{Text: s, Networks: o.c.From.Networks}
	if dev, ok := strings.CutPrefix(s, "mirror:"); ok {
		names, err := o.host.devices(strings.TrimPrefix(dev, "//"), false)
		if err != nil {
			return err
		}
		f.Kind = FromMirror
		o.c.From, o.mirrors = f, names
		return nil
	}
	scheme, rest, ok := strings.Cut(s, "://")
	port := map[string]uint16{"vxlan": packet.PortVXLAN, "geneve": packet.PortGENEVE,
		"agent": DefaultAgentPort}[scheme]
	if !ok || port == 0 {
		return wanted("wanted %s", fromWords)
	}
	f.Kind = FromKind(scheme)
	listen, err := listenAt(rest, port)
	if err != nil {
		return err
	}
	f.Listen = listen
	o.c.From = f
	return nil
}

// listenAt parses the address to listen on: [IP]:PORT, IP, or nothing. port is the default.
func listenAt(s string, port uint16) (netip.AddrPort, error) {
	s = strings.TrimSuffix(s, "/")
	host, number := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host, number = s[:i], s[i+1:]
	}
	if number != "" {
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 {
			return netip.AddrPort{}, wanted("has no valid port: wanted a number from 1 to 65535 " +
				"after the last colon")
		}
		port = uint16(n)
	}
	if host == "" || host == "*" {
		return netip.AddrPortFrom(netip.Addr{}, port), nil
	}
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		return netip.AddrPort{}, wanted("wanted %s, with an IPv6 address in brackets", fromWords)
	}
	a, err := address(host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if a.IsMulticast() {
		return netip.AddrPort{}, wanted("cannot be listened on: wanted an address of this host, " +
			"or none for all")
	}
	if a.IsUnspecified() {
		a = netip.Addr{}
	}
	return netip.AddrPortFrom(a, port), nil
}

func (o *CopyOptions) setVNI(s string) error {
	parts, err := list(s)
	if err != nil {
		return err
	}
	for _, p := range parts {
		n, err := strconv.ParseUint(p, 0, 24)
		if err != nil {
			return wanted("wanted network identifiers, 0 to 16777215, with commas")
		}
		o.c.From.Networks = append(o.c.From.Networks, uint32(n))
	}
	return nil
}

// source refuses options that do not apply to the chosen source, and completes its settings. The
// warnings are for the user.
func (o *CopyOptions) source(c *Copy) (warnings []string, err error) {
	kind := c.From.Kind
	if f := o.fs.Lookup("interface"); kind != FromHost && kind != FromFile && f.Changed {
		return nil, &Problem{Flag: "-i", What: "does not go with --from: nothing is captured on " +
			"this host's own interfaces", Hint: "--from mirror:DEV captures what a switch " +
			"mirrors to an interface"}
	}
	if f := o.fs.Lookup("vni"); f != nil && f.Changed && kind != FromVXLAN && kind != FromGENEVE {
		return nil, &Problem{Flag: "--vni", What: "needs --from vxlan:// or geneve://: other " +
			"sources have no such networks"}
	}
	c.From.Peers = o.fromPeers
	switch peers := len(c.From.Peers); {
	case peers > 0 && (kind == FromHost || kind == FromFile):
		return nil, &Problem{Flag: "--from-peers", What: "needs --from vxlan, geneve, mirror or " +
			"agent: nobody sends anything to this copier otherwise"}
	case peers > sys.MaxUDPPeers:
		return nil, &Problem{Flag: "--from-peers", What: fmt.Sprintf(
			"%d networks: wanted at most %d", peers, sys.MaxUDPPeers)}
	}
	if kind == FromAgent && c.Both {
		return nil, &Problem{Flag: "--both", What: "does not go with --from agent: wanted " +
			"tcpcopy capture --both on the agents' hosts"}
	}
	if !o.fs.Changed("mark") && c.Via == ViaSocket && kind != FromHost && kind != FromMirror {
		c.Mark = 0 // nothing is captured, so no mark, and no capability for it, is needed
	}
	switch kind {
	case FromMirror:
		c.Interfaces = o.mirrors
	case FromVXLAN, FromGENEVE:
		a := c.From.Listen.Addr()
		switch loopback := a.IsValid() && a.IsLoopback(); {
		case len(c.From.Peers) > 0 || loopback:
		case !c.Insecure:
			return nil, &Problem{
				Flag: "--from", Value: c.From.Text, What: "anyone could send packets to this " +
					"port: wanted --from-peers NET, the mirror's addresses; or --insecure",
				Hint: "tcpdump -ni any udp port " + strconv.Itoa(int(c.From.Listen.Port())) +
					" shows from where they come",
			}
		default:
			warnings = append(warnings, openTo(c))
		}
	case FromAgent:
		k, said, err := loadKey(o.keyFile, c.Insecure)
		if err != nil {
			return nil, err
		}
		c.Key, warnings = k, said
		a := c.From.Listen.Addr()
		if k == nil && !c.Insecure && !(a.IsValid() && a.IsLoopback()) {
			return nil, &Problem{
				Flag: "--from", Value: c.From.Text, What: "without a key only loopback " +
					"addresses are listened on: wanted --key FILE, or --insecure",
				Hint: "tcpcopy keygen > key makes one; the agents need the same",
			}
		}
		if c.Insecure {
			warnings = append(warnings, openTo(c))
		}
	}
	return warnings, nil
}

// openTo says who can make the copier send requests, without a key or a list of senders.
func openTo(c *Copy) string {
	return fmt.Sprintf("--insecure: anybody who can reach port %d can make this copier send "+
		"requests to the target", c.From.Listen.Port())
}
