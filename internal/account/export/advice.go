package export

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"tcpcopy/internal/core/ledger"
)

// patience is how long a copier must run before Advice reports what has not happened yet.
const patience = 10 * time.Second

// Advice returns hints about what a running copy shows, each with a code of the doctor and the
// command that finds the cause. A hint is repeated until its cause is removed, so callers
// print each once.
func Advice(s *Snapshot) (all []string) {
	for _, h := range hints(s) {
		all = append(all, h.String())
	}
	return all
}

func hints(s *Snapshot) (all []Finding) {
	if s.Elapsed() < patience && !s.Final {
		return nil
	}
	if s.Replay != nil {
		all = replayAdvice(s)
	} else if s.Counters.Packets.Offered == 0 {
		all = append(all, noPacket(s))
	}
	for _, x := range symptoms(s) {
		if x.shown {
			all = append(all, Finding{Code: x.code,
				Text: fmt.Sprintf("%s; %s finds the cause", x.what, s.doctor())})
		}
	}
	return all
}

// doctor returns the command that examines the copy.
func (s *Snapshot) doctor() string { return cmp.Or(s.Doctor, "tcpcopy doctor") }

// noPacket returns the hint of a copy that has seen no packet.
func noPacket(s *Snapshot) Finding {
	if s.From != "" {
		return Finding{Text: fmt.Sprintf("nothing came from %s: does the mirror, or the agent, "+
			"send to this host, and does every firewall on the way let it in? (tcpdump -ni any "+
			"udp or tcp shows what arrives)", s.From)}
	}
	return Finding{Code: "TC0105", Text: fmt.Sprintf(
		"no packet for %s was seen; %s finds the cause",
		strings.Join(s.Mappings, ", "), s.doctor())}
}

// symptom is something that a copy shows if something is wrong, with the code of the likely cause.
type symptom struct {
	code, what string
	shown      bool
}

// most is the share of the sessions, one in most, that must have ended for a reason before it is a
// symptom.
const most = 2

// dropsShown is the share of the packets, one in dropsShown, whose loss is a symptom.
const dropsShown = 1000

func symptoms(s *Snapshot) []symptom {
	c := &s.Counters
	mostly := func(reasons ...ledger.Reason) bool {
		n := uint64(0)
		for _, r := range reasons {
			n += c.Sessions.Dropped[r]
		}
		return n*most > c.Sessions.Captured
	}
	raw := s.Via == "raw"
	silent := c.SegmentsOut > 0 && c.SegmentsIn == 0 && anyUp(s)
	return []symptom{
		{"TC0106", "no copy can come from most clients' addresses: they are loopback addresses",
			mostly(ledger.BadClientAddress)},
		{"TC0108", "the kernel drops packets because the capture ring is full",
			c.Packets.KernelDrop*dropsShown > c.Packets.Offered},
		{"TC0107", "most sessions are TLS", mostly(ledger.TLS)},
		{"TC0201", "the target refuses most connections", mostly(ledger.TargetRefused)},
		{"TC0202", "the target does not answer most SYNs", !raw && mostly(ledger.ConnectTimeout)},
		{"TC0215", "no answer came back through an intercept", silent},
		{"TC0215", "the target's answers to most SYNs do not come back", raw && !silent &&
			mostly(ledger.ConnectTimeout)},
		{"TC0216", "most clients' addresses and ports are in use at the target",
			mostly(ledger.TupleTaken)},
		// In raw the target resets what a client, or another host, has reset there.
		{"TC0304", "the target resets most connections: its answers may reach another host",
			raw && mostly(ledger.TargetReset)},
		{"TC0219", "the target acknowledges nothing that most sessions send",
			mostly(ledger.SendTimeout)},
		{"TC0505", "the intercept does not allow the targets of most sessions",
			mostly(ledger.TargetForbidden)},
		{"TC0601", "the test server resets most connections: its log gives the reason",
			!raw && mostly(ledger.TargetReset)},
		{"TC0602", "the test server takes most sessions' requests and does not answer",
			mostly(ledger.GateTimeout)},
		{"TC0601", "the test server closes most connections early: its log gives the reason " +
			"(with --proxy-protocol it must expect the header, without it must not)",
			s.Via == "socket" && mostly(ledger.TargetClosed)},
	}
}

func anyUp(s *Snapshot) bool {
	for _, l := range s.Links {
		if l.Up {
			return true
		}
	}
	return false
}
