package dashboard

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/fidelity"
	"tcpcopy/internal/account/fleet"
	"tcpcopy/internal/account/page"
	"tcpcopy/internal/account/status"
	"tcpcopy/internal/account/verdict"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// copying is a fleet of one copier, after so many seconds.
func copying(t *testing.T, seconds int) *fleet.Fleet {
	t.Helper()
	f := fleet.New([]string{"a"})
	for i := range seconds {
		s := &export.Snapshot{
			Start: start, Now: start.Add(time.Duration(i+1) * time.Second), Sequence: uint64(i + 1),
		}
		s.Counters.Turns, s.Counters.Sessions.Captured = uint64(10*i), uint64(i+1)
		text, err := json.Marshal(export.NewReport(s))
		if err != nil {
			t.Fatal(err)
		}
		f.Add("a", &status.Node{Kind: "copier", Host: "h", Account: text}, nil, s.Now)
	}
	return f
}

// explain knows one code.
func explain(code string) string {
	if code == "TC0108" {
		return "about the ring"
	}
	return ""
}

// The state has the report's numbers, and the newest interval.
func TestState(t *testing.T) {
	v := newState(copying(t, 5).State())
	if v.Total.Sessions.Captured != 5 || number(copying(t, 5).State()) != 5 ||
		v.Nodes[0].Name != "h:0" {
		t.Errorf("%+v", v)
	}
	if len(v.Last.At) != 1 || v.Last.At[0] != 5 || v.Last.Turns[0] != 10 {
		t.Errorf("%+v", v.Last)
	}
	empty := newState(fleet.New([]string{"a"}).State())
	if empty.Total != nil || empty.Last != nil || len(empty.Nodes) != 1 {
		t.Errorf("%+v", empty)
	}
}

// Everything that the page needs is here, under a policy that allows nothing else.
func TestPage(t *testing.T) {
	s := httptest.NewServer(Handler(copying(t, 3), explain))
	defer s.Close()
	for path, want := range map[string]string{
		"/":       "<!DOCTYPE html>",
		"/app.js": "EventSource", "/sessions.js": "watchSessions",
		"/app.css": "--paper", "/uPlot.js": "uPlot",
		"/uPlot.css": "uplot", "/uPlot.LICENSE": "MIT", "/course": "turns_per_second",
	} {
		resp, err := http.Get(s.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(text), want) {
			t.Errorf("%s: %s, %v", path, resp.Status, err)
		}
		if p := resp.Header.Get("Content-Security-Policy"); !strings.Contains(p,
			"default-src 'none'") ||
			strings.Contains(p, "unsafe") {
			t.Errorf("%s: policy %q", path, p)
		}
	}
}

// The sessions and the explanations come from the same server.
func TestWhatThePageAsksFor(t *testing.T) {
	f := copying(t, 3)
	f.Ask = func(_ context.Context, _ string, q export.SessionQuery) (*export.Sessions, error) {
		return &export.Sessions{Live: 7, First: []export.Session{{Client: q.Filter}}}, nil
	}
	s := httptest.NewServer(Handler(f, explain))
	defer s.Close()
	for _, tt := range []struct {
		path string
		code int
		has  string
	}{
		{"/sessions?order=lag&filter=10.0.0.1", 200, `"client":"10.0.0.1"`},
		{"/sessions?filter=web1", 400, `"web1"`},
		{"/sessions?order=age", 400, `"age"`},
		{"/explain?code=TC0108", 200, "about the ring"},
		{"/explain?code=TC9999", 404, "no such code"},
		{"/explain", 404, "no such code"},
	} {
		resp, err := http.Get(s.URL + tt.path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != tt.code || !strings.Contains(string(text), tt.has) {
			t.Errorf("%s: %s, %v\n%s", tt.path, resp.Status, err, text)
		}
	}
}

// Of very many differences of answers the page gets the first ones, and the report keeps all.
func TestManyDifferences(t *testing.T) {
	all := make([]verdict.Cell, 16_000)
	report := &export.Report{Compare: &verdict.Result{Cells: all}}
	s := newState(&fleet.State{Total: report})
	if n := len(s.Total.Compare.Cells); n != shownCells || s.MoreCells != len(all)-n ||
		len(report.Compare.Cells) != len(all) {
		t.Errorf("%d shown, %d more, %d in the report", n, s.MoreCells, len(report.Compare.Cells))
	}
}

// What types.d.ts declares is what the server sends.
func TestTypesOfThePage(t *testing.T) {
	value := 99.5
	report := &export.Report{
		Targets: []export.TargetReport{{}}, Links: []export.LinkReport{{Error: "e"}},
		Agents:   []export.AgentReport{{Error: "e"}},
		Fidelity: &fidelity.Score{Value: &value, Verdict: "v"},
		Findings: []export.Finding{{Code: "c", Fix: []string{"f"}}},
		Compare:  &verdict.Result{Cells: []verdict.Cell{{Known: "uuid"}}},
	}
	sent := map[string]any{
		"State": &state{Nodes: []node{{Error: "e"}}, Total: report, Drops: []page.Drop{{}},
			Last: &export.Course{}, MoreCells: 1},
		"Finding": &report.Findings[0], "Report": report,
		"Sessions": &export.Sessions{Missing: 1,
			First: []export.Session{{Target: "t", NoCopy: "n", Node: "n"}}},
	}
	text, err := os.ReadFile("types.d.ts")
	if err != nil {
		t.Fatal(err)
	}
	interfaces := regexp.MustCompile(`(?s)interface (\w+) \{(.*?)\n?\}\n`)
	key := regexp.MustCompile(`(\w+)\??:`)
	for _, m := range interfaces.FindAllStringSubmatch(string(text), -1) {
		of, ok := sent[m[1]]
		if !ok {
			continue // uPlot's
		}
		json, err := json.Marshal(of)
		if err != nil {
			t.Fatal(err)
		}
		delete(sent, m[1])
		for _, k := range key.FindAllStringSubmatch(m[2], -1) {
			if !strings.Contains(string(json), `"`+k[1]+`":`) {
				t.Errorf("%s: nothing is sent as %s\n%s", m[1], k[1], json)
			}
		}
	}
	if len(sent) > 0 {
		t.Errorf("types.d.ts does not declare %v", slices.Collect(maps.Keys(sent)))
	}
}

// The page is hand-written, and short enough to read.
func TestPageIsShort(t *testing.T) {
	lines := 0
	files, err := filepath.Glob("static/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.Contains(name, "uPlot") {
			continue
		}
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines += strings.Count(string(text), "\n")
	}
	if lines > 1500 {
		t.Errorf("%d lines", lines)
	}
}
