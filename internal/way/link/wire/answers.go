package wire

import (
	"encoding/binary"
	"fmt"
	"time"

	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/proto"
)

// The raw way has two messages about answers, for intercepts that have ReadsAnswers. ReadAnswers,
// from the copier, names what to read; each of its records is confirmed. Answers, from the
// intercept, reports what was found. Once an intercept has confirmed a record with a protocol, it
// keeps the first bytes of that target on connections that this copier opens from then on, for
// EarlyFor: a record for one of these may arrive after the target's bytes. A record whose client is
// unspecified, of the protocol AnyProto, does that alone: it is of no connection. Records fill each
// body:
//
//	read:    tuple · serial 32 · protocol 8 · flags 8 (base known, held) · base 32
//	         · request varint · hint 8
//	answers: kind 8 · tuple · confirmed: serial 32 · whole 8
//	                          answer: as in StreamEvents; bytes: length varint, bytes

// EarlyFor is how long after a target's SYN-ACK an intercept keeps the target's bytes on a
// connection that no copier has asked about.
const EarlyFor = 5 * time.Second

// AnyProto is the protocol of a Reading of no connection. No protocol has its number.
const AnyProto proto.Kind = 254

// Reading is a record of ReadAnswers about one connection: read its answers (Proto is set), or what
// to expect of one of its requests (Hint).
type Reading struct {
	Tuple  Tuple
	Serial uint32 // names the record in its confirmation
	Proto  proto.Kind
	// Base is the sequence number of the target's first byte. If it is not known, it follows from
	// the SYN-ACK, which is still to come.
	Base      seqnum.Value
	BaseKnown bool
	Request   uint64
	Hint      proto.Hint
	// Held reports that a request waits for the confirmation. Else the confirmation is sent with
	// the next message.
	Held bool
}

// MaxAnswers bounds the bodies of ReadAnswers and Answers in bytes.
const MaxAnswers = 256 << 10

// OfTarget reports whether the record is of a target, and of no connection.
func (r *Reading) OfTarget() bool { return r.Tuple.Client.Addr().IsUnspecified() }

// AppendReading appends a record to the body of a ReadAnswers.
func AppendReading(dst []byte, r *Reading) []byte {
	dst = binary.BigEndian.AppendUint32(appendTuple(dst, r.Tuple), r.Serial)
	dst = append(dst, byte(r.Proto), bit(r.BaseKnown)|bit(r.Held)<<1)
	dst = binary.BigEndian.AppendUint32(dst, uint32(r.Base))
	return append(binary.AppendUvarint(dst, r.Request), byte(r.Hint))
}

func bit(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// NextReading reads the first record of the body of a ReadAnswers, and returns what follows it.
func NextReading(body []byte, r *Reading) (rest []byte, err error) {
	c := cursor{b: body}
	*r = Reading{Tuple: c.tuple(), Serial: c.u32(), Proto: proto.Kind(c.u8())}
	flags := c.u8()
	r.BaseKnown, r.Held = flags&1 != 0, flags&2 != 0
	r.Base, r.Request, r.Hint = seqnum.Value(c.u32()), c.uvarint(), proto.Hint(c.u8())
	return c.b, c.err(TypeReadAnswers)
}

// FoundKind is the kind of a record of Answers.
type FoundKind uint8

// The kinds.
const (
	FoundConfirmed FoundKind = 1 // the Reading with Serial has arrived
	FoundAnswer    FoundKind = 2 // an answer has ended: Answer, Age
	FoundBytes     FoundKind = 3 // bytes of an answer, where the protocol needs them: Data
	FoundLost      FoundKind = 4 // the answers are not read, or no longer
)

// Found is one record of Answers.
type Found struct {
	Kind   FoundKind
	Tuple  Tuple
	Serial uint32
	// Whole, of FoundConfirmed, reports that this intercept reads the connection from its first
	// byte.
	Whole  bool
	Answer proto.Answer // its Digest is not packed when it is appended
	// Age is how long the answer's first byte came before its last, in whole microseconds.
	Age  time.Duration
	Data []byte // at most MaxKept; in the body
}

// AppendFound appends a record to the body of an Answers.
func AppendFound(dst []byte, f *Found) []byte {
	dst = appendTuple(append(dst, byte(f.Kind)), f.Tuple)
	switch f.Kind {
	case FoundConfirmed:
		dst = append(binary.BigEndian.AppendUint32(dst, f.Serial), bit(f.Whole))
	case FoundAnswer:
		dst = appendAnswer(dst, &f.Answer, f.Age)
	case FoundBytes:
		dst = append(binary.AppendUvarint(dst, uint64(len(f.Data))), f.Data...)
	}
	return dst
}

// NextFound reads the first record of the body of an Answers, and returns what follows it.
func NextFound(body []byte, f *Found) (rest []byte, err error) {
	c := cursor{b: body}
	*f = Found{Kind: FoundKind(c.u8()), Tuple: c.tuple()}
	switch f.Kind {
	case FoundConfirmed:
		f.Serial, f.Whole = c.u32(), c.u8() != 0
	case FoundAnswer:
		f.Age = c.answer(&f.Answer)
	case FoundBytes:
		n := c.uvarint()
		if n > MaxKept {
			return nil, fmt.Errorf("%w in answers: %d bytes of an answer, want at most %d",
				ErrValue, n, MaxKept)
		}
		f.Data = c.bytes(int(n))
	case FoundLost:
	default:
		if !c.short && !c.bad {
			return nil, fmt.Errorf("%w in answers: record %d", ErrValue, f.Kind)
		}
	}
	return c.b, c.err(TypeAnswers)
}
