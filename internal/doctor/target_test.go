package doctor

import (
	"net/netip"
	"testing"
)

// serving returns facts of a target with some listening sockets.
func serving(via string, all ...Listener) Facts {
	return Facts{
		Role: Target, Via: via, Ports: []uint16{8080}, Listeners: &Listeners{All: all},
		Args: []string{"intercept", "--on-target", "--allow", "8080"},
	}
}

func listener(a string, change ...func(*Listener)) Listener {
	l := Listener{Addr: ap(a), Backlog: 128}
	for _, c := range change {
		c(&l)
	}
	return l
}

func onDevice(device string) func(*Listener) { return func(l *Listener) { l.Device = device } }

func TestClosed(t *testing.T) {
	passedOn := func(change func(*Facts)) Facts {
		f := serving("raw", listener("0.0.0.0:80"))
		f.PassedOn = published()
		return with(f, change)
	}
	inside := func(all ...Listener) func(*Facts) {
		return func(f *Facts) {
			f.Listeners.Namespaces = []Namespace{{PID: 77, Addrs: f.addresses()}}
			f.Listeners.Other = all
		}
	}
	hidden := serving("tunnel", listener("0.0.0.0:80"))
	hidden.Listeners.OtherErr = "may not be looked at"
	runCases(t, &closedCheck, []checkCase{
		{"listens", serving("raw", listener("0.0.0.0:8080")), Fine, "0.0.0.0:8080", ""},
		{"does not", serving("raw", listener("0.0.0.0:80")), Found, "others listen on 80", ""},
		{"perhaps in a container", hidden, Found,
			"whether one does in a container is not known: may not be looked at", ""},
		{"somewhere else", passedOn(func(*Facts) {}), Unknown, "ip nat PREROUTING, handle 4", ""},
		{"in a container", passedOn(inside(contained("0.0.0.0:80"))), Fine,
			"a server listens on 0.0.0.0:80 there, in the namespace of process 77", ""},
		{"in a container, not", passedOn(inside(contained("0.0.0.0:81"))), Found,
			"no socket listens there, in the namespace of process 77", ""},
		{"on another port here", passedOn(func(f *Facts) {
			f.PassedOn[0].Local, f.PassedOn[0].To = true, port(80)
		}), Fine, "passes connections on to port 80", ""},
		{"not on another port here", passedOn(func(f *Facts) {
			f.PassedOn[0].Local, f.PassedOn[0].To = true, port(81)
		}), Found, "no socket listens here", ""},
		{"no port", Facts{}, Unknown, "--allow", ""},
		{"not listed", Facts{Ports: []uint16{8080}}, Unknown, "", ""},
	})
}

// published returns the rule that publishes the port of a container.
func published() []PassedOn {
	return []PassedOn{{Port: 8080, To: ap("172.17.0.2:80"), Rule: "ip nat PREROUTING, handle 4"}}
}

// addresses returns those of the container.
func (f *Facts) addresses() (all []netip.Addr) {
	for _, p := range f.PassedOn {
		all = append(all, p.To.Addr())
	}
	return all
}

func contained(a string) Listener { return Listener{Addr: ap(a), PID: 77} }

func TestNotPassed(t *testing.T) {
	off := func(sysctls ...string) Facts {
		f := serving("raw")
		f.PassedOn, f.NoForwarding = published(), sysctls
		return f
	}
	const v4, v6 = "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"
	runCases(t, &notPassedCheck, []checkCase{
		{"no container", with(off(v4, v6), func(f *Facts) { f.PassedOn = nil }), "", "", ""},
		{"forwards", off(), Fine, "172.17.0.2:80", ""},
		{"forwards IPv4", off(v6), Fine, "172.17.0.2:80", ""},
		{"does not", off(v4), Found, "and net.ipv4.ip_forward=0", "sysctl -w " + v4 + "=1"},
		{"no IPv6", with(off(v6), func(f *Facts) { f.PassedOn[0].V6 = true }), Found, v6 + "=0",
			"sysctl -w " + v6 + "=1"},
		{"to this host", with(off(v4), func(f *Facts) { f.PassedOn[0].Local = true }), "", "", ""},
		{"in the tunnel", with(off(v4), func(f *Facts) { f.Via = "tunnel" }), "", "", ""},
		{"not known whereto", with(off(v4), func(f *Facts) { f.PassedOn[0].To = port(0) }), "", "",
			""},
	})
}

func TestLoopbackOnly(t *testing.T) {
	local := listener("127.0.0.1:8080")
	inside := serving("raw", listener("0.0.0.0:8080")) // the runtime's own
	inside.PassedOn = published()
	inside.Listeners.Namespaces = []Namespace{{PID: 77, Addrs: inside.addresses()}}
	inside.Listeners.Other = []Listener{contained("127.0.0.1:80")}
	runCases(t, &loopbackOnlyCheck, []checkCase{
		{"all addresses", serving("raw", listener("0.0.0.0:8080")), Fine, "", ""},
		{"loopback", serving("raw", local), Found, "127.0.0.1:8080", ""},
		{"loopback in the tunnel", serving("tunnel", local), Fine, "", ""},
		{"both", serving("raw", local, listener("10.0.0.2:8080")), Fine, "", ""},
		{"closed", serving("raw"), "", "", ""},
		{"in a container", inside, Found, "127.0.0.1:80", ""},
	})
}

func TestDevice(t *testing.T) {
	bound := listener("0.0.0.0:8080", onDevice("eth0"))
	arriving := serving("raw", bound)
	arriving.ReturnRoutes = []ReturnPath{{Arrives: "eth1"}}
	runCases(t, &deviceCheck, []checkCase{
		{"free", serving("tunnel", listener("0.0.0.0:8080")), Fine, "", ""},
		{"bound", serving("tunnel", bound), Found, "bound to eth0", ""},
		{"bound, and free too", serving("tunnel", bound, listener("0.0.0.0:8080")), Fine, "", ""},
		{"bound in raw", serving("raw", bound), "", "", ""},
		{"bound to another", arriving, Found, "bound to eth0", ""},
	})
}

func TestNamespace(t *testing.T) {
	inside := serving("tunnel")
	inside.Listeners.Other = []Listener{{Addr: ap("0.0.0.0:8080"), PID: 77,
		Host: addr("172.17.0.2")}}
	inRaw := serving("raw")
	inRaw.Listeners.Other = inside.Listeners.Other
	public := func(via string) Facts {
		f := serving(via)
		f.PassedOn = published()
		f.Listeners.Namespaces = []Namespace{{PID: 77, Addrs: f.addresses()}}
		f.Listeners.Other = []Listener{contained("0.0.0.0:80")}
		return f
	}
	hidden := serving("raw")
	hidden.Listeners.OtherErr = "may not be looked at"
	runCases(t, &namespaceCheck, []checkCase{
		{"here", serving("tunnel", listener("0.0.0.0:8080")), Fine, "", ""},
		{"in a container", inside, Found, "process 77, which has the address 172.17.0.2",
			"tcpcopy intercept --on-target --allow 8080 --netns 77"},
		{"nowhere", serving("tunnel"), "", "", ""},
		{"in raw", inRaw, Found, "process 77, which has the address 172.17.0.2", ""},
		{"published", public("raw"), "", "", ""},
		{"published, in the tunnel", public("tunnel"), Found,
			"passed on to 172.17.0.2:80, which the namespace of process 77 has",
			"tcpcopy intercept --on-target --allow 8080 --netns 77"},
		{"raw", serving("raw"), "", "", ""},
		{"not known", hidden, Unknown, "may not be looked at", ""},
	})
}

func TestArrives(t *testing.T) {
	from := func(arrived bool) Facts {
		return Facts{Via: "raw", Census: &Census{}, ReturnRoutes: []ReturnPath{{
			Client: addr("192.0.2.1"), Arrives: "eth0", Arrived: arrived,
		}}}
	}
	tunnel := from(false)
	tunnel.Via = "tunnel"
	runCases(t, &arrivesCheck, []checkCase{
		{"seen", from(true), Fine, "a SYN came in on eth0", ""},
		{"not seen", from(false), Unknown, "no SYN came from 192.0.2.1", ""},
		{"no census", Facts{Via: "raw"}, Unknown, "", ""},
		{"tunnel", tunnel, "", "", ""},
	})
}

func TestBacklog(t *testing.T) {
	full := serving("raw", listener("0.0.0.0:8080", func(l *Listener) { l.Queue = 129 }))
	full.Counters = &Counters{ListenFull: 4}
	runCases(t, &backlogCheck, []checkCase{
		{"empty", serving("raw", listener("0.0.0.0:8080")), Fine, "0 of 128", ""},
		{"full", full, Found, "129 connections wait to be accepted, 128 may, ListenOverflows +4",
			""},
		{"closed", serving("raw"), "", "", ""},
	})
}
