//go:build ignore

// Bench runs the lab's loads with this tree's program and prints what a request costs and how late
// it is. With -old COMMIT it does so with that commit's program too, and with -with ARGS with
// further arguments of the copier, in turns, and prints both.
//
// Of the loads of many connections the figures are those of requests: a shorter run is taken off,
// and the opening of the connections with it.
//
//	go run scripts/bench.go [-old COMMIT | -with ARGS] [-via WAYS] [-load LOADS] [-proto PROTO]
//	  [-rounds N] [-duration TIME]
//
// What a comparison of answers costs:
//
//	go run scripts/bench.go -proto http1 -load pages -with --compare
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tcpcopy/internal/lab"
)

// loads are the table's rows. A rate is less than what two processors can do, so that the figures
// are those of the copy, not of a lack of processors.
var loads = []struct {
	name string
	rate float64 // requests a second
	lab.Scenario
}{
	{"keepalive", 6000, lab.Scenario{Conns: 50, RequestBytes: 200, AnswerBytes: 500}},
	{"calm", 2000, lab.Scenario{Conns: 50, RequestBytes: 200, AnswerBytes: 500}},
	{"short", 1000, lab.Scenario{Conns: 50, Requests: 1, RequestBytes: 200, AnswerBytes: 500}},
	{"pages", 3000, lab.Scenario{Conns: 50, RequestBytes: 200, AnswerBytes: 2048}},
	{"upload", 400, lab.Scenario{Conns: 20, RequestBytes: 100_000, AnswerBytes: 100}},
	{"1000", 2000, lab.Scenario{Conns: 1000, RequestBytes: 200, AnswerBytes: 500}},
	{"8000", 2000, lab.Scenario{Conns: many, RequestBytes: 200, AnswerBytes: 500}},
}

// many connections are opened for a second, and cost more than their requests: of a load with a
// thousand or more, a run of the given duration is taken off one that is openings as long.
const many, openings = 8000, 4

// build is a program to measure, with further arguments of the copier.
type build struct {
	name, binary string
	args         []string
}

// options are those of the command line.
type options struct {
	old, with, proto string
	ways, rows       []string
	rounds           int
	duration         time.Duration
}

// figures are those of one run.
type figures struct {
	copier, intercept    time.Duration // CPU a request
	p50, p99             time.Duration // lag
	memory               int64         // bytes, of the copier
	delivered, requested int64
}

func main() {
	var o options
	flag.StringVar(&o.old, "old", "", "commit to compare with")
	flag.StringVar(&o.with, "with", "", "further arguments of the copier to compare with")
	flag.StringVar(&o.proto, "proto", "", "what the load speaks: http1 or redis; empty: lines")
	via := flag.String("via", "raw,socket,tunnel", "ways to the target")
	names := flag.String("load", "keepalive,calm,short,upload,1000,8000", "loads")
	flag.IntVar(&o.rounds, "rounds", 3, "runs of each row; the table has the median")
	flag.DurationVar(&o.duration, "duration", 3*time.Second, "of a run")
	flag.Parse()
	o.ways, o.rows = strings.Split(*via, ","), strings.Split(*names, ",")
	if flag.NArg() > 0 {
		refuse("unexpected argument %q, wanted options only", flag.Arg(0))
	}
	for _, w := range o.ways {
		if !slices.Contains([]string{lab.Raw, lab.Socket, lab.Tunnel}, w) {
			refuse("-via %q: wanted raw, socket or tunnel", w)
		}
	}
	for _, row := range o.rows {
		if load(row) < 0 {
			refuse("-load %q: wanted keepalive, calm, short, pages, upload, 1000 or 8000", row)
		}
	}
	if o.rounds < 1 || o.duration < time.Second {
		refuse("-rounds %d -duration %v: wanted at least 1, and 1s", o.rounds, o.duration)
	}
	if o.proto != "" && !slices.Contains(lab.Protocols(), o.proto) {
		refuse("-proto %q: wanted %s", o.proto, strings.Join(lab.Protocols(), " or "))
	}
	if o.old != "" && o.with != "" {
		refuse("-old %q -with %q: wanted one of them", o.old, o.with)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	dir, err := os.MkdirTemp("", "tcpcopy-bench-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = bench(ctx, dir, &o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.RemoveAll(dir)
		os.Exit(1)
	}
}

func refuse(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
	os.Exit(2)
}

func load(name string) int {
	for i := range loads {
		if loads[i].name == name {
			return i
		}
	}
	return -1
}

// bench builds the programs and prints the table.
func bench(ctx context.Context, dir string, o *options) error {
	var builds []build
	if o.old != "" {
		b, err := buildCommit(dir, o.old)
		if err != nil {
			return err
		}
		builds = append(builds, b)
	}
	b := build{name: "this", binary: filepath.Join(dir, "this")}
	if err := run(".", "go", "build", "-trimpath", "-o", b.binary, "./cmd/tcpcopy"); err != nil {
		return err
	}
	builds = append(builds, b)
	if o.with != "" {
		builds = append(builds, build{"with", b.binary, strings.Fields(o.with)})
	}
	fmt.Printf("%-10s %-7s %-9s %10s %10s %9s %9s %7s  %s\n", "load", "way", "build", "copier",
		"intercept", "lag p50", "p99", "MB", "delivered")
	for _, row := range o.rows {
		for _, way := range o.ways {
			if err := compare(ctx, builds, load(row), way, o); err != nil {
				return err
			}
		}
	}
	return nil
}

// buildCommit builds the program of a commit.
func buildCommit(dir, commit string) (build, error) {
	b := build{name: commit, binary: filepath.Join(dir, "old")}
	tree := filepath.Join(dir, "tree")
	if err := run(".", "git", "worktree", "add", "--quiet", "--detach", tree, commit); err != nil {
		return b, err
	}
	err := run(tree, "go", "build", "-trimpath", "-o", b.binary, "./cmd/tcpcopy")
	if e := run(".", "git", "worktree", "remove", "--force", tree); err == nil {
		err = e
	}
	return b, err
}

func run(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, out)
	}
	return nil
}

// compare prints the rows of one load and way: a row for each build, whose runs alternate, and,
// where there are two, how the CPU of all processes compares.
func compare(ctx context.Context, builds []build, load int, way string, o *options) error {
	runs := make([][]figures, len(builds))
	for range o.rounds {
		for i := range builds {
			f, err := measure(ctx, &builds[i], load, way, o)
			if err != nil {
				return err
			}
			runs[i] = append(runs[i], f)
		}
	}
	var cpu []time.Duration
	for i := range builds {
		m := median(runs[i])
		cpu = append(cpu, m.copier+m.intercept)
		fmt.Printf("%-10s %-7s %-9s %7.1f µs %7.1f µs %6.2f ms %6.2f ms %7.1f  %d of %d\n",
			loads[load].name, way, builds[i].name, micros(m.copier), micros(m.intercept),
			micros(m.p50)/1000, micros(m.p99)/1000, float64(m.memory)/1e6, m.delivered,
			m.requested)
	}
	if len(cpu) == 2 {
		fmt.Printf("%-10s %-7s CPU × %.2f\n", "", "", float64(cpu[1])/float64(cpu[0]))
	}
	return nil
}

func micros(d time.Duration) float64 { return float64(d) / 1000 }

// measure returns the figures of a load.
func measure(ctx context.Context, b *build, load int, way string, o *options) (
	f figures, err error) {
	if loads[load].Conns < 1000 {
		r, err := play(ctx, b, load, way, o.proto, o.duration)
		if err == nil {
			f = figuresOf(r)
		}
		return f, err
	}
	opening, err := play(ctx, b, load, way, o.proto, o.duration)
	if err != nil {
		return f, err
	}
	r, err := play(ctx, b, load, way, o.proto, openings*o.duration)
	if err != nil {
		return f, err
	}
	f = figuresOf(r)
	more := time.Duration(r.Production.Requests - opening.Production.Requests)
	f.copier = (r.Copier.CPU - opening.Copier.CPU) / more
	f.intercept = (r.Intercept.CPU - opening.Intercept.CPU) / more
	return f, nil
}

// play makes one run.
func play(ctx context.Context, b *build, load int, way, proto string, duration time.Duration) (
	*lab.Result, error) {
	s := loads[load].Scenario
	s.Name, s.Duration = loads[load].name, duration
	r, err := lab.Run(ctx, lab.Options{Via: way, Load: &s, Rate: loads[load].rate, Proto: proto,
		Binary: b.binary, CopyArgs: b.args})
	if err == nil && r.Interrupted {
		err = context.Cause(ctx)
	}
	return r, err
}

func figuresOf(r *lab.Result) figures {
	return figures{
		copier: r.CPUPerRequest(&r.Copier), intercept: r.CPUPerRequest(&r.Intercept),
		p50: r.LagAt(50), p99: r.LagAt(99), memory: r.Copier.MaxRSS,
		requested: int64(r.Comparison.Compared),
		delivered: int64(r.Comparison.Compared - r.Comparison.Missing),
	}
}

// median returns the median of each figure; of what was delivered, the sum.
func median(runs []figures) (m figures) {
	of := func(get func(*figures) time.Duration) time.Duration {
		var all []time.Duration
		for i := range runs {
			all = append(all, get(&runs[i]))
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	m.copier = of(func(f *figures) time.Duration { return f.copier })
	m.intercept = of(func(f *figures) time.Duration { return f.intercept })
	m.p50 = of(func(f *figures) time.Duration { return f.p50 })
	m.p99 = of(func(f *figures) time.Duration { return f.p99 })
	for i := range runs {
		m.memory = max(m.memory, runs[i].memory)
		m.requested += runs[i].requested
		m.delivered += runs[i].delivered
	}
	return m
}
