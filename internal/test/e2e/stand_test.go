package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tcpcopy/internal/lab/netlab"
)

// The ways to the target.
const (
	socket = "socket"
	raw    = "raw"
	tunnel = "tunnel"
)

var ways = []string{socket, raw, tunnel}

// eachWay runs a test once for each way to the target.
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

// inTurn is eachWay, except that a run with -short takes the i-th way alone; the first follows the
// last. So the ways share the cases of a table.
func inTurn(t *testing.T, i int, test func(t *testing.T, way string)) {
	someWays(t, only(ways[i%len(ways)]), test)
}

// Ports of the servers of a pair, and of the intercept.
const (
	productionPort = 80
	targetPort     = 8080
	interceptPort  = 36524
)

// setting describes a stand.
type setting struct {
	way  string
	ipv6 bool
	net  netlab.Config
}

// stand is the hosts of a test, with their addresses and a directory for files.
type stand struct {
	setting
	t   testing.TB
	net *netlab.Net
	dir string // of reports and keys

	sockets map[uint16]string // of Redis servers, by port

	production, target, assistant netip.Addr
	intercepts                    []netip.AddrPort
}

// newStand makes the hosts. It skips the test if the process may not make network namespaces.
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

// key returns the file with the key that copiers and intercepts share.
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

// mapping returns the mapping of a port of production to one of the target.
func (s *stand) mapping(production, target uint16) string {
	return fmt.Sprintf("%d-%s", production, netip.AddrPortFrom(s.target, target))
}

// productionAt returns the address of the i-th production host's server.
func (s *stand) productionAt(i int) netip.AddrPort {
	return netip.AddrPortFrom(netlab.ProductionAddr(i, s.ipv6), productionPort)
}

// targetAt returns the address of the i-th target's server.
func (s *stand) targetAt(i int) netip.AddrPort {
	return netip.AddrPortFrom(netlab.TargetAddr(i, s.ipv6), targetPort)
}

// toAll returns a mapping from production to all targets, with weights if there are any.
func (s *stand) toAll(weights ...int) string {
	var list []string
	for i := range s.net.Targets {
		to := s.targetAt(i).String()
		if weights != nil {
			to += fmt.Sprintf("*%d", weights[i])
		}
		list = append(list, to)
	}
	return fmt.Sprintf("%d-%s", productionPort, strings.Join(list, "|"))
}

// set sets a sysctl on a host.
func set(t testing.TB, host *netlab.Namespace, name, value string) {
	t.Helper()
	err := host.Try(func() error {
		return os.WriteFile("/proc/sys/net/"+name, []byte(value), 0)
	})
	if err != nil {
		t.Fatal(err)
	}
}
