package localroute

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tcpcopy/internal/test/testnet"
)

func listener(at string, change func(*tcpSocket)) tcpSocket {
	s := tcpSocket{local: netip.MustParseAddrPort(at)}
	if change != nil {
		change(&s)
	}
	return s
}

func TestChooseWay(t *testing.T) {
	const target, target6, own = "10.0.0.2:80", "[fd00::2]:80", "127.124.0.1:80"
	device := func(s *tcpSocket) { s.device = 7 }
	mark := func(s *tcpSocket) { s.mark = 5 }
	only6 := func(s *tcpSocket) { s.v6only = true }
	for _, tc := range []struct {
		name    string
		servers []tcpSocket
		target  string
		reach   Reach
		want    string // where to; empty: it cannot be reached
		marked  bool
	}{
		{"all addresses", []tcpSocket{listener("0.0.0.0:80", nil)}, target, Least, own, false},
		{"all addresses of both families", []tcpSocket{listener("[::]:80", nil)}, target, Least,
			own, false},
		{"IPv6 only", []tcpSocket{listener("[::]:80", only6), listener("10.0.0.2:80", nil)}, target,
			Least, target, true},
		{"IPv6", []tcpSocket{listener("[::]:80", only6)}, target6, Least, "[::1]:80", false},
		{"one address", []tcpSocket{listener(target, nil)}, target, Least, target, true},
		{"one address, IPv6", []tcpSocket{listener(target6, nil)}, target6, Least, target6, true},
		{"another address", []tcpSocket{listener("10.0.0.3:80", nil)}, target, Least, own, false},
		{"another port", []tcpSocket{listener("10.0.0.2:81", nil)}, target, Least, own, false},
		{"loopback alone", []tcpSocket{listener("127.0.0.1:80", nil)}, target, Least,
			"127.0.0.1:80", false},
		{"loopback alone, by mark", []tcpSocket{listener("127.0.0.1:80", nil)}, target, MarkOnly,
			"127.0.0.1:80", false},
		{"its own and one on loopback", []tcpSocket{listener(target, nil),
			listener("127.0.0.1:80", nil)}, target, Least, target, true},
		{"all addresses, and another on loopback",
			[]tcpSocket{listener("0.0.0.0:80", nil),
				listener("127.0.0.1:80", nil)}, target, Least, own, false},
		{"all addresses, and another on ours",
			[]tcpSocket{listener("0.0.0.0:80", nil),
				listener(own, nil)}, target, Least, target, true},
		{"all addresses, and another on loopback, IPv6",
			[]tcpSocket{listener("[::]:80", nil),
				listener("[::1]:80", nil)}, target6, Least, target6, true},
		{"all addresses, and its own", []tcpSocket{listener("0.0.0.0:80", nil),
			listener(target, nil)}, target, Least, target, true},
		{"by mark", []tcpSocket{listener("0.0.0.0:80", nil)}, target, MarkOnly, target, true},
		{"by loopback only", []tcpSocket{listener(target, nil)}, target, LoopbackOnly, "", false},
		{"loopback is the target", []tcpSocket{listener("0.0.0.0:80", nil)}, "127.0.0.2:80", Least,
			"127.0.0.2:80", false},
		{"nobody listens", nil, target, Least, own, false},
		{"a device's", []tcpSocket{listener("0.0.0.0:80", device)}, target, Least, "", false},
		{"a device's and everybody's", []tcpSocket{listener("0.0.0.0:80", device),
			listener("0.0.0.0:80", nil)}, target, Least, own, false},
		{"its own mark", []tcpSocket{listener(target, mark)}, target, Least, "", false},
		{"its own mark, all addresses", []tcpSocket{listener("0.0.0.0:80", mark)}, target, Least,
			own, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w, err := chooseWay(tc.servers, netip.MustParseAddrPort(tc.target), tc.reach, false)
			if tc.want == "" {
				if u := (*Unreachable)(nil); !errors.As(err, &u) {
					t.Errorf("got %+v, %v; want it unreachable", w, err)
				}
				return
			}
			if err != nil || w.dest.String() != tc.want || w.marked != tc.marked {
				t.Errorf("got %v, marked %v, %v; want %s, %v", w.dest, w.marked, err, tc.want,
					tc.marked)
			}
		})
	}
}

// TestChooseWayWithRedirects: where a firewall may send clients on to 127.0.0.1, no rule is about
// that address.
func TestChooseWayWithRedirects(t *testing.T) {
	for _, tc := range []struct {
		name, server, target string
		reach                Reach
		want                 string
		marked               bool
	}{
		{"all addresses", "0.0.0.0:80", "10.0.0.2:80", Least, "127.124.0.1:80", false},
		{"loopback alone", "127.0.0.1:80", "10.0.0.2:80", Least, "127.0.0.1:80", true},
		{"loopback alone, which is the target", "127.0.0.1:80", "127.0.0.1:80", Least,
			"127.0.0.1:80", true},
		{"loopback alone, and only that way is allowed", "127.0.0.1:80", "10.0.0.2:80",
			LoopbackOnly, "127.0.0.1:80", false},
		{"IPv6, where no firewall can", "[::1]:80", "[fd00::2]:80", Least, "[::1]:80", false},
	} {
		w, err := chooseWay([]tcpSocket{listener(tc.server, nil)},
			netip.MustParseAddrPort(tc.target), tc.reach, true)
		if err != nil || w.dest.String() != tc.want || w.marked != tc.marked {
			t.Errorf("%s: got %v, marked %v, %v; want %s, %v", tc.name, w.dest, w.marked, err,
				tc.want, tc.marked)
		}
	}
}

func TestChooseMark(t *testing.T) {
	first, err := chooseMark(nil)
	if err != nil {
		t.Fatal(err)
	}
	second, err := chooseMark([]markUse{{first, 0xffffffff, ""}})
	if err != nil || second == first {
		t.Errorf("%#x, %v beside %#x", second, err, first)
	}
	// One whose mask leaves out our high bits.
	third, err := chooseMark([]markUse{{first & 0xff, 0xff, ""}})
	if err != nil || third&0xff == first&0xff {
		t.Errorf("%#x, %v beside %#x/0xff", third, err, first&0xff)
	}
	if _, err := chooseMark([]markUse{{0, 0x80000000, ""}}); err == nil {
		t.Error("a mark was found though every one of ours is another's")
	}
	for _, u := range reserved {
		if first&u.mask == u.mark {
			t.Errorf("%#x is %s's", first, u.where)
		}
	}
}

func TestChoosePriority(t *testing.T) {
	usual := []rule{{priority: 0, table: localTable}, {priority: 32766, table: 254},
		{priority: 32767, table: 253}}
	for _, tc := range []struct {
		name string
		more []rule
		want uint32
	}{
		{"nothing else", nil, 1000},
		{"ours is taken", []rule{{priority: 1000, table: 7}}, 999},
		{"an earlier one", []rule{{priority: 100, table: 7}, {priority: 99, table: localTable}},
			98},
		{"the first", []rule{{priority: 2, table: 7}}, 1},
		{"no room", []rule{{priority: 1, table: 7}}, 0},
	} {
		got, err := choosePriority(append(tc.more, usual...))
		if got != tc.want || (err != nil) != (tc.want == 0) {
			t.Errorf("%s: %d, %v; want %d", tc.name, got, err, tc.want)
		}
	}
}

// TestLegacyTables: rules of iptables' older kind cannot be read, which is said where a mark is
// used.
func TestLegacyTables(t *testing.T) {
	dir := t.TempDir()
	if got := legacyTables(dir); len(got) != 0 {
		t.Errorf("without such tables: %q", got)
	}
	for name, text := range map[string]string{"ip_tables_names": "mangle\nfilter\n",
		"ip6_tables_names": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := &survey{legacy: legacyTables(dir)}
	if want := []string{"iptables-legacy -t mangle",
		"iptables-legacy -t filter"}; !slices.Equal(s.legacy, want) {
		t.Errorf("got %q, want %q", s.legacy, want)
	}
	var p Plan
	if err := p.addMark(s); err != nil {
		t.Fatal(err)
	}
	if len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0],
		"'iptables-legacy -t mangle -S' and 'iptables-legacy -t filter -S'") {
		t.Errorf("warnings %q", p.Warnings)
	}
}

// TestMarksOfOthers: marks in routing rules and in the firewall are seen, and not used.
func TestMarksOfOthers(t *testing.T) {
	nft, err := exec.LookPath("nft")
	if err != nil {
		t.Skip(err)
	}
	testnet.Enter(t)
	cmd := exec.Command(nft, "-f", "-")
	cmd.Stdin = strings.NewReader(`add table inet other
add chain inet other out { type filter hook output priority 0; }
add rule inet other out meta mark 0x7c000001 drop
add rule inet other out tcp dport 9 meta mark set 0x7c000002
add rule inet other out tcp dport 10 meta mark set meta mark and 0xffffff00 or 0x3
add rule inet other out ct mark and 0xff == 0x4 accept
`)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
	p, err := Draft(Config{Reach: MarkOnly})
	if err != nil {
		t.Fatal(err)
	}
	if p.Mark != 0x7c000008 { // 1 and 2 are used; 3, and all with the bit 4, may be set bit by bit
		t.Errorf("mark %#x, want the first that nobody uses, 0x7c000008; warnings %q", p.Mark,
			p.Warnings)
	}
	if len(p.Warnings) < 4 {
		t.Errorf("warnings %q, want one for each mark in use", p.Warnings)
	}
}
