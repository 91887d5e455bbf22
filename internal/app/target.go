package app

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netns"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/metrics"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/engine"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/intercept"
	"tcpcopy/internal/way/tunnel/localroute"
	"tcpcopy/internal/way/tunnel/ontarget"
)

// targetHost is where an intercept on the target acts: its own network namespace, or that of
// --netns. For its own, enter and do are nil.
type targetHost struct {
	handle netns.NsHandle
	enter  func() error             // moves the calling thread to the namespace
	do     func(func() error) error // calls a function in the namespace
}

// openTargetHost opens the namespace of --netns.
func openTargetHost(c *config.Target) (h targetHost, err error) {
	h.handle = netns.None()
	if c.Netns == "" {
		return h, nil
	}
	if h.handle, err = netns.GetFromPath(c.Netns); err != nil {
		return h, fmt.Errorf("open network namespace %s: %w", c.Netns, err)
	}
	h.enter = func() error {
		if err := netns.Set(h.handle); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", c.Netns, err)
		}
		return nil
	}
	h.do = func(f func() error) error {
		done := make(chan error)
		go func() {
			runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
			err := h.enter()
			if err == nil {
				err = f()
			}
			done <- err
		}()
		return <-done
	}
	return h, nil
}

// close closes the namespace's handle.
func (h *targetHost) close() {
	if h.handle.IsOpen() {
		h.handle.Close()
	}
}

// routes returns the configuration of the changes to the host.
func (h *targetHost) routes(c *config.Target) localroute.Config {
	reach := map[string]localroute.Reach{
		"auto": localroute.Least, "loopback": localroute.LoopbackOnly, "mark": localroute.MarkOnly,
	}
	r := localroute.Config{Loopback: c.Allow.Loopback, Reach: reach[c.Reach], Do: h.do}
	if !c.Allow.Any {
		r.Ports = c.Allow.List
	}
	return r
}

// planTarget carries out --dry-run and --cleanup, which start nothing.
func (p *program) planTarget(c *config.Target) error {
	host, err := openTargetHost(c)
	if err != nil {
		return err
	}
	defer host.close()
	if c.Cleanup {
		done, err := localroute.Cleanup(host.routes(c))
		for _, d := range done {
			fmt.Fprintln(p.out, d)
		}
		if err == nil {
			others, _ := localroute.Elsewhere(host.routes(c))
			for _, path := range others {
				say(p.err, "%s: changes in another network namespace: --cleanup --netns PID "+
					"undoes them, with the id of a process there", path)
			}
		}
		if err == nil && len(done) == 0 {
			say(p.err, "nothing to undo")
		}
		return err
	}
	plan, err := localroute.Draft(host.routes(c))
	if err != nil {
		return err
	}
	fmt.Fprint(p.out, plan.String())
	return nil
}

// runTarget prepares the host, serves copiers, and undoes its changes at the end.
func runTarget(
	s *engine.Control, c *config.Intercept, examine examineHost, report *reporter, log *logbook,
) (err error) {
	host, err := openTargetHost(&c.Target)
	if err != nil {
		return err
	}
	defer host.close()
	routes, err := localroute.Stand(host.routes(&c.Target))
	if err != nil {
		return err
	}
	defer func() {
		if e := routes.Leave(); err == nil {
			err = e
		}
	}()
	if len(routes.Recovered) > 0 {
		s.Log.Warn("an earlier run was killed: its changes to this host are undone",
			"what", strings.Join(routes.Recovered, "; "))
	}
	plan := routes.Plan()
	for _, w := range plan.Warnings {
		s.Log.Warn(w)
	}
	return serveTarget(s, c, &host, routes, examine, report, log)
}

// serveTarget serves copiers and reports the account, until the context is done.
func serveTarget(
	s *engine.Control, c *config.Intercept, host *targetHost, routes *localroute.Host,
	examine examineHost, report *reporter, log *logbook,
) error {
	start := time.Now()
	now := func() mono.Time { return mono.Time(time.Since(start)) }
	var own []uint16
	for _, a := range c.Listen {
		own = append(own, a.Port())
	}
	server := ontarget.New(ontarget.Config{
		Routes: routes, Now: now, Allow: c.Target.Allow, Except: own,
		Clients: c.Target.Clients,

		MaxStreams: c.Target.MaxStreams, MaxBytes: c.Target.Memory, Enter: host.enter, Log: s.Log,
	})
	cfg := intercept.Config{
		Streams: func(
			hello *wire.Hello, holder *key.Holder, send func([]byte) bool, broken func(),
		) (intercept.StreamHandler, error) {
			peer, err := server.Attach(hello.Instance, holder, hello.ConnectTimeout,
				hello.Digesting(), send, broken)
			if err != nil {
				return nil, err
			}
			return peer, nil
		},
		Serves: server.Serves, Examine: examine,
		Listen: c.Listen, Insecure: c.Insecure, Software: "tcpcopy " + s.Version, Now: now,
		Log: s.Log,
	}
	proveKeys(&cfg, c)
	daemon, err := intercept.New(cfg)
	if err != nil {
		return listenProblem(err)
	}
	account := func(shot *intercept.Snapshot, streams *ontarget.Stats, final bool) interceptReport {
		return interceptReport{
			Version: s.Version, Start: start, Now: time.Now(), Final: final,
			Resources: export.NewResourceReport(export.Spent()),
			Account: map[string]any{
				"streams": export.Fields(*streams), "intercept": export.Fields(*shot),
			},
		}
	}
	end, err := show("intercept", &c.Process, log, func() *view {
		shot, streams := daemon.Snapshot(), server.Stats()
		n := interceptNode(&shot, wire.WayTunnel, uint64(streams.Streams),
			account(&shot, &streams, false))
		n.Sessions, n.Sequence = streams.Opened, log.seen.next()
		m := interceptMetrics(&shot, n, metricsNode(s, n))
		m.Target = targetMetrics(&streams)
		return &view{*n, m}
	})
	if err != nil {
		return err
	}
	defer end()
	ended := make(chan error, 1)
	go func() { ended <- daemon.Run(s.Context) }()

	s.Ready(fmt.Sprintf("listening on %s, on the target: copiers may connect to %s",
		addresses(daemon), c.Target.Allow.String()))
	err = reportUntil(ended, c.Stats, func(final bool) {
		shot, streams := daemon.Snapshot(), server.Stats()
		log.statistics(targetLine(&shot, &streams))
		report.write(account(&shot, &streams, final))
	})
	if err == nil && report.lastError != "" {
		return exitCode(exitFailure) // the reporter has printed the error
	}
	return err
}

func targetMetrics(s *ontarget.Stats) *metrics.OnTarget {
	return &metrics.OnTarget{
		Opened: s.Opened, Finished: s.Finished, Aborted: s.Aborted, Reset: s.Reset,
		BytesIn: s.BytesIn, BytesOut: s.BytesOut, Buffered: s.Buffered, Failed: s.Failed,
	}
}

// targetLine returns the account as one line.
func targetLine(s *intercept.Snapshot, l *ontarget.Stats) string {
	connected := 0
	for _, c := range s.Copiers {
		if c.Conns > 0 {
			connected++
		}
	}
	line := fmt.Sprintf("copiers %d, connections %d (opened %d, finished %d, reset %d, "+
		"aborted %d); bytes %d in, %d answered", connected, l.Streams, l.Opened, l.Finished,
		l.Reset, l.Aborted, l.BytesIn, l.BytesOut)
	if l.Buffered > 0 {
		line += fmt.Sprintf(", %d waiting", l.Buffered)
	}
	failed := uint64(0)
	var why []string
	for _, reason := range slices.Sorted(maps.Keys(l.Failed)) {
		failed += l.Failed[reason]
		why = append(why, fmt.Sprintf("%s %d", reason, l.Failed[reason]))
	}
	if failed > 0 {
		line += fmt.Sprintf(", failed %d (%s)", failed, strings.Join(why, ", "))
	}
	if n := s.Conns.WrongKey + s.Conns.NeedsKey + s.Conns.Garbage; n > 0 {
		line += fmt.Sprintf(", connections without the key %d", n)
	}
	return line
}
