package doctor

import (
	"net/netip"
	"strings"
	"testing"
)

func TestScrub(t *testing.T) {
	keep := []netip.Addr{addr("10.0.0.2"), addr("fd00::2")}
	scrub := func(s string) string { return Scrub(s, keep, []byte("salt")) }
	one, two := scrub("192.0.2.1"), scrub("2001:db8::1")
	if !strings.HasPrefix(one, "address-") || !strings.HasPrefix(two, "address-") || one == two {
		t.Fatalf("%s, %s", one, two)
	}
	if Scrub("192.0.2.1", nil, []byte("pepper")) == one {
		t.Error("the hash does not depend on the salt")
	}
	for text, want := range map[string]string{
		"":                           "",
		"to 10.0.0.2:8080":           "to 10.0.0.2:8080",
		"[fd00::2]:8080 and fd00::2": "[fd00::2]:8080 and fd00::2",
		"from 192.0.2.1:40000.":      "from " + one + ":40000.",
		"route 192.0.2.1/32":         "route " + one + "/32",
		"route 192.0.2.0/24":         "route 192.0.2.0/24",
		`"Client": "192.0.2.1"`:      `"Client": "` + one + `"`,
		"[2001:db8::1]:80":           "[" + two + "]:80",
		"2001:db8::1, ::1, 0.0.0.0":  two + ", ::1, 0.0.0.0",
		"version 1.2.3 at 12:30":     "version 1.2.3 at 12:30",
		"dead beef add a feed":       "dead beef add a feed",
	} {
		if got := scrub(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
