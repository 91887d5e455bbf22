package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/way/link/key"
)

// Intercept holds the settings of tcpcopy intercept.
type Intercept struct {
	Interfaces []string    // to capture on; empty: all
	Filter     filter.Expr // nil: every TCP packet that is not for this host
	// OnTarget reports that it runs on the target and opens connections there; nothing is
	// captured.
	OnTarget bool
	Target   Target
	// Listen holds the addresses to listen on for copiers: without a key, unless Insecure,
	// loopback addresses.
	Listen   []netip.AddrPort
	Key      *key.Key  // nil: there is none, or several
	Keys     *key.Ring // nil: there is one key, or none
	Insecure bool
	// Pass holds networks of clients whose answers are not intercepted.
	Pass []netip.Prefix
	// AllowForwarding lets the intercept start on a host that forwards packets: the user asserts
	// that it does not send the target's answers to real clients.
	AllowForwarding bool
	Stats           time.Duration // between two lines of statistics; 0: none
	Report          string        // path of the JSON report; empty: none
	Process
}

// Target holds the settings of an intercept on the target.
type Target struct {
	Allow      key.Ports      // that copiers may connect to
	Clients    []netip.Prefix // that connections may come from; empty: any
	Netns      string         // path of the server's network namespace; empty: that of this process
	Reach      string         // auto, loopback or mark
	MaxStreams int
	Memory     int64 // bytes that may wait for the target
	DryRun     bool  // print what would be changed, and change nothing
	Cleanup    bool  // undo what a killed run has left, and end
}

// InterceptOptions holds the options of tcpcopy intercept while they are parsed.
type InterceptOptions struct {
	fs      *pflag.FlagSet
	host    Host
	c       Intercept
	port    int
	bind    []netip.Addr
	keyFile string
	keys    string // directory
}

// NewInterceptOptions adds the options of tcpcopy intercept to fs. After fs has been parsed,
// Intercept returns the settings.
func NewInterceptOptions(fs *pflag.FlagSet, host Host) *InterceptOptions {
	o := &InterceptOptions{fs: fs, host: host, port: DefaultPort, c: Intercept{
		Stats: 10 * time.Second, Target: Target{Reach: "auto", MaxStreams: 65536,
			Memory: 256 * mega},
	}}
	c := &o.c
	register(fs, []option{
		{
			name: "interface", letter: "i", arg: "DEV", group: Where, set: o.setInterface,
			help: "capture the target's answers on these interfaces, several with commas " +
				"(default: all)",
		},
		{
			name: "filter", letter: "F", arg: "EXPR", group: Where, set: setFilter(&c.Filter),
			help: "take only packets that match as the target's answers, in tcpdump's syntax: " +
				"'tcp and src port 8080' (default: every TCP packet that is not for this host)",
		},
		{
			name: "port", letter: "p", arg: "PORT", group: Where, def: strconv.Itoa(DefaultPort),
			set:  whole(&o.port, 1, 65535),
			help: "listen for copiers on this port",
		},
		{
			name: "bind", letter: "b", arg: "IP", group: Where, set: o.setBind,
			help: "listen for copiers on these addresses, several with commas (default: all " +
				"with a key or --insecure, else loopback)",
		},
		{
			name: "passlist", letter: "x", arg: "IPS", group: Where, set: setNetworks(&c.Pass),
			help: "ignore answers to these addresses or networks, several with commas, for test " +
				"clients that are not copied",
		},
		{
			name: "key", arg: "FILE", group: How, set: keyFile(&o.keyFile),
			help: "the file with the key that copiers must have, too (tcpcopy keygen); the " +
				"environment variable TCPCOPY_KEY may hold the key instead",
		},
		{
			name: "keys", arg: "DIR", group: How, set: text(&o.keys, "the name of a directory"),
			help: "instead of --key: one file a key in DIR, of which each copier must have one; " +
				"a file may say which ports, clients and ways its key is for; SIGHUP reads DIR " +
				"again",
		},
		{
			name: "insecure", group: How, set: on(&c.Insecure),
			help: "run without a key: anybody who can connect can claim connections and see " +
				"headers, or with --on-target connect to the server from any client's address",
		},
		{
			name: "allow-forwarding", group: How, set: on(&c.AllowForwarding),
			help: "start although this host forwards packets, if something else keeps the " +
				"target's answers from real clients",
		},
		{
			name: "stats", arg: "TIME", group: Output, def: "10s",
			set:  span(&c.Stats, time.Second, 0, 24*time.Hour),
			help: "print a line of statistics to stderr at this interval; 0: none",
		},
		{
			name: "report", arg: "FILE", group: Output, set: text(&c.Report, "the name of a file"),
			help: "write the account as JSON to FILE, at each line of --stats and at the end",
		},
	})
	register(fs, o.target())
	register(fs, processOptions(&c.Process))
	register(fs, interceptLetters())
	return o
}

func interceptLetters() []option {
	return []option{
		{
			name: "protect", letter: "c", group: Letters, help: "refused: each copier sees its " +
				"own connections only",
			refused: "each copier sees its own connections only, so there is nothing to " +
				"protect: leave it out",
		},
		{
			name: "output-device", letter: "o", arg: "DEV", group: Letters, help: "refused: the " +
				"intercept sends no packets",
			refused: "the intercept sends no packets, it answers over the copier's own " +
				"connection: leave it out",
		},
		{
			name: "combine", letter: "n", arg: "N", group: Letters, help: "refused: headers are " +
				"always combined",
			refused: "headers are always combined, as many as there are: leave it out",
		},
		{
			name: "hash-size", letter: "s", arg: "N", group: Letters, help: "refused: the table " +
				"grows as needed",
			refused: "the table of connections grows as needed: leave it out",
		},
		{
			name: "item-timeout", letter: "t", arg: "SECONDS", group: Letters, help: "refused: " +
				"entries age by last use",
			refused: "entries of the table age by their last use, not by a set time: leave it out",
		},
		{
			name: "docker", letter: "D", arg: "IP-IP", group: Letters, help: "refused: run it " +
				"in the container's namespace",
			refused: "addresses are not rewritten in this version: run the intercept where the " +
				"answers have the target's own address",
		},
		{
			name: "queue", letter: "q", arg: "N", group: Letters, help: "refused: no firewall " +
				"queue",
			refused: "no firewall queue is used: leave it out",
		},
	}
}

func (o *InterceptOptions) setInterface(s string) error {
	names, err := o.host.devices(s, true)
	if err != nil {
		return err
	}
	o.c.Interfaces = append(o.c.Interfaces, names...)
	return nil
}

func (o *InterceptOptions) setBind(s string) error {
	parts, err := list(s)
	if err != nil {
		return err
	}
	for _, p := range parts {
		a, err := address(p)
		if err != nil {
			return err
		}
		if a.IsMulticast() {
			return wanted("cannot be listened on: wanted addresses of this host")
		}
		if slices.Contains(o.bind, a) {
			return wanted("is given twice: wanted each address once")
		}
		o.bind = append(o.bind, a)
	}
	return nil
}

// Intercept returns the settings of the options, which have been parsed. The warnings are for the
// user, one line each. An error is a *Problem.
func (o *InterceptOptions) Intercept() (*Intercept, []string, error) {
	c := o.c
	warnings, err := o.loadKeys(&c)
	if err != nil {
		return nil, nil, err
	}
	open := c.Key != nil || c.Keys != nil || c.Insecure

	addrs := o.bind
	switch {
	case len(addrs) == 0 && open && o.host.ipv6():
		addrs = []netip.Addr{netip.IPv6Unspecified()} // IPv4 too
	case len(addrs) == 0 && open:
		addrs = []netip.Addr{netip.IPv4Unspecified()}
	case len(addrs) == 0:
		addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})}
		if o.host.ipv6() {
			addrs = append(addrs, netip.IPv6Loopback())
		}
		warnings = append(warnings, "no key: only copiers on this host can connect (tcpcopy "+
			"keygen > key, and --key key on both sides; or --insecure)")
	case !open:
		for _, a := range addrs {
			if !a.IsLoopback() {
				return nil, nil, &Problem{
					Flag: "-b", Value: a.String(), What: "without a key only loopback addresses " +
						"are listened on: wanted --key FILE, or --insecure",
					Hint: "tcpcopy keygen > key makes one; both sides need the same",
				}
			}
		}
	}
	if c.Insecure {
		can := "claim connections and see headers"
		if c.OnTarget {
			can = "connect to " + c.Target.Allow.String() + " of this host from any client's " +
				"address"
		}
		warnings = append(warnings, "--insecure: anybody who can reach "+listening(addrs,
			o.port)+" can "+can)
	}
	for _, a := range addrs {
		c.Listen = append(c.Listen, netip.AddrPortFrom(a, uint16(o.port)))
	}
	if warning, err := o.onTarget(&c); err != nil {
		return nil, nil, err
	} else if warning != "" {
		warnings = append(warnings, warning)
	}
	if c.Filter == nil && !c.OnTarget {
		warnings = append(warnings, "no -F: every TCP packet that is not for this host is taken "+
			"for an answer of the target "+
			"(with -F 'tcp and src port 8080' only those of that port are)")
	}
	if err := c.Web.load(); err != nil {
		return nil, nil, err
	}
	return &c, warnings, nil
}

// loadKeys reads the key of --key or the environment, or those of --keys.
func (o *InterceptOptions) loadKeys(c *Intercept) (warnings []string, err error) {
	if o.keys == "" {
		c.Key, warnings, err = loadKey(o.keyFile, c.Insecure)
		return warnings, err
	}
	if c.Insecure || o.keyFile != "" {
		other := "--key"
		if c.Insecure {
			other = "--insecure"
		}
		return nil, &Problem{Flag: "--keys", What: "does not go with " + other + ": wanted one " +
			"of them"}
	}
	if c.Keys, warnings, err = key.LoadRing(o.keys, c.OnTarget); err != nil {
		return nil, &Problem{Flag: "--keys", Value: o.keys, What: ringWords(err),
			Hint: "mkdir -m 700 keys; tcpcopy keygen > keys/NAME, one for each copier"}
	}
	return warnings, nil
}

func listening(addrs []netip.Addr, port int) string {
	if len(addrs) == 1 && addrs[0].IsUnspecified() {
		return fmt.Sprintf("port %d", port)
	}
	return netip.AddrPortFrom(addrs[0], uint16(port)).String()
}
