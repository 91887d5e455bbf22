package link

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"

	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
)

// What connecting can fail with, besides *Refused and the network's own errors. The texts of the
// errors that wrap them name the peer, and what the user can do.
var (
	// ErrWrongKey reports that the peer holds another key.
	ErrWrongKey = errors.New("wrong key")
	// ErrNeedsKey reports that the peer requires a key, and this end has none.
	ErrNeedsKey = errors.New("key required")
	// ErrNoKey reports that this end has a key, and the peer none.
	ErrNoKey = errors.New("peer without a key")
	// ErrForeign reports that another program answers.
	ErrForeign = errors.New("not tcpcopy")
	// ErrOld reports that the peer cannot do what this end needs.
	ErrOld = errors.New("older peer")
)

// Refused is the error of a peer that has refused this end.
type Refused struct {
	Peer  string // what the peer is
	Code  wire.Code
	Text  string     // the peer's own
	Slots wire.Slots // those in use, if Code is wire.CodeSlot
}

// Error returns the peer's own words.
func (e *Refused) Error() string { return fmt.Sprintf("the %s refuses: %s", e.Peer, e.Text) }

// handshakeError has a text that a user can act on, and is one of the Err values.
type handshakeError struct {
	is   error
	text string
}

func (e *handshakeError) Error() string { return e.text }
func (e *handshakeError) Unwrap() error { return e.is }

func (d *Dialer) wrongKey() error {
	return &handshakeError{ErrWrongKey,
		"the " + d.Peer + " holds another key: wanted the same key on both sides"}
}

func (d *Dialer) needsKey() error {
	return &handshakeError{ErrNeedsKey,
		"the " + d.Peer + " requires a key, and none was given: wanted --key"}
}

func (d *Dialer) noKey() error {
	return &handshakeError{ErrNoKey, fmt.Sprintf(
		"the %s was started without a key: wanted --key there, or %s here", d.Peer, d.Keyless)}
}

func (d *Dialer) foreign(cause error) error {
	return &handshakeError{ErrForeign,
		fmt.Sprintf("what answers there is no %s: %v", d.Wanted, cause)}
}

// explain turns an error of the handshake into one that the user can act on, where there is one.
func (d *Dialer) explain(err error) error {
	var record tls.RecordHeaderError
	switch {
	case errors.Is(err, key.ErrWrong):
		return d.wrongKey()
	case errors.As(err, &record):
		// A server without a key answers TLS with the preface.
		if strings.HasPrefix(wire.Preface, string(record.RecordHeader[:])) {
			return d.noKey()
		}
		return d.foreign(err)
	case errors.Is(err, wire.ErrPreface):
		return d.foreign(err)
	case strings.Contains(err.Error(), "tls: bad certificate"): // the peer's verdict on our key
		return d.wrongKey()
	}
	return fmt.Errorf("greet: %w", err)
}

// refused turns the peer's refusal into an error.
func (d *Dialer) refused(body []byte) error {
	var r wire.Refuse
	if err := r.Decode(body); err != nil {
		return fmt.Errorf("greet: %w", err)
	}
	switch r.Code {
	case wire.CodeNeedsKey:
		return d.needsKey()
	case wire.CodeNoKey:
		return d.noKey()
	}
	return &Refused{Peer: d.Peer, Code: r.Code, Text: r.Text, Slots: r.Slots}
}

// lasting reports whether an error persists until a person does something about it.
func lasting(err error) bool {
	var r *Refused
	if errors.As(err, &r) {
		return r.Code != wire.CodeSlot && r.Code != wire.CodeFull
	}
	var h *handshakeError
	return errors.As(err, &h)
}
