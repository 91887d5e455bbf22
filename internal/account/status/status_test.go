package status

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/account/web"
)

func node() *Node {
	p := 99.5
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return &Node{
		Kind: "copier", Version: "1.2.3", Host: "web1", PID: 17, Start: start,
		Now: start.Add(90 * time.Second), Via: "raw", Sequence: 5,
		Mappings: []string{"80-10.0.0.2:8080"}, Account: []byte(`{"a":1}`),
		Sessions: 1000, Live: 12, DeliveredPercent: &p, Up: 1, Peers: 2,
		Privileges: &Privileges{Capabilities: []string{"cap_net_raw"}, NoNewPrivs: true},
	}
}

// show is a node that is ready, and has metrics.
func show(node func() *Node) *Config {
	return &Config{
		Node: node, Ready: func() bool { return true },
		Metrics: http.HandlerFunc(
			func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "a_metric 1") },
		),
	}
}

// get returns what a server at an address answers.
func get(t *testing.T, url string) (code int, body string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestPages(t *testing.T) {
	ready := false
	c := show(node)
	c.Ready = func() bool { return ready }
	s, err := Listen("127.0.0.1:0", web.Access{}, c)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m, err := ListenMetrics("127.0.0.1:0", web.Access{}, c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	at, metrics := "http://"+s.Addr().String(), "http://"+m.Addr().String()
	for _, tt := range []struct {
		url  string
		code int
		has  string
	}{
		{at + "/", 200, `"sequence":5`},
		{at + "/metrics", 200, "a_metric 1"},
		{at + "/healthz", 200, "ok"},
		{at + "/readyz", 503, "not ready"},
		{metrics + "/metrics", 200, "a_metric 1"},
		{metrics + "/healthz", 200, "ok"},
		{metrics + "/", 404, ""},
		{metrics + "/events", 404, ""},
	} {
		if code, body := get(t, tt.url); code != tt.code || !strings.Contains(body, tt.has) {
			t.Errorf("%s: %d %s", tt.url, code, body)
		}
	}
	ready = true
	if code, _ := get(t, at+"/readyz"); code != 200 {
		t.Errorf("ready: %d", code)
	}
}

// What one asks beyond loopback without a token is what it always was, and no more.
func TestBeyondLoopback(t *testing.T) {
	s, err := Listen("0.0.0.0:0", web.Access{}, show(node))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, port, _ := net.SplitHostPort(s.Addr().String())
	for path, want := range map[string]int{"/": 200, "/healthz": 200, "/metrics": 403,
		"/events": 403} {
		code, body := get(t, "http://127.0.0.1:"+port+path)
		if code != want || want == 403 && !strings.Contains(body, "--web-token") {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

func TestEvents(t *testing.T) {
	s, err := Listen("127.0.0.1:0", web.Access{}, show(node))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	resp, err := http.Get("http://" + s.Addr().String() + "/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	var got []string
	for len(got) < 8 && lines.Scan() {
		got = append(got, lines.Text())
	}
	if len(got) != 8 || got[0] != "id: 5" || got[1] != "event: state" ||
		!strings.HasPrefix(got[2], `data: {"kind":"copier"`) || got[3] != "" || got[4] != "id: 5" {
		t.Errorf("%q", got)
	}
}

func TestAskOverSocketAndAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.sock")
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	free.Close()
	for _, addr := range []string{path, address} {
		s, err := Listen(addr, web.Access{}, show(node))
		if err != nil {
			t.Fatal(err)
		}
		got, err := Ask(context.Background(), addr)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(node(), got); d != "" {
			t.Errorf("%s: (-want +got)\n%s", addr, d)
		}
		if addr == path {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("the socket is %v, %v; wanted its owner's alone", info.Mode(), err)
			}
			if _, err := Listen(path, web.Access{}, show(node)); err == nil ||
				!strings.Contains(err.Error(), "another node answers there") {
				t.Errorf("a second node at the same socket: %v", err)
			}
		}
		s.Close()
		if _, err := Ask(context.Background(), addr); err == nil {
			t.Errorf("%s answers after Close", addr)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// A socket that a killed node has left is replaced.
func TestStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	s, err := Listen(path, web.Access{}, show(node))
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestOnlyAsking(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.sock")
	ending := false
	s, err := Listen(path, web.Access{}, show(func() *Node {
		if ending {
			return nil
		}
		return node()
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client := http.Client{
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			},
		},
	}
	for _, tt := range []struct {
		method, url string
		want        int
	}{
		{"POST", "http://x/", http.StatusMethodNotAllowed},
		{"DELETE", "http://x/metrics", http.StatusMethodNotAllowed},
		{"GET", "http://x/other", http.StatusNotFound},
	} {
		r, _ := http.NewRequest(tt.method, tt.url, nil)
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%s %s: %s", tt.method, tt.url, resp.Status)
		}
	}
	ending = true
	if _, err := Ask(context.Background(), path); err == nil ||
		!strings.Contains(err.Error(), "503") {
		t.Errorf("a node that ends: %v", err)
	}
}

func TestTable(t *testing.T) {
	bad := node()
	bad.Host, bad.DeliveredPercent, bad.Peers, bad.Mappings = "web\x1b[31m2", nil, 0, nil
	bad.Privileges = nil
	var b strings.Builder
	if err := Table(&b, []Row{{"a", node(), nil}, {"b", bad, nil},
		{"/run/c.sock", nil, errors.New("ask /run/c.sock:\nrefused")}}); err != nil {
		t.Fatal(err)
	}
	want := `NODE  KIND  VERSION  UP FOR  SESSIONS  LIVE  DELIVERED  PEERS  CAPABILITIES  WHAT
web1:17 copier 1.2.3 1m30s   1000  12  99.50 %  1/2  cap_net_raw  80-10.0.0.2:8080 via raw
web?[31m2:17   copier  1.2.3    1m30s   1000      12    -          -      -  raw
/run/c.sock    -       -        -       -         -     -          -      - ask /run/c.sock:?refused
`
	words := func(s string) [][]string {
		var all [][]string
		for line := range strings.Lines(s) {
			all = append(all, strings.Fields(line))
		}
		return all
	}
	if d := cmp.Diff(words(want), words(b.String())); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
}

func TestAddress(t *testing.T) {
	for s, ok := range map[string]bool{"/run/x.sock": true, "127.0.0.1:36525": true,
		"[::1]:9": true, "localhost:9": false, "127.0.0.1": false,
		"127.0.0.1:0": false, "": false, "/" + strings.Repeat("x", 200): false} {
		if err := Address(s); (err == nil) != ok {
			t.Errorf("%q: %v", s, err)
		}
	}
}
