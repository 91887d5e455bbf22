package doctor

import (
	"testing"
	"time"
)

// reaching returns facts of a copier with one target.
func reaching(t TargetFacts, errors ...ICMP) Facts {
	t.Addr = ap("10.0.0.2:8080")
	t.Route.Source, t.Route.Device = addr("10.0.0.1"), "eth1"
	return Facts{Role: Copier, Via: "socket", Targets: []TargetFacts{t}, Args: []string{"copy"},
		Census: &Census{Errors: errors}}
}

func attempt(o Outcome) TargetFacts {
	return TargetFacts{Connect: &Attempt{Outcome: o, After: 3 * time.Second}}
}

const examine = "tcpcopy doctor target --port 8080 --client 10.0.0.1"

var (
	fromTarget   = ICMP{addr("10.0.0.2"), ap("10.0.0.2:8080"), "port unreachable"}
	fromFirewall = ICMP{addr("10.0.0.254"), ap("10.0.0.2:8080"), "administratively prohibited"}
)

func TestRefused(t *testing.T) {
	tunnel := reaching(attempt(Refused))
	tunnel.Via = "tunnel"
	runCases(t, &refusedCheck, []checkCase{
		{"connected", reaching(attempt(Connected)), Fine, "connected", ""},
		{"refused", reaching(attempt(Refused)), Found, "answers a SYN with a reset", examine},
		{"rejected", reaching(attempt(Refused), fromTarget), "", "", ""},
		{"no answer", reaching(attempt(TimedOut)), "", "", ""},
		{"not tried", reaching(TargetFacts{}), Unknown, "", ""},
		{"tunnel", tunnel, "", "", ""},
	})
}

func TestRejected(t *testing.T) {
	runCases(t, &rejectedCheck, []checkCase{
		{"connected", reaching(attempt(Connected), fromTarget), "", "", ""},
		{"refused", reaching(attempt(Refused)), "", "", ""},
		{"by the target", reaching(attempt(Refused), fromTarget), Found, "port unreachable",
			examine},
		{"on the way", reaching(attempt(Unreachable), fromFirewall), Found, "10.0.0.254", ""},
	})
}

func TestSilent(t *testing.T) {
	runCases(t, &silentCheck, []checkCase{
		{"connected", reaching(attempt(Connected)), "", "", ""},
		{"refused", reaching(attempt(Refused)), "", "", ""},
		{"no answer", reaching(attempt(TimedOut)), Found,
			"no answer to SYNs from 10.0.0.1 to 10.0.0.2:8080 in 3s", examine},
		{"an ICMP message", reaching(attempt(TimedOut), fromTarget), "", "", ""},
	})
}

func TestRoute(t *testing.T) {
	down := attempt(TimedOut)
	down.Neighbour = "failed"
	runCases(t, &routeCheck, []checkCase{
		{"connected", reaching(attempt(Connected)), Fine, "by eth1", ""},
		{"none", reaching(TargetFacts{Route: Route{Err: "network is unreachable"}}), Found,
			"network is unreachable", ""},
		{"refused by a route", reaching(TargetFacts{Route: Route{
			Err: "host is unreachable", Refuses: "unreachable 10.0.0.2",
		}}), Found, `the route "unreachable 10.0.0.2" refuses packets to 10.0.0.2`,
			"ip route del unreachable 10.0.0.2"},
		{"next hop", reaching(down), Found, "10.0.0.2 does not answer on eth1", ""},
		{"silent", reaching(attempt(TimedOut)), Fine, "", ""},
	})
}

func TestReversePath(t *testing.T) {
	on := func(mode int, route Route, change ...func(*Facts)) Facts {
		f := Facts{
			Role: Target, Via: "raw",
			Interfaces: []Interface{{Name: "eth0", ReversePath: mode}, {Name: "eth1"}},
			Counters:   &Counters{ReversePath: 3},
			ReturnRoutes: []ReturnPath{{
				Client: addr("192.0.2.1"), Route: route, Arrives: "eth0",
				Assistant: addr("10.0.0.3"),
			}},
		}
		for _, c := range change {
			c(&f)
		}
		return f
	}
	elsewhere, here, none := Route{Device: "eth1"}, Route{Device: "eth0"}, Route{Err: "unreachable"}
	runCases(t, &reversePathCheck, []checkCase{
		{"off", on(0, elsewhere), Fine, "rp_filter=0", ""},
		{"strict", on(1, elsewhere), Found, "eth0 rp_filter=1, IPReversePathFilter +3",
			"sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
		{"strict, and the route is right", on(1, here), Fine, "", ""},
		{"loose", on(2, elsewhere), Fine, "", ""},
		{"loose, no route", on(2, none), Found, "no route to 192.0.2.1",
			"ip route add 192.0.2.1 via 10.0.0.3; sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
		{"a device with a dot", on(1, elsewhere, func(f *Facts) {
			f.Interfaces[0].Name, f.ReturnRoutes[0].Arrives = "eth0.5", "eth0.5"
		}), Found, "", "sysctl -w net.ipv4.conf.eth0/5.rp_filter=2"},
		{"not seen", on(1, elsewhere, func(f *Facts) { f.ReturnRoutes[0].Arrives = "" }), Unknown,
			"", ""},
		{"IPv6 has none", on(1, elsewhere, func(f *Facts) {
			f.ReturnRoutes[0].Client = addr("2001:db8::1")
		}), "", "", ""},
		{"tunnel", on(1, elsewhere, func(f *Facts) { f.Via = "tunnel" }), "", "", ""},
	})
}

func TestFirewall(t *testing.T) {
	does := func(action string, hits int) Facts {
		return Facts{Firewall: []Verdict{{
			About: "to port 8080", Hook: "input", Action: action, Hits: hits,
			Rule: "inet filter input handle 4", Accept: "nft accept", Err: "a set is not known",
		}}}
	}
	runCases(t, &firewallCheck, []checkCase{
		{"none", Facts{}, "", "", ""},
		{"accept", does("accept", -1), Fine, "", ""},
		{"drop", does("drop", -1), Found, "drop by inet filter input handle 4", "nft accept"},
		{"counted", does("reject", 3), Found, "counted 3 packets", "nft accept"},
		{"unknown", does("unknown", -1), Unknown, "a set is not known", ""},
	})
}

func TestConntrack(t *testing.T) {
	of := func(count, most int) Facts { return Facts{Conntrack: &Conntrack{count, most}} }
	runCases(t, &conntrackCheck, []checkCase{
		{"not loaded", Facts{}, "", "", ""},
		{"room", of(10, 100000), Fine, "10 of 100000", ""},
		{"full", of(99000, 100000), Found, "99000 of 100000",
			"sysctl -w net.netfilter.nf_conntrack_max=200000"},
	})
}
