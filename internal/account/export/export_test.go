package export

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/core/ledger"
	_ "tcpcopy/internal/proto/known" // their reasons and classes
)

var update = flag.Bool("update", false, "write the golden files")

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// full is a snapshot in which everything has happened.
func full() *Snapshot {
	s := &Snapshot{
		Version: "1.2.3", Via: "raw", Mappings: []string{"80-10.0.0.2:8080", "81-[fd00::2]:8081"},
		Start: start, Now: start.Add(72300 * time.Millisecond), Final: true,
		Links: []LinkState{
			{Intercept: "10.0.0.9:36524", Up: true, Since: start.Add(time.Second)},
			{
				Intercept: "[fd00::9]:36524", Since: start.Add(70 * time.Second), Reconnects: 1,
				ClaimsRefused: 3, QueueDropped: 2, Forbidden: 1, Error: "connection refused",
			},
		},
		Resources: Resources{CPU: 12300 * time.Millisecond, MaxRSS: 47 << 20},
	}
	c := &s.Counters
	c.Packets = ledger.Packets{Offered: 1200345, Seen: 1200340, KernelDrop: 5, NotOurs: 12,
		Malformed: 1, Twice: 30}
	c.Sessions = ledger.Flow{Captured: 5000, Delivered: 4959}
	c.Bytes = ledger.Flow{Captured: 12345678, Delivered: 12330000}
	for i, r := range ledger.Reasons() {
		c.Sessions.Drop(r, 1)
		c.Bytes.Drop(r, uint64(i)*10)
	}
	c.Adopted, c.Live, c.Turns, c.AnswerBytes = 3, 13, 400000, 5<<30
	c.NoHandshake = 19985
	c.GateKnown, c.GatePredicted, c.GateQuiet, c.GateClosed, c.GateForced = 7000, 300000, 40, 2, 1
	c.Requests = ledger.Requests{Sent: 7100, Rewritten: 9}
	c.Requests.Answers = ledger.Answers{Answered: 7090, Failed: 12,
		Status: byStatus(1, 7000, 78, 10, 2)}
	c.Requests.Production = ledger.Answers{Answered: 7080, Failed: 3,
		Status: byStatus(1, 7060, 17, 2, 1)}
	c.Requests.ProductionLost = 2
	for i := range 8 {
		for range 3 * (i + 1) {
			c.Requests.Texts.Note(class("grpc 5"), "there is none of "+string(rune('a'+i)))
		}
	}
	c.Requests.Texts.Note(class("grpc 13"), "rare")
	for i := range 100 {
		d := time.Duration(i) * time.Millisecond
		c.Requests.First.Note(d / 10)
		c.Requests.Whole.Note(d)
		c.Requests.Production.First.Note(d / 200)
		c.Requests.Production.Whole.Note(d / 100)
	}
	c.Requests.Drop(ledger.Filtered)
	c.Requests.Refuse(class("error 1045"))
	c.Requests.Refuse(class("another error"))
	c.ProtoLost = 1
	c.Connections, c.Copies = 2000, 4997
	s.Targets = []TargetState{
		{Production: "80", Target: "10.0.0.2:8080", Weight: 3, Shards: 2,
			Count: ledger.Target{Begun: 3000, Opened: 2990, Failed: 10, Live: 9}},
		{Production: "80", Target: "10.0.0.3:8080", Weight: 1, Shards: 2, OutOf: 1,
			Count: ledger.Target{Begun: 1000, Opened: 990, Failed: 10, Live: 3, TakenOut: 1}},
		{Production: "80", Target: "10.0.0.4:8080", Weight: 1, Shards: 2, OutOf: 2,
			Count: ledger.Target{Failed: 6, TakenOut: 2}},
		{Production: "81", Target: "[fd00::2]:8081", Weight: 1, Shards: 2,
			Count: ledger.Target{Begun: 7, Opened: 7, Live: 1}},
	}
	c.SegmentsOut, c.SegmentsIn, c.Retransmits, c.SendErrors, c.ForeignAnswers = 900000, 800000,
		120, 2, 4
	return s
}

// class returns the class of that name, which a protocol has defined.
func class(name string) ledger.Class {
	for _, c := range ledger.Classes() {
		if c.String() == name {
			return c
		}
	}
	panic("no class " + name)
}

// byStatus returns counts of HTTP's classes of status, from 1xx on.
func byStatus(counts ...uint64) (by ledger.ByClass) {
	for i, n := range counts {
		by[class(fmt.Sprintf("%dxx", i+1))] = n
	}
	return by
}

// clean is a snapshot of a copy without losses.
func clean() *Snapshot {
	s := &Snapshot{
		Version: "1.2.3", Via: "socket", Mappings: []string{"80-10.0.0.2:8080"},
		Start: start, Now: start.Add(9 * time.Second), Final: true,
		Resources: Resources{CPU: 90 * time.Millisecond, MaxRSS: 9 << 20},
	}
	c := &s.Counters
	c.Packets = ledger.Packets{Offered: 40, Seen: 40}
	c.Sessions = ledger.Flow{Captured: 1, Delivered: 1}
	c.Bytes = ledger.Flow{Captured: 700, Delivered: 700}
	c.Turns, c.AnswerBytes, c.GatePredicted = 10, 900, 9
	return s
}

func broken() *Snapshot {
	s := clean()
	s.Counters.Bytes.Delivered = 701
	return s
}

func empty() *Snapshot {
	return &Snapshot{Version: "1.2.3", Via: "socket", Mappings: []string{"80-10.0.0.2:8080"},
		Start: start, Now: start}
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("%s differs (-want +got); if it should, run go test -update\n%s", path, d)
	}
}

func TestGolden(t *testing.T) {
	for _, tt := range []struct {
		name string
		s    *Snapshot
	}{{"full", full()}, {"clean", clean()}, {"broken", broken()}, {"empty", empty()}} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := Summary(&b, tt.s); err != nil {
				t.Fatal(err)
			}
			golden(t, tt.name+".txt", b.Bytes())

			path := filepath.Join(t.TempDir(), "report.json")
			if err := WriteReport(path, NewReport(tt.s)); err != nil {
				t.Fatal(err)
			}
			j, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, tt.name+".json", j)

			r, err := ReadReport(path)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(NewReport(tt.s), r); d != "" {
				t.Errorf("read back differs (-want +got)\n%s", d)
			}
		})
	}
}

func TestLine(t *testing.T) {
	early := full()
	early.Now = start.Add(62300 * time.Millisecond)
	early.Counters.Sessions = ledger.Flow{Captured: 4900, Delivered: 4880}
	early.Counters.Packets.KernelDrop = 2
	early.Counters.Turns = 340000
	for _, tt := range []struct {
		name    string
		s, prev *Snapshot
		want    string
	}{
		{
			"nothing yet", empty(), nil,
			"sessions 0 (+0, 0 live), delivered -; bytes 0 bytes, delivered -; turns 0 (-/s)",
		},
		{
			"first", clean(), nil,
			"sessions 1 (+1, 0 live), delivered 100.000 %; bytes 700 bytes, delivered 100.000 " +
				"%; turns 10 (1/s)",
		},
		{
			"does not balance", broken(), clean(),
			"sessions 1 (+0, 0 live), delivered 100.000 %; bytes 700 bytes, delivered 100.000 " +
				"%; turns 10 (-/s); ACCOUNT DOES NOT BALANCE",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Line(tt.s, tt.prev); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
	t.Run("all there is", func(t *testing.T) {
		got := Line(full(), early)
		for _, want := range []string{
			"sessions 5,000 (+100, 13 live), delivered 99.2", "turns 400,000 (6,000/s)",
			"tls 1 (+1)",
			"lost in the kernel 5 (+3)", "intercepts 1 of 2 up",
		} {
			if !strings.Contains(got, want) {
				t.Errorf("no %q in\n%s", want, got)
			}
		}
		if strings.Contains(got, "\n") {
			t.Error("more than one line")
		}
	})
}

func TestDelivered(t *testing.T) {
	flow := func(captured, delivered uint64, drops ...any) *ledger.Flow {
		f := &ledger.Flow{Captured: captured, Delivered: delivered}
		for i := 0; i < len(drops); i += 2 {
			f.Drop(drops[i].(ledger.Reason), uint64(drops[i+1].(int)))
		}
		return f
	}
	for _, tt := range []struct {
		name string
		flow *ledger.Flow
		want string
	}{
		{"nothing", flow(0, 0), "-"},
		{"all in flight", flow(5, 0), "-"},
		{"all", flow(5, 5), "100.000 %"},
		{"in flight is not lost", flow(10, 5), "100.000 %"},
		{"left out on request is not lost", flow(10, 1, ledger.SampledOut, 8, ledger.Filtered, 1),
			"100.000 %"},
		{"only left out", flow(10, 0, ledger.SampledOut, 10), "-"},
		{"half", flow(10, 5, ledger.TLS, 5), "50.000 %"},
		{"none", flow(10, 0, ledger.TLS, 10), "0.000 %"},
		{"one of many is never all", flow(10_000_000, 9_999_999, ledger.CaptureGap, 1),
			"99.999 %"},
		{"nor of very many", flow(math.MaxUint64>>1, math.MaxUint64>>1-1, ledger.CaptureGap, 1),
			"99.999 %"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := percent(tt.flow); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestEveryReasonIsExplained(t *testing.T) {
	for _, r := range ledger.Reasons() {
		if r.Meaning() == "" {
			t.Errorf("%s has no explanation", r)
		}
	}
}

// Every counter of the ledger must be in the report.
func TestEveryCounterIsReported(t *testing.T) {
	s := &Snapshot{}
	next := uint64(1001)
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Struct:
			switch h := v.Addr().Interface().(type) {
			case *ledger.Delays: // the report has a few numbers of it
				h.Note(time.Second)
				return
			case *ledger.Texts:
				h.Other = next
				next++
				return
			}
			for i := range v.NumField() {
				fill(v.Field(i))
			}
		case reflect.Array: // by reason, or by class: of those that are defined
			n := len(ledger.Reasons())
			if v.Type() == reflect.TypeFor[ledger.ByClass]() {
				n = len(ledger.Classes())
			}
			for i := range n {
				fill(v.Index(1 + i))
			}
		case reflect.Uint64:
			v.SetUint(next)
			next++
		}
	}
	fill(reflect.ValueOf(&s.Counters).Elem())
	j, err := json.Marshal(NewReport(s))
	if err != nil {
		t.Fatal(err)
	}
	for n := uint64(1001); n < next; n++ {
		b, _ := json.Marshal(n)
		if !bytes.Contains(j, append([]byte(":"), b...)) {
			t.Errorf("the counter that was set to %d is not in the report\n%s", n, j)
		}
	}
}

func TestNumber(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 12: "12", 999: "999", 1000: "1,000",
		123456: "123,456", 1234567: "1,234,567"} {
		if got := number(n); got != want {
			t.Errorf("number(%d) = %s, want %s", n, got, want)
		}
	}
}

func TestWriteReport(t *testing.T) {
	t.Run("replaces whole", func(t *testing.T) {
		dir := t.TempDir()
		path := filepath.Join(dir, "r.json")
		for range 2 {
			if err := WriteReport(path, NewReport(clean())); err != nil {
				t.Fatal(err)
			}
		}
		names, _ := os.ReadDir(dir)
		if len(names) != 1 {
			t.Errorf("left behind: %v", names)
		}
	})
	t.Run("no such directory", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "no", "r.json")
		for _, err := range []error{CheckReport(path), WriteReport(path, 1)} {
			if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), `no/r.json"`) {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("a directory", func(t *testing.T) {
		dir := t.TempDir()
		for _, err := range []error{CheckReport(dir), WriteReport(dir, 1)} {
			if err == nil {
				t.Error("no error")
			}
		}
	})
	t.Run("full disk", func(t *testing.T) {
		if _, err := os.Stat("/dev/full"); err != nil {
			t.Skip("no /dev/full: ", err)
		}
		if err := CheckReport("/dev/full"); err != nil {
			t.Errorf("check: %v", err)
		}
		if err := WriteReport("/dev/full", 1); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("got %v, want no space left", err)
		}
	})
	t.Run("check leaves nothing", func(t *testing.T) {
		dir := t.TempDir()
		if err := CheckReport(filepath.Join(dir, "r.json")); err != nil {
			t.Fatal(err)
		}
		if names, _ := os.ReadDir(dir); len(names) != 0 {
			t.Errorf("left behind: %v", names)
		}
	})
}

func TestReadReportRefusesGarbage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	if err := os.WriteFile(path, []byte(`{"version":`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadReport(path); err == nil {
		t.Error("no error")
	}
}

func TestSpent(t *testing.T) {
	s := Spent()
	if s.MaxRSS < 1<<20 || s.MaxRSS > 1<<40 {
		t.Errorf("%d bytes of memory at most", s.MaxRSS)
	}
	if again := Spent(); again.CPU < s.CPU {
		t.Errorf("CPU time went from %v back to %v", s.CPU, again.CPU)
	}
}

func TestFields(t *testing.T) {
	type in struct {
		HeldExpired, ICMPUnowned, NotTCP uint64
		Addr                             netip.Addr
		secret                           int
	}
	got, err := json.Marshal(Fields(struct {
		Frames in
		Each   []in
		None   []in
	}{Frames: in{1, 2, 3, netip.MustParseAddr("10.0.0.1"), 4}, Each: []in{{}}}))
	want := `{"each":[{"addr":"","held_expired":0,"icmp_unowned":0,"not_tcp":0}],` +
		`"frames":{"addr":"10.0.0.1","held_expired":1,"icmp_unowned":2,"not_tcp":3},"none":[]}`
	if err != nil || string(got) != want {
		t.Errorf("got  %s %v\nwant %s", got, err, want)
	}
}

func TestPeakMemoryIsTheProcessOwn(t *testing.T) {
	ballast := make([]byte, 64<<20)
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	own := PeakMemory(os.Getpid())
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	if other := PeakMemory(cmd.Process.Pid); own < 64<<20 || other == 0 || other > 32<<20 {
		t.Errorf("%d bytes with a ballast of %d, %d for a small program that it started", own,
			len(ballast), other)
	}
	if got := PeakMemory(1 << 30); got != 0 {
		t.Errorf("%d bytes for no process", got)
	}
	runtime.KeepAlive(ballast)
}
