package observe

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/teststorage"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/metrics"
	"tcpcopy/internal/core/ledger"
	_ "tcpcopy/internal/proto/known" // their reasons and classes
)

const (
	alerts  = "../../../deploy/prometheus/alerts.yaml"
	grafana = "../../../deploy/grafana/tcpcopy.json"
)

// cases are made-up series, one sample each 15 s, and the alerts that they raise in half an hour.
// What is not named stays silent.
var cases = []struct {
	name, series string
	want         []string
}{
	{"a copy in order", `
		tcpcopy_capture_kernel_drops_total{instance="a"} 5x120
		tcpcopy_sessions_captured_total{instance="a"} 0+150x120
		tcpcopy_sessions_dropped_total{instance="a",reason="sampled_out"} 0+90x120
		tcpcopy_sessions_dropped_total{instance="a",reason="capture_gap"} 0+1x120
		tcpcopy_link_up{instance="a",intercept="i"} 1x120
		tcpcopy_agent_up{instance="a",agent="g"} 1x120
		tcpcopy_target_in_service_ratio{instance="a",target="t"} 1x120
		tcpcopy_answers_total{instance="a",side="target"} 0+100x120
		tcpcopy_answers_failed_total{instance="a",side="target"} 0+2x120
		tcpcopy_answers_total{instance="a",side="production"} 0+100x120
		tcpcopy_answers_failed_total{instance="a",side="production"} 0+1x120
		tcpcopy_turn_lag_seconds_bucket{instance="a",le="0.1"} 0+100x120
		tcpcopy_turn_lag_seconds_bucket{instance="a",le="+Inf"} 0+100x120
		tcpcopy_config_last_reload_successful{instance="a"} 1x120
		tcpcopy_account_balanced{instance="a"} 1x120
		tcpcopy_capture_packets_total{instance="a"} 0+100x120
		tcpcopy_build_info{instance="a",kind="copier"} 1x120`, nil},
	{
		"packets lost",
		`tcpcopy_capture_kernel_drops_total{instance="a"} 0+10x120`,
		[]string{"TcpcopyKernelDrops"},
	},
	{"packets lost once", `tcpcopy_capture_kernel_drops_total{instance="a"} 0x60 10x2 10x57`, nil},
	{"sessions lost", `
		tcpcopy_sessions_captured_total{instance="a"} 0+150x120
		tcpcopy_sessions_dropped_total{instance="a",reason="capture_gap"} 0+2x120
		tcpcopy_sessions_dropped_total{instance="a",reason="target_reset"} 0+2x120`,
		[]string{"TcpcopySessionsLost"}},
	{"bounds", `
		tcpcopy_sessions_captured_total{instance="a"} 0+1500x120
		tcpcopy_sessions_dropped_total{instance="a",reason="over_memory"} 0+1x120`,
		[]string{"TcpcopyOverBounds"}},
	{
		"a link down",
		`tcpcopy_link_up{instance="a",intercept="i"} 1x80 0x40`,
		[]string{"TcpcopyLinkDown"},
	},
	{
		"an agent gone",
		`tcpcopy_agent_up{instance="a",agent="g"} 1x80 0x40`,
		[]string{"TcpcopyAgentGone"},
	},
	{"an agent alone", `tcpcopy_agent_connected{instance="g"} 0x120`, []string{"TcpcopyAgentGone"}},
	{
		"a target out",
		`tcpcopy_target_in_service_ratio{instance="a",target="t"} 1x80 0x40`,
		[]string{"TcpcopyTargetOut"},
	},
	{
		"a target partly out",
		`tcpcopy_target_in_service_ratio{instance="a",target="t"} 0.5x120`,
		nil,
	},
	{"a target that fails", `
		tcpcopy_answers_total{instance="a",side="target"} 0+100x120
		tcpcopy_answers_failed_total{instance="a",side="target"} 0+30x120
		tcpcopy_answers_total{instance="a",side="production"} 0+100x120
		tcpcopy_answers_failed_total{instance="a",side="production"} 0+1x120`,
		[]string{"TcpcopyTargetFails"}},
	{"behind", `
		tcpcopy_turn_lag_seconds_bucket{instance="a",le="0.1"} 0+90x120
		tcpcopy_turn_lag_seconds_bucket{instance="a",le="2"} 0+100x120
		tcpcopy_turn_lag_seconds_bucket{instance="a",le="+Inf"} 0+100x120`,
		[]string{"TcpcopyBehind"}},
	{
		"a bad reload",
		`tcpcopy_config_last_reload_successful{instance="a"} 0x120`,
		[]string{"TcpcopyReloadFailed"},
	},
	{
		"a bug",
		`tcpcopy_account_balanced{instance="a"} 0x120`,
		[]string{"TcpcopyAccountDoesNotBalance"},
	},
	{"nothing captured", `
		tcpcopy_capture_packets_total{instance="a"} 0x120
		tcpcopy_build_info{instance="a",kind="copier"} 1x120`, []string{"TcpcopyNothingCaptured"}},
	{"an agent captures nothing", `
		tcpcopy_capture_packets_total{instance="a"} 0x120
		tcpcopy_build_info{instance="a",kind="agent"} 1x120`, nil},
}

func TestAlerts(t *testing.T) {
	groups, errs := rulefmt.ParseFile(alerts, false, model.UTF8Validation)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	raised := map[string]bool{}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			fired := fire(t, groups, c.series)
			for _, name := range fired {
				raised[name] = true
			}
			if strings.Join(fired, " ") != strings.Join(c.want, " ") {
				t.Errorf("fires %v, want %v", fired, c.want)
			}
		})
	}
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			if !raised[r.Alert] {
				t.Errorf("no case raises %s", r.Alert)
			}
		}
	}
}

// fire evaluates the rules over half an hour of series, and returns the names of those that fire at
// its end.
func fire(t *testing.T, groups *rulefmt.RuleGroups, series string) (fired []string) {
	var load strings.Builder
	load.WriteString("load 15s\n")
	for line := range strings.Lines(strings.TrimSpace(series)) {
		load.WriteString("  " + strings.TrimSpace(line) + "\n")
	}
	store := promqltest.LoadedStorage(t, load.String())
	defer store.Close()
	query := rules.EngineQueryFunc(promqltest.NewTestEngine(t, false, 0, 100_000), store)
	for _, g := range groups.Groups {
		for _, r := range g.Rules {
			expr, err := parser.ParseExpr(r.Expr)
			if err != nil {
				t.Fatalf("%s: %v", r.Alert, err)
			}
			rule := rules.NewAlertingRule(
				r.Alert,
				expr,
				time.Duration(r.For),
				0,
				labels.FromMap(r.Labels),
				labels.FromMap(r.Annotations),
				labels.EmptyLabels(),
				"",
				false,
				nil,
			)
			for at := time.Unix(0,
				0); at.Before(time.Unix(1800, 0)); at = at.Add(15 * time.Second) {
				if _, err := rule.Eval(t.Context(), 0, at, query, nil, 0); err != nil {
					t.Fatalf("%s: %v", r.Alert, err)
				}
			}
			if rule.State() == rules.StateFiring {
				fired = append(fired, r.Alert)
			}
			for _, a := range rule.ActiveAlerts() {
				if text := a.Annotations.String(); strings.Contains(text, "error expanding") ||
					strings.Contains(text, "<no value>") {
					t.Errorf("%s: %s", r.Alert, text)
				}
			}
		}
	}
	return fired
}

// state is a copier that has worked for so many intervals of 15 s.
func state(n uint64) *metrics.Copier {
	s := &export.Snapshot{
		Version: "1.2.3", Via: "raw", Mappings: []string{"80-10.0.0.2:8080"},
		Start: time.Unix(0, 0),
		Now: time.Unix(
			int64(15*n),
			0,
		), Resources: export.Resources{CPU: time.Duration(n) * time.Second, MaxRSS: 1 << 20},
		Targets: []export.TargetState{{
			Production: "80", Target: "10.0.0.2:8080", Shards: 1,
			Count: ledger.Target{Opened: 10 * n, Failed: n, Live: 3},
		}},
		Links:  []export.LinkState{{Intercept: "10.0.0.3:36524", Up: true}},
		Agents: []export.AgentState{{Name: "web1", Up: true, Packets: n}},
	}
	c := &s.Counters
	c.Packets = ledger.Packets{Offered: 101 * n, Seen: 100 * n, KernelDrop: n}
	c.Sessions, c.Bytes = ledger.Flow{
		Captured:  20 * n,
		Delivered: 10 * n,
	}, ledger.Flow{
		Captured:  2000 * n,
		Delivered: 1000 * n,
	}
	c.Sessions.Drop(ledger.CaptureGap, n)
	c.Bytes.Drop(ledger.CaptureGap, n)
	c.Live, c.Turns = 5, 40*n
	c.Requests.Drop(ledger.Filtered)
	for i := range 40 * n {
		c.Behind.Note(time.Duration(i%7) * time.Millisecond)
		for _, a := range []*ledger.Answers{&c.Requests.Answers, &c.Requests.Production} {
			a.Answered++
			a.Status[ledger.Classes()[0]]++
			a.Whole.Note(time.Duration(i%5) * time.Millisecond)
		}
	}
	c.Requests.Dropped[ledger.Filtered] = n
	return &metrics.Copier{Snapshot: s}
}

// scrape appends what state(n) serves to store, as Prometheus would.
func scrape(t *testing.T, store *teststorage.TestStorage, n uint64) {
	w := httptest.NewRecorder()
	metrics.Handler(
		func() metrics.Source { return state(n) },
	).ServeHTTP(
		w,
		httptest.NewRequest("GET", "/metrics", nil),
	)
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	var all model.Vector
	for _, f := range families {
		v, err := expfmt.ExtractSamples(&expfmt.DecodeOptions{Timestamp: model.Time(15000 * n)}, f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, v...)
	}
	a := store.Appender(t.Context())
	for _, s := range all {
		b := labels.NewBuilder(labels.FromStrings("instance", "web1:9436", "job", "tcpcopy"))
		for name, v := range s.Metric {
			b.Set(string(name), string(v))
		}
		if _, err := a.Append(storage.SeriesRef(0), b.Labels(), int64(s.Timestamp),
			float64(s.Value)); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Commit(); err != nil {
		t.Fatal(err)
	}
}

// Every query of the dashboard finds something in what a copier serves.
func TestDashboardQueries(t *testing.T) {
	text, err := os.ReadFile(grafana)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	store := teststorage.New(t)
	defer store.Close()
	for n := range uint64(21) {
		scrape(t, store, n)
	}
	engine := promqltest.NewTestEngine(t, false, 0, 100_000)
	n := 0
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			expr := strings.NewReplacer(
				"$__rate_interval",
				"1m",
				"$instance",
				".*",
			).Replace(
				target.Expr,
			)
			found, err := rules.EngineQueryFunc(engine, store)(t.Context(), expr, time.Unix(300, 0))
			if err != nil {
				t.Errorf("%s: %s: %v", p.Title, expr, err)
				continue
			}
			if len(found) == 0 &&
				!strings.Contains(expr, "tcpcopy_agent_connected") { // of another kind of node
				t.Errorf("%s: %s finds nothing", p.Title, expr)
			}
			for _, s := range found {
				if f := fmt.Sprint(s.F); f == "NaN" || f == "+Inf" {
					t.Errorf("%s: %s is %s", p.Title, expr, f)
				}
			}
			n++
		}
	}
	if n < 15 {
		t.Errorf("%d queries only", n)
	}
}
