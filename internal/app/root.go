package app

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"tcpcopy/internal/config"
	"tcpcopy/internal/sys"
)

// program is one run of the command line, with the functions that its commands call.
type program struct {
	out, err  io.Writer
	parent    *os.File // where a daemon writes until it is ready; nil: not a daemon
	host      config.Host
	has       func(sys.Capability) bool
	scenarios []config.Scenario // of the lab

	copy      copyFunc
	intercept interceptFunc
	capture   captureFunc
	record    recordFunc
	lab       labFunc
	facts     examineFunc
	quick     quickFunc // nil: nothing is examined at start
	witness   witnessFunc
	confine   confineFunc

	args []string // the command line, after route, without the program
}

// Main runs the command line args, which begins with the program's name, and returns the exit code.
func Main(args []string) int {
	p := newProgram()
	p.wire()
	p.confine = sys.Confine // not in wire: tests are to go on
	return p.run(args)
}

// newProgram returns a program that writes to standard output and standard error.
func newProgram() *program {
	p := &program{out: os.Stdout, err: os.Stderr, parent: attachToParent()}
	if p.parent != nil {
		p.err = p.parent
	}
	return p
}

// run runs a command line and returns the exit code.
func (p *program) run(args []string) int {
	out := &output{w: p.out}
	p.out = out
	p.args = route(args)
	root := p.root()
	root.SetArgs(p.args)
	root.SetOut(out)
	root.SetErr(p.err)
	code := exitOK
	if err := root.Execute(); err != nil {
		code = fail(p.err, err)
	}
	if out.err != nil && code == exitOK {
		say(p.err, "write to standard output: %s", fileError(out.err))
		code = exitFailure
	}
	return code
}

// route adds the command to a command line that names none: a program called intercept is tcpcopy
// intercept, and tcpcopy -x … is tcpcopy copy -x …, as in TCPCopy.
func route(args []string) []string {
	if len(args) == 0 {
		return []string{}
	}
	rest := args[1:]
	if filepath.Base(args[0]) == "intercept" {
		return append([]string{"intercept"}, rest...)
	}
	if len(rest) > 1 && rest[0] == "doctor" && strings.HasPrefix(rest[1], "-") &&
		!asksHelp(rest[1:]) {
		return append([]string{"doctor", "copy"}, rest[1:]...)
	}
	if len(rest) == 0 || !strings.HasPrefix(rest[0], "-") {
		return rest
	}
	if asksHelp(rest) || len(rest) == 1 && (rest[0] == "-v" || rest[0] == "--version") {
		return rest
	}
	return append([]string{"copy"}, rest...)
}

// asksHelp reports whether the words are --help alone.
func asksHelp(words []string) bool {
	return len(words) == 1 && (words[0] == "-h" || words[0] == "--help")
}

// root returns the command tcpcopy with its subcommands.
func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:         "tcpcopy",
		Annotations: usage("tcpcopy COMMAND [options]", "tcpcopy -x MAPPING [options]"),
		Short:       "replay a production server's live TCP traffic against a test server",
		Example: `Copy this host's port 80 to the test server 10.0.0.2, port 8080:
  tcpcopy copy -x 80-10.0.0.2:8080
The same, from the clients' own addresses, with an intercept on a third host (10.0.0.3):
  tcpcopy keygen > key                                                  # for both sides
  tcpcopy intercept -i eth0 -F 'tcp and src port 8080' --key key        # on 10.0.0.3
  tcpcopy copy -x 80-10.0.0.2:8080 -s 10.0.0.3 --key key                # on this host
The same, with the intercept on the test server itself, without a third host or a route:
  tcpcopy intercept --on-target --allow 8080 --key key                  # on 10.0.0.2
  tcpcopy copy -x 80-10.0.0.2:8080 -s 10.0.0.2 --key key                # on this host
See it work on this machine alone:
  tcpcopy lab
TCPCopy's command lines are accepted: tcpcopy -x … is tcpcopy copy -x …`,
		Args:    cobra.ArbitraryArgs,
		Version: Version(),
		// If the first word is not a command, report that, and not an option after it.
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		SilenceErrors:      true,
		SilenceUsage:       true,
		RunE: func(cmd *cobra.Command, args []string) error {
			names := "copy, record, replay, intercept, capture, doctor, explain, lab, keygen, " +
				"config, status, top, dashboard, report, diff, compare, version, completion or help"
			if len(args) == 0 {
				return &config.Problem{What: "no command: wanted " + names,
					Hint: "tcpcopy --help lists the commands"}
			}
			problem := &config.Problem{What: fmt.Sprintf("unknown command %q: wanted %s", args[0],
				names)}
			if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
				problem.Hint = fmt.Sprintf("did you mean tcpcopy %s?", near[0])
			}
			return problem
		},
	}
	root.SetVersionTemplate("tcpcopy {{.Version}}\n")
	root.SuggestionsMinimumDistance = 2
	root.SetHelpFunc(help)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return config.FlagProblem(err, cmd.CommandPath()+" --help")
	})
	root.AddCommand(p.copyCommand(), p.recordCommand(), p.replayCommand(), p.interceptCommand(),
		p.captureCommand(), p.doctorCommand(), p.explainCommand(), p.labCommand(),
		p.keygenCommand(), p.configCommand(),
		p.statusCommand(), p.topCommand(), p.dashboardCommand(),
		p.reportCommand(), p.diffCommand(), p.compareCommand(), p.versionCommand())
	root.SetHelpCommand(helpCommand())
	standardFlags(root)
	for _, c := range root.Commands() {
		standardFlags(c)
	}
	return root
}

// standardFlags adds --help to a command, and --version to those that run as daemons.
func standardFlags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.BoolP("help", "h", false, "this help")
	daemons := []string{"copy", "record", "replay", "intercept", "capture"}
	daemon := slices.Contains(daemons, cmd.Name())
	if daemon || !cmd.HasParent() {
		cmd.Version = Version()
		cmd.SetVersionTemplate("tcpcopy {{.Version}}\n")
		fs.BoolP("version", "v", false, "the version")
	}
	if daemon {
		config.SetGroup(fs.Lookup("help"), config.Output)
		config.SetGroup(fs.Lookup("version"), config.Output)
	}
}

// noArguments refuses arguments that are not options.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &config.Problem{
		What: fmt.Sprintf("unexpected argument %q: wanted options only", args[0]),
		Hint: cmd.CommandPath() + " --help lists the options",
	}
}

// complete registers the shell completion of a command's options.
func complete(cmd *cobra.Command) {
	cmd.Flags().VisitAll(completer(cmd))
}
