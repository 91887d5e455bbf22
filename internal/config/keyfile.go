package config

import (
	"errors"
	"io/fs"
	"strings"

	"tcpcopy/internal/way/link/key"
)

// loadKey returns the key of --key or the environment; nil if there is none.
func loadKey(file string, insecure bool) (*key.Key, []string, error) {
	k, warning, err := key.Load(file)
	switch {
	case errors.Is(err, key.ErrNone):
		return nil, nil, nil
	case err != nil:
		p := &Problem{Flag: "--key", Value: file, What: keyWords(err), Hint: "tcpcopy keygen > " +
			"key makes one; both sides need the same"}
		if errors.Is(err, fs.ErrPermission) {
			p.Hint = "the user that runs tcpcopy must be able to read it: chown it, or run as " +
				"its owner"
		}
		if file == "" {
			p.Flag = "the environment's " + key.Env
		}
		return nil, nil, p
	case insecure && file != "":
		return nil, nil, &Problem{Flag: "--insecure", What: "does not go with --key: wanted one " +
			"of them"}
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

// keyFile parses the name of a key's file. If a key is given instead, the error does not quote it.
func keyFile(dst *string) func(string) error {
	return func(s string) error {
		if _, err := key.Parse(s); err == nil || strings.HasPrefix(s, "tcpcopy-key") {
			p := wanted("is a key: wanted the name of a file that holds it").
				hinting("the environment variable %s may hold the key itself", key.Env)
			p.Value = asIs
			return p
		}
		return text(dst, "a file made by tcpcopy keygen")(s)
	}
}

// ringWords returns what is wrong with a directory of keys, or with which of its files.
func ringWords(err error) string {
	if pe := (*fs.PathError)(nil); errors.As(err, &pe) {
		return pe.Path + " cannot be read: " + pe.Err.Error()
	}
	return strings.TrimPrefix(err.Error(), "key: ")
}

// keyWords returns what is wrong with a key, without what the option's name tells.
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
