package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"tcpcopy/internal/lab"
	"tcpcopy/internal/lab/netlab"
)

// toAgent are the arguments of an agent on production, whose copier is on the assistant.
var toAgent = []string{"--to", netlab.AssistantAddr4.String()}

// fromAgent are that copier's.
var fromAgent = []string{"--from", "agent://:36525"}

// TestAgent checks that packets from an agent are copied like packets that the copier captures
// itself.
func TestAgent(t *testing.T) {
	for _, scenario := range []string{"keepalive", "short", "upload"} {
		t.Run(scenario, func(t *testing.T) {
			o := lab.Options{Scenario: scenario, Aside: true, CopyArgs: fromAgent,
				AgentArgs: slices.Clone(toAgent), Duration: labDuration}
			if scenario == "short" {
				o.Duration, o.Load = 0, shortLoad(t)
			}
			playLab(t, o)
		})
	}
}

// TestAgentRestarts kills and restarts either end. All that production receives afterwards must
// arrive.
func TestAgentRestarts(t *testing.T) {
	for _, tc := range []struct {
		name    string
		restart func(context.Context, *lab.Stage) error
	}{
		{"the agent", func(ctx context.Context, s *lab.Stage) error {
			s.KillAgent()
			return s.StartAgent(ctx)
		}},
		{"the copier", func(ctx context.Context, s *lab.Stage) error {
			s.KillCopier()
			return s.StartCopier(ctx)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			playLab(t, lab.Options{
				Scenario: "keepalive", Aside: true, CopyArgs: fromAgent,
				AgentArgs: slices.Clone(toAgent), Duration: 3200 * time.Millisecond,
				Disturb: func(ctx context.Context, s *lab.Stage) error {
					s.Wait(ctx, 500*time.Millisecond)
					if err := tc.restart(ctx, s); err != nil {
						return err
					}
					// The agent comes back after its back-off, and connections under way join at
					// their next requests.
					s.CompareAfter(1700 * time.Millisecond)
					return nil
				},
			})
		})
	}
}

// TestAgentSheds limits an agent's bandwidth. The agent must drop whole sessions; both ends must
// count them.
func TestAgentSheds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const mbps = 2
	r, err := lab.Run(t.Context(), lab.Options{
		Scenario: "keepalive", Aside: true, CopyArgs: fromAgent, Keep: dir, Binary: binary,
		Duration:  1500 * time.Millisecond,
		AgentArgs: append(slices.Clone(toAgent), "--max-mbps", fmt.Sprint(mbps), "--max-cpu", "0"),
	})
	if denied := (*netlab.PermissionError)(nil); errors.As(err, &denied) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, side := range []*lab.Side{&r.Production, &r.Target} {
		if side.Duplicated+side.Reordered+side.Corrupted+side.Early > 0 {
			t.Errorf("%d duplicated, %d reordered, %d corrupted, %d early", side.Duplicated,
				side.Reordered, side.Corrupted, side.Early)
		}
	}
	if r.ReportError != nil || len(r.Report.Agents) != 1 {
		t.Fatalf("the copier's account: %+v, %v", r.Report, r.ReportError)
	}
	a, p := &r.Report.Agents[0], &r.Report.Packets
	if a.ShedRate == 0 || a.ShedSessions == 0 || p.Shed != a.ShedRate+a.ShedCPU ||
		!r.Report.Balanced ||
		p.Offered != p.Captured+p.KernelDrop+p.Shed+p.Lost {
		t.Errorf("the copier's account: %+v, %+v", a, p)
	}
	if r.Target.Requests == 0 || r.Target.Requests == r.Production.Requests {
		t.Errorf("%d requests at the target, %d at production", r.Target.Requests,
			r.Production.Requests)
	}
	var own struct {
		Start, Now time.Time
		Account    struct {
			SentBytes uint64 `json:"sent_bytes"`
			ShedRate  uint64 `json:"shed_rate"`
		}
	}
	b, err := os.ReadFile(filepath.Join(dir, "agent.json"))
	if err == nil {
		err = json.Unmarshal(b, &own)
	}
	if err != nil {
		t.Fatal(err)
	}
	if own.Account.ShedRate != a.ShedRate {
		t.Errorf("the agent says that it left out %d packets, the copier %d", own.Account.ShedRate,
			a.ShedRate)
	}
	// It may be ahead by a message, and by what 50 ms allow.
	if most := own.Now.Sub(own.Start).Seconds()*mbps*1e6/8 +
		100_000; float64(own.Account.SentBytes) > most {
		t.Errorf("%d bytes were sent, %.0f are allowed", own.Account.SentBytes, most)
	}
}
