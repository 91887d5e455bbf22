package app

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"tcpcopy/internal/config"
	"tcpcopy/internal/sys"
)

// program is one run of the command line, with what its commands are wired to.
type program struct {
	out, err  io.Writer
	parent    *os.File // to whom a daemon speaks until it is ready; nil: this is no daemon
	host      config.Host
	has       func(sys.Capability) bool
	scenarios []config.Scenario // of the lab

	copy      copyFunc
	intercept interceptFunc
	capture   captureFunc
	record    recordFunc
	lab       labFunc
}

// Main runs the command that args (as in os.Args) name, and returns the exit code.
func Main(args []string) int {
	p := newProgram()
	p.wire()
	return p.run(args)
}

func newProgram() *program {
	p := &program{out: os.Stdout, err: os.Stderr, parent: attachToParent()}
	if p.parent != nil {
		p.err = p.parent
	}
	return p
}

func (p *program) run(args []string) int {
	out := &output{w: p.out}
	p.out = out
	root := p.root()
	root.SetArgs(route(args))
	root.SetOut(out)
	root.SetErr(p.err)
	code := exitOK
	if err := root.Execute(); err != nil {
		code = fail(p.err, err)
	}
	if out.err != nil && code == exitOK {
		say(p.err, "write to standard output: %s", kernelWords(out.err))
		code = exitFailure
	}
	return code
}

// route finds the command in a command line that names none: a program called intercept is
// tcpcopy intercept, and tcpcopy -x … is tcpcopy copy -x …, as TCPCopy's users type them.
func route(args []string) []string {
	if len(args) == 0 {
		return []string{}
	}
	rest := args[1:]
	if filepath.Base(args[0]) == "intercept" {
		return append([]string{"intercept"}, rest...)
	}
	if len(rest) == 0 || !strings.HasPrefix(rest[0], "-") {
		return rest
	}
	if len(rest) == 1 {
		switch rest[0] {
		case "-h", "--help", "-v", "--version":
			return rest
		}
	}
	return append([]string{"copy"}, rest...)
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:         "tcpcopy",
		Annotations: map[string]string{"usage": "tcpcopy COMMAND [options]\ntcpcopy -x MAPPING [options]"},
		Short:       "replay a production server's live TCP traffic against a test server",
		Example: `This host's port 80 is copied to the test server 10.0.0.2, port 8080:
  tcpcopy copy -x 80-10.0.0.2:8080
The same, from the clients' own addresses, with an intercept on a third host (10.0.0.3):
  tcpcopy keygen > key                                                  # for both sides
  tcpcopy intercept -i eth0 -F 'tcp and src port 8080' --key key        # on 10.0.0.3
  tcpcopy copy -x 80-10.0.0.2:8080 -s 10.0.0.3 --key key                # on this host
The same, with the intercept on the test server itself, and neither third host nor route:
  tcpcopy intercept --on-target --allow 8080 --key key                  # on 10.0.0.2
  tcpcopy copy -x 80-10.0.0.2:8080 -s 10.0.0.2 --key key                # on this host
See it work on this machine alone:
  tcpcopy lab
TCPCopy's own command lines are understood: tcpcopy -x … is tcpcopy copy -x …`,
		Args:    cobra.ArbitraryArgs,
		Version: Version(),
		// An option after a word that is no command is not the mistake to report.
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		SilenceErrors:      true,
		SilenceUsage:       true,
		RunE: func(cmd *cobra.Command, args []string) error {
			names := "copy, record, replay, intercept, capture, lab, keygen, config, status, report, version, completion or help"
			if len(args) == 0 {
				return &config.Problem{What: "no command: wanted " + names, Hint: "tcpcopy --help says more"}
			}
			problem := &config.Problem{What: fmt.Sprintf("unknown command %q: wanted %s", args[0], names)}
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
	root.AddCommand(p.copyCommand(), p.recordCommand(), p.replayCommand(), p.interceptCommand(), p.captureCommand(), p.labCommand(), p.keygenCommand(), p.configCommand(), p.statusCommand(), p.reportCommand(),
		p.versionCommand())
	root.SetHelpCommand(helpCommand())
	standardFlags(root)
	for _, c := range root.Commands() {
		standardFlags(c)
	}
	return root
}

// standardFlags adds -h to a command, and -v where TCPCopy had it.
func standardFlags(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.BoolP("help", "h", false, "this help")
	daemon := cmd.Name() == "copy" || cmd.Name() == "record" || cmd.Name() == "replay" || cmd.Name() == "intercept" || cmd.Name() == "capture"
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

// noArguments refuses words that belong to no option.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &config.Problem{
		What: fmt.Sprintf("unexpected argument %q: wanted options only", args[0]),
		Hint: cmd.CommandPath() + " --help lists the options",
	}
}

// complete offers the words that an option takes to the shell's completion.
func complete(cmd *cobra.Command) {
	cmd.Flags().VisitAll(completer(cmd))
}
