package e2e

import (
	"testing"
	"time"

	"tcpcopy/internal/lab"
)

// tcpdump records what our own recorder does, for a file of another tool.
func tcpdump(t *testing.T, args ...string) *lab.Replay {
	t.Helper()
	return &lab.Replay{
		Recorder: append([]string{find(t, "tcpdump"), "-n", "-U", "-w", lab.RecordedFile, "--immediate-mode", "-B", "65536", "tcp port 80"}, args...),
		Ready:    "tcpdump: listening",
	}
}

func TestReplay(t *testing.T) {
	for _, test := range []struct {
		name  string
		ways  []string
		load  string
		speed string
		take  time.Duration
	}{
		{"as recorded", []string{socket, raw}, "keepalive", "1", time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, way := range test.ways {
				t.Run(way, func(t *testing.T) {
					r := playLab(t, lab.Options{
						Via: way, Scenario: test.load, Duration: test.take, Replay: tcpdump(t, "-i", "eth0"),
						CopyArgs: []string{"--speed", test.speed}, Keep: "/tmp/files-keep",
					})
					t.Logf("starts within %v", r.StartsWithin(99))
				})
			}
		})
	}
}
