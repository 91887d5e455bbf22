package app

import (
	"fmt"

	"github.com/spf13/cobra"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/engine"
	"tcpcopy/internal/source/recording"
)

func (p *program) recordCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:         "record -x PORT -o FILE [options]",
		Annotations: usage("tcpcopy record -x PORT -o FILE [options]"),
		Short:       "record this host's traffic to capture files, for tcpcopy replay",
		Example: `Port 80 of this host, until Ctrl-C:
  tcpcopy record -x 80 -o peak.pcapng
A day in files of ten minutes, a tenth of the sessions, compressed:
  tcpcopy record -x 80 -o day.pcapng.zst -r 10 --rotate 10m --keep 144
With production's answers, for Wireshark:
  tcpcopy record -x 80 -o peak.pcapng --both --duration 1m`,
		Args: noArguments,
	}
	options := config.NewRecordOptions(cmd.Flags(), p.host)
	cmd.RunE = func(*cobra.Command, []string) error {
		c, err := options.Record()
		if err != nil {
			return err
		}
		return p.runRecord(c)
	}
	complete(cmd)
	return cmd
}

// runRecord records until a signal ends it, and prints the account.
func (p *program) runRecord(c *config.Record) error {
	d := daemon{
		Process: c.Process, stopping: "stopping: no new packets",
		subject: captureSubject(c.Interfaces, c.Filter, c.Production),
	}
	return p.serve(d, func(s *engine.Control, log *logbook) error {
		account := func(r *engine.Recorded) *export.Recording {
			return &export.Recording{
				Version: s.Version, Start: r.Start, Now: r.Now, Packets: r.Packets,
				Sampled: r.Sampled, Sessions: r.Sessions, Name: r.File.Name,
				Files: r.File.Files, Removed: r.File.Removed, Written: r.File.Packets,
				Bytes: r.File.Bytes,
			}
		}
		last, err := p.record(s, c, func(r *engine.Recorded) {
			log.statistics(export.RecordingLine(account(r)))
		})
		if last != nil {
			out := p.out
			if c.File.Path == recording.Stdout {
				out = p.err // standard output carries the recording
			}
			export.RecordingSummary(out, account(last))
			if log.file != nil {
				export.RecordingSummary(log.w, account(last))
			}
		}
		if err != nil {
			return fmt.Errorf("record: %w", err)
		}
		return nil
	})
}
