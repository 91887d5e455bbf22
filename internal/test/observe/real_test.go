package observe

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/status"
	"tcpcopy/internal/lab/netlab"
)

// negative is a number below zero.
var negative = regexp.MustCompile(`[-−]\d`)

// realAt is where the copier of the test has its dashboard, on the production host.
const realAt = "127.0.0.1:8436"

// real is a copy between virtual hosts, and the page of its dashboard.
type real struct {
	net     *netlab.Net
	binary  string
	socket  string // where the copier answers tcpcopy status
	copier  *netlab.Cmd
	clients atomic.Int64 // that ask now
}

// serve answers requests on a host, until the returned function is called.
func (r *real) serve(t *testing.T, host *netlab.Namespace, port int) (stop func()) {
	t.Helper()
	l, err := host.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "answer")
	})}
	var served sync.WaitGroup
	served.Go(func() { server.Serve(l) })
	stop = sync.OnceFunc(func() {
		server.Close()
		served.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// start starts the copier, and waits until it is ready.
func (r *real) start(t *testing.T) {
	t.Helper()
	r.copier = r.net.Production.Command(context.Background(), r.binary, "copy",
		"-x", fmt.Sprintf("80-%[1]s:8080|%[1]s:8081", netlab.TargetAddr4), "--balance", "session",
		"--both", "--dashboard", realAt, "--status", r.socket, "--stats", "0")
	if err := r.copier.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the copier is ready", func() bool { return r.get("/readyz") == nil })
}

// stop interrupts the copier, and waits for its end.
func (r *real) stop(t *testing.T) {
	t.Helper()
	if err := r.copier.Process.Signal(syscall.SIGINT); err != nil {
		t.Error(err)
	}
	r.copier.Wait()
}

// get asks the copier's status socket.
func (r *real) get(path string) error {
	c := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", r.socket)
		}}}
	answer, err := c.Get("http://tcpcopy" + path)
	if err != nil {
		return err
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	return nil
}

// relay makes the dashboard reachable from this host, where the browser is, and returns its URL.
func (r *real) relay(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			here, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer here.Close()
				there, err := r.net.Production.Dial(context.Background(), nil, "tcp", realAt)
				if err != nil {
					return
				}
				defer there.Close()
				go func() {
					io.Copy(there, here)
					there.(*net.TCPConn).CloseWrite()
				}()
				io.Copy(here, there)
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

// load is a client that asks a hundred times a second while i is less than r.clients; with each
// tenth request it connects anew.
func (r *real) load(t *testing.T, i int64, over <-chan struct{}) {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return r.net.Client.Dial(ctx, nil, network, address)
		}}}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		if i >= r.clients.Load() {
			client.CloseIdleConnections()
			continue
		}
		answer, err := client.Get("http://" +
			netip.AddrPortFrom(netlab.ProductionAddr4, 80).String())
		if err != nil {
			t.Error(err)
			return
		}
		io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if n%10 == 0 {
			client.CloseIdleConnections()
		}
	}
}

// account returns the copier's account, as tcpcopy status --json has it.
func (r *real) account(t *testing.T) (a export.Report) {
	t.Helper()
	n, err := status.Ask(t.Context(), r.socket)
	if err == nil {
		err = json.Unmarshal(n.Account, &a)
	}
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// riseOf returns by how many pixels the target's line is higher at its right end than in its second
// fifth from the left.
func riseOf(t *testing.T, picture []byte) int {
	t.Helper()
	box := ink(t, picture)
	part := func(from, to int) image.Rectangle {
		return image.Rect(box.Min.X+box.Dx()*from/100, box.Min.Y, box.Min.X+box.Dx()*to/100,
			box.Max.Y)
	}
	left, right := inkIn(t, picture, part(20, 40)), inkIn(t, picture, part(90, 100))
	return (left.Min.Y+left.Max.Y)/2 - (right.Min.Y+right.Max.Y)/2
}

// newReal makes the hosts and builds tcpcopy.
func newReal(t *testing.T) *real {
	t.Helper()
	n, err := netlab.New(netlab.Config{})
	if denied := (*netlab.PermissionError)(nil); errors.As(err, &denied) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	dir, err := os.MkdirTemp("", "observe-") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	r := &real{net: n, binary: filepath.Join(dir, "tcpcopy"), socket: filepath.Join(dir, "s")}
	build := exec.Command("go", "build", "-o", r.binary, "./cmd/tcpcopy")
	build.Dir, build.Env = "../../..", append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build tcpcopy: %v\n%s", err, out)
	}
	return r
}

// TestDashboardOfARealCopy looks at a copy in a browser: twice the traffic moves pixels, a target
// that is gone is seen within 3 s, the totals are those of tcpcopy status, and a copier that is
// started again is found.
func TestDashboardOfARealCopy(t *testing.T) {
	if testing.Short() {
		return
	}
	ctx := browser(t)
	r := newReal(t)
	r.serve(t, r.net.Production, 80)
	r.serve(t, r.net.Target, 8080)
	stopTarget := r.serve(t, r.net.Target, 8081)
	at := r.relay(t)
	r.start(t)
	over := make(chan struct{})
	var loads sync.WaitGroup
	for i := range int64(8) {
		loads.Go(func() { r.load(t, i, over) })
	}
	defer loads.Wait()
	defer close(over)

	w := watchPage(t, ctx)
	run(t, ctx, chromedp.EmulateViewport(1280, 900))
	run(t, ctx, chromedp.Navigate(at+"/"))
	r.clients.Store(4)
	plot := chromedp.Screenshot(chromedp.CSS("#charts .chart:first-child canvas"))
	rise := func() int {
		drawn(t, ctx)
		return riseOf(t, run(t, ctx, plot))
	}
	await(t, ctx, `document.querySelectorAll("#targets tr").length === 3`)
	eventually(t, "the line of steady traffic is level", func() bool {
		drawn(t, ctx)
		box := ink(t, run(t, ctx, plot))
		return box.Dx() > 100 && rise() < 15
	})
	r.clients.Store(8)
	eventually(t, "twice the traffic moves the line", func() bool { return rise() > 25 })

	began := time.Now()
	stopTarget()
	await(t, ctx, `document.querySelector("#targets .bad") !== null`)
	if d := time.Since(began); d > 3*time.Second {
		t.Errorf("a target that is gone is seen after %v", d)
	}

	r.clients.Store(0)
	number := func(id string) string { return strings.ReplaceAll(text(t, ctx, id), ",", "") }
	var a export.Report
	eventually(t, "the page has the totals of tcpcopy status", func() bool {
		a = r.account(t)
		return number("n-turns") == fmt.Sprint(a.Gate.Turns) &&
			number("n-sessions-captured") == fmt.Sprint(a.Sessions.Captured) &&
			number("n-delivered") == fmt.Sprint(a.Sessions.Delivered) &&
			number("n-in-flight") == fmt.Sprint(a.Sessions.InFlight)
	})
	if a.Gate.Turns == 0 || a.Sessions.Captured == 0 {
		t.Errorf("%d turns, %d sessions", a.Gate.Turns, a.Sessions.Captured)
	}

	r.stop(t)
	await(t, ctx, `document.getElementById("state").className === "lost"`)
	r.start(t)
	defer r.stop(t)
	r.clients.Store(4)
	await(t, ctx, `document.getElementById("state").className !== "lost"`)
	eventually(t, "the new copier's numbers are seen", func() bool {
		var n uint64
		fmt.Sscan(number("n-turns"), &n)
		return n > 0 && n < a.Gate.Turns
	})
	if rates := text(t, ctx, "charts"); negative.MatchString(rates) {
		t.Errorf("a rate is negative: %q", rates)
	}
	r.clients.Store(0)
	w.quiet(t, at+"/")
}
