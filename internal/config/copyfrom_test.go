package config

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"tcpcopy/internal/way/link/key"
)

func keyInFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte(key.Generate()), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFrom(t *testing.T) {
	noKeyInEnvironment(t)
	file := keyInFile(t)
	all := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(netip.Addr{}, port) }
	for _, tc := range []struct {
		args     string
		want     From
		captures bool
		mark     uint32
		devices  []string
		warning  string
	}{
		{args: "", captures: true, mark: DefaultMark},
		{args: "--from vxlan://:4789 --from-peers 10.0.0.7", want: From{Kind: FromVXLAN,
			Listen: all(4789), Peers: networks("10.0.0.7/32")}},
		{args: "--from vxlan:// --from-peers 10.0.0.7,fd00::/64 --from-peers 10.1.2.3/16",
			want: From{Kind: FromVXLAN, Listen: all(4789),
				Peers: networks("10.0.0.7/32", "fd00::/64", "10.1.0.0/16")}},
		{args: "--from vxlan://*:8472 --insecure", want: From{Kind: FromVXLAN,
			Listen: all(8472)}, warning: "anybody who can reach port 8472"},
		{args: "--from vxlan://*:8472 --insecure --from-peers ::1", want: From{Kind: FromVXLAN,
			Listen: all(8472), Peers: networks("::1/128")}},
		{args: "--vni 7,0x10 --from vxlan://127.0.0.1", want: From{Kind: FromVXLAN,
			Listen: netip.MustParseAddrPort("127.0.0.1:4789"), Networks: []uint32{7, 16}}},
		{args: "--from geneve://[::1]:6082 --vni 7 --vni 8",
			want: From{Kind: FromGENEVE, Listen: netip.MustParseAddrPort("[::1]:6082"),
				Networks: []uint32{7, 8}}},
		{args: "--from geneve://[fd00::1] --from-peers fd00::/64", want: From{Kind: FromGENEVE,
			Listen: netip.MustParseAddrPort("[fd00::1]:6081"), Peers: networks("fd00::/64")}},
		{args: "--from geneve://[::]:6081 --from-peers 0.0.0.0/0", want: From{Kind: FromGENEVE,
			Listen: all(6081), Peers: networks("0.0.0.0/0")}},
		{args: "--from geneve://127.0.0.1 --mark 5", want: From{Kind: FromGENEVE,
			Listen: netip.MustParseAddrPort("127.0.0.1:6081")}, mark: 5},
		{args: "--from mirror:eth1 --from-peers 10.0.0.7", want: From{Kind: FromMirror,
			Peers: networks("10.0.0.7/32")}, captures: true, mark: DefaultMark,
			devices: []string{"eth1"}},
		{args: "--from agent:// --from-peers 10.0.0.0/8 --key " + file, want: From{
			Kind: FromAgent, Listen: all(DefaultAgentPort), Peers: networks("10.0.0.0/8")}},
		{args: "--from mirror:eth1", want: From{Kind: FromMirror}, captures: true,
			mark: DefaultMark, devices: []string{"eth1"}},
		{args: "--from mirror:eth0,eth1", want: From{Kind: FromMirror}, captures: true,
			mark: DefaultMark, devices: []string{"eth0", "eth1"}},
		{args: "--from agent://:9999 --key " + file, want: From{Kind: FromAgent,
			Listen: all(9999)}},
		{args: "--from agent:// --insecure", want: From{Kind: FromAgent,
			Listen: all(DefaultAgentPort)}, warning: "anybody who can reach port 36525"},
		{args: "--from agent://127.0.0.1", want: From{Kind: FromAgent,
			Listen: netip.MustParseAddrPort("127.0.0.1:36525")}},
		{args: "--from vxlan:// -s 10.0.0.3 --insecure --from-peers 10.0.0.7",
			want:     From{Kind: FromVXLAN, Listen: all(4789), Peers: networks("10.0.0.7/32")},
			captures: true, mark: DefaultMark},
	} {
		t.Run(tc.args, func(t *testing.T) {
			c, warnings, err := parse(t, append([]string{"-x", "80-10.0.0.2:8080"},
				strings.Fields(tc.args)...)...)
			if err != nil {
				t.Fatal(err)
			}
			c.From.Text = ""
			if d := cmp.Diff(tc.want, c.From,
				cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
				cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
				t.Error(d)
			}
			if c.Captures() != tc.captures || c.Mark != tc.mark ||
				!slices.Equal(c.Interfaces, tc.devices) {
				t.Errorf("captures %v, mark %#x, interfaces %v", c.Captures(), c.Mark,
					c.Interfaces)
			}
			if all := strings.Join(warnings, "\n"); !strings.Contains(all, tc.warning) ||
				tc.warning == "" && all != "" {
				t.Errorf("warnings %q, want %q", all, tc.warning)
			}
		})
	}
}

func TestCapture(t *testing.T) {
	noKeyInEnvironment(t)
	file := keyInFile(t)
	parse := func(args ...string) (*Capture, []string, error) {
		fs := pflag.NewFlagSet("capture", pflag.ContinueOnError)
		fs.Usage = func() {}
		o := NewCaptureOptions(fs, host)
		if err := fs.Parse(args); err != nil {
			return nil, nil, FlagProblem(err, "tcpcopy capture --help")
		}
		return o.Capture()
	}
	c, warnings, err := parse("-x", "80,10.0.0.1:81", "-x", "[fd00::1]:82", "--to", "10.0.0.9",
		"--key", file)
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	want := []netip.AddrPort{netip.AddrPortFrom(netip.Addr{}, 80),
		netip.MustParseAddrPort("10.0.0.1:81"), netip.MustParseAddrPort("[fd00::1]:82")}
	if !slices.Equal(c.Production, want) || c.To != netip.MustParseAddrPort("10.0.0.9:36525") ||
		c.Key == nil ||
		c.MaxCPU != 50 || c.MaxMbps != 0 || c.Memory != 32*mega || c.Compress != CompressAuto {
		t.Errorf("%+v", c)
	}
	c, warnings, err = parse("-x", "80", "--to", "[fd00::9]:4000", "--insecure", "--max-cpu",
		"20%", "--max-mbps", "1.5", "-m", "1", "--compress", "off", "-i", "eth0")
	if err != nil || len(warnings) != 1 || !strings.Contains(warnings[0], "in the clear") {
		t.Fatal(warnings, err)
	}
	if c.To != netip.MustParseAddrPort("[fd00::9]:4000") || c.MaxCPU != 20 || c.MaxMbps != 1.5 ||
		c.Memory != mega || c.Compress != CompressOff ||
		!slices.Equal(c.Interfaces, []string{"eth0"}) {
		t.Errorf("%+v", c)
	}
	if _, warnings, err := parse("-x", "80", "--to", "127.0.0.1"); err != nil ||
		len(warnings) > 0 {
		t.Errorf("to a copier on this host, without a key: %q, %v", warnings, err)
	}
}
