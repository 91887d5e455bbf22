package doctor

import (
	"net/netip"
	"testing"
	"time"
)

// linked returns facts of a copier with one link.
func linked(l LinkFacts) Facts {
	l.Addr = ap("10.0.0.3:36524")
	return Facts{
		Role: Copier, Via: "tunnel", Args: []string{"copy", "-x", text, "-s", "10.0.0.3"},
		Targets: []TargetFacts{{Addr: ap("10.0.0.3:8080")}}, Links: []LinkFacts{l},
	}
}

func TestLinkRefused(t *testing.T) {
	raw := linked(LinkFacts{Outcome: Refused})
	raw.Via = "raw"
	here := raw
	raw.Targets = []TargetFacts{{Addr: ap("10.0.0.2:8080")}}
	runCases(t, &linkRefusedCheck, []checkCase{
		{"no link", Facts{}, "", "", ""},
		{"up", linked(LinkFacts{Outcome: Connected}), Fine, "", ""},
		{"refused", linked(LinkFacts{Outcome: Refused}), Found, "10.0.0.3:36524 is refused",
			"tcpcopy intercept --on-target --allow 8080 --key key"},
		{"refused in raw", raw, Found, "refused",
			"tcpcopy intercept -i DEV -F 'tcp and src port 8080' --key key"},
		{"refused at the target's address", here, Found, "refused",
			"tcpcopy intercept --on-target --allow 8080 --key key"},
		{"silent", linked(LinkFacts{Outcome: TimedOut}), "", "", ""},
		{"wrong key", linked(LinkFacts{Outcome: Failed, Key: "another"}), Fine, "", ""},
	})
}

func TestLinkSilent(t *testing.T) {
	runCases(t, &linkSilentCheck, []checkCase{
		{"up", linked(LinkFacts{Outcome: Connected}), "", "", ""},
		{"silent", linked(LinkFacts{Outcome: TimedOut}), Found, "no answer from 10.0.0.3:36524",
			"tcpcopy doctor target --port 36524"},
		{"no route", linked(LinkFacts{Outcome: NoRoute}), Found, "no route", ""},
		{"host down", linked(LinkFacts{Outcome: Unreachable}), Found, "does not answer", ""},
		{"forbidden", linked(LinkFacts{Outcome: Forbidden}), Found, "firewall of this host", ""},
	})
}

func TestLinkSlow(t *testing.T) {
	with := func(rtt time.Duration, waiting int) Facts {
		return Facts{LinkQueues: []LinkQueue{{ap("10.0.0.3:36524"), rtt, waiting}}}
	}
	runCases(t, &linkSlowCheck, []checkCase{
		{"none", Facts{}, "", "", ""},
		{"near", with(200*time.Microsecond, 0), Fine, "takes 200µs, and 0 bytes", ""},
		{"far", with(300*time.Millisecond, 100000), Fine, "", ""},
		{"slow", with(2*time.Second, 5000), Found, "takes 2s, and 5000 bytes wait", ""},
		{"not listed", Facts{LinkQueuesErr: "no"}, Unknown, "no", ""},
	})
}

func TestLinkKey(t *testing.T) {
	runCases(t, &linkKeyCheck, []checkCase{
		{"fits", linked(LinkFacts{Outcome: Connected, HasKey: true}), Fine, "", ""},
		{"another", linked(LinkFacts{Outcome: Failed, HasKey: true, Key: "it holds another key"}),
			Found, "it holds another key", ""},
		{"none here", linked(LinkFacts{Outcome: Failed, Key: "it wants a key"}), Found,
			"it wants a key", "tcpcopy copy -x 80-10.0.0.2:8080 -s 10.0.0.3 --key key"},
		{"refused", linked(LinkFacts{Outcome: Refused}), "", "", ""},
	})
}

func TestLinkVersion(t *testing.T) {
	runCases(t, &linkVersionCheck, []checkCase{
		{"up", linked(LinkFacts{Outcome: Connected}), "", "", ""},
		{"version", linked(LinkFacts{Outcome: Failed, Version: true, Err: "it speaks version 2"}),
			Found, "it speaks version 2", "tcpcopy version"},
		{"foreign", linked(LinkFacts{Outcome: Failed, Err: "no intercept"}), Found,
			"no intercept", ""},
		{"wrong key", linked(LinkFacts{Outcome: Failed, Key: "another"}), "", "", ""},
	})
}

func TestLinkTarget(t *testing.T) {
	runCases(t, &linkTargetCheck, []checkCase{
		{"allowed", linked(LinkFacts{Outcome: Connected, Way: "tunnel"}), Fine, "", ""},
		{"raw", linked(LinkFacts{Outcome: Connected, Way: "raw"}), "", "", ""},
		{"forbidden", linked(LinkFacts{Outcome: Connected, Way: "tunnel",
			Forbidden: []netip.AddrPort{ap("10.0.0.3:8080")}}), Found, "10.0.0.3:8080",
			"tcpcopy intercept --on-target --allow 8080 --key key"},
	})
}
