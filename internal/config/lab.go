package config

import (
	"math"
	"strconv"
	"time"

	"github.com/spf13/pflag"
)

// Lab holds the settings of tcpcopy lab. The scenario decides the fields that have their zero
// value.
type Lab struct {
	Via        Via
	Scenario   string        // name of a set of the options below; empty: the lab's default
	Conns      int           // client connections
	Rate       float64       // requests a second over all connections
	Duration   time.Duration // of the load
	Requests   int           // on each connection
	Proto      string        // that the load speaks; empty: the lab's own
	Answers    string        // of the target against production's: "bigger", "smaller", "slower"
	Loss       float64       // percent of packets to and from the test server, each way
	ClientLoss float64       // percent of packets between clients and production, each way
	Delay      time.Duration // of packets to and from the test server, each way
	IPv6       bool
	NoOffloads bool     // TSO, GSO and GRO off
	MTU        int      // of every link
	Web        Web      // Dashboard only
	Live       bool     // show a view in the terminal
	HTML       string   // page about the copy; empty: none
	Keep       string   // directory for what the commands wrote; empty: removed
	Break      string   // name of a fault that is made, and examined; empty: none
	Extra      []string // further options for the copier
}

// Scenario is a load that the lab knows by name.
type Scenario struct{ Name, Help string }

// LabOptions holds the options of tcpcopy lab while they are parsed.
type LabOptions struct{ c Lab }

// NewLabOptions adds the options of tcpcopy lab to fs. scenarios are the loads that the lab knows,
// of which the first is the default; protos are the protocols that a load can speak; faults are the
// names of what the lab can break.
func NewLabOptions(fs *pflag.FlagSet, scenarios []Scenario, protos, faults []string) *LabOptions {
	o := &LabOptions{c: Lab{Via: ViaSocket}}
	c := &o.c
	answers := []string{"bigger", "smaller", "slower"}
	options := []option{
		{
			name: "via", arg: "WAY", group: Where, def: "socket",
			choices: []string{"socket", "raw", "tunnel"}, set: o.setVia,
			help: "how the copies reach the test server: socket, raw through an intercept on a " +
				"third host, or tunnel through one on the test server",
		},
		{name: "ipv6", group: Where, set: on(&c.IPv6), help: "IPv6 instead of IPv4"},
		{
			name: "conns", arg: "N", group: Load, set: whole(&c.Conns, 1, 100000),
			help: "client connections",
		},
		{
			name: "rate", arg: "N", group: Load, set: c.setRate,
			help: "requests a second, over all connections",
		},
		{
			name: "duration", arg: "TIME", group: Load,
			set:  span(&c.Duration, time.Second, 100*time.Millisecond, 24*time.Hour),
			help: "how long the load lasts",
		},
		{
			name: "requests", arg: "N", group: Load, set: whole(&c.Requests, 1, 1<<30),
			help: "requests on each connection",
		},
		{
			name: "proto", arg: "PROTO", group: Load, choices: protos,
			set:  oneOf(&c.Proto, protos...),
			help: "the load speaks " + orList(protos) + " (default: a protocol of the lab's own)",
		},
		{
			name: "answers", arg: "KIND", group: Load, choices: answers,
			set: oneOf(&c.Answers, answers...),
			help: "the test server answers bigger (5 times the bytes), smaller (a fifth) or " +
				"slower (3 times the time)",
		},
		{
			name: "loss", arg: "PERCENT", group: Load, set: percent(&c.Loss, 50),
			help: "lose this share of the packets to and from the test server, each way",
		},
		{
			name: "client-loss", arg: "PERCENT", group: Load, set: percent(&c.ClientLoss, 50),
			help: "lose this share of the packets between clients and production, each way",
		},
		{
			name: "delay", arg: "TIME", group: Load, set: span(&c.Delay, time.Millisecond, 0,
				time.Minute),
			help: "delay packets to and from the test server by this time, each way (needs " +
				"/dev/net/tun)",
		},
		{
			name: "no-offloads", group: Load, set: on(&c.NoOffloads),
			help: "switch segmentation and receive offloads off",
		},
		{
			name: "mtu", arg: "BYTES", group: Load, set: whole(&c.MTU, 1280, 65535),
			help: "largest packet on every link",
		},
	}
	var names []string
	for _, s := range scenarios {
		names = append(names, s.Name)
	}
	register(fs, []option{{
		name: "scenario", arg: "NAME", group: Load, def: names[0], choices: names,
		set:  oneOf(&c.Scenario, names...),
		help: "the kind of load (see above), which the options below vary",
	}})
	register(fs, append(options, c.breaking(faults)))
	register(fs, c.output())
	return o
}

// breaking returns the option that makes a fault.
func (c *Lab) breaking(faults []string) option {
	return option{
		name: "break", arg: "NAME", group: Load, choices: faults, set: oneOf(&c.Break,
			faults...),
		help: "make a fault (see above), run a copy and the doctor, and show both",
	}
}

// output are the options for what the lab shows and keeps.
func (c *Lab) output() []option {
	return []option{
		c.Web.dashboard(),
		{
			name: "live", group: Output, set: on(&c.Live),
			help: "show in the terminal how the copy goes, as tcpcopy top does",
		},
		{
			name: "html", arg: "FILE", group: Output, set: text(&c.HTML, "the name of a file"),
			help: "write a page about the copy at the end",
		},
		{
			name: "keep", arg: "DIR", group: Output, set: text(&c.Keep, "the name of a directory"),
			help: "keep logs and reports in DIR (default: they are removed)",
		},
	}
}

// Lab returns the settings of the options, which have been parsed. extra is what follows "--" on
// the command line: options for the copier.
func (o *LabOptions) Lab(extra []string) (*Lab, error) {
	c := o.c
	if err := c.Web.load(); err != nil {
		return nil, err
	}
	c.Extra = extra
	return &c, nil
}

func (o *LabOptions) setVia(s string) error {
	v := CopyOptions{}
	if err := v.setVia(s); err != nil {
		return err
	}
	o.c.Via = Via(s)
	return nil
}

func (c *Lab) setRate(s string) error {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) || f <= 0 || f > 1e7 {
		return wanted("wanted a number of requests a second, above 0")
	}
	c.Rate = f
	return nil
}
