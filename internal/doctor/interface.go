package doctor

import (
	"slices"
	"strings"
)

var interfaceCheck = Check{
	Code: "TC0103", Area: Capture,
	Title: "the clients' packets come in on another interface",
	Roles: []Role{Copier},
	After: []string{"TC0101"},
	How: "It counts the packets to the production port on every interface, without the " +
		"filter, and compares those that -i names with the others.",
	Why: "Packets on an interface that -i leaves out are not copied.",
	Mend: "Name the interface on which the packets come in, or leave -i out: all interfaces " +
		"then count.",
	Judge: func(f *Facts) (all []Result) {
		if f.Remote || len(f.CaptureOn) == 0 {
			return nil
		}
		if why := f.noCensus(); why != "" {
			return []Result{unknown("", "%s", why)}
		}
		for i := range f.Mappings {
			m := &f.Mappings[i]
			here := f.Census.to(m, f.CaptureOn)
			any := f.Census.to(m, nil)
			switch {
			case any.Packets == 0: // trafficCheck
			case here.Packets > 0:
				all = append(all, ok(m.Text, "%d packets on %s", here.Packets,
					strings.Join(f.CaptureOn, ", ")))
			default:
				devices := f.Outermost(f.Census.devices(m))
				all = append(all, found(m.Text,
					"in %s, %d packets for port %d came in on %s, 0 on %s",
					span(f.Watched), any.Packets, m.Production.Port(), strings.Join(devices, ", "),
					strings.Join(f.CaptureOn, ", ")).
					fix(CommandLine(withOption(f.Args, "i", "interface",
						strings.Join(devices, ","))...)))
			}
		}
		return all
	},
}

// Outermost leaves those interfaces out whose packets pass through another of them, too: the ports
// of a bridge, and the parent of a VLAN.
func (f *Facts) Outermost(devices []string) []string {
	return slices.DeleteFunc(slices.Clone(devices), func(below string) bool {
		return slices.ContainsFunc(devices, func(name string) bool {
			i, known := f.device(name)
			return known && slices.Contains(i.Over, below)
		})
	})
}

// devices lists the interfaces on which packets to a mapping's production address came in.
func (c *Census) devices(m *Mapping) (all []string) {
	for _, w := range c.Flows {
		if !slices.Contains(all, w.Interface) && c.to(m, []string{w.Interface}).Packets > 0 {
			all = append(all, w.Interface)
		}
	}
	return all
}
