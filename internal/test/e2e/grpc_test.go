package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/lab/netlab"
)

// buildPeer builds the server and client of gRPC, which are of another module, once.
var buildPeer = sync.OnceValues(func() (string, error) {
	path := filepath.Join(filepath.Dir(binary), "grpcpeer")
	build := exec.Command("go", "build", "-o", path, ".")
	build.Dir = filepath.Join("..", "grpcpeer")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build grpcpeer: %w\n%s", err, out)
	}
	return path, nil
})

func grpcPeer(t testing.TB) string {
	t.Helper()
	path, err := buildPeer()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// callLog is a call that a callSite has served.
type callLog struct {
	Name     string // the client's name for it
	Messages int    // of the client
	Hash     string // of all of them, in order
	Early    int    // those that came before the answer to the one before
	End      string // how the client has ended it
	Limit    int    // its deadline, in minutes from its beginning
	Conn     int    // the connection, of a server that renews them
}

// callSite is a server of gRPC.
type callSite struct{ *peerSite }

func startCallSite(t testing.TB, host *netlab.Namespace, port uint16, args ...string) *callSite {
	t.Helper()
	return &callSite{startPeer(t, host, port, append([]string{grpcPeer(t)}, args...)...)}
}

// peerSite is a server that appends a line to a log for whatever has ended.
type peerSite struct {
	*process
	log string
}

// startPeer starts a server by a command, and waits until it listens.
func startPeer(t testing.TB, host *netlab.Namespace, port uint16, command ...string) *peerSite {
	t.Helper()
	log := filepath.Join(t.TempDir(), "peer.log")
	s := &peerSite{start(t, host, "peer", command[0], append(command[1:len(command):len(command)],
		"-listen", fmt.Sprintf(":%d", port), "-log", log)...), log}
	eventually(t, "a server listens", func() bool {
		if s.hasEnded() {
			t.Fatalf("it ended: %s", s.output())
		}
		c, err := host.Dial(t.Context(), nil, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	return s
}

// served returns what was served.
func (s *callSite) served() []callLog { return entries[callLog](s.peerSite) }

// entries returns the lines of a server's log.
func entries[T any](s *peerSite) (all []T) {
	s.t.Helper()
	text, err := os.ReadFile(s.log)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var l T
		if json.Unmarshal([]byte(line), &l) != nil {
			break // it is being written
		}
		all = append(all, l)
	}
	return all
}

// calls returns what was served, sorted, and how many messages were early.
func (s *callSite) calls() (all []string, early int) {
	s.t.Helper()
	for _, l := range s.served() {
		early += l.Early
		l.Early, l.Limit, l.Conn = 0, 0, 0
		all = append(all, fmt.Sprintf("%+v", l))
	}
	slices.Sort(all)
	return all, early
}

// limits returns the deadlines of the calls that were served.
func (s *callSite) limits() (all []int) {
	s.t.Helper()
	for _, l := range s.served() {
		if !slices.Contains(all, l.Limit) {
			all = append(all, l.Limit)
		}
	}
	return all
}

// call has clients make calls to production, each over one connection.
func (s *stand) call(clients int, args ...string) {
	s.t.Helper()
	s.callBy([]string{grpcPeer(s.t)}, clients, args...)
}

// callBy is call for clients that a command runs.
func (s *stand) callBy(command []string, clients int, args ...string) {
	s.t.Helper()
	args = append(command[1:len(command):len(command)], args...)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			cmd := s.net.Client.Command(s.t.Context(), command[0], slices.Concat(args,
				[]string{"-call", s.siteAddr().String(), "-name", fmt.Sprint(i)})...)
			if out, err := cmd.CombinedOutput(); err != nil {
				s.t.Errorf("client %d: %v\n%s", i, err, out)
			}
		})
	}
	all.Wait()
}

// expectCalls waits until the target has served what production has, all of it in time.
func expectCalls(t *testing.T, target, production *callSite, calls int) {
	t.Helper()
	var want []string
	eventually(t, "production sees all calls end", func() bool {
		want, _ = production.calls()
		return len(want) >= calls
	})
	within(patience, func() bool {
		got, _ := target.calls()
		return len(got) >= calls
	})
	got, early := target.calls()
	expectSame(t, "calls", got, want)
	if early > 0 {
		t.Errorf("%d messages came before the answer to the one before", early)
	}
}

// kinds is how many kinds of calls a client makes, unless it is told.
const kinds = 7

// TestGRPC copies calls of all kinds, side by side on each connection, to a target that takes
// longer. What each stream of the target receives, and how it ends, is what production's did; in
// lock-step no message is early.
func TestGRPC(t *testing.T) {
	t.Parallel()
	eachWay(t, func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		production := startCallSite(t, s.net.Production, siteProduction)
		target := startCallSite(t, s.net.Target, siteTarget, "-pause", "3ms")
		c := s.copy("-x", s.mapping(siteProduction, siteTarget), "--both",
			"--proto", "http2")
		const clients, rounds = 3, 10
		s.call(clients, "-rounds", fmt.Sprint(rounds))
		const each = clients * rounds
		expectCalls(t, target, production, kinds*each)
		r := c.end()
		p := r.Protocol
		if p.Sent != kinds*each || p.Answered != (kinds-1)*each || p.Failed != each ||
			p.Lost != 0 || p.Status["grpc 0"] != (kinds-2)*each || p.Status["grpc 5"] != each ||
			r.Gate.Forced != 0 || len(p.Texts) != 1 || p.TextsOther != 0 ||
			p.Texts[0] != (export.TextReport{Status: "grpc 5", Text: "there is none",
				Answers: each}) {
			t.Errorf("the account: %+v, %+v", p, r.Gate)
		}
		if r.Sessions.Delivered != clients || r.Bytes.Delivered != r.Bytes.Captured {
			t.Errorf("the account: %+v, %+v, wanted all delivered", r.Sessions, r.Bytes)
		}
	})
}

// TestGRPCServerLimits copies calls to a target that pings each second, with calls that are silent
// for longer, and to one that renews its connections. Nothing is lost or comes twice.
func TestGRPCServerLimits(t *testing.T) {
	t.Parallel()
	for i, tt := range []struct {
		name           string
		server, client []string
		calls          int // of each client
	}{
		{"keepalive", []string{"-ping", "1s"}, []string{"-kinds", "both,unary", "-idle", "2500ms",
			"-rounds", "2"}, 4},
		{"age", []string{"-age", "200ms"}, []string{"-kinds", "unary,down,both", "-rounds", "40"},
			120},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inTurn(t, i, func(t *testing.T, way string) {
				s := newStand(t, setting{way: way})
				pause := []string{"-pause", "2ms"}
				production := startCallSite(t, s.net.Production, siteProduction, pause...)
				target := startCallSite(t, s.net.Target, siteTarget, append(pause, tt.server...)...)
				c := s.copy("-x", s.mapping(siteProduction, siteTarget), "--both",
					"--proto", "http2")
				const clients = 2
				s.call(clients, tt.client...)
				expectCalls(t, target, production, clients*tt.calls)
				r := c.end()
				p, n := r.Protocol, uint64(clients*tt.calls)
				if p.Sent != n || p.Answered != n || p.Failed != 0 || p.Lost != 0 ||
					r.Gate.Forced != 0 {
					t.Errorf("the account: %+v, %+v, wanted %d calls", p, r.Gate, n)
				}
				if r.Sessions.Delivered != clients {
					t.Errorf("the account: %+v", r.Sessions)
				}
			})
		})
	}
}

// TestGRPCRenew copies calls to a target that closes each connection after 100 calls, and says so
// no sooner. A call that it has not read by then fails, and is accounted. No call comes twice.
func TestGRPCRenew(t *testing.T) {
	t.Parallel()
	someWays(t, only(), func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		production := startCallSite(t, s.net.Production, siteProduction)
		target := startCallSite(t, s.net.Target, siteTarget, "-pause", "1ms", "-renew", "100")
		c := s.copy("-x", s.mapping(siteProduction, siteTarget), "--both", "--proto", "http2")
		const clients, kinds, rounds = 2, 3, 100
		const calls = clients * kinds * rounds
		s.call(clients, "-kinds", "unary,down,both", "-rounds", fmt.Sprint(rounds))
		eventually(t, "production sees all calls end", func() bool {
			return len(production.served()) >= calls
		})
		within(patience, func() bool { return len(target.served()) >= calls })
		r := c.end()
		got, early := target.calls()
		want, _ := production.calls()
		expectSame(t, "calls", got, among(want, got))
		if early > 0 {
			t.Errorf("%d messages came before the answer to the one before", early)
		}
		conns := map[int]int{}
		for _, l := range target.served() {
			conns[l.Conn]++
		}
		failed := uint64(calls - len(got))
		t.Logf("%d of %d calls were served, over %d connections", len(got), calls, len(conns))
		if len(conns) < calls/(100+kinds) || failed > uint64(kinds*len(conns)) {
			t.Errorf("%d calls were served, over the connections %v", len(got), conns)
		}
		p := r.Protocol
		if p.Sent != calls || p.Answered != calls || p.Failed != failed || p.Lost != 0 ||
			r.Gate.Forced != 0 || r.Sessions.Delivered != clients {
			t.Errorf("the account: %+v, %+v, %+v, wanted %d calls failed", p, r.Gate, r.Sessions,
				failed)
		}
	})
}

// among returns the elements of a list that another has, too.
func among(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool {
		return !slices.Contains(other, s)
	})
}

// TestGRPCUnread copies calls in lock-step, and uploads, where production's answers are not read
// whole. No message is early, and uploads do not wait for long. The calls have longer deadlines.
func TestGRPCUnread(t *testing.T) {
	t.Parallel()
	someWays(t, only(socket), func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		production := startCallSite(t, s.net.Production, siteProduction)
		target := startCallSite(t, s.net.Target, siteTarget, "-pause", "3ms")
		c := s.copy("-x", s.mapping(siteProduction, siteTarget), "--grpc-timeout", "5")
		const clients, rounds = 2, 5
		begun := time.Now()
		for _, kind := range []string{"both", "up"} {
			s.call(clients, "-rounds", fmt.Sprint(rounds), "-kinds", kind)
		}
		expectCalls(t, target, production, 2*clients*rounds)
		if d := time.Since(begun); d > 20*time.Second {
			t.Errorf("it took %v", d)
		}
		if at, want := target.limits(), production.limits(); !slices.Equal(want, []int{2}) ||
			!slices.Equal(at, []int{10}) {
			t.Errorf("deadlines of %v minutes at the target, %v at production", at, want)
		}
		if r := c.end(); r.Protocol.Sent != 2*clients*rounds || r.Protocol.Lost != 0 ||
			r.Gate.Forced != 0 || r.Bytes.Delivered != r.Bytes.Captured {
			t.Errorf("the account: %+v, %+v, %+v", r.Protocol, r.Gate, r.Bytes)
		}
	})
}
