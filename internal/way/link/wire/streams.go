package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
)

// The tunnel has two messages. Operations, from the copier, open, feed and end connections at the
// target; StreamEvents, from the intercept, say what becomes of them. Each body is a run of
// records up to its end:
//
//	operation: kind 8 · id varint · open: client address, port, target address, port
//	                                data: length varint, bytes
//	                                read: a protocol 8; expect: a request varint, a hint 8
//	                                late: milliseconds varint
//	event:     kind 8 · id varint · taken, received, reset: a count varint
//	                                failed: a count varint, a reason (length 8, text)
//	                                answer: flags 8, end, size, status, age varints, the number
//	                                of a stream varint, digest
//	                                bytes: length varint, bytes
//
// Varints are unsigned LEB128 (encoding/binary). An id is the copier's, and never used twice on a
// connection. Flow control: the copier may have Window bytes of a connection under way that the
// intercept has not reported as taken; to send more is an error of the protocol.

// Window is how many bytes of one connection may be on their way: sent, and not reported as taken
// by the target's host.
const Window = 512 << 10

// MaxData bounds the bytes of one Data record, so that no connection fills a frame alone.
const MaxData = 64 << 10

// MaxKept bounds the bytes of one Bytes record.
const MaxKept = 16 << 10

// MaxEvents bounds the body of StreamEvents in bytes: decoded events take many times as much
// memory.
const MaxEvents = 128 << 10

// OpKind is the kind of an operation.
type OpKind uint8

// The operations.
const (
	OpOpen       OpKind = 1 // connect, from Client to Target
	OpData       OpKind = 2 // the next bytes of the client
	OpCloseWrite OpKind = 3 // FIN after the bytes so far
	OpAbort      OpKind = 4 // RST; the ID is not used again

	// For intercepts that have ReadsAnswers. Package session's AnswerReader explains them.
	OpListen OpKind = 5 // OpOpen, and OpRead follows
	OpRead   OpKind = 6 // read the target's bytes as answers of the protocol Proto
	OpExpect OpKind = 7 // the request numbered Request has Hint

	// For intercepts that have TakesLate. It precedes OpOpen or OpListen: the client sent that with
	// which the copy begins Age ago.
	OpLate OpKind = 8
)

// TakesLate is set by an intercept on the target that takes OpLate.
const TakesLate Capabilities = 1 << 4

// maxAge bounds the age of an OpLate.
const maxAge = time.Hour

// Op is one operation.
type Op struct {
	Kind           OpKind
	ID             uint64
	Client, Target netip.AddrPort // of OpOpen and OpListen
	Data           []byte         // of OpData: in the body
	Proto          proto.Kind     // of OpRead
	Request        uint64         // of OpExpect
	Hint           proto.Hint
	Age            time.Duration // of OpLate, in whole milliseconds, at most an hour
}

// AppendOp appends an operation to a body.
func AppendOp(dst []byte, op *Op) []byte {
	dst = binary.AppendUvarint(append(dst, byte(op.Kind)), op.ID)
	switch op.Kind {
	case OpOpen, OpListen:
		dst = appendAddrPort(appendAddrPort(dst, op.Client), op.Target)
	case OpData:
		dst = append(binary.AppendUvarint(dst, uint64(len(op.Data))), op.Data...)
	case OpRead:
		dst = append(dst, byte(op.Proto))
	case OpExpect:
		dst = append(binary.AppendUvarint(dst, op.Request), byte(op.Hint))
	case OpLate:
		dst = binary.AppendUvarint(dst, uint64(min(max(op.Age, 0), maxAge).Milliseconds()))
	}
	return dst
}

// uvarint reads a varint of at most 64 bits.
func (c *cursor) uvarint() uint64 {
	v, n := binary.Uvarint(c.b)
	switch {
	case n > 0:
		c.b = c.b[n:]
		return v
	case n == 0:
		c.short, c.b = true, nil
	default:
		c.bad, c.b = true, nil
	}
	return 0
}

// NextOp reads the first operation of a body, and returns what follows it.
func NextOp(body []byte, op *Op) (rest []byte, err error) {
	c := cursor{b: body}
	*op = Op{Kind: OpKind(c.u8()), ID: c.uvarint()}
	switch op.Kind {
	case OpOpen, OpListen:
		op.Client, op.Target = c.addrPort(), c.addrPort()
	case OpData:
		n := c.uvarint()
		if n > MaxData {
			return nil, fmt.Errorf("%w in operations: %d bytes of data, want at most %d", ErrValue,
				n, MaxData)
		}
		op.Data = c.bytes(int(n))
	case OpRead:
		op.Proto = proto.Kind(c.u8())
	case OpExpect:
		op.Request, op.Hint = c.uvarint(), proto.Hint(c.u8())
	case OpLate:
		op.Age = time.Duration(min(c.uvarint(), uint64(maxAge.Milliseconds()))) * time.Millisecond
	case OpCloseWrite, OpAbort:
	default:
		if !c.short {
			return nil, fmt.Errorf("%w in operations: operation %d", ErrValue, op.Kind)
		}
	}
	return c.b, c.err(TypeOperations)
}

// StreamEventKind is the kind of an event.
type StreamEventKind uint8

// The events. Package session's EventKind explains them.
const (
	EventOpened   StreamEventKind = 1
	EventTaken    StreamEventKind = 2 // N: bytes that the target's host has taken in total
	EventReceived StreamEventKind = 3 // N: bytes that the target has sent in total
	EventShut     StreamEventKind = 4
	EventFinished StreamEventKind = 5 // the ID is not used again
	EventReset    StreamEventKind = 6 // as EventFinished; N: bytes that the target had acknowledged
	EventFailed   StreamEventKind = 7 // as EventReset; Reason: why
	EventAnswer   StreamEventKind = 8 // an answer has ended: Answer, Age
	EventBytes    StreamEventKind = 9 // bytes of an answer, where the protocol needs them: Data
	EventLost     StreamEventKind = 10
)

// StreamEvent is one event.
type StreamEvent struct {
	Kind   StreamEventKind
	ID     uint64
	N      uint64
	Reason ledger.Reason // of EventFailed
	Answer proto.Answer  // of EventAnswer; its Digest is not packed when it is appended
	// Age, of EventAnswer, is how long its first byte came before its last, in whole microseconds.
	Age  time.Duration
	Data []byte // of EventBytes: at most MaxKept; in the body
}

// Flags of an answer.
const (
	answerInterim = 1 << iota
	answerLast
	answerFailed
	answerKept
	answerDigest // a digest follows
	answerStream // it is a mark, and the number of a stream follows its age
)

func appendAnswer(dst []byte, a *proto.Answer, age time.Duration) []byte {
	var flags byte
	for i, is := range [...]bool{a.Interim, a.Last, a.Failed, a.Kept, a.Digest != nil,
		a.Stream != 0} {
		if is {
			flags |= 1 << i
		}
	}
	dst = binary.AppendUvarint(append(dst, flags), a.End)
	dst = binary.AppendUvarint(dst, a.Size)
	dst = binary.AppendUvarint(dst, uint64(a.Status))
	dst = binary.AppendUvarint(dst, uint64(max(age, 0)/time.Microsecond))
	if a.Stream != 0 {
		dst = binary.AppendUvarint(dst, a.Stream)
	}
	if a.Digest != nil {
		dst = appendDigest(dst, a.Digest)
	}
	return dst
}

// answer reads what appendAnswer has appended.
func (c *cursor) answer(a *proto.Answer) (age time.Duration) {
	flags := c.u8()
	*a = proto.Answer{End: c.uvarint(), Size: c.uvarint(), Interim: flags&answerInterim != 0,
		Last:   flags&answerLast != 0,
		Failed: flags&answerFailed != 0, Kept: flags&answerKept != 0}
	status, us := c.uvarint(), c.uvarint()
	if status > math.MaxUint16 || us > uint64(math.MaxInt64/time.Microsecond) {
		c.bad = true
		return 0
	}
	a.Status = uint16(status)
	if flags&answerStream != 0 {
		a.Stream = c.uvarint()
		a.Mark = a.Stream != 0
	}
	if flags&answerDigest != 0 {
		a.Digest = c.digest(a.Status)
	}
	return time.Duration(us) * time.Microsecond
}

// AppendStreamEvent appends an event to a body.
func AppendStreamEvent(dst []byte, ev *StreamEvent) []byte {
	dst = binary.AppendUvarint(append(dst, byte(ev.Kind)), ev.ID)
	switch ev.Kind {
	case EventTaken, EventReceived, EventReset:
		dst = binary.AppendUvarint(dst, ev.N)
	case EventFailed:
		dst = appendText(binary.AppendUvarint(dst, ev.N), ev.Reason.String())
	case EventAnswer:
		dst = appendAnswer(dst, &ev.Answer, ev.Age)
	case EventBytes:
		dst = append(binary.AppendUvarint(dst, uint64(len(ev.Data))), ev.Data...)
	}
	return dst
}

// NextStreamEvent reads the first event of a body, and returns what follows it. A reason that
// this version does not know becomes ledger.LinkError.
func NextStreamEvent(body []byte, ev *StreamEvent) (rest []byte, err error) {
	c := cursor{b: body}
	*ev = StreamEvent{Kind: StreamEventKind(c.u8()), ID: c.uvarint()}
	switch ev.Kind {
	case EventOpened, EventShut, EventFinished, EventLost:
	case EventTaken, EventReceived, EventReset:
		ev.N = c.uvarint()
	case EventFailed:
		ev.N = c.uvarint()
		name := c.bytes(int(c.u8()))
		var ok bool
		if ev.Reason, ok = ledger.ReasonNamed(string(name)); !ok || ev.Reason == ledger.None {
			ev.Reason = ledger.LinkError
		}
	case EventAnswer:
		ev.Age = c.answer(&ev.Answer)
	case EventBytes:
		n := c.uvarint()
		if n > MaxKept {
			return nil, fmt.Errorf("%w in events: %d bytes of an answer, want at most %d", ErrValue,
				n, MaxKept)
		}
		ev.Data = c.bytes(int(n))
	default:
		if !c.short {
			return nil, fmt.Errorf("%w in events: event %d", ErrValue, ev.Kind)
		}
	}
	return c.b, c.err(TypeStreamEvents)
}

// BeginFrame appends the header of a frame whose body the caller appends. EndFrame fills in its
// length.
func BeginFrame(dst []byte, t Type) []byte { return begin(dst, t, 0) }

// EndFrame ends a frame that BeginFrame began. start is what len(dst) was before BeginFrame.
func EndFrame(dst []byte, start int) []byte { return end(dst, start) }
