package lab

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// framing is what surrounds the lab's requests and answers, so that they are messages of a
// protocol.
type framing struct {
	request, answer envelope
}

// envelope surrounds a body: before, the length of the body in decimal digits, after, the body,
// tail. The zero value adds nothing.
type envelope struct{ before, after, tail string }

// framings are the protocols that the lab speaks, by name.
var framings = map[string]framing{
	"": {},
	"http1": {
		request: envelope{before: "POST /lab HTTP/1.1\r\nHost: lab\r\nContent-Length: ",
			after: "\r\n\r\n"},
		answer: envelope{before: "HTTP/1.1 200 OK\r\nContent-Length: ", after: "\r\n\r\n"},
	},
	"redis": {
		request: envelope{before: "*2\r\n$4\r\nECHO\r\n$", after: "\r\n", tail: "\r\n"},
		answer:  envelope{before: "$", after: "\r\n", tail: "\r\n"},
	},
}

// Protocols returns the names of the protocols that a load can speak, beside the lab's own.
func Protocols() []string {
	names := slices.Sorted(maps.Keys(framings))
	return names[1:] // the first is the lab's own, which has no name
}

// put appends what precedes a body of n bytes.
func (e *envelope) put(dst []byte, n int) []byte {
	if e.before == "" {
		return dst
	}
	dst = strconv.AppendInt(append(dst, e.before...), int64(n), 10)
	return append(dst, e.after...)
}

// size returns how many bytes surround a body of n bytes.
func (e *envelope) size(n int) int {
	var room [96]byte
	return len(e.put(room[:0], n)) + len(e.tail)
}

// errEnvelope is returned if what surrounds a request is not as the protocol has it.
var errEnvelope = errors.New("not of the protocol")

// mostDigits bounds the digits of the length.
const mostDigits = 10

// readHeader reads what precedes a body. next returns the next n bytes and when the first of them
// came. readHeader returns the length of the body, or -1 if the envelope is empty.
func (e *envelope) readHeader(next func(n int) ([]byte, time.Duration, error)) (n int,
	at time.Duration, err error) {
	if e.before == "" {
		return -1, 0, nil
	}
	b, at, err := next(len(e.before))
	if err == nil && string(b) != e.before {
		err = fmt.Errorf("%w: a request begins with %q", errEnvelope, b)
	}
	for i := 0; err == nil; i++ {
		if b, _, err = next(1); err != nil {
			break
		}
		if c := b[0]; c >= '0' && c <= '9' && i < mostDigits {
			n = 10*n + int(c-'0')
			continue
		}
		if b[0] != e.after[0] {
			err = fmt.Errorf("%w: a request's length ends with %q", errEnvelope, b)
		}
		break
	}
	if err == nil {
		if b, _, err = next(len(e.after) - 1); err == nil && string(b) != e.after[1:] {
			err = fmt.Errorf("%w: a request's length is followed by %q", errEnvelope, b)
		}
	}
	return n, at, err
}
