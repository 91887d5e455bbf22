package mysql

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/pem"
	"io"

	"filippo.io/edwards25519"
)

// The authentication plugins that the copy supports.
const (
	nativePlugin  = "mysql_native_password"
	sha2Plugin    = "caching_sha2_password"
	ed25519Plugin = "client_ed25519"
)

// challenge returns the challenge in the data that a server sends for a plugin: it is without the
// zero at the end, which only plugins with text challenges have.
func challenge(plugin string, p []byte) []byte {
	if plugin == ed25519Plugin {
		return p[:min(len(p), 32)]
	}
	return bytes.TrimSuffix(p, []byte{0})
}

// prove returns the answer to a server's challenge; false if the plugin is not supported.
func prove(plugin, password string, scramble []byte) ([]byte, bool) {
	switch plugin {
	case nativePlugin:
		return scrambleNative(password, scramble), true
	case sha2Plugin:
		return scrambleSHA2(password, scramble), true
	case ed25519Plugin:
		return signEd25519(password, scramble), true
	}
	return nil, false
}

// scrambleNative returns SHA1(password) XOR SHA1(scramble, SHA1(SHA1(password))).
func scrambleNative(password string, scramble []byte) []byte {
	if password == "" {
		return nil
	}
	once := sha1.Sum([]byte(password))
	twice := sha1.Sum(once[:])
	mask := sha1.Sum(append(scramble[:len(scramble):len(scramble)], twice[:]...))
	return xor(once[:], mask[:])
}

// scrambleSHA2 returns SHA256(password) XOR SHA256(SHA256(SHA256(password)), scramble).
func scrambleSHA2(password string, scramble []byte) []byte {
	if password == "" {
		return nil
	}
	once := sha256.Sum256([]byte(password))
	twice := sha256.Sum256(once[:])
	mask := sha256.Sum256(append(twice[:], scramble...))
	return xor(once[:], mask[:])
}

// xor replaces p by p XOR key, which is repeated, and returns it.
func xor(p, key []byte) []byte {
	for i := range p {
		p[i] ^= key[i%len(key)]
	}
	return p
}

// encryptPassword returns the answer of the full authentication of caching_sha2_password: the
// password and a zero, XOR the scramble, encrypted by RSA-OAEP with the server's key, which text
// holds in PEM.
func encryptPassword(random io.Reader, password string, scramble, text []byte) ([]byte, error) {
	block, _ := pem.Decode(text)
	if block == nil || len(scramble) == 0 {
		return nil, lost("key of the server", "without a PEM block")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, lost("key of the server", err)
	}
	public, ok := key.(*rsa.PublicKey)
	if !ok || public.N.BitLen() > 8192 {
		return nil, lost("key of the server", "of another kind")
	}
	plain := xor(append([]byte(password), 0), scramble)
	secret, err := rsa.EncryptOAEP(sha1.New(), random, public, plain, nil)
	if err != nil {
		return nil, lost("key of the server", err)
	}
	return secret, nil
}

// signEd25519 returns an Ed25519 signature (RFC 8032 §5.1.6) of the scramble, with the password in
// place of the 32 secret bytes, as MariaDB does.
func signEd25519(password string, scramble []byte) []byte {
	secret := sha512.Sum512([]byte(password))
	// fails at other lengths only
	s, _ := edwards25519.NewScalar().SetBytesWithClamping(secret[:32])
	public := new(edwards25519.Point).ScalarBaseMult(s).Bytes()

	r := hashScalar(secret[32:], scramble)
	commitment := new(edwards25519.Point).ScalarBaseMult(r).Bytes()
	k := hashScalar(commitment, public, scramble)
	return append(commitment, edwards25519.NewScalar().MultiplyAdd(k, s, r).Bytes()...)
}

func hashScalar(parts ...[]byte) *edwards25519.Scalar {
	h := sha512.New()
	for _, p := range parts {
		h.Write(p)
	}
	s, _ := edwards25519.NewScalar().SetUniformBytes(h.Sum(nil)) // fails at other lengths only
	return s
}
