// Package key holds the secret that the ends of a link share, and makes the TLS configurations by
// which each proves that it has the secret.
//
// A key is 32 random bytes. The Ed25519 certificate of each role is derived from it, so that to
// have the key is to have the certificate. Mutual TLS 1.3 does the rest. The package makes no
// connections: the commands load a key and pass the configurations on.
package key

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
)

const (
	prefix = "tcpcopy-key-1:"
	size   = 32
	// Env is the environment variable that holds a key's text.
	Env = "TCPCOPY_KEY"
	// maxFile bounds what is read from a key file, in bytes.
	maxFile = 4096
)

// ErrNone reports that neither a file nor the environment has a key.
var ErrNone = errors.New("key: none given: wanted a file, or " + Env)

// Key is a shared secret. It prints as a fixed word.
type Key struct{ secret [size]byte }

// String hides the secret from logs and error messages.
func (Key) String() string { return "(key)" }

// GoString hides the secret from %#v.
func (Key) GoString() string { return "key.Key{…}" }

// Generate returns a new key as text: one line without its end.
func Generate() string {
	var b [size]byte
	rand.Read(b[:]) // never fails
	return prefix + base64.StdEncoding.EncodeToString(b[:])
}

// Parse reads a key's text, and ignores white space around it. Its errors do not quote the text,
// which may be most of a secret.
func Parse(text string) (Key, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return Key{}, errors.New("key: parse: empty: wanted " + prefix +
			"… as printed by tcpcopy keygen")
	}
	rest, ok := strings.CutPrefix(text, prefix)
	if !ok {
		return Key{}, errors.New("key: parse: does not begin with \"" + prefix +
			"\": wanted a line as printed by tcpcopy keygen")
	}
	b, err := base64.StdEncoding.Strict().DecodeString(rest)
	if err != nil {
		return Key{}, fmt.Errorf("key: parse: what follows %s is not base64: "+
			"wanted %d bytes in base64", prefix, size)
	}
	if len(b) != size {
		return Key{}, fmt.Errorf("key: parse: %d bytes after %s: wanted %d", len(b), prefix, size)
	}
	var k Key
	copy(k.secret[:], b)
	return k, nil
}

// Load reads the key from a file, or, if file is empty, from the environment. It returns ErrNone if
// neither is given. warning is for the user, if others may read the file, else empty.
func Load(file string) (k Key, warning string, err error) {
	if file == "" {
		text := os.Getenv(Env)
		if text == "" {
			return Key{}, "", ErrNone
		}
		if k, err = Parse(text); err != nil {
			return Key{}, "", fmt.Errorf("%s: %w", Env, err)
		}
		return k, "", nil
	}
	text, warning, err := readFile(file)
	if err != nil {
		return Key{}, "", err
	}
	if k, err = Parse(text); err != nil {
		return Key{}, "", fmt.Errorf("key file %q: %w", file, err)
	}
	return k, warning, nil
}
