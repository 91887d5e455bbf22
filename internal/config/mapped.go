package config

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/proto/known"
)

// mappedFlags returns the options of mappedOptions by themselves, to look names up.
func mappedFlags() *pflag.FlagSet {
	fs := pflag.NewFlagSet("", pflag.ContinueOnError)
	register(fs, mappedOptions(&Mapped{Protocols: known.NewSettings()}))
	return fs
}

// mappedOptions returns the options that a configuration file may give for single mappings, too.
func mappedOptions(m *Mapped) []option {
	return slices.Concat(mappedWhere(m), mappedLoad(m), mappedHow(m), mappedCompare(m),
		mappedBounds(m),
		protocolOptions(m.Protocols, &m.Warnings))
}

func mappedWhere(m *Mapped) []option {
	return []option{
		{
			name: "only", arg: "NETS", group: Where, set: setNetworks(&m.Only),
			clear: func() { m.Only = nil },
			help:  "copy only clients of these networks, several with commas (default: all)",
		},
		{
			name: "except", arg: "NETS", group: Where, set: setNetworks(&m.Except),
			clear: func() { m.Except = nil },
			help:  "do not copy clients of these networks, several with commas",
		},
	}
}

// mappedLoad returns the options for how much is copied, and how targets share it.
func mappedLoad(m *Mapped) []option {
	healths := []Health{HealthAuto, HealthOn, HealthOff}
	samples := []SampleBy{BySession, ByClient}
	return []option{
		{
			name: "balance", arg: "METHOD", group: How, def: "client", set: setBalance(&m.Balance),
			choices: balances(),
			help: "how several targets share the sessions: client (by the client's address), " +
				"session (by the connection), round-robin, least (to the one with the fewest), " +
				"all (every session to every target)",
		},
		{
			name: "health", arg: "MODE", group: How, def: "auto",
			set: oneOf(&m.Health, healths...), choices: words(healths),
			help: "take a target out for a while if it refuses or does not answer connections, " +
				"and another can take the load: on, off, auto (on, except with --balance all)",
		},
		{
			name: "copies", letter: "n", arg: "N", group: How, def: "1", set: setCopies(&m.Copies),
			help: "make N copies of every session, for more load than production has; 2.5 makes " +
				"two of each, and a third of every other one",
		},
		{
			name: "stagger", arg: "TIME", group: How, set: span(&m.Stagger, time.Second, 0,
				time.Hour),
			help: "delay each further copy of --copies by TIME against the one before (default: " +
				"all run at once)",
		},
		{
			name: "sample", letter: "r", arg: "PERCENT", group: How, def: "100",
			set: setSample(&m.SamplePercent),
			help: "copy this share of the sessions, each as a whole; fractions such as 0.5 are " +
				"allowed",
		},
		{
			name: "sample-by", arg: "WHAT", group: How, def: "session",
			set: oneOf(&m.SampleBy, samples...), choices: words(samples),
			help: "what --sample chooses: session (each connection by itself), client (a client " +
				"with all its connections)",
		},
		{
			name: "ramp", arg: "TIME", group: How, set: span(&m.Ramp, time.Second, time.Second,
				24*time.Hour),
			help: "start gently: copy more of the sessions each second, and all of them after " +
				"TIME (default: all at once)",
		},
		{
			name: "gradually", letter: "g", group: Letters, set: gradually(&m.Ramp),
			help: "the same as --ramp 100s: 1 % more of the sessions each second",
		},
	}
}

func mappedHow(m *Mapped) []option {
	waits := []Wait{WaitAuto, WaitBytes, WaitQuiet, WaitNone}
	return []option{
		{
			name: "wait", arg: "MODE", group: How, def: "auto", set: oneOf(&m.Wait, waits...),
			choices: words(waits),
			help: "when the target's answer counts as complete, so that the next request may " +
				"go, if the protocol does not tell: bytes (as many as predicted), quiet " +
				"(silence), auto (bytes if predicted, else quiet), none (do not wait)",
		},
		{
			name: "proto", arg: "PROTO", group: How, def: "auto",
			set: oneOf(&m.Proto, protos()...), choices: words(protos()),
			help: "the protocol of the connections, which tells where requests and answers end: " +
				"auto (recognised by the first bytes of each connection), none (it is guessed), " +
				"or the protocol's name, if all connections speak it",
		},
		{
			name: "whole-sessions", letter: "O", group: How, set: on(&m.WholeSessions),
			help: "do not copy connections that were open before the copier started (default: " +
				"from their next request on)",
		},
		{
			name: "rtt", letter: "R", arg: "MS", group: How,
			set:  span(&m.RTT, time.Millisecond, time.Millisecond, time.Minute),
			help: "round-trip time to the target to assume until it is measured",
		},
	}
}

func mappedBounds(m *Mapped) []option {
	return []option{
		{
			name: "session-memory", arg: "BYTES", group: Bounds,
			set: amount(&m.SessionMemory, 1, 64*kilo, 16*giga),
			help: "bytes that one session may hold for a slow target (default: half of " +
				"--memory, divided by --shards)",
		},
		{
			name: "gate-limit", arg: "TIME", group: Bounds, def: "30s",
			set:  span(&m.GateLimit, time.Second, 10*time.Millisecond, 24*time.Hour),
			help: "how long a request waits for the target's answer to the one before",
		},
		{
			name: "hold-target", arg: "TIME", group: Bounds, def: "0",
			set: span(&m.HoldTarget, time.Second, 0, time.Hour),
			help: "hold what production gets while the target, or the intercept, is away: copy " +
				"it in order when that is back, but nothing that is older than TIME (0: drop and " +
				"count it at once)",
		},
		{
			name: "session-timeout", letter: "t", arg: "SECONDS", group: Bounds, def: "120",
			set: span(&m.SessionTimeout, time.Second, time.Second, 7*24*time.Hour),
			help: "give up a session if the target owes an answer or an acknowledgment for this " +
				"time",
		},
		{
			name: "keepalive-timeout", letter: "k", arg: "SECONDS", group: Bounds, def: "7200",
			set:  span(&m.KeepaliveTimeout, time.Second, time.Second, 30*24*time.Hour),
			help: "give up a session if neither side sends anything for this time",
		},
		{
			name: "max-rate", arg: "N", group: Bounds, set: rate(&m.MaxRate, "sessions a second",
				0.1, 1e7),
			help: "begin at most N copies a second; beyond that whole sessions are left out, " +
				"and counted (default: no bound)",
		},
		{
			name: "max-mbps", arg: "N", group: Bounds, set: rate(&m.MaxMbps, "megabits a second",
				0.01, 1e6),
			help: "send the targets at most N megabits a second of requests; beyond that whole " +
				"sessions are left out, and counted (default: no bound)",
		},
	}
}

// gradually parses the switch that stands for a ramp of 100 s.
func gradually(dst *time.Duration) func(string) error {
	return func(s string) error {
		var is bool
		if err := on(&is)(s); err != nil {
			return err
		}
		if is {
			*dst = 100 * time.Second
		}
		return nil
	}
}

func balances() []string {
	var all []string
	for b := balance.Client; b <= balance.All; b++ {
		all = append(all, b.String())
	}
	return all
}

func setBalance(dst *balance.Method) func(string) error {
	return func(s string) error {
		for i, name := range balances() {
			if s == name {
				*dst = balance.Method(i)
				return nil
			}
		}
		return wanted("wanted %s", orList(balances()))
	}
}

func setCopies(dst *float64) func(string) error {
	return func(s string) error {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || !(f >= 1 && f <= 1023) {
			return wanted("wanted a number from 1 to 1023, such as 3 or 2.5")
		}
		*dst = f
		return nil
	}
}

func setSample(dst *float64) func(string) error {
	return func(s string) error {
		if err := percent(dst, 100)(s); err != nil || *dst == 0 {
			return wanted("wanted a percentage above 0, up to 100")
		}
		return nil
	}
}

// rate parses a number of what, from lo to hi.
func rate(dst *float64, what string, lo, hi float64) func(string) error {
	return func(s string) error {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || !(f >= lo && f <= hi) {
			return wanted("wanted a number of %s from %g to %g", what, lo, hi)
		}
		*dst = f
		return nil
	}
}

// setNetworks parses addresses and networks.
func setNetworks(dst *[]netip.Prefix) func(string) error {
	return func(s string) error {
		parts, err := list(s)
		if err != nil {
			return err
		}
		var nets []netip.Prefix
		for _, p := range parts {
			n, err := network(p)
			if err != nil {
				return err
			}
			nets = append(nets, n)
		}
		*dst = append(*dst, nets...)
		return nil
	}
}

func network(s string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), nil
	}
	a, err := address(s)
	if err != nil {
		return netip.Prefix{}, notAddress(s, "addresses or networks such as 10.0.0.1 or "+
			"10.0.0.0/24")
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}
