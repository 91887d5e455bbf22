package content

import (
	"bytes"
	"time"

	"tcpcopy/internal/proto"
)

// recognise returns which kind of value a text is.
func recognise(p []byte) proto.Recognised {
	switch {
	case isUUID(p):
		return proto.UUID
	case isTime(p):
		return proto.Timestamp
	case isJWT(p):
		return proto.JWT
	}
	return proto.Plain
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

// isUUID reports whether p has the form of RFC 9562 §4.
func isUUID(p []byte) bool {
	if len(p) != 36 {
		return false
	}
	for i, c := range p {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !isHex(c) {
				return false
			}
		}
	}
	return true
}

// isTime reports whether p is a date and time of RFC 3339.
func isTime(p []byte) bool {
	if len(p) < len("2006-01-02T15:04:05Z") || len(p) > 40 || p[4] != '-' || p[7] != '-' {
		return false
	}
	_, err := time.Parse(time.RFC3339Nano, string(p))
	return err == nil
}

// isJWT reports whether p has the form of a signed token of RFC 7519: three parts in base64url, the
// first of which is an object.
func isJWT(p []byte) bool {
	if len(p) < 20 || !bytes.HasPrefix(p, []byte("eyJ")) || bytes.Count(p, []byte{'.'}) != 2 {
		return false
	}
	for _, c := range p {
		if c != '.' && c != '-' && c != '_' && !isAlphanumeric(c) {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

// epochSlack is how far from the answer's own time a number may be to count as a time, in seconds.
const epochSlack = 2 * 24 * 3600

// epoch recognises a number that is a time near the answer's own.
func (b *Builder) epoch(p []byte) proto.Recognised {
	whole, _, _ := bytes.Cut(p, []byte{'.'})
	if b.now == 0 || len(whole) != 10 && len(whole) != 13 {
		return proto.Plain
	}
	var n int64
	for _, c := range whole {
		if c < '0' || c > '9' {
			return proto.Plain
		}
		n = 10*n + int64(c-'0')
	}
	if len(whole) == 13 {
		n /= 1000
	}
	if n < b.now-epochSlack || n > b.now+epochSlack {
		return proto.Plain
	}
	return proto.Epoch
}

// Identifying reports whether a part of a path (a segment of a URL, a key of an object) looks like
// an identifier, and so may be one of very many, or a secret.
func Identifying(p []byte) bool {
	if len(p) > 32 || isUUID(p) {
		return true
	}
	digits, hex := 0, 0
	for _, c := range p {
		switch {
		case '0' <= c && c <= '9':
			digits++
			hex++
		case isHex(c):
			hex++
		case c >= 0x80 || c == '@' || c == '%' || c == ' ' || c == '=' || c == '+' || c == ':':
			return true
		}
	}
	return len(p) > 0 && digits == len(p) || len(p) >= 12 && digits*3 >= len(p) ||
		len(p) >= 8 && hex == len(p) && digits > 0
}

// Anonymous stands in a path for a part that looks like an identifier.
const Anonymous = "{id}"
