package e2e

import (
	le "encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"

	mysqlclient "github.com/go-mysql-org/go-mysql/client"
	"github.com/go-mysql-org/go-mysql/mysql"
)

// Both servers have the schema other, whose answers differ: the target's are longer, have other
// columns, more results or fewer, or are errors.
const (
	otherProduction = `CREATE DATABASE other; USE other;
		CREATE TABLE words (w VARCHAR(10)); INSERT INTO words VALUES ('a'), ('b'), (NULL);
		CREATE TABLE gone (a INT); INSERT INTO gone VALUES (1);
		CREATE TABLE empty SELECT * FROM words;
		CREATE PROCEDURE many() SELECT 1;
		CREATE PROCEDURE none() SELECT w FROM words;
		CREATE FUNCTION slow() RETURNS INT RETURN 0`
	otherTarget = `CREATE DATABASE other; USE other;
		CREATE TABLE words (n INT AUTO_INCREMENT PRIMARY KEY, w VARCHAR(300),
			more DATETIME DEFAULT NOW());
		INSERT INTO words (w) SELECT REPEAT('x', 150 + seq % 150) FROM seq_1_to_400;
		CREATE TABLE empty (a INT, b INT);
		CREATE PROCEDURE many() BEGIN SELECT w FROM words; SELECT 1;
			SELECT n, w FROM words LIMIT 3; END;
		CREATE PROCEDURE none() SET @a = 1;
		CREATE FUNCTION slow() RETURNS INT RETURN SLEEP(0.005)`
)

// ask sends a command that go-mysql has no name for, and hands each packet of the answer to a
// function until that says that it was the last.
func (s *stand) ask(c *mysqlclient.Conn, command string, last func(p []byte) bool) {
	s.t.Helper()
	c.ResetSequence()
	if err := c.WritePacket(append(make([]byte, 4), command...)); err != nil {
		s.t.Fatal(err)
	}
	for {
		p, err := c.ReadPacket()
		if err != nil {
			s.t.Fatal(err)
		}
		if p[0] == mysql.ERR_HEADER {
			s.t.Fatalf("%q: %q", command, p)
		}
		if last(p) {
			return
		}
	}
}

// isEOF reports whether a packet is an EOF, and what the server's status in it is.
func isEOF(p []byte) (status uint16, ok bool) {
	if p[0] != mysql.EOF_HEADER || len(p) != 5 {
		return 0, false
	}
	return le.LittleEndian.Uint16(p[3:]), true
}

// fetch reads a statement's rows by a cursor, two at a time, and returns how often it asked.
func (s *stand) fetch(c *mysqlclient.Conn, text string) (asked int) {
	s.t.Helper()
	var id string
	s.ask(c, string(rune(mysql.COM_STMT_PREPARE))+text, func(p []byte) bool {
		if id == "" {
			id = string(p[1:5])
		}
		_, ok := isEOF(p)
		return ok // it has columns, and takes no parameters
	})
	s.ask(c, string(rune(mysql.COM_STMT_EXECUTE))+id+"\x01\x01\x00\x00\x00", func(p []byte) bool {
		status, ok := isEOF(p)
		if ok && status&mysql.SERVER_STATUS_CURSOR_EXISTS == 0 {
			s.t.Errorf("no cursor: status %#x", status)
		}
		return ok
	})
	for done := false; !done && asked < 1000; asked++ {
		s.ask(c, string(rune(mysql.COM_STMT_FETCH))+id+"\x02\x00\x00\x00", func(p []byte) bool {
			status, ok := isEOF(p)
			done = ok && status&mysql.SERVER_STATUS_LAST_ROW_SEND != 0
			return ok
		})
	}
	return asked
}

// otherLoad asks for what the target answers otherwise, and notes in a table of its own that it
// has.
func (s *stand) otherLoad(schema string, times int) {
	c := s.mysqlDial(schema, func(c *mysqlclient.Conn) error {
		c.SetCapability(mysql.CLIENT_MULTI_STATEMENTS | mysql.CLIENT_MULTI_RESULTS)
		return nil
	})
	defer c.Close()
	do := func(text string, args ...any) {
		if _, err := c.Execute(text, args...); err != nil {
			s.t.Errorf("%s: %v", text, err)
		}
	}
	many := func(text string) {
		_, err := c.ExecuteMultiple(text, func(_ *mysql.Result, err error) {
			if err != nil {
				s.t.Errorf("%s: %v", text, err)
			}
		})
		if err != nil {
			s.t.Errorf("%s: %v", text, err)
		}
	}
	do("CREATE TABLE noted (n INT, t TEXT)")
	words, err := c.Prepare("SELECT * FROM other.words")
	if err != nil {
		s.t.Error(err)
		return
	}
	for i := range times {
		do("SELECT * FROM other.words")
		do("INSERT INTO noted VALUES (?, ?)", i, "longer")
		do("SELECT * FROM other.gone")
		do("SELECT * FROM other.gone WHERE a = ?", i)
		do("INSERT INTO noted VALUES (?, ?)", i, "an error")
		do("SELECT * FROM other.empty")
		do("SELECT other.slow()")
		if _, err := words.Execute(); err != nil {
			s.t.Error(err)
		}
		many("SELECT w FROM other.words; INSERT INTO noted VALUES (0, 'several'); SELECT * FROM " +
			"other.words")
		many("CALL other.many()")
		many("CALL other.none()")
		do(fmt.Sprintf("INSERT INTO noted VALUES (%d, 'results')", i))
		if i%10 == 0 {
			if n := s.fetch(c, "SELECT w FROM other.words"); n < 2 {
				s.t.Errorf("a cursor was asked %d times", n)
			}
		}
	}
	do("CREATE TABLE done (n INT)")
}

// TestMySQLOtherAnswers copies to a target that answers otherwise than production. It must receive
// the same commands, each after the answer to the one before.
func TestMySQLOtherAnswers(t *testing.T) {
	t.Parallel()
	someWays(t, only(raw), func(t *testing.T, way string) {
		t.Parallel()
		s := newStand(t, setting{way: way})
		production := startMariaDB(t, s.net.Production, mysqlProduction,
			"BY '"+productionPassword+"'")
		target := startMariaDB(t, s.net.Target, mysqlTarget, "BY '"+targetPassword+"'")
		production.query(delimited(otherProduction))
		target.query(delimited(otherTarget))
		const times, each = 30, 14 // commands, and more
		watched := s.watchSQL(mysqlTarget)
		c := s.copy("-x", s.mapping(mysqlProduction, mysqlTarget), "--mysql-login",
			"app:"+targetPassword+"@")
		var all sync.WaitGroup
		for _, schema := range []string{"a", "b", "c"} {
			all.Go(func() { s.otherLoad(schema, times) })
		}
		all.Wait()
		want := production.checksums()
		eventually(t, "the same tables", func() bool { return target.checksums() == want })
		r := c.end()
		if strings.Count(want, "noted") != 3 || strings.Count(want, "done") != 3 {
			t.Errorf("production has\n%s", want)
		}
		// What the target would not prepare is not executed there, and not closed.
		if r.Sessions.Delivered != 3 || len(r.Protocol.Dropped) != 1 ||
			r.Protocol.Dropped["unknown_statement"] != 3*2*times || r.Protocol.Lost > 0 ||
			r.Protocol.Failed != 3*2*times || r.Gate.Quiet+r.Gate.Predicted+r.Gate.Forced > 0 {
			t.Errorf("sessions %+v, protocol %+v, gate %+v: wanted all answers known", r.Sessions,
				r.Protocol, r.Gate)
		}
		watched.inOrder(3, 3*times*each)
		if way != socket {
			return
		}
		// The judge can say otherwise: of a copy that waits for nothing.
		watched = s.watchSQL(mysqlTarget)
		c = s.copy("-x", s.mapping(mysqlProduction, mysqlTarget), "--mysql-login",
			"app:"+targetPassword+"@", "--wait", "none")
		conn := s.mysqlDial("other")
		for range times {
			if _, err := conn.Execute("SELECT slow()"); err != nil {
				t.Error(err)
			}
		}
		conn.Execute("CREATE TABLE slowly (n INT)")
		eventually(t, "all commands",
			func() bool { return strings.Contains(target.query("SHOW TABLES IN other"), "slowly") })
		conn.Close()
		c.end()
		if all := watched.judge(); all.early == 0 || all.commands < times {
			t.Errorf("of a copy that does not wait: %+v", all)
		}
	})
}

// delimited has the client send a procedure's body as one statement.
func delimited(text string) string {
	if i, end := strings.Index(text, "CREATE PROCEDURE many() BEGIN"), strings.Index(text,
		"END;"); i >= 0 {
		text = text[:i] + "DELIMITER //\n" + text[i:end] + "END //\nDELIMITER ;\n" +
			text[end+len("END;"):]
	}
	return text
}
