// Package key is the secret that a copier and an intercept share, and the proof that both hold
// it.
//
// A key is 32 random bytes. Each role's Ed25519 certificate is derived from it, so holding the
// key and being able to show the certificate are the same thing: mutual TLS 1.3 does the rest.
// The package knows nothing of connections; the commands load a key and hand the TLS
// configurations to link and intercept.
package key

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	prefix = "tcpcopy-key-1:"
	size   = 32
	// Env names the environment variable that holds a key's text.
	Env = "TCPCOPY_KEY"
	// maxFile bounds what is read from a key file: a key's line with generous white space.
	maxFile = 4096
)

// ErrNone says that neither a file nor the environment names a key.
var ErrNone = errors.New("key: none given: wanted a file, or " + Env)

// Key is a secret shared by a copier and an intercept. It prints as a fixed word, never as itself.
type Key struct{ secret [size]byte }

// String hides the secret from logs and error messages.
func (Key) String() string { return "(key)" }

// GoString hides the secret from %#v.
func (Key) GoString() string { return "key.Key{…}" }

// Generate returns a new key as text: one line without its end.
func Generate() string {
	var b [size]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the process where it cannot read
	return prefix + base64.StdEncoding.EncodeToString(b[:])
}

// Parse reads a key's text, white space around it aside. Its errors never quote the text: it may
// be most of a secret.
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
		return Key{}, fmt.Errorf("key: parse: what follows %s is not base64: wanted %d bytes in base64", prefix, size)
	}
	if len(b) != size {
		return Key{}, fmt.Errorf("key: parse: %d bytes after %s: wanted %d", len(b), prefix, size)
	}
	var k Key
	copy(k.secret[:], b)
	return k, nil
}

// Load reads the key from file, or, where file is empty, from the environment; ErrNone if neither
// is given. The warning is for the user: a file that others may read. It is empty where there is
// none.
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
	f, err := os.Open(file)
	if err != nil {
		return Key{}, "", fmt.Errorf("key: read: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Key{}, "", fmt.Errorf("key: read: %w", err)
	}
	buf, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return Key{}, "", fmt.Errorf("key: read: %w", err)
	}
	if len(buf) > maxFile {
		return Key{}, "", fmt.Errorf("key: read %q: more than %d bytes: wanted one line as printed by tcpcopy keygen", file, maxFile)
	}
	if k, err = Parse(string(buf)); err != nil {
		return Key{}, "", fmt.Errorf("key file %q: %w", file, err)
	}
	// A pipe or a process substitution has a mode that says nothing.
	if mode := info.Mode(); mode.IsRegular() && mode.Perm()&0o077 != 0 {
		warning = fmt.Sprintf("key file %q can be read by others (mode %04o): chmod 600 %s", file,
			mode.Perm(), file)
	}
	return k, warning, nil
}
