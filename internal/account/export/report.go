package export

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"tcpcopy/internal/account/fidelity"
	"tcpcopy/internal/account/verdict"
	"tcpcopy/internal/core/ledger"
)

// Report is the JSON form of a Snapshot. Fields are added and never renamed. Maps by reason or
// class have no zero counts.
type Report struct {
	Version  string    `json:"version"`
	Via      string    `json:"via"`
	Mappings []string  `json:"mappings"`
	Start    time.Time `json:"start"`
	Now      time.Time `json:"now"`
	Seconds  float64   `json:"seconds"`
	Final    bool      `json:"final"`    // the copier had stopped
	Balanced bool      `json:"balanced"` // captured = delivered + in flight + dropped
	Sequence uint64    `json:"sequence"` // of the snapshot

	Packets  PacketReport `json:"packets"`
	Sessions FlowReport   `json:"sessions"`
	Bytes    FlowReport   `json:"bytes"`

	Adopted     uint64     `json:"adopted_sessions"`
	Live        uint64     `json:"live_sessions"`
	Open        uint64     `json:"open_connections"` // of clients, as far as was captured
	NoHandshake uint64     `json:"no_handshake"`     // in no other count
	AnswerBytes uint64     `json:"answer_bytes"`
	Gate        GateReport `json:"gate"`
	Behind      Times      `json:"behind"` // from the capture of turns to their release

	Protocol ProtoReport `json:"protocol"`
	Raw      RawReport   `json:"raw"`

	// Connections counts the clients' connections that were copied, Copies the copies of them that
	// the targets accepted.
	Connections uint64 `json:"connections"`
	Copies      uint64 `json:"copies"`

	Targets []TargetReport `json:"targets"`
	// OldVersion counts the copies that go to the old version; nil: there are none.
	OldVersion *OldVersionReport `json:"old_version,omitempty"`
	Links      []LinkReport      `json:"links"`
	Agents     []AgentReport     `json:"agents,omitempty"`
	Replay     *ReplayReport     `json:"replay,omitempty"`
	Resources  ResourceReport    `json:"resources"`

	// StoodStill is for how long the process did not run although there was traffic.
	StoodStill float64 `json:"stood_still_seconds"`

	// Fidelity is how like production's traffic the copy was.
	Fidelity *fidelity.Score `json:"fidelity"`

	// Histograms are the times of which the rest has a median, a 99th percentile and a maximum.
	Histograms Histograms `json:"histograms"`

	// Compare is what a comparison of the targets' answers with production's has found.
	Compare *verdict.Result `json:"compare,omitempty"`

	// Findings are what the check at the start has found, and what the run shows now.
	Findings []Finding `json:"findings,omitempty"`

	// Course is how the run went, in a report that is written when it has ended.
	Course *Course `json:"course,omitempty"`
}

// PacketReport counts the packets of the source.
type PacketReport struct {
	Offered    uint64 `json:"offered"`
	Captured   uint64 `json:"captured"`
	KernelDrop uint64 `json:"kernel_drop"`
	Shed       uint64 `json:"agent_shed"`
	Lost       uint64 `json:"agent_lost"`
	NotOurs    uint64 `json:"not_ours"`
	Malformed  uint64 `json:"malformed"`
	Twice      uint64 `json:"twice"`
}

// FlowReport is the account of sessions or of bytes. DeliveredPercent does not count what is in
// flight or was left out on request; it is null if nothing was delivered or lost yet.
type FlowReport struct {
	Captured         uint64            `json:"captured"`
	Delivered        uint64            `json:"delivered"`
	InFlight         uint64            `json:"in_flight"`
	Dropped          map[string]uint64 `json:"dropped"`
	DeliveredPercent *float64          `json:"delivered_percent"`
}

// OldVersionReport counts the copies that went to the old version. They are in no other count.
type OldVersionReport struct {
	Sessions FlowReport `json:"sessions"`
	Bytes    FlowReport `json:"bytes"`
}

// GateReport counts turns by what released them.
type GateReport struct {
	Turns     uint64 `json:"turns"`
	Known     uint64 `json:"known"`
	Predicted uint64 `json:"predicted"`
	Quiet     uint64 `json:"quiet"`
	Closed    uint64 `json:"closed"`
	Forced    uint64 `json:"forced"`
}

// ProtoReport counts the requests of connections whose protocol is known, and the target's answers
// to them.
type ProtoReport struct {
	Sent      uint64            `json:"requests_sent"`
	Rewritten uint64            `json:"requests_rewritten"`
	Dropped   map[string]uint64 `json:"requests_dropped"`
	Answered  uint64            `json:"answers"`
	Failed    uint64            `json:"answers_failed"`
	Status    map[string]uint64 `json:"answers_by_status"` // by class
	// Texts are what the target said of errors, the most frequent first. TextsOther counts the
	// answers with other texts.
	Texts      []TextReport `json:"error_texts,omitempty"`
	TextsOther uint64       `json:"error_texts_other,omitempty"`
	// Lost counts the copies whose protocol could not be followed to the end.
	Lost    uint64            `json:"lost"`
	Times   *AnswerTimes      `json:"answer_times,omitempty"`
	Refused map[string]uint64 `json:"logins_refused"` // by class

	// Production counts production's own answers, if they were captured whole: once for each
	// connection.
	Production ProductionReport `json:"production"`
}

// ProductionReport counts production's own answers.
type ProductionReport struct {
	Answered uint64            `json:"answers"`
	Failed   uint64            `json:"answers_failed"`
	Status   map[string]uint64 `json:"answers_by_status"`
	// Times is absent in a replay, where time may run faster.
	Times *AnswerTimes `json:"answer_times,omitempty"`
	Lost  uint64       `json:"lost"` // connections not read to the end
}

// AnswerTimes holds the times from a request to the first byte of its answer, and to the last: the
// target's as the copier received them, production's as they were captured.
type AnswerTimes struct {
	First Times `json:"first_byte"`
	Whole Times `json:"whole"`
}

// RawReport counts segments of the raw way.
type RawReport struct {
	SegmentsOut    uint64 `json:"segments_out"`
	SegmentsIn     uint64 `json:"segments_in"`
	Retransmits    uint64 `json:"retransmits"`
	SendErrors     uint64 `json:"send_errors"`
	ForeignAnswers uint64 `json:"foreign_answers"`
}

// TargetReport is the state of one target of a mapping. Share is its part of the mapping's copies.
type TargetReport struct {
	Production string  `json:"online"`
	Target     string  `json:"target"`
	Weight     int     `json:"weight"`
	State      string  `json:"state"` // in, out, partly out (taken out by some shards)
	Share      float64 `json:"share"`
	Begun      uint64  `json:"begun"`
	Opened     uint64  `json:"opened"`
	Failed     uint64  `json:"failed"`
	Live       uint64  `json:"live"`
	TakenOut   uint64  `json:"taken_out"`
}

// LinkReport is the state of the link to one intercept.
type LinkReport struct {
	Intercept  string    `json:"intercept"`
	Up         bool      `json:"up"`
	Since      time.Time `json:"since"`
	Reconnects uint64    `json:"reconnects"`
	Error      string    `json:"error,omitempty"`

	ClaimsRefused uint64 `json:"claims_refused"`
	QueueDropped  uint64 `json:"queue_dropped"`
	Forbidden     uint64 `json:"forbidden_targets"`
}

// AgentReport is the state of an agent: see AgentState.
type AgentReport struct {
	Name     string    `json:"name"`
	Address  string    `json:"address"`
	Up       bool      `json:"up"`
	Since    time.Time `json:"since"`
	Connects uint64    `json:"connects"`
	Packets  uint64    `json:"packets"`

	KernelDrop   uint64 `json:"kernel_drop"`
	ShedCPU      uint64 `json:"shed_cpu"`
	ShedRate     uint64 `json:"shed_rate"`
	ShedSessions uint64 `json:"shed_sessions"`
	OverMemory   uint64 `json:"over_memory"`
	LinkDown     uint64 `json:"link_down"`
	Lost         uint64 `json:"lost"`
	Error        string `json:"error,omitempty"`
}

// ResourceReport holds what the process has used.
type ResourceReport struct {
	CPUSeconds  float64 `json:"cpu_seconds"`
	MaxRSSBytes uint64  `json:"max_rss_bytes"`
}

// NewReport returns the report of a snapshot.
func NewReport(s *Snapshot) *Report {
	c := &s.Counters
	r := &Report{
		Version: s.Version, Via: s.Via, Mappings: append([]string{}, s.Mappings...),
		Start: s.Start, Now: s.Now, Seconds: s.Elapsed().Seconds(), Final: s.Final,
		Balanced: c.Check() == nil,
		Packets: PacketReport{
			Offered: c.Packets.Offered, Captured: c.Packets.Seen, KernelDrop: c.Packets.KernelDrop,
			Shed: c.Packets.Shed, Lost: c.Packets.Lost,
			NotOurs: c.Packets.NotOurs, Malformed: c.Packets.Malformed, Twice: c.Packets.Twice,
		},
		Sessions: flowReport(&c.Sessions), Bytes: flowReport(&c.Bytes),
		Adopted: c.Adopted, Live: c.Live, Open: c.Open, NoHandshake: c.NoHandshake,
		AnswerBytes: c.AnswerBytes,
		Gate: GateReport{
			Turns: c.Turns, Known: c.GateKnown, Predicted: c.GatePredicted, Quiet: c.GateQuiet,
			Closed: c.GateClosed, Forced: c.GateForced,
		},
		Behind: times(&c.Behind),
		Protocol: ProtoReport{
			Sent: c.Requests.Sent, Rewritten: c.Requests.Rewritten,
			Dropped:  byReason(&c.Requests.Dropped),
			Answered: c.Requests.Answered, Failed: c.Requests.Failed,
			Status: byClass(&c.Requests.Answers.Status), Lost: c.ProtoLost,
			Times: answerTimes(&c.Requests.Answers), Refused: byClass(&c.Requests.Refused),
			Production: ProductionReport{
				Answered: c.Requests.Production.Answered, Failed: c.Requests.Production.Failed,
				Status: byClass(&c.Requests.Production.Status), Lost: c.Requests.ProductionLost,
			},
		},
		Raw: RawReport{
			SegmentsOut: c.SegmentsOut, SegmentsIn: c.SegmentsIn, Retransmits: c.Retransmits,
			SendErrors: c.SendErrors, ForeignAnswers: c.ForeignAnswers,
		},
		Connections: c.Connections, Copies: c.Copies, Targets: []TargetReport{},
		Links:     []LinkReport{},
		Replay:    replayReport(s),
		Resources: NewResourceReport(s.Resources), StoodStill: s.StoodStill.Seconds(),
	}
	r.Protocol.Texts, r.Protocol.TextsOther = textReports(&c.Requests.Texts)
	if s.Replay == nil {
		r.Protocol.Production.Times = answerTimes(&c.Requests.Production)
	}
	r.Sequence, r.Histograms, r.Fidelity = s.Sequence, histograms(s), s.Fidelity()
	r.Course, r.Compare, r.Findings = s.Course, s.Compare, findings(s)
	for i := range s.Targets {
		t := &s.Targets[i]
		r.Targets = append(r.Targets, TargetReport{
			Production: t.Production, Target: t.Target, Weight: t.Weight, State: t.State(),
			Share: s.Share(t),
			Begun: t.Count.Begun, Opened: t.Count.Opened, Failed: t.Count.Failed,
			Live: t.Count.Live, TakenOut: t.Count.TakenOut,
		})
	}
	if b := s.Baseline; b != nil {
		r.OldVersion = &OldVersionReport{flowReport(&b.Sessions), flowReport(&b.Bytes)}
		r.Balanced = r.Balanced && b.Check() == nil
	}
	for _, l := range s.Links {
		r.Links = append(r.Links, LinkReport(l))
	}
	for _, a := range s.Agents {
		r.Agents = append(r.Agents, AgentReport(a))
	}
	return r
}

// NewResourceReport returns the report of what a process has used.
func NewResourceReport(r Resources) ResourceReport {
	return ResourceReport{CPUSeconds: r.CPU.Seconds(), MaxRSSBytes: r.MaxRSS}
}

func flowReport(f *ledger.Flow) FlowReport {
	r := FlowReport{Captured: f.Captured, Delivered: f.Delivered, Dropped: byReason(&f.Dropped)}
	if f.Check() == nil {
		r.InFlight = f.InFlight()
	}
	if m, ok := Delivered(f); ok {
		p := float64(m) / 1000
		r.DeliveredPercent = &p
	}
	return r
}

// WriteReport writes v, a *Report or the report of another command, as JSON to the file path. It
// replaces the file in one step: a reader never sees half a report, and a full disk leaves the
// last one in place.
func WriteReport(path string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("write report %q: %w", path, err)
	}
	b = append(b, '\n')
	if err := replace(path, b); err != nil {
		return fmt.Errorf("write report %q: %w", path, bare(err))
	}
	return nil
}

// WriteFile writes a file whole or not at all, as WriteReport does.
func WriteFile(path string, b []byte) error {
	if err := replace(path, b); err != nil {
		return bare(err)
	}
	return nil
}

// CheckReport returns an error if a report cannot be written to path, so that the user learns it
// before the copy and not after. It makes and removes a file beside path.
func CheckReport(path string) error {
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() {
		if fi.IsDir() {
			return fmt.Errorf("write report %q: %w", path, syscall.EISDIR)
		}
		return nil // written to directly
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tcpcopy-report-*")
	if err != nil {
		return fmt.Errorf("write report %q: %w", path, bare(err))
	}
	f.Close()
	os.Remove(f.Name())
	return nil
}

// ReadReport reads a report that a copier has written.
func ReadReport(path string) (*Report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read report %q: %w", path, bare(err))
	}
	r := new(Report)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("read report %q: %w", path, err)
	}
	return r, nil
}

// replace writes b to a new file and renames it to path. If path is no regular file (/dev/stdout,
// a pipe), it writes to it directly: a rename would put a file in its place.
func replace(path string, b []byte) (err error) {
	if fi, err := os.Stat(path); err == nil && !fi.Mode().IsRegular() {
		return os.WriteFile(path, b, 0)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tcpcopy-report-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return err
	}
	if err := f.Close(); err != nil { // a full disk may be reported only here
		return err
	}
	return os.Rename(f.Name(), path)
}

// bare returns the kernel's error in a file error, without the operation and the path, which the
// caller gives.
func bare(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	var le *os.LinkError
	if errors.As(err, &le) {
		return le.Err
	}
	return err
}

// answerTimes returns nil if no time was taken.
func answerTimes(a *ledger.Answers) *AnswerTimes {
	if a.Whole.Count == 0 {
		return nil
	}
	return &AnswerTimes{times(&a.First), times(&a.Whole)}
}

// byClass returns the counts that are not 0, by the class's name.
func byClass(counts *ledger.ByClass) map[string]uint64 {
	m := map[string]uint64{}
	for _, class := range ledger.Classes() {
		if n := counts[class]; n > 0 {
			m[class.String()] = n
		}
	}
	return m
}

// byReason returns the counts that are not 0, by the reason's name.
func byReason(counts *ledger.ByReason) map[string]uint64 {
	m := map[string]uint64{}
	for _, reason := range ledger.Reasons() {
		if n := counts[reason]; n > 0 {
			m[reason.String()] = n
		}
	}
	return m
}
