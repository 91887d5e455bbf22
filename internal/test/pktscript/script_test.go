package pktscript

import (
	"fmt"
	"strings"
	"testing"
)

// recorder keeps what a script complains about.
type recorder struct {
	testing.TB
	said string
}

func (r *recorder) Errorf(format string, args ...any) { r.said += fmt.Sprintf(format, args...) }

// TestFailures shows that a script notices what it should, and says it in its own notation.
func TestFailures(t *testing.T) {
	for _, tc := range []struct {
		name, script string
		want         []string
	}{
		{"passes", "+0 handshake\n+0 release 100\n+0 > P. 1:101(100) ack 1", nil},
		{"nothing comes", "+0 handshake\n+0 > P. 1:101(100) ack 1", []string{":2:", "got nothing",
			"> P. 1:101(100) ack 1"}},
		{"unexpected", "+0 handshake\n+0 release 100\n+1 quiet", []string{":3:", "expected nothing",
			"> P. 1:101(100) ack 1 win 65535"}},
		{"unexpected at the end", "+0 handshake\n+0 release 100", []string{"end of script",
			"expected nothing"}},
		{"other bytes", "+0 handshake\n+0 release 100\n+0 > P. 1:100(99) ack 1",
			[]string{"bytes 1:101, expected 1:100", "got:      > P. 1:101(100)"}},
		{"other flags", "+0 handshake\n+0 release 100\n+0 > . 1:101(100) ack 1",
			[]string{"flags P., expected ."}},
		{"too late", "+0 handshake\n+0 release 100\n+0 > P. 1:101(100) ack 1\n+0.1 > P. " +
			"1:101(100) ack 1", []string{"got nothing; the connection wakes at 220ms"}},
		{"too early", "+0 handshake\n+0 release 100\n+0 > P. 1:101(100) ack 1\n+0.3 > P. " +
			"1:101(100) ack 1", []string{"at 220ms"}},
		{"status", "+0 handshake\n+0 expect state closed",
			[]string{"state is established, expected closed"}},
		{"SACK not expected",
			"config syn sack\n+0 handshake win 5 <sackOK>\n+0 < . 5:9(4) ack 1\n+0 > . 1:1(0) " +
				"ack 1", []string{"1 SACK blocks"}},
		{"syntax", "+0 handshake\n+0 > hello", []string{"want a packet like"}},
		{"command", "+0 dance", []string{`unknown command "dance"`}},
		{"time", "0 open", []string{"begins with a time"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			r := &recorder{TB: t}
			Run(r, "x.pkt", tc.script)
			if tc.want == nil && r.said != "" {
				t.Errorf("a good script fails: %s", r.said)
			}
			for _, w := range tc.want {
				if !strings.Contains(r.said, w) {
					t.Errorf("said %q, want %q in it", r.said, w)
				}
			}
			if tc.want != nil && !strings.Contains(r.said, ".pcap") {
				t.Errorf("said %q, want the name of a pcap in it", r.said)
			}
		})
	}
}
