package export

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/core/shard"
)

func TestParseQuery(t *testing.T) {
	prefix := netip.MustParsePrefix
	for _, tt := range []struct {
		order, filter string
		want          shard.Query
		wrong         string // in the error; empty: there is none
	}{
		{"", "", shard.Query{}, ""},
		{"held", "  ", shard.Query{Order: shard.ByHeld}, ""},
		{"lag", "10.0.0.7", shard.Query{Order: shard.ByLag, Within: prefix("10.0.0.7/32")}, ""},
		{"client", "10.0.0.7:80", shard.Query{Order: shard.ByClient, Port: 80,
			Within: prefix("10.0.0.7/32")}, ""},
		{"wait", "10.1.2.3/8 :443", shard.Query{Within: prefix("10.0.0.0/8"), Port: 443}, ""},
		{"", "[fd00::1]:80 answer send", shard.Query{Within: prefix("fd00::1/128"), Port: 80,
			Wait: shard.WaitSet(0).With(session.WaitAnswer).With(session.WaitSend)}, ""},
		{"", "::ffff:10.0.0.1", shard.Query{Within: prefix("10.0.0.1/32")}, ""},
		{"", "closing opening", shard.Query{
			State: []session.State{session.Closing, session.Opening}}, ""},
		{"age", "", shard.Query{}, `"age": wanted one of wait, lag, held, client`},
		{"", "web1", shard.Query{}, `"web1" in the filter: wanted an address`},
		{"", ":0", shard.Query{}, `":0"`},
		{"", ":70000", shard.Query{}, `":70000"`},
		{"", ":", shard.Query{}, `":"`},
		{"", "80", shard.Query{}, `"80"`},
		{"", "10.0.0.1 10.0.0.2", shard.Query{}, "beside another address"},
		{"", ":80 :81", shard.Query{}, "beside another address"},
		{"", strings.Repeat("answer ", 17), shard.Query{}, "more than 16 words"},
	} {
		got, err := SessionQuery{tt.order, tt.filter}.Parse()
		if tt.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("%q, %q: %v, want %q", tt.order, tt.filter, err, tt.wrong)
			}
			continue
		}
		tt.want.Most = MaxSessions
		if d := cmp.Diff(tt.want, got, cmp.Comparer(func(a, b netip.Prefix) bool {
			return a == b
		})); d != "" || err != nil {
			t.Errorf("%q, %q: %v (-want +got)\n%s", tt.order, tt.filter, err, d)
		}
	}
}

func TestSessionAsJSON(t *testing.T) {
	at := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	sec := mono.Time(time.Second)
	text, err := json.Marshal(NewSession(&shard.Seen{
		ID: 7, Client: at("192.0.2.1:40000"), Production: at("10.0.0.1:80"),
		Target: at("10.0.0.2:8080"), Copy: 1, At: 10 * sec,
		Moment: session.Moment{
			Phase: "flowing/whole", Wait: session.WaitAnswer, Since: 8 * sec, Held: 4096,
			Lag: 1500 * time.Millisecond, Waiting: 12,
		},
	}))
	const want = `{"client":"192.0.2.1:40000","production":"10.0.0.1:80",` +
		`"target":"10.0.0.2:8080","copy":2,"phase":"flowing/whole","waits_for":"answer",` +
		`"waited_seconds":2,"lag_seconds":1.5,"held_bytes":4096,"waiting_bytes":12}`
	if err != nil || string(text) != want {
		t.Errorf("%v\n%s\n%s", err, text, want)
	}
	none := NewSession(&shard.Seen{Moment: session.Moment{Reason: ledger.NoSYN, Since: sec}})
	if none.NoCopy != "no_syn" || none.Target != "" || none.Waited != 0 {
		t.Errorf("without a copy: %+v", none)
	}
}

// The sessions of several copiers are one list, in order and bounded.
func TestCut(t *testing.T) {
	one := func(client string, waits string, waited, lag float64, held int) Session {
		return Session{Client: client, WaitsFor: waits, Waited: waited, Lag: lag, Held: held}
	}
	a := &Sessions{Live: 10, Looked: 9, Matched: 8, First: []Session{
		one("10.0.0.10:1", "answer", 1, 5, 0), one("10.0.0.9:1", "client", 9, 0, 3)}}
	b := &Sessions{Live: 1, Looked: 1, Matched: 1, Missing: 1, First: []Session{
		one("10.0.0.8:1", "answer", 2, 4, 0), one("junk", "client", 1, 0, 2)}}
	for order, want := range map[shard.Order]string{
		shard.ByWait:   "10.0.0.8:1 10.0.0.10:1 junk 10.0.0.9:1",
		shard.ByLag:    "10.0.0.10:1 10.0.0.8:1 junk 10.0.0.9:1",
		shard.ByHeld:   "10.0.0.9:1 junk 10.0.0.8:1 10.0.0.10:1",
		shard.ByClient: "junk 10.0.0.8:1 10.0.0.9:1 10.0.0.10:1",
	} {
		sum := &Sessions{}
		sum.Join(a)
		sum.Join(b)
		sum.Cut(order)
		var got []string
		for _, s := range sum.First {
			got = append(got, s.Client)
		}
		if strings.Join(got, " ") != want || sum.Live != 11 || sum.Looked != 10 ||
			sum.Matched != 9 || sum.Missing != 1 {
			t.Errorf("%d: %v, want %s; %+v", order, got, want, sum)
		}
	}
	many := &Sessions{First: slices.Repeat(a.First, MaxSessions)}
	if many.Cut(shard.ByWait); len(many.First) != MaxSessions {
		t.Errorf("%d sessions", len(many.First))
	}
	none := &Sessions{}
	none.Cut(shard.ByWait)
	if text, _ := json.Marshal(none); !strings.Contains(string(text), `"sessions":[]`) {
		t.Errorf("%s", text)
	}
}
