package observe

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"tcpcopy/internal/account/export"
	htmlpage "tcpcopy/internal/account/page"
	"tcpcopy/internal/account/verdict"
	"tcpcopy/internal/core/session"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
)

// hostile are texts of which a careless page would run a part.
var hostile = []string{
	`<script>ran(1)</script>`, `<script>console.log("ran")</script>`,
	`</script><script>console.log("ran")</script>`,
	`"><img src=x onerror=console.log("ran")>`, `' onmouseover='console.log("ran")`,
	`<svg onload=console.log("ran")>`, `<iframe srcdoc="<script>parent.ran=1</script>">`,
	`</td></tr></table><style>@import "http://192.0.2.1/x.css"</style>`,
	`<link rel=stylesheet href=http://192.0.2.1/y.css>`, `javascript:console.log("ran")`,
	"{{.Version}}", "&lt;b&gt;", `<base href=http://192.0.2.1/>`,
}

// hostileAnswer is an answer with hostile headers and a body that has hostile keys, and values, of
// which number is the last part.
func hostileAnswer(t *testing.T, number int) []byte {
	t.Helper()
	fields := make(map[string]any)
	for i, text := range hostile {
		fields[text] = fmt.Sprintf("%s%d", text, number)
		fields[fmt.Sprint("list", i)] = []string{text, fmt.Sprint(text, number)}
	}
	body, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nLocation: %s%d"+
		"\r\nContent-Length: %d\r\n\r\n%s", hostile[0], number, len(body), body)
}

// hostileResult compares two servers with hostile answers to hostile requests. It shows all values.
func hostileResult(t *testing.T) *verdict.Result {
	t.Helper()
	rules := &verdict.Rules{Show: []string{"body*", "header*"}}
	digesting := func() *proto.Digesting {
		with := proto.NewDigesting(1, 1<<26)
		with.Wanted = rules.Wanted()
		return with
	}
	tally := verdict.NewTally(digesting(), rules, verdict.ManyBases)
	with := digesting()
	answers := proto.Follow(http1.NewAnswers())
	answers.Digest(http1.Protocol.Comparison.NewDigester(with))
	label := http1.Protocol.Comparison.NewLabeller(with)
	digest := func(number int) *proto.Digest {
		var scratch []proto.Answer
		out := answers.Feed(0, hostileAnswer(t, number), nil, &scratch)
		if len(out) != 1 || out[0].Digest == nil {
			t.Fatalf("%d answers", len(out))
		}
		return out[0].Digest
	}
	for range 60 {
		for _, text := range hostile {
			label.Write([]byte("GET /" + strings.ReplaceAll(text, " ", "\t") +
				" HTTP/1.1\r\n\r\n"))
			endpoint, hash := label.End()
			tally.Due()
			tally.Compare(&session.Exchange{Unit: new(session.Unit), Endpoint: endpoint,
				Request: hash, Production: digest(1), Target: digest(2)})
		}
	}
	var all verdict.Account
	var at verdict.Look
	for !tally.Look(&all, &at, true) {
	}
	return all.Result(rules)
}

// TestHostileBodies looks at the page of a comparison of answers whose keys, values, headers and
// paths are HTML. They are shown as text, and nothing of them runs, or makes an element.
func TestHostileBodies(t *testing.T) {
	last := state(20).Snapshot
	last.Final, last.Compare = true, hostileResult(t)
	if last.Compare.Verdict != verdict.Differs {
		t.Fatalf("%s %q", last.Compare.Verdict, last.Compare.Why)
	}
	var b bytes.Buffer
	if err := htmlpage.Write(&b, export.NewReport(last)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "run.html")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	ctx := browser(t)
	w := watchPage(t, ctx)
	run(t, ctx, chromedp.Navigate("file://"+path))
	drawn(t, ctx)
	// Every element that is hovered over, too, and every disclosure is opened.
	const touch = `for (const e of document.querySelectorAll("*")) {
		e.dispatchEvent(new MouseEvent("mouseover", {bubbles: true}));
		if (e.localName == "details") e.open = true;
	} true`
	run(t, ctx, chromedp.Evaluate[bool](touch))
	drawn(t, ctx)
	const made = `[...document.querySelectorAll(
			"script, img, iframe, link, base, style ~ style, a")].
		map(e => e.outerHTML.slice(0, 80)).join("\n") + (window.ran || "") +
		[...document.querySelectorAll("*")].flatMap(e => e.getAttributeNames()).
		filter(n => n.startsWith("on")).join()`
	if got := run(t, ctx, chromedp.Evaluate[string](made)); got != "" {
		t.Errorf("bodies have made elements: %s", got)
	}
	text := run(t, ctx, chromedp.Evaluate[string]("document.body.textContent"))
	for _, want := range []string{"body." + hostile[0], "<svg onload=", "javascript:",
		"{{_Version}}"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page has no %s as text", want)
		}
	}
	w.quiet(t, "file://"+path)
}
