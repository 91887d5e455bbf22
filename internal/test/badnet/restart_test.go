package badnet

import (
	"context"
	"fmt"
	"testing"
	"time"

	"tcpcopy/internal/lab"
)

// undisturbed has a run judged by what arrived alone.
func undisturbed(context.Context, *lab.Stage) error { return nil }

// settle is how long after a disturbance everything that production receives must be delivered
// again.
const settle = 5 * time.Second

// disturbances end a part of the copy and bring it back.
var disturbances = []struct {
	name  string
	short bool
	ways  []string
	away  time.Duration // how long the part is away
	// orphans: a copier that was killed leaves connections open at the target, and those whose
	// clients do not go on nobody closes.
	orphans bool
	do      func(context.Context, *lab.Stage) error
}{
	{"the intercept is killed and comes back at once", true, []string{lab.Raw}, 0, false,
		func(ctx context.Context, s *lab.Stage) error {
			s.KillIntercept()
			return s.StartIntercept(ctx)
		}},
	{"the intercept is away for 4 s", false, []string{lab.Raw}, 4 * time.Second, false,
		func(ctx context.Context, s *lab.Stage) error {
			s.KillIntercept()
			s.Wait(ctx, 4*time.Second)
			return s.StartIntercept(ctx)
		}},
	{"the test server is restarted", true, []string{lab.Raw}, 0, false, func(ctx context.Context,
		s *lab.Stage) error {
		s.StopTarget()
		return s.StartTarget()
	}},
	{"the test server is away for 2 s", false, []string{lab.Raw, lab.Socket}, 2 * time.Second,
		false, func(ctx context.Context, s *lab.Stage) error {
			s.StopTarget()
			s.Wait(ctx, 2*time.Second)
			return s.StartTarget()
		}},
	{"the copier is killed and started again", true, []string{lab.Raw, lab.Socket}, 0, true,
		func(ctx context.Context, s *lab.Stage) error {
			s.KillCopier()
			return s.StartCopier(ctx)
		}},
	{"copier and intercept are killed and started again", false, []string{lab.Raw}, 0, true,
		func(ctx context.Context, s *lab.Stage) error {
			s.KillCopier()
			s.KillIntercept()
			if err := s.StartIntercept(ctx); err != nil {
				return err
			}
			return s.StartCopier(ctx)
		}},
}

// TestRestart disturbs keepalive connections, and short ones. Every request that production
// receives some seconds later must arrive.
func TestRestart(t *testing.T) {
	t.Parallel()
	const before, after = time.Second, 3 * time.Second
	for _, d := range disturbances {
		if left(d.short) {
			continue
		}
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			for _, via := range d.ways {
				if left(d.short && via == lab.Raw) {
					continue
				}
				t.Run(via, func(t *testing.T) {
					t.Parallel()
					load := lasting(20, before+d.away+settle+after)
					if !d.short {
						load.Requests = 50 // connections come and go
					}
					r := play(t, lab.Options{Via: via, Load: load,
						Disturb: func(ctx context.Context, s *lab.Stage) error {
							s.Wait(ctx, before)
							if err := d.do(ctx, s); err != nil {
								return err
							}
							s.CompareAfter(settle)
							return nil
						}})
					if d.orphans {
						r.Target.LeftOpen = 0
					}
					perfect(t, r)
					t.Log(account(r))
				})
			}
		})
	}
}

// account is what a run came to, in a line.
func account(r *lab.Result) string {
	s := fmt.Sprintf("compared %d, missing %d; connections %d at production, %d at the target",
		r.Comparison.Compared, r.Comparison.Missing, r.Production.Opened, r.Target.Opened)
	if r.Report != nil {
		s += fmt.Sprintf("; sessions %+v, kernel drops %d", r.Report.Sessions,
			r.Report.Packets.KernelDrop)
	}
	return s
}
