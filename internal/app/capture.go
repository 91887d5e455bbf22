package app

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/metrics"
	"tcpcopy/internal/account/status"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/engine"
	"tcpcopy/internal/source/afpacket"
	"tcpcopy/internal/source/agent"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/source/locals"
	"tcpcopy/internal/way/link/key"
)

func (p *program) captureCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "capture -x PORT --to IP[:PORT] [options]",
		Annotations: usage("tcpcopy capture -x PORT --to IP[:PORT] [options]"),
		Short:       "send this host's live traffic to a copier on another host",
		Example: `
Port 80 of this host to a copier on 10.0.0.9, with at most 20 % of a CPU and 100 Mb/s:
  tcpcopy capture -x 80 --to 10.0.0.9 --key key --max-cpu 20% --max-mbps 100
On 10.0.0.9, copy what agents send to the test server 10.0.0.2, port 8080:
  tcpcopy copy -x 80-10.0.0.2:8080 --from agent://:36525 --key key`,
		Args: noArguments,
	}
	options := config.NewCaptureOptions(cmd.Flags(), p.host)
	cmd.RunE = func(*cobra.Command, []string) error {
		c, warnings, err := options.Capture()
		if err != nil {
			return err
		}
		d := daemon{
			Process: c.Process, report: c.Report, warnings: warnings,
			stopping: "stopping: no new packets; captured packets are sent",
			subject:  captureSubject(c.Interfaces, c.Filter, c.Production),
		}
		return p.serve(d, func(s *engine.Control, log *logbook) error {
			return p.capture(s, c, &reporter{path: c.Report, log: log}, log)
		})
	}
	complete(cmd)
	return cmd
}

// agentBlockTimeout is how long a packet may wait in the capture ring. Each block becomes a
// message.
const agentBlockTimeout = 5 * time.Millisecond

// runCapture captures and sends packets, and reports the account, until the command is told to
// stop.
func runCapture(s *engine.Control, c *config.Capture, report *reporter, log *logbook) error {
	program, err := agentFilter(c)
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
	source, err := afpacket.Open(afpacket.Config{
		Interfaces: c.Interfaces, Filter: program, Memory: int(c.Ring),
		BlockTimeout: agentBlockTimeout, Now: now,
	})
	if err != nil {
		return err
	}
	name, _ := os.Hostname() // for people
	cfg := agent.Config{
		To: c.To.String(), Source: source, IsLocal: here.Has, Now: now, Log: s.Log,
		MaxRate: c.MaxMbps * 1e6 / 8, MaxCPU: c.MaxCPU / 100, Memory: int(c.Memory),
		Compress: agent.Compress(c.Compress), Name: name, Software: "tcpcopy " + s.Version,
	}
	for _, o := range c.Production {
		cfg.Production = append(cfg.Production, agent.Production{Addr: o.Addr(), Port: o.Port()})
	}
	if c.Key != nil {
		cfg.TLS = key.AgentClientTLS(*c.Key)
	}
	a, err := agent.New(cfg)
	if err != nil {
		source.Close()
		return err
	}
	account := func(shot *agent.Snapshot, final bool) captureReport {
		return captureReport{
			Version: s.Version, Start: start, Now: time.Now(), Final: final,
			Resources: export.NewResourceReport(export.Spent()), Captured: shot.Captured,
			Share:     shot.Share,
			Connected: shot.Link.Up, Connects: shot.Link.Connects,
			Account: export.Fields(shot.Counts),
		}
	}
	end, err := show("agent", &c.Process, log, func() *view {
		shot := a.Snapshot()
		n := status.Node{
			Start: start, Via: productionText(c) + " to " + c.To.String(), Peers: 1,
			Sequence: log.seen.next(),
		}
		if shot.Link.Up {
			n.Up = 1
		}
		n.Account, _ = json.Marshal(account(&shot, false))
		return &view{n, agentMetrics(&shot, metricsNode(s, &n))}
	})
	if err != nil {
		source.Close()
		return err
	}
	defer end()
	ctx, cancel := untilStopped(s)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	s.Ready(fmt.Sprintf("capturing %s for the copier at %s", productionText(c), c.To))
	err = reportUntil(ended, c.Stats, func(final bool) {
		shot := a.Snapshot()
		log.statistics(captureLine(&shot))
		report.write(account(&shot, final))
	})
	if err == nil && report.lastError != "" {
		return exitCode(exitFailure) // the reporter has printed the error
	}
	return err
}

// metricsNode returns what the metrics of every node have.
func metricsNode(s *engine.Control, n *status.Node) metrics.Node {
	return metrics.Node{
		Version: s.Version, Start: n.Start, Now: time.Now(), Sequence: n.Sequence,
		Resources: export.Spent(),
	}
}

func agentMetrics(s *agent.Snapshot, n metrics.Node) *metrics.Agent {
	c := &s.Counts
	return &metrics.Agent{
		Node: n, Connected: s.Link.Up, Connects: s.Link.Connects, Captured: s.Captured,
		Sent:      c.Sent,
		SentBytes: c.SentBytes, KernelDrop: c.KernelDrop, ShedCPU: c.ShedCPU, ShedRate: c.ShedRate,
		ShedSessions: c.ShedSessions, OverMemory: c.OverMemory, LinkDown: c.LinkDown,
		Share: s.Share,
	}
}

// agentFilter returns the filter of an agent's capture, which is the copier's.
func agentFilter(c *config.Capture) (filter.Program, error) {
	spec := filter.CaptureSpec{Expr: c.Filter}
	if c.Both {
		spec.ResponseLen = filter.WholePacket
	}
	for _, o := range c.Production {
		spec.Ports = append(spec.Ports, o.Port())
		spec.AnyDirection = spec.AnyDirection || o.Addr().IsValid()
	}
	return filter.Capture(spec)
}

// productionText names what is captured.
func productionText(c *config.Capture) string {
	s := ""
	for i, o := range c.Production {
		if i > 0 {
			s += ", "
		}
		s += productionAddress(o)
	}
	return s
}

func productionAddress(a netip.AddrPort) string {
	if a.Addr().IsValid() {
		return a.String()
	}
	return fmt.Sprintf("port %d", a.Port())
}

// captureReport is the JSON report of an agent.
type captureReport struct {
	Version   string                `json:"version"`
	Start     time.Time             `json:"start"`
	Now       time.Time             `json:"now"`
	Final     bool                  `json:"final"`
	Resources export.ResourceReport `json:"resources"`
	Captured  uint64                `json:"captured_packets"`
	Share     float64               `json:"share"` // of the sessions, sent at present
	Connected bool                  `json:"connected"`
	Connects  uint64                `json:"connects"`
	Account   any                   `json:"account"` // counters by their names
}

// captureLine returns the account as one line.
func captureLine(s *agent.Snapshot) string {
	c := &s.Counts
	link := "connected"
	if !s.Link.Up {
		link = "no connection to the copier"
	}
	line := fmt.Sprintf("%s; packets %d, sent %d in %d bytes", link, s.Captured, c.Sent,
		c.SentBytes)
	if s.Share < 1 {
		bound := "--max-cpu"
		if s.Cause == agent.Rate {
			bound = "--max-mbps"
		}
		line += fmt.Sprintf(", %.0f %% of the sessions for %s", 100*s.Share, bound)
	}
	for _, n := range []struct {
		what  string
		count uint64
	}{
		{"lost in the kernel", c.KernelDrop},
		{"left out for --max-cpu", c.ShedCPU},
		{"left out for --max-mbps", c.ShedRate},
		{"sessions left out", c.ShedSessions},
		{"beyond --memory", c.OverMemory},
		{"lost without a connection", c.LinkDown},
	} {
		if n.count > 0 {
			line += fmt.Sprintf(", %s %d", n.what, n.count)
		}
	}
	return line
}
