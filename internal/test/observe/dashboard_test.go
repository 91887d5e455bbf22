package observe

import (
	"bytes"
	"encoding/json"
	"image"
	"image/png"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"tcpcopy/internal/account/dashboard"
	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/fleet"
	"tcpcopy/internal/account/status"
	"tcpcopy/internal/account/verdict"
	"tcpcopy/internal/account/web"
)

// source feeds a fleet with the state of a copier, whose load can be changed.
type source struct {
	fleet *fleet.Fleet
	load  atomic.Uint64 // turns in each step
	turns uint64
	steps int
	last  *export.Report
}

// step is a further second of the copier's.
func (s *source) step(t *testing.T, change func(*export.Snapshot)) {
	t.Helper()
	s.steps++
	s.turns += s.load.Load()
	shot := state(uint64(s.steps)).Snapshot
	shot.Now, shot.Sequence = shot.Start.Add(time.Duration(s.steps)*time.Second), uint64(s.steps)
	shot.Counters.Turns, shot.Counters.Open = s.turns, 5
	shot.Compare = compared(uint64(s.steps))
	if change != nil {
		change(shot)
	}
	s.last = export.NewReport(shot)
	text, err := json.Marshal(s.last)
	if err != nil {
		t.Fatal(err)
	}
	s.fleet.Add("a", &status.Node{
		Kind: "copier", Host: "<script>alert(1)</script>", PID: 7, Account: text,
	}, nil, shot.Now)
}

// compared is what a comparison of 100 answers for each step has found.
func compared(steps uint64) *verdict.Result {
	return &verdict.Result{
		Verdict: verdict.Differs, Due: 100 * steps, Compared: 98 * steps,
		Why: []string{"GET /user/*: body.roles: another type"},
		Cells: []verdict.Cell{
			{Endpoint: "GET /user/*", Path: "body.roles", Kind: "type", From: "an array",
				To: "a string", Sessions: 7 * steps, Alone: 7 * steps, Evidence: 9.1, Proven: true,
				Pair: []verdict.Row{
					{Path: "status", From: "200", To: "200"},
					{Path: "body.<script>console.log(1)</script>", From: "null", To: "null"},
					{Path: "body.roles", From: "list of 2", To: "text of 7 bytes", Differ: "type"},
				}},
			{Endpoint: "POST /login", Path: "body.<b>token", Kind: "value", Sessions: 3,
				Known: "jwt"},
			{Endpoint: "GET /\"onmouseover=console.log(2)<img src=x onerror=console.log(3)>",
				Path: "body.a", Kind: "missing", From: "</td><script>console.log(4)</script>"},
		},
		Excluded:  map[string]uint64{"in_flight": 2 * steps},
		Rules:     []verdict.RuleResult{{Rule: "body.id", Silenced: 3}, {Rule: "body.at"}},
		Endpoints: []verdict.EndpointResult{{Endpoint: "GET /user/*", Compared: 98 * steps}},
		Statuses: []verdict.StatusResult{{Production: 200, Target: 200, Answers: 97 * steps},
			{Production: 200, Target: 0, Answers: steps}},
	}
}

// ink returns the rectangle that the color of the target's line covers in a picture of a plot.
func ink(t *testing.T, picture []byte) image.Rectangle {
	t.Helper()
	return inkIn(t, picture, image.Rect(0, 0, 1<<16, 1<<16))
}

// inkIn is ink within a part of the picture.
func inkIn(t *testing.T, picture []byte, part image.Rectangle) image.Rectangle {
	t.Helper()
	img, err := png.Decode(bytes.NewReader(picture))
	if err != nil {
		t.Fatal(err)
	}
	var box image.Rectangle
	b := img.Bounds().Intersect(part)
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			r, g, bl, _ := img.At(x, y).RGBA()
			if r>>8 > 0xa0 && g>>8 < 0x70 && bl>>8 < 0x40 { // --target, on white
				box = box.Union(image.Rect(x, y, x+1, y+1))
			}
		}
	}
	return box
}

// The page shows the numbers of the report, moves pixels when the traffic grows, shows a target
// that is out within 3 s, and neither asks elsewhere nor complains.
func TestDashboardInABrowser(t *testing.T) {
	s := &source{fleet: fleet.New([]string{"a"})}
	s.load.Store(1000)
	for range 30 {
		s.step(t, nil)
	}
	server, err := dashboard.Listen("127.0.0.1:0", web.Access{}, s.fleet, explain)
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	at := "http://" + server.Addr().String()
	ctx := browser(t)
	w := watchPage(t, ctx)
	run(t, ctx, chromedp.EmulateViewport(1280, 900))
	run(t, ctx, chromedp.Navigate(at+"/"))
	await := func(expression string) {
		t.Helper()
		await(t, ctx, expression)
	}
	text := func(id string) string { return text(t, ctx, id) }
	await(`document.getElementById("state").textContent.includes("state 30")`)
	if got := text("n-turns"); got != "30,000" {
		t.Errorf("%s turns, want 30,000", got)
	}
	if got := text("n-sessions-captured"); strings.ReplaceAll(got, ",", "") !=
		strings.TrimSpace(string(mustJSON(t, s.last.Sessions.Captured))) {
		t.Errorf("%s sessions, want %d", got, s.last.Sessions.Captured)
	}
	if !strings.Contains(text("peers"), "<script>alert(1)</script>") {
		t.Error("the node's name is not on the page as text")
	}
	if got := text("compared-word") + text("cells"); !strings.Contains(got, "differs") ||
		!strings.Contains(got, "body.roles") || !strings.Contains(got, "body.<b>token") {
		t.Errorf("of the comparison there is %q", got)
	}
	plot := chromedp.Screenshot(chromedp.CSS("#charts .chart:first-child canvas"))
	await(`document.querySelectorAll("#charts canvas").length === 6`)
	before := ink(t, run(t, ctx, plot))
	if before.Empty() {
		t.Error("the plot is blank")
	}
	s.load.Store(4000)
	for range 10 {
		s.step(t, nil)
	}
	await(`document.getElementById("state").textContent.includes("state 40")`)
	run(t, ctx, chromedp.Reload())
	await(`document.getElementById("state").textContent.includes("state 40")`)
	await(`document.querySelectorAll("#charts canvas").length === 6`)
	drawn(t, ctx)
	after := ink(t, run(t, ctx, plot))
	if after.Dy() < before.Dy()+20 {
		t.Errorf("four times the traffic: the line covers %v, before %v", after, before)
	}
	began := time.Now()
	s.step(t, func(shot *export.Snapshot) { shot.Targets[0].OutOf = shot.Targets[0].Shards })
	await(`document.querySelector("#targets .bad") !== null`)
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("a target that is out is shown after %v", d)
	}
	fits(t, ctx)
	accessible(t, ctx)
	pictures(t, ctx, "dashboard")
	w.quiet(t, at+"/")
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
