// Package wire encodes and decodes the messages between copiers, intercepts and agents. It does
// no I/O.
//
// A connection begins, in both directions, with Preface. Frames follow. A frame is a type, flags,
// the length of its body, and the body. Numbers are big-endian. The end that connects sends Hello
// or AgentHello first; the other answers Welcome, AgentWelcome or Refuse. A body may grow at its
// end in later versions: a decoder reads the fields that it knows and ignores what follows,
// except where records fill the body.
//
// Read frame.go first, then hello.go.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Preface opens a connection in each direction. TLS does not begin with its first byte, so one byte
// tells them apart.
const Preface = "tcpcopy\x01"

// Version is the protocol's version. Ends of different versions refuse each other.
const Version = 2

const (
	// FrameHeader is the length of what precedes a body, in bytes.
	FrameHeader = 6
	// MaxBody bounds a frame's body in bytes.
	MaxBody = 1 << 20
	// MaxHelloBody bounds it until the peer has introduced itself.
	MaxHelloBody = 128 << 10
)

// Type is the type of a frame.
type Type uint8

// The messages, with who sends them. 32 to 63 are the tunnel's, 64 to 79 are those between an agent
// and a copier.
const (
	TypeHello        Type = 1  // copier: who I am
	TypeWelcome      Type = 2  // intercept: go on
	TypeRefuse       Type = 3  // intercept: no, because
	TypeHeaders      Type = 4  // intercept: headers of what the target sent
	TypeClaim        Type = 5  // copier: I own these connections
	TypeClaimRefused Type = 6  // intercept: another copier owns these
	TypeRelease      Type = 7  // copier: these have ended
	TypeQuery        Type = 8  // copier: who owns this?
	TypeOwner        Type = 9  // intercept: the answer to Query or Seek
	TypeICMP         Type = 10 // intercept: an ICMP error about a packet of yours
	TypePing         Type = 11 // either
	TypePong         Type = 12 // either
	TypeBye          Type = 13 // either: I close, because
	TypeTargets      Type = 14 // copier: where I send copies from now on
	TypeReadAnswers  Type = 15 // copier: read the target's answers on these
	TypeAnswers      Type = 16 // intercept: what was found of them
	TypeSeek         Type = 17 // copier: may I open this?
	TypeHurry        Type = 18 // copier: turns wait for answers
	TypeLook         Type = 19 // copier, or intercept to witness: look for these probes
	TypeSeen         Type = 20 // intercept, or witness: what was seen of them
	TypeOperations   Type = 32 // copier: open, feed and end these connections
	TypeStreamEvents Type = 33 // intercept: what became of them
	TypeAgentHello   Type = 64 // agent: who I am
	TypeAgentWelcome Type = 65 // copier: go on
	TypePackets      Type = 66 // agent: what I captured
	TypeAgentCounts  Type = 67 // agent: what I did not send, and why
)

var typeNames = [...]string{
	TypeHello: "hello", TypeWelcome: "welcome", TypeRefuse: "refuse", TypeHeaders: "headers",
	TypeClaim: "claim", TypeClaimRefused: "claim-refused", TypeRelease: "release",
	TypeQuery: "query", TypeOwner: "owner",
	TypeICMP: "icmp", TypePing: "ping", TypePong: "pong", TypeBye: "bye", TypeTargets: "targets",
	TypeReadAnswers: "read-answers", TypeAnswers: "answers", TypeSeek: "seek", TypeHurry: "hurry",
	TypeLook: "look", TypeSeen: "seen",
	TypeOperations: "operations", TypeStreamEvents: "stream-events",
	TypeAgentHello: "agent-hello", TypeAgentWelcome: "agent-welcome", TypePackets: "packets",
	TypeAgentCounts: "agent-counts",
}

// String returns the type's name, or its number.
func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Skippable is the flag of a frame that a reader may ignore if it does not know the type.
const Skippable uint8 = 1

// What decoding fails with; errors wrap one of them.
var (
	// ErrPreface reports that the peer does not speak this protocol.
	ErrPreface = errors.New("wire: not tcpcopy's protocol")
	// ErrTooLong reports that a frame's length exceeds the bound.
	ErrTooLong = errors.New("wire: frame too long")
	// ErrShort reports that a body ends before its fields do.
	ErrShort = errors.New("wire: body ends too soon")
	// ErrValue reports that a field has a value that it must not have.
	ErrValue = errors.New("wire: impossible value")
	// ErrUnknown reports a frame whose type is not known and that may not be skipped.
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

// Frame is one message as received.
type Frame struct {
	Type  Type
	Flags uint8
	Body  []byte // in the reader's buffer
}

// Unexpected returns the error of a frame that its reader does not handle: nil if it may be
// skipped.
func (f Frame) Unexpected() error {
	if f.Flags&Skippable != 0 {
		return nil
	}
	return fmt.Errorf("%w: %v of %d bytes (this side speaks version %d)", ErrUnknown, f.Type,
		len(f.Body), Version)
}

// begin appends a frame's header. end fills in its length; start is len(dst) before begin.
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
// reports with Filled how much came, and calls Next until there is no frame left. The zero value is
// ready. Until Introduced is called it accepts frames of MaxHelloBody only. Its buffer grows to the
// largest frame, and some more.
type Reader struct {
	buf        []byte
	r, w       int
	opened     bool
	introduced bool
}

const readRoom = 64 << 10

// Introduced lifts the bound on a frame from MaxHelloBody to MaxBody.
func (r *Reader) Introduced() { r.introduced = true }

// Space returns the buffer to read into, which is not empty. Frames that Next returned before are
// no longer valid.
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
		// Next refuses long frames, which bounds the buffer.
		bigger := make([]byte, max(readRoom, 2*len(r.buf)))
		copy(bigger, r.buf[:r.w])
		r.buf = bigger
	}
	return r.buf[r.w:]
}

// Filled reports that the first n bytes of Space were filled.
func (r *Reader) Filled(n int) { r.w += n }

// Next returns the next whole frame, and whether there is one. The frame's body is valid until
// Space is called. After an error nothing more can be read.
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
