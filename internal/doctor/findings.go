package doctor

import (
	"encoding/json"
	"strings"
	"unicode"
)

// Bounds of what another host's doctor may say.
const (
	mostFindings = 32
	mostText     = 1000 // bytes
)

// EncodeFindings returns findings for another host's doctor. Of many it takes the first.
func EncodeFindings(all []Finding) []byte {
	b, err := json.Marshal(all[:min(len(all), mostFindings)])
	if err != nil { // a finding has texts only
		return nil
	}
	return b
}

// DecodeFindings reads what EncodeFindings has written on another host. The texts of a check are
// this program's own; what it does not know is left out, and so are characters that a terminal may
// not show.
func DecodeFindings(b []byte) (all []Finding) {
	var said []Finding
	if len(b) == 0 || json.Unmarshal(b, &said) != nil {
		return nil
	}
	for _, x := range said[:min(len(said), mostFindings)] {
		c, known := Find(x.Code)
		if !known || x.State != Found {
			continue
		}
		y := Finding{
			Code: c.Code, Area: c.Area, State: Found, Title: c.Title, Why: c.Why,
			About: printable(x.About), Seen: printable(x.Seen), Fix: []string{},
		}
		for _, f := range x.Fix[:min(len(x.Fix), mostFindings)] {
			y.Fix = append(y.Fix, printable(f))
		}
		all = append(all, y)
	}
	return all
}

// printable replaces what a terminal may not show as one character.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s[:min(len(s), mostText)])
}

// elsewhere returns what the other hosts on the way to the targets have found about themselves,
// each once.
func (f *Facts) elsewhere() (all []Finding) {
	seen := map[string]bool{}
	at := func(t *TargetFacts, host Role, some []Finding) {
		for _, x := range some {
			x.About, x.Hop, x.On = t.Addr.String(), string(host), string(host)
			if key := x.Hop + x.Code + x.Seen; !seen[key] {
				seen[key] = true
				all = append(all, x)
			}
		}
	}
	host := Assistant
	if f.Via == "tunnel" {
		host = Target
	}
	for i := range f.Targets {
		if t := &f.Targets[i]; t.Probe != nil {
			at(t, host, t.Probe.AtIntercept)
			at(t, Target, t.Probe.AtTarget)
		}
	}
	return all
}
