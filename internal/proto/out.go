package proto

import "tcpcopy/internal/core/ledger"

// Out collects what a Client wants done with the bytes that it was given, in order. The client's
// bytes are counted, not passed: a step's N counts from where the step before it ended.
type Out struct {
	Steps []Step
	// Text holds what Steps of the kind Say send.
	Text []byte
}

// StepKind tells what a Step does.
type StepKind uint8

// The kinds of steps.
const (
	PassOn StepKind = iota + 1 // N bytes of the client go to the target as they are
	// Text goes to the target in place of N bytes of the client (0: added)
	Say
	LeaveOut  // N bytes of the client do not go to the target, for Reason
	Requested // a request ends here: Request
	Refused   // a request was left out, or replaced: it is counted for Reason; Request.Stream

	// The steps of a Streams. They concern the request with the number Request.Number.
	Begun     // the first bytes of its answer have come
	Answered  // Answer has come
	Abandoned // the client has cancelled it
	Hinted    // its Hint goes to the reader of the target's answers

	// Own sends bytes of the client, added, which other steps take later: To-From of them, from the
	// offset From on, counted from where the copy began.
	Own
)

// Step is one thing to do.
type Step struct {
	Kind    StepKind
	Reason  ledger.Reason
	Request Request
	N       int // bytes of the client that the step takes
	From    int // Say: Out.Text[From:To]; Own: see there
	To      int
	Answer  Answer
}

// Reset empties o, and keeps its memory.
func (o *Out) Reset() { o.Steps, o.Text = o.Steps[:0], o.Text[:0] }

// Pass sends the client's next n bytes as they are.
func (o *Out) Pass(n int) {
	if last := len(o.Steps) - 1; last >= 0 && o.Steps[last].Kind == PassOn {
		o.Steps[last].N += n
	} else if n > 0 {
		o.Steps = append(o.Steps, Step{Kind: PassOn, N: n})
	}
}

// Replace sends a copy of text in place of the client's next n bytes. With n = 0 it adds text.
func (o *Out) Replace(n int, text []byte) {
	from := len(o.Text)
	o.Text = append(o.Text, text...)
	o.ReplaceFrom(n, from)
}

// ReplaceFrom sends what was appended to o.Text, from the offset from on, in place of the client's
// next n bytes.
func (o *Out) ReplaceFrom(n, from int) {
	o.Steps = append(o.Steps, Step{Kind: Say, N: n, From: from, To: len(o.Text)})
}

// Refer sends n bytes of the client's that no step has taken yet, from the offset off on, counted
// from where the copy began. The step that takes them follows later.
func (o *Out) Refer(off uint64, n int) {
	if last := len(o.Steps) - 1; last >= 0 && o.Steps[last].Kind == Own &&
		o.Steps[last].To == int(off) {
		o.Steps[last].To += n
		return
	}
	o.Steps = append(o.Steps, Step{Kind: Own, From: int(off), To: int(off) + n})
}

// Drop keeps the client's next n bytes from the target.
func (o *Out) Drop(n int, why ledger.Reason) {
	if n > 0 {
		o.Steps = append(o.Steps, Step{Kind: LeaveOut, N: n, Reason: why})
	}
}

// Request marks the end of a request, which consists of what was passed, replaced and added since
// the request before.
func (o *Out) Request(r Request) {
	o.Steps = append(o.Steps, Step{Kind: Requested, Request: r})
}

// Refuse counts a request that does not go to the target; its bytes were dropped or replaced.
func (o *Out) Refuse(why ledger.Reason) {
	o.Steps = append(o.Steps, Step{Kind: Refused, Reason: why})
}

// RefuseStream is Refuse for the request on a client's stream.
func (o *Out) RefuseStream(why ledger.Reason, stream uint64) {
	o.Steps = append(o.Steps, Step{Kind: Refused, Reason: why, Request: Request{Stream: stream}})
}

// Answering notes that the first bytes of the answer to a request have come.
func (o *Out) Answering(request uint64) { o.note(Begun, request) }

// Abandon notes that the client has cancelled a request.
func (o *Out) Abandon(request uint64) { o.note(Abandoned, request) }

// Hint hands the reader of the target's answers a hint before what is sent next. The request is
// known by its number on this connection, from 0.
func (o *Out) Hint(request uint64, h Hint) {
	o.Steps = append(o.Steps, Step{Kind: Hinted, Request: Request{Number: request, Hint: h}})
}

func (o *Out) note(k StepKind, request uint64) {
	o.Steps = append(o.Steps, Step{Kind: k, Request: Request{Number: request}})
}

// Answered notes an answer to a request.
func (o *Out) Answered(request uint64, a *Answer) {
	o.Steps = append(o.Steps, Step{Kind: Answered, Request: Request{Number: request}, Answer: *a})
}
