package collect

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/doctor"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/test/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPossible(t *testing.T) {
	for _, c := range []struct {
		expr string
		role doctor.Role
		want bool
	}{
		{"tcp", doctor.Copier, true},
		{"port 80", doctor.Copier, true},
		{"port 81", doctor.Copier, false},
		{"dst port 81", doctor.Copier, false},
		{"src port 81", doctor.Copier, true},
		{"udp", doctor.Copier, false},
		{"src net 10.0.0.0/8 and not src host 10.0.0.1", doctor.Copier, true},
		{"not tcp", doctor.Copier, false},
		{"ip and ip6", doctor.Copier, false},
		{"src portrange 1000-2000 and not src portrange 1000-1999", doctor.Copier, true},
		{"vlan 7 and port 80", doctor.Copier, true},
		{"tcp and src port 8080", doctor.Assistant, true},
		{"tcp and dst port 8080", doctor.Assistant, true},
		{"udp", doctor.Assistant, false},
	} {
		e, err := filter.Parse(c.expr)
		if err != nil {
			t.Fatal(err)
		}
		s := collector{Subject: &Subject{Role: c.role, Filter: e}}
		if c.role == doctor.Copier {
			m, err := mapping.Parse("80-10.0.0.2:8080")
			if err != nil {
				t.Fatal(err)
			}
			s.Mappings = m
		}
		if got := s.possible(); got != c.want {
			t.Errorf("%s, %q: %v, want %v", c.role, c.expr, got, c.want)
		}
	}
}

func TestParseCounters(t *testing.T) {
	k := parseCounters([]byte("TcpExt: A ListenDrops\nTcpExt: 1 22\nIpExt: B\nIpExt: 3\n"))
	if k["ListenDrops"] != 22 || k["B"] != 3 {
		t.Errorf("%v", k)
	}
	k2 := kernelCounters{"ListenDrops": 25}
	if c := k2.since(k); c.ListenDrops != 3 {
		t.Errorf("%+v", c)
	}
	if kernelCounters(nil).since(k) != nil {
		t.Error("want nothing")
	}
}

func TestIsTLS(t *testing.T) {
	for text, want := range map[string]bool{
		"\x16\x03\x01\x00\x05hello": true, "\x17\x03\x03\x40\x00": true, "GET / HTTP/1.1": false,
		"\x16\x03\x01": false, "": false, "\x17\x03\x03\xff\xff": false,
	} {
		if got := isTLS([]byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

// TestListeners checks what is found out about sockets.
func TestListeners(t *testing.T) {
	testnet.Enter(t)
	l, err := net.Listen("tcp4", "127.0.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	all := listeners(false)
	if all.Err != "" || len(all.All) != 1 {
		t.Fatalf("%+v, want one", all)
	}
	got := all.All[0]
	if got.Addr != netip.MustParseAddrPort("127.0.0.1:8080") || got.Backlog == 0 ||
		got.Device != "" {
		t.Errorf("%+v", got)
	}
}

// TestTarget examines a namespace with a server, an interface and a rule, and checks that the rules
// are as before.
func TestTarget(t *testing.T) {
	testnet.Enter(t)
	testnet.Veth(t, "eth0", "10.0.0.2/24", testnet.New(t), "peer", "10.0.0.3/24")
	testnet.Route(t, "eth0", "192.0.2.0/24", "10.0.0.3")
	load(t, `table inet t {
	chain in { type filter hook input priority 0; ip saddr 192.0.2.7 drop; }
}`)
	l, err := net.Listen("tcp4", "10.0.0.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	before := rulesText()
	s := &Subject{
		Role: doctor.Target, Via: "raw", Ports: []uint16{8080}, Watch: 100 * time.Millisecond,
		Clients:   []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")},
		Assistant: netip.MustParseAddr("10.0.0.3"),
		Netns:     fmt.Sprintf("/proc/self/task/%d/ns/net", syscall.Gettid()),
	}
	f := Collect(t.Context(), s)
	r := doctor.Diagnose(f)
	if len(r.Findings) != 1 || r.Findings[0].Code != "TC0205" ||
		r.Findings[0].About != "192.0.2.7" {
		t.Errorf("found %+v, want TC0205 about 192.0.2.7", r.Findings)
	}
	for _, x := range r.Unknown {
		if x.Code != "TC0213" { // no client is there
			t.Errorf("not known: %+v", x)
		}
	}
	if after := rulesText(); after != before {
		t.Errorf("the rules were\n%s\nand are\n%s", before, after)
	}
	s.Evidence = true
	if rules := Quick(s).Evidence["rules.txt"]; !strings.Contains(rules, "192.0.2.7") {
		t.Errorf("the evidence has the rules %q", rules)
	}
	if f := Quick(s); f.Census != nil || f.Counters != nil {
		t.Errorf("Quick has watched: %+v", f)
	}
}

func TestOutcome(t *testing.T) {
	for err, want := range map[error]doctor.Outcome{
		nil: doctor.Connected, os.ErrDeadlineExceeded: doctor.TimedOut, os.ErrClosed: doctor.Failed,
	} {
		if got := outcome(err); got != want {
			t.Errorf("%v: %s, want %s", err, got, want)
		}
	}
}

// TestInterfacesOver checks that it is known through which interfaces others' packets pass: those
// on which a sub-interface is, and a bridge's ports; and not the other end of a veth.
func TestInterfacesOver(t *testing.T) {
	testnet.Enter(t)
	for _, c := range []string{
		"ip link add eth0 type veth peer name eth1", "ip link add br0 type bridge",
		"ip link set eth1 master br0", "ip link add link eth0 name eth0.10 type macvlan",
	} {
		run(t, c)
	}
	f := &doctor.Facts{Interfaces: interfaces()}
	for _, i := range f.Interfaces {
		want := map[string]string{"br0": "eth1", "eth0.10": "eth0"}[i.Name]
		if got := strings.Join(i.Over, ","); got != want {
			t.Errorf("%s is over %q, want %q", i.Name, got, want)
		}
	}
	got := f.Outermost([]string{"eth0", "eth0.10", "eth1", "br0"})
	if want := []string{"eth0.10", "br0"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
