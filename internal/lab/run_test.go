package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/lab/netlab"
)

// standIn makes the test binary stand in for tcpcopy: what it does is the value.
const standIn = "LAB_TEST_STAND_IN"

func TestMain(m *testing.M) {
	if os.Getenv(clientsPart) != "" {
		os.Exit(Main(context.Background(), Options{}, os.Stdout, os.Stderr))
	}
	if how := os.Getenv(standIn); how != "" {
		os.Exit(program(how, os.Args[1:]))
	}
	goleak.VerifyTestMain(m)
}

// program is a tcpcopy that copies nothing, but is started, ready and stopped like the real one.
func program(how string, args []string) int {
	if args[0] == "keygen" {
		fmt.Println("tcpcopy-key-1:test")
		return 0
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, syscall.SIGINT)
	switch how {
	case "refuses":
		fmt.Fprintln(os.Stderr, "tcpcopy: capture: missing CAP_NET_RAW")
		return 3
	case "dies":
		fmt.Fprintln(os.Stderr, "tcpcopy: ready\nfatal error: all is lost")
		return 2
	case "fails":
		fmt.Fprintln(os.Stderr, "tcpcopy: ready")
		<-interrupted
		return 1
	}
	fmt.Fprintln(os.Stderr, "tcpcopy: ready, says the stand-in")
	<-interrupted
	for i, a := range args {
		if a == "--report" {
			b, _ := json.Marshal(export.Report{Final: true, Balanced: true})
			os.WriteFile(args[i+1], b, 0o644)
		}
	}
	return 0
}

// run plays the options, or skips the test where the permission is verified absent.
func play(t *testing.T, options Options) *Result {
	t.Helper()
	r, err := Run(t.Context(), options)
	if denied := (*netlab.PermissionError)(nil); errors.As(err, &denied) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// patience is enough for what never comes.
const patience = 300 * time.Millisecond

// TestServersOnly plays every scenario across the namespaces, shortened, with production alone.
func TestServersOnly(t *testing.T) {
	t.Parallel()
	for i, s := range Scenarios() {
		s.Duration = min(s.Duration, 300*time.Millisecond)
		s.Think = min(s.Think, 100*time.Millisecond)
		s.CopierAfter = min(s.CopierAfter, 100*time.Millisecond)
		s.Total = min(s.Total, 500)
		s.Conns = min(s.Conns, 1000)
		for _, ipv6 := range []bool{false, true} {
			if testing.Short() && ipv6 != (i%2 > 0) { // the scenarios take turns
				continue
			}
			t.Run(fmt.Sprintf("%s, IPv6 %v", s.Name, ipv6), func(t *testing.T) {
				t.Parallel()
				r := play(t, Options{Via: NoCopy, Load: &s, IPv6: ipv6})
				if problems := r.Problems(); len(problems) > 0 {
					t.Errorf("%s", printed(r))
				}
				if s.Total > 0 && r.Production.Requests != int64(s.Total*s.Requests) {
					t.Errorf("%d requests, wanted %d", r.Production.Requests, s.Total*s.Requests)
				}
			})
		}
	}
}

func TestServersOnlyOnABadNetwork(t *testing.T) {
	t.Parallel()
	s := Scenario{Name: "bad", Help: "a bad network", Conns: 20, Think: 5 * time.Millisecond,
		Duration: 2 * time.Second, RequestBytes: 3000, AnswerBytes: 3000}
	r := play(t, Options{Via: NoCopy, Load: &s, ClientLoss: 2, NoOffloads: true, MTU: 1400})
	if problems := r.Problems(); len(problems) > 0 {
		t.Errorf("%s", printed(r))
	}
}

func TestRate(t *testing.T) {
	r := play(t, Options{Via: NoCopy, Conns: 20, Rate: 500, Duration: 2 * time.Second})
	if n := r.Production.Requests; n < 800 || n > 1050 {
		t.Errorf("%d requests in 2 s at 500 a second", n)
	}
}

// TestCopierThatCopiesNothing starts, awaits and stops the commands of each way as the real ones.
func TestCopierThatCopiesNothing(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(standIn, "idle")
	for _, test := range []struct {
		via  string
		ipv6 bool
		want []string
	}{
		{Socket, false, []string{"production$ tcpcopy copy -x 80-10.77.2.2:8080 --report " +
			"DIR/copy.json --wait none"}},
		{Raw, true, []string{
			"assistant$ tcpcopy intercept -i eth0 -F 'tcp and src port 8080' --key DIR/key " +
				"--report DIR/intercept.json",
			"production$ tcpcopy copy -x '80-[fd77:2::2]:8080' --report DIR/copy.json -s " +
				"'[fd77:2::3]:36524' --key DIR/key --wait none",
		}},
		{Tunnel, false, []string{
			"target$ tcpcopy intercept --on-target --allow 8080 --key DIR/key --report " +
				"DIR/intercept.json",
			"production$ tcpcopy copy -x 80-10.77.2.2:8080 --report DIR/copy.json -s " +
				"10.77.2.2:36524 --key DIR/key --wait none",
		}},
	} {
		t.Run(test.via, func(t *testing.T) {
			dir := t.TempDir()
			s := small(func(s *Scenario) { s.Total, s.Requests = 20, 2 })
			r := play(t, Options{Via: test.via, IPv6: test.ipv6, Load: &s, Binary: self, Keep: dir,
				CopyArgs: []string{"--wait", "none"}, patience: patience})
			if got, want := strings.ReplaceAll(strings.Join(r.Commands, "\n"), dir,
				"DIR"), strings.Join(test.want, "\n"); got != want {
				t.Errorf("commands\n%s\nwanted\n%s", got, want)
			}
			want := []string{
				"40 of 40 requests are missing at the target (0.000 % delivered)",
				"0 connections at the target for 20 at production",
				"the ledger says 0 sessions captured, production counted 20",
				"the ledger says 0 bytes captured, production counted 12000",
			}
			if got := r.Problems(); fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
				t.Errorf("problems %q\nwanted   %q", got, want)
			}
			if r.Copier.ExitCode != 0 || r.Copier.CPU <= 0 || r.Copier.MaxRSS < 1<<20 {
				t.Errorf("the copier's end: %+v", r.Copier)
			}
			log, err := os.ReadFile(filepath.Join(dir, "copy.log"))
			if err != nil || string(log) != "tcpcopy: ready, says the stand-in\n" {
				t.Errorf("its log: %q, %v", log, err)
			}
		})
	}
}

func TestCopierThatFails(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := small(func(s *Scenario) { s.Total, s.Requests = 20, 2 })
	t.Run("to start", func(t *testing.T) {
		play(t, Options{Via: NoCopy, Load: &s}) // or skip
		t.Setenv(standIn, "refuses")
		_, err := Run(t.Context(), Options{Load: &s, Binary: self})
		if want := "start copy: it ended (exit status 3) before it was ready\n  tcpcopy: " +
			"capture: missing CAP_NET_RAW"; err == nil || err.Error() != want {
			t.Errorf("%v, wanted %q", err, want)
		}
	})
	for how, want := range map[string]string{
		"dies":  "copy ended before it was told to, with exit code 2: fatal error: all is lost",
		"fails": "copy ended with exit code 1: tcpcopy: ready",
	} {
		t.Run(how, func(t *testing.T) {
			t.Setenv(standIn, how)
			problems := play(t, Options{Load: &s, Binary: self, patience: patience}).Problems()
			if !strings.Contains(strings.Join(problems, "\n"), want) {
				t.Errorf("problems %q, wanted one that says %q", problems, want)
			}
		})
	}
}

func TestInterruptedLabEndsInOrder(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(standIn, "idle")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var progress interrupter
	progress.do = cancel
	r, err := Run(ctx, Options{Binary: self, Progress: &progress, Conns: 5, Duration: time.Hour})
	if denied := (*netlab.PermissionError)(nil); errors.As(err, &denied) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !r.Interrupted || r.Copier.ExitCode != 0 || r.Production.Requests == 0 {
		t.Errorf("interrupted %v, the copier's exit code %d, %d requests", r.Interrupted,
			r.Copier.ExitCode, r.Production.Requests)
	}
}

// interrupter is a progress writer that interrupts the lab when a line begins to show requests.
type interrupter struct {
	do func()
}

func (i *interrupter) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(" requests (")) &&
		!bytes.Contains(b, []byte("production 0 requests")) {
		i.do()
	}
	return len(b), nil
}

func TestRefusedOptions(t *testing.T) {
	for _, test := range []struct {
		options Options
		want    string
	}{
		{Options{Via: "pigeon"},
			`tcpcopy: lab: there is no way "pigeon" to the target, ` +
				`wanted socket, raw, tunnel or none`},
		{Options{Answers: "worse"},
			`tcpcopy: lab: answers cannot be "worse", wanted bigger, smaller or slower`},
		{Options{Scenario: "nap"},
			`tcpcopy: find scenario: there is no "nap", wanted one of keepalive, short,`},
		{Options{Conns: -1}, `tcpcopy: scenario keepalive: -1 connections, wanted at least 1`},
		{Options{Rate: -1}, `tcpcopy: lab: a rate of -1 requests a second, wanted 0 or more`},
	} {
		var out, errs bytes.Buffer
		if code := Main(t.Context(), test.options, &out, &errs); code != 2 ||
			!strings.HasPrefix(errs.String(), test.want) {
			t.Errorf("%+v: exit code %d and %q, wanted 2 and %q", test.options, code, errs.String(),
				test.want)
		}
	}
}
