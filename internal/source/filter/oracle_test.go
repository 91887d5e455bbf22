package filter

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
)

// oracle returns tcpdump's program of an expression, in x/net's virtual machine.
func oracle(t testing.TB, linkType, expr string) *bpf.VM {
	t.Helper()
	out, err := exec.Command("tcpdump", "-y", linkType, "-ddd", expr).CombinedOutput()
	if strings.Contains(string(out), "expression rejects all packets") {
		return machine(t, []bpf.RawInstruction{{Op: opRetK}})
	}
	if err != nil {
		t.Fatalf("tcpdump refuses %q: %s", expr, out)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	var raw []bpf.RawInstruction
	for _, l := range lines {
		var in bpf.RawInstruction
		if n, _ := fmt.Sscan(l, &in.Op, &in.Jt, &in.Jf, &in.K); n == 4 {
			raw = append(raw, in)
		}
	}
	return machine(t, raw)
}

func machine(t testing.TB, raw []bpf.RawInstruction) *bpf.VM {
	t.Helper()
	ops, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatalf("program with unknown instructions: %v", raw)
	}
	vm, err := bpf.NewVM(ops)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

func needTcpdump(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skip("tcpdump is not installed:", err)
	}
}

// withProto replaces a program's loads of the EtherType, which x/net's virtual machine lacks, so
// that the machine can check Match.
func withProto(t testing.TB, p Program, etherType uint32) *bpf.VM {
	t.Helper()
	raw := slices.Clone(p)
	for i := range raw {
		if raw[i].Op == opLdWAbs && raw[i].K == extProto {
			raw[i] = bpf.RawInstruction{Op: opLdImm, K: etherType}
		}
	}
	return machine(t, raw)
}

// agree runs our program, in both machines, and tcpdump's over the packets.
func agree(t *testing.T, expr string, packets []crafted) {
	t.Helper()
	vm := oracle(t, "RAW", expr)
	ours, err := Compile(expr, Options{})
	if err != nil {
		t.Errorf("%q: %v", expr, err)
		return
	}
	as4, as6 := withProto(t, ours, etherIPv4), withProto(t, ours, etherIPv6)
	bad := 0
	for i := range packets {
		p := &packets[i]
		n, err := vm.Run(p.plain)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := ours.Match(p.b, &p.meta) > 0, n > 0; got != want {
			if bad++; bad < 4 {
				t.Errorf("%q: %s: got %v, tcpdump says %v", expr, p.name, got, want)
			}
		}
		vm2 := as4
		if p.b[0]>>4 == 6 {
			vm2 = as6
		}
		if m, err := vm2.Run(p.b); err != nil || m > 0 != (ours.Match(p.b, &p.meta) > 0) {
			t.Fatalf("%q: %s: x/net's machine returns %d, %v", expr, p.name, m, err)
		}
	}
}

// oracleExprs are expressions of the subset.
var oracleExprs = []string{
	"", "tcp", "udp", "sctp", "icmp", "icmp6", "ip", "ip6", "not tcp", "! udp", "not not tcp",
	"! ! ! ip",
	"host 10.0.0.1", "src host 10.0.0.1", "dst host 10.0.0.1", "src or dst host 10.0.0.1",
	"src and dst host 10.0.0.1",
	"dst or src host 10.0.0.2", "dst and src host 10.0.0.1", "src 10.0.0.1", "dst 10.0.0.2",
	"ip host 10.0.0.1", "ip src 10.0.0.1",
	"src or dst 10.0.0.1", "src && dst 10.0.0.1", "host fd00::1", "src host fd00::1", "dst fd00::2",
	"ip6 host fd00::1", "src and dst host fd00::1",
	"net 10.0.0.0/8", "net 10", "net 10.0", "net 10.1/16", "net 10.0.0/24", "net 10.0.0.0",
	"net 10.0.0.1", "src net 10.0.0.0/31",
	"net 10.0.0.0 mask 255.0.0.0", "net 10.0.0.0 mask 255.0.255.0", "net 0.0.0.0/0",
	"dst net 192.168.0.0/16", "not net 10.0.0.0/8",
	"net 10.0.0.0 / 8", "net fd00::/8", "net fd00::/127", "src net 2001:db8::/32",
	"net 2001:db8:1::/48", "dst net 2001:db8:1:2::/64", "net ::/0", "ip6 net fd00::/16",
	"net fd00::1",
	"port 80", "src port 80", "dst port 80", "src and dst port 80", "src or dst port 80",
	"tcp port 80", "udp port 80", "sctp port 80",
	"tcp src port 80", "tcp dst port 80", "udp src and dst port 80", "portrange 80-90",
	"portrange 90-80", "portrange 80", "tcp portrange 81-8080",
	"src portrange 0-79", "dst portrange 8000-65535", "portrange 0-65535",
	"udp src or dst portrange 80-81", "port 0", "port 65535",
	"proto 6", "ip proto 6", "ip6 proto 6", "proto 47", "ip proto 0", "ip6 proto 58", "proto 44",
	"ip6 proto 60",
	"port 80 or 81", "port 80 or 81 or 443", "tcp port 80 or 81", "port 80 and not 81",
	"port 80 or (81 or 443)", "port (80 or 81)", "tcp dst port (80 or 81)",
	"host 10.0.0.1 or 192.168.1.7", "host 10.0.0.1 and 10.0.0.2", "host not 10.0.0.1",
	"src host (10.0.0.1 or fd00::1)", "port (80 or (81 and 8080))",
	"port 80 or portrange 81-82 or 90", "net 10 or 192.168",
	"src net (192.168.0.0/16 or 172.16.0.0/12)", "host 10.0.0.1 or port 81 or 90",
	"port (not 80)",
	"tcp and port 80", "tcp and (port 80 or port 81)", "tcp or udp and port 80",
	"tcp and port 80 or udp", "not tcp or port 80", "not (tcp or port 80)",
	"host 10.0.0.1 and tcp port 80", "(host 10.0.0.1 or host fd00::1) and not (udp or icmp)",
	"tcp and not src port 80 and not dst net 10.0.0.0/30",
	"ip and not host 10.0.0.1", "ip6 and port 80", "ip6 and not tcp", "((((tcp))))",
	"not (not (tcp))", "tcp&&port 80||udp", "!tcp&&!udp", "!(tcp)",
	"port 80 or (81 or 443) or 90", "not port 80 or 81",
}

func TestAgainstTcpdump(t *testing.T) {
	needTcpdump(t)
	packets := craft()
	t.Logf("%d expressions over %d packets", len(oracleExprs), len(packets))
	for _, expr := range oracleExprs {
		agree(t, expr, packets)
	}
}

// TestAgainstTcpdumpRandom generates expressions from the grammar, with a fixed seed.
func TestAgainstTcpdumpRandom(t *testing.T) {
	needTcpdump(t)
	r := rand.New(rand.NewPCG(1, 2))
	packets := craft()
	n := 150
	if testing.Short() {
		n = 20
	}
	for range n {
		agree(t, randomExpr(r, 4), packets)
	}
}

func randomExpr(r *rand.Rand, depth int) string {
	pick := func(s ...string) string { return s[r.IntN(len(s))] }
	if depth > 0 {
		switch r.IntN(6) {
		case 0:
			return randomExpr(r, depth-1) + pick(" and ", " && ") + randomExpr(r, depth-1)
		case 1:
			return randomExpr(r, depth-1) + pick(" or ", " || ") + randomExpr(r, depth-1)
		case 2:
			return pick("not ", "! ") + randomExpr(r, depth-1)
		case 3:
			return "(" + randomExpr(r, depth-1) + ")"
		}
	}
	dir := pick("", "", "src ", "dst ", "src or dst ", "src and dst ")
	port := func() string { return pick("80", "81", "443", "1234", "8080", "90", "0", "65535") }
	switch r.IntN(7) {
	case 0:
		return dir + "host " + pick("10.0.0.1", "10.0.0.2", "192.168.1.7", "fd00::1", "fd00::2",
			"2001:db8:1:2::7")
	case 1:
		return dir + "net " + pick("10.0.0.0/8", "10.0.0.0/30", "10.1", "192.168", "fd00::/16",
			"2001:db8::/32", "2001:db8:1:2::/65")
	case 2:
		return pick("", "tcp ", "udp ", "sctp ") + dir + "port " + port()
	case 3:
		return pick("", "tcp ", "udp ") + dir + "portrange " + port() + "-" + port()
	case 4:
		return pick("", "ip ", "ip6 ") + "proto " + pick("1", "6", "17", "47")
	case 5:
		return dir + "port " + port() + pick(" or ", " and ") + pick("", "not ") + port()
	}
	return pick("tcp", "udp", "sctp", "icmp", "icmp6", "ip", "ip6")
}

// TestVLANAgainstTcpdump puts the tag into the Ethernet header for tcpdump, and into Meta for us.
func TestVLANAgainstTcpdump(t *testing.T) {
	needTcpdump(t)
	var packets []crafted
	for _, p := range craft() {
		if len(packets) < 200 && len(p.b) == len(p.plain) {
			packets = append(packets, p)
		}
	}
	for _, expr := range []string{"vlan", "vlan 5", "vlan 0", "vlan and port 80",
		"vlan 5 and tcp dst port 80", "vlan 5 and not host 10.0.0.1"} {
		vm := oracle(t, "EN10MB", expr)
		ours, err := Compile(expr, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range packets {
			for _, tag := range []int{-1, 0, 5, 6, 0xe005} {
				p := packets[i]
				frame := make([]byte, 12)
				if tag >= 0 {
					frame = append(frame, 0x81, 0, byte(tag>>8), byte(tag))
					p.meta.HasVLAN, p.meta.VLAN = true, uint16(tag)
				}
				if p.b[0]>>4 == 4 {
					frame = append(frame, 8, 0)
				} else {
					frame = append(frame, 0x86, 0xdd)
				}
				n, err := vm.Run(append(frame, p.b...))
				if err != nil {
					t.Fatal(err)
				}
				if got, want := ours.Match(p.b, &p.meta) > 0, n > 0; got != want {
					t.Fatalf("%q: tag %d, %s: got %v, tcpdump says %v", expr, tag, p.name, got,
						want)
				}
			}
		}
	}
}
