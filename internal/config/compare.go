package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tcpcopy/internal/account/verdict"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/known"
)

// Compare holds the settings of a comparison of production's answers with the targets'.
type Compare struct {
	On    bool
	Rules verdict.Rules
	// OldOnly: the old version's answers are compared in place of production's.
	OldOnly bool
	JUnit   string // path of a JUnit XML report that is written at the end; empty: none
}

func (o *CopyOptions) comparing() []option {
	c := &o.c.Compare
	return slices.Concat([]option{
		{
			name: "compare", group: Compares, set: on(&c.On),
			help: "compare the targets' answers with production's: status, headers, and bodies " +
				"field by field (" + protocolsThat(isCompared) + "); in protocols that are not " +
				"known, by their bytes. The exit code is 4 if they differ, 5 if it cannot be told",
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
	}, comparingNamed(&c.Rules), []option{{
		name: "against-only", group: Compares, set: on(&c.OldOnly),
		help: "compare with the server of --against alone, and not with production, whose " +
			"answers are then not captured. Not for " + protocolsThat(needsProduction) +
			", nor for connections whose protocol is not known",
	}}, comparingVerdict(&c.Rules.Judged), []option{{
		name: "junit", arg: "FILE", group: Compares, set: text(&c.JUnit, "the name of a file"),
		help: "write the result of the comparison as JUnit XML to FILE, at the end",
	}})
}

// comparingNamed returns the options that name what digests are to have.
func comparingNamed(r *verdict.Rules) []option {
	return []option{
		{
			name: "tolerance", arg: "[ENDPOINT ]PATH AMOUNT", group: Compares,
			set: func(s string) error {
				t, err := verdict.ParseTolerance(s)
				if err != nil {
					return quoting(err)
				}
				r.Tolerate = append(r.Tolerate, t)
				return nil
			},
			clear: func() { r.Tolerate = nil },
			help: "numbers at this path are the same if they differ by AMOUNT or less, such as " +
				"'body.price 0.01' or 'GET /user/{id} body.score 1%'. Several times: each of them",
		},
		{
			name: "headers", arg: "NAMES", group: Compares, set: setHeaders(&r.Headers),
			clear: func() { r.Headers = nil },
			help: "compare only these headers of answers, several with commas, and their values, " +
				"too (default: of most whether they are there)",
		},
		{
			name: "show", arg: "PATH", group: Compares,
			set: func(s string) error {
				rule, err := verdict.ParseRule(s)
				if err == nil && rule.Endpoint != "" {
					return wanted("wanted a path without an endpoint, such as body.name")
				}
				if err == nil {
					err = verdict.CheckValues(rule.Path)
				}
				if err != nil {
					return quoting(err)
				}
				r.Show = append(r.Show, rule.Path)
				return nil
			},
			clear: func() { r.Show = nil },
			help: "show the values at this path where they differ, such as body.name (default: " +
				"types and lengths). Names of secrets are refused. Several times: each of them",
		},
	}
}

// comparingVerdict returns the options that say what a verdict is of.
func comparingVerdict(j *verdict.Judged) []option {
	return []option{{
		name: "fail-on", arg: "WORDS", group: Compares,
		set: func(s string) error {
			judged, err := verdict.ParseJudged(s)
			if err != nil {
				return wanted("wanted differs, slower, or both with a comma")
			}
			j.Differs, j.Slower = judged.Differs, judged.Slower
			return nil
		},
		clear: func() { j.Differs, j.Slower = false, false },
		help: "what the verdict and the exit code are of: differs, slower, which needs " +
			"--against, or both with a comma (default: both)",
	}, {
		name: "slower-by", arg: "PERCENT", group: Compares,
		set: func(s string) error {
			by, err := verdict.ParsePercent(s)
			if err != nil {
				return wanted("wanted a percentage above 0, such as 10%%")
			}
			j.By = by
			return nil
		},
		clear: func() { j.By = 0 },
		help: "the target is slower than the server of --against if its answers take longer by " +
			"more than this (default: 10%)",
	}}
}

// judges refuses to judge times that are not taken.
func (c *Copy) judges() error {
	j := &c.Compare.Rules.Judged
	old := len(c.OldVersions()) > 0
	switch {
	case j.Slower && !old:
		return &Problem{Flag: "--fail-on", Value: "slower", What: "needs --against: only an old " +
			"version's answers are timed at the same place"}
	case j.By != 0 && !old:
		return &Problem{Flag: "--slower-by", What: "needs --against"}
	case j.By != 0 && j.Differs && !j.Slower:
		return &Problem{Flag: "--slower-by", What: "is of no use if --fail-on is differs alone"}
	}
	return nil
}

// setHeaders parses names of headers.
func setHeaders(dst *[]string) func(string) error {
	return func(s string) error {
		names, err := list(s)
		if err != nil {
			return err
		}
		for _, name := range names {
			if strings.Trim(name, headerName) != "" || len(name) > proto.MaxWantedText {
				return wanted("wanted names of headers with commas, such as content-type,x-version")
			}
			*dst = append(*dst, strings.ToLower(name))
		}
		return nil
	}
}

// headerName has the characters of a header's name (RFC 9110 §5.6.2).
const headerName = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~"

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
		for _, name := range []string{"ignore", "unordered", "endpoint", "tolerance", "headers",
			"show", "against-only", "fail-on", "slower-by", "junit"} {
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
	if err := c.Compare.fits(); err != nil {
		return err
	}
	if err := c.judges(); err != nil {
		return err
	}
	spoken := false
	for i := range c.Mappings {
		switch of := c.Of(i); {
		case of.Proto == ProtoAuto, of.Proto == ProtoNone:
			spoken = true
		default:
			p := known.Named(string(of.Proto))
			spoken = spoken || p != nil && isCompared(p)
		}
	}
	if !spoken {
		return &Problem{Flag: "--compare", What: "compares nothing: no mapping speaks a protocol " +
			"whose answers are compared (" + protocolsThat(isCompared) + "); wanted another " +
			"--proto, or none to compare bytes"}
	}
	c.Both = c.Both || c.From.Kind == FromHost && !c.Compare.OldOnly
	return nil
}

// fits refuses more names than digests can be made with.
func (c *Compare) fits() error {
	w := c.Rules.Wanted()
	for _, v := range w.Values {
		if len(v) > proto.MaxWantedText {
			return &Problem{Flag: "--show", Value: v, What: fmt.Sprintf("is too long for a path "+
				"whose values are wanted: wanted at most %d bytes", proto.MaxWantedText)}
		}
	}
	switch {
	case len(w.Values) > proto.MaxWanted:
		return &Problem{Flag: "--show", What: fmt.Sprintf("and --tolerance name %d paths: wanted "+
			"at most %d", len(w.Values), proto.MaxWanted)}
	case len(w.Headers) > proto.MaxWanted:
		return &Problem{Flag: "--headers", What: fmt.Sprintf("names %d headers: wanted at most %d",
			len(w.Headers), proto.MaxWanted)}
	}
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
		switch {
		case a.IsValid():
		case c.Compare.OldOnly:
			return &Problem{Flag: "--against-only", What: fmt.Sprintf("%s has no old version: "+
				"wanted --against OLD:PORT", m)}
		default:
			continue
		}
		if c.Compare.OldOnly {
			if err := doesWithoutProduction(m, c.Of(i).Proto); err != nil {
				return err
			}
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

// doesWithoutProduction refuses a mapping whose protocol is not compared without production's
// answers.
func doesWithoutProduction(m mapping.Mapping, spoken Proto) error {
	problem := func(what string) error {
		return &Problem{Flag: "--against-only", What: fmt.Sprintf("%s: %s: wanted it left out", m,
			what)}
	}
	if spoken == ProtoNone {
		return problem("bytes are compared with production's alone (--proto none)")
	}
	if p := known.Named(string(spoken)); p != nil && needsProduction(p) {
		return problem("requests of " + p.Name + " cannot be told apart without production's " +
			"answers")
	}
	return nil
}

// needsProduction reports whether a protocol is compared with production's answers alone.
func needsProduction(p *proto.Protocol) bool {
	return p.Comparison != nil && p.Comparison.NeedsServer
}

// isCompared reports whether the answers of a protocol are compared.
func isCompared(p *proto.Protocol) bool { return p.Comparison != nil && p.Watch != nil }

// protocolsThat lists the protocols for which is is true.
func protocolsThat(is func(*proto.Protocol) bool) string {
	var names []string
	for _, p := range known.All() {
		if is(p) {
			names = append(names, p.Name)
		}
	}
	return strings.Join(names, ", ")
}
