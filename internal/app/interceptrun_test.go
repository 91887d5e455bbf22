package app

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"tcpcopy/internal/config"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/way/raw/intercept"
)

func TestInterceptLine(t *testing.T) {
	s := &intercept.Snapshot{Copiers: []intercept.CopierStats{{Conns: 2, Dropped: 3}, {Away: 4}}}
	s.Route.Entries, s.Route.Routed, s.Route.Unowned, s.Route.HeldExpired, s.Route.HeldOverflow = 5,
		60, 7, 8, 9
	s.Frames.Seen = 100
	want := "copiers 1, connections 5; packets 100, routed 60, of real clients 7, held too long 17"
	if got := interceptLine(&intercept.Snapshot{Frames: s.Frames, Route: s.Route,
		Copiers: []intercept.CopierStats{{Conns: 1}}}); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	s.Capture.Dropped, s.Conns.WrongKey, s.Conns.Garbage = 1, 1, 1
	want += ", lost in the kernel 1, lost at slow copiers 3, lost at absent copiers 4, " +
		"connections without the key 2"
	if got := interceptLine(s); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAnswersFilter(t *testing.T) {
	expr, err := filter.Parse("tcp and src port 8080")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*config.Intercept{{}, {Filter: expr}} {
		p, err := answerFilter(c)
		if err != nil || len(p) == 0 {
			t.Errorf("%v: %d instructions, %v", c.Filter, len(p), err)
		}
	}
}

// TestFilterOfManyTargets: whole packets are kept of the targets that a copier reads, however many
// these are, and headers of all others.
func TestFilterOfManyTargets(t *testing.T) {
	target := func(i int, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), port)
	}
	for _, tc := range []struct {
		name    string
		targets int
		port    func(i int) uint16
		other   bool // whether all others are captured whole, too
	}{
		{"none", 0, nil, false},
		{"few", 60, func(i int) uint16 { return 8000 + uint16(i%3) }, false},
		{"many", 4000, func(i int) uint16 { return 8000 + uint16(i%3) }, false},
		{"a range of ports", 4000, func(i int) uint16 { return 8000 + uint16(i) }, false},
		{"as many ports as are tested", mostPorts, func(i int) uint16 { return uint16(1 + 2*i) },
			false},
		{"more ports than are tested", 1 + mostPorts, func(i int) uint16 { return uint16(1 + 2*i) },
			true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var targets []netip.AddrPort
			for i := range tc.targets {
				targets = append(targets, target(i, tc.port(i)))
			}
			p, err := answerFilter(new(config.Intercept), targets...)
			if err != nil {
				t.Fatal(err)
			}
			kept := func(from netip.AddrPort) int {
				b := packet.Append(nil, &packet.Segment{Src: from, Flags: packet.ACK,
					Dst: netip.MustParseAddrPort("192.0.2.1:40000"), Payload: make([]byte, 1000)})
				return p.Match(b, &filter.Meta{Len: len(b)})
			}
			const whole = 1040
			for i, a := range targets {
				if n := kept(a); n != whole {
					t.Fatalf("of target %d %d bytes are kept, want %d", i, n, whole)
				}
			}
			want := headersOnly
			if tc.other {
				want = whole
			}
			if n := kept(target(1, 60000)); n != want {
				t.Errorf("of another target %d bytes are kept, want %d", n, want)
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	refused := &net.OpError{
		Op: "listen", Net: "tcp", Addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[::]:80")),
		Err: os.NewSyscallError("bind", syscall.EACCES),
	}
	busy := &net.OpError{
		Op: "listen", Net: "tcp",
		Addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("[::]:36524")),
		Err:  os.NewSyscallError("bind", syscall.EADDRINUSE),
	}
	for _, tt := range []struct {
		name string
		err  error
		code int
		want string
	}{
		{"already printed", exitCode(7), 7, ""},
		{"wrapped, already printed", fmt.Errorf("copy: %w", exitCode(1)), 1, ""},
		{"bad input", &config.Problem{Flag: "-n", Value: "x", What: "wanted y", Hint: "do z"}, 2,
			"tcpcopy: -n \"x\": wanted y\nhint: do z\n"},
		{"anything", errors.New("open:\n  no"), 1, "tcpcopy: open: no\n"},
		{"a file's permission", &fs.PathError{Op: "open", Path: "/x", Err: syscall.EACCES}, 1,
			"tcpcopy: open /x: permission denied\n"},
		{"a privilege without a name", fmt.Errorf("attach: %w", syscall.EPERM), 3,
			"tcpcopy: attach: operation not permitted\n"},
		{
			"this host forwards", fmt.Errorf("start: %w",
				&intercept.ForwardingError{Sysctl: "net.ipv4.ip_forward"}), 1,
			"tcpcopy: start: intercept: this host forwards packets (net.ipv4.ip_forward=1): it " +
				"would send the target's answers to real clients\n" +
				"hint: sysctl -w net.ipv4.ip_forward=0\n",
		},
		{"a port below 1024", listenProblem(fmt.Errorf("listen: %w", refused)), 3,
			"tcpcopy: listen on [::]:80: permission denied (needs CAP_NET_BIND_SERVICE)\nhint: " +
				privilegeHint("CAP_NET_BIND_SERVICE") + "\n"},
		{"a port that another has", listenProblem(fmt.Errorf("intercept: listen for copiers on "+
			"[::]:36524: %w", busy)), 1, "tcpcopy: listen for copiers on [::]:36524: address " +
			"already in use\nhint: ss -ltnp shows what listens there; -p sets another port, " +
			"and -s IP:PORT at copiers\n"},
		{"a capability", &sys.CapabilityError{Op: "open", Need: sys.CapNetAdmin,
			Err: syscall.EPERM}, 3,
			"tcpcopy: open: operation not permitted (needs CAP_NET_ADMIN)\nhint: " +
				privilegeHint(sys.CapNetAdmin) + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if code := fail(&b, tt.err); code != tt.code || b.String() != tt.want {
				t.Errorf("exit code %d, want %d\ngot  %swant %s", code, tt.code, b.String(),
					tt.want)
			}
		})
	}
}
