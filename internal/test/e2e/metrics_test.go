package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// counters are the counters, and the counts of histograms, of a copier's metrics, by series.
type counters map[string]float64

// scrape returns the counters of a copier that has --metrics with metricsAt.
func (s *stand) scrape() counters {
	s.t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return s.net.Production.Dial(ctx, nil, network, address)
		}}}
	answer, err := client.Get("http://" + metricsAt + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		s.t.Fatalf("%s, %v", answer.Status, err)
	}
	all, rises := make(counters), false
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if kind, ok := strings.CutPrefix(line, "# TYPE "); ok {
			rises = !strings.HasSuffix(kind, " gauge")
		}
		at := strings.LastIndexByte(line, ' ')
		if !rises || strings.HasPrefix(line, "#") || at < 0 {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(line[at+1:], &v); err != nil {
			s.t.Errorf("%q: %v", line, err)
		}
		all[line[:at]] = v
	}
	return all
}

// expectNoFall checks that no counter is lower than it was, and that none is gone but those of a
// target that is.
func expectNoFall(t *testing.T, was, is counters, gone string) {
	t.Helper()
	if len(was) < 50 {
		t.Errorf("%d counters", len(was))
	}
	for series, v := range was {
		if now, ok := is[series]; now < v && (ok || !strings.Contains(series, gone)) {
			t.Errorf("%s was %v and is %v (there: %v)", series, v, now, ok)
		}
	}
}
