package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/metrics"
	"tcpcopy/internal/account/status"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/engine"
	"tcpcopy/internal/source"
	"tcpcopy/internal/source/afpacket"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/source/locals"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/intercept"
)

// headersOnly is how many bytes of a packet the intercept captures: enough for the longest IP and
// TCP headers, and for what an ICMP error quotes.
const headersOnly = 256

// answerPause is how long an answer's header may wait for others, so that several cost one wake-up
// here and at the copier. Answers that turns wait for do not wait (wire.Hurry). The target
// retransmits what is lost when the ring overflows.
const answerPause = 2 * time.Millisecond

// runIntercept opens the capture, serves copiers, and reports the account, until the context is
// done.
func runIntercept(
	s *engine.Control, c *config.Intercept, examine examineHost, report *reporter, log *logbook,
) error {
	if c.OnTarget {
		return runTarget(s, c, examine, report, log)
	}
	program, err := answerFilter(c)
	if err != nil {
		return err
	}
	here, err := locals.Watch()
	if err != nil {
		return err
	}
	defer here.Close()
	start := time.Now()
	now := func() mono.Time { return mono.Time(time.Since(start)) }
	capture, err := afpacket.Open(afpacket.Config{
		Interfaces: c.Interfaces, Filter: program, IgnoreOutgoing: true, Immediate: true,
		Pause: answerPause, Now: now,
	})
	if err != nil {
		return err
	}
	cfg := intercept.Config{
		Whole: func(targets []netip.AddrPort) error {
			program, err := answerFilter(c, targets...)
			if err != nil {
				return err
			}
			return capture.SetFilter(program)
		},
		Hurry:   capture.Hurry,
		Probe:   sendProbe,
		Examine: examine,
		Sources: []source.Source{capture}, Listen: c.Listen, Insecure: c.Insecure, Local: here,
		Pass: c.Pass, Devices: c.Interfaces, AllowForwarding: c.AllowForwarding,
		Software: "tcpcopy " + s.Version, Now: now, Log: s.Log,
	}
	proveKeys(&cfg, c)
	daemon, err := intercept.New(cfg)
	if err != nil {
		capture.Close()
		return listenProblem(err)
	}
	account := func(shot *intercept.Snapshot, final bool) interceptReport {
		return interceptReport{
			Version: s.Version, Start: start, Now: time.Now(), Final: final,
			Resources: export.NewResourceReport(export.Spent()), Account: export.Fields(*shot),
		}
	}
	end, err := show("intercept", &c.Process, log, func() *view {
		shot := daemon.Snapshot()
		n := interceptNode(&shot, wire.WayRaw, uint64(shot.Route.Entries), account(&shot, false))
		n.Sequence = log.seen.next()
		m := interceptMetrics(&shot, n, metricsNode(s, n))
		m.Assistant = assistantMetrics(&shot)
		return &view{*n, m}
	})
	if err != nil {
		return err
	}
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- daemon.Run(s.Context) }()

	s.Ready(fmt.Sprintf("listening on %s", addresses(daemon)))
	err = reportUntil(ended, c.Stats, func(final bool) {
		shot := daemon.Snapshot()
		log.statistics(interceptLine(&shot))
		report.write(account(&shot, final))
	})
	if err == nil && report.lastError != "" {
		return exitCode(exitFailure) // the reporter has printed the error
	}
	return err
}

// proveKeys has copiers prove the key, or one of the keys.
func proveKeys(cfg *intercept.Config, c *config.Intercept) {
	switch {
	case c.Keys != nil:
		cfg.Keys, cfg.TLS = c.Keys, c.Keys.ServerTLS()
	case c.Key != nil:
		cfg.TLS = key.ServerTLS(*c.Key)
	}
}

// interceptNode returns an intercept's answer to tcpcopy status.
func interceptNode(
	s *intercept.Snapshot, way wire.Way, live uint64, r interceptReport,
) *status.Node {
	n := &status.Node{Start: r.Start, Via: way.String(), Live: live}
	for _, c := range s.Copiers {
		if c.Conns == 0 {
			continue
		}
		n.Up++
		if c.Key != "" && !slices.Contains(n.Keys, c.Key) {
			n.Keys = append(n.Keys, c.Key)
		}
	}
	n.Peers = n.Up // the number of copiers to expect is not known
	n.Account, _ = json.Marshal(r)
	return n
}

func interceptMetrics(s *intercept.Snapshot, n *status.Node, of metrics.Node) *metrics.Intercept {
	return &metrics.Intercept{
		Node: of, Way: n.Via, Copiers: n.Up, Connections: n.Live,
		Strangers: s.Conns.WrongKey + s.Conns.NeedsKey + s.Conns.Garbage,
	}
}

func assistantMetrics(s *intercept.Snapshot) *metrics.Assistant {
	a := &metrics.Assistant{
		Packets: s.Frames.Seen, KernelDrop: s.Capture.Dropped, Routed: s.Route.Routed,
		Unowned: s.Route.Unowned, HeldTooLong: s.Route.HeldExpired + s.Route.HeldOverflow,
	}
	for _, c := range s.Copiers {
		a.CopierSlow += c.Dropped
		a.CopierAway += c.Away
	}
	return a
}

// reportUntil calls account at each interval, and once more when the work has ended.
func reportUntil(ended <-chan error, interval time.Duration, account func(final bool)) error {
	var tick <-chan time.Time
	if interval > 0 {
		t := time.NewTicker(interval)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-tick:
			account(false)
		case err := <-ended:
			account(true)
			return err
		}
	}
}

const (
	// mostWhole is the most targets that the filter tells apart by address and port. Of more it
	// tests the ports only: packets of other targets with these ports are captured whole as well.
	mostWhole = 64
	// mostPorts is the most ranges of ports that the filter tests. With more, all answers are
	// captured whole.
	mostPorts = 512
)

// answerFilter returns the filter of the target's answers, and of ICMP errors about copies. It
// keeps headers only, and whole packets of the given targets.
func answerFilter(c *config.Intercept, targets ...netip.AddrPort) (filter.Program, error) {
	icmp, err := filter.Parse("icmp or icmp6")
	if err != nil {
		return nil, err
	}
	what := c.Filter
	if what == nil {
		if what, err = filter.Parse("tcp"); err != nil {
			return nil, err
		}
	}
	o := filter.Options{ExcludeOutgoing: true, AcceptLen: headersOnly}
	switch ports := portsOf(targets); {
	case len(targets) == 0:
	case len(targets) <= mostWhole:
		if o.Whole, err = fromTargets(targets); err != nil {
			return nil, err
		}
	case len(ports) <= mostPorts:
		o.Whole = ports
	default:
		o.AcceptLen = 0
	}
	return filter.CompileExpr(filter.Or{what, icmp}, o)
}

// fromTargets matches the packets that come from one of the targets.
func fromTargets(targets []netip.AddrPort) (filter.Expr, error) {
	var any filter.Or
	for _, t := range targets {
		host, err := filter.Parse("src host " + t.Addr().Unmap().WithZone("").String())
		if err != nil {
			return nil, err
		}
		port := filter.Ports{Dir: filter.Src, Proto: 6, First: t.Port(), Last: t.Port()}
		any = append(any, filter.And{host, port})
	}
	return any, nil
}

// portsOf matches the packets that come from a port of one of the targets: an element for each
// range of ports.
func portsOf(targets []netip.AddrPort) filter.Or {
	var ports []uint16
	for _, t := range targets {
		ports = append(ports, t.Port())
	}
	slices.Sort(ports)
	var any filter.Or
	for i, first := 0, 0; i < len(ports); i++ {
		if i+1 < len(ports) && ports[i+1]-ports[i] <= 1 {
			continue
		}
		any = append(any,
			filter.Ports{Dir: filter.Src, Proto: 6, First: ports[first], Last: ports[i]})
		first = i + 1
	}
	return any
}

// listenProblem adds the missing capability for a port below 1024, and the remedy for other
// refusals.
func listenProblem(err error) error {
	var op *net.OpError
	if !errors.As(err, &op) {
		return err
	}
	switch {
	case errors.Is(err, os.ErrPermission):
		return &sys.CapabilityError{
			Op: fmt.Sprintf("listen on %s", op.Addr), Need: "CAP_NET_BIND_SERVICE",
			Err: os.ErrPermission,
		}
	case errors.Is(err, syscall.EADDRINUSE):
		return &withRemedy{
			fmt.Errorf("listen for copiers on %s: %w", op.Addr, syscall.EADDRINUSE),
			"ss -ltnp shows what listens there; -p sets another port, and -s IP:PORT at copiers",
		}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return &withRemedy{
			fmt.Errorf("listen for copiers on %s: %w: wanted an address of this host",
				op.Addr, syscall.EADDRNOTAVAIL),
			"ip address lists them; without -b it listens on all",
		}
	}
	return err
}

// addresses returns the addresses that the intercept listens on.
func addresses(d *intercept.Intercept) string {
	var all []string
	for _, a := range d.Addrs() {
		all = append(all, a.String())
	}
	return strings.Join(all, ", ")
}

// interceptReport is the JSON report of an intercept.
type interceptReport struct {
	Version   string                `json:"version"`
	Start     time.Time             `json:"start"`
	Now       time.Time             `json:"now"`
	Final     bool                  `json:"final"`
	Resources export.ResourceReport `json:"resources"`
	Account   any                   `json:"account"` // counters by their names
}

// interceptLine returns the account as one line.
func interceptLine(s *intercept.Snapshot) string {
	connected, dropped, away := 0, uint64(0), uint64(0)
	for _, c := range s.Copiers {
		if c.Conns > 0 {
			connected++
		}
		dropped += c.Dropped
		away += c.Away
	}
	line := fmt.Sprintf("copiers %d, connections %d; packets %d, routed %d, "+
		"of real clients %d, held too long %d",
		connected, s.Route.Entries, s.Frames.Seen, s.Route.Routed, s.Route.Unowned,
		s.Route.HeldExpired+s.Route.HeldOverflow)
	for _, n := range []struct {
		what  string
		count uint64
	}{
		{"lost in the kernel", s.Capture.Dropped},
		{"lost at slow copiers", dropped},
		{"lost at absent copiers", away},
		{"connections without the key", s.Conns.WrongKey + s.Conns.NeedsKey + s.Conns.Garbage},
	} {
		if n.count > 0 {
			line += fmt.Sprintf(", %s %d", n.what, n.count)
		}
	}
	return line
}
