package proto

import (
	"slices"
	"strings"
)

// Wanted is what a user has named that digests of answers are to have. The zero value is nothing.
type Wanted struct {
	// Values are the paths at which digests have the values, too: as of rules, with * at the end
	// for anything. A path that names a secret is none of them.
	Values []string
	// Headers are the headers that are compared, by their values; empty: as the protocol has it.
	Headers []string
}

// Bounds of a Wanted.
const (
	MaxWanted     = 64  // of each list
	MaxWantedText = 255 // of each of their elements, in bytes
)

// Bounds of Field.Values.
const (
	MaxValues = 16
	MaxValue  = 128 // bytes of each; longer ones are cut
)

// IsNone reports whether nothing is named.
func (w *Wanted) IsNone() bool { return len(w.Values)+len(w.Headers) == 0 }

// Keeps reports whether digests have the values at a path.
func (w *Wanted) Keeps(path string) bool {
	return len(w.Values) > 0 && !IsSecret(path) && slices.ContainsFunc(w.Values,
		func(pattern string) bool { return MatchPath(pattern, path) })
}

// Compares reports whether a header, whose name is in lower case, is compared. listed is false if
// no header is named.
func (w *Wanted) Compares(name []byte) (compared, listed bool) {
	return slices.ContainsFunc(w.Headers, func(h string) bool { return h == string(name) }),
		len(w.Headers) > 0
}

// MatchPath reports whether a path is the one of a rule, in which * at the end stands for anything.
func MatchPath(pattern, path string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(path, prefix)
	}
	return pattern == path
}

// secrets are parts of the names of what must not be shown.
var secrets = []string{"authoriz", "cookie", "passw", "passphrase", "secret", "token", "apikey",
	"api-key", "api_key", "credential", "session", "private", "jwt", "signature"}

// IsSecret reports whether a path, or the name of a header, looks like that of a secret.
func IsSecret(path string) bool {
	path = strings.ToLower(path)
	return slices.ContainsFunc(secrets, func(s string) bool { return strings.Contains(path, s) })
}
