package doctor

import "fmt"

var synQueueCheck = Check{
	Code: "TC0217", Area: Forward,
	Title: "the target's queue of connections that are being opened is full: SYN cookies",
	Roles: []Role{Target},
	After: []string{"TC0212"},
	How: "It reads the counters TCPReqQFullDoCookies and TCPReqQFullDrop before and after, " +
		"and net.ipv4.tcp_syncookies.",
	Why: "With SYN cookies the target forgets the options of a SYN, and a lost ACK leaves a " +
		"connection that only one side has. Without them SYNs are dropped.",
	Mend: "Make the queues larger: the server's own backlog, somaxconn and " +
		"tcp_max_syn_backlog. Have cookies sent only when a queue is full, tcp_syncookies=1.",
	Judge: func(f *Facts) []Result {
		c := f.Counters
		if c == nil || len(f.Ports) == 0 {
			return nil
		}
		if c.SYNCookies+c.SYNQueueDrops == 0 {
			return []Result{ok("", "no queue was full in %s", span(f.Watched))}
		}
		seen := fmt.Sprintf("in %s, %d SYNs were answered with cookies, %d dropped; "+
			"tcp_syncookies=%d", span(f.Watched), c.SYNCookies, c.SYNQueueDrops, f.SYNCookies)
		if f.SYNCookies == always {
			return []Result{found("", "%s: always", seen).
				fix("sysctl -w net.ipv4.tcp_syncookies=1")}
		}
		return []Result{found("", "%s", seen).fix("sysctl -w net.core.somaxconn=4096",
			"sysctl -w net.ipv4.tcp_max_syn_backlog=4096")}
	},
}

// always is the value of tcp_syncookies that has every SYN answered with a cookie.
const always = 2
