package config

import (
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"tcpcopy/internal/account/status"
	"tcpcopy/internal/way"
	"tcpcopy/internal/way/ways"
)

// CopyOptions are the options of tcpcopy copy while they are read.
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
	mirrors    []string           // interfaces of --from mirror:
	file       string             // --config
	typed      []setting          // what the command line says, where there is a file
	places     map[string]setting // what came from it, by the flag as people type it

	replays     bool // of tcpcopy replay
	replay      Replay
	files       []string
	speed, loop string // as typed; empty: not given
}

// NewCopyOptions adds the options of tcpcopy copy to fs. After fs has been parsed, Copy makes the
// settings of them.
func NewCopyOptions(fs *pflag.FlagSet, host Host) *CopyOptions {
	o := &CopyOptions{fs: fs, host: host, c: defaultCopy(), port: DefaultPort, places: make(map[string]setting)}
	register(fs, o.where())
	register(fs, o.from())
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
			help: "what to copy where: [IP:]PORT-TARGET:PORT, several with commas; IPv6 in brackets; several targets with | between them (--balance), *3 behind one for three times the sessions",
		},
		{
			name: "config", arg: "FILE", group: Where, set: text(&o.file, "the name of a file"),
			help: "options and mappings from a YAML file (tcpcopy config example); SIGHUP has it read again",
		},
		{
			name: "intercept", letter: "s", arg: "IP[:PORT]", group: Where, set: o.setIntercept,
			help: "where intercepts listen, several with commas",
		},
		{
			name: "via", arg: "WAY", group: Where, set: o.setVia, choices: ways.Names(),
			help: "socket: ordinary connections from this host; raw: packets from the clients' own addresses; tunnel: connections that the intercept on the target opens, from the clients' own addresses (default: with -s what the intercept offers, else socket)",
		},
		{
			name: "interface", letter: "i", arg: "DEV", group: Where, set: o.setInterface,
			help: "capture on these interfaces only, several with commas (default: all, loopback too)",
		},
		{
			name: "filter", letter: "F", arg: "EXPR", group: Where, set: setFilter(&c.Filter),
			help: "copy only packets that match, in tcpdump's words: host, net, port, portrange, src, dst, and, or, not",
		},
		{
			name: "clients", letter: "c", arg: "ADDRS", group: Where, set: o.setClients,
			help: "send from these addresses instead of the clients' own (raw, tunnel): a list, a.b.c.x, or CIDR",
		},
		{
			name: "localhost-as", letter: "H", arg: "IP", group: Where, set: o.setLocalhostAs,
			help: "stands in for 127.0.0.1 and ::1 as client address (raw, tunnel)",
		},
		{
			name: "output-device", letter: "o", arg: "DEV", group: Where, set: o.setOutputDevice,
			help: "send on this device at link layer (raw)",
		},
		{
			name: "proxy-protocol", arg: "v1|v2", group: Where, set: o.setProxyProtocol, choices: []string{"v1", "v2"},
			help: "tell the target the client's address in a PROXY protocol header (socket)",
		},
		{
			name: "bind", arg: "IPS", group: Where, set: o.setBind,
			help: "connect from these addresses of this host, in turn: several with commas, ranges (10.0.0.5-10.0.0.9), networks (socket); each has some 28,000 connections to one target",
		},
	}
}

func (o *CopyOptions) how() []option {
	c := &o.c
	syns := []way.SYN{way.SYNClient, way.SYNFull, way.SYNMinimal}
	controls := []way.Congestion{way.AutoCongestion, way.BBR, way.Cubic, way.Reno}
	return []option{
		{
			name: "port-shift", letter: "f", arg: "N", group: How, set: whole(&c.PortShift, 0, 1023),
			help: "shift the source ports by N, so that several copiers do not collide (raw, tunnel)",
		},
		{
			name: "lonely", letter: "L", group: How, set: on(&c.Lonely),
			help: "go on when no intercept can be reached",
		},
		{
			name: "both", group: How, set: on(&c.Both),
			help: "capture production's answers whole, and read them where the protocol is known (HTTP/1, Redis): a client that keeps several requests under way is copied by one that does, and the account tells production's status beside the target's; mirrors and recordings are read so anyway",
		},
		{
			name: "mtu", letter: "M", arg: "BYTES", group: How, set: whole(&c.MTU, 576, 65535),
			help: "largest packet to the target (raw; default: the path's)",
		},
		{
			name: "mss", letter: "D", arg: "BYTES", group: How, set: whole(&c.MSS, 216, 65495),
			help: "largest segment to the target (raw; default: from the MTU)",
		},
		{
			name: "syn", arg: "KIND", group: How, def: "client", set: oneOf(&c.SYN, syns...), choices: words(syns),
			help: "TCP options to offer: client (as the real client did), full, minimal (raw)",
		},
		{
			name: "congestion", arg: "NAME", group: How, def: "auto", set: oneOf(&c.Congestion, controls...), choices: words(controls),
			help: "congestion control (raw): auto (this host's own: sysctl net.ipv4.tcp_congestion_control), bbr, cubic, reno",
		},
		{
			name: "connections", letter: "C", arg: "N", group: How, def: "1", set: whole(&c.Connections, 1, 16),
			help: "parallel connections to each intercept",
		},
		{
			name: "key", arg: "FILE", group: How, set: keyFile(&o.keyFile),
			help: "the key that the intercept has too, and the agents of --from agent; or in the environment as TCPCOPY_KEY",
		},
		{
			name: "insecure", group: How, set: on(&c.Insecure),
			help: "no key is fine: links to intercepts and agents are neither encrypted nor authenticated",
		},
		{
			name: "shards", arg: "N", group: How, set: whole(&c.Shards, 1, 64),
			help: "sessions are handled in N threads (default: by half of the cores)",
		},
		{
			name: "mark", arg: "N", group: How, def: "0x7c0b1e5", set: o.setMark,
			help: "mark of our own packets, by which they are not captured again",
		},
	}
}

func (o *CopyOptions) bounds() []option {
	c := &o.c
	return []option{
		{
			name: "memory", letter: "m", arg: "MB", group: Bounds, def: "512", set: amount(&c.Memory, mega, 16*mega, 1024*giga),
			help: "memory for all sessions; beyond it new sessions are left out, and counted",
		},
		{
			name: "max-sessions", arg: "N", group: Bounds, def: "262144", set: whole(&c.MaxSessions, 1, 1<<24),
			help: "sessions at the same time",
		},
		{
			name: "buffer", letter: "B", arg: "MB", group: Bounds, def: "16", set: amount(&c.Ring, mega, 2*mega, 4*giga),
			help: "capture ring: what may lie there before the copier gets to it",
		},
		{
			name: "connect-timeout", arg: "TIME", group: Bounds, def: "10s", set: span(&c.ConnectTimeout, time.Second, 10*time.Millisecond, 10*time.Minute),
			help: "give a connection attempt up",
		},
		{
			name: "drain", arg: "TIME", group: Bounds, def: "5s", set: span(&c.Drain, time.Second, 0, time.Hour),
			help: "time that sessions get to end in after SIGINT or SIGTERM; a second signal ends at once",
		},
	}
}

func (o *CopyOptions) output() []option {
	c := &o.c
	return append([]option{
		{
			name: "stats", arg: "TIME", group: Output, def: "10s", set: span(&c.Stats, time.Second, 0, 24*time.Hour),
			help: "a line on stderr each so often; 0: none",
		},
		{
			name: "report", arg: "FILE", group: Output, set: text(&c.Report, "the name of a file"),
			help: "write the account as JSON, at each --stats and at the end",
		},
	}, processOptions(&c.Process)...)
}

// processOptions are the same for both daemons.
func processOptions(p *Process) []option {
	return []option{
		{
			name: "log", letter: "l", arg: "FILE", group: Output, set: text(&p.LogFile, "the name of a file"),
			help: "append log and statistics to FILE instead of stderr",
		},
		{
			name: "pid-file", letter: "P", arg: "FILE", group: Output, set: text(&p.PIDFile, "the name of a file"),
			help: "write the process id to FILE",
		},
		{
			name: "daemon", letter: "d", group: Output, set: on(&p.Daemon),
			help: "go to the background once everything is open",
		},
		{
			name: "status", arg: "ADDR", group: Output, set: setStatus(&p.Status),
			help: "answer tcpcopy status on this unix socket, or IP:PORT; off: not at all (default: a socket in " + status.Dir + ")",
		},
	}
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
	return append(o.offline(), []option{
		{
			name: "no-wait", letter: "W", group: Letters, set: on(&o.noWait),
			help: "the same as --wait none",
		},
		{
			name: "port", letter: "p", arg: "PORT", group: Letters, def: strconv.Itoa(DefaultPort), set: whole(&o.port, 1, 65535),
			help: "port of the intercepts that -s gives without one",
		},
		{
			name: "snaplen", letter: "S", arg: "BYTES", group: Letters, set: setSnaplen,
			help: "packets are captured whole: 65535 or more is taken, less is refused",
		},
		{
			name: "user-pool", letter: "U", arg: "KB", group: Letters, help: "refused: see --session-memory",
			refused: "sessions have no pools of a fixed size here: --session-memory bounds what one may hold",
		},
		{
			name: "users", letter: "u", arg: "PAIRS", group: Letters, help: "refused: see --mysql-login",
			refused: "logins to the target's MySQL are given as USER:PASSWORD, with --mysql-login or --mysql-login-file",
		},
	}...)
}
