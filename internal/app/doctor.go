package app

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tcpcopy/internal/config"
	"tcpcopy/internal/doctor"
	"tcpcopy/internal/doctor/collect"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/way/link/key"
)

// exitUnknown is the exit code of a doctor that found no cause and does not know everything.
const exitUnknown = 4

// examineFunc gathers facts. Tests replace it.
type examineFunc func(context.Context, *collect.Subject) *doctor.Facts

func (p *program) doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor COMMAND [options]",
		Annotations: usage("tcpcopy doctor copy -x MAPPING [options of copy]",
			"tcpcopy doctor -x MAPPING [options of copy]",
			"tcpcopy doctor intercept [options of intercept]",
			"tcpcopy doctor target --port PORT [options]"),
		Short: "find out what keeps a copy from working, and what mends it",
		Long: `
Put doctor before the command that you start, or have started: it takes the same options. It looks
at this host, at the packets that come in for 2 seconds, and at what it can reach from here. It
sends nothing that clients or production see, and changes nothing on any host.

Each finding names the host, what was seen there and, where it can be known, the command that mends
it. The exit code is 0 if all is fine, 1 if a cause was found, 2 for bad input, 3 if a permission is
missing, and 4 if no cause was found and something is not known.`,
		Example: `On the production host, with the options of the copy:
  tcpcopy doctor copy -x 80-10.0.0.2:8080 -s 10.0.0.3 --key key
On the assistant, or on a test server with an intercept:
  tcpcopy doctor intercept -i eth0 -F 'tcp and src port 8080' --key key
  tcpcopy doctor intercept --on-target --allow 8080 --key key
On a test server without an intercept, to which copies come from clients' addresses:
  tcpcopy doctor target --port 8080 --client 192.0.2.7 --assistant 10.0.0.3
The same, as a witness for the doctor on the production host, which then names the cause:
  tcpcopy doctor target --port 8080 --witness 10.0.0.3 --key key`,
		RunE: func(_ *cobra.Command, args []string) error {
			what := "nothing"
			if len(args) > 0 {
				what = fmt.Sprintf("%q", args[0])
			}
			return &config.Problem{
				What: "doctor: got " + what + ": wanted copy, intercept or target",
				Hint: "put doctor before the command line: tcpcopy doctor copy -x …",
			}
		},
	}
	cmd.AddCommand(p.doctorCopy(), p.doctorIntercept(), p.doctorTarget())
	for _, c := range cmd.Commands() {
		c.Flags().BoolP("help", "h", false, "this help")
		complete(c)
	}
	return cmd
}

func (p *program) doctorCopy() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "copy -x MAPPING [options of copy]",
		Annotations: usage("tcpcopy doctor copy -x MAPPING [options of copy]"),
		Short:       "examine the production host, before a copy or beside one",
		Example:     `tcpcopy doctor copy -x 80-10.0.0.2:8080`,
		Args:        cobra.ArbitraryArgs,
	}
	x := config.NewDoctor(cmd.Flags())
	from := config.NewDoctorProbe(cmd.Flags())
	options := config.NewCopyOptions(cmd.Flags(), p.host)
	cmd.RunE = func(cmd *cobra.Command, extra []string) error {
		c, _, err := options.Copy()
		if err != nil {
			return err
		}
		s := copySubject(c)
		s.ProbeFrom = probeSource(c, *from)
		s.Args, s.Extra = append([]string{"copy"}, p.typed("doctor", "copy")...), extra
		return p.examine(cmd.Context(), x, s)
	}
	return cmd
}

func (p *program) doctorIntercept() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "intercept [options of intercept]",
		Annotations: usage("tcpcopy doctor intercept [options of intercept]"),
		Short:       "examine the assistant, or a test server with an intercept",
		Example:     `tcpcopy doctor intercept --on-target --allow 8080 --key key`,
		Args:        cobra.ArbitraryArgs,
	}
	x := config.NewDoctor(cmd.Flags())
	options := config.NewInterceptOptions(cmd.Flags(), p.host)
	cmd.RunE = func(cmd *cobra.Command, extra []string) error {
		c, _, err := options.Intercept()
		if err != nil {
			return err
		}
		s := interceptSubject(c)
		s.Args, s.Extra = append([]string{"intercept"}, p.typed("doctor", "intercept")...), extra
		return p.examine(cmd.Context(), x, s)
	}
	return cmd
}

func (p *program) doctorTarget() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "target --port PORT [options]",
		Annotations: usage("tcpcopy doctor target --port PORT [options]"),
		Short:       "examine a test server without an intercept",
		Example: `tcpcopy doctor target --port 8080 --client 192.0.2.7
tcpcopy doctor target --port 8080 --client 192.0.2.7 --assistant 10.0.0.3
tcpcopy doctor target --port 8080 --witness 10.0.0.3 --key key`,
		Args: noArguments,
	}
	x := config.NewDoctor(cmd.Flags())
	options := config.NewDoctorTargetOptions(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := options.Target()
		if err != nil {
			return err
		}
		s := &collect.Subject{
			Role: doctor.Target, Via: "raw", Needs: []doctor.Need{captureNeed},
			Ports: c.Ports, Clients: c.Clients, Assistant: c.Assistant,
			Args: append([]string{"target"}, p.typed("doctor", "target")...),
		}
		if c.Witness.IsValid() {
			return p.testify(x, c, s)
		}
		return p.examine(cmd.Context(), x, s)
	}
	return cmd
}

var (
	captureNeed = doctor.Need{Capability: string(sys.CapNetRaw), For: "capture packets"}
	markNeed    = doctor.Need{
		Capability: string(sys.CapNetAdmin), For: "mark packets", Way: string(config.ViaRaw),
	}
	routeNeed = doctor.Need{
		Capability: string(sys.CapNetAdmin), For: "route the copies' connections",
	}
)

// copySubject returns what there is to examine of a copy.
func copySubject(c *config.Copy) *collect.Subject {
	s := &collect.Subject{
		Role: doctor.Copier, Via: string(c.Via), Interfaces: c.Interfaces, Filter: c.Filter,
		Remote: c.From.Remote(), Mappings: c.Mappings, Mark: c.Mark, Intercepts: c.Intercepts,
		LearnWay: c.LearnWay, LocalhostAs: c.LocalhostAs, OldVersions: c.OldVersions(),
		From: collect.From{
			Kind: string(c.From.Kind), Listen: c.From.Listen, Networks: c.From.Networks,
		},
	}
	if c.Captures() {
		s.Needs = append(s.Needs, captureNeed)
	}
	if c.Mark != 0 {
		s.Needs = append(s.Needs, markNeed)
	}
	for _, t := range c.Targets() {
		if c.LearnWay && slices.ContainsFunc(c.Intercepts, func(a netip.AddrPort) bool {
			return a.Addr() == t.Addr()
		}) {
			s.Via = string(config.ViaTunnel) // until the intercept says
		}
	}
	if c.Clients != nil || c.LocalhostAs.IsValid() {
		s.StandsIn = func(a netip.Addr) bool {
			return c.Clients != nil && c.Clients.Contains(a) || c.LocalhostAs == a
		}
	}
	if c.Key != nil {
		s.TLS = key.ClientTLS(*c.Key)
	}
	return s
}

// probeSource returns the function that chooses the address of probes to a target: that of --probe,
// or one of -c. It returns no address if neither has one for the target.
func probeSource(c *config.Copy, from netip.Addr) func(netip.Addr) netip.Addr {
	return func(target netip.Addr) netip.Addr {
		if from.IsValid() && from.Is4() == target.Is4() {
			return from
		}
		if c.Clients != nil {
			if pool := c.Clients.Like(target); pool.Len() > 0 {
				return pool.At(pool.Len() - 1)
			}
		}
		return netip.Addr{}
	}
}

// interceptSubject returns what there is to examine of an intercept.
func interceptSubject(c *config.Intercept) *collect.Subject {
	s := &collect.Subject{
		Role: doctor.Assistant, Via: "raw", Interfaces: c.Interfaces, Filter: c.Filter,
		AllowForwarding: c.AllowForwarding, Needs: []doctor.Need{captureNeed},
	}
	if c.OnTarget {
		s.Role, s.Via, s.Remote = doctor.Target, "tunnel", true
		s.Ports, s.Netns, s.Needs = c.Target.Allow.List, c.Target.Netns, []doctor.Need{routeNeed}
	}
	for _, a := range c.Listen {
		if !a.Addr().IsLoopback() && !slices.Contains(s.Listens, a.Port()) {
			s.Listens = append(s.Listens, a.Port())
		}
	}
	return s
}

// typed returns the words of the command line after the named commands, without the doctor's own
// options.
func (p *program) typed(commands ...string) []string {
	rest := p.args
	for _, c := range commands {
		if len(rest) > 0 && rest[0] == c {
			rest = rest[1:]
		}
	}
	var words []string
	for i := 0; i < len(rest); i++ {
		switch a := rest[i]; {
		case a == "--json", a == "-v", a == "--verbose", strings.HasPrefix(a, "--watch="),
			strings.HasPrefix(a, "--bundle="), strings.HasPrefix(a, "--for="),
			strings.HasPrefix(a, "--probe="):
		case a == "--watch", a == "--bundle", a == "--for", a == "--probe":
			i++
		default:
			words = append(words, a)
		}
	}
	return words
}

// examine gathers the facts, prints the report, and returns its exit code as an error.
func (p *program) examine(ctx context.Context, x *config.Doctor, s *collect.Subject) error {
	if ctx == nil {
		ctx = context.Background()
	}
	s.Watch, s.Evidence = x.Watch, x.Bundle != ""
	s.Program, _ = os.Executable()
	facts, report := p.diagnose(ctx, x, s)
	report.Version = Version()
	if x.Bundle != "" {
		if err := writeBundle(x.Bundle, report, facts); err != nil {
			return err
		}
	}
	if x.JSON {
		if err := report.WriteJSON(p.out); err != nil {
			return err
		}
	} else {
		report.Print(p.out, coloured(p.out), x.Verbose)
	}
	return reportCode(report)
}

// diagnose examines until a cause is found, or the time of --for is over: once without it.
func (p *program) diagnose(
	ctx context.Context, x *config.Doctor, s *collect.Subject,
) (*doctor.Facts, *doctor.Report) {
	for begin := time.Now(); ; {
		one := *s // what is learned of the way is learned anew
		facts := p.facts(ctx, &one)
		report := doctor.Diagnose(facts)
		if report.State == doctor.Found || time.Since(begin) >= x.For || ctx.Err() != nil {
			return facts, report
		}
	}
}

// reportCode returns the exit code of a report, as an error.
func reportCode(r *doctor.Report) error {
	denied := func(x doctor.Finding) bool { return x.Code == "TC0101" }
	switch {
	case slices.ContainsFunc(r.Findings, denied):
		return exitCode(exitPrivilege)
	case r.State == doctor.Found:
		return exitCode(exitFailure)
	case r.State == doctor.Unknown:
		return exitCode(exitUnknown)
	}
	return nil
}

// coloured reports whether output goes to a terminal whose user has not set NO_COLOR.
func coloured(w io.Writer) bool {
	if o, ok := w.(*output); ok {
		w = o.w
	}
	f, ok := w.(*os.File)
	return ok && os.Getenv("NO_COLOR") == "" && term.IsTerminal(int(f.Fd()))
}

func (p *program) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use:         "explain CODE",
		Annotations: usage("tcpcopy explain CODE", "tcpcopy explain"),
		Short:       "explain a code of the doctor",
		Example: `tcpcopy explain TC0204
tcpcopy explain              # lists the codes`,
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				for _, c := range doctor.Checks() {
					fmt.Fprintf(p.out, "%s  %s\n", c.Code, c.Title)
				}
				return nil
			}
			c, ok := doctor.Find(args[0])
			if !ok || len(args) > 1 {
				return &config.Problem{
					What: "explain: got " + strconv.Quote(strings.Join(args, " ")) +
						": wanted a code, such as TC0204",
					Hint: "tcpcopy explain lists the codes",
				}
			}
			doctor.Explain(p.out, &c)
			return nil
		},
	}
}
