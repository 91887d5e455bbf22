package key

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// The labels keep the roles apart: the certificate of one role is none of another.
const (
	interceptLabel = "tcpcopy key 1 intercept"
	copierLabel    = "tcpcopy key 1 copier"
	agentLabel     = "tcpcopy key 1 agent"
	collectLabel   = "tcpcopy key 1 copier of agents"
)

// ErrWrong is the error of a handshake with a peer that holds another key.
var ErrWrong = errors.New("key: the other side holds another key")

// ServerTLS returns the configuration of an intercept: it accepts copiers that prove to hold k.
func ServerTLS(k Key) *tls.Config { return k.server(interceptLabel, copierLabel) }

// ClientTLS returns the configuration of a copier: it accepts an intercept that proves to hold k.
func ClientTLS(k Key) *tls.Config { return k.client(copierLabel, interceptLabel) }

// AgentServerTLS returns the configuration of a copier that accepts agents.
func AgentServerTLS(k Key) *tls.Config { return k.server(collectLabel, agentLabel) }

// AgentClientTLS returns the configuration of an agent.
func AgentClientTLS(k Key) *tls.Config {
	c := k.client(agentLabel, collectLabel)
	c.DynamicRecordSizingDisabled = true // bulk: no message waits for its first bytes alone
	return c
}

func (k Key) server(own, peer string) *tls.Config {
	c := k.config(own, peer)
	c.ClientAuth = tls.RequireAnyClientCert // checked by VerifyConnection
	return c
}

func (k Key) client(own, peer string) *tls.Config {
	c := k.config(own, peer)
	// There is no authority and no name to check. VerifyConnection, which is never skipped,
	// compares the peer's public key with the one that follows from the shared key.
	c.InsecureSkipVerify = true
	c.ServerName = k.id() // for a server with several keys; others do not look at it
	return c
}

func (k Key) config(own, peer string) *tls.Config {
	private := k.private(own)
	want := k.private(peer).Public().(ed25519.PublicKey)
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		MaxVersion: tls.VersionTLS13,
		Certificates: []tls.Certificate{{Certificate: [][]byte{certificate(own, private)},
			PrivateKey: private}},
		SessionTicketsDisabled: true, // each handshake proves the key anew
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) == 0 {
				return ErrWrong
			}
			got, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
			if !ok || !got.Equal(want) {
				return ErrWrong
			}
			return nil
		},
	}
}

// private derives a role's key pair.
func (k Key) private(label string) ed25519.PrivateKey {
	seed := k.Derive(label)
	return ed25519.NewKeyFromSeed(seed[:])
}

// Derive returns a secret for the purpose that the label names (RFC 5869). Those who hold the key
// share it.
func (k Key) Derive(label string) (secret [ed25519.SeedSize]byte) {
	b, err := hkdf.Key(sha256.New, k.secret[:], nil, label, len(secret))
	if err != nil { // only for lengths that HKDF cannot yield
		panic(fmt.Sprintf("key: derive %q: %v", label, err))
	}
	copy(secret[:], b)
	return secret
}

// certificate returns a self-signed certificate. Only its public key is ever compared, so that a
// wrong clock does no harm.
func certificate(label string, private ed25519.PrivateKey) []byte {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: label},
		NotBefore:    time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280 §4.1.2.5: no end
	}
	der, err := x509.CreateCertificate(nil, template, template, private.Public(), private)
	if err != nil { // nothing in it depends on input
		panic(fmt.Sprintf("key: make certificate %q: %v", label, err))
	}
	return der
}
