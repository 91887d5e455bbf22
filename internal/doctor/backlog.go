package doctor

import "fmt"

var backlogCheck = Check{
	Code: "TC0212", Area: Forward,
	Title: "the test server does not accept its connections",
	Roles: []Role{Target},
	After: []string{"TC0208"},
	How: "It reads how many connections wait to be accepted, and how many may, and the " +
		"kernel's counters of queues that were full (ListenOverflows, TCPReqQFullDoCookies).",
	Why: "A server whose queue is full gets no further connections: their SYNs are dropped, " +
		"or answered with cookies.",
	Mend: "Find out why the server accepts nothing: it hangs, or has too few workers or " +
		"file descriptors. A larger queue helps against bursts.",
	Judge: func(f *Facts) []Result {
		return onPorts(f, func(_ uint16, here []Listener) *Result {
			for _, l := range here {
				if l.Backlog > 0 && l.Queue > l.Backlog {
					r := found("", "%d connections wait to be accepted, %d may%s", l.Queue,
						l.Backlog,
						f.Counters.words())
					return &r
				}
			}
			if len(here) == 0 {
				return nil
			}
			r := ok("", "%d of %d connections wait to be accepted", here[0].Queue, here[0].Backlog)
			return &r
		})
	},
}

// words returns the counters of full queues that have risen.
func (c *Counters) words() (s string) {
	if c == nil {
		return ""
	}
	for _, n := range []struct {
		name string
		rise int
	}{
		{"ListenOverflows", c.ListenFull}, {"ListenDrops", c.ListenDrops},
		{"TCPReqQFullDoCookies", c.SYNCookies}, {"TCPReqQFullDrop", c.SYNQueueDrops},
	} {
		if n.rise > 0 {
			s += fmt.Sprintf(", %s +%d", n.name, n.rise)
		}
	}
	return s
}
