package app

import (
	"context"
	"fmt"
	"os"

	"tcpcopy/internal/config"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/doctor"
	"tcpcopy/internal/doctor/collect"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/send"
)

// witnessFunc answers examinations until the context is done. Tests replace it.
type witnessFunc func(context.Context, *collect.Witness) error

// testify answers the examinations of this host that doctors on production hosts ask for through an
// intercept, until a signal ends it, or the time of --for is over.
func (p *program) testify(x *config.Doctor, c *config.DoctorTarget, s *collect.Subject) error {
	if x.Bundle != "" {
		return &config.Problem{Flag: "--bundle", Value: x.Bundle,
			What: "does not go with --witness: wanted it without, or at the production host"}
	}
	if !p.has(sys.CapNetRaw) {
		return &sys.CapabilityError{
			Op: "capture packets", Need: sys.CapNetRaw, Err: os.ErrPermission,
		}
	}
	s.Program, _ = os.Executable()
	w := &collect.Witness{
		Subject: s, Intercept: c.Witness,
		Ready: func() {
			say(p.err, "ready: a witness at %s; now run tcpcopy doctor copy on the production host",
				c.Witness)
		},
		Told: func(q *wire.Look, seen *wire.Seen, r *doctor.Report) {
			r.Version = Version()
			if x.JSON {
				_ = r.WriteJSON(p.out) // p.out keeps the error
				return
			}
			fmt.Fprintf(p.out, "%s: %d SYNs from %s arrived, %d answers left\n", q.Target,
				seen.Outside.SYNs+seen.Inside.SYNs, q.Client,
				seen.Outside.Answers+seen.Inside.Answers)
			r.Print(p.out, coloured(p.out), x.Verbose)
		},
	}
	if c.Key != nil {
		w.TLS = key.ClientTLS(*c.Key)
	}
	life := watchSignals(context.Background(), p.err, "stopping", false)
	defer life.release()
	ctx, cancel := context.WithCancel(life.ctx)
	defer cancel()
	if x.For > 0 {
		ctx, cancel = context.WithTimeout(life.ctx, x.For)
		defer cancel()
	}
	go func() {
		select {
		case <-life.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return p.witness(ctx, w)
}

// runWitness runs a witness.
func runWitness(ctx context.Context, w *collect.Witness) error {
	if err := w.Run(ctx); err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	return nil
}

// examineHost begins to examine this host for a copier. The function that it returns ends that, and
// returns what was found.
type examineHost func(*wire.Look) (end func() []byte)

// examiner returns what examines an intercept's host.
func (p *program) examiner(c *config.Intercept) examineHost {
	s := interceptSubject(c)
	s.Args = p.args
	s.Program, _ = os.Executable()
	return func(q *wire.Look) func() []byte {
		x := collect.Begin(s, q)
		return func() []byte {
			_, seen := x.End()
			return seen.Findings
		}
	}
}

// sendProbe sends a segment of an examination, with our mark if that is permitted.
func sendProbe(seg *packet.Segment) error {
	cfg := send.Config{Single: true}
	if sys.HasNetAdmin() {
		cfg.Mark = config.DefaultMark
	}
	out, err := send.New(cfg)
	if err != nil {
		return err
	}
	defer out.Close()
	if sent, _ := out.Send([]packet.Segment{*seg}); sent == 0 {
		return fmt.Errorf("the kernel did not send a probe to %s", seg.Dst)
	}
	return nil
}
