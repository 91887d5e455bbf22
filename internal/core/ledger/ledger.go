// Package ledger is the account of every captured packet, session and byte: delivered, in flight,
// or dropped for a named reason.
//
// A Counters belongs to one goroutine, a shard's or a reader's, which counts in it without locks.
// Others get copies of it, and Add sums copies. At every moment, for sessions and for bytes,
//
//	captured = delivered + in flight + Σ dropped{reason}
//
// which Check verifies.
package ledger

import "fmt"

// Flow counts one thing (sessions, or client bytes) from capture to the target.
type Flow struct {
	Captured  uint64
	Delivered uint64
	Dropped   ByReason
}

// InFlight returns how much was captured and is neither delivered nor dropped yet.
func (f *Flow) InFlight() uint64 { return f.Captured - f.Delivered - f.DroppedAll() }

// DroppedAll returns how much was dropped, for all reasons.
func (f *Flow) DroppedAll() uint64 {
	var n uint64
	for _, d := range f.Dropped[None+1:] {
		n += d
	}
	return n
}

// Drop counts n as dropped for the reason r, which must not be None.
func (f *Flow) Drop(r Reason, n uint64) { f.Dropped[r] += n }

// Add adds the counts of g.
func (f *Flow) Add(g *Flow) {
	f.Captured += g.Captured
	f.Delivered += g.Delivered
	for i := range f.Dropped {
		f.Dropped[i] += g.Dropped[i]
	}
}

// Check returns an error if more is accounted for than was captured.
func (f *Flow) Check() error {
	if done := f.Delivered + f.DroppedAll(); done > f.Captured {
		return fmt.Errorf("ledger: captured %d, accounted for %d", f.Captured, done)
	}
	return nil
}

// Requests counts the requests, and the answers to them, of connections whose protocol is known.
type Requests struct {
	Sent      uint64   // whole requests that went to the target
	Rewritten uint64   // those of them whose bytes were not all the client's
	Dropped   ByReason // those that did not go
	Refused   ByClass  // logins of the copies, by the class of the target's error

	Answers            // of the target
	Texts      Texts   // of those that report an error, if the protocol has texts
	Production Answers // of production, once for all copies, if they were captured whole
	// ProductionLost counts the connections whose answers of production could not be read to the
	// end.
	ProductionLost uint64
}

// Answers counts what a server has answered to the requests of a protocol.
type Answers struct {
	Answered uint64  // final answers
	Failed   uint64  // those of them that report an error
	Status   ByClass // answers, interim ones too, whose protocol has classes of status

	// The time from a request to the first byte of its answer, and to the last.
	First, Whole Delays
}

// Add adds the counts of b.
func (a *Answers) Add(b *Answers) {
	a.Answered += b.Answered
	a.Failed += b.Failed
	for i := range a.Status {
		a.Status[i] += b.Status[i]
	}
	a.First.Add(&b.First)
	a.Whole.Add(&b.Whole)
}

// Refuse counts a login that the target has refused, by the class of its error.
func (q *Requests) Refuse(c Class) { q.Refused[c]++ }

// Drop counts a request that does not go to the target for the reason r, which must not be None.
func (q *Requests) Drop(r Reason) { q.Dropped[r]++ }

// Add adds the counts of o.
func (q *Requests) Add(o *Requests) {
	q.Sent += o.Sent
	q.Rewritten += o.Rewritten
	q.Answers.Add(&o.Answers)
	q.Texts.Add(&o.Texts)
	q.Production.Add(&o.Production)
	q.ProductionLost += o.ProductionLost
	for i := range q.Dropped {
		q.Dropped[i] += o.Dropped[i]
	}
	for i := range q.Refused {
		q.Refused[i] += o.Refused[i]
	}
}

// Packets counts the packets of a capture source.
type Packets struct {
	Offered    uint64 // matched the kernel filter: Seen + KernelDrop + Shed + Lost
	Seen       uint64 // were read from the source
	KernelDrop uint64 // found no room in the capture ring of the copier, or of an agent
	Shed       uint64 // were left out by an agent to stay within its bounds
	Lost       uint64 // could not be sent by an agent, or were lost with its connection
	NotOurs    uint64 // matched the filter, but belong to no mapping or to another host
	Malformed  uint64 // have no whole TCP header
	Twice      uint64 // were seen before, on another interface
}

// Add adds the counts of q.
func (p *Packets) Add(q *Packets) {
	p.Offered += q.Offered
	p.Seen += q.Seen
	p.KernelDrop += q.KernelDrop
	p.Shed += q.Shed
	p.Lost += q.Lost
	p.NotOurs += q.NotOurs
	p.Malformed += q.Malformed
	p.Twice += q.Twice
}

// Counters is the whole account of one shard, or the sum over all.
type Counters struct {
	Packets  Packets
	Sessions Flow // client connections
	Bytes    Flow // bytes that clients sent

	Connections uint64 // client connections that a copy was begun of
	Copies      uint64 // copies that the targets accepted; one that begins again counts once
	// NoHandshake counts client connections whose handshake did not complete. They are in no other
	// count.
	NoHandshake uint64
	Adopted     uint64 // copies begun within a connection: found under way, or after a loss
	Live        uint64 // sessions in the table now
	Open        uint64 // client connections that are open now, as far as was captured
	Turns       uint64 // turns released to the target
	GateForced  uint64 // turns released at the limit, after their answer had begun
	AnswerBytes uint64 // bytes that the target answered

	// Turns that waited for an answer, by what released them: the protocol's reader found its end,
	// the predicted number of bytes came, the target fell silent, the target closed.
	GateKnown, GatePredicted, GateQuiet, GateClosed uint64

	// Behind holds the delays between the capture of turns and their release to the target.
	Behind Delays

	Requests  Requests
	ProtoLost uint64 // copies whose protocol could not be followed to the end

	// The raw way.
	SegmentsOut    uint64 // segments sent to the target
	SegmentsIn     uint64 // segments reported by the intercepts
	Retransmits    uint64 // segments sent again
	SendErrors     uint64 // segments that the kernel refused to send
	ForeignAnswers uint64 // segments reported that belong to no connection of this copier
}

// Add adds the counts of d.
func (c *Counters) Add(d *Counters) {
	c.Packets.Add(&d.Packets)
	c.Sessions.Add(&d.Sessions)
	c.Bytes.Add(&d.Bytes)
	c.Connections += d.Connections
	c.Copies += d.Copies
	c.NoHandshake += d.NoHandshake
	c.Adopted += d.Adopted
	c.Live += d.Live
	c.Open += d.Open
	c.Turns += d.Turns
	c.GateForced += d.GateForced
	c.AnswerBytes += d.AnswerBytes
	c.GateKnown += d.GateKnown
	c.Behind.Add(&d.Behind)
	c.Requests.Add(&d.Requests)
	c.ProtoLost += d.ProtoLost
	c.GatePredicted += d.GatePredicted
	c.GateQuiet += d.GateQuiet
	c.GateClosed += d.GateClosed
	c.SegmentsOut += d.SegmentsOut
	c.SegmentsIn += d.SegmentsIn
	c.Retransmits += d.Retransmits
	c.SendErrors += d.SendErrors
	c.ForeignAnswers += d.ForeignAnswers
}

// Check returns an error if sessions or bytes do not balance.
func (c *Counters) Check() error {
	if err := c.Sessions.Check(); err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	if err := c.Bytes.Check(); err != nil {
		return fmt.Errorf("bytes: %w", err)
	}
	return nil
}
