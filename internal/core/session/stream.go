// Package session is one client connection and its copy at the target. A Session orders the
// client's bytes, holds each turn until the gate opens, and writes it to a Stream.
//
// The package is pure: packets, events and the time are handed in, and its output is calls of the
// Stream and the deadline that Advance returns. One shard owns a session.
package session

import (
	"net/netip"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/proto"
)

// ID names a session within its shard. No ID is used twice while the process runs, so an event for
// a session that has ended finds none.
type ID uint64

// Record is the bytes that the copy sends, in order. Offset 0 is the first. A Stream reads the
// bytes that were released to it, as often as it must, until it reports them as taken.
type Record interface {
	// View returns at most max bytes from the offset off on, or none beyond the end of the record.
	// They end where one of the client's packets ends, so that a copy can keep the client's
	// segments. The view is the session's, and valid until the stream has reported its bytes as
	// taken.
	View(off uint64, max int) []byte
}

// OpenSpec is what a Stream must know to open.
type OpenSpec struct {
	ID         ID
	Client     netip.AddrPort // the client's address
	Production netip.AddrPort // the address that the client connected to
	Target     netip.AddrPort // filled in by the shard, which chooses it
	Index      int            // filled in by the shard: which copy at the target it is, from 0
	SYN        packet.Options // the options of the client's SYN; zero if it was not captured
	Window     uint16         // the window of the client's SYN
	Since      mono.Time      // when the client sent that with which the copy begins
	Record     Record
	// Further reports that it is not the first copy of the connection, whose client and server are
	// counted once.
	Further bool
	// BaselineOf is the session of the copy whose answers are compared, if this one goes to the old
	// version; it was made before this one. Else it is nil.
	BaselineOf *Session
	// Listen reports that ReadAnswers follows. Bytes of the target that precede it must be kept.
	Listen bool
}

// Stream carries one copy to the target. A session does not know which kind of stream it has. Calls
// do not block, and come from the shard that owns the session; their results are events in one of
// the shard's later Steps. After Failed, ResetByPeer, Finished or Abort a stream does nothing more,
// and its owner forgets it.
type Stream interface {
	// Release permits the record's bytes below the offset end to be sent. end never falls. Bytes
	// that are released before the stream is open are sent when it is.
	Release(now mono.Time, end uint64)
	// CloseWrite ends our direction (FIN) after the released bytes. No Release follows.
	CloseWrite(now mono.Time)
	// Abort resets the connection and frees the stream. Bytes that were not taken are not sent.
	// Bytes that were taken are given a moment to arrive first, since a reset discards what is
	// under way.
	Abort(now mono.Time)
}

// Acknowledger is a Stream whose kernel delays acknowledgments to send them along with data. A
// target with Nagle's algorithm holds the rest of its answer back until they come.
type Acknowledger interface {
	// Acknowledge has what the target has answered so far acknowledged at once.
	Acknowledge()
}

// Meter is a Stream that reports bytes as taken before the target has acknowledged them.
type Meter interface {
	// Acked returns how many bytes the target has acknowledged since the stream opened.
	Acked() uint64
}

// AnswerReader is a Stream whose target's bytes are read where they arrive, by the readers of a
// protocol (see package proto). What these find is reported by AnswerEnd, AnswerBytes and
// AnswersLost events, after the Received event that counts the same bytes.
type AnswerReader interface {
	// ReadAnswers has the target's bytes, from the first on, read as answers in the protocol. It is
	// called once, before the first Release. Bytes that come earlier are kept if OpenSpec.Listen is
	// set and there is room; if some were discarded, AnswersLost is the only event. proto.None
	// means that no bytes need be kept any more.
	ReadAnswers(kind proto.Kind)
	// Expect hands over a request's hint, before the Release of the request's last byte. If the
	// reader is on another host, the stream sends that byte only after the hint has arrived there.
	Expect(request uint64, h proto.Hint)
}

// EventKind is the kind of an Event.
type EventKind uint8

// The events of a stream, in the order in which they can come.
const (
	Opened      EventKind = iota + 1 // the target has accepted the connection
	Taken                            // the stream needs the bytes below the offset N no more
	Received                         // the target has answered N bytes in total
	Shut                             // the target has ended its direction (FIN)
	Finished                         // both sides have ended; the stream is gone
	ResetByPeer                      // the target has reset after acknowledging N bytes; it is gone
	Failed                           // it failed for Reason after N acknowledged bytes; it is gone
	AnswerEnd                        // an answer of the target has ended (AnswerReader)
	AnswerBytes                      // bytes of an answer whose hint has proto.Keep have come
	AnswersLost                      // answers cannot be followed any more
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
	Bytes  []byte        // of AnswerBytes: valid until the end of the Step that it is handed to
	At     mono.Time     // when it happened; not later than the Step that it is handed to
}
