package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// Times of a broken lab.
const (
	requestEvery = 20 * time.Millisecond
	busyEvery    = time.Millisecond
	settleFor    = 500 * time.Millisecond
	doctorWithin = 15 * time.Second
)

// loadConns is how many clients a broken lab has, and loadRequests how many requests each
// sends on a connection.
const (
	loadConns    = 4
	loadRequests = 10
)

// BreakOptions says what to break, and how. An empty Fault breaks nothing.
type BreakOptions struct {
	Fault  Fault
	Via    string
	IPv6   bool
	Binary string // the program
	JSON   bool   // the doctor's reports are JSON
}

// Visit is the doctor's visit to a host.
type Visit struct {
	Host    string
	Command string
	Output  string
	Code    int
	Took    time.Duration
}

// Broken is a lab with a fault in it, in which clients go on sending requests. Close it.
type Broken struct {
	options BreakOptions
	net     *netlab.Net
	dir     string

	production, target *echo
	intercept, copier  *child
	holder             *child            // in another namespace
	container          *netlab.Namespace // nil: there is none
	stranger           net.Listener      // nil: there is none
	witness, twin      *child
	agent              *child
	stop               context.CancelFunc
	clients            sync.WaitGroup
	mirror             *os.File // of a mirror that cuts; nil: none

	copyArgs, interceptArgs []string
	// Steps are the commands that were run, as one would type them.
	Steps []string
}

// Break makes a lab, the fault in it, and the load, and starts the copy. It does not fail if the
// fault keeps the copy or the intercept from starting.
func Break(ctx context.Context, o BreakOptions) (b *Broken, err error) {
	if err := netlab.Permitted(); err != nil {
		return nil, err
	}
	b = &Broken{options: o}
	defer func() {
		if err != nil {
			b.Close()
		}
	}()
	if b.dir, err = os.MkdirTemp("", "tcpcopy-broken-"); err != nil {
		return nil, fmt.Errorf("lab: %w", err)
	}
	if b.net, err = netlab.New(netlab.Config{
		ViaAssistant: o.Via == Raw, NoOffloads: o.Fault.noOffloads, MTU: o.Fault.mtu,
	}); err != nil {
		return nil, err
	}
	for _, name := range []string{"key", "other"} {
		key, err := b.net.Production.Command(ctx, o.Binary, "keygen").Output()
		if err == nil {
			err = os.WriteFile(b.file(name), key, 0o600)
		}
		if err != nil {
			return b, fmt.Errorf("lab: make a key: %w", err)
		}
	}
	if o.Fault.contain != "" {
		if err := b.makeContainer(ctx); err != nil {
			return b, err
		}
	}
	b.arguments()
	if o.Fault.inFile {
		if err := b.intoFile(); err != nil {
			return b, err
		}
	}
	for _, c := range o.Fault.Make {
		if err := b.Shell(ctx, c.Host, b.fill(c.Command)); err != nil {
			return b, err
		}
	}
	return b, b.begin(ctx)
}

// begin starts the servers, the load, the intercept and the copy, each as the fault has it.
func (b *Broken) begin(ctx context.Context) error {
	f := &b.options.Fault
	if err := b.serve(ctx); err != nil {
		return err
	}
	if f.tracks {
		if err := b.fillConntrack(b.net.Target); err != nil {
			return err
		}
	}
	if f.stranger {
		if err := b.serveStranger(); err != nil {
			return err
		}
	}
	if f.feed == cutMirrorFeed {
		if err := b.mirrorCut(ctx); err != nil {
			return err
		}
	}
	loading, stop := context.WithCancel(ctx)
	b.stop = stop
	for i := range loadConns {
		b.clients.Go(func() { b.ask(loading, i) })
	}
	if b.interceptArgs != nil {
		b.startIntercept(ctx)
	}
	if !f.idle {
		b.StartCopy(ctx)
	}
	if f.agent != nil {
		b.agent = b.start(ctx, b.net.Production, "capture", nil, f.agent(b.agentArgs()))
	}
	if f.twin {
		b.twin = b.start(ctx, b.net.Production, "twin", nil, b.copyArgs)
	}
	return nil
}

func (b *Broken) file(name string) string { return filepath.Join(b.dir, name) }

// addresses returns the addresses of target, assistant and first client.
func (b *Broken) addresses() (target, assistant, client netip.Addr) {
	if b.options.IPv6 {
		return netlab.TargetAddr6, netlab.AssistantAddr6, netlab.ClientAddr(0, true)
	}
	return netlab.TargetAddr4, netlab.AssistantAddr4, netlab.ClientAddr(0, false)
}

// fill fills the addresses and the family's words into a command.
func (b *Broken) fill(command string) string {
	target, assistant, client := b.addresses()
	front, nobody, second, spare := netlab.ProductionAddr4, "10.77.2.99", "10.77.2.50",
		"10.77.1.200"
	router := "10.77.2.254"
	ip, iptables, icmp := "ip", "iptables", "icmp"
	if b.options.IPv6 {
		front, nobody, second, spare = netlab.ProductionAddr6, "fd77:2::99", "fd77:2::50",
			"fd77:1::200"
		router = "fd77:2::254"
		ip, iptables, icmp = "ip6", "ip6tables", "ipv6-icmp"
	}
	return strings.NewReplacer("{ip}", ip, "{target}", target.String(), "{client}", client.String(),
		"{clients}", netlab.ClientNet(b.options.IPv6).String(), "{assistant}", assistant.String(),
		"{production}", b.productionTest().String(), "{nobody}", nobody, "{second}", second,
		"{second8080}", netip.AddrPortFrom(netip.MustParseAddr(second), targetPort).String(),
		"{service}", netip.AddrPortFrom(front, productionPort).String(), "{spare}", spare,
		"{router}", router,
		"{iptables}", iptables, "{icmp}", icmp, "{container}", b.contained().String(),
		"{containers}", netlab.ContainerNet(b.options.IPv6).String(), "{pid}", b.containerPID(),
		"{stranger}", netip.AddrPortFrom(b.interceptAddr(), strangerPort).String(),
	).Replace(command)
}

// arguments makes the command lines of copier and intercept.
func (b *Broken) arguments() {
	f := &b.options.Fault
	target, _, _ := b.addresses()
	mapping := fmt.Sprintf("%d-%s", productionPort, netip.AddrPortFrom(target, targetPort))
	b.copyArgs = append([]string{"copy", "-x", mapping}, b.feedArgs()...)
	if b.options.Via != Socket {
		b.interceptArgs = []string{
			"intercept", "-i", netlab.Device, "-F", fmt.Sprintf("tcp and src port %d", targetPort),
			"--key", b.file("key"),
		}
		if b.options.Via == Tunnel {
			b.interceptArgs = []string{
				"intercept", "--on-target", "--allow", fmt.Sprint(targetPort), "--key",
				b.file("key"),
			}
		}
		b.copyArgs = append(b.copyArgs, "-s", b.interceptAddr().String())
		if f.feed != agentFeed {
			b.copyArgs = append(b.copyArgs, "--key", b.file("key"))
		}
		if f.intercept != nil {
			b.interceptArgs = f.intercept(b.interceptArgs)
		}
		for i := range b.interceptArgs {
			b.interceptArgs[i] = b.fill(b.interceptArgs[i])
		}
	}
	if f.copy != nil {
		b.copyArgs = f.copy(b.copyArgs)
		for i := range b.copyArgs {
			b.copyArgs[i] = b.fill(b.copyArgs[i])
		}
	}
}

func (b *Broken) interceptHost() *netlab.Namespace {
	if b.options.Via == Tunnel {
		return b.net.Target
	}
	return b.net.Assistant
}

// Host returns a host by name.
func (b *Broken) Host(name string) *netlab.Namespace {
	for _, n := range b.net.Namespaces() {
		if n.Name == name {
			return n
		}
	}
	return b.net.Production
}

// Shell runs a shell command on a host.
func (b *Broken) Shell(ctx context.Context, host, command string) error {
	b.Steps = append(b.Steps, host+"$ "+command)
	out, err := b.Host(host).Command(ctx, "sh", "-c", command).CombinedOutput()
	if err != nil {
		return fmt.Errorf("lab: %s: %s: %w: %s", host, command, err, out)
	}
	return nil
}

// start starts a program on a host, and waits until it is ready or has ended.
func (b *Broken) start(
	ctx context.Context, ns *netlab.Namespace, name string, wrap, args []string,
) *child {
	words := append(append(slices.Clone(wrap), b.options.Binary), args...)
	b.Steps = append(b.Steps,
		ns.Name+"$ "+strings.TrimSpace(shellLine(wrap)+" tcpcopy "+shellLine(args)))
	c, err := startChild(ctx, ns, b.dir, words[0], name, readyLine, words[1:]...)
	if err != nil {
		b.Steps = append(b.Steps, err.Error())
		return nil
	}
	select {
	case <-c.ready:
	case <-c.ended:
	case <-time.After(readyWithin / 3): // a copier waits for its intercept
	case <-ctx.Done():
	}
	return c
}

func (b *Broken) startIntercept(ctx context.Context) {
	b.intercept = b.start(ctx, b.interceptHost(), "intercept", nil, b.interceptArgs)
}

// StartCopy starts the copy, and ends the one before.
func (b *Broken) StartCopy(ctx context.Context) {
	b.StopCopy()
	b.copier = b.start(ctx, b.copierHost(), "copy", b.options.Fault.wrap, b.copyArgs)
	if b.options.Fault.stalls && b.copier != nil {
		b.stall(ctx)
	}
}

// StartWitness starts the doctor on the target as a witness at the assistant's intercept.
func (b *Broken) StartWitness(ctx context.Context) {
	_, assistant, _ := b.addresses()
	b.witness = b.start(ctx, b.net.Target, "witness", nil, []string{
		"doctor", "target", "--port", fmt.Sprint(targetPort), "--witness", assistant.String(),
		"--key", b.file("key"),
	})
}

// WitnessSays returns what the witness has written to standard error so far.
func (b *Broken) WitnessSays() string { return b.witness.said() }

// StopCopy ends the copy.
func (b *Broken) StopCopy() {
	if b.copier != nil {
		b.copier.stop()
		b.copier = nil
	}
}

// CopySays returns what the copy has written so far.
func (b *Broken) CopySays() string {
	if b.copier == nil {
		return ""
	}
	b.copier.mu.Lock()
	defer b.copier.mu.Unlock()
	return strings.Join(b.copier.tail, "\n")
}

// Doctor examines a host, with the options of the command that runs there.
func (b *Broken) Doctor(ctx context.Context, host string) Visit {
	_, assistant, _ := b.addresses()
	var args, wrap, clients []string
	for i := range loadConns {
		clients = append(clients, netlab.ClientAddr(i, b.options.IPv6).String())
	}
	if b.options.Fault.load == localLoad {
		clients = []string{b.fill("{spare}")}
	}
	switch {
	case host == b.copierHost().Name:
		args, wrap = b.copyArgs, b.options.Fault.wrap
	case host == OnTarget && b.options.Via != Tunnel:
		args = []string{"target", "--port", fmt.Sprint(targetPort)}
		if b.options.Via == Raw {
			args = append(args, "--client", strings.Join(clients, ","), "--assistant",
				assistant.String())
		} else {
			from := b.productionTest()
			if b.copierHost() == b.net.Assistant {
				from = assistant
			}
			args = append(args, "--client", from.String(), "--assistant", from.String())
		}
	default:
		args = b.interceptArgs
	}
	args = append([]string{"doctor"}, args...)
	if b.options.JSON {
		args = append(args, "--json")
	}
	ctx, cancel := context.WithTimeout(ctx, doctorWithin)
	defer cancel()
	words := append(append(slices.Clone(wrap), b.options.Binary), args...)
	begin := time.Now()
	out, err := b.Host(host).Command(ctx, words[0], words[1:]...).CombinedOutput()
	v := Visit{
		Host: host, Command: "tcpcopy " + shellLine(args), Output: string(out),
		Took: time.Since(begin),
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		v.Code = exit.ExitCode()
	} else if err != nil {
		v.Code, v.Output = -1, err.Error()
	}
	return v
}

// Heal runs a fix that the doctor has printed, on a host. A command of this program becomes the
// command line of the copy or the intercept, which starts anew. Heal reports whether the fix
// was run: one that only examines another host is not.
func (b *Broken) Heal(ctx context.Context, host, fix string) (bool, error) {
	rest, ours := strings.CutPrefix(fix, "tcpcopy ")
	switch {
	case !ours && strings.HasPrefix(fix, "sudo "): // there is nobody here but root
		b.options.Fault.wrap = nil
		return true, nil
	case !ours:
		if err := b.Shell(ctx, host, fix); err != nil {
			return false, err
		}
		if b.intercept != nil && b.intercept.hasEnded() { // it had refused to start
			b.startIntercept(ctx)
		}
		return true, nil
	}
	out, err := b.Host(host).Command(ctx, "sh", "-c", "printf '%s\\n' "+rest).Output()
	if err != nil {
		return false, fmt.Errorf("lab: read %q: %w", fix, err)
	}
	args := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	switch args[0] {
	case "copy":
		b.copyArgs = withKey(args, b.file("key"))
	case "intercept":
		b.interceptArgs = withKey(args, b.file("key"))
		if b.intercept != nil {
			b.intercept.cmd.Kill()
			<-b.intercept.ended
		}
		b.startIntercept(ctx)
	default:
		return false, nil
	}
	return true, nil
}

// withKey gives the file of a key its name here.
func withKey(args []string, path string) []string {
	for i, a := range args {
		switch {
		case a == "key" && i > 0 && args[i-1] == "--key":
			args[i] = path
		case a == "DEV":
			args[i] = netlab.Device
		}
	}
	return args
}

// Delivered lets the copy run for a while, and returns how many of the requests that production got
// meanwhile the target got, too.
func (b *Broken) Delivered(ctx context.Context, d time.Duration) (delivered, all int) {
	wait := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	wait(settleFor)
	from := b.production.received()
	wait(d)
	to := b.production.received()
	wait(2 * settleFor)
	got := map[string]bool{}
	for _, line := range b.target.received() {
		got[line] = true
	}
	for _, line := range to[len(from):] {
		all++
		if got[line] {
			delivered++
		}
	}
	return delivered, all
}

// Close ends all that runs, and takes the lab down.
func (b *Broken) Close() error {
	if b.stop != nil {
		b.stop()
	}
	if b.mirror != nil {
		b.mirror.Close()
	}
	b.clients.Wait()
	b.StopCopy()
	if b.stranger != nil {
		b.stranger.Close()
	}
	for _, c := range []*child{b.intercept, b.holder, b.witness, b.twin, b.agent} {
		if c != nil {
			c.cmd.Kill()
			<-c.ended
		}
	}
	for _, e := range []*echo{b.production, b.target} {
		if e != nil {
			e.close()
		}
	}
	var err error
	if b.net != nil {
		err = b.net.Close()
	}
	return errors.Join(err, os.RemoveAll(b.dir))
}
