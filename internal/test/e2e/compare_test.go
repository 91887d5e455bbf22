package e2e

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/verdict"
	"tcpcopy/internal/lab/netlab"
)

// pagesLoad is clients of nginx' pages. It calls done after each connection.
func (s *stand) pagesLoad(clients, conns int, done func(n int)) {
	s.t.Helper()
	ask := func(c *http.Client, n int) error { return s.page(c, 1+n) }
	s.documentLoad(clients, conns, ask, done)
}

// documentLoad is clients that have their own connections, of a few requests, for five documents in
// turn, and call done after each. ask asks for the n-th document.
func (s *stand) documentLoad(clients, conns int, ask func(c *http.Client, n int) error,
	done func(n int)) {
	s.t.Helper()
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for n := range conns {
				client := s.documentClient(i)
				for k := range 3 {
					if err := ask(client, (n+k)%5); err != nil {
						s.t.Errorf("client %d: %v", i, err)
					}
				}
				client.CloseIdleConnections()
				done(n)
			}
		})
	}
	all.Wait()
}

// documentClient returns a client that sends all its requests on one connection, so that each is a
// session.
func (s *stand) documentClient(i int) *http.Client {
	return &http.Client{Transport: &oneConnection{dial: func() (*client, error) {
		return tryDial(s.net.Client, netlab.ClientAddr(i%4, s.ipv6),
			netip.AddrPortFrom(s.production, productionPort))
	}}}
}

// oneConnection sends each request on the same connection, after the answer to the one before has
// been read. An http.Transport opens another connection if the goroutine that writes a request has
// not run for 50 ms when the answer is there, which happens on a machine that does other things.
type oneConnection struct {
	dial func() (*client, error)
	conn *client // nil before the first request
}

// RoundTrip is of http.RoundTripper.
func (o *oneConnection) RoundTrip(req *http.Request) (*http.Response, error) {
	if o.conn == nil {
		c, err := o.dial()
		if err != nil {
			return nil, err
		}
		o.conn = c
	}
	if err := req.Write(o.conn); err != nil {
		return nil, err
	}
	return http.ReadResponse(o.conn.in, req)
}

// CloseIdleConnections is called by http.Client's method of this name.
func (o *oneConnection) CloseIdleConnections() {
	if o.conn != nil {
		o.conn.Close()
	}
}

// page asks for one page, compressed if the server has it so.
func (s *stand) page(client *http.Client, n int) error {
	at := netip.AddrPortFrom(s.production, productionPort)
	req, err := http.NewRequest("GET", fmt.Sprintf("http://%s/%d?token=s3cr3t", at, n), nil)
	if err != nil {
		return err
	}
	req.Header.Set("Accept-Encoding", "gzip")
	answer, err := client.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.Header.Get("Content-Encoding") != "gzip" {
		return fmt.Errorf("page %d is not compressed", n)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}

const compressing = "gzip on; gzip_types *; gzip_min_length 1; gzip_comp_level %d;"

// TestCompareNginx checks that a comparison finds what another configuration changes, and nothing
// else, and that it finds nothing where nothing is changed.
func TestCompareNginx(t *testing.T) {
	t.Parallel()
	for _, c := range nginxChanges {
		t.Run(c.name, func(t *testing.T) { compareNginx(t, socket, &c, 4, 40) })
	}
}

// TestCompareEachWay checks that a comparison finds the same by each way: the same JSON. One client
// asks for one page after the other, so that the answers come in the same order.
func TestCompareEachWay(t *testing.T) {
	t.Parallel()
	changes := []*nginxChange{&nginxChanges[2], &nginxChanges[0]}
	if testing.Short() {
		changes = changes[:1]
	}
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			found := make(map[string]string)
			for _, way := range ways {
				t.Run(way, func(t *testing.T) {
					r := compareNginx(t, way, c, 1, 75)
					r.Times = nil
					text, err := json.MarshalIndent(r, "", " ")
					if err != nil {
						t.Fatal(err)
					}
					found[way] = string(text)
				})
			}
			for way, text := range found {
				if d := cmp.Diff(found[socket], text); d != "" {
					t.Errorf("%s finds other differences than socket: %s", way, d)
				}
			}
		})
	}
}

// TestCompareWithLosses checks that packets that the capture loses, 5 % of them, make no difference
// between equal servers, and that the coverage says what was not compared.
func TestCompareWithLosses(t *testing.T) {
	t.Parallel()
	s := newStand(t, setting{way: socket, net: netlab.Config{NoOffloads: true}})
	production := startNginxWith(t, s.net.Production, productionPort, "",
		fmt.Sprintf(compressing, 1))
	target := startNginxWith(t, s.net.Target, targetPort, "", fmt.Sprintf(compressing, 1))
	lossy := geneveMirror
	lossy.late, lossy.lose = 0, 20
	if err := lossy.start(t, s.net); err != nil {
		t.Fatal(err)
	}
	copier := s.copyOn(s.net.Assistant, "-x", s.mapping(productionPort, targetPort), "--from",
		"geneve://:6081", fromMirror[0], fromMirror[1], "--compare")
	s.pagesLoad(4, 40, func(int) {})
	if code := copier.stop(syscall.SIGINT); code == 4 {
		t.Errorf("the servers differ\n%s", copier.output())
	}
	r := copier.account()
	checkProven(t, r, nil)
	asked, copied := uint64(len(production.requests())), uint64(len(target.requests()))
	due := checkEquation(t, r)
	if due < copied || due > asked || r.Compare.Excluded["capture_gap"] == 0 {
		t.Errorf("%d answers due, of %d requests to production and %d to the target: excluded %v",
			due, asked, copied, r.Compare.Excluded)
	}
}

// nginxChange is what another configuration of nginx changes.
type nginxChange struct {
	name string
	more string // directives of the target
	page string // that is changed at the target; empty: none
	code int
	want []string // kinds and paths that are proven
}

var nginxChanges = []nginxChange{
	{"the same", fmt.Sprintf(compressing, 1), "", 0, nil},
	{"another gzip level", fmt.Sprintf(compressing, 9), "", 0, nil},
	{"a header, a page, a gzip level",
		fmt.Sprintf(compressing, 9) + " add_header X-New 1;", "3", 4,
		[]string{"GET /{id}: body: value", "GET /{id}: header x-new: extra"}},
}

// compareNginx compares two servers by a way, and returns what was found. A single client waits
// after each of its connections until the target has been asked the same.
func compareNginx(t *testing.T, way string, c *nginxChange, clients, conns int) *verdict.Result {
	t.Helper()
	s := newStand(t, setting{way: way})
	startNginxWith(t, s.net.Production, productionPort, "", fmt.Sprintf(compressing, 1))
	target := startNginxWith(t, s.net.Target, targetPort, "", c.more)
	if c.page != "" {
		writeFile(t, filepath.Join(target.dir, "www", c.page), noise(99, fileSizes[3]))
	}
	junit := s.file("junit.xml")
	copier := s.copyPair("--compare", "--junit", junit)
	s.pagesLoad(clients, conns, func(n int) {
		if clients == 1 {
			eventually(t, "the target has been asked the same", func() bool {
				return len(target.requests()) == 3*(n+1)
			})
		}
	})
	if code := copier.stop(syscall.SIGINT); code != c.code {
		t.Errorf("exit code %d, wanted %d\n%s", code, c.code, copier.output())
	}
	r := copier.account()
	if n := uint64(clients * conns); r.Sessions.Captured != n {
		t.Errorf("%d sessions were captured, wanted %d", r.Sessions.Captured, n)
	}
	checkComparison(t, r, uint64(clients*conns*3))
	checkProven(t, r, c.want)
	checkNoSecret(t, copier.report, junit)
	checkJUnit(t, junit, len(c.want) > 0)
	return r.Compare
}

// checkProven checks which differences are proven.
func checkProven(t testing.TB, r *export.Report, want []string) {
	t.Helper()
	var got []string
	for _, cell := range r.Compare.Cells {
		if cell.Proven {
			got = append(got, fmt.Sprintf("%s: %s: %s", cell.Endpoint, cell.Path, cell.Kind))
		}
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("found %q, wanted %q: %q %+v", got, want, r.Compare.Why, r.Compare.Cells)
	}
}

// checkEquation checks that the answers that were due are those that were compared, and those that
// were not. It returns how many were due.
func checkEquation(t testing.TB, r *export.Report) uint64 {
	t.Helper()
	v := r.Compare
	if v == nil {
		t.Fatal("the report has no comparison")
	}
	sum := v.Compared + v.Open
	for _, n := range v.Excluded {
		sum += n
	}
	if sum != v.Due {
		t.Errorf("%d answers due: %d compared, %d open, excluded %v", v.Due, v.Compared, v.Open,
			v.Excluded)
	}
	return v.Due
}

// checkComparison checks that all of so many answers were due, and nearly all were compared.
func checkComparison(t testing.TB, r *export.Report, answers uint64) {
	t.Helper()
	due, v := checkEquation(t, r), r.Compare
	if due != answers || v.Open != 0 {
		t.Errorf("%d answers due, %d of them open; wanted %d", due, v.Open, answers)
	}
	if float64(v.Compared) < 0.99*float64(answers) {
		t.Errorf("%d of %d answers were compared: excluded %v", v.Compared, answers, v.Excluded)
	}
}

func checkNoSecret(t *testing.T, files ...string) {
	t.Helper()
	for _, path := range files {
		if text, err := os.ReadFile(path); err != nil {
			t.Error(err)
		} else if strings.Contains(string(text), "s3cr3t") {
			t.Errorf("%s has a secret", path)
		}
	}
}

func checkJUnit(t *testing.T, path string, fails bool) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var suites struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Skipped  int `xml:"skipped,attr"`
	}
	if err := xml.Unmarshal(text, &suites); err != nil {
		t.Fatal(err)
	}
	if suites.Tests != 2 || suites.Failures > 0 != fails || suites.Skipped != 0 {
		t.Errorf("JUnit: %+v", suites)
	}
}

// TestDiff checks that two runs of a recording against an old and a new version are told apart, and
// two against the same are not; and that what the runs find is the same each time.
func TestDiff(t *testing.T) {
	s := newStand(t, setting{way: socket})
	startNginxWith(t, s.net.Production, productionPort, "", fmt.Sprintf(compressing, 1))
	old := startNginxWith(t, s.net.Target, targetPort, "", fmt.Sprintf(compressing, 1))
	recording := s.file("peak.pcapng")
	rec := start(t, s.net.Production, "record", binary, "record", "-x", fmt.Sprint(productionPort),
		"--both", "-o", recording)
	rec.awaitOutput("tcpcopy: ready")
	s.pagesLoad(4, 40, func(int) {})
	if code := rec.stop(syscall.SIGINT); code != 0 {
		t.Fatalf("record: exit code %d\n%s", code, rec.output())
	}
	replay := func(name string) (string, *verdict.Result) {
		path := s.file(name)
		p := start(t, s.net.Production, "replay", binary, "replay", recording, "-x",
			s.mapping(productionPort, targetPort), "--compare", "--report", path, "--stats", "0")
		if code := p.wait(); code != 0 && code != 4 {
			t.Errorf("%s: exit code %d\n%s", name, code, p.output())
		}
		r, err := export.ReadReport(path)
		if err != nil {
			t.Fatal(err)
		}
		checkComparison(t, r, 4*40*3)
		return path, r.Compare
	}
	first, a := replay("old.json")
	second, b := replay("again.json")
	if x, y := found(a), found(b); x != y {
		t.Errorf("two runs found different things:\n%s\n%s", x, y)
	}
	old.kill()
	startNginxWith(t, s.net.Target, targetPort, "", fmt.Sprintf(compressing, 1)+
		` location = /2 { return 500 "no"; }`)
	third, _ := replay("new.json")
	for _, c := range []struct {
		old, new string
		differs  bool
	}{{first, second, false}, {first, third, true}} {
		p := start(t, s.net.Production, "diff", binary, "diff", c.old, c.new)
		// So short a run has too few blocks of time to be called no slower.
		want := map[bool]int{true: 4, false: 5}[c.differs]
		if code := p.wait(); code != want {
			t.Errorf("diff %s %s: exit code %d, wanted %d\n%s", c.old, c.new, code, want,
				p.output())
		}
		if says := strings.Contains(p.output(), "GET /{id}: status: status"); says != c.differs {
			t.Errorf("diff %s %s:\n%s", c.old, c.new, p.output())
		}
	}
}

// found is what a comparison has found, without how long answers took.
func found(r *verdict.Result) string {
	r.Times = nil
	return fmt.Sprintf("%+v", *r)
}

// TestCompareRedis checks that a comparison finds a value and a type that are others at the target,
// and not the order of a set.
func TestCompareRedis(t *testing.T) {
	for _, c := range []struct {
		name    string
		changes []string // at the target
		code    int
		want    []string
	}{
		{"the same", nil, 0, nil},
		{"a value and a type", []string{"SET plain wrong", "SET kind s3cr3t"}, 4, []string{
			"GET: reply: value", "LRANGE: error: extra", "LRANGE: reply: missing"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStand(t, setting{way: socket})
			s.startRedis(s.net.Production, redisProduction)
			s.startRedis(s.net.Target, redisTarget)
			var members []string
			for i := range 300 {
				members = append(members, fmt.Sprintf("member:%d", i))
			}
			for _, at := range []struct {
				port uint16
				more []string
			}{{redisProduction, []string{"RPUSH kind a b"}}, {redisTarget, c.changes}} {
				host := s.net.Production
				if at.port == redisTarget {
					host = s.net.Target
					slices.Reverse(members)
				}
				all := append([]string{"SET plain right",
					"SADD many " + strings.Join(members, " ")}, at.more...)
				if at.port == redisTarget && c.changes == nil {
					all = append(all, "RPUSH kind a b")
				}
				for _, words := range all {
					s.redisAsk(host, at.port, "", strings.Fields(words)...)
				}
			}
			copier := s.copy("-x", s.mapping(redisProduction, redisTarget), "--compare")
			const rounds = 30
			commands := []string{"GET plain", "LRANGE kind 0 -1", "SMEMBERS many", "GET none"}
			for i := range rounds {
				for _, words := range commands {
					client := s.redisDial(i)
					if _, err := client.Write(command(strings.Fields(words)...)); err != nil {
						t.Fatal(err)
					}
					if err := skipAnswer(client.in); err != nil {
						t.Fatalf("%s: %v", words, err)
					}
					if err := client.finish(); err != nil {
						t.Error(err)
					}
				}
			}
			if code := copier.stop(syscall.SIGINT); code != c.code {
				t.Errorf("exit code %d, wanted %d\n%s", code, c.code, copier.output())
			}
			r := copier.account()
			checkComparison(t, r, uint64(rounds*len(commands)))
			checkProven(t, r, c.want)
			checkNoSecret(t, copier.report)
		})
	}
}
