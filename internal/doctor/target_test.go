package doctor

import "testing"

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
	passedOn := serving("raw", listener("0.0.0.0:80"))
	passedOn.Translated = map[uint16]string{8080: "ip nat PREROUTING, handle 4"}
	hidden := serving("tunnel", listener("0.0.0.0:80"))
	hidden.Listeners.OtherErr = "may not be looked at"
	runCases(t, &closedCheck, []checkCase{
		{"listens", serving("raw", listener("0.0.0.0:8080")), Fine, "0.0.0.0:8080", ""},
		{"does not", serving("raw", listener("0.0.0.0:80")), Found, "others listen on 80", ""},
		{"perhaps in a container", hidden, Found,
			"whether one does in a container is not known: may not be looked at", ""},
		{"in a container", passedOn, Unknown, "ip nat PREROUTING, handle 4", ""},
		{"no port", Facts{}, Unknown, "--allow", ""},
		{"not listed", Facts{Ports: []uint16{8080}}, Unknown, "", ""},
	})
}

func TestLoopbackOnly(t *testing.T) {
	local := listener("127.0.0.1:8080")
	runCases(t, &loopbackOnlyCheck, []checkCase{
		{"all addresses", serving("raw", listener("0.0.0.0:8080")), Fine, "", ""},
		{"loopback", serving("raw", local), Found, "127.0.0.1:8080", ""},
		{"loopback in the tunnel", serving("tunnel", local), Fine, "", ""},
		{"both", serving("raw", local, listener("10.0.0.2:8080")), Fine, "", ""},
		{"closed", serving("raw"), "", "", ""},
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
	published := serving("raw")
	published.Listeners.Other = inside.Listeners.Other
	published.Translated = map[uint16]string{8080: "ip nat PREROUTING, handle 4"}
	hidden := serving("raw")
	hidden.Listeners.OtherErr = "may not be looked at"
	runCases(t, &namespaceCheck, []checkCase{
		{"here", serving("tunnel", listener("0.0.0.0:8080")), Fine, "", ""},
		{"in a container", inside, Found, "process 77, which has the address 172.17.0.2",
			"tcpcopy intercept --on-target --allow 8080 --netns 77"},
		{"nowhere", serving("tunnel"), "", "", ""},
		{"in raw", inRaw, Found, "process 77, which has the address 172.17.0.2", ""},
		{"published", published, "", "", ""},
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
