package proto

import (
	"errors"
	"fmt"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
)

// ErrLost is wrapped by the errors of readers: the bytes are not, or no longer, of the protocol.
var ErrLost = errors.New("cannot follow the protocol")

// Refusal is an error of a Client that ends the copy for a reason other than ProtoLost.
type Refusal struct {
	Reason ledger.Reason
	Class  ledger.Class // if not 0, the copy's login was refused: it is counted by this class
	Code   uint16       // of the target's error; 0: none
	Final  bool         // another copy of the same connection would end in the same way
}

// Error returns the reason, with the target's error code.
func (r *Refusal) Error() string {
	if r.Code != 0 {
		return fmt.Sprintf("%s: the target answered with error %d", r.Reason, r.Code)
	}
	return r.Reason.String()
}

// Unwrap returns ErrLost.
func (r *Refusal) Unwrap() error { return ErrLost }

// Hint tells a reader of answers what kind of request an answer belongs to. Its meaning is the
// protocol's; 0 is an ordinary request, and is never sent.
type Hint uint8

// Keep is the bit of a Hint that has an answer's bytes handed back to the copier, not only its
// end.
const Keep Hint = 0x80

// Reply tells what follows a request.
type Reply uint8

// The replies.
const (
	One     Reply = iota // one final answer, perhaps after interim ones
	Nothing              // no answer: the next request need not wait for one
	Push                 // from here on the server sends without being asked: nothing waits for it
	Switch               // from here on another protocol is spoken: the session guesses
)

// Request is a request that a Client has found whole.
type Request struct {
	Hint  Hint
	Reply Reply
	// Class is the protocol's own number for the kind of request: an HTTP method, a MySQL command.
	Class uint8
	// Number is the request's among all of the session, if the Client is a Streams.
	Number uint64
	// Stream is the number of the client's stream, if the connection carries streams, as both a
	// Streams and the reader that Protocol.Watch makes know it. Numbers rise.
	Stream uint64
	// Whole reports that it goes as the client has sent it, if the Client is a Streams.
	Whole bool
}

// Answer is an answer, or an interim one, that an Answers has found.
type Answer struct {
	// End is the offset behind its last byte, in the target's direction since the reader began.
	End uint64
	// Size is its length in bytes, interim answers included.
	Size uint64
	// Status is the protocol's: an HTTP status code, or a server's error code with 0 for success.
	Status uint16
	// Hint is the request's, as far as the reader keeps it for a Digester.
	Hint Hint
	// Interim reports that the final answer to the same request is still to come (HTTP's 1xx).
	Interim bool
	// Last reports that the reader does not follow what comes after it: the connection was
	// upgraded.
	Last bool
	// Failed reports that the server answered with an error of any kind.
	Failed bool
	// Kept reports that its bytes are handed back: its Hint had Keep.
	Kept bool
	// Mark reports that it is no answer: bytes that are handed back, if Kept, or others end there.
	Mark bool
	// Stream is the number of its stream, if the connection carries streams. With Mark, the answer
	// on that stream has begun or, if Digest is not nil, that of the answer is told before its end.
	Stream uint64
	// Digest is what a comparison knows of it; nil if answers are not compared, or it is interim.
	Digest *Digest
	// Text is what the server says of an error, without what may be of one request alone.
	Text string
}

// Answers reads what the target answers on one connection. Its methods allocate nothing.
type Answers interface {
	// Expect passes the Hint of a request, by its number among all requests whose Reply is One, or
	// among all on the connection if the Client is a Streams, from 0. Numbers rise; requests with
	// the Hint 0 are left out. It is called before the request's last byte goes to the target.
	Expect(request uint64, h Hint)
	// Feed reads the next bytes, which it does not keep, and appends the answers that end within
	// them. An error wraps ErrLost; the answers found before it count.
	Feed(p []byte, out []Answer) ([]Answer, error)
	// Blind returns how many of the next bytes the reader need not see, such as the rest of a body
	// whose length is known. The caller may call Skip for that many or fewer, instead of Feed.
	Blind() uint64
	// Skip is Feed for n bytes that the caller does not have; n is at most Blind.
	Skip(n uint64, out []Answer) []Answer
	// Kept reports whether the next byte, if one comes, belongs to an answer whose Hint has Keep,
	// or to what the server sends before all answers and the Client must see. The caller hands
	// such bytes back as they come, and may hand back what follows them in the same answer.
	Kept() bool
	// Close reports the end of the target's direction: an answer that lasts as long as the
	// connection is complete, and appended.
	Close(out []Answer) []Answer
}

// Client reads what one client sends, and decides what the copy sends.
type Client interface {
	// Edits reports whether the copy's bytes may differ from the client's: then the target gets
	// only what the Client puts into Out. Otherwise Out gets Pass and Request alone, and they only
	// mark where requests end. The result does not change.
	Edits() bool
	// Begin starts a copy: at the first byte of the connection or, if adopted, where a request
	// begins in a connection found under way. A session may begin several copies.
	Begin(adopted bool, out *Out) error
	// Feed reads the client's next bytes, which it does not keep (it may copy a bounded number of
	// them). seen is how many bytes of production's server the client had seen when it began the
	// turn that these bytes belong to.
	Feed(p []byte, seen uint64, out *Out) error
	// Kept reads bytes of the target that a Hint with Keep asked for, in order, as they come. If
	// the server speaks first in this protocol, its bytes from the first on are among them.
	Kept(p []byte, out *Out) error
	// Holds reports whether the copy is busy with an exchange of its own (a login): the client's
	// bytes wait, Feed is not called, and the gate does not decide, until a call of Kept changes
	// that. Then the bytes that no step had taken when Feed began to hold are fed again.
	Holds() bool
	// Expects reports whether the rest of the request that is coming in may be the client's
	// reaction to an interim answer (RFC 9110 §10.1.1): then what the server has sent since the
	// request began may belong to this request.
	Expects() bool
	// Server passes bytes that production's own server sent, as far as they were captured: on the
	// production host at least the first 48 of each packet, elsewhere all or none. off is their
	// offset in the server's direction, as seen counts. It is called only if the Client Edits.
	Server(off uint64, p []byte)
}

// Sizer is a Client that holds more memory the more it was fed.
type Sizer interface {
	// Size returns how many bytes it holds at present beyond a few hundred, about. It is called
	// often.
	Size() int
}

// Streams is a Client that Edits, and whose connection carries streams of requests that do not wait
// for each other. It is fed what the client has sent at once, and holds back by itself what has to
// wait for the target. It reads all answers by Kept, and reports them by Out.Answered.
type Streams interface {
	Client
	// Awaits reports whether bytes of production's server below seen were not captured yet. It does
	// not if none of them are captured, or if some were given up.
	Awaits(seen uint64) bool
	// Waits reports whether something is held back.
	Waits() bool
	// Force sends what waits for answers only. It returns false if there is nothing of the kind.
	Force(out *Out) bool
	// Settled reports whether nothing is held back, and the target has answered whatever a client
	// may have seen answered that has seen so many bytes of production's server. seen never falls.
	Settled(seen uint64) bool
	// Idle reports whether nothing is held back, and the target has answered everything.
	Idle() bool
	// Heard returns how many bytes of the target it has read.
	Heard() uint64
	// Shut notes that the target has ended its direction. What waits may go on a new connection.
	Shut(out *Out)
	// Renews reports whether a copy that has asked nothing, and has missed the target's first
	// bytes, may go on over another connection. If so, Shut is called next.
	Renews() bool
	// Reopens reports whether what is held back needs another connection to the target, since this
	// one takes no more of it. Begin is then called next, and the bytes that no step has taken are
	// not fed again.
	Reopens() bool
}

// Digested is a Streams whose answers are compared.
type Digested interface {
	Streams
	// Digest passes the digest of the answer on a stream of the connection to the target, before
	// the answer's last bytes. It comes back with Out.Answered.
	Digest(stream uint64, d *Digest)
}

// Paced is a Streams that goes by time as well. What may have to wait for some time goes when Go is
// called.
type Paced interface {
	Streams
	// Turn tells when the turn was sent that Feed is given next.
	Turn(at mono.Time)
	// Go sends what may go at now, and returns when it must be called again if nothing else happens
	// before. It is called after one or more calls of the other methods.
	Go(now mono.Time, out *Out) mono.Time
}
