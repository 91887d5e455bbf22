package lab

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"
)

// dress is what the lab's requests and answers wear so that they are those of a protocol.
type dress struct {
	request, answer wear
}

// wear is what comes before a number of bytes, with that number in it, and behind them.
type wear struct{ before, after, tail string }

// dresses are the protocols that the lab speaks.
var dresses = map[string]dress{
	"": {},
	"http1": {
		request: wear{before: "POST /lab HTTP/1.1\r\nHost: lab\r\nContent-Length: ", after: "\r\n\r\n"},
		answer:  wear{before: "HTTP/1.1 200 OK\r\nContent-Length: ", after: "\r\n\r\n"},
	},
	"redis": {
		request: wear{before: "*2\r\n$4\r\nECHO\r\n$", after: "\r\n", tail: "\r\n"},
		answer:  wear{before: "$", after: "\r\n", tail: "\r\n"},
	},
}

// Protocols returns the names of the protocols that a load can speak, beside the lab's own.
func Protocols() []string {
	names := slices.Sorted(maps.Keys(dresses))
	return names[1:] // the first is the lab's own, which has no name
}

// put appends what comes before n bytes.
func (w *wear) put(dst []byte, n int) []byte {
	if w.before == "" {
		return dst
	}
	dst = strconv.AppendInt(append(dst, w.before...), int64(n), 10)
	return append(dst, w.after...)
}

// size is how long what n bytes wear is.
func (w *wear) size(n int) int {
	var room [96]byte
	return len(w.put(room[:0], n)) + len(w.tail)
}

// errDress says that a request does not wear what it should.
var errDress = errors.New("not of the protocol")

// mostDigits bounds the number in what comes before a request.
const mostDigits = 10

// undress reads what comes before a request, with next, which returns the next n bytes and when the first of
// them came; it returns the number of bytes inside, -1 where nothing is worn.
func (w *wear) undress(next func(n int) ([]byte, time.Duration, error)) (n int, at time.Duration, err error) {
	if w.before == "" {
		return -1, 0, nil
	}
	b, at, err := next(len(w.before))
	if err == nil && string(b) != w.before {
		err = fmt.Errorf("%w: a request begins with %q", errDress, b)
	}
	for i := 0; err == nil; i++ {
		if b, _, err = next(1); err != nil {
			break
		}
		if c := b[0]; c >= '0' && c <= '9' && i < mostDigits {
			n = 10*n + int(c-'0')
			continue
		}
		if b[0] != w.after[0] {
			err = fmt.Errorf("%w: a request's length ends with %q", errDress, b)
		}
		break
	}
	if err == nil {
		if b, _, err = next(len(w.after) - 1); err == nil && string(b) != w.after[1:] {
			err = fmt.Errorf("%w: a request's length is followed by %q", errDress, b)
		}
	}
	return n, at, err
}
