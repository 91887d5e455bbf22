package export

import (
	"encoding/json"
	"testing"

	"tcpcopy/internal/core/ledger"
)

// A histogram comes out of JSON as it went in, and those of two nodes add up.
func TestHistogramsAreExact(t *testing.T) {
	r := NewReport(full())
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var again Report
	if err := json.Unmarshal(text, &again); err != nil {
		t.Fatal(err)
	}
	got, err := again.Histograms.TargetWhole.Delays()
	if err != nil {
		t.Fatal(err)
	}
	want := full().Counters.Requests.Whole
	if got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	got.Add(&want)
	if got.Count != 2*want.Count || got.At(0.5) != want.At(0.5) {
		t.Errorf("two nodes: %v of twice %v", got, want)
	}
	if h, err := again.Histograms.Late.Delays(); err != nil || h != (ledger.Delays{}) {
		t.Errorf("no histogram: %v, %v", h, err)
	}
	for _, bad := range []Histogram{
		{Count: 1, Slots: Slots{{ledger.NumSlots, 1}}},
		{Count: 2, Slots: Slots{{1, 1}}},
	} {
		if _, err := bad.Delays(); err == nil {
			t.Errorf("%v is taken", bad)
		}
	}
	for _, text := range []string{"1", "1:", ":1", "a:1", "1:-1"} {
		if err := new(Slots).UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}
