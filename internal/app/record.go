package app

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/metrics"
	"tcpcopy/internal/account/status"
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
  tcpcopy record -x 80 -o peak.pcapng --both --duration 1m
To leave this host: without logins, and encrypted to a public key (keygen --recordings):
  tcpcopy record -x 80 -o out.pcapng.zst.age --encrypt-to recipient --scrub header:cookie`,
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
		subject: captureSubject(c.Interfaces, c.Filter, c.Production), needs: recordNeeds(c),
	}
	return p.serve(d, func(s *engine.Control, log *logbook) error {
		account := func(r *engine.Recorded) *export.Recording {
			return &export.Recording{
				Version: s.Version, Start: r.Start, Now: r.Now, Packets: r.Packets,
				Sampled: r.Sampled, Sessions: r.Sessions, Name: r.File.Name,
				Files: r.File.Files, Removed: r.File.Removed, Written: r.File.Packets,
				Bytes: r.File.Bytes, Scrubbed: r.Scrubbed.Values, Blanked: r.Scrubbed.Blanked,
				Foreign: r.Scrubbed.Connections,
			}
		}
		asks := make(chan chan<- *engine.Recorded)
		s.AskRecording = asks
		end, err := show("recorder", &c.Process, log, func() *view {
			r := askRecording(asks)
			if r == nil {
				return nil
			}
			return recorderView(account(r), c, log.seen.next())
		})
		if err != nil {
			return err
		}
		defer end()
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

// askRecording returns the state of a recording; nil if it is too busy, or over.
func askRecording(asks chan<- chan<- *engine.Recorded) *engine.Recorded {
	state := make(chan *engine.Recorded, 1)
	over := time.After(askWait)
	select {
	case asks <- state:
	case <-over:
		return nil
	}
	select {
	case r := <-state:
		return r
	case <-over:
		return nil
	}
}

func recorderView(r *export.Recording, c *config.Record, number uint64) *view {
	n := status.Node{Start: r.Start, Via: "to " + r.Name, Sequence: number, Sessions: r.Sessions}
	for _, a := range c.Production {
		n.Mappings = append(n.Mappings, productionAddress(a))
	}
	n.Account, _ = json.Marshal(export.Fields(*r))
	return &view{n, &metrics.Recorder{Recording: r, Sequence: number, Resources: export.Spent()}}
}
