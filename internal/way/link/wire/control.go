package wire

import (
	"encoding/binary"

	"tcpcopy/internal/core/mono"
)

// Ping requests a Pong.
type Ping struct{ ID uint64 }

// Append appends the message as a frame.
func (p *Ping) Append(dst []byte) []byte {
	start := len(dst)
	return end(binary.BigEndian.AppendUint64(begin(dst, TypePing, 0), p.ID), start)
}

// Decode reads the body of a Ping.
func (p *Ping) Decode(body []byte) error {
	c := cursor{b: body}
	*p = Ping{ID: c.u64()}
	return c.err(TypePing)
}

// Pong answers a Ping.
type Pong struct {
	ID uint64    // the Ping's
	At mono.Time // on the sender's clock
}

// Append appends the message as a frame.
func (p *Pong) Append(dst []byte) []byte {
	start := len(dst)
	dst = binary.BigEndian.AppendUint64(begin(dst, TypePong, 0), p.ID)
	return end(binary.BigEndian.AppendUint64(dst, uint64(p.At)), start)
}

// Decode reads the body of a Pong.
func (p *Pong) Decode(body []byte) error {
	c := cursor{b: body}
	*p = Pong{ID: c.u64(), At: mono.Time(c.u64())}
	return c.err(TypePong)
}

// ByeReason is why an end closes the connection.
type ByeReason uint8

// The reasons.
const (
	ByeShutdown ByeReason = 1 // the process ends
	ByeReplaced ByeReason = 2 // a newer connection has taken this one's place
	ByeSlow     ByeReason = 3 // the peer reads too slowly
	ByeProtocol ByeReason = 4 // the peer sent what it must not
)

// String returns the reason in words.
func (r ByeReason) String() string {
	switch r {
	case ByeShutdown:
		return "shutting down"
	case ByeReplaced:
		return "replaced by a newer connection"
	case ByeSlow:
		return "reads too slowly"
	case ByeProtocol:
		return "protocol error"
	}
	return "unknown reason"
}

// Bye is the last frame of an end that closes the connection in order.
type Bye struct {
	Reason ByeReason
	Text   string // for a person
}

// Append appends the message as a frame.
func (b *Bye) Append(dst []byte) []byte {
	start := len(dst)
	return end(appendLongText(append(begin(dst, TypeBye, 0), byte(b.Reason)), b.Text), start)
}

// Decode reads the body of a Bye.
func (b *Bye) Decode(body []byte) error {
	c := cursor{b: body}
	*b = Bye{Reason: ByeReason(c.u8()), Text: c.longText()}
	return c.err(TypeBye)
}
