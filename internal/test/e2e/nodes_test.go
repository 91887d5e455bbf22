package e2e

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"tcpcopy/internal/lab/netlab"
)

// TestBalance checks that the copiers of two production hosts share their sessions between three
// targets by weight, with each method.
func TestBalance(t *testing.T) {
	conns := 5000 // of each host
	if testing.Short() {
		conns = 2500
	}
	s := newStand(t, setting{way: socket, net: netlab.Config{Productions: 2, Targets: 3,
		Crowd: true}})
	methods := []string{"client", "session", "round-robin", "least"}
	if testing.Short() {
		methods = []string{"client", "least"}
	}
	for _, method := range methods {
		t.Run(method, func(t *testing.T) {
			s := *s
			s.t = t
			production, targets := s.on(s.net.Productions, productionPort), s.on(s.net.Targets,
				targetPort)
			var copiers []*copier
			for _, host := range s.net.Productions {
				copiers = append(copiers, s.copyOn(host, "-x", s.toAll(3, 1, 1), "--balance",
					method))
			}
			var both sync.WaitGroup
			for i := range copiers {
				both.Go(func() { s.shortTo(s.productionAt(i), netlab.CrowdAddr, "from", conns, 0) })
			}
			both.Wait()
			eventually(t, "the targets have all lines",
				func() bool { return lines(targets) >= 2*conns })
			for i, c := range copiers {
				_, _, bytes := production[i].counts()
				expectComplete(t, c.end(), conns, bytes)
			}
			expectSame(t, "what connections said", saidAll(targets), saidAll(production))
			for i, want := range []float64{0.6, 0.2, 0.2} {
				share := float64(targets[i].lineCount()) / float64(2*conns)
				t.Logf("target %d has %.4f of the sessions", i, share)
				if math.Abs(share-want) > 0.03 {
					t.Errorf("target %d has %.3f of the sessions, wanted %.2f ± 0.03", i, share,
						want)
				}
			}
			if method == "client" { // the same target for both copiers
				for i, target := range targets {
					said := target.said()
					if len(slices.Compact(slices.Clone(said))) != len(said)/2 {
						t.Errorf("target %d has one of the two sessions of some clients", i)
					}
				}
			}
		})
	}
}

// TestManyNodes has copiers of four production hosts use one intercept, and come and go. Their
// sessions must not mix, and tcpcopy status must show all of them.
func TestManyNodes(t *testing.T) {
	t.Parallel()
	for _, way := range []string{raw, tunnel} {
		t.Run(way, func(t *testing.T) {
			s := newStand(t, setting{way: way, net: netlab.Config{Productions: 4}})
			target := s.serve(s.net.Target, targetPort)
			production := s.on(s.net.Productions, productionPort)
			var nodes []string
			place := func() []string {
				nodes = append(nodes, s.file(fmt.Sprintf("node%d.sock", len(nodes))))
				return []string{"--status", nodes[len(nodes)-1]}
			}
			if way == raw {
				s.intercept(interceptPort, append(place(), "-F",
					"tcp and src portrange 80-20000")...)
			} else {
				s.onTarget(place()...)
			}
			var copiers []*copier
			for _, host := range s.net.Productions {
				copiers = append(copiers,
					s.copyOn(host, append(place(), "-x", s.mapping(productionPort, targetPort))...))
			}
			// Each production host has clients of its own: no address and port is at two of them.
			load := func(i int, name string) {
				for n := range 15 {
					c := dial(t, s.net.Client, netlab.ClientAddr(i, false), s.productionAt(i))
					for l := range 4 {
						if err := c.ask(fmt.Sprintf("%s host %d connection %d line %d", name, i, n,
							l)); err != nil {
							t.Error(err)
						}
					}
					if err := c.finish(); err != nil {
						t.Error(err)
					}
				}
			}
			var all sync.WaitGroup
			for i := range production {
				all.Go(func() { load(i, "first") })
			}
			all.Wait()
			eventually(t, "the target has all", func() bool { return target.lineCount() == 4*60 })

			table, err := s.net.Production.Command(t.Context(), binary, append([]string{"status"},
				nodes...)...).CombinedOutput()
			if err != nil || strings.Count(string(table), " copier ") != 4 ||
				strings.Count(string(table), " intercept ") != 1 || !strings.Contains(string(table),
				" 4/4 ") {
				t.Errorf("tcpcopy status: %v\n%s", err, table)
			}
			expectComplete(t, copiers[0].end(), 15, bytesOfHost(0, "first"))
			copiers[1].kill()
			load(2, "second")
			copiers[0] = s.copyOn(s.net.Productions[0], "-x", s.mapping(productionPort, targetPort))
			load(0, "second")
			eventually(t, "the target has all", func() bool { return target.lineCount() == 6*60 })
			expectComplete(t, copiers[0].end(), 15, bytesOfHost(0, "second"))
			expectComplete(t, copiers[2].end(), 30, bytesOfHost(2, "first")+bytesOfHost(2,
				"second"))
			expectComplete(t, copiers[3].end(), 15, bytesOfHost(3, "first"))
			expectSame(t, "what connections said", target.said(), saidAll(production))
			var clients []string
			for _, o := range production {
				clients = append(clients, o.clients()...)
			}
			expectSame(t, "clients that the target sees", target.clients(), sorted(clients))
		})
	}
}

func bytesOfHost(i int, name string) (sum int64) {
	for n := range 15 {
		for l := range 4 {
			sum += int64(len(fmt.Sprintf("%s host %d connection %d line %d\n", name, i, n, l)))
		}
	}
	return sum
}

// TestSamplesAgree checks that two copiers that copy a part of the clients choose the same clients.
func TestSamplesAgree(t *testing.T) {
	t.Parallel()
	const clients = 100
	s := newStand(t, setting{way: socket, net: netlab.Config{Clients: clients, Productions: 2,
		Targets: 2}})
	production, targets := s.on(s.net.Productions, productionPort), s.on(s.net.Targets, targetPort)
	from := func(i int) netip.Addr { return netlab.ClientAddr(i%clients, false) }
	var chosen [2][]string
	for i, host := range s.net.Productions {
		c := s.copyOn(host, "-x", fmt.Sprintf("%d-%s", productionPort, s.targetAt(i)), "-r", "10",
			"--sample-by", "client")
		s.shortTo(s.productionAt(i), from, "from", 3*clients, 0)
		r := c.end()
		chosen[i] = targets[i].said()
		_, n, bytes := targets[i].counts()
		_, _, all := production[i].counts()
		if r.Sessions.Captured != 3*clients || r.Sessions.Delivered != uint64(n) ||
			r.Sessions.Dropped["sampled_out"] != uint64(3*clients-n) ||
			r.Bytes.Captured != uint64(all) || r.Bytes.Delivered != uint64(bytes) ||
			r.Bytes.Dropped["sampled_out"] != uint64(all-bytes) {
			t.Errorf("the account of host %d: %+v %+v, wanted %d sessions and %d bytes "+
				"delivered, and the others sampled out", i, r.Sessions, r.Bytes, n, bytes)
		}
	}
	expectSame(t, "what the copiers chose", chosen[1], chosen[0])
	found := make(map[int]int)
	for _, line := range chosen[0] {
		var n int
		if _, err := fmt.Sscanf(line, "from %d|", &n); err != nil {
			t.Fatal(err)
		}
		found[n%clients]++
	}
	if len(found) < 3 || len(found) > 25 {
		t.Errorf("%d of %d clients were chosen", len(found), clients)
	}
	for c, n := range found {
		if n != 3 {
			t.Errorf("client %d: %d of 3 connections", c, n)
		}
	}
}
