package badnet

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/lab"
	"tcpcopy/internal/lab/netlab"
)

// fewPorts leaves clients so many ports, which are free again as soon as a connection is closed.
func fewPorts(ports string) func(*netlab.Net) error {
	return func(n *netlab.Net) error {
		return set(n.Client, sysctl{"ipv4/tcp_max_tw_buckets", "0"},
			sysctl{"ipv4/ip_local_port_range", ports})
	}
}

// TestPortReuse opens 2,000 connections a second from one address and 64 ports: each tuple is used
// again 30 ms after the last time.
func TestPortReuse(t *testing.T) {
	for _, test := range []struct {
		name  string
		short bool
		loss  float64
		rate  float64
		load  func(*lab.Scenario)
	}{
		{"the client closes", false, 0, 2000, func(*lab.Scenario) {}},
		{"the server closes: TIME-WAIT is there", true, 0, 2000,
			func(s *lab.Scenario) { s.ServerCloses = true }},
		{"the client resets", false, 0, 2000, func(s *lab.Scenario) { s.Reset = true }},
		{"the client closes, 1 % loss", false, 1, 500, func(*lab.Scenario) {}},
		{"the server closes, 1 % loss", false, 1, 500,
			func(s *lab.Scenario) { s.ServerCloses = true }},
	} {
		if left(test.short) {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			load := short(int(2*test.rate), 20, 300)
			load.Think = 0
			test.load(load)
			r := play(t, lab.Options{Via: lab.Raw, Load: load, Rate: test.rate, Loss: test.loss,
				ClientAddrs: 1, Setup: fewPorts("20000 20063")})
			perfect(t, r)
		})
	}
}

// TestTwoCopiers has two copiers share a target and an intercept, each with half of the clients,
// whose ports are used again and again. Neither may harm the other's connections.
func TestTwoCopiers(t *testing.T) {
	load := lasting(40, 6*time.Second)
	load.Requests, load.Think = 3, 5*time.Millisecond
	dir := t.TempDir()
	const first, second = "host 10.77.1.10 or host 10.77.1.11", "host 10.77.1.12 or host 10.77.1.13"
	r := play(t, lab.Options{
		Via: lab.Raw, Load: load, Setup: fewPorts("20000 20127"), CopyArgs: []string{"-F",
			first}, Keep: dir,
		Disturb: func(ctx context.Context, s *lab.Stage) error {
			other := s.Net().Production.Command(context.WithoutCancel(ctx), binary, "copy", "-x",
				"80-10.77.2.2:8080",
				"-s", "10.77.2.3:36524", "--key", dir+"/key", "-F", second)
			other.Stdout, other.Stderr = os.Stdout, os.Stderr
			if err := other.Start(); err != nil {
				return err
			}
			t.Cleanup(func() {
				other.Process.Signal(syscall.SIGKILL) // fails only where it has ended
				other.Wait()
			})
			s.CompareAfter(2 * time.Second)
			return nil
		},
	})
	perfect(t, r)
	t.Log(account(r))
}
