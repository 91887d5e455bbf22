package intercept

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
)

// TestComplaintsAreBounded: strangers from as many addresses as they like do not fill the log.
func TestComplaintsAreBounded(t *testing.T) {
	var log strings.Builder
	s := &Intercept{log: slog.New(slog.NewTextHandler(&log, nil))}
	a := netip.MustParseAddr("fd00::1")
	for range 10 * complainKeep {
		s.complain(a, "a stranger")
		a = a.Next()
	}
	if n := strings.Count(log.String(), "\n"); n > complainKeep {
		t.Errorf("%d lines, want at most %d", n, complainKeep)
	}
}
