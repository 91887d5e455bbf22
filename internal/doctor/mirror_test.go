package doctor

import (
	"testing"
	"time"
)

func TestMirror(t *testing.T) {
	fed := func(m *Mirror) Facts {
		f := Facts{
			Role: Copier, Remote: true, From: "vxlan", Mirror: m, Watched: 2 * time.Second,
			Census: &Census{}, Mappings: []Mapping{{Text: text, Production: port(80)}},
			Args: []string{"copy", "-x", text, "--from", "vxlan://:4789"},
		}
		if m != nil {
			m.Listen = port(4789)
		}
		return f
	}
	ours := Mirror{Packets: 9, Inner: 9, Ours: 4}
	runCases(t, &mirrorCheck, []checkCase{
		{"ours", fed(&ours), Fine, "9 packets came to port 4789, 4 of them of -x", ""},
		{"nothing", fed(&Mirror{}), Unknown, "0 packets came to port 4789", ""},
		{"another port", fed(&Mirror{Elsewhere: 7, ElsewherePort: 6081}), Found,
			"0 packets came to port 4789, and 7 of a mirror to port 6081",
			"tcpcopy copy -x 80-10.0.0.2:8080 --from geneve://:6081"},
		{"another network", fed(&Mirror{Packets: 5, Inner: 5, OtherNetwork: 5, Network: 7}), Found,
			"all of networks that --vni leaves out, as 7",
			"tcpcopy copy -x 80-10.0.0.2:8080 --from vxlan://:4789 --vni 7"},
		{"another service", fed(&Mirror{Packets: 5, Inner: 5, Busiest: ap("10.1.0.1:443"),
			BusiestCount: 5}), Found, "0 of them for",
			"tcpcopy copy -x 10.1.0.1:443-10.0.0.2:8080 --from vxlan://:4789"},
		{"no TCP", fed(&Mirror{Packets: 5}), Found, "no TCP packet", ""},
		{"not watched", with(fed(&Mirror{}), func(f *Facts) { f.Census = nil }), Unknown, "", ""},
		{"a mirror port", Facts{From: "mirror"}, Unknown, "tcpdump", ""},
		{"this host", Facts{}, "", "", ""},
	})
	cut := ours
	cut.Cut = 2
	runCases(t, &mirrorCutCheck, []checkCase{
		{"whole", fed(&ours), Fine, "9 packets", ""},
		{"cut", fed(&cut), Found, "the end of 2 of 9 mirrored packets is missing", ""},
		{"nothing", fed(&Mirror{}), "", "", ""},
		{"this host", Facts{}, "", "", ""},
	})
}

func TestAgents(t *testing.T) {
	of := func(all ...Agent) Facts {
		return Facts{Role: Copier, Remote: true, From: "agent", Running: &Running{Agents: all}}
	}
	runCases(t, &agentsCheck, []checkCase{
		{"sends", of(Agent{Name: "web1", Up: true, Packets: 7}), Fine, "7 packets", ""},
		{"is silent", of(Agent{Name: "web1", Up: true}), Found, "web1 is connected, and has sent 0",
			""},
		{"is gone", of(Agent{Name: "web1", Packets: 7, Error: "nothing received for 6s"}), Found,
			"web1 is not connected: nothing received for 6s", ""},
		{"none", of(), Found, "no agent has connected", ""},
		{"no copier", Facts{From: "agent"}, Unknown, "no copier runs", ""},
		{"no agents", Facts{}, "", "", ""},
	})
}
