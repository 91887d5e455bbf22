package doctor

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestChecks checks that every check has a code, texts and a place in the order.
func TestChecks(t *testing.T) {
	code := regexp.MustCompile(`^TC0[1-6]\d\d$`)
	seen := map[string]bool{}
	for _, c := range checks {
		if !code.MatchString(c.Code) || seen[c.Code] {
			t.Errorf("%s: want a code of its own, TC and four digits", c.Code)
		}
		seen[c.Code] = true
		area := slices.Index([]Area{Capture, Forward, Return, Size, Link, Service}, c.Area)
		if want := byte('1' + area); c.Code[3] != want {
			t.Errorf("%s: area %q, whose codes begin with TC0%c", c.Code, c.Area, want)
		}
		for _, text := range []string{c.How, c.Why, c.Mend} {
			if !strings.HasSuffix(text, ".") {
				t.Errorf("%s: %q does not end in a full stop", c.Code, text)
			}
		}
		if c.Title == "" || strings.HasSuffix(c.Title, ".") || len(c.Roles) == 0 || c.Judge == nil {
			t.Errorf("%s: want a title without a full stop, roles and a judgement", c.Code)
		}
		if found, ok := Find(strings.ToLower(c.Code)); !ok || found.Code != c.Code {
			t.Errorf("Find(%s): %v", c.Code, ok)
		}
	}
	for _, c := range checks {
		for _, a := range c.After {
			if !seen[a] || a == c.Code {
				t.Errorf("%s: comes after %s, which is no other check", c.Code, a)
			}
		}
	}
}

// TestNothingKnown checks that no check calls a host fine of which nothing is known, and that none
// finds a cause there.
func TestNothingKnown(t *testing.T) {
	for _, role := range []Role{Copier, Assistant, Target} {
		for _, via := range []string{"socket", "raw", "tunnel"} {
			f := &Facts{
				Role: role, Via: via, Ports: []uint16{8080}, CaptureOn: []string{"eth0"},
				Mappings:     []Mapping{{Text: text, Production: port(80)}},
				Targets:      []TargetFacts{{Addr: ap("10.0.0.2:8080")}},
				ReturnRoutes: []ReturnPath{{Client: addr("192.0.2.1")}}, ForwardingErr: "not read",
			}
			r := Diagnose(f)
			if r.State != Unknown || len(r.Fine) > 0 {
				t.Errorf("%s, %s: %s, want unknown; found %+v, fine %+v", role, via, r.State,
					r.Findings, r.Fine)
			}
		}
	}
}

// TestMuted checks that a consequence is left out, and an independent fault is not.
func TestMuted(t *testing.T) {
	f := reaching(attempt(TimedOut))
	codes := func(all []Finding) (codes []string) {
		for _, x := range all {
			codes = append(codes, x.Code)
		}
		return codes
	}
	expect := func(name string, found, muted []string) {
		t.Helper()
		r := Diagnose(&f)
		if got := codes(r.Findings); !slices.Equal(got, found) {
			t.Errorf("%s: found %v, want %v", name, got, found)
		}
		if got := codes(r.Muted); !slices.Equal(got, muted) {
			t.Errorf("%s: muted %v, want %v", name, got, muted)
		}
	}
	expect("silence", []string{"TC0202"}, nil)
	f.Conntrack = &Conntrack{100, 100}
	expect("a full table", []string{"TC0206"}, []string{"TC0202"})
	f.Needs = []Need{{"CAP_NET_RAW", "capture packets", false, ""}}
	expect("and a capability", []string{"TC0101", "TC0206"}, []string{"TC0202"})
	f.Conntrack = nil
	f.Firewall = []Verdict{{About: "to 10.9.9.9:80", Hook: "output", Action: "drop"}}
	f.Firewall[0].About = f.Targets[0].Addr.String()
	expect("a rule about the target", []string{"TC0101", "TC0205"}, []string{"TC0202"})
	f.Firewall[0].About = "10.9.9.9:80"
	expect("a rule about another target", []string{"TC0101", "TC0202", "TC0205"}, nil)
}

func TestRelated(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{"", "x", true}, {"x", "x", true}, {"80-10.0.0.2:8080", "10.0.0.2:8080", true},
		{"80-10.0.0.2:8080", "10.0.0.2:80", false}, {"10.0.0.2:8080", "10.0.0.2:80", false},
		{"80-10.0.0.2:80|10.0.0.3:80*2", "10.0.0.3:80", true}, {"80-[fd00::2]:80",
			"[fd00::2]:80", true},
	} {
		if related(c.a, c.b) != c.want || related(c.b, c.a) != c.want {
			t.Errorf("%q and %q: want %v", c.a, c.b, c.want)
		}
	}
}

func TestPrint(t *testing.T) {
	f := reaching(attempt(Refused))
	f.Conntrack = &Conntrack{1, 100}
	r := Diagnose(&f)
	var b bytes.Buffer
	r.Print(&b, false, false)
	const want = `forward path
  × TC0201 the target refuses connections: nothing listens there, on the target
      10.0.0.2:8080 answers a SYN with a reset
      Every copy's SYN is answered with a reset.
      fix (on the target): tcpcopy doctor target --port 8080 --client 10.0.0.1
      more: tcpcopy explain TC0201
1 cause found, 0 not known, 2 fine
`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	b.Reset()
	r.Print(&b, true, true)
	for _, part := range []string{red + "×" + plain, green + "√" + plain, "1 of 100 entries"} {
		if !strings.Contains(b.String(), part) {
			t.Errorf("got\n%s\nwant %q in it", b.String(), part)
		}
	}
}

func TestExplain(t *testing.T) {
	var b bytes.Buffer
	for _, c := range Checks() {
		Explain(&b, &c)
	}
	Pages(&b)
	for line := range strings.Lines(b.String()) {
		if len(line) > 100 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}
