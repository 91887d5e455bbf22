package fleet

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/history"
	"tcpcopy/internal/account/status"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// copier is the state of a copier that has captured so many sessions.
func copier(t *testing.T, seconds int, sessions uint64) *status.Node {
	t.Helper()
	s := &export.Snapshot{Start: start, Now: start.Add(time.Duration(seconds) * time.Second)}
	s.Counters.Sessions.Captured = sessions
	text, err := json.Marshal(export.NewReport(s))
	if err != nil {
		t.Fatal(err)
	}
	return &status.Node{Kind: "copier", Sessions: sessions, Account: text}
}

func TestSumOfSeveral(t *testing.T) {
	f := New([]string{"a", "b"})
	if s := f.State(); s.Total != nil || len(s.Nodes) != 2 || s.Nodes[0].Addr != "a" {
		t.Errorf("at first: %+v", s)
	}
	f.Add("a", copier(t, 1, 100), nil, start)
	f.Add("b", copier(t, 1, 10), nil, start)
	f.Add("i", &status.Node{Kind: "intercept"}, nil, start)
	s := f.State()
	if s.Total.Sessions.Captured != 110 || len(s.Nodes) != 3 || s.Nodes[2].Report != nil {
		t.Errorf("%d sessions of %d nodes", s.Total.Sessions.Captured, len(s.Nodes))
	}
	// One that goes keeps its counts; what was handed out stays as it was.
	f.Add("b", nil, errors.New("gone"), start)
	f.Add("a", copier(t, 2, 200), nil, start)
	now := f.State()
	if now.Total.Sessions.Captured != 210 || now.Nodes[1].Err == nil || now.Nodes[1].Report == nil {
		t.Errorf("%d sessions, %v", now.Total.Sessions.Captured, now.Nodes[1].Err)
	}
	if s.Nodes[1].Err != nil || s.Total.Sessions.Captured != 110 {
		t.Error("a state has changed")
	}
}

// One that begins again makes a gap, and no negative rate.
func TestRestart(t *testing.T) {
	f := New([]string{"a"})
	for i, n := range []uint64{100, 200, 5, 105} {
		f.Add("a", copier(t, i+1, n), nil, start)
	}
	for _, v := range history.Intervals(f.State().Points) {
		if r := v.Rate(func(p *history.Point) uint64 { return p.Sessions }); r != 0 && r != 100 {
			t.Errorf("%v sessions a second", r)
		}
	}
}

func TestAccountsThatCannotBeRead(t *testing.T) {
	f := New([]string{"a"})
	for _, text := range []string{"[]", `{"histograms":{"behind":{"count":7,"slots":"1:1"}}}`} {
		f.Add("a", copier(t, 1, 100), nil, start)
		f.Add("b", &status.Node{Kind: "copier", Account: []byte(text)}, nil, start)
		if s := f.State(); s.Nodes[1].Err == nil || s.Total.Sessions.Captured != 100 {
			t.Errorf("%s: %v, %d", text, s.Nodes[1].Err, s.Total.Sessions.Captured)
		}
	}
}
