package metrics

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/core/ledger"
	_ "tcpcopy/internal/proto/known" // their reasons and classes
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// busy is a copier with so many targets and links that has met everything, n times.
func busy(targets, links int, n uint64) *export.Snapshot {
	s := &export.Snapshot{
		Version: "1.2.3", Via: "raw", Mappings: []string{"80-10.0.0.2:8080"}, Sequence: 7,
		Start: start, Now: start.Add(time.Minute),
		Resources: export.Resources{CPU: time.Second, MaxRSS: 9 << 20},
	}
	c := &s.Counters
	c.Packets = ledger.Packets{
		Offered:    100 * n,
		Seen:       90 * n,
		KernelDrop: 10 * n,
		Shed:       n,
		Lost:       n,
		NotOurs:    n,
	}
	c.Sessions.Captured, c.Bytes.Captured = 1000*n, 100_000*n
	c.Sessions.Delivered, c.Bytes.Delivered = 900*n, 90_000*n
	for i, r := range ledger.Reasons() {
		c.Sessions.Drop(r, n)
		c.Bytes.Drop(r, uint64(i)*n)
		c.Requests.Dropped[r] = n
	}
	for _, class := range ledger.Classes()[:5] {
		c.Requests.Status[class], c.Requests.Production.Status[class] = n, 2*n
	}
	c.Connections, c.Copies, c.Turns, c.GateKnown = 1000*n, 990*n, 5000*n, 10*n
	c.Requests.Sent, c.Requests.Answered, c.Requests.Production.Answered = 5000*n, 4990*n, 4999*n
	for i := range int(50 * n) {
		d := time.Duration(i*i) * 100 * time.Microsecond
		c.Behind.Note(d)
		c.Requests.First.Note(d)
		c.Requests.Whole.Note(2 * d)
		c.Requests.Production.First.Note(d / 2)
		c.Requests.Production.Whole.Note(d)
	}
	for i := range targets {
		s.Targets = append(s.Targets, export.TargetState{
			Production: "80", Target: fmt.Sprintf("10.0.0.%d:8080", i), Shards: 2, OutOf: i % 3,
			Count: ledger.Target{Opened: 50 * n, Failed: n, Live: 3},
		})
	}
	for i := range links {
		s.Links = append(
			s.Links,
			export.LinkState{
				Intercept:  fmt.Sprintf("10.0.1.%d:36524", i),
				Up:         i > 0,
				Reconnects: n,
			},
		)
	}
	return s
}

func sources() map[string]Source {
	node := Node{Version: "1.2.3", Start: start, Now: start.Add(time.Minute), Sequence: 3}
	replay := busy(1, 0, 1)
	replay.Replay = &export.Replay{Packets: 9, Played: time.Second}
	return map[string]Source{
		"copier":    &Copier{Snapshot: busy(20, 3, 1)},
		"replay":    &Copier{Snapshot: replay},
		"assistant": &Intercept{Node: node, Way: "raw", Assistant: &Assistant{Packets: 5}},
		"on target": &Intercept{
			Node:   node,
			Way:    "tunnel",
			Target: &OnTarget{Failed: map[string]uint64{"target_refused": 1}},
		},
		"agent": &Agent{Node: node, Connected: true, Share: 0.5},
		"recorder": &Recorder{
			Recording: &export.Recording{Version: "1.2.3", Start: start, Now: start},
		},
	}
}

func TestMetricsAreWellNamed(t *testing.T) {
	for name, s := range sources() {
		families, err := Gatherer(s).Gather()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		problems, err := promlint.NewWithMetricFamilies(families).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("%s: %v, %v", name, problems, err)
		}
	}
}

// No two samples of a metric have the same labels, each has all of its labels, and each has a value
// of the metric's kind: Prometheus refuses a scrape otherwise.
func TestSeriesAreSound(t *testing.T) {
	all := sources()
	all["busy"] = &Copier{Snapshot: busy(20, 3, 10)}
	for name, s := range all {
		got := &set{map[*family]*dto.MetricFamily{}}
		s.collect(got)
		for of, f := range got.families {
			seen := map[string]bool{}
			for _, m := range f.Metric {
				labels := fmt.Sprint(m.Label)
				if seen[labels] || len(m.Label) != len(of.labels) {
					t.Errorf("%s: %s: twice, or without labels: %s", name, of.name, labels)
				}
				seen[labels] = true
				kinds := map[dto.MetricType]bool{
					dto.MetricType_COUNTER:   m.Counter != nil,
					dto.MetricType_GAUGE:     m.Gauge != nil,
					dto.MetricType_HISTOGRAM: m.Histogram != nil,
				}
				if !kinds[of.kind] {
					t.Errorf("%s: %s has no value of its kind", name, of.name)
				}
			}
		}
	}
}

func TestFewSeries(t *testing.T) {
	recorder := httptest.NewRecorder()
	get := func() Source { return &Copier{Snapshot: busy(20, 3, 1)} }
	Handler(get).ServeHTTP(recorder, httptest.NewRequest("GET", "/metrics", nil))
	series := 0
	for line := range strings.Lines(recorder.Body.String()) {
		if !strings.HasPrefix(line, "#") {
			series++
		}
	}
	if series >= 400 || series < 100 {
		t.Errorf("%d series at 20 targets and 3 links", series)
	}
	t.Logf("%d series", series)
	for _, r := range ledger.Reasons() {
		if !strings.Contains(
			recorder.Body.String(),
			fmt.Sprintf(`tcpcopy_sessions_dropped_total{reason=%q}`, r),
		) {
			t.Errorf("no series for %s", r)
		}
	}
	recorder = httptest.NewRecorder()
	Handler(
		func() Source { return nil },
	).ServeHTTP(
		recorder,
		httptest.NewRequest("GET", "/metrics", nil),
	)
	if recorder.Code != 503 {
		t.Errorf("no state: %d", recorder.Code)
	}
}

// value returns the sum of a family's samples with all the labels given.
func value(t *testing.T, s Source, name string, labels ...string) (sum float64) {
	t.Helper()
	families, err := Gatherer(s).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
	metrics:
		for _, m := range f.Metric {
			have := map[string]string{}
			for _, l := range m.Label {
				have[l.GetName()] = l.GetValue()
			}
			for i := 0; i < len(labels); i += 2 {
				if have[labels[i]] != labels[i+1] {
					continue metrics
				}
			}
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// What two nodes' metrics sum to is what their JSON reports sum to.
func TestMetricsEqualReports(t *testing.T) {
	nodes := []*export.Snapshot{busy(3, 1, 1), busy(3, 1, 4)}
	var inMetrics, inReports [7]float64
	for _, s := range nodes {
		c := &Copier{Snapshot: s}
		var r export.Report
		text, err := json.Marshal(export.NewReport(s))
		if err == nil {
			err = json.Unmarshal(text, &r)
		}
		if err != nil {
			t.Fatal(err)
		}
		var dropped uint64
		for _, n := range r.Sessions.Dropped {
			dropped += n
		}
		for i, pair := range [][2]float64{
			{value(t, c, "tcpcopy_sessions_captured_total"), float64(r.Sessions.Captured)},
			{value(t, c, "tcpcopy_sessions_dropped_total"), float64(dropped)},
			{value(t, c, "tcpcopy_payload_bytes_delivered_total"), float64(r.Bytes.Delivered)},
			{value(t, c, "tcpcopy_capture_kernel_drops_total"), float64(r.Packets.KernelDrop)},
			{value(t, c, "tcpcopy_answers_total", "side", "production"),
				float64(r.Protocol.Production.Answered)},
			{value(t, c, "tcpcopy_target_copies_total", "result", "accepted"),
				float64(3 * r.Targets[0].Opened)},
			{value(t, c, "tcpcopy_snapshot_sequence"), float64(r.Sequence)},
		} {
			inMetrics[i] += pair[0]
			inReports[i] += pair[1]
		}
	}
	if inMetrics != inReports {
		t.Errorf("metrics sum to %v, reports to %v", inMetrics, inReports)
	}
}

func histogram(t *testing.T, s Source, name, side string) *dto.Histogram {
	t.Helper()
	families, err := Gatherer(s).Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.Metric {
			if f.GetName() == name && (side == "" || m.Label[0].GetValue() == side) {
				return m.Histogram
			}
		}
	}
	t.Fatalf("no histogram %s", name)
	return nil
}

// Buckets hold exactly what was noted up to their ends, so those of several nodes add up.
func TestHistogramsAreExact(t *testing.T) {
	var h ledger.Delays
	noted := []time.Duration{
		0,
		131 * time.Microsecond,
		1 << 17,
		1<<20 - 1,
		1 << 20,
		time.Second,
		time.Hour,
	}
	for _, d := range noted {
		h.Note(d)
	}
	s := busy(0, 0, 0)
	s.Counters.Requests.Whole = h
	got := histogram(t, &Copier{Snapshot: s}, "tcpcopy_answer_duration_seconds", "target")
	if got.GetSampleCount() != uint64(len(noted)) || got.GetSampleSum() != h.Sum.Seconds() {
		t.Errorf("%d in %v s, want %v", got.GetSampleCount(), got.GetSampleSum(), h)
	}
	for _, b := range got.Bucket {
		if math.IsInf(b.GetUpperBound(), 1) {
			continue
		}
		var want uint64
		for _, d := range noted {
			if d.Seconds() <= b.GetUpperBound() {
				want++
			}
		}
		if b.GetCumulativeCount() != want {
			t.Errorf("up to %v s: %d, want %d", b.GetUpperBound(), b.GetCumulativeCount(), want)
		}
	}
	if n := len(got.Bucket); n != 18 {
		t.Errorf("%d buckets", n)
	}
}

func TestNamesFromOutside(t *testing.T) {
	s := busy(1, 1, 1)
	for i := range 200 {
		s.Agents = append(
			s.Agents,
			export.AgentState{Name: fmt.Sprintf("a\xff\"\n%d", i), Packets: 1},
		)
	}
	s.Agents = append(s.Agents, s.Agents[0])
	s.Links = append(s.Links, s.Links[0])
	s.Targets = append(s.Targets, s.Targets[0])
	if n, err := testutil.GatherAndCount(Gatherer(&Copier{Snapshot: s}),
		"tcpcopy_agent_up"); err != nil ||
		n != maxAgents {
		t.Errorf("%d agents, %v", n, err)
	}
}

func BenchmarkScrape(b *testing.B) {
	s := &Copier{Snapshot: busy(20, 3, 10)}
	h := Handler(func() Source { return s })
	b.ReportAllocs()
	spent := export.Spent().CPU
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/metrics", nil))
	}
	b.ReportMetric(float64(export.Spent().CPU-spent)/float64(b.N), "cpu-ns/op")
}
