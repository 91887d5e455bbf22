package proto

import (
	"errors"
	"fmt"

	"tcpcopy/internal/core/ledger"
)

// Kind names a protocol, on the wire between copier and intercept too: values do not change.
type Kind uint8

// The protocols.
const (
	None  Kind = 0
	HTTP1 Kind = 1
	Redis Kind = 2
	MySQL Kind = 3
)

var kindNames = [...]string{None: "none", HTTP1: "http1", Redis: "redis", MySQL: "mysql"}

// String is the protocol's name, as --proto has it.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// ErrLost is what the errors of readers wrap: the bytes are not, or no longer, of the protocol.
var ErrLost = errors.New("cannot follow the protocol")

// Refusal is an error of a Client's that ends the copy for a reason of its own.
type Refusal struct {
	Reason ledger.Reason
	Code   uint16 // the target's, of an answer that was an error
	Final  bool   // another copy of the same connection would fare no better
}

// Error says the reason.
func (r *Refusal) Error() string {
	if r.Code != 0 {
		return fmt.Sprintf("%s: error %d of the target", r.Reason, r.Code)
	}
	return r.Reason.String()
}

// Unwrap is ErrLost.
func (r *Refusal) Unwrap() error { return ErrLost }

// Hint tells a reader of answers what kind of request an answer belongs to. The meaning is the
// protocol's; 0 is an ordinary one, and is never sent.
type Hint uint8

// Keep is the bit of a Hint that has an answer's bytes handed back to the copier, and not only its end.
const Keep Hint = 0x80

// Reply says what follows a request.
type Reply uint8

// The replies.
const (
	One     Reply = iota // one final answer, perhaps after interim ones
	Nothing              // none: what comes next need not wait for any
	Push                 // from here on the server speaks unasked: nothing on this connection waits for it
	Switch               // from here on it is another protocol: the session goes on by guessing
)

// Request is a request that a Client has found whole.
type Request struct {
	Hint  Hint
	Reply Reply
	// Class is the protocol's own number for the kind of request (an HTTP method, a MySQL command), for the
	// account.
	Class uint8
}

// Answer is an answer, or a part of one, that an Answers has found.
type Answer struct {
	// End is the offset behind its last byte, in the target's direction since the reader began.
	End uint64
	// Size is its length in bytes, interim answers included.
	Size uint64
	// Status is the protocol's: an HTTP status code, or 0 for success and a code of the server's for an error.
	Status uint16
	// Interim says that the final answer to the same request is still to come (HTTP's 1xx).
	Interim bool
	// Last says that the reader does not follow what comes after it: a connection that was upgraded.
	Last bool
	// Failed says that the server answered with an error of any kind.
	Failed bool
	// Kept says that its bytes are wanted: its Hint had Keep.
	Kept bool
}

// Answers reads what the target answers on one connection. It allocates nothing once it was made.
type Answers interface {
	// Expect hands over the Hint of a request, by its number among all those whose Reply is One, from 0.
	// Numbers rise, and requests with the Hint 0 are left out. It comes before the request's last byte goes
	// to the target.
	Expect(request uint64, h Hint)
	// Feed takes the next bytes, which it does not keep, and appends the answers that end within them. An
	// error wraps ErrLost; answers found before it count.
	Feed(p []byte, out []Answer) ([]Answer, error)
	// Blind is how many of the next bytes tell nothing, such as the rest of a body whose length is known, so
	// that the caller need not have them: it may call Skip for as many as that instead of Feed, or fewer.
	Blind() uint64
	// Skip is Feed for n bytes without having them, n being at most Blind.
	Skip(n uint64, out []Answer) []Answer
	// Kept says that the next byte, if one comes, belongs to an answer whose Hint has Keep, or to what the
	// server says before all answers and the Client must know. The caller hands such bytes back as they
	// come, and may hand back what follows them in the same answer.
	Kept() bool
	// Close says that the target has ended its direction: an answer that lasts as long as the connection is
	// complete.
	Close(out []Answer) []Answer
}

// Client reads what one client sends, and decides what the copy sends.
type Client interface {
	// Edits says whether the copy's bytes differ from the client's, or may: then all that the target gets
	// is what the Client puts into Out. Else Out gets Pass and Request alone, and they only tell where
	// requests end. It does not change.
	Edits() bool
	// Begin says that a copy begins, at the first byte of the connection or, adopted, where a request begins
	// in a connection found under way. A session may begin again.
	Begin(adopted bool, out *Out) error
	// Feed takes the client's next bytes, which it does not keep (it may copy a bounded number of them). seen
	// is how many of production's server's bytes the client had seen when it began the turn that they belong to.
	Feed(p []byte, seen uint64, out *Out) error
	// Kept hands over bytes of the target's that a Hint asked for, in order, as they come; of a protocol
	// in which the server speaks first, from its first byte on.
	Kept(p []byte, out *Out) error
	// Holds says that the copy is busy on its own account (a login): the client's bytes wait, Feed is not
	// called, and the gate has nothing to say, until a call of Kept has changed that. Then those bytes come
	// again that no step had taken when a call of Feed began to hold.
	Holds() bool
	// Expects says that the rest of the request which is coming in may be the client's answer to an interim one
	// (RFC 9110 §10.1.1): what the server has said since the request began is not for other requests alone.
	Expects() bool
	// Server takes bytes that production's own server sent, as far as they were captured: on the production
	// host the first 48 or more of each packet, elsewhere all or none. off is their offset in the server's
	// direction, as seen counts. Only a Client that Edits is told.
	Server(off uint64, p []byte)
}

// Out collects what a Client wants done with the bytes that it was given, in order. The client's bytes
// are known by number: those of Feed count from where the last Pass, Replace or Drop ended.
type Out struct {
	Steps []Step
	// Text is what the Steps' Text point into.
	Text []byte
}

// StepKind says what a Step does.
type StepKind uint8

// The steps.
const (
	PassOn    StepKind = iota + 1 // N bytes of the client go to the target as they are
	Say                           // Text goes to the target, in the place of N bytes of the client (0: added)
	LeaveOut                      // N bytes of the client go nowhere, for Reason
	Requested                     // a request is whole with all that came before: Request
	Refused                       // a request was left out or answered for: it is counted for Reason, and has no answer
)

// Step is one thing to do.
type Step struct {
	Kind    StepKind
	Reason  ledger.Reason
	Request Request
	N       int
	From    int // Say: Out.Text[From:To]
	To      int
}

// Reset empties o, and keeps its room.
func (o *Out) Reset() { o.Steps, o.Text = o.Steps[:0], o.Text[:0] }

// Pass sends the client's next n bytes as they are.
func (o *Out) Pass(n int) {
	if last := len(o.Steps) - 1; last >= 0 && o.Steps[last].Kind == PassOn {
		o.Steps[last].N += n
	} else if n > 0 {
		o.Steps = append(o.Steps, Step{Kind: PassOn, N: n})
	}
}

// Replace sends text in the place of the client's next n bytes; text is copied. n may be 0: text is added.
func (o *Out) Replace(n int, text []byte) {
	from := len(o.Text)
	o.Text = append(o.Text, text...)
	o.ReplaceFrom(n, from)
}

// ReplaceFrom is Replace with a text that was appended to o.Text, from the offset from on.
func (o *Out) ReplaceFrom(n, from int) {
	o.Steps = append(o.Steps, Step{Kind: Say, N: n, From: from, To: len(o.Text)})
}

// Drop sends the client's next n bytes nowhere.
func (o *Out) Drop(n int, why ledger.Reason) {
	if n > 0 {
		o.Steps = append(o.Steps, Step{Kind: LeaveOut, N: n, Reason: why})
	}
}

// Request says that a request is whole with the bytes passed, replaced or added so far: it ends there.
func (o *Out) Request(r Request) {
	o.Steps = append(o.Steps, Step{Kind: Requested, Request: r})
}

// Refuse counts a request that does not go to the target; its bytes were dropped or replaced.
func (o *Out) Refuse(why ledger.Reason) {
	o.Steps = append(o.Steps, Step{Kind: Refused, Reason: why})
}

// Verdict is what a protocol says of a connection's first bytes, for --proto auto. Yes must be certain.
type Verdict uint8

// The verdicts.
const (
	Unsure Verdict = iota // more bytes are needed
	Yes
	No
)
