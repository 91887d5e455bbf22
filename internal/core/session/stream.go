// Package session is one client connection and its copy at the target: it puts the client's bytes in
// order, holds each turn until the gate opens, and writes it to a Stream.
//
// It is pure: packets, events and the time are handed in; what it wants is said through the Stream and
// the deadline it returns. One shard owns a session.
package session

import (
	"net/netip"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/proto"
)

// ID names a session within its shard for as long as the process runs; an ID is never used again, so an
// event for a session that has ended finds nobody.
type ID uint64

// Record is the client's bytes in order, offset 0 being the first that the copy sends. A Stream reads
// from it what it was told it may send, as often as it must, until it reports those bytes as taken.
type Record interface {
	// View returns at most max bytes that start at the offset off: a view that holds until the next
	// event reports them taken. It does not cross the border between two packets of the client, so a
	// copy can keep the client's segments. It is empty past the record's end.
	View(off uint64, max int) []byte
}

// OpenSpec is what a Stream needs to know to open.
type OpenSpec struct {
	ID         ID
	Client     netip.AddrPort // the real client
	Production netip.AddrPort // the address that the client connected to
	Target     netip.AddrPort // filled in by the shard, which chooses it
	Index      int            // filled in by the shard: which copy at the target it is, from 0
	SYN        packet.Options // what the client's SYN offered; zero for a connection found under way
	Window     uint16         // of the client's SYN
	Record     Record
	// Further says that it is not the first copy of the connection, whose client and server are counted once.
	Further bool
	// Listen says that ReadAnswers follows: it may have to begin with bytes that come before it.
	Listen bool
}

// Stream carries one copy to the target. There are three kinds (socket, tunnel, raw), and a session
// cannot tell them apart. Calls never block and come from the shard that owns the session; what follows
// is told by events in one of the shard's next Steps. After Failed, Reset, or Abort a stream does nothing
// more and its owner forgets it.
type Stream interface {
	// Release says that the record's bytes below the offset end may be sent; end never falls. Bytes
	// released before the stream has opened are sent when it has.
	Release(now mono.Time, end uint64)
	// CloseWrite ends our direction (FIN) after the bytes released so far. No Release follows.
	CloseWrite(now mono.Time)
	// Abort resets the connection and frees the stream. What was not taken yet is not sent; what was
	// taken is given a moment to arrive first, since a reset throws away what is under way.
	Abort(now mono.Time)
}

// Acknowledger is a Stream whose acknowledgments are the kernel's, which delays them to send them along
// with data. A target with Nagle's algorithm holds the rest of its answer until they come.
type Acknowledger interface {
	// Acknowledge acknowledges what the target has answered so far, at once.
	Acknowledge()
}

// Meter is a Stream that reports bytes as taken before the target has acknowledged them.
type Meter interface {
	// Acked is how many bytes the target has acknowledged since the stream opened.
	Acked() uint64
}

// AnswerReader is a Stream whose target's bytes can be read where they arrive, by the readers of a
// protocol: see package proto. What is found comes as AnswerEnd, AnswerBytes and AnswersLost events, after
// the Received event that counts the same bytes.
type AnswerReader interface {
	// ReadAnswers has all that the target sends, from its first byte on, read as answers of that protocol. It
	// is called once, before the first Release. What comes before it is kept where OpenSpec.Listen says so,
	// as far as there is room; bytes that were discarded by then make AnswersLost the only event. proto.None
	// says that nothing need be kept any more.
	ReadAnswers(kind proto.Kind)
	// Expect hands a request's hint over, before the Release of the request's last byte. Where the reader is
	// elsewhere, the stream sends that byte only once the hint is known there.
	Expect(request uint64, h proto.Hint)
}

// EventKind says what happened to a stream.
type EventKind uint8

// The events of a stream, in the order in which they can come.
const (
	Opened      EventKind = iota + 1 // the target accepted
	Taken                            // N: the stream needs the record's bytes below this offset no more
	Received                         // N: how many bytes the target has answered since opening (a total)
	Shut                             // the target ended its direction (FIN)
	Finished                         // both directions are closed and all bytes acknowledged: the stream is gone
	ResetByPeer                      // the target reset: the stream is gone. N: bytes acknowledged in total
	Failed                           // could not open or go on, for Reason: the stream is gone. N as above
	AnswerEnd                        // Answer: an answer of the target's has ended (AnswerReader)
	AnswerBytes                      // Bytes: of an answer whose hint has proto.Keep
	AnswersLost                      // no more answers are told of: they cannot be followed
)

// Event is what a stream reports to its session.
type Event struct {
	ID     ID
	Kind   EventKind
	Reason ledger.Reason // of Failed
	N      uint64        // see the kinds
	Hole   bool          // of Received: more has arrived, behind a hole
	Answer proto.Answer  // of AnswerEnd
	First  mono.Time     // of AnswerEnd: when the answer's first byte came
	Bytes  []byte        // of AnswerBytes: valid until the Step that it is handed to is over
	At     mono.Time     // when it happened; not later than the Step that it is handed to
}
