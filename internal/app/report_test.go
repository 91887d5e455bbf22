package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tcpcopy/internal/account/export"
)

// A replay writes a page at its end, with the numbers of its report; and tcpcopy report makes the
// same page of the report.
func TestPageOfAReplay(t *testing.T) {
	target := newToyTarget(t, 0)
	html := filepath.Join(t.TempDir(), "run.html")
	_, r := replayToy(t, target, "+fine\n", []string{"?a\n", "?b\n"}, "--html", html)
	page, err := os.ReadFile(html)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<!DOCTYPE html>", r.Fidelity.Verdict} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page does not have %q", want)
		}
	}
	report := filepath.Join(t.TempDir(), "run.json")
	if err := export.WriteReport(report, r); err != nil {
		t.Fatal(err)
	}
	p, stderr := dry()
	again := filepath.Join(t.TempDir(), "again.html")
	if code := p.run([]string{"tcpcopy", "report", report, "-o", again}); code != exitOK {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	second, err := os.ReadFile(again)
	if err != nil || string(second) != string(page) {
		t.Errorf(
			"another page of the same report: %v, %d and %d bytes",
			err,
			len(page),
			len(second),
		)
	}
}

func TestReportsThatAreNone(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		says string
	}{
		{nil, exitBadInput, "wanted one"},
		{[]string{"a", "b"}, exitBadInput, "wanted one"},
		{[]string{"/nonexistent"}, exitBadInput, "no such file"},
		{[]string{bad}, exitBadInput, "unexpected end"},
	} {
		p, stderr := dry()
		code := p.run(append([]string{"tcpcopy", "report"}, tt.args...))
		if code != tt.code || !strings.Contains(stderr.String(), tt.says) {
			t.Errorf("%v: %d\n%s", tt.args, code, stderr)
		}
	}
}
