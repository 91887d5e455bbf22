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
	"testing"

	"github.com/go-mysql-org/go-mysql/mysql"
	"github.com/go-mysql-org/go-mysql/server"

	"tcpcopy/internal/netlab"
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
	conf := server.NewServer("8.0.36", mysql.DEFAULT_COLLATION_ID, method, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), secret)
	l, err := host.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &sqlServer{t: t}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { s.talk(c, conf, password) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return s
}

func (s *sqlServer) talk(c net.Conn, conf *server.Server, password string) {
	defer c.Close()
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

// A target whose users log in with caching_sha2_password: all of it, with the server's key, the first time, and then
// by what the server remembers. Of what clients say, only reads go there.
func TestMySQLCachingSHA2(t *testing.T) {
	s := newStand(t, setting{way: socket})
	serveSQL(t, s.net.Online, "0.0.0.0:3306", mysql.AUTH_NATIVE_PASSWORD, onlinePassword)
	target := serveSQL(t, s.net.Target, "0.0.0.0:3307", mysql.AUTH_CACHING_SHA2_PASSWORD, targetPassword)
	c := s.copy("-x", s.mapping(mysqlOnline, mysqlTarget), "--mysql-login", "app:"+targetPassword+"@", "--mysql-read-only")
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
	if r.Sessions.Delivered != 2 || r.Protocol.Dropped["read_only"] != 2 || len(r.Protocol.Dropped) != 1 || len(r.Protocol.Refused) > 0 || r.Protocol.Lost > 0 {
		t.Errorf("sessions %+v, protocol %+v", r.Sessions, r.Protocol)
	}
}

// A login that the target refuses, and one that is not configured, end copies by name.
func TestMySQLLoginRefused(t *testing.T) {
	s := newStand(t, setting{way: socket})
	serveSQL(t, s.net.Online, "0.0.0.0:3306", mysql.AUTH_NATIVE_PASSWORD, onlinePassword)
	target := serveSQL(t, s.net.Target, "0.0.0.0:3307", mysql.AUTH_NATIVE_PASSWORD, targetPassword)
	for _, test := range []struct {
		reason string
		args   []string
	}{
		{"login_failed", []string{"--mysql-login", "app:wrong"}},
		{"no_login", []string{"--mysql-login", "other:x"}},
		{"no_login", nil}, // recognised
	} {
		c := s.copy(append([]string{"-x", s.mapping(mysqlOnline, mysqlTarget)}, test.args...)...)
		conn := s.mysqlDial("shop")
		for range 3 {
			if err := conn.Ping(); err != nil {
				t.Error(err)
			}
		}
		conn.Close()
		r := c.end()
		if r.Sessions.Dropped[test.reason] != 1 || test.reason == "login_failed" && r.Protocol.Refused["error 1045"] != 1 {
			t.Errorf("%v: sessions %+v, protocol %+v; wanted %s", test.args, r.Sessions, r.Protocol, test.reason)
		}
		if strings.Contains(c.output(), "wrong") {
			t.Errorf("the copier shows a password:\n%s", c.output())
		}
	}
	if got := target.statements(); got != "in shop" { // said before the password is looked at
		t.Errorf("the target was told %s", got)
	}
}
