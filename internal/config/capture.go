package config

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/way/link/key"
)

// Compress tells whether an agent compresses what it sends.
type Compress string

// The modes.
const (
	CompressAuto Compress = "auto"
	CompressOn   Compress = "on"
	CompressOff  Compress = "off"
)

// Capture holds the settings of tcpcopy capture, the agent.
type Capture struct {
	To         netip.AddrPort   // the copier
	Production []netip.AddrPort // at least one; an invalid address: all of this host
	Interfaces []string         // to capture on; empty: all
	Filter     filter.Expr      // nil: none
	Both       bool             // send the server's packets whole, not only their headers
	Compress   Compress
	Key        *key.Key // nil: the connection is in the clear
	Insecure   bool

	MaxMbps float64 // megabits a second on the connection; 0: no bound
	MaxCPU  float64 // percent of one processor; 0: no bound
	Memory  int64   // bytes that may wait for the connection
	Ring    int64   // bytes of the capture ring

	Stats  time.Duration // between two lines of statistics; 0: none
	Report string        // path of the JSON report; empty: none
	Process
}

// CaptureOptions holds the options of tcpcopy capture while they are parsed.
type CaptureOptions struct {
	fs      *pflag.FlagSet
	host    Host
	c       Capture
	keyFile string
}

// NewCaptureOptions adds the options of tcpcopy capture to fs. After fs has been parsed, Capture
// returns the settings.
func NewCaptureOptions(fs *pflag.FlagSet, host Host) *CaptureOptions {
	o := &CaptureOptions{fs: fs, host: host, c: Capture{
		Compress: CompressAuto, MaxCPU: 50, Memory: 32 * mega, Ring: 16 * mega,
		Stats: 10 * time.Second,
	}}
	c := &o.c
	modes := []Compress{CompressAuto, CompressOn, CompressOff}
	register(fs, []option{
		{
			name: "to", arg: "IP[:PORT]", group: Where, set: o.setTo,
			help: "the copier to send to, which runs tcpcopy copy --from agent://:" +
				strconv.Itoa(DefaultAgentPort),
		},
		{
			name: "production", formerly: "online", letter: "x", arg: "[IP:]PORT", group: Where,
			set: setProduction(&c.Production),
			help: "the production servers: ports of this host, or addresses with ports whose " +
				"traffic passes through it, several with commas",
		},
		{
			name: "interface", letter: "i", arg: "DEV", group: Where, set: o.setInterface,
			help: "capture on these interfaces only, several with commas (default: all, " +
				"loopback too)",
		},
		{
			name: "filter", letter: "F", arg: "EXPR", group: Where, set: setFilter(&c.Filter),
			help: "send only packets that match, in tcpdump's syntax: host, net, port, " +
				"portrange, src, dst, and, or, not",
		},
		{
			name: "both", group: How, set: on(&c.Both),
			help: "send the server's packets whole, too, so that the copier reads production's " +
				"answers, if it knows the protocol (default: their headers)",
		},
		{
			name: "compress", arg: "MODE", group: How, def: "auto",
			set: oneOf(&c.Compress, modes...), choices: words(modes),
			help: "compress what is sent: auto (if that saves at least a quarter), on, off",
		},
		{
			name: "key", arg: "FILE", group: How, set: keyFile(&o.keyFile),
			help: "the file with the key that the copier has, too (tcpcopy keygen); the " +
				"environment variable TCPCOPY_KEY may hold the key instead",
		},
		{
			name: "insecure", group: How, set: on(&c.Insecure),
			help: "run without a key: production's traffic crosses the network in the clear, " +
				"and the copier is not authenticated",
		},
	})
	register(fs, o.bounds())
	register(fs, processOptions(&c.Process))
	return o
}

// bounds returns the options for what the agent may use, and for what it prints.
func (o *CaptureOptions) bounds() []option {
	c := &o.c
	return []option{
		{
			name: "max-mbps", arg: "N", group: Bounds, set: o.setMbps,
			help: "send the copier at most N megabits a second; beyond that whole sessions are " +
				"left out, and counted (default: no bound)",
		},
		{
			name: "max-cpu", arg: "PERCENT", group: Bounds, def: "50%",
			set: percent(&c.MaxCPU, 6400),
			help: "use at most this share of one processor; beyond that whole sessions are left " +
				"out, and counted; 0: no bound",
		},
		{
			name: "memory", letter: "m", arg: "MB", group: Bounds, def: "32",
			set: amount(&c.Memory, mega, mega, 16*giga),
			help: "memory for packets that wait for the connection; beyond that packets are " +
				"dropped, and counted",
		},
		{
			name: "buffer", letter: "B", arg: "MB", group: Bounds, def: "16",
			set: amount(&c.Ring, mega, 2*mega, 4*giga),
			help: "size of the capture ring, which holds packets until the agent reads them; a " +
				"larger one outlasts longer bursts",
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
	}
}

func (o *CaptureOptions) setTo(s string) error {
	a, port, err := endpoint(s)
	if err != nil {
		return err
	}
	if a.IsUnspecified() || a.IsMulticast() {
		return wanted("cannot be connected to: wanted the copier's own address")
	}
	if port == 0 {
		port = DefaultAgentPort
	}
	o.c.To = netip.AddrPortFrom(a, uint16(port))
	return nil
}

func (o *CaptureOptions) setInterface(s string) error {
	names, err := o.host.devices(s, true)
	if err != nil {
		return err
	}
	o.c.Interfaces = append(o.c.Interfaces, names...)
	return nil
}

func (o *CaptureOptions) setMbps(s string) error {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 1 && f <= 1e6) { // false for NaN, too
		return wanted("wanted megabits a second, from 1 to 1000000")
	}
	o.c.MaxMbps = f
	return nil
}

// Capture returns the settings of the options, which have been parsed. The warnings are for the
// user, one line each. An error is a *Problem.
func (o *CaptureOptions) Capture() (*Capture, []string, error) {
	c := o.c
	if len(c.Production) == 0 {
		return nil, nil, wanted("nothing to capture: wanted -x PORT").hinting("tcpcopy capture " +
			"-x 80 --to 10.0.0.9 --key key sends this host's port 80 to a copier on 10.0.0.9")
	}
	if !c.To.IsValid() {
		return nil, nil, wanted("no copier: wanted --to IP[:PORT]").hinting("tcpcopy copy "+
			"--from agent://:%d listens for agents", DefaultAgentPort)
	}
	k, warnings, err := loadKey(o.keyFile, c.Insecure)
	if err != nil {
		return nil, nil, err
	}
	c.Key = k
	switch {
	case k != nil || c.To.Addr().IsLoopback():
	case !c.Insecure:
		return nil, nil, &Problem{
			Flag: "--to", Value: c.To.String(), What: "would get production's traffic in the " +
				"clear: wanted --key FILE, or --insecure",
			Hint: "tcpcopy keygen > key makes one; the copier needs the same",
		}
	default:
		warnings = append(warnings,
			"--insecure: production's traffic goes to "+c.To.String()+" in the clear")
	}
	return &c, warnings, nil
}
