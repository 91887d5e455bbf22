package app

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/doctor"
)

// TestAdviceCodes checks that the codes in hints are the doctor's.
func TestAdviceCodes(t *testing.T) {
	s := &export.Snapshot{Via: "socket", Final: true, Start: time.Now(), Now: time.Now()}
	n := 0
	for _, r := range ledger.Reasons() {
		s.Counters = ledger.Counters{}
		s.Counters.Sessions.Captured, s.Counters.Sessions.Dropped[r] = 1, 1
		s.Counters.Packets.KernelDrop = 1
		for _, m := range regexp.MustCompile(`\bTC\d+\b`).
			FindAllString(strings.Join(export.Advice(s), "\n"), -1) {
			n++
			if _, ok := doctor.Find(m); !ok {
				t.Errorf("%s: the hint names %s, which is no code", r, m)
			}
		}
	}
	if n < 10 {
		t.Errorf("%d codes only", n)
	}
}

func TestFindingLine(t *testing.T) {
	c, _ := doctor.Find("TC0206")
	x := doctor.Finding{Code: c.Code, Title: c.Title, Seen: "9 of 9 entries", Fix: []string{"a",
		"b"}}
	const want = "TC0206 the connection tracking table is full: 9 of 9 entries; fix: a; b " +
		"(tcpcopy explain TC0206)"
	if got := findingLine(&x); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestDoctorLine(t *testing.T) {
	m, err := mapping.Parse("80-10.0.0.2:8080|10.0.0.3:8080")
	if err != nil {
		t.Fatal(err)
	}
	c := &config.Copy{Mappings: m}
	p := &program{args: []string{"copy", "-x", "80-10.0.0.2:8080", "-F", "src net 10.0.0.0/8"}}
	const live = "tcpcopy doctor copy -x 80-10.0.0.2:8080 -F 'src net 10.0.0.0/8'"
	if got := p.doctorLine(c); got != live {
		t.Errorf("%s, want %s", got, live)
	}
	c.Replay = &config.Replay{}
	if got := p.doctorLine(c); got != "tcpcopy doctor copy -x '80-10.0.0.2:8080|10.0.0.3:8080'" {
		t.Errorf("a replay: %s", got)
	}
}
