package collect

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/doctor"
	"tcpcopy/internal/test/testnet"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/send"
)

// TestFreeNear checks that a probe's address is in the client's network, and nobody's.
func TestFreeNear(t *testing.T) {
	taken := map[netip.Addr]bool{}
	is := func(a netip.Addr) bool { return taken[a] }
	client := netip.MustParseAddr("192.0.2.7")
	for n := range 252 {
		a := freeNear(client, 1, is)
		if !a.IsValid() || taken[a] || !netip.PrefixFrom(client, 24).Contains(a) ||
			a.As4()[3] == 0 || a.As4()[3] == 255 {
			t.Fatalf("address %d is %v", n, a)
		}
		taken[a] = true
	}
	if a := freeNear(client, 1, is); a.IsValid() {
		t.Errorf("%v of a network that is full", a)
	}
	client = netip.MustParseAddr("2001:db8::7")
	a := freeNear(client, 0xffffffffffffffff, is)
	if !netip.PrefixFrom(client, 64).Contains(a) || a.As16()[8]&2 != 0 {
		t.Errorf("%v", a)
	}
	taken[a] = true
	if b := freeNear(client, 0xffffffffffffffff, is); b.IsValid() {
		t.Errorf("%v is taken", b)
	}
}

// TestRefusingRoute checks that the route that refuses packets is found, and can be deleted by its
// name.
func TestRefusingRoute(t *testing.T) {
	testnet.Enter(t)
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	for _, c := range []struct {
		family, route, to, want string
	}{
		{"-4", "unreachable 10.9.0.2", "10.9.0.2", "unreachable 10.9.0.2"},
		{"-4", "blackhole 10.9.1.0/24", "10.9.1.7", "blackhole 10.9.1.0/24"},
		{"-4", "prohibit 10.9.2.0/24", "10.9.3.7", ""},
		{"-6", "unreachable fd00:9::2", "fd00:9::2", "unreachable fd00:9::2"},
		{"-6", "prohibit fd00:8::/64", "fd00:8::7", "prohibit fd00:8::/64"},
	} {
		ip(c.family, "route", "add", word(c.route, 0), word(c.route, 1))
		got := route(netip.MustParseAddr(c.to)).Refuses
		if got != c.want {
			t.Errorf("%s: %q refuses packets to %s, want %q", c.route, got, c.to, c.want)
			continue
		}
		if got != "" {
			ip(c.family, "route", "del", word(got, 0), word(got, 1))
		}
	}
}

// word returns the first or second of two words.
func word(s string, i int) string {
	for at := range s {
		if s[at] == ' ' {
			return [2]string{s[:at], s[at+1:]}[i]
		}
	}
	return s
}

// TestExamination checks that an examination of a target counts the probes that arrive and the
// answers that leave, and ends when it is told to.
func TestExamination(t *testing.T) {
	testnet.Enter(t)
	peer := testnet.New(t)
	testnet.Veth(t, "eth0", "10.9.0.2/24", peer, "peer", "10.9.0.1/24")
	testnet.Route(t, "eth0", "192.0.2.0/24", "10.9.0.1")
	l, err := net.Listen("tcp4", "10.9.0.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	q := &wire.Look{
		ID: 1, Client: netip.MustParseAddr("192.0.2.253"),
		Target:  netip.MustParseAddrPort("10.9.0.2:8080"),
		Outside: wire.Probe{Port: 61000, Seq: 0x11111111},
		Inside:  wire.Probe{Port: 61001, Seq: 0x22222222},
		Clients: []netip.Addr{netip.MustParseAddr("192.0.2.7")},
	}
	x := Begin(&Subject{
		Role: doctor.Target, Via: "raw", Assistant: netip.MustParseAddr("10.9.0.1"),
		Netns: fmt.Sprintf("/proc/self/task/%d/ns/net", syscall.Gettid()),
	}, q)
	peer.Do(func() {
		testnet.Address(t, "lo", q.Client.String()+"/32") // its answer is seen there
		answers, err := net.ListenPacket("ip4:tcp", q.Client.String())
		if err != nil {
			t.Fatal(err)
		}
		defer answers.Close()
		out, err := send.New(send.Config{Single: true})
		if err != nil {
			t.Fatal(err)
		}
		defer out.Close()
		masked := q.SYN(q.Inside)
		masked.Src = netip.MustParseAddrPort("10.9.0.1:4000")
		other := q.SYN(wire.Probe{Port: 61002, Seq: seqnum.Value(0x33333333)})
		out.Send([]packet.Segment{q.SYN(q.Outside), masked, other})
		_ = answers.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, _, err := answers.ReadFrom(make([]byte, 100)); err != nil {
			t.Errorf("no answer: %v", err)
		}
	})
	r, seen := x.End()
	if seen.Outside.SYNs != 1 || seen.Inside.SYNs != 1 || seen.Outside.Answers == 0 ||
		seen.Source != netip.MustParseAddr("10.9.0.1") {
		t.Errorf("%+v", seen)
	}
	if !x.over() || r.State == doctor.Found {
		t.Errorf("%+v", r.Findings)
	}
}

// TestProbeFrom checks from which address probes come, if --probe names none.
func TestProbeFrom(t *testing.T) {
	standIn := netip.MustParseAddr("10.1.0.200")
	target := doctor.TargetFacts{Addr: netip.MustParseAddrPort("10.0.0.2:8080")}
	target6 := doctor.TargetFacts{Addr: netip.MustParseAddrPort("[fd00::2]:8080")}
	client := []netip.Addr{netip.MustParseAddr("192.0.2.7")}
	c := collector{Subject: &Subject{Via: "raw", LocalhostAs: standIn}}
	if a := c.probeFrom(&target, client); !netip.MustParsePrefix("192.0.2.0/24").Contains(a) ||
		a == client[0] {
		t.Errorf("beside %v: %v", client, a)
	}
	if a := c.probeFrom(&target, nil); a != standIn {
		t.Errorf("without clients: %v, want %v", a, standIn)
	}
	if a := c.probeFrom(&target6, client); a.IsValid() {
		t.Errorf("to an IPv6 target: %v, want none", a)
	}
}
