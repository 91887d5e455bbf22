package config

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"tcpcopy/internal/core/mapping"
)

// The functions below return a function that parses an option's value into dst. Its errors are
// Problems that tell what was wanted.

func text(dst *string, what string) func(string) error {
	return func(s string) error {
		if s == "" {
			return wanted("is empty: wanted %s", what)
		}
		*dst = s
		return nil
	}
}

func whole(dst *int, lo, hi int) func(string) error {
	return func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < lo || n > hi {
			return wanted("wanted a whole number from %d to %d", lo, hi)
		}
		*dst = n
		return nil
	}
}

// percent parses a percentage from 0 to most.
func percent(dst *float64, most float64) func(string) error {
	return func(s string) error {
		f, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
		if err != nil || math.IsNaN(f) || f < 0 || f > most {
			return wanted("wanted a percentage from 0 to %g", most)
		}
		*dst = f
		return nil
	}
}

func oneOf[T ~string](dst *T, choices ...T) func(string) error {
	return func(s string) error {
		if !slices.Contains(choices, T(s)) {
			return wanted("wanted %s", orList(choices))
		}
		*dst = T(s)
		return nil
	}
}

func orList[T ~string](words []T) string {
	var b strings.Builder
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(string(w))
	}
	return b.String()
}

func words[T ~string](choices []T) []string {
	out := make([]string, len(choices))
	for i, c := range choices {
		out[i] = string(c)
	}
	return out
}

// span parses a duration from lo to hi: a plain number of units, as TCPCopy takes it, or one such
// as 1m30s.
func span(dst *time.Duration, unit, lo, hi time.Duration) func(string) error {
	return func(s string) error {
		d, err := parseSpan(s, unit)
		if err != nil || d < lo || d > hi {
			return wanted("wanted %s, or a time such as %s; from %s to %s", unitName(unit),
				short(3*unit), short(lo), short(hi))
		}
		*dst = d
		return nil
	}
}

func parseSpan(s string, unit time.Duration) (time.Duration, error) {
	if n, err := strconv.ParseFloat(s, 64); err == nil {
		d := n * float64(unit)
		if math.IsNaN(d) || math.Abs(d) > math.MaxInt64/2 {
			return 0, strconv.ErrRange
		}
		return time.Duration(d), nil
	}
	return time.ParseDuration(s)
}

// short formats a duration without zero minutes and seconds: 168h, not 168h0m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = s[:len(s)-2]
	}
	if strings.HasSuffix(s, "h0m") {
		s = s[:len(s)-2]
	}
	return s
}

func unitName(unit time.Duration) string {
	if unit == time.Millisecond {
		return "a number of milliseconds"
	}
	return "a number of seconds"
}

const (
	kilo = int64(1) << 10
	mega = int64(1) << 20
	giga = int64(1) << 30
)

// amount parses a number of bytes from lo to hi: a plain number of units, or one with K, M or G.
func amount(dst *int64, unit, lo, hi int64) func(string) error {
	return func(s string) error {
		n, ok := parseAmount(s, unit)
		if !ok || n < lo || n > hi {
			in := "bytes"
			if unit == mega {
				in = "megabytes"
			}
			return wanted("wanted a number of %s, or a size such as 64K, 16M or 1G; from %s to "+
				"%s", in, sized(lo), sized(hi))
		}
		*dst = n
		return nil
	}
}

func parseAmount(s string, unit int64) (int64, bool) {
	t := strings.TrimSuffix(strings.ToUpper(s), "B")
	t = strings.TrimSuffix(t, "I")
	switch {
	case strings.HasSuffix(t, "K"):
		unit, t = kilo, t[:len(t)-1]
	case strings.HasSuffix(t, "M"):
		unit, t = mega, t[:len(t)-1]
	case strings.HasSuffix(t, "G"):
		unit, t = giga, t[:len(t)-1]
	case len(t) != len(s): // "512B": bytes, not units
		unit = 1
	}
	f, err := strconv.ParseFloat(t, 64)
	if err != nil || math.IsNaN(f) || f < 0 || f > math.MaxInt64/2/float64(unit) {
		return 0, false
	}
	return int64(f * float64(unit)), true
}

func sized(n int64) string {
	switch {
	case n >= giga && n%giga == 0:
		return strconv.FormatInt(n/giga, 10) + "G"
	case n >= mega && n%mega == 0:
		return strconv.FormatInt(n/mega, 10) + "M"
	case n >= kilo && n%kilo == 0:
		return strconv.FormatInt(n/kilo, 10) + "K"
	}
	return strconv.FormatInt(n, 10)
}

// list splits s at commas and trims white space; an empty part is an error.
func list(s string) ([]string, error) {
	parts := strings.Split(s, ",")
	for i, p := range parts {
		if parts[i] = strings.TrimSpace(p); parts[i] == "" {
			return nil, wanted("has an empty part: wanted a list with one comma between two " +
				"entries")
		}
	}
	return parts, nil
}

// address parses an IP address.
func address(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	if err != nil {
		return netip.Addr{}, notAddress(s, "one such as 10.0.0.1 or fd00::1")
	}
	return a.Unmap(), nil
}

// addresses parses an address, a range (10.0.0.5-10.0.0.9), or a network, which stands for the
// addresses of its hosts. More than most addresses are an error.
func addresses(s string, most int) ([]netip.Addr, error) {
	const what = "an address, a range such as 10.0.0.5-10.0.0.9, or a network such as 10.0.0.0/24"
	first, last, isRange := strings.Cut(s, "-")
	if prefix, err := netip.ParsePrefix(s); err == nil {
		if pool, err := mapping.ParseHosts(s); err == nil && pool.Len() <= most {
			return slices.Collect(pool.Addrs()), nil
		} else if err != nil {
			return nil, quoting(err)
		}
		return nil, tooMany(prefix.String(), most)
	}
	from, err := netip.ParseAddr(strings.Trim(first, "[]"))
	if err != nil {
		return nil, notAddress(first, what)
	}
	to := from
	if isRange {
		if to, err = netip.ParseAddr(strings.Trim(last, "[]")); err != nil {
			return nil, notAddress(last, what)
		}
	}
	if from, to = from.Unmap(), to.Unmap(); from.Is4() != to.Is4() || to.Less(from) {
		p := wanted("%q is not a range: wanted two addresses of one family, the lower one first",
			s)
		p.Value = asIs
		return nil, p
	}
	var all []netip.Addr
	for a := from; a.IsValid() && !to.Less(a); a = a.Next() {
		if len(all) == most {
			return nil, tooMany(s, most)
		}
		all = append(all, a)
	}
	return all, nil
}

func tooMany(s string, most int) error {
	p := wanted("%q has too many addresses: wanted at most %d in all", s, most)
	p.Value = asIs
	return p
}

// notAddress returns the problem that s is not an address in the form of what. If s looks like a
// name, the hint tells how to find its address.
func notAddress(s, what string) *Problem {
	p := wanted("%q is not an IP address: wanted %s", s, what)
	p.Value = asIs
	if isName(s) {
		p.Hint = "names are not looked up; getent ahosts " + hostOf(s) + " shows the addresses"
	}
	return p
}

func hostOf(s string) string {
	host, _, _ := strings.Cut(s, ":")
	return host
}

func isName(s string) bool {
	h := hostOf(s)
	letters := false
	for _, r := range h {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z':
			letters = true
		case r >= '0' && r <= '9', r == '-', r == '.':
		default:
			return false
		}
	}
	return letters
}

// endpoint parses ip, ip:port, [ip]:port or an IPv6 address; port is 0 if none is given.
func endpoint(s string) (netip.Addr, int, error) {
	const form = "ip, ip:port or [ip]:port"
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Unmap(), 0, nil
	}
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		if a, err := netip.ParseAddr(s[1 : len(s)-1]); err == nil {
			return a.Unmap(), 0, nil
		}
		return netip.Addr{}, 0, notAddress(s, form)
	}
	i := strings.LastIndexByte(s, ':')
	if i < 0 {
		return netip.Addr{}, 0, notAddress(s, form)
	}
	host, port := s[:i], s[i+1:]
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		return netip.Addr{}, 0, notAddress(s, form).hinting("an IPv6 address with a port needs " +
			"brackets: [fd00::3]:36524")
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	if err != nil {
		return netip.Addr{}, 0, notAddress(s, form)
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 {
		p := wanted("%q has no valid port: wanted a number from 1 to 65535 after the last colon",
			s)
		p.Value = asIs
		return netip.Addr{}, 0, p
	}
	return a.Unmap(), n, nil
}
