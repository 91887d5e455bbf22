package mysql

import (
	"bytes"
	"encoding/binary"

	"tcpcopy/internal/proto"
)

// Recognise recognises MySQL by the client's handshake response, whose fixed part has many zeros,
// or, in a connection found under way, by a query that is as long as what the client sent.
func Recognise(client, server []byte) proto.Verdict {
	if len(server) > 0 && !mayGreet(server) {
		return proto.No
	}
	if len(client) < headerLen+1 {
		if len(client) > 3 && client[3] > 1 {
			return proto.No
		}
		return proto.Unsure
	}
	length := int(client[0]) | int(client[1])<<8 | int(client[2])<<16
	switch {
	case client[3] == 1 && length >= 32 && length <= loginMost:
		return isLogin(client[headerLen:])
	case client[3] == 0 && len(server) == 0 && len(client) == headerLen+length &&
		client[headerLen] == comQuery:
		return isQuery(client[headerLen+1:])
	}
	return proto.No
}

// mayGreet reports whether p may be the beginning of a greeting.
func mayGreet(p []byte) bool {
	if len(p) <= headerLen {
		return len(p) < headerLen || p[3] == 0
	}
	length := int(p[0]) | int(p[1])<<8 | int(p[2])<<16
	if p[3] != 0 || p[headerLen] != 10 || length < 1+1+1+greetingTail || length > loginMost {
		return false
	}
	for _, c := range p[headerLen+1:] {
		if c == 0 {
			return true
		}
		if c < ' ' || c > '~' {
			return false
		}
	}
	return true
}

// isLogin judges whether a payload is a handshake response.
func isLogin(p []byte) proto.Verdict {
	if len(p) < 32 {
		return proto.Unsure
	}
	caps, most := binary.LittleEndian.Uint32(p), binary.LittleEndian.Uint32(p[4:])
	var zero [19]byte
	if caps&capProtocol41 == 0 || most > 1<<30 || !bytes.Equal(p[9:28], zero[:]) {
		return proto.No
	}
	return proto.Yes
}

// isQuery judges whether text begins like a usual query.
func isQuery(text []byte) proto.Verdict {
	var l lexer
	for _, c := range text {
		switch tok, _ := l.next(c); tok {
		case noToken:
			continue
		case wordToken:
			switch string(l.said()) {
			case "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "BEGIN", "COMMIT", "ROLLBACK",
				"SET", "SHOW", "USE", "START":
				return proto.Yes
			}
		}
		return proto.No
	}
	return proto.No
}
