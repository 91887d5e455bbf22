package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/fleet"
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
		var again *pflag.FlagSet
		if cmd.Flags().Changed("config") {
			reload, again = options.Reload, cmd.Flags()
		}
		return p.runCopy(c, warnings, reload, again)
	}
	complete(cmd)
	return cmd
}

// errEndedEarly is the error of a run that a second signal ended.
var errEndedEarly = errors.New("ended while sessions were open: they count as dropped for shutdown")

// runCopy copies until a signal ends it, and prints the account. If there is a configuration file,
// reload reads it again, and the files of the options.
func (p *program) runCopy(
	c *config.Copy, warnings []string, reload reloadFunc, again *pflag.FlagSet,
) error {
	d := daemon{
		Process: c.Process, report: c.Report, page: c.HTML, junit: c.Compare.JUnit,
		warnings:     warnings,
		stopping:     "stopping: no new packets; " + drainText(c.Drain),
		unprivileged: !c.Captures(), reload: reload, subject: copySubject(c),
		needs: copyNeeds(c, again),
	}
	if c.Replay != nil {
		d.stopping = "stopping: nothing more is read; " + drainText(c.Drain)
	}
	c.Live = c.Live && p.canShow()
	return p.withLive(c.Live, func(kept *lines) error {
		return p.serve(d, func(s *engine.Control, log *logbook) error {
			return p.work(s, c, log, kept)
		})
	})
}

// work copies, shows how it goes, and prints the account.
func (p *program) work(s *engine.Control, c *config.Copy, log *logbook, kept *lines) error {
	asks := make(chan chan<- *export.Snapshot)
	look := newLooker()
	s.Ask, s.AskSessions = asks, look.asks
	follow := newCourse(c, &log.seen)
	if c.Web.Dashboard != "" {
		follow.fleet = fleet.New([]string{""})
		follow.fleet.Ask = look.ask
		page, err := p.serveDashboard(&c.Web, follow.fleet)
		if err != nil {
			return err
		}
		defer page.Close()
	}
	if c.Live {
		shown := fleet.New([]string{""})
		shown.Ask = look.ask
		follow.view = p.showLive(shown, kept)
		defer follow.view.end()
	}
	end, err := (&panel{
		kind: "copier", log: log, sessions: look.sessions,
		get: func() *view { return copierView(asks, follow) },
	}).show(&c.Process)
	if err != nil {
		return err
	}
	defer end()
	report := &reporter{path: c.Report, log: log}
	var previous *export.Snapshot
	advised := map[string]bool{}
	if c.Replay != nil {
		return p.runReplay(s, c, log, report, follow)
	}
	tell := watchClosely(c)
	last, err := p.copy(s, c, func(now *export.Snapshot) {
		now.Doctor = p.doctorLine(c)
		r := follow.note(now)
		if !tell.due(now) {
			return
		}
		log.statistics(export.Line(now, previous))
		for _, a := range export.Advice(now) {
			if !advised[a] {
				log.statistics("hint: " + a)
			}
			advised[a] = true
		}
		report.write(r)
		previous = now
	})
	if last != nil {
		last.Doctor = p.doctorLine(c)
		follow.end(last)
		export.Summary(p.out, last)
		if log.file != nil {
			export.Summary(log.w, last)
		}
		if !p.keep(c, report, last) && err == nil {
			err = exitCode(exitFailure)
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
	return judge(c, last)
}

// drainText says how sessions end.
func drainText(d time.Duration) string {
	if d == 0 {
		return "sessions end at once (--drain 0)"
	}
	return fmt.Sprintf("sessions have %s to end; a second signal ends at once", d)
}

// keep writes the last report and its page. It reports whether both could be written; what is wrong
// it says.
func (p *program) keep(c *config.Copy, report *reporter, last *export.Snapshot) bool {
	r := export.NewReport(last)
	ok := report.write(r) == nil
	if c.HTML == "" {
		return ok
	}
	if err := writePage(c.HTML, r); err != nil {
		say(report.log.w, "%v", err)
		return false
	}
	return ok
}
