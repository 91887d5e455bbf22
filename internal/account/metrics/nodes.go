package metrics

import (
	"maps"
	"slices"

	"tcpcopy/internal/account/export"
)

// Intercept is the snapshot of an intercept, on an assistant or on a target.
type Intercept struct {
	Node
	Way         string // "raw" on an assistant, "tunnel" on a target
	Copiers     int    // that are connected
	Connections uint64 // of copies, now
	Strangers   uint64 // connections that did not prove the key
	Assistant   *Assistant
	Target      *OnTarget
}

// Assistant is what an intercept on an assistant counts.
type Assistant struct {
	Packets, KernelDrop          uint64
	Routed, Unowned, HeldTooLong uint64
	CopierSlow, CopierAway       uint64
}

// OnTarget is what an intercept on a target counts.
type OnTarget struct {
	Opened, Finished, Aborted, Reset uint64
	BytesIn, BytesOut                uint64
	Buffered                         int64
	Failed                           map[string]uint64 // by reason
}

var (
	interceptCopiers = gauge("intercept_copiers", "Copiers that are connected to the intercept.")
	interceptConns   = gauge("intercept_connections",
		"Connections of copies that the intercept has now.")
	interceptStrangers = counter("intercept_strangers_total",
		"Connections to the intercept that did not prove the key.")
	interceptInfo = gauge("intercept_info",
		"The way that the intercept serves; always 1.", "via")

	interceptSegments = counter("intercept_segments_total",
		"Segments of the target that the intercept saw, by what became of them.", "result")

	streams = counter("intercept_streams_opened_total",
		"Connections that the intercept opened at the target.")
	streamsEnded = counter("intercept_streams_ended_total",
		"Connections at the target that have ended, by how.", "result")
	streamsFailed = counter("intercept_streams_failed_total",
		"Connections at the target that could not be opened, by reason.", "reason")
	streamBytes = counter("intercept_stream_bytes_total",
		"Bytes on the connections at the target, by direction.", "direction")
	streamWaiting = gauge("intercept_stream_waiting_bytes", "Bytes that wait for the target now.")
)

func (n *Intercept) collect(s *set) {
	s.node("intercept", &n.Node)
	s.put(interceptInfo, 1, n.Way)
	s.put(interceptCopiers, float64(n.Copiers))
	s.count(interceptConns, n.Connections)
	s.count(interceptStrangers, n.Strangers)
	if a := n.Assistant; a != nil {
		s.count(captured, a.Packets)
		s.count(kernel, a.KernelDrop)
		s.count(interceptSegments, a.Routed, "routed")
		s.count(interceptSegments, a.Unowned, "unowned")
		s.count(interceptSegments, a.HeldTooLong, "held_too_long")
		s.count(interceptSegments, a.CopierSlow, "copier_too_slow")
		s.count(interceptSegments, a.CopierAway, "copier_away")
	}
	if t := n.Target; t != nil {
		s.count(streams, t.Opened)
		s.count(streamsEnded, t.Finished, "finished")
		s.count(streamsEnded, t.Aborted, "aborted")
		s.count(streamsEnded, t.Reset, "reset")
		for _, reason := range slices.Sorted(maps.Keys(t.Failed)) {
			s.count(streamsFailed, t.Failed[reason], reason)
		}
		s.count(streamBytes, t.BytesIn, "in")
		s.count(streamBytes, t.BytesOut, "out")
		s.put(streamWaiting, float64(t.Buffered))
	}
}

// Agent is the snapshot of an agent.
type Agent struct {
	Node
	Connected                  bool
	Connects                   uint64
	Captured, Sent, KernelDrop uint64 // packets
	SentBytes                  uint64
	ShedCPU, ShedRate          uint64 // packets
	ShedSessions               uint64
	OverMemory, LinkDown       uint64 // packets
	Share                      float64
}

var (
	agentLink     = gauge("agent_connected", "Whether the agent is connected to its copier.")
	agentConnects = counter("agent_connects_total", "How often the agent has connected.")
	agentPackets  = counter("agent_sent_packets_total", "Packets that the agent sent.")
	agentBytes    = counter("agent_sent_bytes_total",
		"Bytes that the agent sent over its connection.")
	agentDropped = counter("agent_dropped_packets_total",
		"Packets that the agent did not send, by reason.", "reason")
	agentSessions = counter("agent_shed_sessions_total",
		"Sessions that the agent left out to stay within its bounds.")
	agentShare = gauge("agent_session_share_ratio",
		"The share of the sessions that the agent sends now.")
)

func (n *Agent) collect(s *set) {
	s.node("agent", &n.Node)
	s.put(agentLink, flag(n.Connected))
	s.count(agentConnects, n.Connects)
	s.count(captured, n.Captured)
	s.count(kernel, n.KernelDrop)
	s.count(agentPackets, n.Sent)
	s.count(agentBytes, n.SentBytes)
	s.count(agentDropped, n.ShedCPU, "max_cpu")
	s.count(agentDropped, n.ShedRate, "max_mbps")
	s.count(agentDropped, n.OverMemory, "over_memory")
	s.count(agentDropped, n.LinkDown, "link_down")
	s.count(agentSessions, n.ShedSessions)
	s.put(agentShare, n.Share)
}

// Recorder is the snapshot of a recording.
type Recorder struct {
	*export.Recording
	Sequence  uint64
	Resources export.Resources
}

var (
	recordedPackets = counter("recorded_packets_total", "Packets that were written.")
	recordedBytes   = counter("recorded_bytes_total",
		"Bytes that were written, before compression.")
	recordedSessions = counter("recorded_sessions_total", "Sessions that began and were recorded.")
	recordedSampled  = counter("recorded_sampled_out_packets_total",
		"Packets that --sample left out.")
	recordedFiles = counter("recorded_files_total", "Files that were begun.")
	removedFiles  = counter("recorded_files_removed_total", "Files that --keep removed.")
)

func (n *Recorder) collect(s *set) {
	s.node("recorder", &Node{n.Version, n.Start, n.Now, n.Sequence, n.Resources})
	s.capture(&n.Packets)
	s.count(recordedPackets, n.Written)
	s.count(recordedBytes, uint64(max(n.Bytes, 0)))
	s.count(recordedSessions, n.Sessions)
	s.count(recordedSampled, n.Sampled)
	s.put(recordedFiles, float64(n.Files))
	s.put(removedFiles, float64(n.Removed))
}
