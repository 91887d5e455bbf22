package doctor

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// checkCase is one row of a check's table.
type checkCase struct {
	name  string
	facts Facts
	want  State  // of the first result; empty: no result
	seen  string // part of what was seen
	fix   string // the first fix
}

func runCases(t *testing.T, c *Check, cases []checkCase) {
	t.Helper()
	for _, k := range cases {
		t.Run(k.name, func(t *testing.T) {
			all := c.Judge(&k.facts)
			if len(all) == 0 {
				if k.want != "" {
					t.Fatalf("no result, want %s", k.want)
				}
				return
			}
			r := all[0]
			if r.State != k.want {
				t.Fatalf("%s (%s), want %s", r.State, r.Seen, k.want)
			}
			if !strings.Contains(r.Seen, k.seen) {
				t.Errorf("seen %q, want %q in it", r.Seen, k.seen)
			}
			if fix := strings.Join(r.Fix, "; "); fix != k.fix {
				t.Errorf("fix %q, want %q", fix, k.fix)
			}
		})
	}
}

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func port(p uint16) netip.AddrPort { return netip.AddrPortFrom(netip.Addr{}, p) }

const text = "80-10.0.0.2:8080"

// copying returns facts of a copier with some packets.
func copying(flows ...Flow) Facts {
	return Facts{
		Role: Copier, Via: "socket", Watched: 2 * time.Second, Args: []string{"copy", "-x", text},
		Mappings:  []Mapping{{Text: text, Production: port(80), Local: true}},
		Census:    &Census{Flows: flows},
		Listeners: &Listeners{All: []Listener{{Addr: ap("0.0.0.0:80")}}},
	}
}

// with returns facts after a change.
func with(f Facts, change func(*Facts)) Facts {
	change(&f)
	return f
}

// toPort returns a flow to a port of this host.
func toPort(p uint16, device string, packets int) Flow {
	return Flow{
		Interface: device, Server: netip.AddrPortFrom(addr("10.0.0.1"), p), Local: true,
		Packets: packets, Passed: packets, Plain: packets,
		Clients: []netip.Addr{addr("192.0.2.1")},
	}
}

func TestCapability(t *testing.T) {
	tunnel := Facts{Via: "tunnel", Needs: []Need{{"CAP_NET_ADMIN", "mark packets", false, "raw"}}}
	both := func(raw, admin bool) Facts {
		return Facts{Program: "/bin/tcpcopy", Needs: []Need{
			{"CAP_NET_RAW", "capture packets", raw, ""}, {"CAP_NET_ADMIN", "mark packets", admin,
				""},
		}}
	}
	runCases(t, &capabilityCheck, []checkCase{
		{"nothing needed", Facts{}, "", "", ""},
		{"both", both(true, true), Fine, "CAP_NET_RAW, CAP_NET_ADMIN", ""},
		{"not in this way", tunnel, "", "", ""},
		{"one", both(true, false), Found, "CAP_NET_ADMIN is missing to mark packets",
			"sudo setcap cap_net_raw,cap_net_admin+ep /bin/tcpcopy"},
	})
}

func TestDown(t *testing.T) {
	on := func(up bool) Facts {
		return Facts{CaptureOn: []string{"eth0"}, Interfaces: []Interface{{Name: "eth0", Up: up}}}
	}
	runCases(t, &downCheck, []checkCase{
		{"all interfaces", Facts{}, "", "", ""},
		{"up", on(true), Fine, "", ""},
		{"down", on(false), Found, "eth0 is down", "ip link set eth0 up"},
		{"not listed", Facts{CaptureOn: []string{"eth0"}}, Unknown, "", ""},
	})
}

func TestInterface(t *testing.T) {
	on := func(device string, flows ...Flow) Facts {
		f := copying(flows...)
		f.CaptureOn = []string{device}
		f.Args = append(f.Args, "-i", device)
		return f
	}
	runCases(t, &interfaceCheck, []checkCase{
		{"all interfaces", copying(toPort(80, "eth0", 9)), "", "", ""},
		{"the right one", on("eth0", toPort(80, "eth0", 9)), Fine, "9 packets", ""},
		{"another", on("eth1", toPort(80, "eth0", 9)), Found,
			"9 packets for port 80 came in on eth0",
			"tcpcopy copy -x 80-10.0.0.2:8080 -i eth0"},
		{"two others", on("eth1", toPort(80, "eth0", 9), toPort(80, "lo", 1)), Found, "eth0, lo",
			"tcpcopy copy -x 80-10.0.0.2:8080 -i eth0,lo"},
		{"a VLAN, and what it is on", with(on("eth1", toPort(80, "eth0", 9), toPort(80, "eth0.10",
			9)), func(f *Facts) {
			f.Interfaces = []Interface{{Name: "eth0"}, {Name: "eth0.10", Over: []string{"eth0"}}}
		}), Found, "came in on eth0.10, 0", "tcpcopy copy -x 80-10.0.0.2:8080 -i eth0.10"},
		{"no packets", on("eth1"), "", "", ""},
		{"no census", Facts{CaptureOn: []string{"eth0"}}, Unknown, "", ""},
	})
}

func TestFilter(t *testing.T) {
	filtered := func(empty bool, flows ...Flow) Facts {
		f := copying(flows...)
		f.Filter, f.FilterEmpty = "port 81", empty
		f.Args = append(f.Args, "-F", "port 81")
		return f
	}
	none := toPort(80, "eth0", 9)
	none.Passed = 0
	runCases(t, &filterCheck, []checkCase{
		{"none", copying(), "", "", ""},
		{"matches nothing possible", filtered(true), Found, "accepts no packet",
			"tcpcopy copy -x 80-10.0.0.2:8080"},
		{"can match", filtered(false), Fine, "can match", ""},
		{"accepts", filtered(false, toPort(80, "eth0", 9)), Fine, "accepts 9 of 9", ""},
		{"accepts nothing that comes", filtered(false, none), Found, "of 9 packets to port 80",
			"tcpcopy copy -x 80-10.0.0.2:8080"},
	})
}

func TestTraffic(t *testing.T) {
	named := func(production string, flows ...Flow) Facts {
		f := copying(flows...)
		f.Mappings[0] = Mapping{Text: production + "-10.0.0.2:8080", Production: ap(production)}
		f.Args[2] = f.Mappings[0].Text
		return f
	}
	other := func(flows ...Flow) Facts {
		return with(copying(flows...),
			func(f *Facts) { f.Listeners.All[0].Addr = ap("0.0.0.0:8000") })
	}
	runCases(t, &trafficCheck, []checkCase{
		{"packets", copying(toPort(80, "eth0", 9)), Fine, "9 packets", ""},
		{"idle", copying(), Unknown, "a server listens there", ""},
		{"another port", other(toPort(8000, "eth0", 7)), Found, "7 packets came for port 8000",
			"tcpcopy copy -x 8000-10.0.0.2:8080"},
		{"ssh is no candidate", other(toPort(22, "eth0", 7)), Found, "no server listens", ""},
		{"nothing at all", other(), Found, "no server listens on port 80", ""},
		{"another address", named("10.0.0.7:80", toPort(80, "eth0", 5)), Found, "5 for 10.0.0.1:80",
			"tcpcopy copy -x 10.0.0.1:80-10.0.0.2:8080"},
		{"the address", named("10.0.0.1:80", toPort(80, "eth0", 5)), Fine, "5 packets", ""},
		{"the census lost packets", with(other(), func(f *Facts) { f.Census.Dropped = 1 }), Unknown,
			"", ""},
		{"no census", Facts{}, Unknown, "", ""},
		{"packets of other hosts", Facts{Remote: true}, "", "", ""},
		{"the port in a container", published80(), Found,
			"3 connections to 10.0.0.1:8000 were passed on to 172.17.0.2:80",
			"tcpcopy copy -x 8000-10.0.0.2:8080"},
		{"an idle server here, and a container with the same port",
			with(published80(), func(f *Facts) {
				f.Listeners.All = []Listener{{Addr: ap("0.0.0.0:80")}}
			}), Unknown, "a server listens there", ""},
		{"the port in another's container", with(published80(), func(f *Facts) {
			f.Census.Translated[0].Local = false
		}), Found, "passed on to 172.17.0.2:80", "tcpcopy copy -x 10.0.0.1:8000-10.0.0.2:8080"},
		{"the container's address, as packets leave", with(named("172.17.0.2:80", passing()),
			func(f *Facts) {}), Fine, "9 packets", ""},
		{"a published port, idle", with(other(), func(f *Facts) {
			f.PassedOn = []PassedOn{{Port: 80, To: ap("172.17.0.2:80"), Rule: "ip nat x"}}
		}), Unknown, "passes connections there on to 172.17.0.2:80 (ip nat x)", ""},
		{"another port, published", with(published80(), func(f *Facts) {
			f.Census.Translated[0].After = ap("172.17.0.2:81")
		}), Found, "9 packets came for port 8000", "tcpcopy copy -x 8000-10.0.0.2:8080"},
	})
}

// passing returns the packets that this host passes on to a container.
func passing() Flow {
	w := toPort(80, "docker0", 9)
	w.Server, w.Local, w.Outgoing = ap("172.17.0.2:80"), false, true
	return w
}

// published80 returns facts of a host that passes port 8000 on to port 80 of a container.
func published80() Facts {
	f := copying(toPort(8000, "eth0", 9), passing())
	f.Listeners.All = nil
	f.Census.Translated = []Translation{{ap("10.0.0.1:8000"), ap("172.17.0.2:80"), true, 3}}
	return f
}

func TestLoopback(t *testing.T) {
	local := toPort(80, "lo", 4)
	local.Clients, local.Loopback = []netip.Addr{addr("127.0.0.1")}, true
	via := func(via string, flows ...Flow) Facts {
		return with(copying(flows...), func(f *Facts) {
			f.Via = via
			f.Targets = []TargetFacts{{Route: Route{Source: addr("10.0.0.1")}}}
		})
	}
	quick := func(way string, interfaces ...string) Facts {
		return with(via(way), func(f *Facts) {
			f.Census, f.CaptureOn = nil, interfaces
			f.Interfaces = []Interface{{Name: "lo", Loopback: true}, {Name: "eth0"}}
		})
	}
	runCases(t, &loopbackCheck, []checkCase{
		{"socket", via("socket", local), "", "", ""},
		{"raw", via("raw", local), Found, "4 packets, all from loopback", ""},
		{"tunnel", via("tunnel", local), Found, "4 packets, all from loopback",
			"tcpcopy copy -x 80-10.0.0.2:8080 -H 10.0.0.1"},
		{"with -H", with(via("raw", local), func(f *Facts) { f.StandsIn = true }), Fine, "", ""},
		{"others too", via("raw", local, toPort(80, "eth0", 3)), Fine, "some clients", ""},
		{"others", via("raw", toPort(80, "eth0", 3)), Fine, "", ""},
		{"nothing watched, -i lo", quick("tunnel", "lo"), Found, "-i names lo alone",
			"tcpcopy copy -x 80-10.0.0.2:8080 -H 10.0.0.1"},
		{"nothing watched, -i lo in raw", quick("raw", "lo"), Found, "-i names lo alone", ""},
		{"nothing watched, two interfaces", quick("raw", "lo", "eth0"), "", "", ""},
		{"nothing watched, all interfaces", quick("raw"), "", "", ""},
		{"nothing watched, in socket", quick("socket", "lo"), "", "", ""},
		{"nothing watched, with -H", with(quick("raw", "lo"), func(f *Facts) {
			f.StandsIn = true
		}), "", "", ""},
	})
}

func TestTLS(t *testing.T) {
	tls := toPort(80, "eth0", 6)
	tls.TLS, tls.Plain = 6, 0
	proxied := toPort(8081, "lo", 5)
	proxied.Loopback = true
	runCases(t, &tlsCheck, []checkCase{
		{"plain", copying(toPort(80, "eth0", 9)), Fine, "9 of 9", ""},
		{"TLS only", copying(tls), Found, "all 6 packets", ""},
		{"both", copying(tls, toPort(80, "eth0", 1)), Fine, "1 of 7", ""},
		{"a proxy passes on", copying(tls, proxied), Found, "to port 8081, 5 are not",
			"tcpcopy copy -x 8081-10.0.0.2:8080"},
		{"no payload", copying(Flow{Server: ap("10.0.0.1:80"), Local: true, Packets: 1}), "", "",
			""},
	})
}

func TestRing(t *testing.T) {
	running := func(offered, dropped uint64) Facts {
		return Facts{Args: []string{"copy"}, Running: &Running{Offered: offered,
			KernelDrop: dropped}}
	}
	runCases(t, &ringCheck, []checkCase{
		{"none runs", Facts{}, "", "", ""},
		{"few", running(10000, 9), Fine, "9 of 10000", ""},
		{"many", running(10000, 10), Found, "10 of 10000", "tcpcopy copy -B 256"},
	})
}

func TestUnquoted(t *testing.T) {
	typed := func(line string, extra ...string) Facts {
		return Facts{Args: strings.Fields(line), Extra: extra}
	}
	runCases(t, &unquotedCheck, []checkCase{
		{"none", typed("intercept -i eth0"), "", "", ""},
		{"split", typed("intercept -F tcp and src port 80 -i eth0", "and", "src", "port", "80"),
			Found,
			`"and src port 80" is left over`, "tcpcopy intercept -F 'tcp and src port 80' -i eth0"},
		{"another word", typed("intercept eth0 -F tcp", "eth0"), "", "", ""},
	})
}
