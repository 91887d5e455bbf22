package e2e

import (
	"slices"
	"testing"

	"tcpcopy/internal/lab"
	"tcpcopy/internal/netlab"
)

// toAgent are the arguments of an agent on production, whose copier is on the assistant.
var toAgent = []string{"--to", netlab.AssistantAddr4.String(), "-B", "64"}

// fromAgent are that copier's.
var fromAgent = []string{"--from", "agent://:36525"}

// TestAgent: what an agent sends is copied like what is captured where the copier is.
func TestAgent(t *testing.T) {
	for _, scenario := range []string{"keepalive", "short", "upload"} {
		t.Run(scenario, func(t *testing.T) {
			o := lab.Options{Scenario: scenario, Aside: true, CopyArgs: fromAgent, AgentArgs: slices.Clone(toAgent), Duration: labDuration}
			if scenario == "short" {
				o.Duration, o.Load = 0, shortLoad(t)
			}
			playLab(t, o)
		})
	}
}
