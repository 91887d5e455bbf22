package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"

	"tcpcopy/internal/core/balance"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/proto/semantics"
	"tcpcopy/internal/source/filter"
	"tcpcopy/internal/way"
	"tcpcopy/internal/way/link/key"
)

var host = Host{
	Interfaces: func() ([]string, error) { return []string{"lo", "eth0", "eth1"}, nil },
	IPv6:       func() bool { return true },
	Local: func(a netip.Addr) bool {
		return !a.IsLoopback() &&
			a != netip.MustParseAddr("10.9.9.9")
	},
	Ports: func() int { return 40 },
}

func noKeyInEnvironment(t *testing.T) { t.Setenv(key.Env, "") }

func parse(t *testing.T, args ...string) (*Copy, []string, error) {
	t.Helper()
	fs := pflag.NewFlagSet("copy", pflag.ContinueOnError)
	fs.Usage = func() {}
	o := NewCopyOptions(fs, host)
	if err := fs.Parse(args); err != nil {
		return nil, nil, FlagProblem(err, "tcpcopy copy --help")
	}
	return o.Copy()
}

func addrs(s ...string) (out []netip.Addr) {
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func networks(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func endpoints(s ...string) (out []netip.AddrPort) {
	for _, a := range s {
		out = append(out, netip.MustParseAddrPort(a))
	}
	return out
}

// same compares settings; filters and pools by their text.
var same = cmp.Options{
	cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{}, semantics.Pattern{},
		semantics.Header{}),
	cmpopts.IgnoreTypes(key.Key{}),
	cmp.Comparer(func(a, b mapping.Pool) bool { return a.String() == b.String() }),
	cmp.Comparer(func(a, b filter.Expr) bool {
		if a == nil || b == nil {
			return a == b
		}
		return a.String() == b.String()
	}),
}

// change changes the default settings to those that a test expects.
type change func(c *Copy)

// raw is a change for copies through an intercept.
func raw(then change) change {
	return func(c *Copy) {
		c.Via, c.Intercepts = ViaRaw, endpoints("10.0.0.3:36524")
		c.LearnWay = true
		if then != nil {
			then(c)
		}
	}
}

// only is raw with options that the tunnel does not have.
func only(options string, then change) change {
	return raw(func(c *Copy) {
		c.RawOnly = strings.Fields(options)
		then(c)
	})
}

func mustPool(s string) *mapping.Pool {
	p, err := mapping.ParsePool(s)
	if err != nil {
		panic(err)
	}
	return &p
}

func mustFilter(s string) filter.Expr {
	e, err := filter.Parse(s)
	if err != nil {
		panic(err)
	}
	return e
}

var copyTests = []struct {
	name string
	args string // after -x
	want change
}{
	{"nothing else", "", func(*Copy) {}},
	{"an intercept makes it raw", "-s 10.0.0.3", raw(nil)},
	{"an intercept's port", "-s 10.0.0.3:99",
		raw(func(c *Copy) { c.Intercepts = endpoints("10.0.0.3:99") })},
	{"the port of -p", "-s 10.0.0.3,10.0.0.4:98 -p 99",
		raw(func(c *Copy) { c.Intercepts = endpoints("10.0.0.3:99", "10.0.0.4:98") })},
	{"IPv6 intercepts", "-s [fd00::3]:99,[fd00::4],fd00::5", raw(func(c *Copy) {
		c.Intercepts = endpoints("[fd00::3]:99", "[fd00::4]:36524", "[fd00::5]:36524")
	})},
	{"-s again", "-s 10.0.0.3 -s 10.0.0.4",
		raw(func(c *Copy) { c.Intercepts = endpoints("10.0.0.3:36524", "10.0.0.4:36524") })},
	{"--via raw", "--via raw -s 10.0.0.3", raw(func(c *Copy) { c.LearnWay = false })},
	{"--via tunnel", "--via tunnel -s 10.0.0.3 -C 2 -L", raw(func(c *Copy) {
		c.Via, c.LearnWay, c.Connections, c.Lonely = ViaTunnel, false, 2, true
	})},
	{"--via socket", "--via socket", func(*Copy) {}},
	{"-c", "-s 10.0.0.3 -c 10.1.2.x", raw(func(c *Copy) { c.Clients = mustPool("10.1.2.x") })},
	{"-H", "-s 10.0.0.3 -H 10.1.2.3",
		raw(func(c *Copy) { c.LocalhostAs = addrs("10.1.2.3")[0] })},
	{"-n", "-n 3", func(c *Copy) { c.Copies = 3 }},
	{"-n most", "-s 10.0.0.3 -n1023", raw(func(c *Copy) { c.Copies = 1023 })},
	{"-n as many as ports", "-n 80 --bind 10.0.0.7,10.0.0.8",
		func(c *Copy) { c.Copies, c.Bind = 80, addrs("10.0.0.7", "10.0.0.8") }},
	{"-n fraction", "-n 2.5", func(c *Copy) { c.Copies = 2.5 }},
	{"--stagger", "-n 2 --stagger 100ms", func(c *Copy) {
		c.Copies, c.Stagger = 2,
			100*time.Millisecond
	}},
	{"-c through the tunnel", "--via tunnel -s 10.0.0.3 -c 10.1.2.x -H 10.1.3.1 -f 7",
		func(c *Copy) {
			c.Via, c.Intercepts, c.Clients, c.LocalhostAs, c.PortShift = ViaTunnel,
				endpoints("10.0.0.3:36524"), mustPool("10.1.2.x"), addrs("10.1.3.1")[0], 7
		}},
	{"-n through the tunnel", "--via tunnel -s 10.0.0.3 -n 2", func(c *Copy) {
		c.Via, c.Intercepts, c.Copies = ViaTunnel, endpoints("10.0.0.3:36524"), 2
	}},
	{"--balance", "--balance least", func(c *Copy) { c.Balance = balance.Least }},
	{"--balance all", "--balance all --health on", func(c *Copy) {
		c.Balance,
			c.Health = balance.All, HealthOn
	}},
	{"--only and --except", "--only 10.0.0.0/8,fd00::1 --only 192.0.2.1 --except 10.1.2.3/16",
		func(c *Copy) {
			c.Only, c.Except = networks("10.0.0.0/8", "fd00::1/128", "192.0.2.1/32"),
				networks("10.1.0.0/16")
		}},
	{"--sample-by", "-r 10 --sample-by client", func(c *Copy) {
		c.SamplePercent,
			c.SampleBy = 10, ByClient
	}},
	{"rates", "--max-rate 1000 --max-mbps 2.5", func(c *Copy) {
		c.MaxRate, c.MaxMbps = 1000,
			2.5
	}},
	{"-f", "-s 10.0.0.3 -f 7", raw(func(c *Copy) { c.PortShift = 7 })},
	{"-r", "-r 20", func(c *Copy) { c.SamplePercent = 20 }},
	{"-r fraction", "-r 0.5%", func(c *Copy) { c.SamplePercent = 0.5 }},
	{"-g", "-g", func(c *Copy) { c.Ramp = 100 * time.Second }},
	{"--ramp", "--ramp 30s", func(c *Copy) { c.Ramp = 30 * time.Second }},
	{"-m", "-m 64", func(c *Copy) { c.Memory = 64 << 20 }},
	{"-m with unit", "-m 2GB", func(c *Copy) { c.Memory = 2 << 30 }},
	{"-M -D", "-s 10.0.0.3 -M 1400 -D 1360", only("-M -D", func(c *Copy) {
		c.MTU, c.MSS = 1400,
			1360
	})},
	{"-R", "-R 20", func(c *Copy) { c.RTT = 20 * time.Millisecond }},
	{"-t -k", "-t 60 -k 5m", func(c *Copy) {
		c.SessionTimeout,
			c.KeepaliveTimeout = time.Minute, 5*time.Minute
	}},
	{"-C", "-s 10.0.0.3 -C 2", raw(func(c *Copy) { c.Connections = 2 })},
	{"-W", "-W", func(c *Copy) { c.Wait = WaitNone }},
	{"-W and the same in words", "-W --wait none", func(c *Copy) { c.Wait = WaitNone }},
	{"--wait", "--wait quiet", func(c *Copy) { c.Wait = WaitQuiet }},
	{"-O -L in one", "-s 10.0.0.3 -OL", raw(func(c *Copy) {
		c.WholeSessions, c.Lonely = true,
			true
	})},
	{"-i", "-i eth0,lo -i eth1", func(c *Copy) {
		c.Interfaces = []string{"eth0", "lo",
			"eth1"}
	}},
	{"-i any", "-i any", func(*Copy) {}},
	{"-F", "-F src_net_10.0.0.0/8", func(c *Copy) { c.Filter = mustFilter("src net 10.0.0.0/8") }},
	{"-B", "-B 32", func(c *Copy) { c.Ring = 32 << 20 }},
	{"-S whole", "-S 65535", func(*Copy) {}},
	{"-o", "-s 10.0.0.3 -o eth0", only("-o", func(c *Copy) { c.OutputDevice = "eth0" })},
	{"-l -P -d", "-l log -P pid -d", func(c *Copy) {
		c.Process = Process{LogFile: "log",
			PIDFile: "pid", Daemon: true}
	}},
	{"--proxy-protocol", "--proxy-protocol v2", func(c *Copy) { c.ProxyProtocol = 2 }},
	{"--bind", "--bind 10.0.0.7,fd00::7", func(c *Copy) {
		c.Bind = addrs("10.0.0.7",
			"fd00::7")
	}},
	{"--bind a range", "--bind 10.0.0.254-10.0.1.1",
		func(c *Copy) { c.Bind = addrs("10.0.0.254", "10.0.0.255", "10.0.1.0", "10.0.1.1") }},
	{"--bind a network", "--bind 10.0.0.8/30,10.0.0.7",
		func(c *Copy) { c.Bind = addrs("10.0.0.9", "10.0.0.10", "10.0.0.7") }},
	{"--stats", "--stats 500ms", func(c *Copy) { c.Stats = 500 * time.Millisecond }},
	{"--stats 0", "--stats 0", func(c *Copy) { c.Stats = 0 }},
	{"--report", "--report r.json", func(c *Copy) { c.Report = "r.json" }},
	{"bounds", "--max-sessions 9 --session-memory 1M --gate-limit 3s --connect-timeout 4 " +
		"--drain 0", func(c *Copy) {
		c.MaxSessions, c.SessionMemory, c.GateLimit = 9, 1<<20, 3*time.Second
		c.ConnectTimeout, c.Drain = 4*time.Second, 0
	}},
	{"TCP of our own", "-s 10.0.0.3 --syn minimal --congestion bbr",
		only("--syn --congestion", func(c *Copy) {
			c.SYN, c.Congestion = way.SYNMinimal, way.BBR
		})},
	{"--shards --mark", "--shards 4 --mark 0x10", func(c *Copy) { c.Shards, c.Mark = 4, 16 }},
	{"--insecure", "-s 10.0.0.3 --insecure", raw(func(c *Copy) { c.Insecure = true })},
}

func TestCopy(t *testing.T) {
	noKeyInEnvironment(t)
	mappings, err := mapping.Parse("80-10.0.0.2:8080")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range copyTests {
		t.Run(tt.name, func(t *testing.T) {
			args := []string{"-x", "80-10.0.0.2:8080"}
			for _, a := range strings.Fields(tt.args) {
				args = append(args, strings.ReplaceAll(a, "_", " "))
			}
			got, _, err := parse(t, args...)
			if err != nil {
				t.Fatal(err)
			}
			want := defaultCopy()
			want.Mappings = mappings
			tt.want(&want)
			if d := cmp.Diff(&want, got, same); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}

func TestMappingsAddUp(t *testing.T) {
	c, _, err := parse(t, "-x", "80-10.0.0.2:8080", "--map", "81-10.0.0.2:8081,82-[fd00::2]:82")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"80-10.0.0.2:8080", "81-10.0.0.2:8081", "82-[fd00::2]:82"}
	if d := cmp.Diff(want, c.MappingStrings()); d != "" {
		t.Error(d)
	}
}

// Every letter of TCPCopy must be known: honoured, or refused with a reason.
func TestLetters(t *testing.T) {
	for _, tt := range []struct {
		name, letters string
		options       func(*pflag.FlagSet)
	}{
		{"tcpcopy", "xscHnfrgmMDRtkCWOLiFBSoaITlPdpUu",
			func(fs *pflag.FlagSet) { NewCopyOptions(fs, host) }},
		{"intercept", "iFopxclPdnstbDq",
			func(fs *pflag.FlagSet) { NewInterceptOptions(fs, host) }},
	} {
		fs := pflag.NewFlagSet(tt.name, pflag.ContinueOnError)
		tt.options(fs)
		for _, l := range tt.letters {
			f := fs.ShorthandLookup(string(l))
			if f == nil {
				t.Errorf("%s -%c is not known", tt.name, l)
				continue
			}
			if len(f.Name) < 2 || GroupOf(f) == "" || f.Usage == "" {
				t.Errorf("%s -%c lacks a name, a group or help: %+v", tt.name, l, f)
			}
			if why := Refused(f); why != "" {
				err := f.Value.Set("1")
				if err == nil || !strings.Contains(err.Error(), why) {
					t.Errorf("%s -%c is refused with %v, wanted %q", tt.name, l, err, why)
				}
			}
		}
	}
}

// manyPaths returns so many options that name a path each.
func manyPaths(n int) (all string) {
	for i := range n {
		all += fmt.Sprintf(" --show body.f%d", i)
	}
	return all
}

const x80 = "-x 80-10.0.0.2:8080 "

var refusals = []struct{ name, args, want, hint string }{
	{"no mapping", "", "nothing to copy: wanted -x [IP:]PORT-TARGET:PORT",
		"tcpcopy -x 80-10.0.0.2:8080 copies"},
	{"--against-only alone", x80 + "--compare --against-only", "--against-only: 80-10.0.0.2:8080 " +
		"has no old version: wanted --against OLD:PORT", ""},
	{"--against-only of MySQL",
		x80 + "--compare --against 10.0.0.3:80 --against-only --proto mysql",
		"--against-only: 80-10.0.0.2:8080: requests of mysql cannot be told apart", ""},
	{"--against-only of bytes", x80 + "--compare --against 10.0.0.3:80 --against-only --proto none",
		"--against-only: 80-10.0.0.2:8080: bytes are compared with production's alone", ""},
	{"--show a secret", x80 + "--compare --show body.user.Password",
		`--show: path "body.user.Password" names a secret: wanted one whose values may be seen`,
		""},
	{"--show a secret header", x80 + "--compare --show header_authorization",
		`--show: path "header authorization" names a secret`, ""},
	{"--show of an endpoint", x80 + "--compare --show GET_/a_body.name",
		`--show "GET /a body.name": wanted a path without an endpoint`, ""},
	{"--show no path", x80 + "--compare --show name", `--show: rule "name" has no path`, ""},
	{"--show alone", x80 + "--show body.name", "--show: needs --compare", ""},
	{"--tolerance no amount", x80 + "--compare --tolerance body.price",
		`--tolerance: tolerance "body.price": wanted [ENDPOINT ]PATH AMOUNT with a number`, ""},
	{"--tolerance not a number", x80 + "--compare --tolerance body.price_0x1",
		`--tolerance: tolerance "body.price 0x1": wanted [ENDPOINT ]PATH AMOUNT with a number`, ""},
	{"--tolerance 0", x80 + "--compare --tolerance body.price_0%",
		`--tolerance: tolerance "body.price 0%": wanted [ENDPOINT ]PATH AMOUNT with a number`, ""},
	{"--fail-on a word", x80 + "--compare --fail-on differ",
		`--fail-on "differ": wanted differs, slower, or both with a comma`, ""},
	{"--fail-on alone", x80 + "--fail-on differs", "--fail-on: needs --compare", ""},
	{"--fail-on slower than nothing", x80 + "--compare --fail-on differs,slower",
		`--fail-on "slower": needs --against`, ""},
	{"--slower-by a number", x80 + "--compare --against 10.0.0.3:80 --slower-by 10",
		`--slower-by "10": wanted a percentage above 0, such as 10%`, ""},
	{"--slower-by nothing", x80 + "--compare --slower-by 10%", "--slower-by: needs --against", ""},
	{"--slower-by not judged",
		x80 + "--compare --against 10.0.0.3:80 --slower-by 10% --fail-on differs",
		"--slower-by: is of no use if --fail-on is differs alone", ""},
	{"--headers no name", x80 + "--compare --headers x:y",
		`--headers "x:y": wanted names of headers with commas`, ""},
	{"too many paths", x80 + "--compare" + manyPaths(65),
		"--show: and --tolerance name 65 paths: wanted at most 64", ""},
	{"--against alone", x80 + "--against 10.0.0.3:8080", "--against: needs --compare", ""},
	{"--against no port", x80 + "--compare --against 10.0.0.3",
		`--against "10.0.0.3": wanted the address and port of a server, such as 10.0.0.3:8080 ` +
			"(names are not looked up)", ""},
	{"--against a target", x80 + "--compare --against 10.0.0.2:8080",
		`--against "10.0.0.2:8080": is a target of 80-10.0.0.2:8080: wanted another server, of ` +
			"the old version", ""},
	{"--against production", "-x 10.0.0.1:80-10.0.0.2:8080 --compare --against 10.0.0.1:80",
		`--against "10.0.0.1:80": is production: wanted another server of the same version`, ""},
	{"--against of two mappings", x80 + "-x 81-10.0.0.2:8081 --compare --against 10.0.0.3:80",
		`--against "10.0.0.3:80": is the old version of 80-10.0.0.2:8080 and of ` +
			"81-10.0.0.2:8081: wanted one for each mapping, as against in a configuration file",
		""},
	{"--against in another family", x80 + "--compare --against [fd00::3]:80 --bind 10.0.0.7",
		"--bind: has no address that can connect to [fd00::3]:80", ""},
	{"raw without intercept", x80 + "--via raw",
		`--via "raw": needs an intercept: wanted -s IP[:PORT]`, ""},
	{"socket with intercept", x80 + "--via socket -s 10.0.0.3",
		"-s: does not go with --via socket, which uses no intercept: wanted one of them", ""},
	{"tunnel without intercept", x80 + "--via tunnel",
		`--via "tunnel": needs an intercept: wanted -s IP[:PORT]`, ""},
	{"tunnel with PROXY headers", x80 + "--via tunnel -s 10.0.0.3 --proxy-protocol v1",
		"--proxy-protocol: does not go with --via tunnel: packets carry the client's own " +
			"address already", ""},
	{"no way", x80 + "--via pigeon", `--via "pigeon": wanted socket, raw or tunnel`, ""},
	{"-s a name", x80 + "-s assistant:99",
		`-s: "assistant:99" is not an IP address: wanted ip, ip:port or [ip]:port`,
		"getent ahosts assistant shows"},
	{"-s empty part", x80 + "-s 10.0.0.3,", `-s "10.0.0.3,": has an empty part`, ""},
	{"-s port 0", x80 + "-s 10.0.0.3:0",
		`-s: "10.0.0.3:0" has no valid port: wanted a number from 1 to 65535 after the last ` +
			`colon`, ""},
	{"-s port 65536", x80 + "-s [fd00::3]:65536", `-s: "[fd00::3]:65536" has no valid port`, ""},
	{"-s IPv6 without brackets", x80 + "-s fd00::xyz:99",
		`-s: "fd00::xyz:99" is not an IP address`, "needs brackets"},
	{"-s twice", x80 + "-s 10.0.0.3,10.0.0.3:36524",
		`-s "10.0.0.3:36524": is given twice: wanted each intercept once`, ""},
	{"-s everybody", x80 + "-s 0.0.0.0",
		`-s "0.0.0.0": cannot be connected to: wanted an intercept's own address`, ""},
	{"raw to loopback", "-x 80-127.0.0.1:8080 -s 10.0.0.3",
		`-x "80-127.0.0.1:8080": a target on this host cannot answer`, "without -s"},
	{"-c of the other family", "-x 80-[fd00::2]:80 -s 10.0.0.3 -c 10.1.2.x",
		`-c "10.1.2.0/24": has no address that can connect to [fd00::2]:80: wanted some of ` +
			`its family`, ""},
	{"-c nothing", x80 + "-s 10.0.0.3 -c 10.1.2.y", `-c: "10.1.2.y"`, ""},
	{"-x no target", "-x 80", `-x: "80" has no "-"`, ""},
	{"-x twice", x80 + "-x 80-10.0.0.3:8080", `-x: `, ""},
	{"-c without raw", x80 + "-c 10.1.2.x",
		"-c: needs -s IP[:PORT]: an ordinary connection comes from this host's own address",
		""},
	{"-H without raw", x80 + "-H 10.1.2.3", "-H: needs -s IP[:PORT]: an ordinary", ""},
	{"-f without raw", x80 + "-f 1", "-f: needs -s IP[:PORT]: the kernel chooses the ports", ""},
	{"-M without raw", x80 + "-M 1400", "-M: needs -s IP[:PORT]: the kernel makes the segments",
		""},
	{"-D without raw", x80 + "-D 1400", "-D: needs -s IP[:PORT]: the kernel makes the segments",
		""},
	{"--syn without raw", x80 + "--syn full", "--syn: needs -s IP[:PORT]", ""},
	{"--congestion without raw", x80 + "--congestion cubic", "--congestion: needs -s IP[:PORT]",
		""},
	{"-o without raw", x80 + "-o eth0", "-o: needs -s IP[:PORT]", ""},
	{"-C without raw", x80 + "-C 2",
		"-C: needs -s IP[:PORT]: without an intercept there is no link to it", ""},
	{"-L without raw", x80 + "-L", "-L: needs -s IP[:PORT]", ""},
	{"-p without raw", x80 + "-p 99", "-p: needs -s IP[:PORT]", ""},
	{"--key without raw", x80 + "--key k", "--key: needs -s IP[:PORT]", ""},
	{"--insecure without raw", x80 + "--insecure", "--insecure: needs -s IP[:PORT]", ""},
	{"--bind with raw", x80 + "-s 10.0.0.3 --bind 10.0.0.1",
		"--bind: does not go with -s: packets carry the client's own address already", ""},
	{"--proxy-protocol with raw", x80 + "-s 10.0.0.3 --proxy-protocol v1",
		"--proxy-protocol: does not go with -s", ""},
	{"--bind a range backwards", x80 + "--bind 10.0.0.9-10.0.0.5",
		`--bind: "10.0.0.9-10.0.0.5" is not a range: wanted two addresses of one family, ` +
			`the lower one first`, ""},
	{"--bind a range of families", x80 + "--bind 10.0.0.9-fd00::1",
		`--bind: "10.0.0.9-fd00::1" is not a range`, ""},
	{"--bind too many", x80 + "--bind 10.0.0.0/8",
		`--bind: "10.0.0.0/8" has too many addresses: wanted at most 4096 in all`, ""},
	{"--bind a range of too many", x80 + "--bind fd00::1-fd00::ffff",
		`--bind: "fd00::1-fd00::ffff" has too many addresses`, ""},
	{"--bind half a range", x80 + "--bind 10.0.0.9-",
		`--bind: "" is not an IP address: wanted an address, a range such as`, ""},
	{"-H loopback", x80 + "-s 10.0.0.3 -H 127.0.0.2",
		`-H "127.0.0.2": cannot be a client's address on the network`, ""},
	{"-H a name", x80 + "-s 10.0.0.3 -H localhost", `-H: "localhost" is not an IP address`,
		"getent ahosts localhost"},
	{"-n 0", x80 + "-n 0", `-n "0": wanted a number from 1 to 1023, such as 3 or 2.5`, ""},
	{"-n 1024", x80 + "-n 1024", `-n "1024": wanted a number from 1 to 1023, such as 3 or 2.5`,
		""},
	{"-n a word", x80 + "--copies three",
		`-n "three": wanted a number from 1 to 1023, such as 3 or 2.5`, ""},
	{"-n NaN", x80 + "-n nan", `-n "nan": wanted a number from 1`, ""},
	{"-n ten thousand", x80 + "-n 10000",
		`-n "10000": wanted a number from 1 to 1023, such as 3 or 2.5`, ""},
	{"-n ten thousand by raw", x80 + "-s 10.0.0.3 -n 10000",
		`-n "10000": wanted a number from 1 to 1023, such as 3 or 2.5`, ""},
	{"more copies than ports", x80 + "-n 41",
		`-n "41": wants more copies of one session than there can be connections to ` +
			`10.0.0.2:8080: wanted 40 at most`, "each address of --bind has 40 ports"},
	{"more copies than ports of a pool", x80 + "-n 80.5 --bind 10.0.0.1,fd00::1,10.0.0.7",
		`-n "80.5": wants more copies of one session than there can be connections to ` +
			`10.0.0.2:8080: wanted 80 at most`, "each address of --bind has 40 ports"},
	{"more copies than ports, for two targets",
		"-x 80-10.0.0.2:8080|10.0.0.3:8080 --balance session -n 81",
		`-n "81": wants more copies of one session than there can be connections to ` +
			`10.0.0.2:8080`, ""},
	{"more copies than ports, for all targets",
		"-x 80-10.0.0.2:8080|10.0.0.3:8080 --balance all -n 41",
		`-n "41": wants more copies of one session than there can be connections to ` +
			`10.0.0.2:8080`, ""},
	{"--bind of the other family", x80 + "--bind fd00::1",
		`--bind: has no address that can connect to 10.0.0.2:8080: wanted some of its family`,
		""},
	{"more copies than sessions", x80 + "-n 3 --max-sessions 2",
		`--max-sessions "2": cannot hold the 3 copies of a single session: wanted at least ` +
			`as many`, ""},
	{"copies of all more than sessions",
		"-x 80-10.0.0.2:80|10.0.0.3:80 --balance all -n 3 --max-sessions 5",
		`--max-sessions "5": cannot hold the 6 copies`, ""},
	{"stagger without end", x80 + "-n 500 --stagger 1s",
		`--stagger "1s": starts the last of 500 copies after 8m19s: wanted no more than ` +
			`--session-timeout, 2m`, ""},
	{"--balance", x80 + "--balance fair",
		`--balance "fair": wanted client, session, round-robin, least or all`, ""},
	{"--health", x80 + "--health yes", `--health "yes": wanted auto, on or off`, ""},
	{"weights for all", "-x 80-10.0.0.2:80*2|10.0.0.3:80 --balance all",
		`-x "80-10.0.0.2:80*2|10.0.0.3:80": has weights, but with --balance all`, ""},
	{"--only a name", x80 + "--only office",
		`--only: "office" is not an IP address: wanted addresses or networks`, "getent"},
	{"--except", x80 + "--except 10.0.0.0/33", `--except: "10.0.0.0/33" is not an IP address`,
		""},
	{"--sample-by", x80 + "--sample-by port", `--sample-by "port": wanted session or client`,
		""},
	{"--max-rate", x80 + "--max-rate 0",
		`--max-rate "0": wanted a number of sessions a second from 0.1 to 1e+07`, ""},
	{"--max-mbps", x80 + "--max-mbps fast",
		`--max-mbps "fast": wanted a number of megabits a second`, ""},
	{"-f 1024", x80 + "-f 1024", `-f "1024": wanted a whole number from 0 to 1023`, ""},
	{"-r 0", x80 + "-r 0", `-r "0": wanted a percentage above 0, up to 100`, ""},
	{"-r 101", x80 + "-r 101", `-r "101": wanted a percentage above 0, up to 100`, ""},
	{"-r NaN", x80 + "-r nan", `-r "nan": wanted a percentage above 0, up to 100`, ""},
	{"--ramp", x80 + "--ramp=fast",
		`--ramp "fast": wanted a number of seconds, or a time such as 3s; from 1s to 24h`, ""},
	{"-m too little", x80 + "-m 15",
		`-m "15": wanted a number of megabytes, or a size such as 64K, 16M or 1G; from 16M ` +
			`to 1024G`, ""},
	{"-m huge", x80 + "-m 99999999999999999999",
		`-m "99999999999999999999": wanted a number of megabytes`, ""},
	{"-M", x80 + "-s 10.0.0.3 -M 100", `-M "100": wanted a whole number from 576 to 65535`, ""},
	{"-D over -M", x80 + "-s 10.0.0.3 -M 1500 -D 1461",
		`-D "1461": does not fit packets of -M 1500: wanted 1460 or less`, ""},
	{"-R", x80 + "-R 0", `-R "0": wanted a number of milliseconds, or a time such as 3ms; ` +
		`from 1ms to 1m`, ""},
	{"-t", x80 + "-t soon",
		`-t "soon": wanted a number of seconds, or a time such as 3s; from 1s to 168h`, ""},
	{"-t infinite", x80 + "-t inf", `-t "inf": wanted a number of seconds`, ""},
	{"-C", x80 + "-s 10.0.0.3 -C 17", `-C "17": wanted a whole number from 1 to 16`, ""},
	{"-W against --wait", x80 + "-W --wait bytes",
		"-W: is --wait none, and --wait bytes was given too: wanted one of them", ""},
	{"--wait", x80 + "--wait long", `--wait "long": wanted auto, bytes, quiet or none`, ""},
	{"-i unknown", x80 + "-i eth9", `-i: no interface "eth9" here: wanted lo, eth0 or eth1`, ""},
	{"-i a pcap that is not there", x80 + "-i gone.pcap",
		`capture file "gone.pcap": no such file or directory: wanted`, ""},
	{"-i a file and an interface", x80 + "-i capture,eth0",
		`-i: "eth0" is not a capture file: wanted files, or interfaces`, ""},
	{"-i a file, and an interface", x80 + "-i capture -i eth0", `-i: has interfaces and files`,
		""},
	{"-o two", x80 + "-s 10.0.0.3 -o eth0,eth1", `-o "eth0,eth1": wanted one device`, ""},
	{"-o any", x80 + "-s 10.0.0.3 -o any", `-o: no interface "any" here`, ""},
	{"-F unknown", x80 + "-F less_100", `-F: "less" is not supported`, ""},
	{"-F empty", x80 + "-F _",
		`-F " ": is empty: wanted an expression such as 'tcp and port 80'`, ""},
	{"-B", x80 + "-B 1", `-B "1": wanted a number of megabytes, or a size such as 64K, 16M or ` +
		`1G; from 2M to 4G`, ""},
	{"-S cut", x80 + "-S 1500",
		`-S "1500": a packet that was cut cannot be copied: wanted 65535 or more`,
		"leave -S out"},
	{"-S a word", x80 + "-S all", `-S "all": wanted a whole number, 65535 or more`, ""},
	{"-a", x80 + "-a 2", "-a: is for a replay: wanted -i with the name of a capture file",
		"tcpcopy replay"},
	{"-I", x80 + "-I 2", "-I: is for a replay", ""},
	{"-T", x80 + "-T 2", "-T: is for a replay", ""},
	{"-a without its value", x80 + "-a", "-a: needs a value: wanted N", ""},
	{"-U", x80 + "-U 1", "-U: sessions have no pools of a fixed size here: --session-memory " +
		"bounds", ""},
	{"-u", x80 + "-u a@b",
		"-u: logins to the target's MySQL are given as USER:PASSWORD, with --mysql-login or " +
			"--mysql-login-file", ""},
	{"-l empty", x80 + "--log=", "-l: is empty: wanted the name of a file", ""},
	{"--proxy-protocol", x80 + "--proxy-protocol v3",
		`--proxy-protocol "v3": wanted v1 (text) or v2 (binary)`, ""},
	{"--bind everybody", x80 + "--bind 0.0.0.0",
		`--bind "0.0.0.0": cannot be connected from: wanted addresses of this host`, ""},
	{"--mark 0", x80 + "--mark 0", `--mark "0": wanted a number from 1 to 0xffffffff`, ""},
	{"--shards", x80 + "--shards 0", `--shards "0": wanted a whole number from 1 to 64`, ""},
	{"--session-memory", x80 + "--session-memory 1",
		`--session-memory "1": wanted a number of bytes, or a size such as 64K, 16M or 1G; ` +
			`from 64K to 16G`, ""},
	{"a switch with a value", x80 + "--lonely=perhaps",
		`-L "perhaps": wanted no value, or true or false`, ""},
	{"no value", "-x", "-x: needs a value: wanted MAPPING",
		"tcpcopy copy --help lists the options"},
	{"unknown letter", x80 + "-Z", "unknown option -Z", "tcpcopy copy --help lists the options"},
	{"unknown letter in a group", x80 + "-WZ", `unknown option -Z`, ""},
	{"unknown name", x80 + "--speed 2", "unknown option --speed",
		"tcpcopy copy --help lists the options"},
	{"no key file", x80 + "-s 10.0.0.3 --key nokey",
		`--key "nokey": cannot be read: no such file or directory`,
		"tcpcopy keygen > key makes one"},
	{"the key itself", x80 + "-s 10.0.0.3 --key tcpcopy-key-1:c2VjcmV0",
		"--key: is a key: wanted the name of a file that holds it", "TCPCOPY_KEY"},
	{"bad key file", x80 + "-s 10.0.0.3 --key badkey",
		`--key "badkey": does not begin with "tcpcopy-key-1:"`,
		"tcpcopy keygen > key makes one"},
}

func TestRefusals(t *testing.T) {
	noKeyInEnvironment(t)
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile("capture", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("badkey", []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			args := strings.Fields(tt.args)
			for i, a := range args {
				args[i] = strings.ReplaceAll(a, "_", " ")
			}
			_, _, err := parse(t, args...)
			var p *Problem
			if !errors.As(err, &p) {
				t.Fatalf("got %v, want a problem: %s", err, tt.want)
			}
			if got := p.Error(); !strings.HasPrefix(got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if !strings.Contains(p.Hint, tt.hint) {
				t.Errorf("hint %q, want %q", p.Hint, tt.hint)
			}
			if strings.Contains(p.Error()+p.Hint, "\n") || strings.Contains(p.Error(), asIs) {
				t.Errorf("not one plain line: %q", p.Error())
			}
		})
	}
}

func TestKey(t *testing.T) {
	noKeyInEnvironment(t)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key.Generate()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	raw := []string{"-x", "80-10.0.0.2:8080", "-s", "10.0.0.3"}

	c, warnings, err := parse(t, append(raw, "--key", file)...)
	if err != nil || c.Key == nil || len(warnings) != 0 {
		t.Errorf("a key file: %v, %q, %v", c, warnings, err)
	}
	c, warnings, err = parse(t, raw...)
	if err != nil || c.Key != nil || len(warnings) != 1 ||
		!strings.Contains(warnings[0], "neither encrypted nor authenticated") {
		t.Errorf("no key: %q, %v", warnings, err)
	}
	if _, warnings, err = parse(t, append(raw, "--insecure")...); err != nil ||
		len(warnings) != 0 {
		t.Errorf("insecure: %q, %v", warnings, err)
	}
	if _, warnings, err = parse(t, "-x", "80-10.0.0.2:8080", "-s", "127.0.0.1"); err != nil ||
		len(warnings) != 0 {
		t.Errorf("no key, to this host: %q, %v", warnings, err)
	}
	if _, _, err = parse(t, append(raw, "--key", file, "--insecure")...); err == nil {
		t.Error("both a key and none: no error")
	}

	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, warnings, err = parse(t, append(raw, "--key", file)...); err != nil ||
		len(warnings) != 1 || !strings.Contains(warnings[0], "chmod 600") {
		t.Errorf("a key that others can read: %q, %v", warnings, err)
	}

	t.Setenv(key.Env, key.Generate())
	if c, _, err = parse(t, raw...); err != nil || c.Key == nil {
		t.Errorf("in the environment: %v", err)
	}
	if c, warnings, err = parse(t, append(raw, "--insecure")...); err != nil || c.Key != nil ||
		len(warnings) != 1 {
		t.Errorf("in the environment, and not wanted: %q, %v", warnings, err)
	}
	if _, _, err = parse(t, "-x", "80-10.0.0.2:8080"); err != nil {
		t.Errorf("in the environment, and of no use: %v", err)
	}
	t.Setenv(key.Env, "secret")
	if _, _, err = parse(t, raw...); err == nil || strings.Contains(err.Error(), "secret") ||
		!strings.Contains(err.Error(), key.Env) {
		t.Errorf("a bad one in the environment: %v", err)
	}
}

func TestIntercept(t *testing.T) {
	noKeyInEnvironment(t)
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(key.Generate()), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, args string
		listen     []netip.AddrPort
		warnings   []string // beginnings
		err        string
	}{
		{"plain", "-i eth0", endpoints("127.0.0.1:36524", "[::1]:36524"),
			[]string{"no key: only copiers on this host", "no -F: every TCP packet"}, ""},
		{"key", "-F tcp --key " + file, endpoints("[::]:36524"), nil, ""},
		{"key and address", "-F tcp -b 10.0.0.3,[fd00::3] -p 99 --key " + file,
			endpoints("10.0.0.3:99", "[fd00::3]:99"), nil, ""},
		{"insecure", "-F tcp --insecure", endpoints("[::]:36524"),
			[]string{"--insecure: anybody who can reach port 36524"}, ""},
		{"loopback by name", "-F tcp -b 127.0.0.1", endpoints("127.0.0.1:36524"), nil, ""},
		{"open without key", "-F tcp -b 10.0.0.3", nil, nil,
			`-b "10.0.0.3": without a key only loopback addresses are listened on: wanted --key ` +
				`FILE, or --insecure`},
		{"-b a name", "-b assistant", nil, nil, `-b: "assistant" is not an IP address`},
		{"-b twice", "-b ::1,::1", nil, nil, `-b "::1,::1": is given twice`},
		{"-p", "-p 0", nil, nil, `-p "0": wanted a whole number from 1 to 65535`},
		{"-i", "-i eth7", nil, nil, `-i: no interface "eth7" here: wanted lo, eth0 or eth1`},
		{"-x", "-x 10.0.0.1,10.1.0.0/16,fd00::/64 -F tcp --insecure --allow-forwarding",
			endpoints("[::]:36524"), []string{"--insecure"}, ""},
		{"-x a name", "-x me", nil, nil,
			`-x: "me" is not an IP address: wanted addresses or networks such as 10.0.0.1 or ` +
				`10.0.0.0/24`},
		{"-c", "-c", nil, nil, "-c: each copier sees its own connections only"},
		{"-o", "-o eth0", nil, nil, "-o: the intercept sends no packets"},
		{"--dry-run and --cleanup", "--cleanup --dry-run", nil, nil,
			"--dry-run: does not go with --cleanup"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fs := pflag.NewFlagSet("intercept", pflag.ContinueOnError)
			fs.Usage = func() {}
			o := NewInterceptOptions(fs, host)
			var c *Intercept
			var warnings []string
			err := fs.Parse(strings.Fields(tt.args))
			if err != nil {
				err = FlagProblem(err, "")
			} else {
				c, warnings, err = o.Intercept()
			}
			if tt.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), tt.err) {
					t.Errorf("got %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.listen, c.Listen, same); d != "" {
				t.Error(d)
			}
			if len(warnings) != len(tt.warnings) {
				t.Fatalf("warnings %q, want %q", warnings, tt.warnings)
			}
			for i, w := range tt.warnings {
				if !strings.HasPrefix(warnings[i], w) {
					t.Errorf("warning %q, want %q", warnings[i], w)
				}
			}
		})
	}
}

func TestInterceptWithoutIPv6(t *testing.T) {
	noKeyInEnvironment(t)
	for args, want := range map[string][]netip.AddrPort{"": endpoints("127.0.0.1:36524"),
		"--insecure": endpoints("0.0.0.0:36524")} {
		fs := pflag.NewFlagSet("intercept", pflag.ContinueOnError)
		o := NewInterceptOptions(fs, Host{IPv6: func() bool { return false }})
		if err := fs.Parse(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		c, _, err := o.Intercept()
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, c.Listen, same); d != "" {
			t.Errorf("%q: %s", args, d)
		}
	}
}

func TestPasslist(t *testing.T) {
	fs := pflag.NewFlagSet("intercept", pflag.ContinueOnError)
	o := NewInterceptOptions(fs, host)
	if err := fs.Parse([]string{"-x", "10.0.0.1,10.1.2.3/16", "-x", "fd00::1"}); err != nil {
		t.Fatal(err)
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32"),
		netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00::1/128")}
	if d := cmp.Diff(want, o.c.Pass, cmpopts.EquateComparable(netip.Prefix{})); d != "" {
		t.Error(d)
	}
}

func TestLab(t *testing.T) {
	loads := []Scenario{{"one", ""}, {"two", ""}}
	for _, tt := range []struct {
		args string
		want Lab
		err  string
	}{
		{"", Lab{Via: ViaSocket}, ""},
		{
			"--via raw --conns 5 --rate 2.5 --duration 3 --answers bigger --loss 1% --ipv6 " +
				"--scenario two --mtu 9000 -- -W",
			Lab{
				Via: ViaRaw, Scenario: "two", Conns: 5, Rate: 2.5, Duration: 3 * time.Second,
				Answers: "bigger",
				Loss:    1, IPv6: true, MTU: 9000, Extra: []string{"-W"},
			}, "",
		},
		{"--via tunnels", Lab{}, `--via "tunnels": wanted socket, raw or tunnel`},
		{"--scenario three", Lab{}, `--scenario "three": wanted one or two`},
		{"--loss 51", Lab{}, `--loss "51": wanted a percentage from 0 to 50`},
		{"--rate 0", Lab{}, `--rate "0": wanted a number of requests a second, above 0`},
		{"--answers wrong", Lab{}, `--answers "wrong": wanted bigger, smaller or slower`},
		{"--conns 0", Lab{}, `--conns "0": wanted a whole number from 1 to 100000`},
	} {
		t.Run(tt.args, func(t *testing.T) {
			fs := pflag.NewFlagSet("lab", pflag.ContinueOnError)
			fs.Usage = func() {}
			o := NewLabOptions(fs, loads, []string{"http1", "redis"}, []string{"port"})
			if err := fs.Parse(strings.Fields(tt.args)); err != nil {
				if p := FlagProblem(err, ""); tt.err == "" ||
					!strings.HasPrefix(p.Error(), tt.err) {
					t.Errorf("got %v, want %s", p, tt.err)
				}
				return
			}
			got, err := o.Lab(fs.Args())
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(&tt.want, got, cmpopts.EquateEmpty()); d != "" || tt.err != "" {
				t.Errorf("want error %q (-want +got)\n%s", tt.err, d)
			}
		})
	}
}

func TestAmounts(t *testing.T) {
	for s, want := range map[string]int64{
		"1": mega, "0.5": mega / 2, "10k": 10 * kilo, "10KB": 10 * kilo, "2MiB": 2 * mega,
		"1g": giga, "512B": 512, "": -1, "B": -1,
		"-1": -1, "x": -1, "1T": -1, "nan": -1, "inf": -1, "1e300": -1, "KB": -1,
	} {
		got, ok := parseAmount(s, mega)
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q is %d, want %d", s, got, want)
		}
	}
}
