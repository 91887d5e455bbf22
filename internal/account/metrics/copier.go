package metrics

import (
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/core/ledger"
)

// Copier is the snapshot of a copier, live or a replay.
type Copier struct {
	*export.Snapshot
	ReloadFailed bool // the last SIGHUP has changed nothing
}

var (
	up = gauge("mapping_info", "A mapping that is copied, and its way; always 1.", "mapping", "via")

	sessionsCaptured = counter("sessions_captured_total",
		"Client connections that were captured, each copy counted.")
	sessionsDelivered = counter("sessions_delivered_total",
		"Sessions that were copied to their end.")
	sessionsDropped = counter("sessions_dropped_total",
		"Sessions that were not copied to their end, by reason.", "reason")
	sessionsInFlight = gauge("sessions_in_flight",
		"Sessions that are neither delivered nor dropped yet.")
	sessionsLive    = gauge("sessions_live", "Sessions in the table now.")
	sessionsAdopted = counter("sessions_adopted_total",
		"Copies that began in the middle of a connection.")
	noHandshake = counter("connections_without_handshake_total",
		"Client connections whose handshake did not complete; in no other count.")
	bytesCaptured = counter("payload_bytes_captured_total",
		"Bytes that clients sent, each copy counted.")
	bytesDelivered = counter("payload_bytes_delivered_total",
		"Bytes of clients that the target received.")
	bytesDropped = counter("payload_bytes_dropped_total",
		"Bytes of clients that the target did not receive, by reason.", "reason")
	bytesInFlight = gauge("payload_bytes_in_flight",
		"Bytes of clients that are neither delivered nor dropped yet.")
	balanced = gauge("account_balanced",
		"Whether captured = delivered + in flight + dropped.")

	connections = counter("connections_copied_total",
		"Client connections of which a copy was begun.")
	copies = counter("copies_accepted_total", "Copies that the targets accepted.")
	turns  = counter("turns_total", "Turns that went to the target: requests, roughly.")
	waits  = counter("turn_waits_total",
		"Turns that waited for an answer, by what ended the wait.", "ended_by")
	answerBytes = counter("answer_bytes_total", "Bytes that the target answered.")

	captured = counter("capture_packets_total", "Packets that reached the copier.")
	kernel   = counter("capture_kernel_drops_total", "Packets that did not fit the capture ring.")
	shed     = counter("capture_agent_drops_total",
		"Packets that agents left out or lost, by cause.", "cause")
	ignored = counter("capture_packets_ignored_total",
		"Packets that were captured and belong to no mapping, by cause.", "cause")

	requests = counter("requests_total",
		"Requests that went to the target, where the protocol is known.")
	rewritten = counter("requests_rewritten_total",
		"Requests that went to the target other than the client sent them.")
	denied = counter("requests_dropped_total",
		"Requests that did not go to the target, by reason.", "reason")
	answers  = counter("answers_total", "Answers, by side.", "side")
	failed   = counter("answers_failed_total", "Answers that report an error, by side.", "side")
	statuses = counter("answers_by_status_total",
		"Answers by side and class of status.", "side", "status")
	unread = counter("protocol_lost_total",
		"Connections whose protocol could not be followed to the end, by side.", "side")

	targetCopies = counter("target_copies_total",
		"Copies that a target accepted, or failed.", "target", "result")
	targetLive = gauge("target_copies_live", "Copies that a target has now.", "target")
	targetIn   = gauge("target_in_service_ratio",
		"The part of the copier's shards that use a target: 0 if it is out.", "target")
	targetOut = counter("target_taken_out_total",
		"How often a target was taken out for a while.", "target")

	linkUp    = gauge("link_up", "Whether the link to an intercept is up.", "intercept")
	linkAgain = counter("link_reconnects_total", "How often a link came up again.", "intercept")
	linkLost  = counter("link_messages_dropped_total",
		"Messages to an intercept that found no connection, or no room.", "intercept")
	linkClaims = counter("link_claims_refused_total",
		"Connections that are another copier's.", "intercept")

	agentUp   = gauge("agent_up", "Whether an agent is connected.", "agent")
	agentSent = counter("agent_packets_total", "Packets that came from an agent.", "agent")

	segments = counter("raw_segments_total",
		"TCP segments of the raw way, by direction.", "direction")
	again   = counter("raw_retransmits_total", "TCP segments that were sent again.")
	refused = counter("raw_send_errors_total", "TCP segments that the kernel refused.")

	replayPackets = counter("replay_packets_total", "Recorded packets that were played.")
	replayPlayed  = counter("replay_played_seconds_total", "Time of the recording that was played.")
	replayPaused  = counter("replay_paused_seconds_total",
		"For how long nothing was read, since the target had not taken what had been.")

	reload = gauge("config_last_reload_successful",
		"Whether the last SIGHUP has loaded the configuration; 1 before the first.")

	whole = timing("answer_duration_seconds",
		"From a request to the last byte of its answer, by side.", "side")
	first = timing("answer_first_byte_seconds",
		"From a request to the first byte of its answer, by side.", "side")
	stoodStill = counter("stood_still_seconds_total",
		"Time in which the process did not run although there was traffic.")
	behind = timing("turn_lag_seconds",
		"How long after they were captured, or due, turns went to the target.")
	late = timing("replay_lateness_seconds",
		"How long after their time the sessions of a replay began.")
)

// The sides of an answer.
const (
	target     = "target"
	production = "production"
)

func (c *Copier) collect(s *set) {
	kind := "copier"
	if c.Replay != nil {
		kind = "replay"
	}
	s.node(kind, &Node{c.Version, c.Start, c.Now, c.Sequence, c.Resources})
	for _, m := range c.Mappings {
		s.put(up, 1, m, c.Via)
	}
	s.put(reload, flag(!c.ReloadFailed))
	s.flows(&c.Counters)
	s.capture(&c.Counters.Packets)
	s.copying(&c.Counters)
	s.put(stoodStill, c.StoodStill.Seconds())
	s.protocol(&c.Counters, c.Replay == nil)
	s.peers(c.Snapshot)
	if c.Via == "raw" {
		s.count(segments, c.Counters.SegmentsOut, "out")
		s.count(segments, c.Counters.SegmentsIn, "in")
		s.count(again, c.Counters.Retransmits)
		s.count(refused, c.Counters.SendErrors)
	}
	if p := c.Replay; p != nil {
		s.count(replayPackets, p.Packets)
		s.put(replayPlayed, p.Played.Seconds())
		s.put(replayPaused, p.Paused.Seconds())
		s.histogram(late, &p.Late, fewBounds)
	}
}

func (s *set) flows(c *ledger.Counters) {
	s.count(sessionsCaptured, c.Sessions.Captured)
	s.count(sessionsDelivered, c.Sessions.Delivered)
	s.count(bytesCaptured, c.Bytes.Captured)
	s.count(bytesDelivered, c.Bytes.Delivered)
	for _, r := range ledger.Reasons() {
		s.count(sessionsDropped, c.Sessions.Dropped[r], r.String())
		s.count(bytesDropped, c.Bytes.Dropped[r], r.String())
	}
	if c.Sessions.Check() == nil {
		s.count(sessionsInFlight, c.Sessions.InFlight())
	}
	if c.Bytes.Check() == nil {
		s.count(bytesInFlight, c.Bytes.InFlight())
	}
	s.put(balanced, flag(c.Check() == nil))
	s.count(sessionsLive, c.Live)
	s.count(sessionsAdopted, c.Adopted)
	s.count(noHandshake, c.NoHandshake)
}

func (s *set) capture(p *ledger.Packets) {
	s.count(captured, p.Seen)
	s.count(kernel, p.KernelDrop)
	s.count(shed, p.Shed, "shed")
	s.count(shed, p.Lost, "lost")
	s.count(ignored, p.NotOurs, "not_ours")
	s.count(ignored, p.Malformed, "malformed")
	s.count(ignored, p.Twice, "twice")
}

func (s *set) copying(c *ledger.Counters) {
	s.count(connections, c.Connections)
	s.count(copies, c.Copies)
	s.count(turns, c.Turns)
	s.count(answerBytes, c.AnswerBytes)
	s.count(waits, c.GateKnown, "known")
	s.count(waits, c.GatePredicted, "predicted")
	s.count(waits, c.GateQuiet, "quiet")
	s.count(waits, c.GateClosed, "closed")
	s.count(waits, c.GateForced, "forced")
	s.histogram(behind, &c.Behind, fewBounds)
}

// protocol adds what is known of requests and answers. Times of production mean nothing in a
// replay, which may run faster.
func (s *set) protocol(c *ledger.Counters, live bool) {
	q := &c.Requests
	s.count(requests, q.Sent)
	s.count(rewritten, q.Rewritten)
	for _, r := range ledger.Reasons() {
		s.count(denied, q.Dropped[r], r.String())
	}
	s.answers(target, &q.Answers, true)
	s.answers(production, &q.Production, live)
	s.count(unread, c.ProtoLost, target)
	s.count(unread, q.ProductionLost, production)
}

func (s *set) answers(side string, a *ledger.Answers, times bool) {
	s.count(answers, a.Answered, side)
	s.count(failed, a.Failed, side)
	for _, class := range ledger.Classes() {
		if n := a.Status[class]; n > 0 {
			s.count(statuses, n, side, class.String())
		}
	}
	if times {
		s.histogram(whole, &a.Whole, manyBounds, side)
		s.histogram(first, &a.First, fewBounds, side)
	}
}

func (s *set) peers(c *export.Snapshot) {
	for _, t := range merged(c.Targets) {
		s.count(targetCopies, t.Count.Opened, t.Target, "accepted")
		s.count(targetCopies, t.Count.Failed, t.Target, "failed")
		s.count(targetLive, t.Count.Live, t.Target)
		s.count(targetOut, t.Count.TakenOut, t.Target)
		if t.Shards > 0 {
			s.put(targetIn, 1-float64(t.OutOf)/float64(t.Shards), t.Target)
		}
	}
	seen := map[string]bool{}
	for i := range c.Links {
		l := &c.Links[i]
		if seen[l.Intercept] {
			continue
		}
		seen[l.Intercept] = true
		s.put(linkUp, flag(l.Up), l.Intercept)
		s.count(linkAgain, l.Reconnects, l.Intercept)
		s.count(linkLost, l.QueueDropped, l.Intercept)
		s.count(linkClaims, l.ClaimsRefused, l.Intercept)
	}
	agents(s, c.Agents)
}

// maxAgents bounds the agents that have series of their own: their names come from outside.
const maxAgents = 64

// agents adds up agents of one name: an agent that began again is another one to the copier.
func agents(s *set, all []export.AgentState) {
	up, packets := map[string]bool{}, map[string]uint64{}
	var names []string
	for i := range all {
		a := &all[i]
		name := strings.ToValidUTF8(a.Name, "?") // as the agent sent it
		if _, ok := packets[name]; !ok {
			if len(names) == maxAgents {
				continue
			}
			names = append(names, name)
		}
		up[name] = up[name] || a.Up
		packets[name] += a.Packets
	}
	for _, name := range names {
		s.put(agentUp, flag(up[name]), name)
		s.count(agentSent, packets[name], name)
	}
}

// merged adds up a target's parts of several mappings.
func merged(all []export.TargetState) (list []export.TargetState) {
	at := map[string]int{}
	for _, t := range all {
		i, ok := at[t.Target]
		if !ok {
			at[t.Target] = len(list)
			list = append(list, t)
			continue
		}
		list[i].Count.Add(&t.Count)
		list[i].Shards += t.Shards
		list[i].OutOf += t.OutOf
	}
	return list
}

// The ends of the histograms' buckets are ends of the ledger's slots, so the conversion is exact.
var (
	manyBounds = bounds(17, 1) // from 131 µs on, doubling
	fewBounds  = bounds(17, 2) // from 131 µs on, four times as long each
)

// bounds returns the ends of slots from 2^first ns to 17 s, each 2^step as long as the one before.
func bounds(first, step int) (ends []time.Duration) {
	for shift := first; shift <= 34; shift += step {
		ends = append(ends, 1<<shift-1)
	}
	return ends
}

func (s *set) histogram(f *family, h *ledger.Delays, ends []time.Duration, labels ...string) {
	count, sum := h.Count, h.Sum.Seconds()
	all := &dto.Histogram{SampleCount: &count, SampleSum: &sum}
	for _, end := range ends {
		within, bound := h.Within(end), end.Seconds()
		all.Bucket = append(all.Bucket, &dto.Bucket{CumulativeCount: &within, UpperBound: &bound})
	}
	s.add(f, labels).Histogram = all
}
