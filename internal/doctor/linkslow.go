package doctor

import (
	"fmt"
	"time"
)

// slowLink is the round trip on a link from which on it is called slow. No network between hosts
// that work together has it: what waits in queues makes it.
const slowLink = 500 * time.Millisecond

var linkSlowCheck = Check{
	Code: "TC0506", Area: Link,
	Title: "the link between copier and intercept is backed up",
	Roles: []Role{Copier, Assistant, Target},
	After: []string{"TC0205", "TC0503", "TC0504"},
	How: "It asks the kernel for the round-trip time of the links' connections, and for the " +
		"bytes that wait to be acknowledged.",
	Why: "In raw the answers, and in the tunnel requests and counts of answers, go over the " +
		"link. If it is slower than they come, they wait: copies lag behind, and time out.",
	Mend: "Give the link a network with room for it, or copy less: --sample, --max-rate. In raw " +
		"an intercept near the copier is as good as one near the target. A capture of whole " +
		"answers (a protocol, --compare) makes them larger.",
	Judge: func(f *Facts) (all []Result) {
		for _, q := range f.LinkQueues {
			about := q.Peer.String()
			seen := fmt.Sprintf("the round trip takes %s, and %d bytes wait to be acknowledged",
				q.RTT.Round(100*time.Microsecond), q.Waiting)
			if q.RTT < slowLink {
				all = append(all, ok(about, "%s", seen))
			} else {
				all = append(all, found(about, "%s", seen))
			}
		}
		if f.LinkQueuesErr != "" {
			all = append(all, unknown("", "%s", f.LinkQueuesErr))
		}
		return all
	},
}
