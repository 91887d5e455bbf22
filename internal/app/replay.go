package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/engine"
)

func (p *program) replayCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "replay FILE... -x MAPPING [options]",
		Annotations: usage("tcpcopy replay FILE... -x MAPPING [options]",
			"tcpcopy -i FILE -x MAPPING [options]"),
		Short: "replay recorded traffic against a test server",
		Example: `A file of tcpcopy record, or of tcpdump -w, to 10.0.0.2, port 8080:
  tcpcopy replay peak.pcapng -x 80-10.0.0.2:8080
At 2.5 times the speed, with silences of more than two seconds shortened to that:
  tcpcopy replay peak.pcapng -x 80-10.0.0.2:8080 --speed 2.5 --gap-limit 2s
All files of a day, again and again, with at most 500 new sessions a second:
  tcpcopy replay day-*.pcapng.zst -x 80-10.0.0.2:8080 --rate 500 --loop forever
As fast as the test server answers, from the clients' own addresses:
  tcpcopy replay peak.pcapng -x 80-10.0.0.2:8080 --speed max -s 10.0.0.3 --key key
Live, from another host:
  ssh prod tcpdump -i eth0 -U -w - tcp port 80 | tcpcopy replay - -x 80-10.0.0.2:8080`,
		Long: `
Files are pcap or pcapng, perhaps compressed with gzip or zstd. Several are merged by time; - is
standard input. Sessions begin as in the recording, and a request still waits for the answer to the
previous one. The exit code is 0 only if tcpcopy itself dropped nothing.`,
		Args:              cobra.ArbitraryArgs,
		ValidArgsFunction: cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault),
	}
	options := config.NewReplayOptions(cmd.Flags(), p.host)
	cmd.RunE = func(_ *cobra.Command, files []string) error {
		c, warnings, err := options.Replay(files)
		if err != nil {
			return err
		}
		return p.runCopy(c, warnings, nil, nil)
	}
	complete(cmd)
	return cmd
}

// barEvery is how often the progress bar on a terminal is drawn.
const barEvery = 250 * time.Millisecond

// runReplay replays, and prints the account.
func (p *program) runReplay(
	s *engine.Control, c *config.Copy, log *logbook, report *reporter, follow *course,
) error {
	bar := newBar(p.err)
	tell := watchClosely(c)
	if bar != nil && tell.every > 0 && log.file == nil {
		c.Stats = min(barEvery, c.Stats)
	}
	var previous *export.Snapshot
	last, err := p.copy(s, c, func(now *export.Snapshot) {
		r := follow.note(now)
		if bar != nil && log.file == nil {
			bar.show(now)
		}
		if !tell.due(now) {
			return
		}
		if bar == nil || log.file != nil {
			log.statistics(export.ReplayLine(now, previous))
		}
		report.write(r)
		previous = now
	})
	bar.done()
	if last == nil {
		if err != nil && !errors.As(err, new(*config.Problem)) {
			return fmt.Errorf("replay: %w", err)
		}
		return err
	}
	last.Doctor = p.doctorLine(c)
	follow.end(last)
	export.Summary(p.out, last)
	if log.file != nil {
		export.Summary(log.w, last)
	}
	if !p.keep(c, report, last) && err == nil {
		err = exitCode(exitFailure)
	}
	if errors.Is(err, context.Canceled) {
		return errEndedEarly
	}
	if err != nil {
		if errors.As(err, new(exitCode)) || errors.As(err, new(*config.Problem)) {
			return err
		}
		return fmt.Errorf("replay: %w", err)
	}
	return withVerdict(replayError(last), c, last)
}

// replayError returns an error if the replay delivered nothing, or if tcpcopy itself dropped a
// session.
func replayError(s *export.Snapshot) error {
	c := &s.Counters
	switch ours := export.Ours(&c.Sessions); {
	case s.Replay != nil && s.Replay.Packets == 0:
		return errors.New("there was nothing to replay")
	case ours > 0 || export.Ours(&c.Bytes) > 0:
		return fmt.Errorf("tcpcopy itself dropped %d sessions: the account gives the reasons", ours)
	case c.Sessions.Delivered == 0 && export.Lost(&c.Sessions) > 0:
		return errors.New("no session was delivered: the account gives the reasons")
	}
	return nil
}

// bar is a progress bar: a line on a terminal that is overwritten.
type bar struct {
	w  io.Writer
	fd int
}

// newBar returns nil if w is not a terminal.
func newBar(w io.Writer) *bar {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &bar{w, int(f.Fd())}
	}
	return nil
}

// show draws the bar.
func (b *bar) show(s *export.Snapshot) {
	width, _, err := term.GetSize(b.fd)
	if err != nil || width == 0 { // not every terminal knows its size
		width = 80
	}
	fmt.Fprintf(b.w, "\r\x1b[K%s", export.ReplayBar(s, width))
}

// done erases the bar.
func (b *bar) done() {
	if b != nil {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}
