package web

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strings"
)

// minToken is the length of a token that nobody guesses, in characters.
const minToken = 16

// LoadToken reads the token in a file: one line.
func LoadToken(path string) (string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	token := strings.TrimSpace(string(text))
	bad := func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`",;\`, r) }
	switch {
	case len(token) < minToken:
		return "", fmt.Errorf(
			"has a token of %d characters: wanted at least %d",
			len(token),
			minToken,
		)
	case strings.ContainsFunc(token, bad):
		return "", errors.New(
			"has a token with other characters: wanted letters and digits, in one line",
		)
	}
	return token, nil
}

// LoadCertificate reads a certificate and its private key, both in one PEM file.
func LoadCertificate(path string) (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(path, path)
	if err != nil {
		return nil, err
	}
	return &c, nil
}

// certificateNames returns the names of hosts that c is for.
func certificateNames(c *tls.Certificate) []string {
	leaf := c.Leaf
	if leaf == nil && len(c.Certificate) > 0 {
		leaf, _ = x509.ParseCertificate(c.Certificate[0])
	}
	if leaf == nil {
		return nil
	}
	return leaf.DNSNames
}

// silent returns a log that nobody reads: handshakes that fail are strangers', and they would fill
// the log of the copy.
func silent() *log.Logger { return log.New(io.Discard, "", 0) }

// LoadRoots reads the certificates in a PEM file that servers are to be proved by.
func LoadRoots(path string) (*x509.CertPool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, errors.New("has no certificate: wanted PEM")
	}
	return roots, nil
}
