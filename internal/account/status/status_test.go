package status

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func node() *Node {
	p := 99.5
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return &Node{
		Kind: "copier", Version: "1.2.3", Host: "web1", PID: 17, Start: start,
		Now: start.Add(90 * time.Second), Via: "raw",
		Mappings: []string{"80-10.0.0.2:8080"}, Sessions: 1000, Live: 12, DeliveredPercent: &p,
		Up: 1, Peers: 2, Account: []byte(`{"a":1}`),
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
		s, err := Listen(addr, node)
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
			if _, err := Listen(path, node); err == nil ||
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
	s, err := Listen(path, node)
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
}

func TestOnlyAsking(t *testing.T) {
	path := filepath.Join(t.TempDir(), "node.sock")
	ending := false
	s, err := Listen(path, func() *Node {
		if ending {
			return nil
		}
		return node()
	})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _,
		_ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	for _, tt := range []struct{ method, url string }{{"POST", "http://x/"},
		{"DELETE", "http://x/"}, {"GET", "http://x/other"}} {
		r, _ := http.NewRequest(tt.method, tt.url, nil)
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
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
	var b strings.Builder
	if err := Table(&b, []Row{{"a", node(), nil}, {"b", bad, nil},
		{"/run/c.sock", nil, errors.New("ask /run/c.sock:\nrefused")}}); err != nil {
		t.Fatal(err)
	}
	want := `NODE           KIND    VERSION  UP FOR  SESSIONS  LIVE  DELIVERED  PEERS  WHAT
web1:17        copier  1.2.3    1m30s   1000      12    99.50 %    1/2    80-10.0.0.2:8080 via raw
web?[31m2:17   copier  1.2.3    1m30s   1000      12    -          -      raw
/run/c.sock    -       -        -       -         -     -          -      ask /run/c.sock:?refused
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
