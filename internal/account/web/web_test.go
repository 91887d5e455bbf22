package web

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var hello = http.HandlerFunc(
	func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") },
)

// serve serves h at a free port of 127.0.0.1, and returns its address.
func serve(t *testing.T, a Access, h http.Handler) string {
	t.Helper()
	s, err := Listen("127.0.0.1:0", a, h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s.Addr().String()
}

// ask sends a request with the headers given, and returns the code and the text.
func ask(t *testing.T, c *http.Client, method, url string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if r.Header.Set(header[i], header[i+1]); header[i] == "Host" {
			r.Host = header[i+1]
		}
	}
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func client(t *testing.T, config *tls.Config) *http.Client {
	transport := &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
}

func TestOnlyThisHostMayRead(t *testing.T) {
	at := "http://" + serve(t, Access{}, hello)
	for _, tt := range []struct {
		name, method string
		header       []string
		want         int
	}{
		{"GET", "GET", nil, 200},
		{"POST", "POST", nil, 405},
		{"PUT", "PUT", nil, 405},
		{"a name", "GET", []string{"Host", "evil.example"}, 403},
		{"a name and a port", "GET", []string{"Host", "evil.example:80"}, 403},
		{"localhost", "GET", []string{"Host", "localhost:9436"}, 200},
		{"IPv6", "GET", []string{"Host", "[::1]:9436"}, 200},
		{"tcpcopy status", "GET", []string{"Host", "tcpcopy"}, 200},
		{"a foreign page", "GET", []string{"Origin", "http://evil.example"}, 403},
		{"a file", "GET", []string{"Origin", "null"}, 403},
		{"its own page", "GET", []string{"Origin", at}, 200},
		{"a foreign script", "GET",
			[]string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}, 403},
		{"a link from elsewhere", "GET",
			[]string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}, 200},
	} {
		if code, text := ask(t, client(t, nil), tt.method, at, tt.header...); code != tt.want {
			t.Errorf("%s: %d %s", tt.name, code, text)
		}
	}
}

// certificate makes a certificate for 127.0.0.1 and copier.example, in one file with its key.
func certificate(t *testing.T) (path string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(
			1,
		), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"copier.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
	path = filepath.Join(t.TempDir(), "both.pem")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(text)
	return path, roots
}

func TestTokenAndTLS(t *testing.T) {
	path, roots := certificate(t)
	c, err := LoadCertificate(path)
	if err != nil {
		t.Fatal(err)
	}
	const token = "0123456789abcdef"
	at := "https://" + serve(t, Access{Token: token, Certificate: c}, hello)
	reader := client(t, &tls.Config{RootCAs: roots})
	for _, tt := range []struct {
		name   string
		header []string
		query  string
		want   int
	}{
		{"no token", nil, "", 401},
		{"another token", []string{"Authorization", "Bearer 0123456789abcdeX"}, "", 401},
		{"a longer token", []string{"Authorization", "Bearer " + token + "0"}, "", 401},
		{"the token", []string{"Authorization", "Bearer " + token}, "", 200},
		{"a browser's cookie", []string{"Cookie", Cookie + "=" + token}, "", 200},
		{"another cookie", []string{"Cookie", Cookie + "=x"}, "", 401},
		{"a link with the token", nil, "?token=" + token, 303},
		{"a link with another", nil, "?token=x", 401},
		{"the token, from a foreign page",
			[]string{"Cookie", Cookie + "=" + token, "Origin", "https://evil.example"}, "", 403},
		{"a name of the certificate",
			[]string{"Host", "copier.example", "Authorization", "Bearer " + token}, "", 200},
		{"another name", []string{"Host", "other.example", "Authorization", "Bearer " + token}, "",
			403},
	} {
		if code, text := ask(t, reader, "GET", at+"/"+tt.query, tt.header...); code != tt.want {
			t.Errorf("%s: %d %s", tt.name, code, text)
		}
	}
}

func TestFilesOfAccess(t *testing.T) {
	dir := t.TempDir()
	for text, ok := range map[string]bool{
		"0123456789abcdef": true, "0123456789abcdef\n": true, "short": false, "": false,
		"0123456789 abcdef": false, "0123456789\nabcdef": false, `0123456789";abcdef`: false,
	} {
		path := filepath.Join(dir, "token")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if token, err := LoadToken(path); (err == nil) != ok || ok && token != "0123456789abcdef" {
			t.Errorf("%q: %q, %v", text, token, err)
		}
	}
	if _, err := LoadCertificate(filepath.Join(dir, "token")); err == nil {
		t.Error("a token is taken for a certificate")
	}
}

func TestIsLocal(t *testing.T) {
	for addr, want := range map[string]bool{
		"/run/x.sock": true, "127.0.0.1:1": true, "127.3.0.1:1": true, "[::1]:1": true,
		"[::ffff:127.0.0.1]:1": true,
		"0.0.0.0:1":            false, "[::]:1": false, "10.0.0.1:1": false, "localhost:1": false,
	} {
		if got := IsLocal(addr); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}

// Readers that do not read are cut after a while, and hold up nobody.
func TestStalledReadersAreCut(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	state := []byte(strings.Repeat("x", 1<<20))
	events := &Events{
		Every: 10 * time.Millisecond,
		Get:   func() ([]byte, uint64, bool) { return state, 1, true },
	}
	const readers = 20
	cut := make(chan time.Duration, readers)
	at := serve(t, Access{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		events.ServeHTTP(w, r)
		cut <- time.Since(began)
	}))
	for range readers {
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.(*net.TCPConn).SetReadBuffer(4096)
		fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	}
	over := time.After(5 * Patience)
	for i := range readers {
		select {
		case after := <-cut:
			if after < Patience {
				t.Errorf("a reader is cut after %v", after)
			}
		case <-over:
			t.Fatalf("%d of %d stalled readers are still there", readers-i, readers)
		}
	}
	if events.readers != 0 {
		t.Errorf("%d readers are counted", events.readers)
	}
}

// There is a bound on readers, and those beyond it are told.
func TestTooManyReaders(t *testing.T) {
	events := &Events{Every: time.Hour, Get: func() ([]byte, uint64, bool) { return nil, 0, false }}
	events.readers = maxEvents
	if code, text := ask(t, client(t, nil), "GET",
		"http://"+serve(t, Access{}, events)); code != 503 {
		t.Errorf("%d %s", code, text)
	}
}

func TestEvent(t *testing.T) {
	e := &Events{Get: func() ([]byte, uint64, bool) { return []byte("a\nb"), 7, true }}
	if got := string(e.event()); got != "id: 7\nevent: state\ndata: a\ndata: b\n\n" {
		t.Errorf("%q", got)
	}
}
