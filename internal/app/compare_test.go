package app

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/verdict"
)

// TestLearnedRules checks that what tcpcopy compare learn prints is a configuration that tcpcopy
// takes, with the rules of the report's differences.
func TestLearnedRules(t *testing.T) {
	t.Chdir(t.TempDir())
	report := export.Report{Compare: &verdict.Result{Compared: 50, Cells: []verdict.Cell{
		{Endpoint: "GET /it's {id}: #1", Path: "body.host", Kind: verdict.Value, Sessions: 9},
		{Endpoint: "GET /", Path: "body.list[]", Kind: verdict.Order, Sessions: 3},
		{Endpoint: "GET /", Path: "status", Kind: verdict.Status, From: "200", To: "500",
			Sessions: 1},
	}}}
	text, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("old.json", text, 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, stderr := inProcess("tcpcopy", "compare", "learn", "old.json")
	if code != exitOK || stderr != "" {
		t.Fatalf("exit code %d, %s", code, stderr)
	}
	for _, want := range []string{"'GET /it''s {id}: #1 body.host' # value, in 9 sessions",
		"'GET / body.list[]' # order, in 3 sessions",
		"No rule for GET /: status: status (200 → 500)"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	file := "mappings: [80-10.0.0.2:8080]\ncompare: true\n" + out
	if err := os.WriteFile("rules.yaml", []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, stderr := inProcess("tcpcopy", "config", "check", "rules.yaml"); code != exitOK {
		t.Errorf("exit code %d\n%s%s", code, out, stderr)
	}
}
