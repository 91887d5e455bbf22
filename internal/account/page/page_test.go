package page

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/history"
	"tcpcopy/internal/account/verdict"
	"tcpcopy/internal/core/ledger"
	_ "tcpcopy/internal/proto/known" // their reasons and classes
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// report is of a run of so many seconds, with something of everything.
func report(seconds int) *export.Report {
	s := &export.Snapshot{
		Version: "1.2.3", Via: "raw", Mappings: []string{"80-10.0.0.2:8080|10.0.0.3:8080"},
		Start: start, Wanted: 1,
		Resources: export.Resources{CPU: 12 * time.Second, MaxRSS: 47 << 20},
		Targets:   []export.TargetState{{Production: "80", Target: "10.0.0.2:8080", Shards: 1}},
		Links:     []export.LinkState{{Intercept: "10.0.0.9:36524", Error: "connection refused"}},
		Agents:    []export.AgentState{{Name: "web1<script>alert(1)</script>", Packets: 12}},
	}
	c := &s.Counters
	classes := ledger.Classes()
	track := new(history.Track)
	for i := range seconds {
		wave := 1 + math.Sin(float64(i)/40)
		n := uint64(100 * wave)
		c.Packets.Offered, c.Packets.Seen = c.Packets.Offered+12*n, c.Packets.Seen+12*n
		c.Sessions.Captured, c.Bytes.Captured = c.Sessions.Captured+n+2, c.Bytes.Captured+300*n
		c.Sessions.Delivered, c.Bytes.Delivered = c.Sessions.Delivered+n, c.Bytes.Delivered+300*n
		c.Sessions.Drop(ledger.CaptureGap, 1)
		c.Sessions.Drop(ledger.SampledOut, 1)
		c.Turns, c.Connections, c.Copies = c.Turns+3*n, c.Connections+n, c.Copies+n
		c.Open, s.Targets[0].Count.Live = 40+n/4, 38+n/4
		for k := range 40 {
			d := time.Duration(k*k) * time.Microsecond * time.Duration(1+5*wave)
			c.Behind.Note(d / 3)
			c.Requests.First.Note(d)
			c.Requests.Whole.Note(2 * d)
			c.Requests.Production.Whole.Note(d)
			c.Requests.Answered++
			c.Requests.Production.Answered++
			c.Requests.Status[classes[1]]++
		}
		c.Requests.Status[classes[4]]++
		s.Now, s.Sequence = start.Add(time.Duration(i+1)*time.Second), uint64(i+1)
		track.Add(export.NewReport(s))
	}
	s.Final, s.Curves, s.Course = true, track.Curves(), track.Course()
	return export.NewReport(s)
}

func written(t *testing.T, r *export.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, r); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// Eight hours are one file of bounded size that asks for nothing.
func TestLongRunIsOneSmallFile(t *testing.T) {
	text := written(t, report(8*3600))
	if len(text) > 1_500_000 {
		t.Errorf("%d bytes", len(text))
	}
	for _, bad := range []string{"http:", "https:", "src=", "href=", "<script", "<link", "url(",
		"@import", " style="} {
		if strings.Contains(text, bad) {
			t.Errorf("the page has %q", bad)
		}
	}
	if strings.Count(text, "<svg") != 6 {
		t.Errorf("%d pictures", strings.Count(text, "<svg"))
	}
	if dir := os.Getenv("TCPCOPY_PAGES"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "report.html"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Every number of the account is on the page, as the JSON has it.
func TestNumbersAreTheReport(t *testing.T) {
	r := report(100)
	text := written(t, r)
	for _, want := range []string{
		number(r.Sessions.Captured), number(r.Sessions.Delivered), number(r.Bytes.Captured),
		percent(r.Sessions.DeliveredPercent),
		number(r.Sessions.Dropped["capture_gap"]), number(r.Gate.Turns), number(r.Packets.Captured),
		fmt.Sprint(r.Protocol.Times.Whole.P99),
		fmt.Sprint(r.Protocol.Production.Times.Whole.Median),
		number(r.Protocol.Status["2xx"]), number(r.Connections), "connection refused",
		"State 100 of the run",
		r.Fidelity.Verdict, score(r.Fidelity.Value),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not have %s", want)
		}
	}
}

// A comparison of answers is on the page: its verdict, why, and the first of the differences.
func TestComparison(t *testing.T) {
	r := report(3)
	if strings.Contains(written(t, r), "Answers compared") {
		t.Error("a page of a run that compared nothing speaks of it")
	}
	c := &verdict.Result{Verdict: verdict.Differs, Why: []string{"GET /: <b>X-New"}, Due: 1234,
		Compared: 1200, Excluded: map[string]uint64{"misaligned": 34, "left <b>out": 1},
		Rules:     []verdict.RuleResult{{Rule: "body.<b>id"}, {Rule: "body.at", Silenced: 4321}},
		Endpoints: []verdict.EndpointResult{{Endpoint: "GET /<b>user", Compared: 987}},
		Statuses:  []verdict.StatusResult{{Production: 200, Target: 0, Answers: 56}}}
	for i := range 60 {
		c.Cells = append(c.Cells, verdict.Cell{Endpoint: "GET /user/*", Kind: "value",
			Path: fmt.Sprintf("body.<i>%d", i), From: "a string", To: "null", Proven: i == 0})
	}
	c.Cells[0].Pair = []verdict.Row{{Path: "status", From: "200", To: "200"},
		{Path: "body.<i>0", From: "text of <b>5 bytes", To: "null", Differ: "type"}}
	r.Compare = c
	text := written(t, r)
	for _, want := range []string{"differs", "GET /: &lt;b&gt;X-New", number(1200), number(1234),
		"<td class=\"n\">34</td><td>of a protocol that is not known", "left &lt;b&gt;out",
		"GET /user/*", "body.&lt;i&gt;49", "a string", "null", "has all 60", "GET /&lt;b&gt;user",
		number(987), "body.&lt;b&gt;id", number(4321), "<td class=\"n\">none</td>",
		"<tr class=\"differs\"><th scope=\"row\">body.&lt;i&gt;0</th>" +
			"<td>text of &lt;b&gt;5 bytes</td><td>null</td><td><strong>type</strong></td>",
		"<tr><th scope=\"row\">status</th><td>200</td><td>200</td><td></td></tr>"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not have %s", want)
		}
	}
	c.Cells[0].Both = 8765
	c.Against = &verdict.AgainstResult{Targets: []string{"10.0.0.2:8080"}, Answered: 1111,
		Lacking: map[string]uint64{"target_<b>refused": 22}}
	against := written(t, r)
	for _, want := range []string{"10.0.0.2:8080, was asked the same: " + number(1111),
		"22 without it (target_&lt;b&gt;refused)", ">both</th>", number(8765)} {
		if !strings.Contains(against, want) {
			t.Errorf("the page does not have %s", want)
		}
	}
	text += against
	if strings.Contains(text, "body.&lt;i&gt;50") || strings.Contains(text, "<i>") ||
		strings.Contains(text, "<b>") {
		t.Error("too many differences, or markup from one")
	}
	if strings.Index(text, "Answers compared") > strings.Index(text, "Fidelity") {
		t.Error("the verdict on the answers does not come first")
	}
}

// What comes from outside is text.
func TestNamesAreText(t *testing.T) {
	r := report(3)
	r.Mappings = []string{`<img src=x onerror="alert(1)">`}
	r.Sessions.Dropped[`<b>"new"`] = 1
	r.Findings = []export.Finding{{Code: "TC0204", Text: "<b>rule", Fix: []string{"<b>nft"}}}
	text := written(t, r)
	if strings.Contains(text, "<script") || strings.Contains(text, "<img") ||
		strings.Contains(text, "<b>") {
		t.Error("markup from a name")
	}
	for _, want := range []string{"web1&lt;script&gt;", "TC0204", "&lt;b&gt;rule", "&lt;b&gt;nft"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not on the page", want)
		}
	}
}

// The parts of the flow sum to what was captured, whatever there is.
func TestFlowSums(t *testing.T) {
	f := &export.FlowReport{
		Captured:  1000,
		Delivered: 900,
		InFlight:  7,
		Dropped:   map[string]uint64{},
	}
	left := uint64(93)
	for i, r := range ledger.Reasons()[:20] {
		n := min(left, uint64(i))
		f.Dropped[r.String()] = n
		left -= n
	}
	f.Dropped["shutdown"] += left
	var sum uint64
	parts := branches(f)
	for _, b := range parts {
		sum += b.n
	}
	if sum != f.Captured || len(parts) != 2+maxBranches {
		t.Errorf("%d of %d in %d parts", sum, f.Captured, len(parts))
	}
	// Bands leave without overlap, in order, and cover all of it.
	text := string(Flow(&export.Report{Sessions: *f}))
	starts := regexp.MustCompile(`M150 ([\d.]+)C`).FindAllStringSubmatch(text, -1)
	last := 0.0
	for _, m := range starts {
		y, err := strconv.ParseFloat(m[1], 64)
		if err != nil || y < last {
			t.Errorf("%v begins above %v", m, last)
		}
		last = y
	}
	if len(starts) != len(parts) {
		t.Errorf("%d bands of %d parts", len(starts), len(parts))
	}
}

// A report without a course, or of nothing, is a page too.
func TestLittleToShow(t *testing.T) {
	for _, s := range []*export.Snapshot{{}, {Replay: &export.Replay{Files: []string{"a"}}}} {
		if text := written(t, export.NewReport(s)); strings.Contains(text, "<path class=\"line") {
			t.Error("a chart of nothing")
		}
	}
	r := report(5)
	r.Course.At = r.Course.At[1:]
	if err := Write(new(bytes.Buffer), r); err == nil {
		t.Error("a course that contradicts itself is taken")
	}
}

func TestTicks(t *testing.T) {
	for f, want := range map[float64]float64{0.3: 0.5, 1: 1, 3: 5, 7: 10, 120: 200} {
		if got := niceStep(f); math.Abs(got-want) > 1e-9 {
			t.Errorf("step of %v: %v", f, got)
		}
	}
	for _, end := range []float64{0.5, 7, 61, 600, 3600, 28800, 100000} {
		if n := len(timeTicks(end)); n < 3 || n > 14 {
			t.Errorf("%d ticks in %v s", n, end)
		}
	}
	for f, want := range map[float64]string{0: "0s", 0.5: "500ms", 20: "20s", 120: "2m",
		90: "1m30s", 7200: "2h", 5400: "1h30m"} {
		if got := clock(f); got != want {
			t.Errorf("%v s is %s", f, got)
		}
	}
	for f, want := range map[float64]string{0: "0", 0.25: "0.25", 999: "999", 1234: "1234",
		12345: "12.3k", 3e6: "3M"} {
		if got := short(f); got != want {
			t.Errorf("%v is %s", f, got)
		}
	}
}
