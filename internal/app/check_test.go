package app

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/doctor"
	"tcpcopy/internal/doctor/collect"
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

// TestCheckAtStart checks that each command that captures or sends examines its host at start, as
// what it is to a copy, and reports a fault in one line; and that --check off leaves it out.
func TestCheckAtStart(t *testing.T) {
	dir := t.TempDir()
	recording := filepath.Join(dir, "in.pcap")
	header := []byte("\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff" +
		"\x00\x00\x01\x00\x00\x00")
	if err := os.WriteFile(recording, header, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args string
		role doctor.Role
		at   bool // it captures on this host's interfaces
	}{
		{"copy -x 80-10.0.0.2:8080", doctor.Copier, true},
		{"replay " + recording + " -x 80-10.0.0.2:8080", doctor.Copier, false},
		{"record -x 80 -o " + filepath.Join(dir, "out.pcapng"), doctor.Copier, true},
		{"capture -x 80 --to 10.0.0.9 --insecure", doctor.Copier, true},
		{"intercept -i eth0 -F tcp --insecure", doctor.Assistant, true},
		{"intercept --on-target --allow 8080 --insecure", doctor.Target, false},
	} {
		for _, check := range []string{"on", "off"} {
			p, said := dry()
			var subjects []collect.Subject
			p.quick = func(s *collect.Subject) *doctor.Facts {
				subjects = append(subjects, *s)
				f := faultForTest(s)
				f.Firewall = []doctor.Verdict{{Hook: "input", Action: "drop", Rule: "ip t in"}}
				return f
			}
			words := append(strings.Fields("tcpcopy "+c.args), "--check", check, "--status", "off")
			p.run(words)
			line := strings.Contains(said.String(), "tcpcopy: check: TC0205 ")
			if line != (check == "on") || len(subjects) > 0 != line {
				t.Errorf("%q: examined %d times: %s", words, len(subjects), said)
				continue
			}
			if line && (subjects[0].Role != c.role || subjects[0].Remote == c.at) {
				t.Errorf("%q: examined %+v", words, subjects[0])
			}
		}
	}
}
