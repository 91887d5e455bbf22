package app

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"

	"tcpcopy/internal/config"
)

// shape returns an error unless a refusal is one line with the program's name and at most one hint.
func shape(stderr string) error {
	lines := strings.Split(strings.TrimSuffix(stderr, "\n"), "\n")
	bad := len(lines) > 2 || !strings.HasPrefix(lines[0], "tcpcopy: ") ||
		len(lines) == 2 && !strings.HasPrefix(lines[1], "hint: ")
	if bad || strings.Contains(strings.ToLower(stderr), "usage") {
		return fmt.Errorf("want one line and perhaps a hint, got\n%s", stderr)
	}
	return nil
}

// sendSignal sends a signal to the process whose id is in a file: signal INT FILE.
func sendSignal(ts *testscript.TestScript, _ bool, args []string) {
	id, err := strconv.Atoi(strings.TrimSpace(ts.ReadFile(args[1])))
	ts.Check(err)
	s := map[string]syscall.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM,
		"HUP": syscall.SIGHUP}[args[0]]
	ts.Check(syscall.Kill(id, s))
}

// labForTest prints its options.
func (p *program) labForTest(ctx context.Context, c *config.Lab) int {
	if os.Getenv("TEST_FAIL") != "" {
		say(p.err, "lab: 3 requests are missing")
		return exitFailure
	}
	if os.Getenv("TEST_READY") != "" {
		touch(os.Getenv("TEST_READY"))
		<-ctx.Done()
		return exitFailure
	}
	cmd := exec.Command("echo", string(c.Via), c.Scenario, strings.Join(c.Extra, " "))
	cmd.Stdout = p.out
	cmd.Run()
	return exitOK
}
