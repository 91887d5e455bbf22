// Package redis reads the Redis serialization protocol, RESP2 and RESP3: where commands and
// replies end. If its options ask for it, it leaves commands out, and logs in with another
// password.
//
// A reply's length follows from the reply alone, so that its reader needs no hints. After
// SUBSCRIBE, MONITOR and the like the server sends without being asked, and no command waits for
// it.
package redis

import (
	"slices"
	"strings"

	"tcpcopy/internal/proto"
)

// Bounds, the same as the server's.
const (
	maxLine = 64 << 10  // bytes of an inline command or a simple reply
	maxArgs = 1 << 20   // arguments of a command
	maxBulk = 512 << 20 // bytes of one argument
)

// Recognise recognises Redis by a command in the form of an array. An inline command could be any
// line.
func Recognise(client, server []byte) proto.Verdict {
	if len(server) > 0 && (len(client) == 0 ||
		strings.IndexByte("+-:$*_#,(!=%~>|", server[0]) < 0) {
		return proto.No
	}
	var c Client
	var out proto.Out
	err := c.Feed(client[:min(len(client), 512)], 0, &out)
	switch {
	case len(client) == 0:
		return proto.Unsure
	case err != nil || client[0] != '*':
		return proto.No
	case c.arg > 0 || slices.ContainsFunc(out.Steps, isRequest): // a command's name is whole
		return proto.Yes
	default:
		return proto.Unsure
	}
}

// number parses a decimal number of at most 18 digits. Like the server, it refuses a plus sign and
// leading zeros.
func number(p []byte) (n int64, ok bool) {
	minus := len(p) > 1 && p[0] == '-'
	if minus {
		p = p[1:]
	}
	if len(p) == 0 || len(p) > 18 || p[0] == '0' && (minus || len(p) > 1) {
		return 0, false
	}
	for _, c := range p {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	if minus {
		n = -n
	}
	return n, true
}

func isRequest(s proto.Step) bool { return s.Kind == proto.Requested }
