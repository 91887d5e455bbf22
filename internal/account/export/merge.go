package export

import (
	"fmt"
	"slices"

	"tcpcopy/internal/core/ledger"
)

// Merge returns the report of several nodes as one: counts and histograms are sums, and percentiles
// are those of the summed histograms. What only one node can say (a replay, a course, a fidelity)
// is left out where there are several. It returns an error if a histogram contradicts itself.
func Merge(all []*Report) (*Report, error) {
	if len(all) == 1 {
		return all[0], nil
	}
	m := &Report{
		Mappings: []string{}, Final: true, Balanced: true, Targets: []TargetReport{},
		Links:    []LinkReport{},
		Sessions: emptyFlow(), Bytes: emptyFlow(),
		Protocol: ProtoReport{
			Dropped: map[string]uint64{}, Status: map[string]uint64{}, Refused: map[string]uint64{},
			Production: ProductionReport{Status: map[string]uint64{}},
		},
	}
	var h [5]ledger.Delays
	for i, r := range all {
		if i == 0 || r.Start.Before(m.Start) {
			m.Start = r.Start
		}
		if r.Now.After(m.Now) {
			m.Now = r.Now
		}
		m.Version, m.Via = common(i, m.Version, r.Version), common(i, m.Via, r.Via)
		m.Mappings = append(m.Mappings, r.Mappings...)
		m.Final, m.Balanced = m.Final && r.Final, m.Balanced && r.Balanced
		m.add(r)
		for k, g := range []*Histogram{
			r.Histograms.Behind, r.Histograms.TargetFirst, r.Histograms.TargetWhole,
			r.Histograms.ProductionFirst, r.Histograms.ProductionWhole,
		} {
			d, err := g.Delays()
			if err != nil {
				return nil, fmt.Errorf("merge reports: %w", err)
			}
			h[k].Add(&d)
		}
	}
	m.Seconds = m.Now.Sub(m.Start).Seconds()
	m.Sessions.percent()
	m.Bytes.percent()
	m.Histograms = Histograms{
		Behind: NewHistogram(
			&h[0],
		), TargetFirst: NewHistogram(&h[1]), TargetWhole: NewHistogram(&h[2]),
		ProductionFirst: NewHistogram(&h[3]), ProductionWhole: NewHistogram(&h[4]),
	}
	m.Behind = times(&h[0])
	if h[2].Count > 0 {
		m.Protocol.Times = &AnswerTimes{times(&h[1]), times(&h[2])}
	}
	if h[4].Count > 0 {
		m.Protocol.Production.Times = &AnswerTimes{times(&h[3]), times(&h[4])}
	}
	return m, nil
}

// common returns what the first reports and one more have in common, or "several".
func common(i int, so, one string) string {
	if i == 0 || so == one {
		return one
	}
	return "several"
}

func emptyFlow() FlowReport { return FlowReport{Dropped: map[string]uint64{}} }

// add adds the counts of r.
func (m *Report) add(r *Report) {
	p, q := &m.Packets, &r.Packets
	p.Offered += q.Offered
	p.Captured += q.Captured
	p.KernelDrop += q.KernelDrop
	p.Shed += q.Shed
	p.Lost += q.Lost
	p.NotOurs += q.NotOurs
	p.Malformed += q.Malformed
	p.Twice += q.Twice
	m.Sessions.add(&r.Sessions)
	m.Bytes.add(&r.Bytes)
	m.Adopted += r.Adopted
	m.Live += r.Live
	m.Open += r.Open
	m.NoHandshake += r.NoHandshake
	m.AnswerBytes += r.AnswerBytes
	m.Connections += r.Connections
	m.Copies += r.Copies
	g, of := &m.Gate, &r.Gate
	g.Turns += of.Turns
	g.Known += of.Known
	g.Predicted += of.Predicted
	g.Quiet += of.Quiet
	g.Closed += of.Closed
	g.Forced += of.Forced
	a, b := &m.Protocol, &r.Protocol
	a.Sent += b.Sent
	a.Rewritten += b.Rewritten
	a.Answered += b.Answered
	a.Failed += b.Failed
	a.Lost += b.Lost
	a.Production.Answered += b.Production.Answered
	a.Production.Failed += b.Production.Failed
	a.Production.Lost += b.Production.Lost
	sumMap(a.Dropped, b.Dropped)
	sumMap(a.Status, b.Status)
	sumMap(a.Refused, b.Refused)
	sumMap(a.Production.Status, b.Production.Status)
	a.addTexts(b)
	w, v := &m.Raw, &r.Raw
	w.SegmentsOut += v.SegmentsOut
	w.SegmentsIn += v.SegmentsIn
	w.Retransmits += v.Retransmits
	w.SendErrors += v.SendErrors
	w.ForeignAnswers += v.ForeignAnswers
	m.Targets = append(m.Targets, r.Targets...)
	m.Links = append(m.Links, r.Links...)
	m.Agents = append(m.Agents, r.Agents...)
	for _, f := range r.Findings {
		if !slices.ContainsFunc(m.Findings, func(g Finding) bool {
			return f.String() == g.String()
		}) {
			m.Findings = append(m.Findings, f)
		}
	}
	m.Resources.CPUSeconds += r.Resources.CPUSeconds
	m.Resources.MaxRSSBytes += r.Resources.MaxRSSBytes
	m.StoodStill = max(m.StoodStill, r.StoodStill)
}

func sumMap(to, from map[string]uint64) {
	for k, n := range from {
		to[k] += n
	}
}

func (f *FlowReport) add(g *FlowReport) {
	f.Captured += g.Captured
	f.Delivered += g.Delivered
	f.InFlight += g.InFlight
	sumMap(f.Dropped, g.Dropped)
}

// percent sets DeliveredPercent from the counts.
func (f *FlowReport) percent() {
	flow := ledger.Flow{Captured: f.Captured, Delivered: f.Delivered}
	for name, n := range f.Dropped {
		if r, ok := ledger.ReasonNamed(name); ok {
			flow.Dropped[r] += n
		} else {
			flow.Dropped[ledger.ProtoLost] += n // of another version; it is a loss
		}
	}
	if m, ok := Delivered(&flow); ok {
		p := float64(m) / 1000
		f.DeliveredPercent = &p
	}
}
