package app

import (
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/engine"
)

// A copy serves its dashboard while it runs, with its numbers, and not after.
func TestDashboardOfACopy(t *testing.T) {
	at := free(t)
	p, stderr := dry()
	p.copy = func(
		_ *engine.Control, _ *config.Copy, progress func(*export.Snapshot),
	) (*export.Snapshot, error) {
		for i := range 3 {
			s := &export.Snapshot{Start: time.Unix(0, 0), Now: time.Unix(int64(i+1), 0)}
			s.Counters.Turns = uint64(100 * i)
			progress(s)
		}
		if page := fetch("http://" + at + "/"); !strings.Contains(page, "<!DOCTYPE html>") {
			t.Errorf("no page: %s", page)
		}
		if course := fetch("http://" + at + "/course"); !strings.Contains(course, `"100 100"`) {
			t.Errorf("no course: %s", course)
		}
		return nil, nil
	}
	args := []string{"tcpcopy", "-x", "80-10.0.0.2:8080", "--status", "off", "--dashboard", at}
	if code := p.run(args); code != exitOK || !strings.Contains(stderr.String(), "http://"+at) {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	if fetch("http://"+at+"/") != "" {
		t.Error("answers after the end")
	}
}

func TestDashboardBeyondLoopback(t *testing.T) {
	for _, args := range [][]string{
		{"-x", "80-10.0.0.2:8080", "--dashboard", "0.0.0.0:8436"},
		{"dashboard", "--listen", "0.0.0.0:8436"},
		{"lab", "--dashboard", "10.0.0.1:8436"},
	} {
		p, stderr := dry()
		code := p.run(append([]string{"tcpcopy"}, args...))
		if code != exitBadInput || !strings.Contains(stderr.String(), "is beyond loopback") {
			t.Errorf("%v: exit code %d\n%s", args, code, stderr)
		}
	}
}
