package config

import (
	"net/netip"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"tcpcopy/internal/account/status"
	"tcpcopy/internal/way"
	"tcpcopy/internal/way/ways"
)

// CopyOptions holds the options of tcpcopy copy, or tcpcopy replay, while they are parsed.
type CopyOptions struct {
	fs   *pflag.FlagSet
	host Host
	c    Copy

	maps       []string
	intercepts []string
	port       int
	via        string
	noWait     bool
	keyFile    string
	mirrors    []string // interfaces of --from mirror:
	fromPeers  []netip.Prefix
	file       string             // --config
	typed      []setting          // of the command line, if there is a file
	places     map[string]setting // of the file, by the flag as people type it

	replays     bool // of tcpcopy replay
	replay      Replay
	files       []string
	speed, loop string // as typed; empty: not given
}

// NewCopyOptions adds the options of tcpcopy copy to fs. After fs has been parsed, Copy returns
// the settings.
func NewCopyOptions(fs *pflag.FlagSet, host Host) *CopyOptions {
	o := &CopyOptions{fs: fs, host: host, c: defaultCopy(), port: DefaultPort,
		places: make(map[string]setting)}
	register(fs, o.where())
	register(fs, o.from())
	register(fs, o.comparing())
	register(fs, mappedOptions(&o.c.Mapped))
	register(fs, o.how())
	register(fs, o.bounds())
	register(fs, o.output())
	register(fs, o.letters())
	return o
}

func (o *CopyOptions) where() []option {
	c := &o.c
	return []option{
		{
			name: "map", letter: "x", arg: "MAPPING", group: Where, set: o.setMap,
			help: "what to copy where: [IP:]PORT-TARGET:PORT, several with commas; IPv6 " +
				"addresses in brackets. Several targets have a | between them (see --balance); " +
				"one with *3 behind it gets three times the sessions",
		},
		{
			name: "config", arg: "FILE", group: Where, set: text(&o.file, "the name of a file"),
			help: "read options and mappings from a YAML file (tcpcopy config example prints " +
				"one); SIGHUP reads it again",
		},
		{
			name: "intercept", letter: "s", arg: "IP[:PORT]", group: Where, set: o.setIntercept,
			help: "connect to the intercepts at these addresses, several with commas",
		},
		{
			name: "via", arg: "WAY", group: Where, set: o.setVia,
			choices: ways.Names(),
			help: "how to reach the target: socket (ordinary connections from this host), raw " +
				"(packets from the clients' own addresses), tunnel (connections that the " +
				"intercept on the target opens, from the clients' own addresses). Default: with " +
				"-s what the intercept offers, else socket",
		},
		{
			name: "interface", letter: "i", arg: "DEV", group: Where, set: o.setInterface,
			help: "capture on these interfaces only, several with commas (default: all, " +
				"loopback too)",
		},
		{
			name: "filter", letter: "F", arg: "EXPR", group: Where, set: setFilter(&c.Filter),
			help: "copy only packets that match, in tcpdump's syntax: host, net, port, " +
				"portrange, src, dst, and, or, not",
		},
		{
			name: "clients", letter: "c", arg: "ADDRS", group: Where, set: o.setClients,
			help: "send from these addresses instead of the clients' own (raw, tunnel), if the " +
				"target cannot route those to the intercept: a list, a.b.c.x, or CIDR",
		},
		{
			name: "localhost-as", letter: "H", arg: "IP", group: Where, set: o.setLocalhostAs,
			help: "send from this address for clients at 127.0.0.1 and ::1 (raw, tunnel)",
		},
		{
			name: "output-device", letter: "o", arg: "DEV", group: Where, set: o.setOutputDevice,
			help: "send on this device at the link layer (raw; default: by the routes)",
		},
		{
			name: "proxy-protocol", arg: "v1|v2", group: Where, set: o.setProxyProtocol,
			choices: []string{"v1", "v2"},
			help: "send a PROXY protocol header with the client's address first (socket); the " +
				"target must expect it",
		},
		{
			name: "bind", arg: "IPS", group: Where, set: o.setBind,
			help: "connect from these addresses of this host in turn (socket): several with " +
				"commas, ranges (10.0.0.5-10.0.0.9), networks. One address allows some 28,000 " +
				"connections to one target",
		},
	}
}

func (o *CopyOptions) how() []option {
	c := &o.c
	read, counted := watchedProtocols()
	syns := []way.SYN{way.SYNClient, way.SYNFull, way.SYNMinimal}
	controls := []way.Congestion{way.AutoCongestion, way.BBR, way.Cubic, way.Reno}
	return []option{
		{
			name: "port-shift", letter: "f", arg: "N", group: How,
			set: whole(&c.PortShift, 0, 1023),
			help: "add N to the source ports, so that several copiers of the same clients do " +
				"not collide (raw, tunnel)",
		},
		{
			name: "lonely", letter: "L", group: How, set: on(&c.Lonely),
			help: "start, and go on, while no intercept can be reached",
		},
		{
			name: "both", group: How, set: on(&c.Both),
			help: "capture production's answers whole, and read them if the protocol is known (" +
				read + "): then a client with several requests under way is copied as such, and " +
				"the account shows production's status beside the target's (" + counted +
				"). Mirrors and recordings are always read in this way",
		},
		{
			name: "mtu", letter: "M", arg: "BYTES", group: How, set: whole(&c.MTU, 576, 65535),
			help: "largest packet to send to the target (raw; default: discovered)",
		},
		{
			name: "mss", letter: "D", arg: "BYTES", group: How, set: whole(&c.MSS, 216, 65495),
			help: "largest segment to send to the target (raw; default: from the MTU)",
		},
		{
			name: "syn", arg: "KIND", group: How, def: "client", set: oneOf(&c.SYN, syns...),
			choices: words(syns),
			help:    "TCP options to offer (raw): client (those of the real client), full, minimal",
		},
		{
			name: "congestion", arg: "NAME", group: How, def: "auto",
			set: oneOf(&c.Congestion, controls...), choices: words(controls),
			help: "congestion control (raw): auto (that of this host: sysctl " +
				"net.ipv4.tcp_congestion_control), bbr, cubic, reno",
		},
		{
			name: "connections", letter: "C", arg: "N", group: How, def: "1",
			set:  whole(&c.Connections, 1, 16),
			help: "open N connections to each intercept",
		},
		{
			name: "key", arg: "FILE", group: How, set: keyFile(&o.keyFile),
			help: "the file with the key that the intercepts, and the agents of --from agent, " +
				"have, too (tcpcopy keygen); the environment variable TCPCOPY_KEY may hold the " +
				"key instead",
		},
		{
			name: "insecure", group: How, set: on(&c.Insecure),
			help: "run without a key: links to intercepts and agents are neither encrypted nor " +
				"authenticated; and without --from-peers: anyone may send traffic",
		},
		{
			name: "shards", arg: "N", group: How, set: whole(&c.Shards, 1, 64),
			help: "handle the sessions in N threads (default: from half the number of cores)",
		},
		{
			name: "mark", arg: "N", group: How, def: "0x7c0b1e5", set: o.setMark,
			help: "mark of the copier's own packets (SO_MARK), by which they are not captured " +
				"again",
		},
	}
}

func (o *CopyOptions) bounds() []option {
	c := &o.c
	return []option{
		{
			name: "memory", letter: "m", arg: "MB", group: Bounds, def: "512",
			set: amount(&c.Memory, mega, 16*mega, 1024*giga),
			help: "memory for all sessions; beyond that those with the largest backlogs are " +
				"dropped and new ones are left out, and counted",
		},
		{
			name: "max-sessions", arg: "N", group: Bounds, def: "262144",
			set: whole(&c.MaxSessions, 1, 1<<24),
			help: "handle at most N sessions at the same time; beyond that new ones are left " +
				"out, and counted",
		},
		{
			name: "buffer", letter: "B", arg: "MB", group: Bounds, def: "32",
			set: amount(&c.Ring, mega, 2*mega, 4*giga),
			help: "size of the capture ring, which holds packets until the copier reads them; a " +
				"larger one outlasts longer bursts. In a burst, large packets wait outside, in " +
				"up to four times as much",
		},
		{
			name: "connect-timeout", arg: "TIME", group: Bounds, def: "10s",
			set:  span(&c.ConnectTimeout, time.Second, 10*time.Millisecond, 10*time.Minute),
			help: "give up a connection attempt to the target after this time",
		},
		{
			name: "drain", arg: "TIME", group: Bounds, def: "5s",
			set: span(&c.Drain, time.Second, 0, time.Hour),
			help: "give sessions this time to end after SIGINT or SIGTERM; a second signal ends " +
				"them at once",
		},
	}
}

func (o *CopyOptions) output() []option {
	c := &o.c
	return append([]option{
		{
			name: "stats", arg: "TIME", group: Output, def: "10s",
			set:  span(&c.Stats, time.Second, 0, 24*time.Hour),
			help: "print a line of statistics to stderr at this interval; 0: none",
		},
		{
			name: "report", arg: "FILE", group: Output, set: text(&c.Report, "the name of a file"),
			help: "write the account as JSON to FILE, at each line of --stats and at the end",
		},
		c.Web.dashboard(),
		{
			name: "live", group: Output, set: on(&c.Live),
			help: "show in the terminal how it goes, as tcpcopy top does",
		},
		{
			name: "html", arg: "FILE", group: Output, set: text(&c.HTML, "the name of a file"),
			help: "write a page about the run at the end: fidelity, account, course, answers",
		},
	}, processOptions(&c.Process)...)
}

// processOptions returns the options that every daemon has.
func processOptions(p *Process) []option {
	return append([]option{
		{
			name: "log", letter: "l", arg: "FILE", group: Output,
			set:  text(&p.LogFile, "the name of a file"),
			help: "append the log and the statistics to FILE, instead of stderr",
		},
		{
			name: "pid-file", letter: "P", arg: "FILE", group: Output,
			set:  text(&p.PIDFile, "the name of a file"),
			help: "write the process id to FILE",
		},
		{
			name: "daemon", letter: "d", group: Output, set: on(&p.Daemon),
			help: "go to the background once everything is open; errors before that are printed " +
				"as usual",
		},
		{
			name: "status", arg: "ADDR", group: Output, set: setStatus(&p.Status),
			help: "answer tcpcopy status on this unix socket or IP:PORT; off: not at all " +
				"(default: a socket in " + status.Dir + ")",
		},
		{
			name: "check", arg: "on|off", group: Output, def: string(CheckOn),
			set: oneOf(&p.Check, CheckOn, CheckOff), choices: words([]Check{CheckOn, CheckOff}),
			help: "look for faults of this host at start, and report each in one line " +
				"(tcpcopy doctor looks further)",
		},
	}, append(userOptions(p), webOptions(p)...)...)
}

func setStatus(dst *string) func(string) error {
	return func(s string) error {
		if s != StatusOff {
			if err := status.Address(s); err != nil {
				return wanted("%v; or off", err)
			}
		}
		*dst = s
		return nil
	}
}

func (o *CopyOptions) letters() []option {
	return append(append(o.offline(), []option{
		{
			name: "no-wait", letter: "W", group: Letters, set: on(&o.noWait),
			help: "the same as --wait none",
		},
		{
			name: "port", letter: "p", arg: "PORT", group: Letters, def: strconv.Itoa(DefaultPort),
			set:  whole(&o.port, 1, 65535),
			help: "port of the intercepts that -s gives without a port",
		},
		{
			name: "snaplen", letter: "S", arg: "BYTES", group: Letters, set: setSnaplen,
			help: "packets are captured whole: 65535 or more is accepted, less is refused",
		},
		{
			name: "user-pool", letter: "U", arg: "KB", group: Letters, help: "refused: see " +
				"--session-memory",
			refused: "sessions have no pools of a fixed size here: --session-memory bounds what " +
				"one may hold",
		},
	}...), protocolLetters()...)
}
