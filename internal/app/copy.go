package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/status"
	"tcpcopy/internal/config"
	"tcpcopy/internal/engine"
)

func (p *program) copyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "copy -x MAPPING [options]",
		Annotations: usage("tcpcopy copy -x MAPPING [options]", "tcpcopy -x MAPPING [options]"),
		Short:       "replay this host's live TCP traffic against a test server",
		Example: `Port 80 of this host to 10.0.0.2, port 8080, over ordinary connections:
  tcpcopy copy -x 80-10.0.0.2:8080
A tenth of the sessions, twice each; the target learns the clients' addresses:
  tcpcopy copy -x 80-10.0.0.2:8080 --sample 10 --copies 2 --proxy-protocol v2
From the clients' own addresses, through an intercept on 10.0.0.3:
  tcpcopy copy -x 80-10.0.0.2:8080 -s 10.0.0.3 --key key
IPv6, two ports, and the account as JSON:
  tcpcopy copy -x '80-[fd00::2]:8080,6379-[fd00::2]:6379' --report report.json`,
		Args: noArguments,
	}
	options := config.NewCopyOptions(cmd.Flags(), p.host)
	cmd.RunE = func(*cobra.Command, []string) error {
		c, warnings, err := options.Copy()
		if err != nil {
			return err
		}
		var reload reloadFunc
		if cmd.Flags().Changed("config") {
			reload = options.Reload
		}
		return p.runCopy(c, warnings, reload)
	}
	complete(cmd)
	return cmd
}

// errEndedEarly is the error of a run that a second signal ended.
var errEndedEarly = errors.New("ended while sessions were open: they count as dropped for shutdown")

// runCopy copies until a signal ends it, and prints the account. If there is a configuration file,
// reload reads it again.
func (p *program) runCopy(c *config.Copy, warnings []string, reload reloadFunc) error {
	d := daemon{
		Process: c.Process, report: c.Report, warnings: warnings,
		stopping:     "stopping: no new packets; " + drainText(c.Drain),
		unprivileged: !c.Captures(), reload: reload, subject: copySubject(c),
	}
	if c.Replay != nil {
		d.stopping = "stopping: nothing more is read; " + drainText(c.Drain)
	}
	return p.serve(d, func(s *engine.Control, log *logbook) error {
		asks := make(chan chan<- *export.Snapshot)
		s.Ask = asks
		end, err := serveStatus("copier", c.Status, func() *status.Node { return copierNode(asks) })
		if err != nil {
			return err
		}
		defer end()
		report := &reporter{path: c.Report, log: log}
		var previous *export.Snapshot
		advised := map[string]bool{}
		if c.Replay != nil {
			return p.runReplay(s, c, log, report)
		}
		last, err := p.copy(s, c, func(now *export.Snapshot) {
			now.Doctor = p.doctorLine(c)
			log.statistics(export.Line(now, previous))
			for _, a := range export.Advice(now) {
				if !advised[a] {
					log.statistics("hint: " + a)
				}
				advised[a] = true
			}
			report.write(export.NewReport(now))
			previous = now
		})
		if last != nil {
			last.Final, last.Doctor = true, p.doctorLine(c)
			export.Summary(p.out, last)
			if log.file != nil {
				export.Summary(log.w, last)
			}
			if werr := report.write(export.NewReport(last)); werr != nil && err == nil {
				err = exitCode(exitFailure) // the reporter has printed the error
			}
		}
		if errors.Is(err, context.Canceled) && last == nil {
			cause := strings.TrimSuffix(err.Error(), ": "+context.Canceled.Error())
			return errors.New("copy: " + cause)
		}
		if errors.Is(err, context.Canceled) {
			return errEndedEarly
		}
		if err != nil {
			return fmt.Errorf("copy: %w", err)
		}
		return nil
	})
}

// drainText says how sessions end.
func drainText(d time.Duration) string {
	if d == 0 {
		return "sessions end at once (--drain 0)"
	}
	return fmt.Sprintf("sessions have %s to end; a second signal ends at once", d)
}
