// Package redis knows the Redis serialization protocol, RESP2 and RESP3: where commands and replies end, and,
// where it is told to, which commands a copy leaves out, and with which password it logs in.
//
// Replies tell their own length, so nothing has to be known of a command to find the end of its reply. From
// SUBSCRIBE, MONITOR and the like on, the server speaks unasked, and nothing waits for it.
package redis

import (
	"slices"
	"strings"

	"tcpcopy/internal/proto"
)

// Bounds, as the server has them.
const (
	maxLine = 64 << 10  // an inline command, a simple reply
	maxArgs = 1 << 20   // of a command
	maxBulk = 512 << 20 // one argument
)

// Recognise looks at the first bytes that the client, and production's server, have sent. Only commands in
// the form of arrays are taken for Redis's: an inline command is any line.
func Recognise(client, server []byte) proto.Verdict {
	if len(server) > 0 && (len(client) == 0 || strings.IndexByte("+-:$*_#,(!=%~>|", server[0]) < 0) {
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

// number reads a decimal number of at most 18 digits, perhaps negative, as the server does: without a sign or
// zeros that it does not need.
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
