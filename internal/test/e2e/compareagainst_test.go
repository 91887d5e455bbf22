package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/account/verdict"
	"tcpcopy/internal/lab/netlab"
)

// oldPort is where the old version listens, on the target's host.
const oldPort = targetPort + 1

// service answers with what differs from answer to answer (a number at random), from moment to
// moment (a date that is no standard one) and from host to host (a name); fault is how it is
// changed.
type service struct {
	host, fault string
	takes       time.Duration
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	number, name, price, build := fmt.Sprint(rand.Uint32()), "right", "9.99", "1"
	status := http.StatusOK
	switch s.fault {
	case "named":
		name, price, build = "wrong", "10.00", "2"
	case "a field":
		name = "wrong"
	case "a type":
		number = `"` + number + `"`
	case "an error":
		status = http.StatusInternalServerError
	}
	wait(s.takes)
	body := fmt.Appendf(nil, `{"number":%s,"date":%q,"host":%q,"path":%q,"name":%q,"price":%s}`,
		number, time.Now().Format("Mon 15:04:05.000000"), s.host, r.URL.Path, name, price)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Build", build)
	if s.fault == "twice" && strings.HasSuffix(r.URL.Path, "0") {
		twice(w, body)
		return
	}
	w.WriteHeader(status)
	w.Write(body)
}

// twice answers, and sends another answer, which nobody has asked for.
func twice(w http.ResponseWriter, body []byte) {
	c, out, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprint(out, "HTTP/1.1 200 OK\r\n")
	w.Header().Write(out)
	fmt.Fprintf(out, "Content-Length: %d\r\n\r\n%sHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		len(body), body)
	out.Flush()
	io.Copy(io.Discard, c)
}

// startService starts a service on a host.
func startService(t *testing.T, host *netlab.Namespace, port uint16, name, fault string) {
	serveOn(t, host, port, &http.Server{Handler: &service{host: name, fault: fault}})
}

// askService has clients ask for a few documents, each several times.
func (s *stand) askService(clients, conns int) {
	s.t.Helper()
	s.documentLoad(clients, conns, func(c *http.Client, n int) error {
		answer, err := c.Get(fmt.Sprintf("http://%s/doc/%d",
			netip.AddrPortFrom(s.production, productionPort), 100+n))
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		_, err = io.Copy(io.Discard, answer.Body)
		return err
	}, func(int) {})
}

// onlyOld is the option that leaves production's answers out.
const onlyOld = "--against-only"

// TestCompareAgainst checks that an old version beside the candidate tells by each way what the
// candidate has changed from what differs on each host, and that one that is dead is said to be,
// and changes no verdict.
func TestCompareAgainst(t *testing.T) {
	t.Parallel()
	const number, date, host = "body.number", "body.date", "GET /doc/{id}: body.host: value"
	for i, c := range []struct {
		name, fault string
		alone, dead bool // without an old version; with one that does not run
		ignore      []string
		code        int
		want        []string
	}{
		{"nothing changed", "", false, false, []string{number, date}, 0, nil},
		{"nothing changed, nothing ignored", "", false, false, nil, 5, nil},
		{"without an old version", "", true, false, []string{number, date}, 4, []string{host}},
		{"a field", "a field", false, false, nil, 4, []string{"GET /doc/{id}: body.name: value"}},
		{"the type of a field that always differs", "a type", false, false, nil, 4,
			[]string{"GET /doc/{id}: body.number: type"}},
		{"errors", "an error", false, false, nil, 4, []string{"GET /doc/{id}: status: status"}},
		{"an answer too many", "twice", false, false, nil, 4,
			[]string{"GET /doc/{id}: answer: extra"}},
		{"the old version alone, nothing changed", "", false, false,
			[]string{number, date, onlyOld}, 0, nil},
		{"the old version alone, a field", "a field", false, false,
			[]string{number, date, onlyOld}, 4, []string{"GET /doc/{id}: body.name: value"}},
		{"a dead old version", "", false, true, []string{number, date}, 4, []string{host}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inTurn(t, i, func(t *testing.T, way string) {
				s := newStand(t, setting{way: way})
				startService(t, s.net.Production, productionPort, "production", "")
				startService(t, s.net.Target, targetPort, "target", c.fault)
				args := []string{"--compare"}
				for _, path := range c.ignore {
					if path == onlyOld {
						args = append(args, path)
						continue
					}
					args = append(args, "--ignore", path)
				}
				if !c.alone {
					args = append(args, "--against", netip.AddrPortFrom(s.target, oldPort).String())
				}
				if !c.alone && !c.dead {
					startService(t, s.net.Target, oldPort, "target", "")
				}
				copier := s.copyPair(args...)
				const clients, conns = 4, 30
				s.askService(clients, conns)
				if code := copier.stop(syscall.SIGINT); code != c.code {
					t.Errorf("exit code %d, wanted %d\n%s", code, c.code, copier.output())
				}
				r := copier.account()
				if c.fault != "twice" { // what follows the answer too many is not compared
					checkComparison(t, r, clients*conns*3)
				}
				checkEquation(t, r)
				checkProven(t, r, c.want)
				if !c.alone && !slices.Contains(c.ignore, onlyOld) {
					checkAgainst(t, r, clients*conns, c.dead)
				}
			})
		})
	}
}

// checkAgainst checks what the report has of the old version, which got as many sessions as the
// candidate.
func checkAgainst(t *testing.T, r *export.Report, sessions uint64, dead bool) {
	t.Helper()
	a, old := r.Compare.Against, r.OldVersion
	if a == nil || old == nil {
		t.Fatalf("the report has nothing of the old version: %+v %+v", a, old)
	}
	// Where nothing listens, a later turn tries again, and is counted again.
	if n := old.Sessions.Captured; r.Sessions.Captured != sessions || n < sessions ||
		n > sessions && !dead {
		t.Errorf("%d sessions to the old version, %d to the candidate, wanted %d of each", n,
			r.Sessions.Captured, sessions)
	}
	var lacking uint64
	for _, n := range a.Lacking {
		lacking += n
	}
	if a.Answered+lacking != r.Compare.Compared {
		t.Errorf("%d compared; with the old version %d, without %v", r.Compare.Compared, a.Answered,
			a.Lacking)
	}
	switch {
	case dead && (a.Answered > 0 || a.Lacking["target_refused"] == 0 ||
		old.Sessions.Delivered > 0):
		t.Errorf("a dead old version: %+v %+v", a, old.Sessions)
	case !dead && float64(a.Answered) < 0.99*float64(r.Compare.Compared) &&
		r.Compare.Verdict != verdict.Differs, !dead && old.Sessions.Delivered != sessions:
		t.Errorf("the old version has answered %d of %d, %+v; %+v", a.Answered, r.Compare.Compared,
			a.Lacking, old.Sessions)
	}
}

// TestCompareNamed checks that by each way the headers that are named are compared by their values,
// numbers may differ by a tolerance, and the values that are named are shown, and no others.
func TestCompareNamed(t *testing.T) {
	t.Parallel()
	inTurn(t, 2, func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		startService(t, s.net.Production, productionPort, "planted1", "")
		startService(t, s.net.Target, targetPort, "planted2", "named")
		copier := s.copyPair("--compare", "--ignore", "body.number", "--ignore", "body.date",
			"--tolerance", "body.price 1%", "--headers", "x-build", "--show", "body.name")
		const clients, conns = 2, 20
		s.askService(clients, conns)
		if code := copier.stop(syscall.SIGINT); code != 4 {
			t.Errorf("exit code %d, wanted 4\n%s", code, copier.output())
		}
		r := copier.account()
		checkComparison(t, r, clients*conns*3)
		checkProven(t, r, []string{"GET /doc/{id}: body.host: value",
			"GET /doc/{id}: body.name: value", "GET /doc/{id}: header x-build: value"})
		if rules := r.Compare.Rules; len(rules) != 3 ||
			rules[2] != (verdict.RuleResult{Rule: "tolerance: body.price 1%",
				Silenced: clients * conns * 3}) {
			t.Errorf("%+v", rules)
		}
		text, err := os.ReadFile(copier.report)
		if err != nil {
			t.Fatal(err)
		}
		for _, out := range []string{string(text), copier.output()} {
			if !strings.Contains(out, "right") || !strings.Contains(out, "wrong") ||
				strings.Contains(out, "planted") || strings.Contains(out, "9.99") {
				t.Errorf("wanted the names, and no other values:\n%s", out)
			}
		}
	})
}

// TestCompareTimes checks that a candidate that is slower than the old version is found to be, and
// one that is not is not because the copier itself stood still.
func TestCompareTimes(t *testing.T) {
	if testing.Short() {
		return // times are judged by blocks of a second, and not fewer than 20
	}
	// Not beside other tests: a second in which the copier got no processor is not judged.
	for _, c := range []struct {
		name    string
		takes   time.Duration // an answer of the candidate
		starved bool
		code    int
	}{
		{"slower", 12 * time.Millisecond, false, 4},
		{"a copier that stands still", 5 * time.Millisecond, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newStand(t, setting{way: socket})
			serve := func(host *netlab.Namespace, port uint16, takes time.Duration) {
				serveOn(t, host, port, &http.Server{Handler: &service{host: "a", takes: takes}})
			}
			const old = 5 * time.Millisecond
			serve(s.net.Production, productionPort, old)
			serve(s.net.Target, targetPort, c.takes)
			serve(s.net.Target, oldPort, old)
			copier := s.copyPair("--compare", "--ignore", "body.number", "--ignore", "body.date",
				"--against", netip.AddrPortFrom(s.target, oldPort).String(), "--stats", "500ms")
			pace := time.NewTicker(500 * time.Millisecond)
			defer pace.Stop()
			// On a busy host the copier stands still in many of the blocks.
			blocks := func() (judged int) {
				if r := copier.progress(); r != nil && r.Compare != nil && r.Compare.Times != nil {
					for _, b := range r.Compare.Times.Blocks {
						if !b.Starved {
							judged++
						}
					}
				}
				return judged
			}
			begun := time.Now()
			for time.Since(begun) < 40*time.Second ||
				blocks() < 24 && time.Since(begun) < 4*time.Minute {
				<-pace.C
				s.askService(4, 8)
				if c.starved && time.Since(begun) < 6*time.Second {
					copier.signal(syscall.SIGSTOP)
					s.askService(4, 2)
					copier.signal(syscall.SIGCONT)
				}
			}
			judged := blocks()
			if code := copier.stop(syscall.SIGINT); code != c.code {
				t.Errorf("exit code %d, wanted %d\n%s", code, c.code, copier.output())
			}
			r := copier.account()
			if times := r.Compare.Against.Times; len(times) == 0 ||
				(times[0].Speed == verdict.Slower) != (c.code == 4) {
				t.Errorf("%q: %+v; %d blocks could be judged", r.Compare.Why, times, judged)
			}
		})
	}
}
