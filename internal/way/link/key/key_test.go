package key

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func mustParse(t testing.TB, text string) Key {
	t.Helper()
	k, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestParse(t *testing.T) {
	good := Generate()
	if good == Generate() {
		t.Fatal("two keys are equal")
	}
	for _, tc := range []struct {
		name, text, want string
	}{
		{"as generated", good, ""},
		{"white space around", "\n  " + good + "\r\n", ""},
		{"empty", " \n", "empty"},
		{"no prefix", good[len(prefix):], `does not begin with "tcpcopy-key-1:"`},
		{"later version", "tcpcopy-key-2:" + good[len(prefix):],
			`does not begin with "tcpcopy-key-1:"`},
		{"not base64", prefix + "!!!!", "not base64"},
		{"too short", prefix + "AAAA", "3 bytes"},
		{"something after it", good + " x", "not base64"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse(tc.text)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("error %v, want none", err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error %v, want %q in it", err, tc.want)
			case err != nil && strings.Contains(err.Error(), good[len(prefix):]):
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

func TestKeyDoesNotPrintItself(t *testing.T) {
	k := mustParse(t, Generate())
	for _, s := range []string{fmt.Sprint(k), fmt.Sprintf("%v %+v %#v %s", k, k, k, k)} {
		if strings.Contains(s, fmt.Sprint(k.secret[0])+" ") || strings.Contains(s, "[") {
			t.Errorf("prints %q", s)
		}
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	text := Generate()
	write := func(name, text string, mode os.FileMode) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil {
			t.Fatal(err)
		}
		return p
	}
	private := write("private", text+"\n", 0o600)
	shared := write("shared", text+"\n", 0o640)
	broken := write("broken", "hello", 0o600)
	huge := write("huge", strings.Repeat(" ", maxFile+1), 0o600)
	for _, tc := range []struct {
		name, file, env   string
		wantErr, wantWarn string
		none              bool
	}{
		{name: "file", file: private},
		{name: "file that the group may read", file: shared, wantWarn: "mode 0640"},
		{name: "environment", env: text},
		{name: "file wins over environment", file: private, env: "broken"},
		{name: "neither", none: true, wantErr: "none given"},
		{name: "broken file", file: broken, wantErr: "broken\""},
		{name: "huge file", file: huge, wantErr: "more than 4096 bytes"},
		{name: "broken environment", env: "x", wantErr: "TCPCOPY_KEY"},
		{name: "no such file", file: filepath.Join(dir, "nothing"), wantErr: "no such file"},
		{name: "a directory", file: dir, wantErr: "is a directory"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Setenv(Env, tc.env)
			k, warn, err := Load(tc.file)
			if tc.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tc.wantErr) {
					t.Errorf("error %v, want %q in it", err, tc.wantErr)
				}
				if tc.none != errors.Is(err, ErrNone) {
					t.Errorf("ErrNone: %v, want %v", !tc.none, tc.none)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if k != mustParse(t, text) {
				t.Error("another key")
			}
			if (tc.wantWarn == "") != (warn == "") || !strings.Contains(warn, tc.wantWarn) {
				t.Errorf("warning %q, want %q in it", warn, tc.wantWarn)
			}
		})
	}
}

// connected returns the two ends of a connection that buffers: on a net.Pipe two alerts that
// cross would wait for each other.
func connected(t *testing.T) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if b, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if a, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []net.Conn{a, b} {
		c.SetDeadline(time.Now().Add(10 * time.Second))
	}
	return a, b
}

// handshake runs both ends over a connection and returns their errors.
func handshake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	a, b := connected(t)
	done := make(chan error, 1)
	go func() {
		s := tls.Server(a, server)
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte("x"))
		}
		a.Close()
		done <- err
	}()
	c := tls.Client(b, client)
	clientErr = c.Handshake()
	if clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1)) // in TLS 1.3 the server's verdict comes after ours
	}
	b.Close()
	return <-done, clientErr
}

func TestHandshake(t *testing.T) {
	k, other := mustParse(t, Generate()), mustParse(t, Generate())
	trusting := func(k Key) *tls.Config { // a client that accepts any server
		c := ClientTLS(k)
		c.VerifyConnection = nil
		return c
	}
	_, foreign, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	forged := trusting(k)
	forged.Certificates = []tls.Certificate{{Certificate: [][]byte{certificate(copierLabel,
		foreign)}, PrivateKey: foreign}}
	stolen := trusting(k) // the right public certificate without its private key
	stolen.Certificates = []tls.Certificate{{Certificate: ClientTLS(k).Certificates[0].Certificate,
		PrivateKey: foreign}}
	none := trusting(k)
	none.Certificates = nil
	reflected := trusting(k) // shows the intercept's own certificate
	reflected.Certificates = ServerTLS(k).Certificates
	old := ClientTLS(k)
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for _, tc := range []struct {
		name           string
		server, client *tls.Config
		ok             bool
		serverWrong    bool // the server itself saw the wrong key
		clientWrong    bool
	}{
		{"same key", ServerTLS(k), ClientTLS(k), true, false, false},
		{"another key", ServerTLS(k), ClientTLS(other), false, false, true},
		{"another key, client does not look", ServerTLS(k), trusting(other), false, true, false},
		{"forged certificate", ServerTLS(k), forged, false, true, false},
		{"certificate without its key", ServerTLS(k), stolen, false, false, false},
		{"no certificate", ServerTLS(k), none, false, false, false},
		{"role turned round", ServerTLS(k), reflected, false, true, false},
		{"two copiers", ClientTLS(k), ClientTLS(k), false, true, true},
		{"TLS 1.2", ServerTLS(k), old, false, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, c := handshake(t, tc.server, tc.client)
			if (s == nil && c == nil) != tc.ok {
				t.Errorf("server %v, client %v, want success %v", s, c, tc.ok)
			}
			if !tc.ok && c == nil {
				t.Error("the client got in")
			}
			if errors.Is(s, ErrWrong) != tc.serverWrong ||
				errors.Is(c, ErrWrong) != tc.clientWrong {
				t.Errorf("server %v, client %v", s, c)
			}
		})
	}
}

func TestDerivationIsFixed(t *testing.T) {
	k := mustParse(t, prefix+"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	a, b := ServerTLS(k).Certificates[0].Certificate[0], ServerTLS(k).Certificates[0].Certificate[0]
	if !bytes.Equal(a, b) {
		t.Error("the certificate differs from one derivation to the next")
	}
	// Two versions of the program must agree on these for ever.
	for _, tc := range []struct{ label, want string }{
		{interceptLabel, "451d34985e9bef499f67e9c136a28b7fd2e07c3c1549caabc0c8b01b42c801dd"},
		{copierLabel, "72b0f882e88e3e3c43f732766b421a5cb8fc2cd954b43c24e25752f071f1715a"},
	} {
		if got := fmt.Sprintf("%x", k.private(tc.label).Public()); got != tc.want {
			t.Errorf("%s: public key %s, want %s", tc.label, got, tc.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Generate())
	f.Add(prefix)
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := Parse(text); err == nil && k == (Key{}) &&
			!strings.Contains(text, "AAAAAAAA") {
			t.Error("accepted as the zero key")
		}
	})
}
