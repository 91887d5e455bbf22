package doctor

import (
	"net/netip"
	"testing"
	"time"
)

// answering returns facts of an assistant to which answers come.
func answering(filter string, flows ...Flow) Facts {
	return Facts{
		Role: Assistant, Via: "raw", Filter: filter, Watched: 2 * time.Second,
		Args: []string{"intercept", "-i", "eth0", "-F", filter}, CaptureOn: []string{"eth0"},
		Census: &Census{Flows: flows},
	}
}

func answerOn(device string, packets, passed int) Flow {
	return Flow{Interface: device, Server: ap("10.0.0.2:8080"), FromServer: true, SYNs: 1,
		Packets: packets, Passed: passed}
}

func TestForwarding(t *testing.T) {
	runCases(t, &forwardingCheck, []checkCase{
		{"off", Facts{}, Fine, "", ""},
		{"on", Facts{Forwarding: []string{"net.ipv4.ip_forward"}}, Found, "net.ipv4.ip_forward=1",
			"sysctl -w net.ipv4.ip_forward=0"},
		{"allowed", Facts{Forwarding: []string{"x"}, AllowForwarding: true}, "", "", ""},
	})
}

func TestAnswerFilter(t *testing.T) {
	const right = "tcpcopy intercept -i eth0 -F 'tcp and src port 8080'"
	empty := answering("udp")
	empty.FilterEmpty = true
	known := empty
	known.Ports = []uint16{8080}
	runCases(t, &answerFilterCheck, []checkCase{
		{"none", Facts{}, "", "", ""},
		{"accepts", answering("tcp", answerOn("eth0", 9, 9)), Fine, "accepts 9 of 9", ""},
		{"leaves out", answering("src port 80", answerOn("eth0", 9, 0)), Found,
			"of 9 packets from 10.0.0.2:8080", right},
		{"matches nothing", empty, Found, "accepts no TCP packet", ""},
		{"matches no answer", known, Found, "no answer from port 8080", right},
		{"idle", answering("tcp"), Fine, "can match", ""},
	})
}

func TestAnswerInterface(t *testing.T) {
	runCases(t, &answerInterfaceCheck, []checkCase{
		{"here", answering("tcp", answerOn("eth0", 9, 9)), Fine, "on eth0", ""},
		{"elsewhere", answering("tcp", answerOn("eth1", 9, 9)), Found, "9 packets of targets",
			"tcpcopy intercept -i eth1 -F tcp"},
		{"idle", answering("tcp"), Unknown, "no SYN-ACK", ""},
		{"no census", Facts{}, Unknown, "", ""},
	})
}

func TestStandIn(t *testing.T) {
	of := func(via string, local ...netip.Addr) Facts {
		return Facts{Via: via, StandsIn: true, LocalStands: local}
	}
	runCases(t, &standInCheck, []checkCase{
		{"none", of("raw"), Fine, "", ""},
		{"own", of("raw", addr("10.0.0.1")), Found, "10.0.0.1", ""},
		{"tunnel", of("tunnel", addr("10.0.0.1")), "", "", ""},
	})
}

func TestReturnRoute(t *testing.T) {
	back := func(via, assistant netip.Addr, err string) Facts {
		return Facts{Via: "raw", ReturnRoutes: []ReturnPath{{
			Client: addr("192.0.2.1"), Assistant: assistant,
			Route: Route{Device: "eth0", Gateway: via, Err: err},
		}}}
	}
	assistant, router := addr("10.0.0.3"), addr("10.0.0.254")
	const fix = "ip route replace 192.0.2.1 via 10.0.0.3"
	runCases(t, &returnRouteCheck, []checkCase{
		{"through it", back(assistant, assistant, ""), Fine, "through 10.0.0.3", ""},
		{"elsewhere", back(router, assistant, ""), Found, "by eth0 through 10.0.0.254", fix},
		{"on link", back(netip.Addr{}, assistant, ""), Found, "to the address itself", fix},
		{"none", back(netip.Addr{}, assistant, "unreachable"), Found, "no route", fix},
		{"not given", back(router, netip.Addr{}, ""), Unknown, "--assistant", ""},
	})
}

func TestPathMTU(t *testing.T) {
	of := func(p Ping) Facts {
		t := attempt(Connected)
		p.Sent, p.Smallest = 3, 84
		t.Ping, t.MTU = &p, 1500
		return reaching(t)
	}
	runCases(t, &pathMTUCheck, []checkCase{
		{"passes", of(Ping{Small: 3, Full: 1, Largest: 1500}), Fine, "1500 bytes pass", ""},
		{"a hole", of(Ping{Small: 3, Largest: 1400}), Found, "the largest was 1400",
			"ip route replace 10.0.0.2 dev eth1 mtu lock 1400"},
		{"lossy", of(Ping{Small: 2, Largest: 1400}), Unknown, "2 of 3", ""},
		{"no echo is answered", of(Ping{}), Unknown, "0 of 3", ""},
		{"not connected", reaching(attempt(Refused)), "", "", ""},
	})
}

func TestCloses(t *testing.T) {
	closed := attempt(Connected)
	closed.Connect.Closed = true
	runCases(t, &closesCheck, []checkCase{
		{"open", reaching(attempt(Connected)), Fine, "", ""},
		{"closed", reaching(closed), Found, "closed within 300ms", ""},
		{"refused", reaching(attempt(Refused)), "", "", ""},
	})
}
