package export

import (
	"fmt"
	"strings"
	"time"

	"tcpcopy/internal/core/ledger"
)

// patience is how long a copier must run before Advice reports what has not happened yet.
const patience = 5 * time.Second

// Advice returns hints about faults that no reason names: a copy that sees no packet, or whose
// packets are never answered. A hint is repeated until its cause is removed, so callers print each
// once.
func Advice(s *Snapshot) []string {
	c := &s.Counters
	if s.Elapsed() < patience && !s.Final {
		return nil
	}
	var all []string
	switch {
	case s.Replay != nil:
		all = replayAdvice(s)
	case c.Packets.Offered > 0:
	case s.From != "":
		all = append(all, fmt.Sprintf("nothing came from %s: does the mirror, or the agent, "+
			"send to this host, and does every firewall "+
			"on the way let it in? (tcpdump -ni any udp or tcp shows what arrives)", s.From))
	default:
		all = append(all, fmt.Sprintf("no packet for %s was seen: is it the port and the "+
			"address that clients connect to on this host? "+
			"(tcpdump -ni any port PORT shows its traffic; behind address translation, -x takes "+
			"the address after "+
			"translation; -i and -F leave packets out)",
			strings.Join(s.Mappings, ", ")))
	}
	if c.SegmentsOut > 0 && c.SegmentsIn == 0 && anyUp(s) {
		all = append(all, "no answer came back through an intercept: does the test server route "+
			"the clients' addresses to the "+
			"intercept's host (there: ip route get CLIENT ipproto tcp sport PORT), does the "+
			"intercept's -F name the "+
			"target's port, does anything on the way drop packets from the clients' addresses "+
			"(rp_filter, a firewall, "+
			"the cloud)? The README has the steps")
	}
	if c.Sessions.Dropped[ledger.TargetClosed]*2 > c.Sessions.Captured && s.Via == "socket" {
		all = append(all, "the test server closes most connections early: its log gives the "+
			"reason (with --proxy-protocol it must "+
			"expect the header, without it must not)")
	}
	return all
}

func anyUp(s *Snapshot) bool {
	for _, l := range s.Links {
		if l.Up {
			return true
		}
	}
	return false
}
