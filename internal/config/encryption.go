package config

import (
	"os"
	"strings"

	"filippo.io/age"
)

// setRecipients parses public keys, or names of files that hold them one a line, with commas.
func setRecipients(dst *[]age.Recipient) func(string) error {
	return func(s string) error {
		parts, err := list(s)
		if err != nil {
			return err
		}
		for _, p := range parts {
			r, err := recipients(p)
			if err != nil {
				problem := wanted("%q is neither a public key nor a file of such: wanted age1…, "+
					"or the name of a file, several with commas", p).
					hinting("tcpcopy keygen --recordings > identity makes one, with its public key")
				problem.Value = asIs
				if strings.HasPrefix(strings.ToUpper(p), "AGE-SECRET-KEY-") {
					problem.What = "is a secret key: wanted the public one, age1…"
				}
				return problem
			}
			*dst = append(*dst, r...)
		}
		return nil
	}
}

// recipients parses a public key, or reads a file of them.
func recipients(s string) ([]age.Recipient, error) {
	if strings.HasPrefix(s, "age1") {
		return age.ParseRecipients(strings.NewReader(s))
	}
	f, err := os.Open(s)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return age.ParseRecipients(f)
}

// setIdentities reads secret keys from a file.
func setIdentities(dst *[]age.Identity) func(string) error {
	return func(s string) error {
		f, err := os.Open(s)
		if err != nil {
			return wanted("cannot be read: %s", kernelWords(err))
		}
		defer f.Close()
		all, err := age.ParseIdentities(f)
		if err != nil { // whose text might be a part of the secret
			return wanted("holds no secret key: wanted a file made by tcpcopy keygen --recordings")
		}
		*dst = append(*dst, all...)
		return nil
	}
}
