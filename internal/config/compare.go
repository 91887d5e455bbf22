package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tcpcopy/internal/account/verdict"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/proto/known"
)

// Compare holds the settings of a comparison of production's answers with the targets'.
type Compare struct {
	On    bool
	Rules verdict.Rules
	JUnit string // path of a JUnit XML report that is written at the end; empty: none
}

func (o *CopyOptions) comparing() []option {
	c := &o.c.Compare
	return []option{
		{
			name: "compare", group: Compares, set: on(&c.On),
			help: "compare the targets' answers with production's: status, headers, and bodies " +
				"field by field (" + comparedProtocols() + "); in protocols that are not known, " +
				"by their bytes. The exit code is 4 if they differ, 5 if it cannot be told",
		},
		{
			name: "ignore", arg: "[ENDPOINT ]PATH", group: Compares,
			set: func(s string) error {
				r, err := verdict.ParseRule(s)
				if err != nil {
					return quoting(err)
				}
				c.Rules.Ignore = append(c.Rules.Ignore, r)
				return nil
			},
			clear: func() { c.Rules.Ignore = nil },
			help: "leave differences at this path out of the comparison, such as 'body.id' or " +
				"'GET /user/{id} header vary'; * at the end stands for anything. Several times: " +
				"each of them",
		},
		{
			name: "unordered", arg: "[ENDPOINT ]PATH", group: Compares,
			set: func(s string) error {
				r, err := verdict.ParseRule(s)
				if err != nil {
					return quoting(err)
				}
				c.Rules.Unordered = append(c.Rules.Unordered, r)
				return nil
			},
			clear: func() { c.Rules.Unordered = nil },
			help: "another order of the list at this path, or of lists in it, is no difference. " +
				"Several times: each of them",
		},
		{
			name: "endpoint", arg: "METHOD /PATH", group: Compares,
			set: func(s string) error {
				e, err := verdict.ParseEndpoint(s)
				if err != nil {
					return quoting(err)
				}
				c.Rules.Endpoints = append(c.Rules.Endpoints, e)
				return nil
			},
			clear: func() { c.Rules.Endpoints = nil },
			help: "count these requests together in the comparison, such as " +
				"'GET /user/{name}'; segments in braces stand for any. Several times: each of them",
		},
		{
			name: "junit", arg: "FILE", group: Compares, set: text(&c.JUnit, "the name of a file"),
			help: "write the result of the comparison as JUnit XML to FILE, at the end",
		},
	}
}

func mappedCompare(m *Mapped) []option {
	return []option{{
		name: "against", arg: "OLD:PORT", group: Compares,
		set: func(s string) error {
			a, err := netip.ParseAddrPort(s)
			if ip := a.Addr().Unmap(); err != nil || a.Port() == 0 || ip.IsUnspecified() ||
				ip.IsMulticast() || ip.Zone() != "" {
				return wanted("wanted the address and port of a server, such as 10.0.0.3:8080 " +
					"(names are not looked up)")
			}
			m.Against = netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
			return nil
		},
		clear: func() { m.Against = netip.AddrPort{} },
		help: "send a copy of each session to this server, too, which runs the old version: " +
			"what it answers otherwise than production is no difference of the new one",
	}}
}

// compares checks the settings of a comparison, and turns on what it needs.
func (o *CopyOptions) compares(c *Copy) error {
	if !c.Compare.On {
		for _, name := range []string{"ignore", "unordered", "endpoint", "junit"} {
			if o.fs.Changed(name) {
				return &Problem{Flag: "--" + name, What: "needs --compare"}
			}
		}
		for i := range c.Mappings {
			if c.Of(i).Against.IsValid() {
				return &Problem{Flag: "--against", What: "needs --compare"}
			}
		}
		return nil
	}
	if err := c.opposes(); err != nil {
		return err
	}
	spoken := false
	for i := range c.Mappings {
		switch of := c.Of(i); {
		case of.Proto == ProtoAuto, of.Proto == ProtoNone:
			spoken = true
		default:
			spoken = spoken || compared(string(of.Proto))
		}
	}
	if !spoken {
		return &Problem{Flag: "--compare", What: "compares nothing: no mapping speaks a protocol " +
			"whose answers are compared (" + comparedProtocols() + "); wanted another --proto, " +
			"or none to compare bytes"}
	}
	c.Both = c.Both || c.From.Kind == FromHost
	return nil
}

// opposes refuses old versions that are no other servers than production and the targets.
func (c *Copy) opposes() error {
	for i, m := range c.Mappings {
		a := c.Of(i).Against
		refused := func(format string, args ...any) error {
			return &Problem{Flag: "--against", Value: a.String(),
				What: fmt.Sprintf(format, args...)}
		}
		if !a.IsValid() {
			continue
		}
		for k := range i {
			if c.Of(k).Against == a {
				return refused("is the old version of %s and of %s: wanted one for each mapping, "+
					"as against in a configuration file", c.Mappings[k], m)
			}
		}
		switch {
		case slices.ContainsFunc(m.Targets, func(t mapping.Target) bool { return t.Addr == a }):
			return refused("is a target of %s: wanted another server, of the old version", m)
		case a == m.Production:
			return refused("is production: wanted another server of the same version")
		}
	}
	return nil
}

// compared reports whether the answers of a protocol are compared.
func compared(name string) bool {
	p := known.Named(name)
	return p != nil && p.Comparison != nil && p.Watch != nil
}

// comparedProtocols lists the protocols whose answers are compared.
func comparedProtocols() string {
	var names []string
	for _, p := range known.All() {
		if compared(p.Name) {
			names = append(names, p.Name)
		}
	}
	return strings.Join(names, ", ")
}
