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
		Use:         "replay FILE... -x MAPPING [options]",
		Annotations: map[string]string{"usage": "tcpcopy replay FILE... -x MAPPING [options]\ntcpcopy -i FILE -x MAPPING [options]"},
		Short:       "replay recorded traffic against a test server",
		Example: `What tcpcopy record, or tcpdump -w, has written, to 10.0.0.2, port 8080:
  tcpcopy replay peak.pcapng -x 80-10.0.0.2:8080
Two and a half times as fast, silences of more than two seconds shortened:
  tcpcopy replay peak.pcapng -x 80-10.0.0.2:8080 --speed 2.5 --gap-limit 2s
All of a day's files, over and over, 500 new sessions a second:
  tcpcopy replay day-*.pcapng.zst -x 80-10.0.0.2:8080 --rate 500 --loop forever
As fast as the test server answers, from the clients' own addresses:
  tcpcopy replay peak.pcapng -x 80-10.0.0.2:8080 --speed max -s 10.0.0.3 --key key
Live, over a connection:
  ssh prod tcpdump -i eth0 -U -w - tcp port 80 | tcpcopy replay - -x 80-10.0.0.2:8080`,
		Long: `Files are pcap or pcapng, also compressed by gzip or zstd; several are merged by time; - is standard
input. Sessions begin when they did in the recording, and a request still waits for the answer to
the one before. The exit code is 0 only if nothing was lost for a reason of ours.`,
		Args: cobra.ArbitraryArgs,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}
	options := config.NewReplayOptions(cmd.Flags(), p.host)
	cmd.RunE = func(_ *cobra.Command, files []string) error {
		c, warnings, err := options.Replay(files)
		if err != nil {
			return err
		}
		return p.runCopy(c, warnings, nil)
	}
	complete(cmd)
	return cmd
}

// barEvery is how often the bar on a terminal moves.
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
	follow.end(last)
	export.Summary(p.out, last)
	if log.file != nil {
		export.Summary(log.w, last)
	}
	if !p.keep(c, report, last) && err == nil {
		err = coded(exitFailure)
	}
	if errors.Is(err, context.Canceled) {
		return errors.New("ended before all sessions had: they are counted as dropped for shutdown")
	}
	if err != nil {
		if errors.As(err, new(coded)) || errors.As(err, new(*config.Problem)) {
			return err
		}
		return fmt.Errorf("replay: %w", err)
	}
	return judge(last)
}

// judge says whether the replay was what it should be.
func judge(s *export.Snapshot) error {
	c := &s.Counters
	switch ours := export.Ours(&c.Sessions); {
	case s.Replay != nil && s.Replay.Packets == 0:
		return errors.New("there was nothing to replay")
	case ours > 0 || export.Ours(&c.Bytes) > 0:
		return fmt.Errorf("%d sessions were dropped for a reason of ours: the account names it", ours)
	case c.Sessions.Delivered == 0 && export.Lost(&c.Sessions) > 0:
		return errors.New("no session was delivered: the account says why")
	}
	return nil
}

// bar is a line on a terminal that is written over.
type bar struct {
	w  io.Writer
	fd int
}

// newBar returns nil where w is no terminal.
func newBar(w io.Writer) *bar {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return &bar{w, int(f.Fd())}
	}
	return nil
}

func (b *bar) show(s *export.Snapshot) {
	width, _, err := term.GetSize(b.fd)
	if err != nil || width == 0 { // some terminals do not know
		width = 80
	}
	fmt.Fprintf(b.w, "\r\x1b[K%s", export.ReplayBar(s, width))
}

func (b *bar) done() {
	if b != nil {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}
