package mysql

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	gomysql "github.com/go-mysql-org/go-mysql/mysql"

	"tcpcopy/internal/proto"
)

func TestProofs(t *testing.T) {
	for _, password := range []string{"", "secret", "pässwörd with spaces"} {
		if got, want := scrambleNative(password, []byte(salt)),
			gomysql.CalcPassword([]byte(salt), []byte(password)); !bytes.Equal(got, want) {
			t.Errorf("%s of %q: %x, want %x", nativePlugin, password, got, want)
		}
		if got, want := scrambleSHA2(password, []byte(salt)),
			gomysql.CalcCachingSha2Password([]byte(salt), password); !bytes.Equal(got, want) {
			t.Errorf("%s of %q: %x, want %x", sha2Plugin, password, got, want)
		}
		want, err := gomysql.CalcEd25519Password([]byte(salt), password)
		if got := signEd25519(password, []byte(salt)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s of %q: %x, want %x", ed25519Plugin, password, got, want)
		}
	}
}

// The signature with a password of 32 bytes is that of the Ed25519 key with this seed (RFC 8032).
func TestEd25519IsRFC8032(t *testing.T) {
	seed := "0123456789abcdef0123456789abcdef"
	key := ed25519.NewKeyFromSeed([]byte(seed))
	if got, want := signEd25519(seed, []byte(salt)), ed25519.Sign(key,
		[]byte(salt)); !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

// The server's key, and the copy's answers.
var (
	serverKey, publicKey = newServerKey()
	nativeProof          = string(scrambleNative("secret", []byte(salt)))
	sha2Proof            = string(scrambleSHA2("secret", []byte(salt)))
)

const (
	loginCaps = mysqlCaps &^ capConnectAttrs &^ capAttributes
	otherSalt = "ABCDEFGHIJKLMNOPQRST"
)

func newServerKey() (key *rsa.PrivateKey, public []byte) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		panic(err)
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func loginResponse(caps, ext uint32, charset int, proof, db, plugin string) []byte {
	return packet(1, caps, uint32(maxPayload), charset, string(make([]byte, 19)), ext, "app",
		0, len(proof), proof, db, 0, plugin, 0)
}

var loginTests = []struct {
	name   string
	client []byte // its answer to production's greeting
	target [][]byte
	to     [][]byte
	log    string
	last   bool // the last of to is an encrypted password
}{
	{"at once", answerOf(loginCaps, 0, "app", "orders"),
		[][]byte{hail("8.0.36", mysqlCaps, 0, nativePlugin), okay(2)},
		[][]byte{loginResponse(loginCaps, 0, 33, nativeProof, "orders", nativePlugin)},
		"0xb hint 0x0 reply 0", false},
	{"another plugin", answerOf(loginCaps, 0, "app", "orders"),
		[][]byte{hail("8.0.36", mysqlCaps, 0, nativePlugin),
			packet(2, 0xfe, sha2Plugin, 0, otherSalt, 0), packet(4, 1, 3), okay(5)},
		[][]byte{loginResponse(loginCaps, 0, 33, nativeProof, "orders", nativePlugin),
			packet(3, scrambleSHA2("secret", []byte(otherSalt)))},
		"0xb hint 0x0 reply 0", false},
	{"a plugin that is not known, then one that is", answerOf(loginCaps, 0, "app", "orders"),
		[][]byte{hail("8.0.36", mysqlCaps, 0, "sha256_password"),
			packet(2, 0xfe, ed25519Plugin, 0, salt+"uvwxyz012345"), okay(4)},
		[][]byte{loginResponse(loginCaps, 0, 33, nativeProof, "orders", nativePlugin),
			packet(3, signEd25519("secret", []byte(salt+"uvwxyz012345")))},
		"0xb hint 0x0 reply 0", false},
	{"a challenge that ends with a zero", answerOf(loginCaps, 0, "app", "orders"),
		[][]byte{hail("8.0.36", mysqlCaps, 0, nativePlugin),
			packet(2, 0xfe, ed25519Plugin, 0, salt+"uvwxyz01234", 0), okay(4)},
		[][]byte{loginResponse(loginCaps, 0, 33, nativeProof, "orders", nativePlugin),
			packet(3, signEd25519("secret", []byte(salt+"uvwxyz01234\x00")))},
		"0xb hint 0x0 reply 0", false},
	{"caching_sha2_password, all of it", answerOf(loginCaps, 0, "app", "orders"),
		[][]byte{hail("8.0.36", mysqlCaps, 0, sha2Plugin), packet(2, 1, 4),
			packet(4, 1, publicKey), okay(6)},
		[][]byte{loginResponse(loginCaps, 0, 33, sha2Proof, "orders", sha2Plugin), packet(3, 2)},
		"0xb hint 0x0 reply 0", true},
	{"only what both can", answerOf(loginCaps|capODBC, 0, "app", "orders"),
		[][]byte{hail("5.6", mysqlCaps&^capDeprecateEOF&^capSessionTrack, 0, nativePlugin),
			okay(2)},
		[][]byte{loginResponse(loginCaps&^capDeprecateEOF&^capSessionTrack|capODBC, 0, 33,
			nativeProof,
			"orders", nativePlugin)}, "0xb hint 0x0 reply 0", false},
	{"MariaDB's own", answerOf(loginCaps&^capLongPassword, 0xff, "app", "orders"),
		[][]byte{hail("11", mariadbCaps, 0x1d, nativePlugin), okay(2)},
		[][]byte{loginResponse(loginCaps&^capLongPassword, 0x1d, 33, nativeProof, "orders",
			nativePlugin)},
		"0xb hint 0x0 reply 0", false},
	{"refused", answerOf(loginCaps, 0, "app", "orders"),
		[][]byte{hail("8.0.36", mysqlCaps, 0, nativePlugin), denied},
		[][]byte{loginResponse(loginCaps, 0, 33, nativeProof, "orders", nativePlugin)},
		"login_failed: the target answered with error 1045", false},
	{"no room", answerOf(loginCaps, 0, "app", "orders"),
		[][]byte{packet(0, 0xff, uint16(1040), "Too many connections")}, nil,
		"login_failed: the target answered with error 1040", false},
	{"a plugin that is not known", answerOf(loginCaps, 0, "app", "orders"),
		[][]byte{hail("8.0.36", mysqlCaps, 0, nativePlugin), packet(2, 0xfe, "dialog", 0)},
		[][]byte{loginResponse(loginCaps, 0, 33, nativeProof, "orders", nativePlugin)},
		"login_failed",
		false},
	{"a password in clear text is not given", answerOf(loginCaps, 0, "app", "orders"),
		[][]byte{hail("8.0.36", mysqlCaps, 0, nativePlugin),
			packet(2, 0xfe, "mysql_clear_password", 0)},
		[][]byte{loginResponse(loginCaps, 0, 33, nativeProof, "orders", nativePlugin)},
		"login_failed",
		false},
	{"a user without a login", answerOf(loginCaps, 0, "root", "orders"),
		[][]byte{hail("8.0.36", mysqlCaps, 0, nativePlugin)}, nil, "no_login", false},
	{"encrypted", packet(1, uint32(loginCaps|capSSL), uint32(1<<24), 33, string(make([]byte, 23))),
		nil, nil, "tls", false},
	{"compressed", answerOf(loginCaps|capCompress, 0, "app", "orders"), nil, nil, "compressed",
		false},
	{"of another time", packet(1, uint32(capLongPassword), string(make([]byte, 40))), nil, nil,
		"lost", false},
	{"cut short", packet(1, uint32(loginCaps), string(make([]byte, 28)), "app"), nil, nil, "lost",
		false},
	{"a user without end", answerOf(loginCaps, 0, strings.Repeat("u", nameMost+1), "orders"), nil,
		nil, "lost", false},
	{"a schema without end", answerOf(loginCaps, 0, "app", strings.Repeat("o", nameMost+1)), nil,
		nil, "lost", false},
	{"not a login", packet(0, comQuery, "SELECT 1"), nil, nil, "lost", false},
}

func TestLogin(t *testing.T) {
	for _, c := range loginTests {
		t.Run(c.name, func(t *testing.T) {
			for cut := range len(c.client) {
				r := newRig(oneUser, false)
				greetingFirst := cut%2 == 0 && len(c.target) > 0
				if greetingFirst {
					r.hear(0, c.target[0])
				}
				r.say(80, c.client[:cut])
				r.say(80, c.client[cut:])
				for i, p := range c.target {
					if i > 0 || !greetingFirst {
						at := min(cut, len(p))
						r.hear(80, p[:at])
						r.hear(80, p[at:])
					}
				}
				want := join(c.to...)
				got := r.to
				if c.last {
					if len(got) < len(want) {
						t.Fatalf("cut at %d: %q", cut, got)
					}
					checkEncrypted(t, serverKey, got[len(want):])
					got = got[:len(want)]
				}
				log := r.told()
				if i := bytes.Index([]byte(log), []byte(" at ")); i >= 0 {
					log = log[:i]
				}
				if log != c.log || !bytes.Equal(got, want) {
					t.Fatalf("cut at %d:\n%q %s\nwant\n%q %s", cut, got, log, want, c.log)
				}
			}
		})
	}
}

// A refused login is final, or may succeed at the client's next turn.
func TestRefusedLogins(t *testing.T) {
	for _, c := range []struct {
		name  string
		code  uint16
		final bool
	}{
		{"access denied", 1045, true},
		{"no access to the schema", 1044, true},
		{"no such schema", 1049, true},
		{"the host is not allowed", 1130, true},
		{"no old clients", 1251, true},
		{"no such plugin", 1524, true},
		{"access denied by the plugin", 1698, true},
		{"the password has expired", 1862, true},
		{"the account is locked", 3118, true},
		{"the account is locked, MariaDB", 4151, true},
		{"encryption is wanted", 3159, true},
		{"too many connections", 1040, false},
		{"the host is blocked", 1129, false},
		{"too many of the user's", 1203, false},
		{"a limit of the user's", 1226, false},
		{"the server shuts down", 1053, false},
	} {
		for _, atOnce := range []bool{true, false} {
			r := newRig(oneUser, false)
			if atOnce { // in the place of a greeting
				r.hear(0, packet(0, 0xff, c.code, "Host '10.0.0.1' is what it is"))
			} else {
				r.say(80, answerOf(mysqlCaps, 0, "app", "orders"))
				r.hear(80, hail("8.0.36", mysqlCaps, 0, nativePlugin))
				r.hear(80, packet(2, 0xff, c.code, "#28000and so on"))
			}
			var refusal *proto.Refusal
			if !errors.As(r.err, &refusal) || refusal.Reason != loginFailed ||
				refusal.Code != c.code || refusal.Final != c.final {
				t.Fatalf("%s, at once %v: %+v", c.name, atOnce, r.err)
			}
			class := "another error"
			if slices.Contains([]uint16{1040, 1044, 1045, 1049, 1129, 1130, 3159}, c.code) {
				class = fmt.Sprintf("error %d", c.code)
			}
			if got := refusal.Class.String(); got != class {
				t.Errorf("%s, at once %v: counted as %q, want %q", c.name, atOnce, got, class)
			}
		}
	}
}

func checkEncrypted(t *testing.T, key *rsa.PrivateKey, p []byte) {
	t.Helper()
	if len(p) != headerLen+key.Size() || p[3] != 5 {
		t.Fatalf("encrypted password %q", p)
	}
	plain, err := rsa.DecryptOAEP(sha1.New(), nil, key, p[headerLen:], nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := xor(plain, []byte(salt)); string(got) != "secret\x00" {
		t.Fatalf("password %q", got)
	}
}

// Nothing of the client's own login is sent to the target, however many packets it takes.
func TestClientsDialogue(t *testing.T) {
	r := loggedIn(t, oneUser, mysqlCaps&^capAttributes, mysqlCaps)
	said := join(packet(3, 2), packet(5, string(make([]byte, 256))), query("SELECT 1"),
		query("SELECT 2"))
	for i := range said {
		r.say(200, said[i:i+1])
	}
	if want := join(query("SELECT 1"), query("SELECT 2")); r.err != nil ||
		!bytes.Equal(r.to, want) || r.taken != len(r.record) {
		t.Errorf("%q, %v; %d of %d taken", r.to, r.err, r.taken, len(r.record))
	}
}

// A connection found under way logs in as the first user, with its database.
func TestAdopted(t *testing.T) {
	r := newRig(oneUser, true)
	q := query("SELECT 1")
	r.say(5000, q[:3])
	r.say(5000, q[3:])
	r.hear(5000, hail("8.0.36", mysqlCaps, 0, nativePlugin))
	if r.err != nil || !r.client.Holds() || !bytes.Contains(r.to, []byte("app\x00")) ||
		!bytes.Contains(r.to, []byte("shop\x00")) {
		t.Fatalf("%q, %v, holds %v", r.to, r.err, r.client.Holds())
	}
	r.to = nil
	r.hear(5000, okay(2))
	r.say(6000, packet(0, comExecute, uint32(4), 0, uint32(1)))
	r.say(7000, packet(0, comPrepare, "SELECT 1"))
	r.client.Server(7000, prepared(1, 40, 0, 0))
	r.hear(7000, prepared(1, 1, 0, 0))
	r.say(8000, packet(0, comExecute, uint32(40), 0, uint32(1)))
	want := join(q, packet(0, comPrepare, "SELECT 1"), packet(0, comExecute, uint32(1), 0,
		uint32(1)))
	if r.err != nil || !bytes.Equal(r.to, want) {
		t.Errorf("%q, %v; want %q", r.to, r.err, want)
	}
}

// A client whose login was not captured may execute in bulk, if the target can.
func TestAdoptedBulk(t *testing.T) {
	prepare, bulk := packet(0, comPrepare, "INSERT INTO t VALUES (?)"),
		packet(0, comBulkExecute, uint32(1<<31), uint16(0x80), 8, 0, 0, "12345678")
	for _, c := range []struct {
		name      string
		caps, ext uint32
		log       string
	}{
		{"MariaDB", mariadbCaps, extBulk | extProgress | extCacheMetadata, ""},
		{"an older MariaDB", mariadbCaps, 0, "left server_command; refused server_command"},
		{"MySQL", mysqlCaps, 0, "left server_command; refused server_command"},
	} {
		r := newRig(oneUser, true)
		r.say(5000, query("SELECT 1"))
		r.hear(5000, hail("11", c.caps, c.ext, nativePlugin))
		var ext uint32
		if at := headerLen + 28; len(r.to) > at+4 {
			ext = binary.LittleEndian.Uint32(r.to[at:])
		}
		r.hear(5000, okay(2))
		r.say(6000, prepare)
		r.hear(6000, join(prepared(1, 3, 0, 1), column(2)))
		r.to, r.log = nil, nil
		r.say(7000, bulk)
		var want []byte
		if c.log == "" {
			want = append([]byte(nil), bulk...)
			binary.LittleEndian.PutUint32(want[headerLen+1:], 3)
		}
		if got := r.told(); !bytes.Equal(r.to, want) || c.log != "" && got != c.log ||
			ext != c.ext&extBulk {
			t.Errorf("%s: %q %s, capabilities %#x; want %q %s", c.name, r.to, got, ext, want,
				c.log)
		}
	}
}

// A copy that begins again uses the client's database.
func TestAgain(t *testing.T) {
	for _, say := range [][]byte{query("use `Ware``house`"), query(" USE Warehouse ;"),
		packet(0, comInitDB, "Warehouse"),
		query("USE a; USE Warehouse; USE ``; USE " + strings.Repeat("x", 65) + "; SELECT 1"),
		packet(0, comInitDB, "Warehouse")} {
		for cut := range say {
			r := loggedIn(t, oneUser, mysqlCaps&^capAttributes, mysqlCaps)
			r.say(200, say[:cut])
			r.say(200, say[cut:])
			if got := r.client.who.db; got != "Ware`house" && got != "Warehouse" {
				t.Fatalf("%q: schema %q", say, got)
			}
			r.out.Reset()
			r.err = r.client.Begin(true, &r.out)
			r.to = nil
			r.say(300, query("SELECT 1"))
			r.hear(300, hail("8.0.36", mysqlCaps, 0, nativePlugin))
			if r.err != nil || !bytes.Contains(r.to, []byte("Ware")) ||
				!bytes.Contains(r.to, []byte("_os\x03BSD")) {
				t.Fatalf("%q, %v", r.to, r.err)
			}
		}
	}
}

func TestChangeUser(t *testing.T) {
	o := Settings{Logins: []Login{{User: "app", Password: "secret"},
		{User: "batch", Password: "other"}}}
	say := packet(0, comChangeUser, "batch", 0, 20, salt, "night", 0, uint16(45), nativePlugin, 0,
		8, 3, "_os", 3, "BSD")
	for cut := range say {
		r := loggedIn(t, o, mysqlCaps&^capAttributes, mysqlCaps)
		r.say(200, say[:cut])
		r.say(200, join(say[cut:], packet(2, "its own proof"), query("SELECT 1")))
		if !r.client.Holds() {
			t.Fatal("does not wait for the target")
		}
		r.hear(200, packet(1, 0xfe, nativePlugin, 0, salt, 0))
		r.hear(200, okay(3))
		want := join(packet(0, comChangeUser, "batch", 0, 0, "night", 0, uint16(45), "none", 0, 8,
			3, "_os", 3, "BSD"),
			packet(2, scrambleNative("other", []byte(salt))), query("SELECT 1"))
		if r.err != nil || !bytes.Equal(r.to, want) || r.taken != len(r.record) {
			t.Fatalf("cut at %d: %q, %v; want %q", cut, r.to, r.err, want)
		}
	}
	r := loggedIn(t, oneUser, mysqlCaps&^capAttributes, mysqlCaps)
	if r.say(200, say); r.told() != "no_login" {
		t.Errorf("a user without a login: %s", r.told())
	}
}

func TestRecognise(t *testing.T) {
	login := answerOf(mysqlCaps, 0, "app", "orders")
	hello := hail("5.5.5-10.11.19-MariaDB-0+deb12u1-log", mysqlCaps, 0, nativePlugin)
	for _, c := range []struct {
		name           string
		client, server string
		want           proto.Verdict
	}{
		{"nothing yet", "", "", proto.Unsure},
		{"a greeting alone", "", string(hello[:48]), proto.Unsure},
		{"a login", string(login), string(hello[:48]), proto.Yes},
		{"a login alone", string(login), "", proto.Yes},
		{"half a login", string(login[:20]), string(hello[:48]), proto.Unsure},
		{"a request for encryption", string(login[:36]), string(hello[:48]), proto.Yes},
		{"a query under way", string(query("SELECT 1")), "", proto.Yes},
		{"a query that is not whole", string(query("SELECT 1")[:9]), "", proto.No},
		{"another command under way", string(packet(0, comPing)), "", proto.No},
		{"HTTP", "GET / HTTP/1.1\r\n", "", proto.No},
		{"Redis", "*1\r\n$4\r\nPING\r\n", "", proto.No},
		{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "", proto.No},
		{"SSH", "SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0-OpenSSH_9.6\r\n", proto.No},
		{"SMTP", "", "220 mail ESMTP\r\n", proto.No},
		{"PostgreSQL", "\x00\x00\x00\x08\x04\xd2\x16\x2f", "", proto.No},
		{"a login of another protocol's length", "\x40\x00\x00\x01" +
			string(bytes.Repeat([]byte{'x'}, 60)), "", proto.No},
	} {
		if got := Recognise([]byte(c.client), []byte(c.server)); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}
