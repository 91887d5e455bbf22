package observe

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/history"
	htmlpage "tcpcopy/internal/account/page"
)

// browser returns a context of a headless Chromium that is the test's own.
func browser(t *testing.T) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("no chromium here")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	return ctx
}

// watcher notes what a page asks for and complains about.
type watcher struct {
	mu        sync.Mutex
	asked     []string
	complains []string
}

func watchPage(t *testing.T, ctx context.Context) *watcher {
	t.Helper()
	w := new(watcher)
	err := chromedp.Listen(ctx, func(event any) {
		w.mu.Lock()
		defer w.mu.Unlock()
		switch e := event.(type) {
		case *network.EventRequestWillBeSent:
			w.asked = append(w.asked, e.Request.URL)
		case *runtime.EventConsoleAPICalled:
			w.complains = append(w.complains, string(e.Type))
		case *runtime.EventExceptionThrown:
			w.complains = append(w.complains, e.ExceptionDetails.Text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	return w
}

// run runs an action, and returns its value.
func run[T any](t *testing.T, ctx context.Context, a chromedp.Action[T]) T {
	t.Helper()
	v, err := chromedp.Run(ctx, a)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// await waits until an expression is true of the page, and looks at it whenever the page changes.
func await(t *testing.T, ctx context.Context, expression string) {
	t.Helper()
	const script = `new Promise((done, never) => {
		const so = () => { %s };
		const over = setTimeout(() => never(new Error("not within 10 s")), 10000);
		const look = () => { if (so()) { watch.disconnect(); clearTimeout(over); done(true); } };
		const watch = new MutationObserver(look);
		watch.observe(document, {
			subtree: true, childList: true, characterData: true, attributes: true,
		});
		look();
	})`
	_, err := chromedp.Run(ctx, chromedp.Evaluate[bool](
		strings.Replace(script, "%s", "return "+expression, 1), chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
}

// eventually waits until so returns true.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for end := time.Now().Add(10 * time.Second); !so(); <-look.C {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// pictures keeps pictures of the page for people to look at, in the directory TCPCOPY_PAGES: in the
// light and in the dark, narrow and wide.
func pictures(t *testing.T, ctx context.Context, name string) {
	t.Helper()
	dir := os.Getenv("TCPCOPY_PAGES")
	if dir == "" {
		return
	}
	for _, p := range []struct {
		name   string
		width  int64
		scheme string
	}{
		{"", 1280, "light"}, {"-dark", 1280, "dark"}, {"-360", 360, "light"},
		{"-4k", 3840, "light"},
	} {
		scheme(t, ctx, p.scheme)
		run(t, ctx, chromedp.EmulateViewport(p.width, 900))
		drawn(t, ctx)
		shot := run(t, ctx, chromedp.FullScreenshot(100))
		if err := os.WriteFile(filepath.Join(dir, name+p.name+".png"), shot, 0o644); err != nil {
			t.Error(err)
		}
	}
	scheme(t, ctx, "light")
	run(t, ctx, chromedp.EmulateViewport(1280, 900))
}

// scheme has the browser prefer light or dark pages.
func scheme(t *testing.T, ctx context.Context, value string) {
	t.Helper()
	_, err := chromedp.Call(ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// drawn waits until the browser has drawn what the page shows: the next frame but one.
func drawn(t *testing.T, ctx context.Context) {
	t.Helper()
	const frame = "new Promise(done => requestAnimationFrame(() => done(true)))"
	for range 2 {
		run(t, ctx, chromedp.Evaluate[bool](frame, chromedp.EvalAwaitPromise))
	}
}

// quiet fails the test if the page has complained, or asked for what does not begin with at.
func (w *watcher) quiet(t *testing.T, at string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.asked) == 0 || len(w.complains) > 0 {
		t.Errorf("asked %v, complains %v", w.asked, w.complains)
	}
	for _, url := range w.asked {
		if !strings.HasPrefix(url, at) && !strings.HasPrefix(url, "data:") {
			t.Errorf("the page asks for %s", url)
		}
	}
}

// fits fails the test if the page is wider than its window, from 360 pixels to 4K.
func fits(t *testing.T, ctx context.Context) {
	t.Helper()
	for _, width := range []int64{360, 1280, 3840} {
		run(t, ctx, chromedp.EmulateViewport(width, 900))
		over := run(t, ctx, chromedp.Evaluate[float64](
			`document.documentElement.scrollWidth - document.documentElement.clientWidth`))
		if over > 0 {
			t.Errorf("the page is %v pixels wider than a window of %d", over, width)
		}
	}
	run(t, ctx, chromedp.EmulateViewport(1280, 900))
}

// accessible fails the test if axe-core finds fault with the page. TCPCOPY_AXE names axe.min.js, of
// npm's axe-core, as make observe sets it; without it nothing is tested.
func accessible(t *testing.T, ctx context.Context) {
	t.Helper()
	path := os.Getenv("TCPCOPY_AXE")
	if path == "" {
		return
	}
	script, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const report = `axe.run().then(r => r.violations.map(v => v.id + ": " + v.nodes[0].html))`
	found := run(t, ctx, chromedp.Evaluate[[]string](string(script)+"\n;"+report,
		chromedp.EvalAwaitPromise))
	for _, violation := range found {
		t.Error(violation)
	}
}

// writtenPage writes the page of a run of five minutes, and returns its path.
func writtenPage(t *testing.T) string {
	t.Helper()
	track := new(history.Track)
	var last *export.Snapshot
	for n := range uint64(20) {
		last = state(n + 1).Snapshot
		track.Add(export.NewReport(last))
	}
	last.Final, last.Course, last.Curves = true, track.Course(), track.Curves()
	last.Compare = compared(20)
	var b bytes.Buffer
	if err := htmlpage.Write(&b, export.NewReport(last)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "run.html")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// The page opens from a file, asks for nothing, fits narrow windows, and prints on A4.
func TestPageInABrowser(t *testing.T) {
	path := writtenPage(t)
	ctx := browser(t)
	w := watchPage(t, ctx)
	run(t, ctx, chromedp.Navigate("file://"+path))
	if title := run(t, ctx, chromedp.Title()); !strings.Contains(title, "80-10.0.0.2:8080") {
		t.Errorf("title %q", title)
	}
	if n := run(t, ctx, chromedp.Evaluate[int](`document.querySelectorAll("svg").length`)); n < 5 {
		t.Errorf("%d pictures", n)
	}
	// Names of the answers' fields are text, and the fields that differ are marked.
	const marked = `[...document.querySelectorAll("table.pair tr.differs th")].
		map(th => th.textContent).join() + document.querySelectorAll("script, img").length`
	if got := run(t, ctx, chromedp.Evaluate[string](marked)); got != "body.roles0" {
		t.Errorf("marked: %s", got)
	}
	shot := run(t, ctx, chromedp.FullScreenshot(100))
	fits(t, ctx)
	accessible(t, ctx)
	// 210 × 297 mm in points.
	box := regexp.MustCompile(`/MediaBox ?\[0 0 (59[456][.\d]*) (84[123][.\d]*)\]`)
	pdf := run(t, ctx, chromedp.PrintToPDF(chromedp.PDFPreferCSSPageSize()))
	if !box.Match(pdf) {
		t.Errorf("not on A4: %s", regexp.MustCompile(`/MediaBox[^\]]*\]`).Find(pdf))
	}
	scheme(t, ctx, "dark")
	paper := run(t, ctx,
		chromedp.Evaluate[string](`getComputedStyle(document.body).backgroundColor`))
	if paper == "rgb(255, 255, 255)" {
		t.Error("it is white in the dark")
	}
	w.quiet(t, "file://"+path)
	if dir := os.Getenv("TCPCOPY_PAGES"); dir != "" {
		_ = os.WriteFile(filepath.Join(dir, "report.png"), shot, 0o644)
		_ = os.WriteFile(filepath.Join(dir, "report.pdf"), pdf, 0o644)
	}
}
