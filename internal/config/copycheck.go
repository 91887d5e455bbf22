package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"tcpcopy/internal/core/balance"
)

// Copy returns the settings of the options, which have been parsed. The warnings are for the user,
// one line each. An error is a *Problem.
func (o *CopyOptions) Copy() (*Copy, []string, error) {
	if o.file != "" {
		if err := o.apply(o.file); err != nil {
			return nil, nil, err
		}
	}
	c, warnings, err := o.settle()
	var p *Problem
	if errors.As(err, &p) {
		if s, ok := o.places[p.Flag]; ok {
			p.Flag = s.at + ": " + s.key
		}
	}
	return c, warnings, err
}

func (o *CopyOptions) settle() (*Copy, []string, error) {
	c := o.c
	if len(c.Mappings) == 0 {
		return nil, nil, wanted("nothing to copy: wanted -x [IP:]PORT-TARGET:PORT").
			hinting("tcpcopy -x 80-10.0.0.2:8080 copies this host's port 80 to 10.0.0.2, port " +
				"8080")
	}
	if o.noWait {
		if o.fs.Changed("wait") && c.Wait != WaitNone {
			return nil, nil, &Problem{Flag: "-W", What: fmt.Sprintf("is --wait none, and --wait "+
				"%s was given too: wanted one of them", c.Wait)}
		}
		c.Wait = WaitNone
	}
	if err := c.Web.load(); err != nil {
		return nil, nil, err
	}
	if c.Live && c.Daemon {
		return nil, nil, &Problem{Flag: "--live",
			What: "wants the terminal, which -d leaves: wanted one of them"}
	}
	if err := o.recording(&c); err != nil {
		return nil, nil, err
	}
	if err := o.way(&c); err != nil {
		return nil, nil, err
	}
	if err := o.fits(&c); err != nil {
		return nil, nil, err
	}
	if err := o.compares(&c); err != nil {
		return nil, nil, err
	}
	if err := c.speaks(); err != nil {
		return nil, nil, err
	}
	if err := c.shares(); err != nil {
		return nil, nil, err
	}
	said, err := o.source(&c)
	if err != nil {
		return nil, nil, err
	}
	said = append(said, c.Warnings...)
	for _, m := range c.Own {
		said = append(said, m.Warnings...)
	}
	if c.Via == ViaSocket {
		if err := o.sources(&c); err != nil {
			return nil, nil, err
		}
		return &c, once(append(said, o.circles(&c)...)), nil
	}
	if err := o.links(&c); err != nil {
		return nil, nil, err
	}
	warnings, err := o.trust(&c)
	if err != nil {
		return nil, nil, err
	}
	return &c, once(append(warnings, said...)), nil
}

// once removes repeated warnings: they may concern the same key or file.
func once(all []string) (said []string) {
	for _, w := range all {
		if !slices.Contains(said, w) {
			said = append(said, w)
		}
	}
	return said
}

// shares refuses settings that contradict each other about how many copies each target gets.
func (c *Copy) shares() error {
	for i, m := range c.Mappings {
		of := c.Of(i)
		if of.Balance == balance.All && m.Weighted() {
			return &Problem{
				Flag: "-x", Value: m.String(),
				What: "has weights, but with --balance all every target gets every session: " +
					"wanted no weights, or another --balance",
			}
		}
		n := int(math.Ceil(of.Copies))
		if last := time.Duration(n-1) * of.Stagger; last > of.SessionTimeout {
			return &Problem{
				Flag: "--stagger", Value: of.Stagger.String(),
				What: fmt.Sprintf("starts the last of %d copies after %s: wanted no more than "+
					"--session-timeout, %s",
					n, last, short(of.SessionTimeout)),
			}
		}
		if of.Balance == balance.All {
			n *= len(m.Targets)
		}
		if c.OldVersion(i).IsValid() {
			n++
		}
		if n > c.MaxSessions {
			return &Problem{
				Flag: "--max-sessions", Value: fmt.Sprint(c.MaxSessions),
				What: fmt.Sprintf("cannot hold the %d copies of a single session: wanted at "+
					"least as many", n),
			}
		}
	}
	return nil
}

// sources refuses settings whose addresses and ports do not even suffice for the copies of one
// session.
func (o *CopyOptions) sources(c *Copy) error {
	ports := o.host.ports()
	for i, m := range c.Mappings {
		of := c.Of(i)
		n := int(math.Ceil(of.Copies))
		if of.Balance != balance.Client && of.Balance != balance.All {
			n = (n + len(m.Targets) - 1) / len(m.Targets) // at least one target gets that many
		}
		for _, t := range c.TargetsOf(i) {
			from := 1
			if len(c.Bind) > 0 {
				from = 0
				for _, a := range c.Bind {
					if a.Unmap().Is4() == t.Addr().Is4() {
						from++
					}
				}
			}
			switch {
			case from == 0:
				return &Problem{Flag: "--bind", What: fmt.Sprintf("has no address that can "+
					"connect to %s: wanted some of its family", t)}
			case ports > 0 && n > from*ports:
				p := &Problem{
					Flag: "-n", Value: strconv.FormatFloat(of.Copies, 'g', -1, 64),
					What: fmt.Sprintf("wants more copies of one session than there can be "+
						"connections to %s: wanted %d at most",
						t, from*ports),
				}
				return p.hinting("each address of --bind has %d ports (sysctl "+
					"net.ipv4.ip_local_port_range)", ports)
			}
		}
	}
	return nil
}

// circles returns warnings about copies that may go to the production server itself.
func (o *CopyOptions) circles(c *Copy) (warnings []string) {
	for i, m := range c.Mappings {
		for _, t := range c.TargetsOf(i) {
			if !c.From.Remote() && !m.Named() && m.Production.Port() == t.Port() &&
				o.host.local(t.Addr()) {
				warnings = append(warnings, fmt.Sprintf("-x %s: %s is this host: production "+
					"gets every request twice, unless another server listens there", m,
					t.Addr()))
			}
		}
	}
	return warnings
}

// way sets the way to the target: that of --via, or else, with an intercept, raw until the
// intercept was asked what it offers.
func (o *CopyOptions) way(c *Copy) error {
	switch {
	case o.via == "" && len(o.intercepts) > 0:
		c.Via, c.LearnWay = ViaRaw, true
	case o.via != "" && o.via != "socket" && len(o.intercepts) == 0:
		return &Problem{Flag: "--via", Value: o.via, What: "needs an intercept: wanted -s " +
			"IP[:PORT]"}
	case o.via == "socket" && len(o.intercepts) > 0:
		return &Problem{Flag: "-s", What: "does not go with --via socket, which uses no " +
			"intercept: wanted one of them"}
	case o.via != "":
		c.Via = Via(o.via)
	}
	return nil
}

// fits refuses options that do not apply to the chosen way. None is ignored.
func (o *CopyOptions) fits(c *Copy) error {
	const (
		address  = "an ordinary connection comes from this host's own address"
		segments = "the kernel makes the segments of an ordinary connection"
		link     = "without an intercept there is no link to it"
		own      = "packets carry the client's own address already"
	)
	type rule struct{ name, why string }
	rules := []rule{
		{"clients", address},
		{"localhost-as", address},
		{"port-shift", "the kernel chooses the ports of an ordinary connection"},
		{"mtu", segments},
		{"mss", segments},
		{"syn", segments},
		{"congestion", segments},
		{"output-device", "an ordinary connection follows the routes"},
		{"connections", link},
		{"lonely", link},
		{"port", link},
	}
	if c.From.Kind != FromAgent {
		rules = append(rules, rule{"key", link})
	}
	if c.From.Kind == FromHost || c.From.Kind == FromFile {
		rules = append(rules, rule{"insecure", link})
	}
	with := "needs -s IP[:PORT]"
	switch c.Via {
	case ViaRaw:
		rules = []rule{{"proxy-protocol", own}, {"bind", own}}
		with = "does not go with -s"
	case ViaTunnel:
		rules = []rule{
			{"proxy-protocol", own}, {"bind", own},
			{"mtu", segments}, {"mss", segments}, {"syn", segments}, {"congestion", segments},
			{"output-device", "an ordinary connection follows the routes"},
		}
		with = "does not go with --via tunnel"
	}
	if c.LearnWay {
		for _, name := range []string{"mtu", "mss", "syn", "congestion", "output-device"} {
			if f := o.fs.Lookup(name); f.Changed {
				c.RawOnly = append(c.RawOnly, typed(f))
			}
		}
	}
	for _, r := range rules {
		if f := o.fs.Lookup(r.name); f.Changed {
			return &Problem{Flag: typed(f), What: with + ": " + r.why}
		}
	}
	return nil
}

// links checks the intercepts, and gives them the default port if they have none.
func (o *CopyOptions) links(c *Copy) error {
	for _, s := range o.intercepts {
		a, port, err := endpoint(s)
		if err != nil {
			return err
		}
		if a.IsUnspecified() || a.IsMulticast() {
			return &Problem{Flag: "-s", Value: s, What: "cannot be connected to: wanted an " +
				"intercept's own address"}
		}
		if port == 0 {
			port = o.port
		}
		ap := netip.AddrPortFrom(a, uint16(port))
		if slices.Contains(c.Intercepts, ap) {
			return &Problem{Flag: "-s", Value: s, What: "is given twice: wanted each intercept " +
				"once"}
		}
		c.Intercepts = append(c.Intercepts, ap)
	}
	if c.MSS > 0 && c.MTU > 0 && c.MSS > c.MTU-40 {
		return &Problem{
			Flag: "-D", Value: fmt.Sprint(c.MSS),
			What: fmt.Sprintf("does not fit packets of -M %d: wanted %d or less", c.MTU, c.MTU-40),
		}
	}
	for i, m := range c.Mappings {
		for _, t := range c.TargetsOf(i) {
			if c.Clients != nil && c.Clients.Like(t.Addr()).Len() == 0 {
				return &Problem{Flag: "-c", Value: c.Clients.String(),
					What: fmt.Sprintf("has no address that can connect to %s: wanted some of its "+
						"family", t)}
			}
			if t.Addr().IsLoopback() && c.Via == ViaRaw {
				return &Problem{
					Flag: "-x", Value: m.String(), What: "a target on this host cannot answer " +
						"to the clients' addresses: wanted another host's",
					Hint: "without -s the copy uses ordinary connections, and they may stay on " +
						"this host",
				}
			}
		}
	}
	return nil
}

// trust loads the key, and warns if there is none.
func (o *CopyOptions) trust(c *Copy) ([]string, error) {
	k, warnings, err := loadKey(o.keyFile, c.Insecure)
	if err != nil {
		return nil, err
	}
	c.Key = k
	if k == nil && !c.Insecure {
		for _, ap := range c.Intercepts {
			if !ap.Addr().IsLoopback() {
				warnings = append(warnings, fmt.Sprintf(
					"no key: the link to %s is neither encrypted nor authenticated (tcpcopy "+
						"keygen > key, and --key key on "+
						"both sides; or --insecure)", ap))
				break
			}
		}
	}
	return warnings, nil
}
