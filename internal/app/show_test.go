package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/metrics"
	"tcpcopy/internal/account/status"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/engine"
)

// free returns an address of 127.0.0.1 that nothing listens at.
func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// certificate returns a certificate and its private key, in one text.
func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(
			1,
		), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...))
}

// fetch returns what is at a URL, or "" if nothing answers with 200.
func fetch(url string) string {
	resp, err := http.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(text)
}

// sample returns the value of a series of a scrape.
func sample(t *testing.T, scrape, series string) uint64 {
	t.Helper()
	m := regexp.MustCompile(
		"(?m)^" + regexp.QuoteMeta(series) + ` (\S+)$`,
	).FindStringSubmatch(
		scrape,
	)
	if m == nil {
		t.Fatalf("no %s in\n%s", series, scrape)
	}
	f, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	return uint64(f)
}

// A copier's metrics, its status and its report are the same at the same sequence number.
func TestShowsTheSameNumbersEverywhere(t *testing.T) {
	at, socket := free(t), filepath.Join(t.TempDir(), "node.sock")
	report := filepath.Join(t.TempDir(), "report.json")
	p, stderr := dry()
	checked := false
	p.copy = func(s *engine.Control, c *config.Copy,
		progress func(*export.Snapshot)) (*export.Snapshot, error) {
		shot := func() *export.Snapshot {
			s := &export.Snapshot{
				Version:  "1",
				Via:      "socket",
				Mappings: c.MappingStrings(),
				Start:    time.Now(),
			}
			s.Counters.Sessions.Captured = uint64(time.Now().UnixMicro())
			return s
		}
		if fetch("http://"+at+"/readyz") != "" {
			t.Error("ready before it is")
		}
		over, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case answer := <-s.Ask:
					answer <- shot()
				case <-over:
					return
				}
			}
		}()
		defer func() { close(over); <-ended }()
		s.Ready("")
		if fetch("http://"+at+"/readyz") == "" {
			t.Error("not ready")
		}
		progress(shot())
		for range 20 {
			scrape := fetch("http://" + at + "/metrics")
			n, err := status.Ask(t.Context(), socket)
			if err != nil {
				t.Fatal(err)
			}
			if sample(t, scrape, "tcpcopy_snapshot_sequence") == n.Sequence {
				var r export.Report
				if err := json.Unmarshal(n.Account, &r); err != nil {
					t.Fatal(err)
				}
				got := sample(t, scrape, "tcpcopy_sessions_captured_total")
				if got != n.Sessions || got != r.Sessions.Captured || r.Sequence != n.Sequence {
					t.Errorf(
						"%d in metrics, %d in the status, %d in the account",
						got,
						n.Sessions,
						r.Sessions.Captured,
					)
				}
				checked = true
				break
			}
		}
		return shot(), nil
	}
	args := []string{
		"tcpcopy",
		"-x",
		"80-10.0.0.2:8080",
		"--metrics",
		at,
		"--status",
		socket,
		"--report",
		report,
	}
	if code := p.run(args); code != exitOK || !checked {
		t.Fatalf("exit code %d, checked %v\n%s", code, checked, stderr)
	}
	last, err := export.ReadReport(report)
	if err != nil || !last.Final || last.Sequence < 3 {
		t.Errorf("the last report: %v, %+v", err, last)
	}
	if fetch("http://"+at+"/healthz") != "" {
		t.Error("answers after the end")
	}
}

func TestMetricsAddressThatIsTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p, stderr := dry()
	args := []string{
		"tcpcopy",
		"-x",
		"80-10.0.0.2:8080",
		"--metrics",
		l.Addr().String(),
		"--status",
		"off",
	}
	if code := p.run(args); code != exitBadInput ||
		!strings.Contains(stderr.String(), "address already in use") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

// Many readers cost few states, and all see the newest one.
func TestPanelIsNotAskedForEachReader(t *testing.T) {
	var taken atomic.Uint64
	p := &panel{kind: "copier", log: new(logbook), get: func() *view {
		n := taken.Add(1)
		return &view{node: status.Node{Sequence: n}}
	}}
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			for range 20 {
				if p.view() == nil {
					t.Error("no state")
				}
			}
		})
	}
	all.Wait()
	if n := taken.Load(); n > 5 {
		t.Errorf("%d states for 1,000 readers at a time", n)
	}
}

// A record shows itself, too: what it has written so far.
func TestRecorderIsShown(t *testing.T) {
	at := free(t)
	p, stderr := dry()
	p.record = func(s *engine.Control, _ *config.Record,
		_ func(*engine.Recorded)) (*engine.Recorded, error) {
		go func() { (<-s.AskRecording) <- &engine.Recorded{Start: time.Now(), Sessions: 42} }()
		if got := sample(t, fetch("http://"+at+"/metrics"),
			"tcpcopy_recorded_sessions_total"); got != 42 {
			t.Errorf("%d sessions", got)
		}
		return nil, nil
	}
	args := []string{
		"tcpcopy",
		"record",
		"-x",
		"80",
		"-o",
		filepath.Join(t.TempDir(), "x.pcapng"),
		"--metrics",
		at,
		"--status",
		"off",
	}
	if code := p.run(args); code != exitOK {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

// The table of metrics in docs/sight.md has every metric of every kind of node, and no other.
func TestDocumentedMetrics(t *testing.T) {
	text, err := os.ReadFile("../../docs/sight.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for line := range strings.Lines(section(t, string(text), "## Metrics by name")) {
		first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		for _, m := range quoted.FindAllStringSubmatch(first, -1) {
			if strings.HasPrefix(line, "|") {
				documented["tcpcopy_"+m[1]] = true
			}
		}
	}
	copier := &export.Snapshot{
		Via: "raw", Mappings: []string{""}, Replay: &export.Replay{},
		Targets: []export.TargetState{{Shards: 1}},
		Links:   []export.LinkState{{}}, Agents: []export.AgentState{{}},
	}
	copier.Counters.Requests.Status[ledger.Classes()[0]] = 1
	served := map[string]bool{}
	for _, s := range []metrics.Source{
		&metrics.Copier{Snapshot: copier}, &metrics.Agent{},
		&metrics.Recorder{Recording: &export.Recording{}},
		&metrics.Intercept{Assistant: &metrics.Assistant{},
			Target: &metrics.OnTarget{Failed: map[string]uint64{"": 1}}},
	} {
		families, err := metrics.Gatherer(s).Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			served[f.GetName()] = true
		}
	}
	want, got := slices.Sorted(maps.Keys(served)), slices.Sorted(maps.Keys(documented))
	if !slices.Equal(want, got) {
		t.Errorf("docs/sight.md lists %v\nwanted %v", got, want)
	}
}
