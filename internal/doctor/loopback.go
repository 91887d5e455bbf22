package doctor

import "strings"

var loopbackCheck = Check{
	Code: "TC0106", Area: Capture, Quick: true,
	Title: "the clients connect over loopback",
	Roles: []Role{Copier},
	After: []string{"TC0101"},
	How: "It looks at the addresses from which packets to the production port come, and at " +
		"the interfaces of -i.",
	Why: "A client on this host has the address 127.0.0.1 or ::1. No packet on a network " +
		"may have it: in the raw way and in the tunnel these clients need another address. " +
		"Without one their sessions are dropped, with the reason bad_client_address.",
	Mend: "Give them an address with -H IP, or have all copies sent from addresses of -c.",
	Judge: func(f *Facts) (all []Result) {
		if f.Remote || f.Via == "socket" {
			return nil
		}
		if f.noCensus() != "" {
			return f.loopbackOnly()
		}
		for i := range f.Mappings {
			m := &f.Mappings[i]
			w := f.Census.to(m, f.CaptureOn)
			local := 0
			for _, a := range w.Clients {
				if a.IsLoopback() {
					local++
				}
			}
			switch {
			case w.Packets == 0:
			case local == 0 || f.StandsIn:
				all = append(all, ok(m.Text, "no client needs another address"))
			case local < len(w.Clients): // some are copied
				all = append(all, ok(m.Text, "some clients are on this host: -H copies these, too"))
			default:
				r := found(m.Text, "%d packets, all from loopback addresses, and no -H or -c",
					w.Packets)
				if a := f.ownAddress(); a != "" {
					r = r.fix(CommandLine(withOption(f.Args, "H", "localhost-as", a)...))
				}
				all = append(all, r)
			}
		}
		return all
	},
}

// loopbackOnly judges the interfaces of -i alone.
func (f *Facts) loopbackOnly() []Result {
	if f.StandsIn || len(f.CaptureOn) == 0 {
		return nil
	}
	for _, name := range f.CaptureOn {
		if i, known := f.device(name); !known || !i.Loopback {
			return nil
		}
	}
	r := found("", "-i names %s alone, and there is no -H or -c", strings.Join(f.CaptureOn, ", "))
	if a := f.ownAddress(); a != "" {
		r = r.fix(CommandLine(withOption(f.Args, "H", "localhost-as", a)...))
	}
	return []Result{r}
}

// ownAddress returns this host's address towards the first target, for a tunnel. In the raw way it
// must not be this host's own.
func (f *Facts) ownAddress() string {
	if f.Via != "tunnel" || len(f.Targets) == 0 || !f.Targets[0].Route.Source.IsValid() {
		return ""
	}
	return f.Targets[0].Route.Source.String()
}
