package app

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tcpcopy/internal/config"
)

func (p *program) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "config check|example",
		Annotations: usage("tcpcopy config check FILE", "tcpcopy config example"),
		Short:       "check a configuration file, or print an example of one",
		Example: `tcpcopy config example > tcpcopy.yaml
tcpcopy config check tcpcopy.yaml
tcpcopy copy --config tcpcopy.yaml`,
		RunE: func(_ *cobra.Command, args []string) error {
			what := "nothing"
			if len(args) > 0 {
				what = fmt.Sprintf("%q", args[0])
			}
			return &config.Problem{What: "config: got " + what + ": wanted check FILE, or example"}
		},
	}
	check := &cobra.Command{
		Use:     "check FILE",
		Short:   "check a configuration file for tcpcopy copy --config",
		Example: "tcpcopy config check tcpcopy.yaml",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return &config.Problem{What: fmt.Sprintf("config check: got %d files: wanted one",
					len(args))}
			}
			fs := pflag.NewFlagSet("copy", pflag.ContinueOnError)
			options := config.NewCopyOptions(fs, p.host)
			if err := fs.Set("config", args[0]); err != nil {
				return config.FlagProblem(err, "tcpcopy copy --help")
			}
			c, warnings, err := options.Copy()
			if err != nil {
				return err
			}
			warn(p.err, warnings)
			fmt.Fprintf(p.out, "%s: valid\n", args[0])
			for _, m := range c.MappingStrings() {
				fmt.Fprintf(p.out, "  %s\n", m)
			}
			return nil
		},
	}
	example := &cobra.Command{
		Use:     "example",
		Short:   "print a configuration file with every key",
		Example: "tcpcopy config example > tcpcopy.yaml",
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprint(p.out, config.Example())
			return err
		},
	}
	cmd.AddCommand(check, example)
	for _, c := range cmd.Commands() {
		standardFlags(c)
	}
	return cmd
}
