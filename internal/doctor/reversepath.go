package doctor

import "strings"

var reversePathCheck = Check{
	Code: "TC0204", Area: Forward, Quick: true,
	Title: "the reverse-path filter drops the clients' packets",
	Roles: []Role{Target},
	How: "It compares the interface on which the clients' packets come in with the one of " +
		"the route back to them, and reads rp_filter (the larger of all and the " +
		"interface's) and the counter IPReversePathFilter.",
	Why: "In the raw way packets have the clients' addresses. With rp_filter=1 the kernel " +
		"drops those that do not come in where its route to their source leads; with 2, " +
		"those that it has no route to.",
	Mend: "Add the route to the clients through the assistant, and set the interface's " +
		"rp_filter to 2.",
	Judge: func(f *Facts) (all []Result) {
		if f.Via == "tunnel" {
			return nil // connections from inside the host pass no such filter
		}
		for i := range f.ReturnRoutes {
			p := &f.ReturnRoutes[i]
			if !p.Client.Is4() {
				continue
			}
			all = append(all, judgeReversePath(f, p))
		}
		return all
	},
}

func judgeReversePath(f *Facts, p *ReturnPath) Result {
	about := p.Client.String()
	in, known := f.device(p.Arrives)
	if !known {
		return unknown(about, "no packet of a client came in: on which interface is not known")
	}
	seen := ""
	if f.Counters != nil && f.Counters.ReversePath > 0 {
		seen = ", IPReversePathFilter +" + itoa(f.Counters.ReversePath)
	}
	mode := itoa(in.ReversePath)
	loosen := "sysctl -w net.ipv4.conf." + strings.ReplaceAll(in.Name, ".", "/") + ".rp_filter=2"
	switch {
	case in.ReversePath == 0:
		return ok(about, "%s rp_filter=0", in.Name)
	case p.Route.Err != "":
		r := found(about, "%s rp_filter=%s%s, and no route to %s", in.Name, mode, seen, p.Client)
		if p.Assistant.IsValid() {
			r = r.fix("ip route add "+about+" via "+p.Assistant.String(), loosen)
		}
		return r
	case in.ReversePath == 1 && p.Route.Device != in.Name:
		return found(about, "%s rp_filter=1%s; packets of %s come in on %s, its route leads to %s",
			in.Name, seen, p.Client, in.Name, p.Route.Device).fix(loosen)
	}
	return ok(about, "%s rp_filter=%s, and the route to %s leads there", in.Name, mode, p.Client)
}
