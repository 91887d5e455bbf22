package app

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tcpcopy/internal/config"
)

const (
	helpColumn = 33  // column where explanations begin
	helpWidth  = 100 // columns of a line
)

// help prints a command's help: its usage, examples, and options by group.
func help(cmd *cobra.Command, _ []string) {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%s: %s\n\n", cmd.CommandPath(), cmd.Short)
	for i, line := range usageLines(cmd) {
		lead := "usage: "
		if i > 0 {
			lead = "       "
		}
		fmt.Fprintf(w, "%s%s\n", lead, line)
	}
	if cmd.Example != "" {
		fmt.Fprintf(w, "\nExamples\n%s\n", indent(cmd.Example, "  "))
	}
	if cmd.Long != "" {
		fmt.Fprintf(w, "\n%s\n", strings.TrimSpace(cmd.Long))
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(w, "\nCommands\n")
		for _, c := range cmd.Commands() {
			if c.IsAvailableCommand() {
				entry(w, "  "+c.Name(), 16, c.Short)
			}
		}
	}
	for _, g := range append(config.Groups(), "") {
		options(w, cmd.Flags(), g)
	}
}

// usage returns the annotation that holds the forms of a command line, for usageLines.
func usage(forms ...string) map[string]string {
	return map[string]string{"usage": strings.Join(forms, "\n")}
}

// usageLines returns the forms of a command line.
func usageLines(cmd *cobra.Command) []string {
	if u := cmd.Annotations["usage"]; u != "" {
		return strings.Split(u, "\n")
	}
	return []string{cmd.UseLine()}
}

// options prints the options of a group.
func options(w io.Writer, fs *pflag.FlagSet, g config.Group) {
	first := true
	fs.SortFlags = false
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || config.GroupOf(f) != g {
			return
		}
		if first {
			title := string(g)
			if title == "" {
				title = "Options"
			}
			fmt.Fprintf(w, "\n%s\n", title)
			first = false
		}
		_, text := pflag.UnquoteUsage(f)
		if d := f.DefValue; d != "" && d != "false" && d != "[]" {
			text += " (default " + d + ")"
		}
		entry(w, flagName(f), helpColumn, text)
	})
}

// flagName returns an option as help shows it: its letter, name and type.
func flagName(f *pflag.Flag) string {
	s := "      --" + f.Name
	if f.Shorthand != "" {
		s = "  -" + f.Shorthand + ", --" + f.Name
	}
	if t, _ := pflag.UnquoteUsage(f); t != "" && f.Value.Type() != "bool" {
		s += " " + t
	}
	return s
}

// entry prints a name and, from the column on, the wrapped text.
func entry(w io.Writer, name string, column int, text string) {
	if len(name)+2 > column {
		fmt.Fprintln(w, name)
		name = ""
	}
	line := name + strings.Repeat(" ", column-len(name))
	empty := true
	for _, word := range strings.Fields(text) {
		if !empty && len(line)+1+len(word) > helpWidth {
			fmt.Fprintln(w, line)
			line = strings.Repeat(" ", column)
			empty = true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	fmt.Fprintln(w, strings.TrimRight(line, " "))
}

// indent indents every line.
func indent(s, by string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	for i, l := range lines {
		if l != "" {
			lines[i] = by + l
		}
	}
	return strings.Join(lines, "\n")
}

func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "explain a command",
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return &config.Problem{
					What: fmt.Sprintf("no help on %q: wanted the name of a command",
						strings.Join(args, " ")),
					Hint: "tcpcopy --help lists the commands",
				}
			}
			help(about, nil)
			return nil
		},
	}
}

// completer registers the completion of an option: its words, or files if it takes one.
func completer(cmd *cobra.Command) func(*pflag.Flag) {
	return func(f *pflag.Flag) {
		if words := config.Choices(f); len(words) > 0 {
			_ = cmd.RegisterFlagCompletionFunc(f.Name,
				cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
		} else if t := f.Value.Type(); t != "FILE" && t != "DIR" {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.NoFileCompletions)
		}
	}
}
