package dashboard

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/fleet"
	"tcpcopy/internal/account/status"
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
	s := httptest.NewServer(Handler(copying(t, 3)))
	defer s.Close()
	for path, want := range map[string]string{
		"/":       "<!DOCTYPE html>",
		"/app.js": "EventSource", "/app.css": "--paper", "/uPlot.js": "uPlot",
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

// The page is hand-written, and short enough to read.
func TestPageIsShort(t *testing.T) {
	lines := 0
	for _, name := range []string{"index.html", "app.css", "app.js"} {
		text, err := os.ReadFile("static/" + name)
		if err != nil {
			t.Fatal(err)
		}
		lines += strings.Count(string(text), "\n")
	}
	if lines > 1500 {
		t.Errorf("%d lines", lines)
	}
}
