package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/lab/netlab"
)

// Ports of production, target and intercept.
const (
	productionPort = 80
	targetPort     = 8080
	interceptPort  = 36524
)

// How long the target may be silent before the lab believes that nothing follows.
const (
	quiet        = 3 * time.Second
	quietOnLoss  = 15 * time.Second
	quietAtLeast = 200 * time.Millisecond // after the last request that was missing has come
	mostDrain    = 2 * time.Minute
)

// run is one run of the lab.
type run struct {
	options  Options
	scenario Scenario
	binary   string
	dir      string // of logs and reports
	net      *netlab.Net
	clock    clock

	production, target *server
	clients            *clients
	copier, assist     *child
	recorder           *child
	recording          []string // files to replay; nil: a live copy
	agent              *child
	assistAt           *netlab.Namespace
	copyAt             *netlab.Namespace
	copyArgs           []string // with which both were started
	assistArgs         []string
	agentArgs          []string
	from               time.Duration // production's requests from here on are compared
	samples            []Sample
	progress           *progress
	commands           []string
	productionAddr     netip.AddrPort
	targetAddr         netip.AddrPort
}

// Sample is the number of connections that were open at one moment.
type Sample struct {
	At                 time.Duration
	Production, Target int64
}

// Run runs the lab. It returns an error if there is no result, because the network could not be
// made or a command did not start. Faults of the copier are in the result. If ctx ends early, the
// result covers the run until then.
func Run(ctx context.Context, options Options) (result *Result, err error) {
	if options.Via == "" {
		options.Via = Socket
	}
	r := &run{options: options, clock: newClock()}
	if r.scenario, err = options.scenario(); err != nil {
		return nil, err
	}
	if r.binary = options.Binary; r.binary == "" {
		if r.binary, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
	}
	if err := netlab.Permitted(); err != nil {
		return nil, err
	}
	if err := roomFor(2 * r.scenario.Conns); err != nil {
		return nil, err
	}
	if r.dir = options.Keep; r.dir == "" {
		if r.dir, err = os.MkdirTemp("", "tcpcopy-lab-"); err != nil {
			return nil, fmt.Errorf("lab: %w", err)
		}
		defer os.RemoveAll(r.dir)
	} else if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	r.net, err = netlab.New(netlab.Config{
		MTU: options.MTU, NoOffloads: options.NoOffloads, ViaAssistant: options.Via == Raw,
		TargetPath: options.Path,
		Loss: netlab.Loss{
			ToTarget: options.Loss, FromTarget: options.Loss,
			ToProduction: options.ClientLoss, FromProduction: options.ClientLoss,
		},
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.net.Close()) }()
	if options.Setup != nil {
		if err := options.Setup(r.net); err != nil {
			return nil, fmt.Errorf("set up hosts: %w", err)
		}
	}
	return r.play(ctx)
}

// play runs servers, copier and load on the network.
func (r *run) play(ctx context.Context) (*Result, error) {
	r.progress = newProgress(r.options.Progress, r)
	if err := r.startServers(); err != nil {
		return nil, err
	}
	defer r.production.close()
	defer r.target.close()

	defer r.stopClients()
	if r.scenario.CopierAfter > 0 {
		if err := r.startLoad(); err != nil {
			return nil, err
		}
		r.wait(ctx, r.scenario.CopierAfter)
	}
	defer r.killChildren()
	switch {
	case r.options.Via == NoCopy:
	case r.options.Replay != nil:
		if err := r.startRecorder(ctx); err != nil {
			return nil, err
		}
	default:
		if err := r.startCopier(ctx); err != nil {
			return nil, err
		}
	}
	if r.scenario.CopierAfter > 0 {
		r.from = r.clock.now() + r.scenario.Settle
	} else if err := r.startLoad(); err != nil {
		return nil, err
	}
	if err := r.disturb(ctx); err != nil {
		return nil, fmt.Errorf("disturb: %w", err)
	}
	for done := false; !done; {
		r.sample()
		select {
		case <-r.clients.ended:
			done = true
		case <-ctx.Done():
			r.stopClients()
		case <-time.After(sampleEvery):
		}
		if r.copier != nil && r.copier.hasEnded() {
			r.stopClients() // nothing more can arrive
		}
	}
	if r.clients.err != nil {
		return nil, r.clients.err
	}
	if r.options.Replay != nil {
		if err := r.replayLoad(ctx); err != nil {
			return nil, err
		}
	} else {
		r.drain(ctx)
	}
	result := r.finish()
	result.Interrupted = ctx.Err() != nil
	return result, nil
}

// sampleEvery is the time between two samples.
const sampleEvery = 100 * time.Millisecond

func (r *run) sample() {
	r.samples = append(r.samples, Sample{r.clock.now(), r.production.record.open.Load(),
		r.target.record.open.Load()})
	r.progress.show()
}

// wait waits for d, or until ctx ends.
func (r *run) wait(ctx context.Context, d time.Duration) {
	for end := r.clock.now() + d; r.clock.now() < end && ctx.Err() == nil; {
		r.sample()
		select {
		case <-time.After(min(sampleEvery, end-r.clock.now())):
		case <-ctx.Done():
		}
	}
}

func (r *run) startServers() error {
	productionIP, targetIP := netlab.ProductionAddr4, netlab.TargetAddr4
	if r.options.IPv6 {
		productionIP, targetIP = netlab.ProductionAddr6, netlab.TargetAddr6
	}
	r.productionAddr = netip.AddrPortFrom(productionIP, productionPort)
	r.targetAddr = netip.AddrPortFrom(targetIP, targetPort)
	productionConfig, targetConfig := r.options.servers(&r.scenario)
	atTarget, err := r.listenTarget()
	if err != nil {
		return err
	}
	atProduction, err := r.net.Production.Listen(r.network(), fmt.Sprintf(":%d", productionPort))
	if err != nil {
		atTarget.Close()
		return fmt.Errorf("start production server: %w", err)
	}
	r.production = serve(atProduction, productionConfig, r.clock)
	r.target = serve(atTarget, targetConfig, r.clock)
	return nil
}

func (r *run) startLoad() (err error) {
	r.clients, err = r.startClients()
	return err
}

func (r *run) stopClients() {
	if r.clients != nil {
		r.clients.stop()
	}
}

// startCopier starts the intercept, if the way has one, and the copier, and waits until they are
// ready.
func (r *run) startCopier(ctx context.Context) error {
	r.copyAt = r.net.Production
	if r.options.Aside {
		r.copyAt = r.net.Assistant
	}
	copyArgs := []string{"copy"}
	if r.recording != nil {
		copyArgs = append([]string{"replay"}, r.recording...)
	}
	copyArgs = append(copyArgs, "-x", fmt.Sprintf("%d-%s", productionPort, r.targetAddr),
		"--report", r.file("copy.json"))
	if r.options.Via != Socket {
		key := r.file("key")
		if err := r.makeKey(ctx, key); err != nil {
			return err
		}
		at, host := r.net.Assistant, netlab.AssistantAddr4
		if r.options.IPv6 {
			host = netlab.AssistantAddr6
		}
		args := []string{"intercept", "-i", netlab.Device, "-F", fmt.Sprintf("tcp and src port %d",
			targetPort)}
		if r.options.Via == Tunnel {
			at, host = r.net.Target, r.targetAddr.Addr()
			args = []string{"intercept", "--on-target", "--allow", fmt.Sprint(targetPort)}
		}
		args = append(args, "--key", key, "--report", r.file("intercept.json"))
		var err error
		r.assistAt, r.assistArgs = at, append(args, r.options.InterceptArgs...)
		if r.assist, err = r.start(ctx, at, "intercept", r.assistArgs); err != nil {
			return err
		}
		copyArgs = append(copyArgs, "-s", netip.AddrPortFrom(host, interceptPort).String(), "--key",
			key)
	}
	var err error
	r.copyArgs = append(copyArgs, r.options.CopyArgs...)
	if len(r.options.AgentArgs) > 0 {
		key := r.file("key")
		if err := r.makeKey(ctx, key); err != nil {
			return err
		}
		r.copyArgs = append(r.copyArgs, "--key", key)
		r.agentArgs = append([]string{"capture", "-x", fmt.Sprint(productionPort), "--key", key,
			"--report", r.file("agent.json")}, r.options.AgentArgs...)
	}
	if r.copier, err = r.start(ctx, r.copyAt, "copy", r.copyArgs); err != nil ||
		len(r.agentArgs) == 0 {
		return err
	}
	r.agent, err = r.start(ctx, r.net.Production, "capture", r.agentArgs)
	return err
}

func (r *run) file(name string) string { return filepath.Join(r.dir, name) }

func (r *run) makeKey(ctx context.Context, path string) error {
	key, err := r.net.Production.Command(ctx, r.binary, "keygen").Output()
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	if err := os.WriteFile(path, key, 0o600); err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	return nil
}

func (r *run) start(ctx context.Context, ns *netlab.Namespace, name string, args []string) (*child,
	error) {
	return r.startProgram(ctx, ns, r.binary, name, readyLine, args)
}

// startProgram starts a program, which may be another than this one, and waits until it is ready.
func (r *run) startProgram(ctx context.Context, ns *netlab.Namespace, program, name, says string,
	args []string) (*child, error) {
	command := filepath.Base(program) + " " + shellLine(args)
	if program == r.binary {
		command = "tcpcopy " + shellLine(args)
	}
	r.commands = append(r.commands, ns.Name+"$ "+command)
	r.progress.say("%s$ %s", ns.Name, command)
	// Not bound to ctx: an interrupted lab ends its commands in order.
	c, err := startChild(context.WithoutCancel(ctx), ns, r.dir, program, name, says, args...)
	if err != nil {
		return nil, err
	}
	if err := c.awaitReady(ctx); err != nil {
		c.cmd.Process.Kill()
		<-c.ended
		return nil, err
	}
	return c, nil
}

// killChildren kills what still runs, after an error.
func (r *run) killChildren() {
	for _, c := range []*child{r.recorder, r.agent, r.copier, r.assist} {
		if c != nil && !c.hasEnded() {
			c.cmd.Process.Kill()
			<-c.ended
		}
	}
}

// drain waits until the target has received all that production has, or has been silent for too
// long.
func (r *run) drain(ctx context.Context) {
	if r.copier == nil {
		return
	}
	patience := quiet
	if r.options.Loss > 0 || r.options.Path != (netlab.Path{}) || r.options.ClientLoss > 0 ||
		r.options.Answers == Slower {
		patience = quietOnLoss
	}
	if r.options.Setup != nil || r.options.Accept != nil || r.options.Disturb != nil {
		patience = quietOnLoss
	}
	patience += r.options.TargetStall
	if r.options.patience > 0 {
		patience = r.options.patience
	}
	for end := r.clock.now() + mostDrain; r.clock.now() < end && ctx.Err() == nil &&
		!r.copier.hasEnded(); {
		r.wait(ctx, 50*time.Millisecond)
		production, target := &r.production.record, &r.target.record
		last := time.Duration(max(production.last.Load(), target.last.Load()))
		silent := r.clock.now() - last
		complete := target.requests.Load() >= production.requests.Load() && target.open.Load() == 0
		if r.from > 0 {
			complete = target.open.Load() == 0 // how many have to come is not known yet
		}
		if complete && silent > quietAtLeast || silent > patience {
			return
		}
	}
}

// finish ends copier, intercept and servers, in this order, and compares the records.
func (r *run) finish() *Result {
	result := &Result{
		Options: r.options, Scenario: r.scenario, Samples: r.samples, Commands: r.commands,
		Sent: r.clients.done.Sent, Answered: r.clients.done.Answered,
		ClientsFailed: r.clients.done.Failed, ClientError: r.clients.done.failure(),
	}
	leftProduction, leftTarget := r.production.record.open.Load(), r.target.record.open.Load()
	if r.agent != nil {
		result.AgentDied = r.agent.hasEnded()
		result.Agent = r.agent.stop()
	}
	if r.copier != nil {
		result.CopierDied = r.copier.hasEnded() && r.recording == nil
		result.Copier = r.copier.stop()
		result.Report, result.ReportError = export.ReadReport(r.file("copy.json"))
	}
	if r.assist != nil {
		result.InterceptDied = r.assist.hasEnded()
		result.Intercept = r.assist.stop()
	}
	r.progress.done()
	r.production.close()
	r.target.close()
	if r.options.Via == NoCopy {
		result.Production, _ = summarize(&r.production.record, func(arrival) bool { return true })
	} else {
		result.Production, result.Target, result.Comparison = compare(&r.production.record,
			&r.target.record, r.from)
	}
	result.Production.LeftOpen, result.Target.LeftOpen = leftProduction, leftTarget
	return result
}

// shellLine returns args as a shell's command line.
func shellLine(args []string) string {
	quoted := make([]string, len(args))
	for i, a := range args {
		if a == "" || strings.ContainsAny(a, " \t'\"$&|;<>()*?[]#~`\\") {
			a = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
		quoted[i] = a
	}
	return strings.Join(quoted, " ")
}
