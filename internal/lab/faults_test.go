package lab

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"tcpcopy/internal/doctor"
)

// TestBoth checks that two faults together break what each of them does.
func TestBoth(t *testing.T) {
	a, _ := FindFault("filter")
	b, _ := FindFault("input-drop")
	f := Both(a, b)
	if got := f.copy([]string{"copy"}); !slices.Equal(got, a.copy([]string{"copy"})) ||
		len(f.Make) != len(b.Make) || f.intercept != nil || f.server != listensWell {
		t.Errorf("%+v: arguments %q", f, got)
	}
	c, _ := FindFault("closed")
	d, _ := FindFault("answer-filter")
	f = Both(c, d)
	if got := f.intercept([]string{"src port 1"}); got[0] != "dst port 1" ||
		f.server != listensNowhere {
		t.Errorf("%+v: arguments %q", f, got)
	}
}

// TestFaults checks that each fault has a name of its own and codes that the doctor has, and that
// each code of the doctor is shown by one.
func TestFaults(t *testing.T) {
	shown := map[string]bool{}
	names := map[string]bool{}
	for _, f := range Faults() {
		if f.Name == "" || f.Help == "" || names[f.Name] || len(f.Ways) == 0 || len(f.Finds) == 0 {
			t.Errorf("%+v: want a name of its own, help, ways and codes", f)
		}
		names[f.Name] = true
		at := maps.Clone(f.Finds)
		at["production, with a witness"] = f.Witnessed
		for host, codes := range f.Suspects {
			at[host+", not known"] = codes
		}
		for host, codes := range at {
			for _, c := range codes {
				shown[c] = true
				if _, ok := doctor.Find(c); !ok {
					t.Errorf("%s: the doctor on %s has no code %s", f.Name, host, c)
				}
			}
		}
		if found, err := FindFault(f.Name); err != nil || found.Help != f.Help {
			t.Errorf("FindFault(%s): %v", f.Name, err)
		}
	}
	if _, err := FindFault("none"); err == nil {
		t.Error("there is a fault called none")
	}
	var missing []string
	for _, c := range doctor.Checks() {
		if !shown[c.Code] {
			missing = append(missing, c.Code)
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		t.Errorf("no fault shows %v", missing)
	}
}

// TestBreakOptions checks that a fault is made in a way that it has, and that another is refused.
func TestBreakOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		via  string
		fail string // part of the error
	}{
		{Options{Break: "conntrack"}, Socket, ""},
		{Options{Break: "conntrack", Via: Raw}, Raw, ""},
		{Options{Break: "stranger", Via: Socket}, Raw, ""}, // the default of --via
		{Options{Break: "conntrack", Via: Tunnel}, "", "wanted --via socket, raw"},
		{Options{Break: "reverse-path", IPv6: true}, "", "wanted IPv4"},
		{Options{Break: "none"}, "", `no fault "none"`},
	} {
		_, via, err := c.o.fault()
		if via != c.via || (err == nil) != (c.fail == "") ||
			err != nil && !strings.Contains(err.Error(), c.fail) {
			t.Errorf("%+v: %q, %v, want %q, %q", c.o, via, err, c.via, c.fail)
		}
	}
}
