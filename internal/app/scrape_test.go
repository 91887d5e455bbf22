package app

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/metrics"
	"tcpcopy/internal/core/ledger"
)

// laden is the state of a copier with 20 targets and 3 intercepts that has everything to show.
func laden() *export.Snapshot {
	s := &export.Snapshot{
		Version: "1.2.3", Via: "raw", Mappings: []string{"80-10.0.0.2:8080"}, Wanted: 1,
		Start: time.Unix(0, 0), Now: time.Unix(3600, 0),
	}
	for i := range 20 {
		s.Targets = append(s.Targets, export.TargetState{
			Production: "80", Target: fmt.Sprintf("10.0.1.%d:8080", i), Shards: 1,
			Count: ledger.Target{Begun: 9, Opened: 8, Failed: 1, Live: 3},
		})
	}
	for i := range 3 {
		s.Links = append(s.Links, export.LinkState{
			Intercept: fmt.Sprintf("10.0.2.%d:36524", i), Up: true,
		})
	}
	c := &s.Counters
	for i := range 100_000 {
		d := time.Duration(i) * time.Microsecond
		c.Behind.Note(d)
		c.Requests.Whole.Note(d)
		c.Requests.First.Note(d)
		c.Requests.Production.Whole.Note(d)
		c.Requests.Production.First.Note(d)
	}
	for _, r := range ledger.Reasons() {
		c.Sessions.Drop(r, 5)
		c.Sessions.Captured += 5
	}
	for _, class := range ledger.Classes() {
		c.Requests.Status[class], c.Requests.Production.Status[class] = 7, 8
	}
	return s
}

// scraper returns a function that scrapes a laden copier, as Prometheus does, and returns how long
// the answer is. Each scrape takes a state of its own.
func scraper(t testing.TB) func() int {
	asks := make(chan chan<- *export.Snapshot)
	state := laden()
	go func() {
		for to := range asks {
			to <- state
		}
	}()
	t.Cleanup(func() { close(asks) })
	follow := &course{seen: new(sequence)}
	h := metrics.Handler(func() metrics.Source { return copierView(asks, follow).metrics })
	return func() int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		return w.Body.Len()
	}
}

// A scrape allocates a bounded number of times, which is most of what it costs. BenchmarkScrape
// measures the CPU.
func TestScrapeIsCheap(t *testing.T) {
	scrape := scraper(t)
	if n := scrape(); n < 10_000 {
		t.Fatalf("a scrape of %d bytes", n)
	}
	if n := testing.AllocsPerRun(20, func() { scrape() }); n > 3500 {
		t.Errorf("a scrape allocates %v times, wanted at most 3500", n)
	}
}

func BenchmarkScrape(b *testing.B) {
	scrape := scraper(b)
	b.ReportAllocs()
	spent := export.Spent().CPU
	for b.Loop() {
		scrape()
	}
	b.ReportMetric(float64(export.Spent().CPU-spent)/float64(b.N), "cpu-ns/op")
}
