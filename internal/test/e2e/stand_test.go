package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/lab/netlab"
)

// The ways to the target.
const (
	socket = "socket"
	raw    = "raw"
	tunnel = "tunnel"
)

var ways = []string{socket, raw, tunnel}

// eachWay runs a test for every way to the target.
func eachWay(t *testing.T, test func(t *testing.T, way string)) {
	for _, way := range ways {
		t.Run(way, func(t *testing.T) { test(t, way) })
	}
}

// only names the ways of a short run, for someWays.
func only(ways ...string) []string { return ways }

// someWays is eachWay, except that a run with -short takes the quick ones alone.
func someWays(t *testing.T, quick []string, test func(t *testing.T, way string)) {
	for _, way := range ways {
		if !testing.Short() || slices.Contains(quick, way) {
			t.Run(way, func(t *testing.T) { test(t, way) })
		}
	}
}

// Ports of services, of production and of the test server.
const (
	productionPort = 80
	targetPort     = 8080
	interceptPort  = 36524
)

// setting is what a stand is made of.
type setting struct {
	way  string
	ipv6 bool
	net  netlab.Config
}

// stand is the hosts of a test, and where things are on them.
type stand struct {
	setting
	t   testing.TB
	net *netlab.Net
	dir string // of reports and keys

	sockets map[uint16]string // of Redis servers, by port

	production, target, assistant netip.Addr
	intercepts                    []netip.AddrPort
}

// newStand makes the hosts. The test is skipped where the permission is verified absent.
func newStand(t testing.TB, s setting) *stand {
	t.Helper()
	s.net.ViaAssistant = s.way == raw
	n, err := netlab.New(s.net)
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
	st := &stand{setting: s, t: t, net: n, dir: t.TempDir()}
	st.production, st.target = netlab.ProductionAddr4, netlab.TargetAddr4
	st.assistant = netlab.AssistantAddr4
	if s.ipv6 {
		st.production, st.target = netlab.ProductionAddr6, netlab.TargetAddr6
		st.assistant = netlab.AssistantAddr6
	}
	return st
}

func (s *stand) file(name string) string { return filepath.Join(s.dir, name) }

// key is the file with the key that copiers and intercepts share.
func (s *stand) key() string {
	s.t.Helper()
	path := s.file("key")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	out, err := s.net.Production.Command(s.t.Context(), binary, "keygen").Output()
	if err != nil {
		s.t.Fatalf("keygen: %v", err)
	}
	if err := os.WriteFile(path, out, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// mapping is from a port of production to one of the target.
func (s *stand) mapping(production, target uint16) string {
	return fmt.Sprintf("%d-%s", production, netip.AddrPortFrom(s.target, target))
}

// intercept starts an intercept on the assistant. Copiers started later use it.
func (s *stand) intercept(port uint16, args ...string) *process {
	s.t.Helper()
	s.intercepts = append(s.intercepts, netip.AddrPortFrom(s.assistant, port))
	return s.interceptOn(s.net.Assistant, port, args...)
}

// interceptOn starts an intercept on a host that no copier is told of.
func (s *stand) interceptOn(host *netlab.Namespace, port uint16, args ...string) *process {
	s.t.Helper()
	args = append([]string{"intercept", "-i", netlab.Device, "-p", fmt.Sprint(port), "--key",
		s.key()}, args...)
	p := start(s.t, host, "intercept", binary, args...)
	p.awaitOutput("tcpcopy: ready")
	return p
}

// copier is a running tcpcopy copy.
type copier struct {
	*process
	report string
}

// copyArgs is the command line of a copier by the stand's way, without a mapping.
func (s *stand) copyArgs(report string) []string {
	args := append([]string{"copy", "--report", report}, roomyRing...)
	if s.way != socket {
		switch {
		case len(s.intercepts) > 0:
		case s.way == tunnel:
			s.onTarget()
		default:
			s.intercept(interceptPort, "-F", "tcp and src portrange 80-20000")
		}
		var at []string
		for _, i := range s.intercepts {
			at = append(at, i.String())
		}
		args = append(args, "-s", strings.Join(at, ","), "--key", s.key())
	}
	return args
}

// copy starts a copier on the production host and waits until it is ready. In the raw way it starts
// an intercept before, unless there is one.
func (s *stand) copy(args ...string) *copier {
	s.t.Helper()
	return s.copyOn(s.net.Production, args...)
}

// copyOn is copy on another host.
func (s *stand) copyOn(host *netlab.Namespace, args ...string) *copier {
	s.t.Helper()
	report := filepath.Join(s.t.TempDir(), "report.json")
	c := &copier{start(s.t, host, "copy", binary, append(s.copyArgs(report), args...)...), report}
	c.awaitOutput("tcpcopy: ready")
	return c
}

// end interrupts the copier and returns its final account, which must balance.
func (c *copier) end() *export.Report {
	c.t.Helper()
	if code := c.stop(syscall.SIGINT); code != 0 {
		c.t.Errorf("the copier ended with exit code %d", code)
	}
	return c.account()
}

// progress is the copier's account so far, with --stats; nil before the first.
func (c *copier) progress() *export.Report {
	c.t.Helper()
	if c.hasEnded() {
		c.t.Fatal("the copier has ended")
	}
	r, err := export.ReadReport(c.report)
	if err != nil {
		return nil
	}
	if !r.Balanced {
		c.t.Errorf("an account on the way does not balance: %+v %+v", r.Sessions, r.Bytes)
	}
	return r
}

// account is the final account of a copier that has ended.
func (c *copier) account() *export.Report {
	c.t.Helper()
	r, err := export.ReadReport(c.report)
	if err != nil {
		c.t.Fatalf("the copier's account: %v", err)
	}
	if !r.Final || !r.Balanced {
		c.t.Errorf("the account: final %v, balanced %v, wanted both", r.Final, r.Balanced)
	}
	for name, f := range map[string]export.FlowReport{"sessions": r.Sessions, "bytes": r.Bytes} {
		sum := f.Delivered + f.InFlight
		for _, n := range f.Dropped {
			sum += n
		}
		if sum != f.Captured || f.InFlight != 0 {
			c.t.Errorf("the account of %s: %+v, wanted nothing in flight and a sum of what was "+
				"captured", name, f)
		}
	}
	if r.Packets.Offered != r.Packets.Captured+r.Packets.KernelDrop {
		c.t.Errorf("the account of packets: %+v, wanted offered = captured + kernel_drop",
			r.Packets)
	}
	return r
}

// complete reports whether the account is that of a copy without any loss, of so many sessions and
// bytes.
func complete(t testing.TB, r *export.Report, sessions int, bytes int64) {
	t.Helper()
	if r.Sessions.Captured != uint64(sessions) || r.Sessions.Delivered != uint64(sessions) ||
		len(r.Sessions.Dropped) > 0 {
		t.Errorf("the account of sessions: %+v, wanted %d captured and delivered", r.Sessions,
			sessions)
	}
	if r.Bytes.Captured != uint64(bytes) || r.Bytes.Delivered != uint64(bytes) ||
		len(r.Bytes.Dropped) > 0 {
		t.Errorf("the account of bytes: %+v, wanted %d captured and delivered", r.Bytes, bytes)
	}
}
