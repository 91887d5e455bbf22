package badnet

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/lab"
	"tcpcopy/internal/lab/netlab"
)

// binary is the program under test, built once.
var binary string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tcpcopy-badnet-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "badnet:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "tcpcopy")
	build := exec.Command("go", "build", "-o", binary, "tcpcopy/cmd/tcpcopy")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "badnet: build tcpcopy: %v\n%s", err, out)
		return 1
	}
	beside()
	return m.Run()
}

// beside has twice as many tests run beside each other as there are processors, unless the command
// line says how many: each has hosts of its own, and waits for most of its time. Those whose load
// is heavy are not parallel.
func beside() {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		flag.Set("test.parallel", strconv.Itoa(2*runtime.GOMAXPROCS(0)))
	}
}

// play runs the lab with the program under test; the test is skipped where the permission is
// verified absent. A test that fails shows the table.
func play(t testing.TB, o lab.Options) *lab.Result {
	t.Helper()
	o.Binary = binary
	record(t, &o)
	r, err := lab.Run(t.Context(), o)
	if denied := (*netlab.PermissionError)(nil); errors.As(err, &denied) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			var b bytes.Buffer
			r.Print(&b)
			t.Logf("%s\n%s\n%s", b.String(), strings.Join(r.Copier.Stderr, "\n"),
				strings.Join(r.Intercept.Stderr, "\n"))
			if r.Report != nil {
				t.Logf("the account: %+v", *r.Report)
			}
		}
	})
	return r
}

// perfect fails the test for everything that is not as it should be. How many connections are open
// at the same time is no matter here: a bad network may well keep them open for longer.
func perfect(t testing.TB, r *lab.Result) {
	t.Helper()
	r.Target.MostOpen = min(r.Target.MostOpen, r.Production.MostOpen)
	for _, p := range r.Problems() {
		t.Error(p)
	}
}

// left reports whether a case is left for a run without -short.
func left(quick bool) bool { return testing.Short() && !quick }

// sysctl is a setting of a host's network.
type sysctl struct{ name, value string }

// set sets sysctls on a host.
func set(host *netlab.Namespace, settings ...sysctl) error {
	return host.Try(func() error {
		for _, s := range settings {
			if err := os.WriteFile("/proc/sys/net/"+s.name, []byte(s.value), 0); err != nil {
				return fmt.Errorf("set sysctl: %w", err)
			}
		}
		return nil
	})
}

// keepalive is connections that ask one thing after the other.
func keepalive(conns, requests, size int) *lab.Scenario {
	return &lab.Scenario{
		Name: "keepalive", Help: "keepalive connections", Conns: conns, Total: conns,
		Requests: requests,
		Think:    5 * time.Millisecond, RequestBytes: size, AnswerBytes: 500,
	}
}

// short is connections for one request each.
func short(total, conns, size int) *lab.Scenario {
	return &lab.Scenario{
		Name: "short", Help: "short connections", Conns: conns, Total: total, Requests: 1,
		Think: 5 * time.Millisecond, RequestBytes: size, AnswerBytes: 500,
	}
}

// lasting is keepalive connections for a time.
func lasting(conns int, d time.Duration) *lab.Scenario {
	return &lab.Scenario{
		Name: "keepalive", Help: "keepalive connections", Conns: conns, Duration: d,
		Think: 20 * time.Millisecond, RequestBytes: 300, AnswerBytes: 500,
	}
}
