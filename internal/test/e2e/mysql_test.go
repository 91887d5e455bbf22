package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	mysqlclient "github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/lab/netlab"
)

// mysqlProduction and mysqlTarget are the ports of the two.
const (
	mysqlProduction = 3306
	mysqlTarget     = 3307
)

// The passwords of the user app: the target's is not production's.
const (
	productionPassword = "production"
	targetPassword     = "test:server"
	// of the user signer, who logs in there by client_ed25519, which the server has to ask for
	signersPassword = "home@test"
)

// mariadb is a server that is asked past the network.
type mariadb struct {
	*process
	host   *netlab.Namespace
	socket string
	data   string // its directory
}

// mariadbSmall has a server keep small files.
var mariadbSmall = []string{
	"--innodb-log-file-size=4M", "--innodb-data-file-path=ibdata1:2M:autoextend",
}

// mariadbEmpty is the directory of a server's data as it was installed. Each server copies it.
var mariadbEmpty = sync.OnceValues(func() (string, error) {
	data := filepath.Join(filepath.Dir(binary), "mariadb")
	install := append([]string{"--no-defaults", "--user=root", "--datadir=" + data,
		"--auth-root-authentication-method=socket", "--skip-test-db"}, mariadbSmall...)
	out, err := exec.Command("mariadb-install-db", install...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("mariadb-install-db: %w\n%s", err, out)
	}
	return data, err
})

// startMariaDB starts a server with data of its own and little memory, and a user app with a
// password.
func startMariaDB(t testing.TB, host *netlab.Namespace, port uint16, identified string) *mariadb {
	t.Helper()
	find(t, "mariadb-install-db")
	empty, err := mariadbEmpty()
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(data, os.DirFS(empty)); err != nil {
		t.Fatal(err)
	}
	m := &mariadb{host: host, data: data, socket: shortPath(t)}
	args := append([]string{
		"--no-defaults", "--user=root", "--datadir=" + data, "--socket=" + m.socket,
		fmt.Sprintf("--port=%d", port), "--bind-address=0.0.0.0",
		"--pid-file=" + filepath.Join(data, "pid"),
		"--innodb-buffer-pool-size=8M", "--innodb-flush-log-at-trx-commit=0",
		"--skip-log-bin", "--skip-name-resolve",
		"--key-buffer-size=1M", "--aria-pagecache-buffer-size=1M",
		"--plugin-load-add=auth_ed25519", "--plugin-load-add=sql_errlog",
		"--max-connections=100", "--max-allowed-packet=64M", "--innodb-log-file-size=64M",
	}, mariadbSmall...)
	m.process = start(t, host, "mariadbd", find(t, "mariadbd"), args...)
	m.awaitOutput("ready for connections")
	m.query("CREATE USER app@'%' IDENTIFIED " + identified +
		"; GRANT ALL ON *.* TO app@'%'; CREATE DATABASE a; CREATE DATABASE b; CREATE DATABASE c")
	return m
}

// query runs statements as root, and returns what they say.
func (m *mariadb) query(statements string) string {
	m.t.Helper()
	cmd := m.host.Command(context.Background(), find(m.t, "mariadb"), "--no-defaults", "-uroot",
		"-S"+m.socket, "-N", "-B", "-e", statements)
	out, err := cmd.CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", statements, err, out)
	}
	return strings.TrimSpace(string(out))
}

// checksums are those of all tables that clients have made.
func (m *mariadb) checksums() string {
	m.t.Helper()
	var all []string
	tables := m.query("SELECT CONCAT(table_schema, '.', table_name) FROM " +
		"information_schema.tables WHERE table_schema IN ('a', 'b', 'c', 'slap') ORDER BY 1")
	for table := range strings.FieldsSeq(tables) {
		sum, rows := m.query("CHECKSUM TABLE "+table), m.query("SELECT COUNT(*) FROM "+table)
		all = append(all, sum+" "+rows)
	}
	return strings.Join(all, "\n")
}

// mysqlClient runs a client's command.
func (s *stand) mysqlClient(name string, args ...string) {
	out, err := s.net.Client.Command(context.Background(), find(s.t, name),
		args...).CombinedOutput()
	if err != nil {
		s.t.Errorf("%s %q: %v\n%s", name, args, err, out)
	}
}

// sysbench runs one of sysbench's loads with one connection, whose data are of a schema of its own:
// between connections there is no order.
func (s *stand) sysbench(schema, load, prepared, phase string, events int) {
	s.mysqlClient("sysbench", load, "--db-driver=mysql", "--mysql-host="+s.production.String(),
		fmt.Sprintf("--mysql-port=%d", mysqlProduction),
		"--mysql-user=app", "--mysql-password="+productionPassword, "--mysql-db="+schema,
		"--mysql-ssl=off", "--db-ps-mode="+prepared,
		"--tables=2", "--table-size=500", "--threads=1", "--time=30", fmt.Sprintf("--events=%d",
			events), phase)
}

// mysqlLoads is what sysbench and mysqlslap do, once sysbench's tables are there.
func (s *stand) mysqlLoads(ready func()) {
	var all sync.WaitGroup
	bench := func(phase string, events int) {
		for _, l := range []struct{ schema, load, prepared string }{
			{"a", "oltp_read_write", "auto"}, {"b", "oltp_read_write", "disable"}, {"c",
				"oltp_write_only", "auto"},
		} {
			all.Go(func() { s.sysbench(l.schema, l.load, l.prepared, phase, events) })
		}
	}
	bench("prepare", 0)
	all.Wait()
	ready()
	bench("run", 100)
	all.Go(func() {
		s.mysqlClient("mysqlslap", "--no-defaults", "-h"+s.production.String(),
			fmt.Sprintf("-P%d", mysqlProduction), "-uapp", "-p"+productionPassword,
			"--auto-generate-sql", "--concurrency=4", "--number-of-queries=200",
			"--create-schema=slap", "--no-drop")
	})
	all.Wait()
}

// mariadbArgs are the command-line client's, for the user app of production.
func (s *stand) mariadbArgs(args ...string) []string {
	return append([]string{"--no-defaults", "-h" + s.production.String(),
		fmt.Sprintf("-P%d", mysqlProduction), "-uapp", "-p" + productionPassword}, args...)
}

// mysqlDial connects as the user app.
func (s *stand) mysqlDial(db string, options ...mysqlclient.Option) *mysqlclient.Conn {
	s.t.Helper()
	c, err := s.mysqlTry("app", db, options...)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// mysqlTry connects as a user.
func (s *stand) mysqlTry(user, db string, options ...mysqlclient.Option) (*mysqlclient.Conn,
	error) {
	return mysqlclient.ConnectWithDialer(s.t.Context(), "tcp", fmt.Sprintf("%s:%d", s.production,
		mysqlProduction), user, productionPassword, db,
		func(ctx context.Context, network, address string) (net.Conn, error) {
			return s.net.Client.Dial(ctx, &net.Dialer{Timeout: patience}, network, address)
		}, options...)
}

// changeUser has a connection log in again, as another user, which gives up its statements.
func (s *stand) changeUser(c *mysqlclient.Conn, user, db string) {
	s.t.Helper()
	packet := append(make([]byte, 4), mysql.COM_CHANGE_USER)
	packet = append(packet, user+"\x00\x00"+db+"\x00\x2d\x00no_plugin\x00\x00"...)
	c.ResetSequence()
	for {
		if err := c.WritePacket(packet); err != nil {
			s.t.Fatal(err)
		}
		answer, err := c.ReadPacket()
		if err != nil {
			s.t.Fatal(err)
		}
		plugin, salt, _ := bytes.Cut(answer[1:], []byte{0})
		switch {
		case answer[0] == mysql.OK_HEADER:
			return
		case answer[0] != mysql.EOF_HEADER || string(plugin) != mysql.AUTH_NATIVE_PASSWORD:
			s.t.Fatalf("change of the user: %q", answer)
		}
		packet = append(make([]byte, 4), mysql.CalcPassword(salt[:20],
			[]byte(productionPassword))...)
	}
}

// mysqlPair starts a server on production and one on the target, with other ways to log in.
func (s *stand) mysqlPair() (production, target *mariadb) {
	s.t.Helper()
	production = startMariaDB(s.t, s.net.Production, mysqlProduction,
		"BY '"+productionPassword+"'")
	target = startMariaDB(s.t, s.net.Target, mysqlTarget,
		"VIA mysql_native_password USING PASSWORD('"+targetPassword+"')")
	production.query("CREATE USER signer@'%' IDENTIFIED BY '" + productionPassword +
		"'; GRANT ALL ON *.* TO signer@'%'")
	target.query("CREATE USER signer@'%' IDENTIFIED VIA ed25519 USING PASSWORD('" +
		signersPassword + "'); GRANT ALL ON *.* TO signer@'%'")
	for _, m := range []*mariadb{production, target} {
		m.query("CREATE DATABASE other; CREATE TABLE other.busy (n INT); CREATE TABLE " +
			"other.loaded (n INT)")
	}
	return production, target
}

// mysqlFile loads a file of many packets, with a statement after it on the same connection, and
// sends a query on a compressed connection.
func (s *stand) mysqlFile() {
	s.t.Helper()
	file := s.file("numbers")
	if err := os.WriteFile(file, []byte(strings.Repeat("12345678901\n", 1<<18)),
		0o644); err != nil {
		s.t.Fatal(err)
	}
	s.mysqlClient("mariadb", s.mariadbArgs("--local-infile=1", "-e",
		"LOAD DATA LOCAL INFILE '"+file+"' IGNORE INTO TABLE other.loaded; CREATE TABLE "+
			"c.loaded (n INT)")...)
	s.mysqlClient("mariadb", s.mariadbArgs("--compress", "-e", "SELECT 1")...)
}

// sameTables waits until the target has production's tables, and returns their checksums. If it
// does not, what failed there is logged.
func sameTables(t *testing.T, production, target *mariadb) string {
	t.Helper()
	want := production.checksums()
	if !within(10*time.Second, func() bool { return target.checksums() == want }) {
		failed, _ := os.ReadFile(filepath.Join(target.data, "sql_errors.log"))
		t.Logf("statements that failed at the target:\n%.3000s", failed)
		t.Errorf("production has\n%s\nand the target\n%s", want, target.checksums())
	}
	return want
}

// checkMySQL checks what TestMySQL must have left on the servers, and in the account.
func checkMySQL(t *testing.T, production, target *mariadb, want string, r *export.Report) {
	t.Helper()
	for _, table := range []string{"slap.", "a.found", "b.changed", "b.big", "c.used",
		"c.signed", "c.loaded"} {
		if !strings.Contains(want, table) || strings.Count(want, "sbtest") != 6 {
			t.Errorf("production has no %s:\n%s", table, want)
		}
	}
	if got := target.query("SELECT GROUP_CONCAT(n ORDER BY n) FROM other.busy; SELECT " +
		"COUNT(*) FROM other.loaded"); got != "2\n0" {
		t.Errorf("of what had begun before, and of a file, the target has %q", got)
	}
	if got := production.query("SELECT COUNT(*) FROM other.loaded"); got != fmt.Sprint(1<<18) {
		t.Errorf("production has loaded %s lines", got)
	}
	if d := r.Protocol.Dropped; len(d) != 2 || d["unknown_statement"] != 2 ||
		d["load_data"] != 1 {
		t.Errorf("requests are left out: %v", d)
	}
	if r.Protocol.Lost > 0 || r.Gate.Quiet+r.Gate.Predicted+r.Gate.Forced > 0 ||
		r.Gate.Known == 0 {
		t.Errorf("protocol %+v, gate %+v: wanted all answers known", r.Protocol, r.Gate)
	}
	if d := r.Sessions.Dropped; len(d) != 1 || d["compressed"] != 1 || r.Adopted != 2 {
		t.Errorf("sessions %+v, %d adopted", r.Sessions, r.Adopted)
	}
}

// TestMySQL copies to a target with other passwords and other ways to log in. In the end it must
// have production's data, of new connections and of some that were found under way.
func TestMySQL(t *testing.T) {
	t.Parallel()
	someWays(t, only(raw), func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		production, target := s.mysqlPair()

		// Connections that the copier finds: one with a statement that it does not know, one within
		// a transaction.
		found, busy := s.mysqlDial("a"), s.mysqlDial("other")
		defer found.Close()
		defer busy.Close()
		old, err := found.Prepare("SELECT ?")
		if err != nil {
			t.Fatal(err)
		}
		do := func(c *mysqlclient.Conn, text string, args ...any) {
			t.Helper()
			if _, err := c.Execute(text, args...); err != nil {
				t.Errorf("%.50s: %v", text, err)
			}
		}
		do(busy, "BEGIN")
		do(busy, "INSERT INTO other.busy VALUES (1)")

		login := s.file("login")
		if err := os.WriteFile(login,
			[]byte("# of the test server\napp:"+targetPassword+"@a\r\n\nsigner:"+
				signersPassword+"@\r\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		watched := s.watchSQL(mysqlTarget)
		c := s.copy("-x", s.mapping(mysqlProduction, mysqlTarget), "--mysql-login-file", login,
			"--session-memory", "100MB")

		// A copy begins at a connection's second turn, logs in, and goes on, though that is to say
		// nothing.
		do(found, "SELECT 'not copied'")
		do(busy, "SELECT 'not copied'")
		for range 2 {
			if _, err := old.Execute("x"); err != nil {
				t.Error(err)
			}
		}
		do(busy, "INSERT INTO other.busy VALUES (2)")
		do(busy, "COMMIT")
		do(busy, "USE c")
		do(busy, "CREATE TABLE used (n INT)")

		s.mysqlLoads(func() {
			want := production.checksums()
			eventually(t, "the same tables", func() bool { return target.checksums() == want })
		})
		do(found, "CREATE TABLE found (a INT)")
		do(found, "INSERT INTO found VALUES (1), (2)")
		do(found, "INSERT INTO found SELECT ? + a FROM found", 7)
		s.changeUser(found, "signer", "b")
		do(found, "CREATE TABLE changed (a INT) SELECT ? AS a, CURRENT_USER() AS u", 7)
		signer, err := s.mysqlTry("signer", "c")
		if err != nil {
			t.Fatal(err)
		}
		defer signer.Close()
		do(signer, "CREATE TABLE signed SELECT CURRENT_USER() AS u")
		s.mysqlFile()
		// Statements, and an answer, of more than one packet.
		do(found, "CREATE TABLE big (t LONGTEXT)")
		do(found, "INSERT INTO big VALUES ('"+strings.Repeat("x", 17<<20)+"')")
		do(found, "SELECT t FROM big")
		do(found, "INSERT INTO big VALUES (?)", strings.Repeat("y", 16<<20))

		want := sameTables(t, production, target)
		checkMySQL(t, production, target, want, c.end())
		// the ones that were found, sysbench's, twice, mysqlslap's, signer's, and that with the
		// file
		watched.inOrder(2+3+3+4+2, 5000)
	})
}
