// Package wire is the codec of what a copier and an intercept say to each other: bytes in, bytes
// out, no sockets. Packages link (the copier's end) and intercept use it.
//
// A connection begins, in both directions, with Preface; frames follow. A frame is a type, flags,
// the length of its body, and the body; numbers are big-endian. The copier speaks first, Hello;
// the intercept answers Welcome or Refuse. A body may grow at its end in later versions: a
// decoder reads the fields it knows and ignores what follows them, except in Headers, whose
// records fill it.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Preface opens a connection in each direction. Its first byte is none that TLS begins with, so
// that either mistake (TLS spoken to a plain port, or the other way round) is known by one byte.
const Preface = "tcpcopy\x01"

// Version is the protocol's version. Ends of different versions do not talk.
const Version = 2

const (
	// FrameHeader is how many bytes precede a body.
	FrameHeader = 6
	// MaxBody bounds a frame's body in bytes.
	MaxBody = 1 << 20
	// MaxHelloBody bounds it as long as the peer has not introduced itself.
	MaxHelloBody = 128 << 10
)

// Type says what a frame is.
type Type uint8

// The messages. 32 to 63 are the tunnel's, 64 to 79 those between an agent and a copier.
const (
	TypeHello        Type = 1  // copier: who I am
	TypeWelcome      Type = 2  // intercept: go on
	TypeRefuse       Type = 3  // intercept: no, because
	TypeHeaders      Type = 4  // intercept: what the target sent
	TypeClaim        Type = 5  // copier: these connections are mine
	TypeClaimRefused Type = 6  // intercept: these are another's
	TypeRelease      Type = 7  // copier: these are over
	TypeQuery        Type = 8  // copier: does anybody own this?
	TypeOwner        Type = 9  // intercept: the answer
	TypeICMP         Type = 10 // intercept: an ICMP error about a packet of yours
	TypePing         Type = 11 // either
	TypePong         Type = 12 // either
	TypeBye          Type = 13 // either: I close, because
	TypeTargets      Type = 14 // copier: where I send from now on
	TypeReadAnswers  Type = 15 // copier: read what the target answers on these
	TypeAnswers      Type = 16 // intercept: what was found
	TypeSeek         Type = 17 // copier: may I open this?
	TypeHurry        Type = 18 // copier: turns wait for answers
	TypeOperations   Type = 32 // copier: open, feed and end these connections
	TypeStreamEvents Type = 33 // intercept: what became of them
	TypeAgentHello   Type = 64 // agent: who I am
	TypeAgentWelcome Type = 65 // copier: go on
	TypePackets      Type = 66 // agent: what I captured
	TypeAgentCounts  Type = 67 // agent: what I did not send, and why
)

var typeNames = [...]string{
	TypeHello: "hello", TypeWelcome: "welcome", TypeRefuse: "refuse", TypeHeaders: "headers", TypeClaim: "claim",
	TypeClaimRefused: "claim-refused", TypeRelease: "release", TypeQuery: "query", TypeOwner: "owner",
	TypeICMP: "icmp", TypePing: "ping", TypePong: "pong", TypeBye: "bye", TypeTargets: "targets",
	TypeReadAnswers: "read-answers", TypeAnswers: "answers", TypeSeek: "seek", TypeHurry: "hurry",
	TypeOperations: "operations", TypeStreamEvents: "stream-events",
	TypeAgentHello: "agent-hello", TypeAgentWelcome: "agent-welcome", TypePackets: "packets", TypeAgentCounts: "agent-counts",
}

// String is the type's name, or its number.
func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Skippable is the flag of a frame that a reader which does not know its type may leave out.
const Skippable uint8 = 1

// What decoding fails with; errors wrap one of them.
var (
	// ErrPreface: the peer does not speak this protocol.
	ErrPreface = errors.New("wire: not tcpcopy's protocol")
	// ErrTooLong: a frame's length is over the bound.
	ErrTooLong = errors.New("wire: frame too long")
	// ErrShort: a body ends before its fields do.
	ErrShort = errors.New("wire: body ends too soon")
	// ErrValue: a field holds what it must not.
	ErrValue = errors.New("wire: impossible value")
	// ErrUnknown: a frame of a type that is not known and may not be skipped.
	ErrUnknown = errors.New("wire: unknown message")
)

// Malformed reports whether an error is one of this package's: the peer sent what cannot be read.
func Malformed(err error) bool {
	for _, e := range []error{ErrPreface, ErrTooLong, ErrShort, ErrValue, ErrUnknown} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Frame is one message as received; Body is a view of the reader's buffer.
type Frame struct {
	Type  Type
	Flags uint8
	Body  []byte
}

// Unexpected is what a reader returns for a frame that it has no use for: nil where the frame may
// be skipped, an error that names it where not.
func (f Frame) Unexpected() error {
	if f.Flags&Skippable != 0 {
		return nil
	}
	return fmt.Errorf("%w: %v of %d bytes (this side speaks version %d)", ErrUnknown, f.Type,
		len(f.Body), Version)
}

// begin appends a frame's header; end fills in its length. start is len(dst) before begin.
func begin(dst []byte, t Type, flags uint8) []byte {
	return append(dst, byte(t), flags, 0, 0, 0, 0)
}

func end(dst []byte, start int) []byte {
	binary.BigEndian.PutUint32(dst[start+2:], uint32(len(dst)-start-FrameHeader))
	return dst
}

// AppendRaw appends a frame of any type with the given body, which must not exceed MaxBody.
func AppendRaw(dst []byte, t Type, flags uint8, body []byte) []byte {
	start := len(dst)
	return end(append(begin(dst, t, flags), body...), start)
}

// Reader cuts a connection's bytes into frames. Its owner reads from the connection into Space,
// says with Filled how much came, and calls Next until there is no frame left. The zero value is
// ready; it accepts Hello-sized frames until Introduced is called. Its buffer grows as frames
// demand, within the bound, and is never larger than the largest frame and some.
type Reader struct {
	buf        []byte
	r, w       int
	opened     bool
	introduced bool
}

const readRoom = 64 << 10

// Introduced lifts the bound on a frame from MaxHelloBody to MaxBody.
func (r *Reader) Introduced() { r.introduced = true }

// Space returns room to read into: never empty. Frames that Next returned before are no longer
// valid.
func (r *Reader) Space() []byte {
	if r.r == r.w {
		r.r, r.w = 0, 0
	}
	if r.w == len(r.buf) || r.r > 0 && len(r.buf)-r.w < readRoom/2 {
		copy(r.buf, r.buf[r.r:r.w])
		r.w -= r.r
		r.r = 0
	}
	if r.w == len(r.buf) {
		// Doubling keeps the copies few; what is asked for is bounded by Next, which refuses long
		// frames.
		bigger := make([]byte, max(readRoom, 2*len(r.buf)))
		copy(bigger, r.buf[:r.w])
		r.buf = bigger
	}
	return r.buf[r.w:]
}

// Filled says that the first n bytes of Space were filled.
func (r *Reader) Filled(n int) { r.w += n }

// Next returns the next whole frame, and whether there is one. The frame's body holds until Space
// is called. After an error the connection is of no further use.
func (r *Reader) Next() (Frame, bool, error) {
	if !r.opened {
		got := r.buf[r.r:min(r.w, r.r+len(Preface))]
		if string(got) != Preface[:len(got)] {
			return Frame{}, false, fmt.Errorf("%w: begins with %q, want %q", ErrPreface, got,
				Preface)
		}
		if len(got) < len(Preface) {
			return Frame{}, false, nil
		}
		r.opened = true
		r.r += len(Preface)
	}
	b := r.buf[r.r:r.w]
	if len(b) < FrameHeader {
		return Frame{}, false, nil
	}
	n, limit := binary.BigEndian.Uint32(b[2:]), uint32(MaxHelloBody)
	if r.introduced {
		limit = MaxBody
	}
	if n > limit {
		return Frame{}, false, fmt.Errorf("%w: %v of %d bytes, want at most %d", ErrTooLong,
			Type(b[0]), n, limit)
	}
	if len(b)-FrameHeader < int(n) {
		return Frame{}, false, nil
	}
	r.r += FrameHeader + int(n)
	return Frame{Type: Type(b[0]), Flags: b[1],
		Body: b[FrameHeader : FrameHeader+int(n)]}, true, nil
}
