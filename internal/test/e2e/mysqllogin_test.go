package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	mysqlclient "github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/server"

	"tcpcopy/internal/lab/netlab"
)

// sqlServer is a server of go-mysql's, which answers every statement with a row, and remembers it.
type sqlServer struct {
	server.EmptyHandler
	t testing.TB

	mu       sync.Mutex
	said     []string
	failures []error
}

// HandleQuery is of server.Handler.
func (s *sqlServer) HandleQuery(text string) (*mysql.Result, error) {
	s.mu.Lock()
	s.said = append(s.said, text)
	s.mu.Unlock()
	rows, err := mysql.BuildSimpleTextResultset([]string{"a"}, [][]any{{text}})
	if err != nil {
		return nil, err
	}
	return mysql.NewResult(rows), nil
}

// UseDB is of server.Handler.
func (s *sqlServer) UseDB(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.said = append(s.said, "in "+name)
	return nil
}

func (s *sqlServer) statements() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.said)
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// serveSQL starts a server on a host whose user app logs in by that method.
func serveSQL(t testing.TB, host *netlab.Namespace, address, method, password string) *sqlServer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	secret := &tls.Config{Certificates: []tls.Certificate{{PrivateKey: key}}}
	conf := server.NewServer("8.0.36", mysql.DEFAULT_COLLATION_ID, method,
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), secret)
	s := &sqlServer{t: t}
	accept(t, host, address, func(c net.Conn) { s.talk(c, conf, password) })
	return s
}

func (s *sqlServer) talk(c net.Conn, conf *server.Server, password string) {
	users := server.NewInMemoryProvider()
	users.AddUser("app", password)
	conn, err := conf.NewCustomizedConn(c, users, s)
	if err != nil {
		s.mu.Lock()
		s.failures = append(s.failures, err)
		s.mu.Unlock()
		return
	}
	for !conn.Closed() && conn.HandleCommand() == nil {
	}
}

// TestMySQLCachingSHA2 copies to a target whose users log in with caching_sha2_password: in full
// with the server's key, and then by what the server remembers. Only reads are copied.
func TestMySQLCachingSHA2(t *testing.T) {
	t.Parallel()
	someWays(t, only(socket), func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		serveSQL(t, s.net.Production, "0.0.0.0:3306", mysql.AUTH_NATIVE_PASSWORD,
			productionPassword)
		target := serveSQL(t, s.net.Target, "0.0.0.0:3307", mysql.AUTH_CACHING_SHA2_PASSWORD,
			targetPassword)
		watched := s.watchSQL(mysqlTarget)
		c := s.copy("-x", s.mapping(mysqlProduction, mysqlTarget), "--mysql-login",
			"app:"+targetPassword+"@", "--mysql-read-only")
		for _, text := range []string{"SELECT 1", "SELECT 2"} {
			conn := s.mysqlDial("shop")
			for _, text := range []string{text, "DELETE FROM t"} {
				if _, err := conn.Execute(text); err != nil {
					t.Error(err)
				}
			}
			if err := conn.Ping(); err != nil {
				t.Error(err)
			}
			conn.Close()
		}
		const want = "SELECT 1; SELECT 2; in shop; in shop"
		eventually(t, "the same statements", func() bool { return target.statements() == want })
		r := c.end()
		if r.Sessions.Delivered != 2 || r.Protocol.Dropped["read_only"] != 2 ||
			len(r.Protocol.Dropped) != 1 || len(r.Protocol.Refused) > 0 || r.Protocol.Lost > 0 {
			t.Errorf("sessions %+v, protocol %+v", r.Sessions, r.Protocol)
		}
		watched.inOrder(2, 4)
	})
}

// unwilling is a server that greets with an error, and how often it was asked.
type unwilling struct{ asked atomic.Int64 }

func refuseSQL(t testing.TB, host *netlab.Namespace, address string, code uint16,
	text string) *unwilling {
	t.Helper()
	u := new(unwilling)
	accept(t, host, address, func(c net.Conn) {
		u.asked.Add(1)
		c.Write(append([]byte{byte(3 + len(text)), 0, 0, 0, mysql.ERR_HEADER, byte(code),
			byte(code >> 8)}, text...))
	})
	return u
}

// rightLogin is a login that the target accepts.
const rightLogin = "app:" + targetPassword + "@"

// loginRefusals are logins that the target refuses.
var loginRefusals = []struct {
	name, reason, refused string
	port                  uint16
	login                 string // none: --proto auto recognises the protocol
	encrypted             bool
}{
	{"a wrong password", "login_failed", "error 1045", 3307, "app:sesame", false},
	{"another user", "no_login", "", 3307, "other:x", false},
	{"no login", "no_login", "", 3307, "", false},
	{"a full server", "login_failed", "error 1040", 3308, rightLogin, false},
	{"not from here", "login_failed", "error 1130", 3309, rightLogin, false},
	{"no server", "target_refused", "", 3310, rightLogin, false},
	{"encrypted", "tls", "", 3307, rightLogin, true},
}

// TestMySQLLoginRefused checks that a copy that cannot log in ends with the reason, and does not
// ask the target again and again.
func TestMySQLLoginRefused(t *testing.T) {
	t.Parallel()
	someWays(t, only(tunnel), func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		serveSQL(t, s.net.Production, "0.0.0.0:3306", mysql.AUTH_NATIVE_PASSWORD,
			productionPassword)
		target := serveSQL(t, s.net.Target, "0.0.0.0:3307", mysql.AUTH_NATIVE_PASSWORD,
			targetPassword)
		full := refuseSQL(t, s.net.Target, "0.0.0.0:3308", 1040, "Too many connections")
		shut := refuseSQL(t, s.net.Target, "0.0.0.0:3309", 1130,
			"Host '10.77.2.1' is not allowed to connect to this MySQL server")
		for _, test := range loginRefusals {
			args := []string{"-x", s.mapping(mysqlProduction, test.port)}
			if test.login != "" {
				args = append(args, "--mysql-login", test.login)
			}
			c := s.copy(append(args, "--stats", "100ms")...)
			sessions := uint64(1)
			if way == raw && test.login == "" {
				// A target is read from when the first of its connections has been recognised,
				// which may be too late for that one itself: it has been greeted.
				conn := s.mysqlDial("shop")
				if err := conn.Ping(); err != nil {
					t.Error(err)
				}
				conn.Close()
				eventually(t, "the first connection is recognised", func() bool {
					r := c.progress()
					return r != nil && len(r.Sessions.Dropped) > 0
				})
				sessions++
			}
			if test.encrypted {
				if _, err := s.mysqlTry("app", "shop", func(c *mysqlclient.Conn) error {
					c.UseSSL(true)
					return nil
				}); err == nil {
					t.Error("the server has no certificate, and encrypts")
				}
			} else {
				conn := s.mysqlDial("shop")
				for range 20 {
					if err := conn.Ping(); err != nil {
						t.Error(err)
					}
				}
				conn.Close()
			}
			r := c.end()
			if sessions > 1 && r.Sessions.Dropped["proto_lost"] == 1 {
				delete(r.Sessions.Dropped, "proto_lost")
				sessions--
			}
			if test.reason == "target_refused" {
				// Where nothing listens, a later turn of the connection tries again.
				sessions = max(sessions, r.Sessions.Captured)
			}
			if r.Sessions.Dropped[test.reason] != sessions || len(r.Sessions.Dropped) != 1 ||
				len(r.Protocol.Refused) > 1 || test.refused != "" &&
				r.Protocol.Refused[test.refused] != 1 {
				t.Errorf("%s: sessions %+v, protocol %+v; wanted %s", test.name, r.Sessions,
					r.Protocol, test.reason)
			}
			if strings.Contains(c.output(), "sesame") || strings.Contains(c.output(),
				targetPassword) {
				t.Errorf("%s: the copier shows a password:\n%s", test.name, c.output())
			}
		}
		// A turn a second later would try again, but where the target has said so for good.
		if full.asked.Load() > 2 || shut.asked.Load() != 1 {
			t.Errorf("targets that refuse were asked %d and %d times", full.asked.Load(),
				shut.asked.Load())
		}
		if got := target.statements(); got != "in shop" { // said before the password is looked at
			t.Errorf("the target was told %s", got)
		}
	})
}
