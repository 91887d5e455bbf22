package sys

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ProcessorTime is how long the processors of this machine were busy and idle since it started, in
// clock ticks that are summed over them.
type ProcessorTime struct {
	Busy, Idle uint64
	Processors int // that are online
}

// ReadProcessorTime reads the machine's processor time (proc_stat(5)). What a hypervisor has taken
// away from it counts as busy. In a container it may be the host's, or the container's own.
func ReadProcessorTime() (ProcessorTime, error) {
	const path = "/proc/stat"
	b, err := os.ReadFile(path)
	if err != nil {
		return ProcessorTime{}, fmt.Errorf("read processor time: %w", err)
	}
	t, err := parseProcessorTime(string(b))
	if err != nil {
		return t, fmt.Errorf("read processor time: %s: %w", path, err)
	}
	return t, nil
}

// parseProcessorTime parses the lines of processors: the first is their sum, of the times user,
// nice, system, idle, waiting for a disk, in interrupts, in soft ones, and stolen. What follows is
// the time of guests, which user has already.
func parseProcessorTime(stat string) (t ProcessorTime, err error) {
	for line := range strings.Lines(stat) {
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || !strings.HasPrefix(f[0], "cpu"):
		case f[0] != "cpu":
			t.Processors++
		case len(f) < 9:
			return t, fmt.Errorf("%d fields in %q, want 9 or more", len(f), f[0])
		default:
			for i, field := range f[1:9] {
				n, err := strconv.ParseUint(field, 10, 64)
				if err != nil {
					return t, fmt.Errorf("got %q, want a number", field)
				}
				switch i {
				case 3, 4:
					t.Idle += n
				default:
					t.Busy += n
				}
			}
		}
	}
	if t.Processors == 0 || t.Busy+t.Idle == 0 {
		return t, errors.New("no processor's time")
	}
	return t, nil
}
