package config

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"tcpcopy/internal/way/link/key"
)

// Doctor holds the settings of tcpcopy doctor itself, besides those of the command that it
// examines.
type Doctor struct {
	JSON    bool
	Verbose bool          // show what is fine, too
	Watch   time.Duration // how long packets are watched
	Bundle  string        // path of a file for a bug report; empty: none
	For     time.Duration // how long to examine again and again; 0: once
}

// DoctorTarget holds the settings of tcpcopy doctor target.
type DoctorTarget struct {
	Ports     []uint16     // at least one
	Clients   []netip.Addr // empty: those that are seen
	Assistant netip.Addr   // invalid: not known
	// Witness is the intercept whose examinations are answered; invalid: none, this host is
	// examined once.
	Witness netip.AddrPort
	Key     *key.Key // of the intercept; nil: none
}

// The bounds of Doctor.Watch.
const (
	defaultWatch = 2 * time.Second
	leastWatch   = 100 * time.Millisecond
	mostWatch    = 10 * time.Second
	mostFor      = 24 * time.Hour
)

// NewDoctor adds the doctor's own options to fs, and returns the settings that they fill in.
func NewDoctor(fs *pflag.FlagSet) *Doctor {
	c := &Doctor{Watch: defaultWatch}
	register(fs, []option{
		{
			name: "json", group: Output, set: on(&c.JSON),
			help: "print the report as JSON (docs/doctor.schema.json)",
		},
		{
			name: "verbose", letter: "v", group: Output, set: on(&c.Verbose),
			help: "show what is fine, too",
		},
		{
			name: "watch", arg: "TIME", group: Bounds, def: "2s",
			set:  span(&c.Watch, time.Second, leastWatch, mostWatch),
			help: "watch packets for so long",
		},
		{
			name: "for", arg: "TIME", group: Bounds, set: span(&c.For, time.Second, 0, mostFor),
			help: "examine again and again until a cause is found, at most for so long",
		},
		{
			name: "bundle", arg: "FILE", group: Output, set: text(&c.Bundle, "the name of a file"),
			help: "write FILE, a zip for a bug report: findings, facts, routes, rules and " +
				"counters; no payload, no key, and hashes instead of clients' addresses",
		},
	})
	return c
}

// NewDoctorProbe adds the option --probe of tcpcopy doctor copy to fs, and returns the address that
// it fills in: invalid without it.
func NewDoctorProbe(fs *pflag.FlagSet) *netip.Addr {
	from := new(netip.Addr)
	register(fs, []option{{
		name: "probe", arg: "IP", group: Where,
		set: func(s string) (err error) {
			*from, err = address(s)
			return err
		},
		help: "raw: send the target a few SYNs from this address, which no host has (default: " +
			"an address of -c, or a free one in a client's network)",
	}})
	return from
}

// DoctorTargetOptions holds the options of tcpcopy doctor target while they are parsed.
type DoctorTargetOptions struct {
	c       DoctorTarget
	keyFile string
}

// NewDoctorTargetOptions adds the options of tcpcopy doctor target to fs. After fs has been parsed,
// Target returns the settings.
func NewDoctorTargetOptions(fs *pflag.FlagSet) *DoctorTargetOptions {
	o := new(DoctorTargetOptions)
	register(fs, []option{
		{
			name: "port", arg: "PORT", group: Where, set: o.setPort,
			help: "the server's port, several with commas",
		},
		{
			name: "client", arg: "IP", group: Where, set: o.setClient,
			help: "address of a client whose copies do not work, several with commas (default: " +
				"those that are seen)",
		},
		{
			name: "assistant", arg: "IP", group: Where, set: o.setAssistant,
			help: "address of the host to which the answers are to go (raw; default: that of " +
				"--witness)",
		},
		{
			name: "witness", arg: "IP[:PORT]", group: Where, set: o.setWitness,
			help: "wait at this intercept for examinations by tcpcopy doctor on the production " +
				"host, and answer them, until interrupted",
		},
		{
			name: "key", arg: "FILE", group: How, set: keyFile(&o.keyFile),
			help: "the file with the intercept's key (tcpcopy keygen), for --witness; the " +
				"environment variable TCPCOPY_KEY may hold the key instead",
		},
	})
	return o
}

// Target returns the settings. An error is a *Problem.
func (o *DoctorTargetOptions) Target() (*DoctorTarget, error) {
	if len(o.c.Ports) == 0 {
		return nil, &Problem{Flag: "--port", What: "is missing: wanted the test server's port"}
	}
	if !o.c.Witness.IsValid() {
		if o.keyFile != "" {
			return nil, &Problem{Flag: "--key", Value: o.keyFile,
				What: "is for --witness, which is not given: wanted both, or neither"}
		}
		return &o.c, nil
	}
	if !o.c.Assistant.IsValid() {
		o.c.Assistant = o.c.Witness.Addr()
	}
	k, _, err := loadKey(o.keyFile, false)
	o.c.Key = k
	return &o.c, err
}

func (o *DoctorTargetOptions) setWitness(s string) error {
	a, port, err := endpoint(s)
	if err != nil {
		return err
	}
	if port == 0 {
		port = DefaultPort
	}
	o.c.Witness = netip.AddrPortFrom(a, uint16(port))
	return nil
}

func (o *DoctorTargetOptions) setPort(s string) error {
	parts, err := list(s)
	if err != nil {
		return err
	}
	for _, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return wanted("wanted ports, 1 to 65535, with commas")
		}
		o.c.Ports = append(o.c.Ports, uint16(n))
	}
	return nil
}

func (o *DoctorTargetOptions) setClient(s string) error {
	parts, err := list(s)
	if err != nil {
		return err
	}
	for _, p := range parts {
		a, err := address(p)
		if err != nil {
			return err
		}
		o.c.Clients = append(o.c.Clients, a)
	}
	return nil
}

func (o *DoctorTargetOptions) setAssistant(s string) (err error) {
	o.c.Assistant, err = address(s)
	return err
}
