package config

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/source/recording"
	"tcpcopy/internal/source/scrub"
)

// Record holds the settings of tcpcopy record.
type Record struct {
	Production []netip.AddrPort // at least one; an invalid address: all of this host
	Interfaces []string         // to capture on; empty: all
	Filter     filter.Expr      // nil: none
	Both       bool             // record the server's packets whole, not only their headers
	Sample     float64          // percent of sessions: above 0, up to 100
	SampleBy   SampleBy
	Duration   time.Duration // 0: until a signal ends it
	File       recording.Config
	Scrub      scrub.Rules   // what is replaced
	Ring       int64         // bytes of the capture ring
	Stats      time.Duration // between two lines of statistics; 0: none
	Process
}

// RecordOptions holds the options of tcpcopy record while they are parsed.
type RecordOptions struct {
	host Host
	c    Record
}

// NewRecordOptions adds the options of tcpcopy record to fs. After fs has been parsed, Record
// returns the settings.
func NewRecordOptions(fs *pflag.FlagSet, host Host) *RecordOptions {
	o := &RecordOptions{host: host, c: Record{Sample: 100, SampleBy: BySession, Ring: 16 * mega,
		Stats: 10 * time.Second}}
	c := &o.c
	register(fs, []option{
		{
			name: "production", formerly: "online", letter: "x", arg: "[IP:]PORT", group: Where,
			set: setProduction(&c.Production),
			help: "the production servers: ports of this host, or addresses with ports whose " +
				"traffic passes through it, several with commas",
		},
		{
			name: "output", letter: "o", arg: "FILE", group: Where, set: o.setOutput,
			help: "record to FILE, whose name ends in .pcapng or .pcap, and, to compress, in " +
				".gz or .zst; -: standard output",
		},
		{
			name: "interface", letter: "i", arg: "DEV", group: Where, set: o.setInterface,
			help: "capture on these interfaces only, several with commas (default: all, " +
				"loopback too)",
		},
		{
			name: "filter", letter: "F", arg: "EXPR", group: Where, set: setFilter(&c.Filter),
			help: "record only packets that match, in tcpdump's syntax: host, net, port, " +
				"portrange, src, dst, and, or, not",
		},
		{
			name: "rotate", arg: "SIZE|TIME", group: Bounds, set: o.setRotate,
			help: "begin a new file after a size (1GB), a time (10m), or whichever comes first " +
				"(1GB,10m); the time becomes part of the names",
		},
		{
			name: "keep", arg: "N", group: Bounds, set: whole(&c.File.Keep, 1, 1e6),
			help: "with --rotate: keep the last N files of this run, and remove older ones " +
				"(default: keep all)",
		},
		{
			name: "duration", arg: "TIME", group: Bounds,
			set:  span(&c.Duration, time.Second, time.Millisecond, 365*24*time.Hour),
			help: "end after this time (default: at SIGINT or SIGTERM)",
		},
		{
			name: "buffer", letter: "B", arg: "MB", group: Bounds, def: "16",
			set: amount(&c.Ring, mega, 2*mega, 4*giga),
			help: "size of the capture ring, which holds packets until they are written; a " +
				"larger one outlasts longer bursts",
		},
		{
			name: "stats", arg: "TIME", group: Output, def: "10s",
			set:  span(&c.Stats, time.Second, 0, 24*time.Hour),
			help: "print a line of statistics to stderr at this interval; 0: none",
		},
	})
	register(fs, o.how())
	register(fs, processOptions(&c.Process))
	return o
}

// how returns the options about what of the packets is recorded.
func (o *RecordOptions) how() []option {
	c := &o.c
	samples := []SampleBy{BySession, ByClient}
	return []option{
		{
			name: "both", group: How, set: on(&c.Both),
			help: "record the server's packets whole, too, so that a replay reads production's " +
				"answers (default: their headers, which every replay needs)",
		},
		{
			name: "encrypt-to", arg: "RECIPIENT", group: How,
			set: setRecipients(&c.File.Recipients),
			help: "encrypt the recording to these public keys (keygen --recordings), age1… or " +
				"files of such, several with commas; the name of FILE ends in .age then",
		},
		{
			name: "scrub", arg: "header:NAMES", group: How, set: scrubbing(c.Scrub.AddHeaders),
			help: "replace the values of these headers, with commas; what cannot be followed, " +
				"and connections without headers, is blanked, and counted",
		},
		{
			name: "scrub-json", arg: "PATHS", group: How, set: scrubbing(c.Scrub.AddPaths),
			help: "replace these values in JSON, with commas: user.password, *.token (of any " +
				"key), **.token (at any depth); encoded bodies are blanked",
		},
		{
			name: "sample", letter: "r", arg: "PERCENT", group: How, def: "100",
			set: setSample(&c.Sample),
			help: "record this share of the sessions, each as a whole; fractions such as 0.5 " +
				"are allowed",
		},
		{
			name: "sample-by", arg: "WHAT", group: How, def: "session",
			set: oneOf(&c.SampleBy, samples...), choices: words(samples),
			help: "what --sample chooses: session (each connection by itself), client (a client " +
				"with all its connections)",
		},
		{
			name: "snaplen", letter: "S", arg: "BYTES", group: How,
			set: whole(&c.File.Snap, 68, 1<<18),
			help: "record at most so many bytes of each packet (default: all); packets that are " +
				"cut cannot be replayed",
		},
	}
}

func (o *RecordOptions) setOutput(s string) error {
	if _, ok := recording.KindOf(s); !ok {
		return wanted("wanted a name that ends in .pcapng or .pcap, or in one of these and .gz " +
			"or .zst, and in .age if it is encrypted, or -")
	}
	o.c.File.Path = s
	return nil
}

func (o *RecordOptions) setInterface(s string) error {
	names, err := o.host.devices(s, true)
	if err != nil {
		return err
	}
	o.c.Interfaces = append(o.c.Interfaces, names...)
	return nil
}

// setRotate parses a size, a time, or both: 10m are minutes, and 10M megabytes.
func (o *RecordOptions) setRotate(s string) error {
	f := &o.c.File
	f.RotateBytes, f.RotateEvery = 0, 0
	for part := range strings.SplitSeq(s, ",") {
		if d, err := time.ParseDuration(part); err == nil && d >= time.Second &&
			f.RotateEvery == 0 {
			f.RotateEvery = d
			continue
		}
		n, ok := parseAmount(part, 1)
		if !ok || n < 64*kilo || f.RotateBytes != 0 {
			return wanted("wanted a size of 64K or more such as 1GB, a time of 1s or more such " +
				"as 10m, or both with a comma")
		}
		f.RotateBytes = n
	}
	return nil
}

// Record returns the settings of the options, which have been parsed. An error is a *Problem.
func (o *RecordOptions) Record() (*Record, error) {
	c := o.c
	kind, _ := recording.KindOf(c.File.Path)
	encrypts := kind.Encrypted
	rotates := c.File.RotateBytes > 0 || c.File.RotateEvery > 0
	switch {
	case len(c.Production) == 0:
		return nil, wanted("nothing to record: wanted -x PORT").hinting("tcpcopy record -x 80 " +
			"-o peak.pcapng records this host's port 80")
	case c.File.Path == "":
		return nil, wanted("nowhere to record to: wanted -o FILE").hinting("tcpcopy record -x "+
			"%d -o peak.pcapng", c.Production[0].Port())
	case c.File.Path == recording.Stdout && rotates:
		return nil, &Problem{Flag: "--rotate", What: "does not go with standard output: wanted " +
			"-o with the name of a file"}
	case c.File.Path != recording.Stdout && encrypts != (len(c.File.Recipients) > 0):
		p := &Problem{Flag: "-o", Value: c.File.Path, What: "ends in .age: wanted --encrypt-to " +
			"RECIPIENT, too"}
		if !encrypts {
			p.What = "is to be encrypted: wanted a name that ends in .age, too"
		}
		return nil, p
	case c.File.Keep > 0 && !rotates:
		return nil, &Problem{Flag: "--keep", Value: fmt.Sprint(c.File.Keep),
			What: "needs --rotate: without it there is one file"}
	}
	if err := c.Web.load(); err != nil {
		return nil, err
	}
	return &c, nil
}

// scrubbing makes an option of what is to be replaced.
func scrubbing(add func(string) error) func(string) error {
	return func(s string) error {
		if err := add(s); err != nil {
			return wanted("%v", err)
		}
		return nil
	}
}
