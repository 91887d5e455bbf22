package doctor

import (
	"slices"
	"strings"
	"testing"
)

// probing returns facts of a copier in the raw way whose own connections reach the target.
func probing(p *Probe) Facts {
	f := reaching(attempt(Connected))
	f.Via = "raw"
	f.Links = []LinkFacts{{Addr: ap("10.0.0.3:36524"), Outcome: Connected, HasKey: true}}
	f.Args = []string{"copy", "-x", text, "-s", "10.0.0.3", "--key", "key"}
	if p != nil {
		p.Client = addr("192.0.2.253")
		p.Outside.Sent, p.Inside.Sent = 3, 3
	}
	f.Targets[0].Probe = p
	return f
}

const becomeWitness = "tcpcopy doctor target --port 8080 --witness 10.0.0.3 --key key"

func TestDropped(t *testing.T) {
	refusing := probing(&Probe{})
	refusing.Targets[0].Connect.Outcome = Refused
	runCases(t, &droppedCheck, []checkCase{
		{"answered", probing(&Probe{Outside: ProbeCount{Answered: 1}}), Fine, "192.0.2.253", ""},
		{"only inside", probing(&Probe{Inside: ProbeCount{Answered: 1}}), Found,
			"0 of 3 SYNs from 192.0.2.253 were answered, 1 of 3 that the intercept sent",
			becomeWitness},
		{"nothing arrives", probing(&Probe{Witnessed: true, Inside: ProbeCount{Arrived: 2}}), Found,
			"3 SYNs from 192.0.2.253 left, 0 arrived; of the intercept's, 2 of 3 did", ""},
		{"arrives", probing(&Probe{Witnessed: true, Outside: ProbeCount{Arrived: 1}}), "", "", ""},
		{"no answer at all", probing(&Probe{}), "", "", ""},
		{"not probed", probing(nil), Unknown, "no probe was sent", ""},
		{"an older intercept", probing(&Probe{Err: "the intercept is older"}), Unknown, "older",
			""},
		{"refused", refusing, "", "", ""},
		{"no link", Facts{Via: "raw", Targets: probing(&Probe{}).Targets}, "", "", ""},
	})
}

func TestUnheard(t *testing.T) {
	silent := probing(&Probe{InsideErr: "not permitted"})
	silent.Targets[0].Probe.Inside.Sent = 0
	runCases(t, &unheardCheck, []checkCase{
		{"answered", probing(&Probe{Outside: ProbeCount{Answered: 3}}), Fine, "", ""},
		{"unanswered", probing(&Probe{}), Found, "0 of 3 that the intercept sent", becomeWitness},
		{"unanswered, alone", silent, Found, "sent none: not permitted", becomeWitness},
		{"arrives", probing(&Probe{Witnessed: true, Outside: ProbeCount{Arrived: 3}}), Found,
			"3 of 3 SYNs from 192.0.2.253 arrived, 0 were answered", ""},
		{"does not arrive", probing(&Probe{Witnessed: true}), "", "", ""},
		{"leaves", probing(&Probe{Witnessed: true, Outside: ProbeCount{Arrived: 3, Left: 1}}), "",
			"", ""},
	})
}

func TestLostAnswers(t *testing.T) {
	runCases(t, &lostAnswersCheck, []checkCase{
		{"answered", probing(&Probe{Outside: ProbeCount{Answered: 1}}), Fine, "", ""},
		{"leaves", probing(&Probe{Witnessed: true, Outside: ProbeCount{Arrived: 3, Left: 2}}),
			Found, "2 answers to 192.0.2.253 left the target, the intercept saw 0", ""},
		{"no witness", probing(&Probe{}), "", "", ""},
	})
}

func TestTranslated(t *testing.T) {
	runCases(t, &translatedCheck, []checkCase{
		{"not", probing(&Probe{Outside: ProbeCount{Answered: 1}}), Fine, "", ""},
		{"the source", probing(&Probe{Source: addr("10.0.0.99")}), Found,
			"left with the address 192.0.2.253, and arrived with 10.0.0.99", ""},
		{"the destination", probing(&Probe{Outside: ProbeCount{Answered: 1},
			Answerer: addr("10.0.0.50")}), Found, "SYNs to 10.0.0.2 are answered by 10.0.0.50",
			"tcpcopy copy -x 80-10.0.0.50:8080 -s 10.0.0.3 --key key"},
	})
}

// TestWitnessed checks what a report makes of another host's findings: they are named, and mute
// what they cause; without them the target and its network are not told apart.
func TestWitnessed(t *testing.T) {
	filtered := []Finding{{
		Code: "TC0204", State: Found, Seen: "eth0 rp_filter=1", About: "192.0.2.1",
		Hop: "elsewhere",
		Fix: []string{"sysctl -w net.ipv4.conf.eth0.rp_filter=2"},
	}}
	shows := func(f *Facts, findings string, muted ...string) {
		t.Helper()
		r := Diagnose(f)
		var got []string
		for _, x := range r.Findings {
			got = append(got, x.Code+" "+x.Hop)
		}
		if g := strings.Join(got, "; "); g != findings {
			t.Errorf("found %q, want %q", g, findings)
		}
		var left []string
		for _, x := range r.Muted {
			left = append(left, x.Code)
		}
		if !slices.Equal(left, muted) {
			t.Errorf("muted %v, want %v", left, muted)
		}
	}
	f := probing(&Probe{})
	shows(&f, "TC0215 target, or its network")
	p := f.Targets[0].Probe
	p.Witnessed, p.Outside.Arrived, p.AtTarget = true, 3, DecodeFindings(EncodeFindings(filtered))
	shows(&f, "TC0204 target", "TC0215")
	if r := Diagnose(&f); r.Findings[0].Title != reversePathCheck.Title ||
		r.Findings[0].On != "target" || len(r.Findings[0].Fix) != 1 {
		t.Errorf("%+v", r.Findings[0])
	}
	p.AtTarget = nil
	shows(&f, "TC0215 target")
	p.Outside.Arrived = 0
	shows(&f, "TC0214 network")
	p.Outside.Arrived, p.Outside.Left = 3, 3
	shows(&f, "TC0306 network")
	alone := probing(&Probe{})
	alone.Targets[0].Connect.Outcome = Refused
	if r := Diagnose(&alone); len(r.Findings) != 1 || r.Findings[0].Fix[0] != becomeWitness {
		t.Errorf("%+v, want %s", r.Findings, becomeWitness)
	}
	closed := probing(&Probe{Witnessed: true, AtTarget: []Finding{{Code: "TC0208", State: Found}}})
	closed.Targets[0].Connect.Outcome = Refused
	shows(&closed, "TC0208 target", "TC0201")
	filter := probing(&Probe{AtIntercept: []Finding{{Code: "TC0302", State: Found, Area: Return}}})
	shows(&filter, "TC0302 assistant", "TC0215")
}

// TestDecodeFindings checks that what comes from another host is bounded and printable, and names
// no check that there is not.
func TestDecodeFindings(t *testing.T) {
	for _, bad := range []string{"", "{}", "[", `[{"code":"TC9999","state":"found"}]`,
		`[{"code":"TC0204","state":"fine"}]`} {
		if got := DecodeFindings([]byte(bad)); got != nil {
			t.Errorf("%s: %+v", bad, got)
		}
	}
	x := Finding{Code: "TC0204", State: Found, Seen: "a\x1b[31m" + strings.Repeat("é", 1000),
		Title: "theirs", Fix: []string{"b\nc"}}
	var many []Finding
	for range 100 {
		many = append(many, x)
	}
	got := DecodeFindings(EncodeFindings(many))
	if len(got) != mostFindings {
		t.Fatalf("%d findings, want %d", len(got), mostFindings)
	}
	y := got[0]
	if !strings.HasPrefix(y.Seen, "a?[31mé") || len(y.Seen) > mostText+2 || y.Fix[0] != "b?c" ||
		y.Title != reversePathCheck.Title {
		t.Errorf("%+v", y)
	}
}

func TestWhileRunning(t *testing.T) {
	running := func(sessions, dropped uint64, reason string) Facts {
		return Facts{Role: Copier, Running: &Running{
			Sessions: sessions, Dropped: map[string]uint64{reason: dropped},
			LoginsRefused: map[string]uint64{"1045": 3},
		}}
	}
	for reason, c := range map[string]*Check{
		"tuple_taken": &tupleCheck, "send_timeout": &stalledCheck,
		"gate_timeout": &unansweredCheck, "login_failed": &loginCheck,
	} {
		more := ""
		if reason == "login_failed" {
			more = ", 1045 3 times"
		}
		runCases(t, c, []checkCase{
			{"none", running(100, 0, reason), Fine, "0 of 100 sessions", ""},
			{"few", running(100, 9, reason), Fine, "9 of 100 sessions", ""},
			{"many", running(100, 10, reason), Found, "10 of 100 sessions were dropped: " + reason +
				more, ""},
			{"no session", running(0, 0, reason), "", "", ""},
			{"no copier", Facts{Role: Copier}, "", "", ""},
		})
	}
}

func TestSYNQueue(t *testing.T) {
	with := func(cookies, drops, mode int) Facts {
		f := serving("raw")
		f.Counters, f.SYNCookies = &Counters{SYNCookies: cookies, SYNQueueDrops: drops}, mode
		return f
	}
	runCases(t, &synQueueCheck, []checkCase{
		{"never", with(0, 0, 1), Fine, "no queue was full", ""},
		{"always", with(3, 0, 2), Found, "3 SYNs were answered with cookies, 0 dropped",
			"sysctl -w net.ipv4.tcp_syncookies=1"},
		{"full", with(3, 0, 1), Found, "tcp_syncookies=1", "sysctl -w net.core.somaxconn=4096; " +
			"sysctl -w net.ipv4.tcp_max_syn_backlog=4096"},
		{"not counted", serving("raw"), "", "", ""},
	})
}
