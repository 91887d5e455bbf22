package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// Ways to reach the target. NoCopy runs production and its load alone.
const (
	Socket = "socket"
	Raw    = "raw"
	Tunnel = "tunnel"
	NoCopy = "none"
)

// How the target's answers differ from production's.
const (
	Bigger  = "bigger"  // five times as long
	Smaller = "smaller" // a fifth as long
	Slower  = "slower"  // after three times the time
)

// slowerThink is production's pause where a slower target is asked for and the scenario has none.
const slowerThink = 2 * time.Millisecond

// Options says what to run. Fields with their zero value leave it to the scenario.
type Options struct {
	Via      string // Socket (the default), Raw, Tunnel or NoCopy
	Scenario string // a name of Scenarios; empty: the first
	Load     *Scenario

	Conns    int           // client connections at the same time
	Rate     float64       // requests a second over all of them
	Duration time.Duration // of the load; a scenario with a set number of connections has none
	Requests int           // on each connection
	Answers  string        // Bigger, Smaller, Slower or empty
	Proto    string        // the load speaks http1 or redis; empty: a protocol of the lab's own

	Loss       float64     // percent of the TCP packets to and from the target, each way
	ClientLoss float64     // percent of the TCP packets between clients and production, each way
	Path       netlab.Path // to the target, long and lossy; its zero value is none
	IPv6       bool
	NoOffloads bool
	MTU        int

	ClientAddrs int // over how many addresses the clients are spread; 0: 4

	// For tests. Setup prepares the hosts before anything runs on them, Accept stands between the
	// test server and its listener, TargetStall is for how long the test server's application stops
	// reading, once on each connection, and Disturb is called when the load has begun.
	Setup       func(*netlab.Net) error
	Accept      func(net.Listener) net.Listener
	TargetStall time.Duration
	Disturb     func(context.Context, *Stage) error

	// Aside has the copier on the assistant, with CopyArgs that say where its packets come from.
	// AgentArgs, if any, are those of an agent on the production host that sends them there.
	Aside     bool
	AgentArgs []string

	// Replay has the load recorded, and copied from the recording when it is over; nil: while it
	// goes on.
	Replay *Replay

	CopyArgs      []string // further arguments of the copier
	InterceptArgs []string // further arguments of the intercept
	Keep          string   // directory for logs and reports; empty: a temporary one, removed
	Binary        string   // the program, whose main calls Main for "lab"; empty: this one

	// Break names a fault. The lab then shows a copy with this fault, and the doctor's reports.
	Break string

	Progress io.Writer // what happens meanwhile; nil: nowhere

	// how long the target may be silent while something is missing; 0: a sensible time
	patience time.Duration
}

// Main runs the lab as the command line does: it enters a user namespace where it has to, shows
// progress on stderr and the table on stdout. It returns the exit code: 0 when all is as it should
// be, 1 when it is not, 2 for options that cannot be, 3 when a permission is missing. What went
// wrong is on stderr.
func Main(ctx context.Context, options Options, stdout, stderr io.Writer) int {
	if os.Getenv(clientsPart) != "" {
		return beClients(ctx, os.Stdin, stdout, stderr)
	}
	if options.Progress == nil {
		options.Progress = stderr
	}
	_, err := options.scenario()
	if err == nil && options.Break != "" {
		_, _, err = options.fault()
	}
	if err != nil {
		fmt.Fprintf(stderr, "tcpcopy: %v\n", err)
		return 2
	}
	var result *Result
	if options.Break != "" {
		err = options.showFault(ctx, stdout)
	} else {
		result, err = Run(ctx, options)
	}
	var denied *netlab.PermissionError
	if errors.As(err, &denied) {
		var code int
		if code, err = netlab.EnterUserNamespace(); err == nil {
			return code
		}
	}
	if errors.As(err, &denied) {
		fmt.Fprintf(stderr, "tcpcopy: %v\nhint: %s\n", denied, denied.Hint)
		return 3
	}
	if err != nil {
		fmt.Fprintf(stderr, "tcpcopy: %v\n", err)
		return 1
	}
	if result == nil {
		return 0
	}
	result.Print(stdout)
	if len(result.Problems()) > 0 {
		return 1
	}
	return 0
}

// scenario is the load that the options describe, or what is wrong with them.
func (o *Options) scenario() (Scenario, error) {
	if !slices.Contains([]string{"", Socket, Raw, Tunnel, NoCopy}, o.Via) {
		return Scenario{}, fmt.Errorf("lab: there is no way %q to the target, wanted socket, "+
			"raw, tunnel or none", o.Via)
	}
	if !slices.Contains([]string{"", Bigger, Smaller, Slower}, o.Answers) {
		return Scenario{}, fmt.Errorf("lab: answers cannot be %q, wanted bigger, smaller or slower",
			o.Answers)
	}
	if _, ok := framings[o.Proto]; !ok {
		return Scenario{}, fmt.Errorf("lab: the load does not speak %q, wanted http1 or redis",
			o.Proto)
	}
	var s Scenario
	if o.Load != nil {
		s = *o.Load
	} else {
		var err error
		if s, err = FindScenario(o.Scenario); err != nil {
			return s, err
		}
	}
	if o.Conns != 0 {
		s.Conns = o.Conns
	}
	if o.Requests != 0 {
		s.Requests = o.Requests
	}
	if o.Duration != 0 {
		s.Duration, s.Total = o.Duration, 0
	}
	if o.Answers == Slower && s.ServerThink == 0 {
		s.ServerThink = slowerThink
	}
	if o.Rate < 0 {
		return s, fmt.Errorf("lab: a rate of %v requests a second, wanted 0 or more", o.Rate)
	}
	return s, s.check()
}

// servers says how production and the target answer.
func (o *Options) servers(s *Scenario) (production, target serverConfig) {
	production = serverConfig{think: s.ServerThink, greeting: s.Greeting, pieces: s.AnswerIn,
		pause:   s.AnswerPause,
		framing: framings[o.Proto]}
	if s.ServerCloses {
		production.closeAfter = s.Requests
	}
	target = production
	target.stall = o.TargetStall
	switch o.Answers {
	case Bigger:
		target.scaleUp = scaleMost
	case Smaller:
		target.scaleDown = scaleMost
	case Slower:
		target.think *= 3
		target.pause *= 3
	}
	return production, target
}
