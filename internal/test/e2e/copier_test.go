package e2e

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/lab/netlab"
)

// copier is a running tcpcopy copy.
type copier struct {
	*process
	report string
}

// copyArgs returns the command line of a copier, without a mapping. It starts the intercept that
// the stand's way requires, unless one was started.
func (s *stand) copyArgs(report string) []string {
	args := []string{"copy", "--report", report}
	if s.way != socket {
		if len(s.intercepts) == 0 {
			s.assist()
		}
		var at []string
		for _, i := range s.intercepts {
			at = append(at, i.String())
		}
		args = append(args, "-s", strings.Join(at, ","), "--key", s.key())
	}
	return args
}

// assist starts the intercept of the way, which is not socket. Copiers started later use it.
func (s *stand) assist() *process {
	s.t.Helper()
	if s.way == tunnel {
		return s.onTarget()
	}
	return s.intercept(interceptPort, "-F", "tcp and src portrange 80-20000")
}

// copy starts a copier on the production host and waits until it is ready.
func (s *stand) copy(args ...string) *copier {
	s.t.Helper()
	return s.copyOn(s.net.Production, args...)
}

// copyPair is copy with the mapping of pair: productionPort to targetPort.
func (s *stand) copyPair(args ...string) *copier {
	s.t.Helper()
	return s.copy(append([]string{"-x", s.mapping(productionPort, targetPort)}, args...)...)
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

// progress returns the latest account of a copier that was started with --stats, or nil if there is
// none yet.
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

// account returns the final account of a copier that has ended, which must balance.
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

// intercept starts an intercept on the assistant. Copiers started later use it.
func (s *stand) intercept(port uint16, args ...string) *process {
	s.t.Helper()
	s.intercepts = append(s.intercepts, netip.AddrPortFrom(s.assistant, port))
	return s.interceptOn(s.net.Assistant, port, args...)
}

// interceptOn starts an intercept on a host. Copiers do not use it.
func (s *stand) interceptOn(host *netlab.Namespace, port uint16, args ...string) *process {
	s.t.Helper()
	args = append([]string{"intercept", "-i", netlab.Device, "-p", fmt.Sprint(port), "--key",
		s.key()}, args...)
	p := start(s.t, host, "intercept", binary, args...)
	p.awaitOutput("tcpcopy: ready")
	return p
}

// onTarget starts an intercept on the target, which allows every port if args do not say which.
// Copiers started later use it.
func (s *stand) onTarget(args ...string) *process {
	s.t.Helper()
	if !slices.Contains(args, "--allow") {
		args = append([]string{"--allow", "any"}, args...)
	}
	args = append([]string{"intercept", "--on-target", "-p", fmt.Sprint(interceptPort), "--key",
		s.key()}, args...)
	p := start(s.t, s.net.Target, "intercept", binary, args...)
	p.awaitOutput("tcpcopy: ready")
	s.intercepts = []netip.AddrPort{netip.AddrPortFrom(s.target, interceptPort)}
	return p
}
