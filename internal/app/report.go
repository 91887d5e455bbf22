package app

import (
	"bytes"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/page"
	"tcpcopy/internal/config"
)

func (p *program) reportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "report FILE.json [-o FILE.html]",
		Annotations: map[string]string{"usage": "tcpcopy report FILE.json [-o FILE.html]"},
		Short:       "make a page of a JSON report, to keep or to print",
		Long: `
FILE.json is what --report wrote. The page is one file without scripts. It needs no network, and
says the same as the JSON: fidelity, account, course, answers, targets.`,
		Example: `tcpcopy report run.json -o run.html
tcpcopy report run.json > run.html`,
	}
	out := cmd.Flags().StringP(
		"output",
		"o",
		"",
		"write the page to this `FILE` instead of standard output",
	)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return &config.Problem{
				What: fmt.Sprintf(
					"report: got %d files: wanted one, that --report has written",
					len(args),
				),
				Hint: "tcpcopy copy --report run.json writes one",
			}
		}
		r, err := readReport(args[0])
		if err != nil {
			return err
		}
		if *out != "" {
			return writePage(*out, r)
		}
		if f, ok := p.out.(*output); ok && isTerminal(f.w) {
			return &config.Problem{What: "report: a page is not for a terminal: wanted -o FILE"}
		}
		var b bytes.Buffer
		if err := page.Write(&b, r); err != nil {
			return err
		}
		_, err = p.out.Write(b.Bytes())
		return err
	}
	return cmd
}

// isTerminal reports whether w is a terminal.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// readReport reads a report that the user has named. One that cannot be read is bad input.
func readReport(path string) (*export.Report, error) {
	r, err := export.ReadReport(path)
	if err != nil {
		return nil, &config.Problem{
			What: err.Error() + ": wanted a report that --report has written"}
	}
	return r, nil
}
