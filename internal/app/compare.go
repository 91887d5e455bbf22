package app

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/verdict"
	"tcpcopy/internal/config"
)

// The exit codes of a comparison.
const (
	exitDiffers    = 4 // or is slower
	exitCannotTell = 5
)

// verdictCode returns the exit code of a verdict, as an error; nil for the same.
func verdictCode(w verdict.Word) error {
	switch w {
	case verdict.Same:
		return nil
	case verdict.CannotTell:
		return exitCode(exitCannotTell)
	default:
		return exitCode(exitDiffers)
	}
}

// judge writes the result of a comparison as JUnit XML, if that is wanted, and returns the exit
// code of the verdict, as an error.
func judge(c *config.Copy, last *export.Snapshot) error {
	if last == nil || last.Compare == nil {
		return nil
	}
	if c.Compare.JUnit != "" {
		b, err := last.Compare.JUnit()
		if err == nil {
			err = export.WriteFile(c.Compare.JUnit, b)
		}
		if err != nil {
			return fmt.Errorf("write %q: %w", c.Compare.JUnit, err)
		}
	}
	return verdictCode(last.Compare.Verdict)
}

func (p *program) diffCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "diff OLD.json NEW.json [options]",
		Annotations: usage("tcpcopy diff OLD.json NEW.json [options]"),
		Short:       "compare two runs: is the new version right, and not slower?",
		Long: `
The files are what --report has written in two runs with --compare: the same recording, or similar
traffic, sent to the old version and to the new one. What differs from production in both runs alike
(identifiers, times, what depends on the host) is no difference. Times of the two runs are compared
by blocks of a second and more.

The exit code is 0 if the new version answers the same and is not slower, 4 if it differs or is
slower, 5 if it cannot be told.`,
		Example: `Play a recording against the old version, then against the new one:
  tcpcopy replay peak.pcapng -x 80-10.0.0.2:8080 --compare --report old.json
  tcpcopy replay peak.pcapng -x 80-10.0.0.3:8080 --compare --report new.json
  tcpcopy diff old.json new.json`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
	}
	failOn := cmd.Flags().String("fail-on", "differs,slower",
		"judge only these `WORDS`: differs, slower, or both with a comma")
	slowerBy := cmd.Flags().String("slower-by", "10%",
		"answers are slower if they take longer by more than this `PERCENT`")
	out := cmd.Flags().String("json", "", "write the result as JSON to `FILE`, too")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) != 2 {
			return &config.Problem{
				What: fmt.Sprintf("diff: got %d files: wanted two, of an old run and a new one",
					len(args)),
				Hint: "tcpcopy replay --compare --report old.json writes one",
			}
		}
		judged, err := verdict.ParseJudged(*failOn)
		if err != nil {
			return &config.Problem{Flag: "--fail-on", Value: *failOn,
				What: "wanted differs, slower, or both with a comma"}
		}
		if judged.By, err = verdict.ParsePercent(*slowerBy); err != nil {
			return &config.Problem{Flag: "--slower-by", Value: *slowerBy,
				What: "wanted a percentage above 0, such as 10%"}
		}
		var results [2]*verdict.Result
		for i, path := range args {
			r, err := readReport(path)
			if err != nil {
				return err
			}
			if results[i] = r.Compare; r.Compare == nil {
				return &config.Problem{What: fmt.Sprintf("diff: %q has no comparison: wanted a "+
					"report of a run with --compare", path)}
			}
		}
		ch, err := verdict.Compare(results[0], results[1], judged)
		if err != nil {
			return &config.Problem{What: "diff: " + err.Error()}
		}
		if *out != "" {
			if err := export.WriteReport(*out, ch); err != nil {
				return err
			}
		}
		if err := ch.Write(p.out); err != nil {
			return fmt.Errorf("diff: %w", err)
		}
		return verdictCode(ch.Verdict)
	}
	return cmd
}

func (p *program) compareCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "compare learn FILE.json...",
		Annotations: usage("tcpcopy compare learn FILE.json..."),
		Short:       "suggest rules for comparisons from runs of equal servers",
		RunE: func(_ *cobra.Command, args []string) error {
			what := "nothing"
			if len(args) > 0 {
				what = fmt.Sprintf("%q", args[0])
			}
			return &config.Problem{What: fmt.Sprintf("compare: got %s: wanted learn", what),
				Hint: "to compare answers, give --compare to tcpcopy copy or tcpcopy replay"}
		},
	}
	learn := &cobra.Command{
		Use:         "learn FILE.json...",
		Annotations: usage("tcpcopy compare learn FILE.json..."),
		Short:       "suggest rules for comparisons from runs of equal servers",
		Long: `
The files are what --report has written in runs with --compare whose test server is equal to
production. What differs in them (hosts' names, counters, the order of lists) would differ in each
version. The rules that leave it out are printed as part of a configuration file, with what each
silences. There is no rule for statuses that differ, and for answers that are missing.`,
		Example: `Compare production with the same version, then with the new one by these rules:
  tcpcopy replay peak.pcapng -x 80-10.0.0.2:8080 --compare --report old.json
  tcpcopy compare learn old.json > rules.yaml
  tcpcopy replay peak.pcapng -x 80-10.0.0.3:8080 --compare --config rules.yaml`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
	}
	learn.RunE = func(_ *cobra.Command, args []string) error { return p.learn(args) }
	cmd.AddCommand(learn)
	standardFlags(learn)
	return cmd
}

// learn prints the rules that the runs of these reports suggest.
func (p *program) learn(paths []string) error {
	if len(paths) == 0 {
		return &config.Problem{What: "compare learn: got no file: wanted reports of runs of " +
			"equal servers", Hint: "tcpcopy replay --compare --report old.json writes one"}
	}
	var runs []*verdict.Result
	for _, path := range paths {
		r, err := readReport(path)
		if err != nil {
			return err
		}
		if r.Compare == nil {
			return &config.Problem{What: fmt.Sprintf("compare learn: %q has no comparison: "+
				"wanted a report of a run with --compare", path)}
		}
		runs = append(runs, r.Compare)
	}
	lesson, err := verdict.Learn(runs...)
	if err == nil {
		err = lesson.Write(p.out)
	}
	if err != nil {
		return fmt.Errorf("compare learn: %w", err)
	}
	return nil
}

// withVerdict returns the error of a run, or else that of its verdict.
func withVerdict(err error, c *config.Copy, last *export.Snapshot) error {
	judged := judge(c, last)
	if err != nil && (judged == nil || errors.As(judged, new(exitCode))) {
		return err
	}
	return errors.Join(err, judged)
}
