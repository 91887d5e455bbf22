package status

import (
	"context"
	"strings"
	"testing"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/web"
)

func TestSessions(t *testing.T) {
	var asked []export.SessionQuery
	have := &export.Sessions{Live: 3, Matched: 1, First: []export.Session{{Client: "10.0.0.1:1"}}}
	c := show(node)
	c.Sessions = func(_ context.Context, q export.SessionQuery) *export.Sessions {
		asked = append(asked, q)
		return have
	}
	s, err := Listen("127.0.0.1:0", web.Access{}, c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	at := s.Addr().String()
	q := export.SessionQuery{Order: "lag", Filter: "10.0.0.0/8 answer"}
	got, err := new(Client).Sessions(context.Background(), at, q)
	if err != nil || got.Live != 3 || len(got.First) != 1 || got.First[0].Client != "10.0.0.1:1" {
		t.Errorf("%+v, %v", got, err)
	}
	if len(asked) != 1 || asked[0] != q {
		t.Errorf("asked for %+v", asked)
	}
	code, body := get(t, "http://"+at+"/sessions?filter=web1")
	if code != 400 || !strings.Contains(body, `"web1"`) || len(asked) != 1 {
		t.Errorf("a filter that is wrong: %d %s", code, body)
	}
	have = nil
	if code, _ := get(t, "http://"+at+"/sessions"); code != 503 {
		t.Errorf("none can be had: %d", code)
	}
	if _, err := new(Client).Sessions(context.Background(), at, q); err == nil {
		t.Error("no error")
	}
}

// A node that is no copier has none, and who serves metrics does not serve them.
func TestNoSessions(t *testing.T) {
	c := show(node)
	s, err := Listen("127.0.0.1:0", web.Access{}, c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if code, _ := get(t, "http://"+s.Addr().String()+"/sessions"); code != 404 {
		t.Errorf("code %d", code)
	}
	c.Sessions = func(context.Context, export.SessionQuery) *export.Sessions { return nil }
	m, err := ListenMetrics("127.0.0.1:0", web.Access{}, c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if code, _ := get(t, "http://"+m.Addr().String()+"/sessions"); code != 404 {
		t.Errorf("beside metrics: code %d", code)
	}
}
