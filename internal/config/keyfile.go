package config

import (
	"errors"
	"io/fs"
	"strings"

	"tcpcopy/internal/way/link/key"
)

// loadKey reads the key of --key or the environment; nil where there is none.
func loadKey(file string, insecure bool) (*key.Key, []string, error) {
	k, warning, err := key.Load(file)
	switch {
	case errors.Is(err, key.ErrNone):
		return nil, nil, nil
	case err != nil:
		p := &Problem{Flag: "--key", Value: file, What: keyWords(err), Hint: "tcpcopy keygen > key makes one; both sides need the same"}
		if errors.Is(err, fs.ErrPermission) {
			p.Hint = "it is for the user that runs tcpcopy: chown it, or run as its owner"
		}
		if file == "" {
			p.Flag = "the environment's " + key.Env
		}
		return nil, nil, p
	case insecure && file != "":
		return nil, nil, &Problem{Flag: "--insecure", What: "says that there is no key, and --key gives one: wanted one of them"}
	}
	var warnings []string
	if warning != "" {
		warnings = append(warnings, warning)
	}
	if insecure {
		return nil, append(warnings, "--insecure: the key in "+key.Env+" is not used"), nil
	}
	return &k, warnings, nil
}

// keyFile reads the name of a key's file. A key in its place is a mistake that must not be shown again.
func keyFile(dst *string) func(string) error {
	return func(s string) error {
		if _, err := key.Parse(s); err == nil || strings.HasPrefix(s, "tcpcopy-key") {
			p := wanted("this is a key: wanted the name of a file that holds it").hinting("the key itself may be in the environment, as %s", key.Env)
			p.Value = asIs
			return p
		}
		return text(dst, "a file made by tcpcopy keygen")(s)
	}
}

// keyWords is what is wrong with a key, without what the option says already.
func keyWords(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return "cannot be read: " + pe.Err.Error()
	}
	if in := errors.Unwrap(err); in != nil {
		err = in
	}
	return strings.TrimPrefix(strings.TrimPrefix(err.Error(), "key: "), "parse: ")
}
