package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestHTTP2Cost checks that a request of HTTP/2, of ten that are under way on a connection, takes
// at most twice the copier's CPU that one of HTTP/1 takes, at the same rate and with as many under
// way. The versions are measured in turns, and not with -short.
func TestHTTP2Cost(t *testing.T) {
	const requests, rate, rounds, most = 12000, 4000, 3, 2.0
	someWays(t, only(), func(t *testing.T, way string) {
		var one, two []float64
		for range rounds {
			one = append(one, costOf(t, way, requests, "", "--h1", "-c", "40", "-m", "1", "--rps",
				fmt.Sprint(rate/40)))
			two = append(two, costOf(t, way, requests, "http2", "-c", "4", "-m", "10", "--rps",
				fmt.Sprint(rate/4)))
		}
		slices.Sort(one)
		slices.Sort(two)
		t.Logf("%.1f µs a request of HTTP/1, %.1f µs of HTTP/2", one[rounds/2], two[rounds/2])
		if two[rounds/2] > most*one[rounds/2] {
			t.Errorf("HTTP/2 takes %.1f times as much CPU, wanted at most %.1f",
				two[rounds/2]/one[rounds/2], most)
		}
	})
}

// costOf returns how many microseconds of CPU the copier takes for a request of h2load.
func costOf(t *testing.T, way string, requests int, parameters string, args ...string) float64 {
	t.Helper()
	s := newStand(t, setting{way: way})
	startNginx(t, s.net.Production, productionPort, parameters)
	startNginx(t, s.net.Target, targetPort, parameters)
	c := s.copyPair("--both")
	out, err := s.net.Client.Command(t.Context(), find(t, "h2load"), append(args, "-n",
		fmt.Sprint(requests), fmt.Sprintf("http://%s/3", netip.AddrPortFrom(s.production,
			productionPort)))...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), fmt.Sprintf("%d succeeded", requests)) {
		t.Fatalf("h2load: %v\n%s", err, out)
	}
	r := c.end()
	if r.Protocol.Answered != uint64(requests) {
		t.Fatalf("the account: %+v, wanted %d answers", r.Protocol, requests)
	}
	return r.Resources.CPUSeconds * 1e6 / float64(requests)
}
