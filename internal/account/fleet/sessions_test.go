package fleet

import (
	"context"
	"errors"
	"testing"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/status"
)

// The copiers are asked, and no others; the sum says whose a session is, and who did not answer.
func TestSessionsOfSeveral(t *testing.T) {
	f := New([]string{"a", "b", "c", "i"})
	q := export.SessionQuery{Order: "client", Filter: "answer"}
	if f.Sessions(t.Context(), q) != nil {
		t.Error("sessions of a fleet that cannot be asked")
	}
	f.Ask = func(
		_ context.Context, addr string, got export.SessionQuery,
	) (*export.Sessions, error) {
		if got != q {
			t.Errorf("%s is asked for %+v", addr, got)
		}
		switch addr {
		case "a":
			return &export.Sessions{Live: 2, Matched: 1,
				First: []export.Session{{Client: "10.0.0.2:1"}}}, nil
		case "b":
			return &export.Sessions{Live: 3, Matched: 1,
				First: []export.Session{{Client: "10.0.0.1:1"}}}, nil
		case "c":
			return nil, errors.New("gone")
		}
		t.Errorf("%s is asked, which is no copier", addr)
		return nil, nil
	}
	if f.Sessions(t.Context(), q) != nil {
		t.Error("sessions before anybody has answered")
	}
	for i, addr := range []string{"a", "b", "c"} {
		n := copier(t, 1, 10)
		n.Host, n.PID = addr, i
		f.Add(addr, n, nil, start)
	}
	f.Add("i", &status.Node{Kind: "intercept"}, nil, start)
	s := f.Sessions(t.Context(), q)
	if s == nil || s.Live != 5 || s.Matched != 2 || s.Missing != 1 || len(s.First) != 2 ||
		s.First[0].Client != "10.0.0.1:1" || s.First[0].Node != "b:1" || s.First[1].Node != "a:0" {
		t.Errorf("%+v", s)
	}
	if f.Sessions(t.Context(), export.SessionQuery{Filter: "web1"}) != nil {
		t.Error("sessions for a filter that is wrong")
	}
}
