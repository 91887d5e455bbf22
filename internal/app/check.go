package app

import (
	"net/netip"
	"slices"
	"strings"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/doctor"
	"tcpcopy/internal/doctor/collect"
	"tcpcopy/internal/source/filter"
)

// quickFunc gathers the facts that need no waiting. Tests replace it.
type quickFunc func(*collect.Subject) *doctor.Facts

// refusedAnyway lists the codes of faults for which the commands do not start: their errors say so.
var refusedAnyway = []string{"TC0101", "TC0301", "TC0303"}

// checkAtStart examines this host beside the command's start, and prints each finding as one line.
// The returned function waits for the end of it.
func (p *program) checkAtStart(d *daemon, log *logbook) (wait func()) {
	if p.quick == nil || d.subject == nil || d.Check == config.CheckOff {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s := *d.subject
		s.Args = p.args
		r := doctor.DiagnoseQuick(p.quick(&s))
		for i := range r.Findings {
			if x := &r.Findings[i]; !slices.Contains(refusedAnyway, x.Code) {
				say(log.w, "check: %s", findingLine(x))
				log.seen.find(found(x))
			}
		}
	}()
	return func() { <-done }
}

// findingLine returns a finding as one line.
func findingLine(x *doctor.Finding) string {
	line := x.Summary()
	if len(x.Fix) > 0 {
		line += "; fix: " + strings.Join(x.Fix, "; ")
	}
	return line + " (tcpcopy explain " + x.Code + ")"
}

// found returns a finding as reports and pages have it.
func found(x *doctor.Finding) export.Finding {
	f := export.Finding{Code: x.Code, Text: x.Title, Fix: x.Fix}
	if x.Seen != "" {
		f.Text += ": " + x.Seen
	}
	return f
}

// captureSubject returns what there is to examine of a command that captures only.
func captureSubject(
	interfaces []string, expr filter.Expr, production []netip.AddrPort,
) *collect.Subject {
	s := &collect.Subject{
		Role: doctor.Copier, Via: "socket", Interfaces: interfaces, Filter: expr,
		Needs: []doctor.Need{captureNeed},
	}
	for _, a := range production {
		s.Mappings = append(s.Mappings, mapping.Mapping{Production: a})
	}
	return s
}

// doctorLine returns the command that examines a copy. Of a replay it has the mappings, and not the
// files.
func (p *program) doctorLine(c *config.Copy) string {
	if c.Replay == nil {
		return doctor.CommandLine(append([]string{"doctor"}, withoutProtocolOptions(p.args)...)...)
	}
	words := []string{"doctor", "copy", "-x", strings.Join(c.MappingStrings(), ",")}
	for _, a := range c.Intercepts {
		words = append(words, "-s", a.String())
	}
	return doctor.CommandLine(words...)
}
