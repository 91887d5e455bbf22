//go:build ignore

// Gotest runs go test with the arguments given. It shows the output of tests that fail or are
// skipped, and one line for each package; at the end, what each failed test has said itself. If
// SKIPS=fail is in the environment, a skipped test is a failure. EVENTS=FILE appends the events of
// all tests, as go test -json writes them, to FILE.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
)

type event struct {
	Action  string
	Package string
	Test    string
	Output  string
}

func main() {
	cmd := exec.Command("go", append([]string{"test", "-json"}, os.Args[1:]...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	}
	events := io.Discard
	if path := os.Getenv("EVENTS"); path != "" {
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			fmt.Fprintln(os.Stderr, "gotest:", err)
			os.Exit(1)
		}
		events = f
	}
	said := make(map[string]*strings.Builder) // what each test has printed
	skipped := 0
	var failed []string // tests, and what they said
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		fmt.Fprintf(events, "%s\n", lines.Bytes())
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil {
			fmt.Println(lines.Text()) // of the build
			continue
		}
		name := e.Package + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			if said[name] == nil {
				said[name] = new(strings.Builder)
			}
			said[name].WriteString(e.Output)
			summary := strings.HasPrefix(e.Output, "ok ") || strings.HasPrefix(e.Output, "FAIL\t")
			if e.Action == "build-output" || e.Test == "" && summary {
				fmt.Print(e.Output)
			}
		case "pass":
			delete(said, name)
		case "skip":
			if e.Test != "" {
				skipped++
				fmt.Print(said[name])
			}
		case "fail":
			if s := said[name]; s != nil && (e.Test != "" ||
				!strings.Contains(s.String(), "FAIL\t")) {
				fmt.Print(s)
				failed = append(failed, complaints(name, s.String())...)
			}
		}
	}
	if err := cmd.Wait(); err != nil {
		fmt.Println(strings.Join(failed, "\n"))
		os.Exit(1)
	}
	if skipped > 0 && os.Getenv("SKIPS") == "fail" {
		fmt.Printf("gotest: %d tests were skipped, and must not be here\n", skipped)
		os.Exit(1)
	}
}

// complaints returns a line that names a failed test, and the first line of each message that it
// has logged, at most ten of them.
func complaints(name, said string) []string {
	all := []string{"failed: " + name}
	for line := range strings.Lines(said) {
		if m := message.FindStringIndex(line); m != nil && len(all) <= 10 {
			all = append(all, fmt.Sprintf("        %.300s", strings.TrimSpace(line[m[0]:])))
		}
	}
	return all
}

// message is where a message of a test begins.
var message = regexp.MustCompile(`\w+_test\.go:\d+: `)
