package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/lab/netlab"
)

// optionConns and optionLines are the load of TestOptions.
const optionConns, optionLines = 40, 5

// optionCases are options of a copier, and what must follow from each.
var optionCases = []struct {
	name  string
	ways  []string
	args  []string
	check func(t *testing.T, p pair, r *export.Report)
}{
	{"two copies", []string{socket, raw}, []string{"-n", "2"}, func(t *testing.T, p pair,
		r *export.Report) {
		opened, n, bytes := p.target.counts()
		if opened != 2*optionConns || n != 2*optionConns*optionLines {
			t.Errorf("%d connections and %d lines at the target, wanted twice %d and %d",
				opened, n, optionConns, optionConns*optionLines)
		}
		expectComplete(t, r, opened, bytes)
	}},
	{"a half", ways, []string{"-r", "50"}, func(t *testing.T, p pair, r *export.Report) {
		opened, _, bytes := p.target.counts()
		if opened < optionConns/10 || opened > optionConns*9/10 {
			t.Errorf("%d connections at the target, wanted about half of %d", opened, optionConns)
		}
		if r.Sessions.Captured != optionConns || r.Sessions.Delivered != uint64(opened) ||
			r.Sessions.Dropped["sampled_out"] != uint64(optionConns-opened) {
			t.Errorf("sessions %+v, wanted %d delivered and the others sampled out", r.Sessions,
				opened)
		}
		if r.Bytes.Delivered != uint64(bytes) ||
			r.Bytes.Captured != r.Bytes.Delivered+r.Bytes.Dropped["sampled_out"] {
			t.Errorf("bytes %+v, wanted %d delivered and the others sampled out", r.Bytes,
				bytes)
		}
	}},
	{"a filter", ways, []string{"-F", "src host " + netlab.ClientAddr(1, false).String()},
		func(t *testing.T, p pair, r *export.Report) {
			opened, n, bytes := p.target.counts()
			if opened != optionConns/4 || n != optionConns/4*optionLines {
				t.Errorf("%d connections and %d lines at the target, wanted a quarter of %d "+
					"and %d",
					opened, n, optionConns, optionConns*optionLines)
			}
			expectComplete(t, r, opened, bytes)
		}},
	{"ten sessions at most", ways, []string{"--max-sessions", "10"}, func(t *testing.T, p pair,
		r *export.Report) {
		opened, _, _ := p.target.counts()
		// One that was over the bound may be found under way when there is room, and say no
		// more.
		over := r.Sessions.Dropped["over_sessions"] + r.Sessions.Dropped["no_syn"]
		if r.Sessions.Delivered != uint64(opened) ||
			r.Sessions.Captured != r.Sessions.Delivered+over {
			t.Errorf("sessions %+v, wanted %d delivered and the others over the bound",
				r.Sessions, opened)
		}
	}},
	{"without waiting", ways, []string{"--wait", "none"}, whole},
	{"silence only", ways, []string{"--wait", "quiet"}, whole},
	{"by bytes", ways, []string{"--wait", "bytes"}, whole},
	{"whole sessions only", ways, []string{"-O"}, whole},
	{"several shards", ways, []string{"--shards", "4"}, whole},
	{"bound to an address", []string{socket},
		[]string{"--bind", netlab.ProductionTest4.String()}, func(t *testing.T, p pair,
			r *export.Report) {
			whole(t, p, r)
			from(t, p, netlab.ProductionTest4.String())
		}},
	{"addresses instead of the clients'", []string{raw},
		[]string{"-c", "10.77.1.100,10.77.1.101"}, func(t *testing.T, p pair,
			r *export.Report) {
			whole(t, p, r)
			from(t, p, "10.77.1.100", "10.77.1.101")
		}},
	{"ports shifted", []string{raw}, []string{"-f", "3"}, whole},
	{"SYN with all options", []string{raw}, []string{"--syn", "full"}, whole},
	{"SYN with few options", []string{raw}, []string{"--syn", "minimal"}, whole},
	{"small segments", []string{raw}, []string{"-D", "500"}, whole},
	{"at link layer", []string{raw}, []string{"-o", netlab.ProductionTestDevice}, whole},
	{"bbr", []string{raw}, []string{"--congestion", "bbr"}, whole},
	{"cubic", []string{raw}, []string{"--congestion", "cubic"}, whole},
	{"two links", []string{raw}, []string{"-C", "2"}, whole},
}

// TestOptions checks options that change what reaches the target, on 40 connections of 5 lines.
func TestOptions(t *testing.T) {
	t.Parallel()
	for i, test := range optionCases {
		for k, way := range test.ways {
			if testing.Short() && k != i%len(test.ways) { // as inTurn
				continue
			}
			t.Run(test.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				s := newStand(t, setting{way: way})
				p := s.pair()
				c := s.copyPair(test.args...)
				s.talk(productionPort, "option", optionConns, optionLines)
				test.check(t, p, c.end())
			})
		}
	}
}

// whole: the target has been told all that production has, and the account says so.
func whole(t *testing.T, p pair, r *export.Report) {
	t.Helper()
	p.expectSame(t)
	opened, _, bytes := p.production.counts()
	expectComplete(t, r, opened, bytes)
}

// from: connections came to the target from these addresses, and each was used.
func from(t *testing.T, p pair, want ...string) {
	t.Helper()
	found := map[string]bool{}
	for _, c := range p.target.clients() {
		found[netip.MustParseAddrPort(c).Addr().String()] = true
	}
	if got := fmt.Sprint(found); len(found) != len(want) {
		t.Errorf("connections from %v, wanted %q", got, want)
	}
	for _, w := range want {
		if !found[w] {
			t.Errorf("no connection from %s", w)
		}
	}
}

// TestLettersAlone runs TCPCopy's own command lines: without a subcommand, and as intercept.
func TestLettersAlone(t *testing.T) {
	s := newStand(t, setting{way: socket})
	p := s.pair()
	report := s.file("report.json")
	c := &copier{start(t, s.net.Production, "tcpcopy", binary, "-x", s.mapping(productionPort,
		targetPort), "--report", report), report}
	c.awaitOutput("tcpcopy: ready")
	s.talk(productionPort, "letters", 10, 10)
	whole(t, p, c.end())
	if !strings.Contains(c.output(), "account   balances") {
		t.Error("no account on stdout")
	}
}
