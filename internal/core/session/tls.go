package session

// tlsGuess is what the first bytes of a turn tell about TLS.
type tlsGuess uint8

const (
	tlsNo tlsGuess = iota
	tlsMaybe
	tlsYes
)

// looksLikeTLS guesses whether a turn begins with a TLS ClientHello (RFC 8446 §5.1, §4.1.2) or,
// midway through a connection, with any TLS record. Version 3.0 does not count midway: SSL 3.0 is
// not in use, and packets of MySQL look like it.
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
