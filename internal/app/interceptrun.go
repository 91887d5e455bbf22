package app

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
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

// headersOnly is how much of a packet the intercept captures: the longest headers of IP and TCP, and
// what an ICMP error quotes.
const headersOnly = 256

// answerPause is how long an answer's header may wait for others, so that several cost one wake here and at the
// copier; those that turns wait for do not (see wire.Hurry). What is lost when the ring overflows the target sends
// again.
const answerPause = 2 * time.Millisecond

// runIntercept opens the capture, serves copiers, and tells the account, until the context is done.
func runIntercept(s *engine.Control, c *config.Intercept, report *reporter, log *logbook) error {
	if c.OnTarget {
		return runTarget(s, c, report, log)
	}
	program, err := answers(c)
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
		Interfaces: c.Interfaces, Filter: program, IgnoreOutgoing: true, Immediate: true, Pause: answerPause, Now: now,
	})
	if err != nil {
		return err
	}
	cfg := intercept.Config{
		Whole: func(targets []netip.AddrPort) error {
			program, err := answers(c, targets...)
			if err != nil {
				return err
			}
			return capture.SetFilter(program)
		},
		Hurry:   capture.Hurry,
		Sources: []source.Source{capture}, Listen: c.Listen, Insecure: c.Insecure, Local: here, Pass: c.Pass,
		Devices: c.Interfaces, AllowForwarding: c.AllowForwarding, Software: "tcpcopy " + s.Version, Now: now, Log: s.Log,
	}
	if c.Key != nil {
		cfg.TLS = key.ServerTLS(*c.Key)
	}
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
	end, err := show("intercept", &c.Process, &log.ready, func() *view {
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
	err = tell(ended, c.Stats, func(final bool) {
		shot := daemon.Snapshot()
		log.statistics(interceptLine(&shot))
		report.write(account(&shot, final))
	})
	if err == nil && report.said != "" {
		return coded(exitFailure) // the report could not be written, which has been said
	}
	return err
}

// interceptNode is what an intercept says of itself.
func interceptNode(s *intercept.Snapshot, way wire.Way, live uint64, r interceptReport) *status.Node {
	n := &status.Node{Start: r.Start, Via: way.String(), Live: live}
	for _, c := range s.Copiers {
		if c.Conns > 0 {
			n.Up++
		}
	}
	n.Peers = n.Up // how many there should be nobody has said
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

// tell tells the account at each interval, and once more when the work has ended.
func tell(ended <-chan error, interval time.Duration, account func(final bool)) error {
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

// mostWhole bounds the targets that the filter can tell apart: where there are more, all answers are whole.
const mostWhole = 64

// answers is the filter of the target's answers, and of ICMP errors about copies. Those of some targets are kept
// whole, not their headers alone.
func answers(c *config.Intercept, targets ...netip.AddrPort) (filter.Program, error) {
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
	if len(targets) > mostWhole {
		o.AcceptLen = 0
	} else if len(targets) > 0 {
		var whole filter.Or
		for _, t := range targets {
			host, err := filter.Parse("src host " + t.Addr().Unmap().WithZone("").String())
			if err != nil {
				return nil, err
			}
			whole = append(whole, filter.And{host, filter.Ports{Dir: filter.Src, Proto: 6, First: t.Port(), Last: t.Port()}})
		}
		o.Whole = whole
	}
	return filter.CompileExpr(filter.Or{what, icmp}, o)
}

// listenProblem names the capability where a port below 1024 was refused, and says what mends other refusals.
func listenProblem(err error) error {
	var op *net.OpError
	if !errors.As(err, &op) {
		return err
	}
	switch {
	case errors.Is(err, os.ErrPermission):
		return &sys.CapabilityError{Op: fmt.Sprintf("listen on %s", op.Addr), Need: "CAP_NET_BIND_SERVICE", Err: os.ErrPermission}
	case errors.Is(err, syscall.EADDRINUSE):
		return &mended{fmt.Errorf("listen for copiers on %s: %w", op.Addr, syscall.EADDRINUSE), "ss -ltnp shows who listens there; -p takes another port, which copiers then want too: -s IP:PORT"}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return &mended{fmt.Errorf("listen for copiers on %s: %w: wanted an address of this host", op.Addr, syscall.EADDRNOTAVAIL), "ip address lists them; without -b all are listened on"}
	}
	return err
}

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
	Account   any                   `json:"account"` // its counters by their names
}

// interceptLine is the account in one line.
func interceptLine(s *intercept.Snapshot) string {
	connected, dropped, away := 0, uint64(0), uint64(0)
	for _, c := range s.Copiers {
		if c.Conns > 0 {
			connected++
		}
		dropped += c.Dropped
		away += c.Away
	}
	line := fmt.Sprintf("copiers %d, connections %d; packets %d, routed %d, real clients' %d, held too long %d",
		connected, s.Route.Entries, s.Frames.Seen, s.Route.Routed, s.Route.Unowned, s.Route.HeldExpired+s.Route.HeldOverflow)
	for _, n := range []struct {
		what  string
		count uint64
	}{
		{"lost in the kernel", s.Capture.Dropped},
		{"copiers too slow for", dropped},
		{"copiers away for", away},
		{"strangers without the key", s.Conns.WrongKey + s.Conns.NeedsKey + s.Conns.Garbage},
	} {
		if n.count > 0 {
			line += fmt.Sprintf(", %s %d", n.what, n.count)
		}
	}
	return line
}
