package export

import (
	"encoding/json"
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
)

// Counts of several nodes are sums, and percentiles those of all answers together.
func TestMerge(t *testing.T) {
	slow := clean()
	slow.Start = slow.Start.Add(-time.Minute)
	for range 10 {
		slow.Counters.Requests.Whole.Note(10 * time.Second)
		slow.Counters.Requests.First.Note(time.Second)
	}
	a, b := NewReport(full()), NewReport(slow)
	m, err := Merge([]*Report{a, b})
	if err != nil {
		t.Fatal(err)
	}
	if m.Sessions.Captured != a.Sessions.Captured+b.Sessions.Captured ||
		m.Bytes.Dropped["tls"] != a.Bytes.Dropped["tls"]+b.Bytes.Dropped["tls"] ||
		m.Gate.Turns != a.Gate.Turns+b.Gate.Turns ||
		m.Packets.Offered != a.Packets.Offered+b.Packets.Offered ||
		len(
			m.Targets,
		) != len(
			a.Targets,
		)+len(
			b.Targets,
		) || m.Start != b.Start || m.Via != "several" {
		t.Errorf("%+v", m)
	}
	if m.Protocol.Times.Whole.P99 < 9000 || m.Protocol.Times.Whole.Median > 200 {
		t.Errorf("times %+v of %+v and %+v", m.Protocol.Times, a.Protocol.Times, b.Protocol.Times)
	}
	twice, err := Merge([]*Report{a, a})
	if err != nil || len(twice.Protocol.Texts) != len(a.Protocol.Texts) ||
		twice.Protocol.Texts[0].Answers != 2*a.Protocol.Texts[0].Answers ||
		twice.Protocol.TextsOther != 2*a.Protocol.TextsOther {
		t.Errorf("%v: texts %+v, of a node %+v", err, twice.Protocol.Texts, a.Protocol.Texts)
	}
	if p := m.Sessions.DeliveredPercent; p == nil || *p >= 100 {
		t.Errorf("delivered %v", p)
	}
	if one, err := Merge([]*Report{a}); err != nil || one != a {
		t.Errorf("of one: %v", err)
	}
	b.Histograms.TargetWhole.Count++
	if _, err := Merge([]*Report{a, b}); err == nil {
		t.Error("a histogram that contradicts itself is taken")
	}
}

// A node that is merged with one that counted nothing is as it was: no count is forgotten in Merge.
func TestMergeForgetsNothing(t *testing.T) {
	a, empty := NewReport(full()), NewReport(&Snapshot{})
	empty.Start, empty.Now, empty.Version, empty.Via = a.Start, a.Now, a.Version, a.Via
	empty.Final, empty.Balanced = a.Final, a.Balanced
	m, err := Merge([]*Report{a, empty})
	if err != nil {
		t.Fatal(err)
	}
	m.Fidelity = a.Fidelity
	want, _ := json.Marshal(a)
	got, _ := json.Marshal(m)
	if string(got) != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if _, ok := ledger.ReasonNamed("tls"); !ok {
		t.Error("no reason tls")
	}
}
