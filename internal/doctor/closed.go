package doctor

import (
	"fmt"
	"net/netip"
	"strings"
)

var closedCheck = Check{
	Code: "TC0208", Area: Forward, Quick: true,
	Title: "no server listens on the target's port",
	Roles: []Role{Target},
	After: []string{"TC0211"},
	How: "It lists the sockets of this network namespace that listen, and looks for a rule " +
		"that passes the port's connections on to another address. If a container has that, it " +
		"lists the sockets there.",
	Why:  "The copies' connections are refused.",
	Mend: "Start the test server, or correct the port.",
	Judge: func(f *Facts) []Result {
		if len(f.Ports) == 0 {
			return []Result{unknown("", "no port is named (--allow)")}
		}
		return onPorts(f, func(port uint16, here []Listener) *Result {
			r := ok("", "%s", listenerWords(here))
			if on := f.passedOn(port); len(on) > 0 && f.Via != "tunnel" {
				r = f.judgePassedOn(on)
			} else if len(here) == 0 {
				r = found("", "no socket listens on port %d%s", port, f.othersWords())
				if f.Listeners.OtherErr != "" {
					r.Seen += "; whether one does in a container is not known: " +
						f.Listeners.OtherErr
				}
			}
			return &r
		})
	},
}

// judgePassedOn judges what listens where rules pass connections on to.
func (f *Facts) judgePassedOn(rules []PassedOn) (r Result) {
	for i := range rules {
		on := &rules[i]
		where := fmt.Sprintf("a rule passes connections on to %s (%s)", on.words(), on.Rule)
		here, inside := f.Listeners.on(on.To.Port()), "here"
		if !on.Local {
			n, all, known := f.Listeners.at(on.To)
			if !known {
				return unknown("", "%s, as to a container: nothing is known of the server there",
					where)
			}
			here, inside = all, "there, in the namespace of process "+itoa(n.PID)
		}
		if len(here) == 0 {
			return found("", "%s, and no socket listens %s", where, inside)
		}
		r = ok("", "%s, and a server %s %s", where, listenerWords(here), inside)
	}
	return r
}

// serving returns the sockets that get the connections which come in for a port: those in the
// container, if they are passed on to one.
func (f *Facts) serving(port uint16, here []Listener) []Listener {
	on := f.passedOn(port)
	switch {
	case len(on) == 0 || f.Via == "tunnel":
		return here
	case on[0].Local:
		return f.Listeners.on(on[0].To.Port())
	}
	_, inside, _ := f.Listeners.at(on[0].To)
	return inside
}

// onPorts judges each of a target's ports, with the sockets that listen there.
func onPorts(f *Facts, judge func(port uint16, here []Listener) *Result) (all []Result) {
	for _, port := range f.Ports {
		about := portWords(port)
		switch {
		case f.Listeners == nil:
			all = append(all, unknown(about, "the sockets were not listed"))
		case f.Listeners.Err != "":
			all = append(all, unknown(about, "%s", f.Listeners.Err))
		default:
			if r := judge(port, f.Listeners.on(port)); r != nil {
				r.About = about
				all = append(all, *r)
			}
		}
	}
	return all
}

func portWords(port uint16) string { return fmt.Sprintf("port %d", port) }

func listenerWords(all []Listener) string {
	var words []string
	for _, l := range all {
		words = append(words, l.Addr.String())
	}
	return "listens on " + strings.Join(words, ", ")
}

// othersWords names the ports that listen on a host where the wanted one does not.
func (f *Facts) othersWords() string {
	seen := map[uint16]bool{}
	var words []string
	for _, l := range f.Listeners.All {
		if p := l.Addr.Port(); !seen[p] && len(words) < 8 {
			seen[p] = true
			words = append(words, itoa(int(p)))
		}
	}
	if len(words) == 0 {
		return ""
	}
	return "; others listen on " + strings.Join(words, ", ")
}

// isLoopback reports whether a socket gets connections to loopback addresses only.
func (l *Listener) isLoopback() bool {
	return netip.Addr.IsLoopback(l.Addr.Addr())
}
