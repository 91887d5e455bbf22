package wire

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"tcpcopy/internal/ledger"
)

// The tunnel's two messages. Operations, from the copier, open, feed and end connections at the target;
// StreamEvents, from the intercept, say what becomes of them. Each body is a run of records up to its end:
//
//	operation: kind 8 · id varint · open: client address, port, target address, port
//	                                data: length varint, bytes
//	event:     kind 8 · id varint · taken, received, reset: a count varint
//	                                failed: a count varint, a reason (length 8, text)
//
// Varints are unsigned LEB128 (encoding/binary). An id is the copier's, and never used twice on a
// connection. Flow control: the copier may have Window bytes of a connection under way that the intercept
// has not reported as taken; to send more is an error of the protocol.

// Window is how many bytes of one connection may be sent before the intercept has taken them.
const Window = 512 << 10

// MaxData bounds the bytes of one Data record, so that no connection fills a frame alone.
const MaxData = 64 << 10

// MaxEvents bounds the body of StreamEvents in bytes: events take many times the room once they are read.
const MaxEvents = 128 << 10

// OpKind says what an operation does.
type OpKind uint8

// The operations.
const (
	OpOpen       OpKind = 1 // connect, from Client to Target
	OpData       OpKind = 2 // the next bytes of the client
	OpCloseWrite OpKind = 3 // FIN after the bytes so far
	OpAbort      OpKind = 4 // RST; the id is gone, and no event of it is of use
)

// Op is one operation.
type Op struct {
	Kind           OpKind
	ID             uint64
	Client, Target netip.AddrPort // of OpOpen
	Data           []byte         // of OpData: a view of the body
}

// AppendOp appends an operation to a body.
func AppendOp(dst []byte, op *Op) []byte {
	dst = binary.AppendUvarint(append(dst, byte(op.Kind)), op.ID)
	switch op.Kind {
	case OpOpen:
		dst = appendAddrPort(appendAddrPort(dst, op.Client), op.Target)
	case OpData:
		dst = append(binary.AppendUvarint(dst, uint64(len(op.Data))), op.Data...)
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
	case OpOpen:
		op.Client, op.Target = c.addrPort(), c.addrPort()
	case OpData:
		n := c.uvarint()
		if n > MaxData {
			return nil, fmt.Errorf("%w in operations: %d bytes of data, want at most %d", ErrValue, n, MaxData)
		}
		op.Data = c.take(int(n))
	case OpCloseWrite, OpAbort:
	default:
		if !c.short {
			return nil, fmt.Errorf("%w in operations: operation %d", ErrValue, op.Kind)
		}
	}
	return c.b, c.err(TypeOperations)
}

// StreamEventKind says what happened to a connection.
type StreamEventKind uint8

// The events; session.EventKind says what they mean.
const (
	EventOpened   StreamEventKind = 1
	EventTaken    StreamEventKind = 2 // N: bytes that the target's host has taken, in all
	EventReceived StreamEventKind = 3 // N: bytes that the target has answered, in all
	EventShut     StreamEventKind = 4
	EventFinished StreamEventKind = 5 // the id is gone
	EventReset    StreamEventKind = 6 // N: bytes that the target had acknowledged. The id is gone
	EventFailed   StreamEventKind = 7 // N: the same. For Reason. The id is gone
)

// StreamEvent is one event.
type StreamEvent struct {
	Kind   StreamEventKind
	ID     uint64
	N      uint64
	Reason ledger.Reason // of EventFailed
}

// AppendStreamEvent appends an event to a body.
func AppendStreamEvent(dst []byte, ev *StreamEvent) []byte {
	dst = binary.AppendUvarint(append(dst, byte(ev.Kind)), ev.ID)
	switch ev.Kind {
	case EventTaken, EventReceived, EventReset:
		dst = binary.AppendUvarint(dst, ev.N)
	case EventFailed:
		dst = appendText(binary.AppendUvarint(dst, ev.N), ev.Reason.String())
	}
	return dst
}

// NextStreamEvent reads the first event of a body, and returns what follows it. A reason that this version
// does not know becomes ledger.LinkError.
func NextStreamEvent(body []byte, ev *StreamEvent) (rest []byte, err error) {
	c := cursor{b: body}
	*ev = StreamEvent{Kind: StreamEventKind(c.u8()), ID: c.uvarint()}
	switch ev.Kind {
	case EventOpened, EventShut, EventFinished:
	case EventTaken, EventReceived, EventReset:
		ev.N = c.uvarint()
	case EventFailed:
		ev.N = c.uvarint()
		name := c.take(int(c.u8()))
		var ok bool
		if ev.Reason, ok = ledger.ReasonNamed(string(name)); !ok || ev.Reason == ledger.None {
			ev.Reason = ledger.LinkError
		}
	default:
		if !c.short {
			return nil, fmt.Errorf("%w in events: event %d", ErrValue, ev.Kind)
		}
	}
	return c.b, c.err(TypeStreamEvents)
}

// BeginFrame appends the header of a frame whose body the caller appends; EndFrame fills in its length.
// start is len(dst) before BeginFrame.
func BeginFrame(dst []byte, t Type) []byte { return begin(dst, t, 0) }

// EndFrame ends what BeginFrame began.
func EndFrame(dst []byte, start int) []byte { return end(dst, start) }
