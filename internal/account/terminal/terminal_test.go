package terminal

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"charm.land/lipgloss/v2"
	"github.com/charmbracelet/x/ansi"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/fleet"
	"tcpcopy/internal/account/status"
	"tcpcopy/internal/core/ledger"
	_ "tcpcopy/internal/proto/known" // their reasons and classes
)

var update = flag.Bool("update", false, "write the golden files")

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// class returns the class of status with that name.
func class(name string) ledger.Class {
	for _, c := range ledger.Classes() {
		if c.String() == name {
			return c
		}
	}
	panic("no class " + name)
}

// node is a copier with something of everything, after so many seconds.
func node(seconds int) *status.Node {
	s := &export.Snapshot{
		Version: "1.2.3", Via: "raw", Mappings: []string{"80-10.0.0.2:8080|10.0.0.3:8080"},
		Start: start,
		Now: start.Add(
			time.Duration(seconds) * time.Second,
		), Wanted: 1, Sequence: uint64(seconds),
		Targets: []export.TargetState{
			{
				Target: "10.0.0.2:8080",
				Shards: 1,
				Count:  ledger.Target{Opened: 2990, Failed: 10, Live: 38},
			},
			{Target: "10.0.0.3:8080", Shards: 1, OutOf: 1, Count: ledger.Target{Failed: 12}},
		},
		Links: []export.LinkState{
			{Intercept: "10.0.0.9:36524", Error: "connection refused\x1b[31m"},
		},
		Agents:   []export.AgentState{{Name: "web1", Up: true, Packets: 12345}},
		Findings: []export.Finding{{Code: "TC0204", Text: "a firewall's rule\x1b[31m drops them"}},
	}
	c := &s.Counters
	for i := range seconds {
		n := uint64(100 * (1 + math.Sin(float64(i)/8)))
		c.Sessions.Captured += n + 2
		c.Sessions.Delivered += n
		c.Sessions.Drop(ledger.CaptureGap, 1)
		c.Sessions.Drop(ledger.TargetReset, 1)
		c.Turns, c.Connections, c.Copies = c.Turns+12*n, c.Connections+n, c.Copies+n
		for k := range 50 {
			d := time.Duration(k*k) * time.Microsecond * time.Duration(2+i%5)
			c.Behind.Note(d / 2)
			c.Requests.Whole.Note(2 * d)
			c.Requests.First.Note(d)
			c.Requests.Production.Whole.Note(d)
			c.Requests.Production.First.Note(d)
			c.Requests.Answered++
			c.Requests.Production.Answered++
		}
		c.Requests.Failed++
		c.Requests.Status[class("2xx")] += 49
		c.Requests.Status[class("5xx")]++
		c.Requests.Production.Status[class("2xx")] += 50
	}
	c.Open, c.Packets.KernelDrop, c.Packets.Offered = 40, 3, 1_000_000
	r := export.NewReport(s)
	r.Fidelity.Verdict = strings.ReplaceAll(r.Fidelity.Verdict, "\n", " ")
	text, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return &status.Node{
		Kind: "copier", Version: "1.2.3", Host: "web1", PID: 17, Start: start, Now: s.Now,
		Via:      "raw",
		Sessions: c.Sessions.Captured, Live: 40, Account: text,
	}
}

// full is a fleet of one copier that has run for a minute and a half.
func full() *fleet.Fleet {
	f := fleet.New([]string{"/run/a.sock"})
	for i := 1; i <= 90; i++ {
		f.Add("/run/a.sock", node(i), nil, start)
	}
	return f
}

// several is that and another copier, an intercept, and one that does not answer.
func several() *fleet.Fleet {
	f := fleet.New([]string{"/run/a.sock", "10.0.0.5:36525", "/run/i.sock", "10.0.0.6:36525"})
	for i := 1; i <= 90; i++ {
		f.Add("/run/a.sock", node(i), nil, start)
		f.Add("10.0.0.5:36525", node(i), nil, start)
	}
	f.Add(
		"/run/i.sock",
		&status.Node{Kind: "intercept", Host: "gate", PID: 9, Via: "raw", Live: 40},
		nil,
		start,
	)
	f.Add("10.0.0.6:36525", nil, errors.New("ask 10.0.0.6:36525: refused"), start)
	return f
}

func screen(f *fleet.Fleet, width, height int) *Screen {
	return &Screen{State: f.State(), Keys: "q quit", Width: width, Height: height}
}

func TestFrames(t *testing.T) {
	for _, tt := range []struct {
		name          string
		fleet         *fleet.Fleet
		width, height int
		messages      []string
	}{
		{"one-80x24", full(), 80, 24, nil},
		{"one-80x24-messages", full(), 80, 24,
			[]string{"one", "two", "three", "stopping: \x1b[2Jno new packets"}},
		{"one-200x50", full(), 200, 50, nil},
		{"several-80x24", several(), 80, 24, nil},
		{"several-200x50", several(), 200, 50, nil},
		{"none-80x24", fleet.New([]string{"/run/a.sock"}), 80, 24, nil},
		{"tiny", full(), 10, 3, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := screen(tt.fleet, tt.width, tt.height)
			s.Messages = tt.messages
			text := Frame(s)
			lines := strings.Split(text, "\n")
			if len(lines) != max(tt.height, 4) {
				t.Errorf("%d lines on a screen of %d", len(lines), tt.height)
			}
			for i, l := range lines {
				if w := lipgloss.Width(l); w > max(tt.width, 20) {
					t.Errorf("line %d is %d wide", i+1, w)
				}
			}
			for i, l := range lines {
				lines[i] = strings.TrimRight(ansi.Strip(l), " ")
			}
			golden(t, tt.name, strings.Join(lines, "\n")+"\n")
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || string(want) != got {
		t.Errorf("%s: %v\n%s", path, err, got)
	}
}

// What nodes say of themselves reaches the terminal without control characters.
func TestNamesAreText(t *testing.T) {
	f := several()
	bad := node(91)
	bad.Host, bad.Kind, bad.Via = "a\x1b]0;title\x07", "copier", "x\x9b31m"
	f.Add("/run/a.sock", bad, nil, start)
	text := Frame(screen(f, 200, 60))
	for _, code := range []string{"\x1b]", "\x07", "\x9b"} {
		if strings.Contains(text, code) {
			t.Errorf("the frame has %q", code)
		}
	}
}

func TestSpark(t *testing.T) {
	for _, tt := range []struct {
		values  []float64
		columns int
		want    string
	}{
		{nil, 10, ""},
		{[]float64{0, 0}, 10, ""},
		{[]float64{0, 4, 8}, 10, "▁▅█"},
		{[]float64{8, 0, 4, 8}, 3, "▁▅█"},
		{[]float64{1, 2}, 0, ""},
	} {
		if got := spark(tt.values, tt.columns); got != tt.want {
			t.Errorf("%v: %q, want %q", tt.values, got, tt.want)
		}
	}
}

func TestWords(t *testing.T) {
	for d, want := range map[time.Duration]string{
		900 * time.Microsecond: "900 µs", 1500 * time.Microsecond: "1.5 ms",
		150 * time.Millisecond: "150 ms",
		90 * time.Second:       "1m30s",
	} {
		if got := duration(1, d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
	if got := duration(0, time.Second); got != "-" {
		t.Errorf("none: %s", got)
	}
	if got := fmt.Sprint(number(1234567)); got != "1,234,567" {
		t.Error(got)
	}
}
