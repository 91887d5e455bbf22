package export

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// A report has what was found at the start, and what the run shows.
func TestFindings(t *testing.T) {
	s := clean()
	s.Now = s.Start.Add(time.Hour)
	s.Counters.Packets.Offered, s.Counters.Packets.KernelDrop = 100, 5
	s.Findings = []Finding{{Code: "TC0204", Text: `a "rule"`, Fix: []string{"nft list"}}}
	r := NewReport(s)
	if len(r.Findings) != 2 || r.Findings[0].Fix[0] != "nft list" ||
		r.Findings[1].Code != "TC0108" || strings.Contains(r.Findings[1].Text, "TC0108") {
		t.Fatalf("%+v", r.Findings)
	}
	if got := Advice(s); len(got) != 1 || got[0] != r.Findings[1].String() {
		t.Errorf("%q", got)
	}
	both, err := Merge([]*Report{r, r})
	if err != nil || len(both.Findings) != 2 {
		t.Errorf("of two nodes that found the same: %v, %+v", err, both.Findings)
	}
	if text, _ := json.Marshal(NewReport(clean())); strings.Contains(string(text), "findings") {
		t.Errorf("nothing was found:\n%s", text)
	}
}
