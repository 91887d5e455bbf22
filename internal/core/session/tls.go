package session

type tlsGuess uint8

const (
	tlsNo tlsGuess = iota
	tlsMaybe
	tlsYes
)

// looksLikeTLS says whether a turn begins with a TLS ClientHello (RFC 8446 §5.1, §4.1.2); for a
// connection found under way, with any TLS record. (There is no SSL 3.0 any more, but packets of MySQL that
// would be.)
func looksLikeTLS(b []byte, midway bool) tlsGuess {
	const handshake, clientHello = 22, 1
	if len(b) == 0 || b[0] != handshake && !(midway && b[0] >= 20 && b[0] <= 23) {
		return tlsNo
	}
	if len(b) > 1 && b[1] != 3 || len(b) > 2 && (b[2] > 4 || midway && b[2] == 0) {
		return tlsNo
	}
	if midway {
		if len(b) < 3 {
			return tlsMaybe
		}
		return tlsYes
	}
	switch {
	case len(b) < 6:
		return tlsMaybe
	case b[5] == clientHello:
		return tlsYes
	default:
		return tlsNo
	}
}
