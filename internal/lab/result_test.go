package lab

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"tcpcopy/internal/account/export"
)

// perfect is a result in which all is as it should be.
func perfect() *Result {
	lag := hdrhistogram.New(1, lagMost.Microseconds(), 3)
	for i := range int64(1000) {
		lag.RecordValue(300 + i)
	}
	return &Result{
		Options: Options{Via: Raw, Answers: Bigger, Loss: 1, IPv6: true,
			NoOffloads: true}, Scenario: scenarios[0],
		Sent: 33220, Answered: 33220,
		Production: Side{Requests: 33220, Bytes: 6644000, Opened: 50, MostOpen: 50},
		Target:     Side{Requests: 33220, Bytes: 6644000, Opened: 50, MostOpen: 50},
		Comparison: Comparison{Compared: 33220, Lag: lag},
		Samples: []Sample{{0, 0, 0}, {time.Second, 50, 49}, {2 * time.Second, 50, 50},
			{3 * time.Second, 0, 0}},
		Copier:    Process{Name: "copy", CPU: 600 * time.Millisecond, MaxRSS: 14_200_000},
		Intercept: Process{Name: "intercept", CPU: 300 * time.Millisecond, MaxRSS: 12_000_000},
		Report: &export.Report{
			Final: true, Balanced: true,
			Sessions: export.FlowReport{Captured: 50,
				Delivered: 50}, Bytes: export.FlowReport{Captured: 6644000, Delivered: 6644000},
		},
	}
}

func TestProblems(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Result)
		want   []string
	}{
		{"none", func(*Result) {}, nil},
		{"nothing happened", func(r *Result) {
			r.Sent, r.Production, r.Target, r.Comparison.Compared = 0, Side{}, Side{}, 0
			r.Report.Sessions, r.Report.Bytes = export.FlowReport{}, export.FlowReport{}
		}, []string{"there was no request to compare"}},
		{"production failed a client", func(r *Result) {
			r.ClientsFailed, r.ClientError = 2,
				errors.New("connection refused")
		},
			[]string{"2 client connections were not served by production as they should be; the " +
				"first: connection refused"}},
		{"production missed a request", func(r *Result) { r.Sent++ },
			[]string{"production received 33220 requests of 33221 sent"}},
		{"missing", func(r *Result) { r.Comparison.Missing = 1 },
			[]string{"1 of 33220 requests are missing at the target (99.997 % delivered)"}},
		{"many connections at once", func(r *Result) { r.Target.MostOpen = 80 },
			[]string{"80 connections at the same time at the target (after 0.0 s), more than " +
				"1.5 times production's 50, and 4"}},
		{"many connections at once, slower", func(r *Result) {
			r.Target.MostOpen,
				r.Options.Answers = 80, Slower
		}, nil},
		{"just enough connections at once", func(r *Result) { r.Target.MostOpen = 79 }, nil},
		{"one connection too many", func(r *Result) { r.Target.Opened = 51 },
			[]string{"51 connections at the target for 50 at production",
				"the ledger says 50 sessions delivered, the target counted 51"}},
		{"ledger unlike production", func(r *Result) {
			r.Report.Sessions.Captured,
				r.Report.Bytes.Captured = 51, 6644001
		},
			[]string{"the ledger says 51 sessions captured, production counted 50",
				"the ledger says 6644001 bytes captured, production counted 6644000"}},
		{"ledger unlike the target", func(r *Result) { r.Report.Bytes.Delivered-- },
			[]string{"the ledger says 6643999 bytes delivered, the target counted 6644000"}},
		{"ledger does not balance", func(r *Result) { r.Report.Balanced = false },
			[]string{"the ledger does not balance"}},
		{"something in flight", func(r *Result) { r.Report.Sessions.InFlight = 1 },
			[]string{"the ledger ends with 1 sessions and 0 bytes in flight"}},
		{"losses", func(r *Result) {
			r.Report.Sessions.Dropped = map[string]uint64{"tls": 1}
			r.Report.Bytes.Dropped = map[string]uint64{"tls": 100, "capture_gap": 5}
		}, []string{"the ledger has losses: 1 sessions tls, 5 bytes capture_gap, 100 bytes tls"}},
		{"no report", func(r *Result) {
			r.Report, r.ReportError = nil,
				errors.New("read report: no such file")
		},
			[]string{"no account from the copier: read report: no such file"}},
		{"killed", func(r *Result) { r.Intercept.ExitCode = -1 },
			[]string{"intercept had to be killed"}},
		{"begun before the copier", func(r *Result) {
			r.Scenario.CopierAfter = time.Second
			r.Target.Opened, r.Report.Sessions.Captured, r.Report.Sessions.Delivered = 49, 49, 49
			r.Report.Bytes.Captured = 6645000
			r.Report.Bytes.Dropped = map[string]uint64{"no_syn": 1000}
		}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := perfect()
			test.change(r)
			if got := r.Problems(); !slices.Equal(got, test.want) {
				t.Errorf("problems %q\nwanted   %q", got, test.want)
			}
		})
	}
}

func TestTable(t *testing.T) {
	broken := perfect()
	broken.Comparison.Missing, broken.Target.Early, broken.Target.Requests = 1234, 7, 31986
	broken.Target.Examples = []string{"missing: connection 1 request 2, which production " +
		"received at 1s"}
	broken.Copier.ExitCode = 1
	alone := perfect()
	alone.Options = Options{Via: NoCopy}
	for name, r := range map[string]*Result{"perfect": perfect(), "broken": broken,
		"alone": alone} {
		path := fmt.Sprintf("testdata/%s.txt", name)
		got := printed(r)
		if os.Getenv("UPDATE_GOLDEN") != "" {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s: got\n%s\nwanted\n%s\nUPDATE_GOLDEN=1 writes it anew", name, got, want)
		}
	}
}

func TestScenariosAreSound(t *testing.T) {
	names := map[string]bool{}
	for _, s := range Scenarios() {
		if err := s.check(); err != nil {
			t.Error(err)
		}
		if names[s.Name] || s.Name == "" || s.Help == "" {
			t.Errorf("scenario %q (%q)", s.Name, s.Help)
		}
		names[s.Name] = true
	}
}
