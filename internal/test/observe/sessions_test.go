package observe

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"tcpcopy/internal/account/dashboard"
	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/fleet"
	"tcpcopy/internal/account/web"
)

// explain explains every code.
func explain(code string) string { return code + ": <b>not markup</b>" }

// asked is a copier with sessions, which notes what it is asked for.
type asked struct {
	mu  sync.Mutex // guards all
	all []export.SessionQuery
}

func (a *asked) sessions(
	_ context.Context, _ string, q export.SessionQuery,
) (*export.Sessions, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.all = append(a.all, q)
	s := &export.Sessions{Live: 60_000, Looked: 60_000, Matched: 1234}
	for i := range 200 {
		s.First = append(s.First, export.Session{
			Client:     fmt.Sprintf("192.0.2.%d:%d", i, 40000+i),
			Production: "10.0.0.1:80", Target: "10.0.0.2:8080", Copy: 1, Phase: "flowing/whole",
			WaitsFor: "answer", Waited: 3 / float64(i+1), Lag: 1 / float64(i+1), Held: 65536 - i,
		})
	}
	s.First[1].NoCopy = "<script>alert(2)</script>"
	return s, nil
}

// withSessions is a page of a copier with sessions and findings, in a browser.
func withSessions(t *testing.T) (ctx context.Context, w *watcher, at string, a *asked) {
	t.Helper()
	s := &source{fleet: fleet.New([]string{"a"})}
	a = new(asked)
	s.fleet.Ask = a.sessions
	s.load.Store(1000)
	for range 30 {
		s.step(t, func(shot *export.Snapshot) {
			shot.Findings = []export.Finding{{
				Code: "TC0204", Text: "a rule drops answers: <script>alert(3)</script>",
				Fix: []string{"nft delete rule inet filter input handle 4"},
			}}
		})
	}
	server, err := dashboard.Listen("127.0.0.1:0", web.Access{}, s.fleet, explain)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	at = "http://" + server.Addr().String()
	ctx = browser(t)
	w = watchPage(t, ctx)
	run(t, ctx, chromedp.EmulateViewport(1280, 900))
	run(t, ctx, chromedp.Navigate(at+"/"))
	await(t, ctx, `document.getElementById("state").textContent.includes("state 30")`)
	return ctx, w, at, a
}

// text returns the text of an element.
func text(t *testing.T, ctx context.Context, id string) string {
	t.Helper()
	return run(t, ctx, chromedp.Evaluate[string](
		`document.getElementById("`+id+`").textContent`))
}

// The sessions are asked for when they come into sight, as the form says, and all that comes from
// outside is text.
func TestSessionsInABrowser(t *testing.T) {
	ctx, w, at, a := withSessions(t)
	if a.mu.Lock(); len(a.all) != 0 {
		t.Errorf("the sessions are asked for out of sight: %v", a.all)
	}
	a.mu.Unlock()
	run(t, ctx, chromedp.Evaluate[bool](`document.getElementById("now").scrollIntoView(), true`))
	await(t, ctx, `document.querySelectorAll("#sessions tr").length === 201`)
	if got := text(t, ctx, "sessions-count"); got != "60,000 live, 1,234 match, 200 shown" {
		t.Errorf("it counts %q", got)
	}
	for id, want := range map[string]string{
		"sessions": "<script>alert(2)</script>", "findings-list": "<script>alert(3)</script>",
	} {
		if !strings.Contains(text(t, ctx, id), want) {
			t.Errorf("%s is not in %s as text", want, id)
		}
	}
	run(t, ctx, chromedp.Evaluate[bool](`(() => {
		const order = document.getElementById("sessions-order");
		order.value = "held";
		order.dispatchEvent(new Event("change"));
		return true;
	})()`))
	run(t, ctx, chromedp.SendKeys(chromedp.CSS("#sessions-filter"), "10.0.0.0/8 answer"))
	want := export.SessionQuery{Order: "held", Filter: "10.0.0.0/8 answer"}
	await(t, ctx, `document.getElementById("sessions-filter").ariaInvalid === "false"`)
	asks := func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.all) > 0 && a.all[len(a.all)-1] == want
	}
	eventually(t, "the filter is asked for", asks)
	run(t, ctx, chromedp.SendKeys(chromedp.CSS("#sessions-filter"), " web1"))
	await(t, ctx, `document.getElementById("sessions-count").textContent.includes("web1")`)
	fits(t, ctx)
	accessible(t, ctx)
	scheme(t, ctx, "dark") // contrast
	accessible(t, ctx)
	pictures(t, ctx, "sessions")
	// A filter that is wrong is refused, which the browser notes; all else is quiet.
	w.mu.Lock()
	for _, url := range w.asked {
		if !strings.HasPrefix(url, at) && !strings.HasPrefix(url, "data:") {
			t.Errorf("the page asks for %s", url)
		}
	}
	if len(w.complains) > 0 {
		t.Errorf("complains %v", w.complains)
	}
	w.mu.Unlock()
}

// All that can be worked can be reached and worked by the keyboard alone, and is seen to have the
// focus.
func TestKeyboardAlone(t *testing.T) {
	ctx, w, at, _ := withSessions(t)
	want := run(t, ctx, chromedp.Evaluate[int](
		`document.querySelectorAll("a, input, select, button, summary, [tabindex='0']").length`))
	reached := map[string]bool{}
	for range want {
		run(t, ctx, chromedp.KeyEvent(kb.Tab))
		what := run(t, ctx, chromedp.Evaluate[string](`(() => {
			const e = document.activeElement;
			const style = getComputedStyle(e);
			if (style.outlineStyle === "none") return "no outline: " + e.outerHTML;
			return [...document.querySelectorAll("*")].indexOf(e) + " " + e.tagName;
		})()`))
		if strings.HasPrefix(what, "no outline") {
			t.Error(what)
		}
		reached[what] = true
		switch {
		case strings.HasSuffix(what, " SUMMARY"):
			run(t, ctx, chromedp.KeyEvent(kb.Enter))
			await(t, ctx,
				`document.querySelector("details pre").textContent.includes("TC0204: <b>")`)
		case strings.HasSuffix(what, " SELECT"):
			run(t, ctx, chromedp.KeyEvent(kb.ArrowDown))
			await(t, ctx, `document.getElementById("sessions-order").value === "lag"`)
		case strings.HasSuffix(what, " INPUT"):
			run(t, ctx, chromedp.KeyEvent("answer"))
			await(t, ctx, `document.getElementById("sessions-filter").value === "answer"`)
		}
	}
	if len(reached) != want {
		t.Errorf("%d of %d are reached: %v", len(reached), want, reached)
	}
	w.quiet(t, at+"/")
}
