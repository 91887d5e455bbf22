package mysql

import (
	"testing"

	"tcpcopy/internal/core/ledger"
)

var mayPass = []string{
	"SELECT 1", "select * from t where a = 'x' and b in (1, 2)", "(SELECT 1) UNION ALL (SELECT 2)",
	"SELECT 1;", ";", "",
	"WITH x AS (SELECT 1) SELECT * FROM x", "VALUES ROW(1), ROW(2)", "TABLE t",
	"SELECT COUNT(*), MAX(a) FROM t GROUP BY b HAVING COUNT(*) > 1 ORDER BY 1 LIMIT 5 OFFSET 2",
	"SELECT `update` FROM `delete`", "SELECT 'it''s; DELETE FROM t'",
	`SELECT 'it\'s; DELETE FROM t'`, `SELECT "a'b", 'a"b'`,
	`SELECT "a\'b", 'a\"b', "a\\", 'it''s'`, `SELECT "a", ("b")`,
	"SELECT a INTO @x FROM t", "SELECT a FROM t INTO @x, @y", "SELECT @x := 5",
	"SELECT @@session.autocommit, @@global.max_connections",
	"SELECT /* DELETE */ 1 -- ; DROP TABLE t\n + 1 # more\n", "SELECT /*+ NO_INDEX_MERGE(t) */ 1",
	"SELECT /**/ 1", "SELECT 5--3", "SELECT 1 --",
	"SELECT /*!40001 SQL_NO_CACHE */ * FROM t", "SELECT /*! STRAIGHT_JOIN */ * FROM t",
	"SELECT CAST(a AS DECIMAL(10, 2)), REPLACE(a, 'x', 'y'), INSERT(a, 1, 2, 'z')",
	"SELECT SUBSTRING('abc' FROM 2 FOR 1)",
	"SELECT * FROM t FORCE INDEX FOR ORDER BY (i) WHERE a = 1", "SELECT * FROM t USE INDEX (i)",
	"SELECT ROW_NUMBER() OVER (PARTITION BY a ORDER BY b) FROM t",
	"SELECT DISTINCT a FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a)",
	"SHOW TABLES", "SHOW CREATE TABLE t", "SHOW GLOBAL STATUS LIKE 'x'", "SHOW FULL PROCESSLIST",
	"DESCRIBE t", "DESC t a", "EXPLAIN SELECT 1",
	"EXPLAIN UPDATE t SET a = 1", "EXPLAIN FORMAT=JSON DELETE FROM t",
	"EXPLAIN ANALYZE SELECT * FROM t",
	"SET NAMES utf8mb4", "SET autocommit=1",
	"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
	"SET @a = 1, @@session.sort_buffer_size = 100000",
	"SET character_set_results = NULL", "SET sql_mode='STRICT_TRANS_TABLES'",
	"SET sql_mode=CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES')",
	"USE shop", "BEGIN", "BEGIN WORK", "START TRANSACTION", "START TRANSACTION READ ONLY",
	"START TRANSACTION WITH CONSISTENT SNAPSHOT",
	"COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "SAVEPOINT a", "ROLLBACK TO SAVEPOINT a",
	"RELEASE SAVEPOINT a", "SELECT 1; SHOW TABLES; COMMIT",
	"SELECT N'a', _utf8'b', x'41', 0x41, 1.5e-3", "SELECT a.b.c FROM a.b", "SELECT 'Grüße'",
}

var mayNotPass = []string{
	"INSERT INTO t VALUES (1)", "UPDATE t SET a = 1", "DELETE FROM t", "REPLACE INTO t VALUES (1)",
	"DROP TABLE t", "CREATE TABLE t (a INT)",
	"TRUNCATE t", "ALTER TABLE t ADD a INT", "CALL p()", "DO SLEEP(1)",
	"LOAD DATA INFILE 'x' INTO TABLE t", "GRANT ALL ON *.* TO x", "FLUSH TABLES",
	"KILL 5", "SHUTDOWN", "HANDLER t OPEN", "LOCK TABLES t READ", "ANALYZE TABLE t",
	"OPTIMIZE TABLE t", "XA START 'x'", "PREPARE s FROM 'DELETE FROM t'",
	"EXECUTE s", "EXECUTE IMMEDIATE 'DELETE FROM t'", "SELECT * FROM t INTO OUTFILE '/tmp/x'",
	"SELECT * INTO DUMPFILE '/tmp/x' FROM t", "SELECT a INTO b FROM t",
	"SELECT * FROM t FOR UPDATE", "SELECT * FROM t FOR SHARE",
	"SELECT * FROM t LOCK IN SHARE MODE", "SELECT * FROM t FOR /* */ UPDATE",
	"SELECT SLEEP(5)", "SELECT sleep (5)", "SELECT GET_LOCK('a', 1)",
	"SELECT BENCHMARK(1000000, MD5('a'))", "SELECT LOAD_FILE('/etc/passwd')", "SELECT f(1)",
	"SELECT db.f(1)", "SELECT db . count (1)", "SELECT `f`(1)", "SELECT `db`.`f` (1)",
	"SELECT NEXT VALUE FOR s", "SELECT NEXTVAL(s)", "SELECT s.nextval",
	"WITH x AS (SELECT 1) DELETE FROM t", "WITH x AS (SELECT 1) UPDATE t SET a = 1",
	"EXPLAIN ANALYZE DELETE FROM t", "EXPLAIN ANALYZE UPDATE t SET a = 1",
	"EXPLAIN ANALYZE INSERT INTO t SELECT 1", "EXPLAIN SELECT f(1)",
	"EXPLAIN ANALYZE SELECT * FROM t FOR UPDATE",
	"SELECT 1; DELETE FROM t", "SELECT 1;;DELETE FROM t", "COMMIT; DROP TABLE t",
	"/* SELECT */ DELETE FROM t", "-- SELECT\nDELETE FROM t", "# SELECT\nDELETE FROM t",
	"/*!40000 DELETE FROM t */", "SELECT 1 /*!40000 ; DELETE FROM t */",
	"SELECT 1 /*!80000 ; DELETE FROM t */", "SELECT 1 /*!99999 ' */ ; DELETE FROM t -- ' */",
	"SELECT 1 /*M!100100 ; DELETE FROM t */", "SELECT 1 /*! /* */ ; DELETE FROM t */",
	"SELECT 1 /*!400000 */", "SELECT 1 /*!40 + 1 */",
	"SET GLOBAL x = 1", "SET @@global.x = 1", "SET @@GLOBAL . x = 1", "SET PERSIST x = 1",
	"SET PASSWORD = 'x'", "SET PASSWORD FOR a = 'x'", "SET STATEMENT a=1 FOR DELETE FROM t",
	"SET DEFAULT ROLE ALL TO a", "SET @a = f(1)", "SET @a = (SELECT b FROM t FOR UPDATE)",
	"SET sql_mode='NO_BACKSLASH_ESCAPES'", "SET @a = 'no_backslash_escapes'",
	"SET sql_mode=1048576", "SET sql_mode='ANSI', sql_mode='x,no_backSlash_escapes'",
	"START SLAVE", "START REPLICA", "START GROUP_REPLICATION", "START", "BEGIN NOT ATOMIC " +
		"DELETE FROM t; END", "SELECT 'unterminated", "SELECT `unterminated", "SELECT /* " +
		"unterminated",
	"SELECT \"unterminated", "SELECT 1\x00; DELETE FROM t", "SELECT '\x83\\'; DELETE FROM t -- '",
	"SELECT a FROM t PROCEDURE ANALYSE()", "1", "`SELECT`", "'SELECT'", "$$", "SELECTED",
	"SELECT 1 FROM t WHERE a = (DELETE FROM u)", `SELECT "a\"; DELETE FROM t -- "`,
	`SELECT "f"(1)`, `SELECT "db" . "f" (1)`,
}

func judgeText(p []byte, cuts ...int) ledger.Reason { return judged(true, p, cuts...) }

func judged(readOnly bool, p []byte, cuts ...int) ledger.Reason {
	var t text
	t.begin(readOnly, true)
	from := 0
	for _, to := range append(cuts, len(p)) {
		if why, sure := t.read(p[from:to]); sure {
			return why
		}
		from = to
	}
	return t.end()
}

func TestReadOnly(t *testing.T) {
	check := func(s string, want ledger.Reason) {
		for cut := range len(s) + 1 {
			if got := judgeText([]byte(s), cut); got != want {
				t.Errorf("%q cut at %d: %s, want %s", s, cut, got, want)
				return
			}
		}
	}
	for _, s := range mayPass {
		check(s, ledger.None)
	}
	for _, s := range mayNotPass {
		check(s, readOnly)
	}
}

// A statement that ends a connection, or loads a file, is found after any other statements.
func TestFirstWords(t *testing.T) {
	for _, s := range append(mayPass, "INSERT INTO t VALUES ('it''s', 'it\\'s;', \"KILL\", 5 - "+
		"-3 /* ; */ )", "UPDATE t SET a = '\\\\'", "SELECT 1 -- ;\n") {
		if got := judged(false, []byte(s)); got != ledger.None {
			t.Errorf("%q: %s", s, got)
		}
		for text, want := range map[string]ledger.Reason{"KILL 5": serverCommand,
			"/**/ shutdown": serverCommand, "Load\tDATA INFILE 'x'": loadData,
			"LOAD INDEX INTO CACHE t": ledger.None} {
			text = s + "\n;" + text
			for cut := range len(text) {
				if got := judged(false, []byte(text), cut); got != want {
					t.Fatalf("%q cut at %d: %s, want %s", text, cut, got, want)
				}
			}
		}
	}
}

// If a backslash is not an escape, a text ends elsewhere.
func TestNoBackslashEscapes(t *testing.T) {
	const s = `SELECT '\'; DELETE FROM t -- '`
	for _, noBackslash := range []bool{false, true} {
		var x text
		x.noBackslash = noBackslash
		x.begin(true, true)
		why, sure := x.read([]byte(s))
		if !sure {
			why = x.end()
		}
		if (why == readOnly) != noBackslash {
			t.Errorf("no backslash %v: %s", noBackslash, why)
		}
	}
}

// A statement that writes is found after any that reads, and with any comment around it.
func FuzzReadOnly(f *testing.F) {
	for _, s := range mayPass {
		f.Add([]byte(s), 3)
	}
	for _, s := range mayNotPass {
		f.Add([]byte(s), 7)
	}
	f.Fuzz(func(t *testing.T, p []byte, cut int) {
		var each []int
		for i := range p {
			each = append(each, i)
		}
		if whole, split := judged(false, p), judged(false, p, each...); whole != split {
			t.Errorf("byte by byte: %s, want %s", split, whole)
		}
		whole := judgeText(p)
		if cut > 0 && cut < len(p) {
			if got := judgeText(p, cut); got != whole {
				t.Errorf("cut at %d: %s, want %s", cut, got, whole)
			}
		}
		if whole != ledger.None {
			return
		}
		if got := judgeText(append(append([]byte(nil), p...),
			"\n; DELETE FROM t"...)); got != readOnly {
			t.Errorf("%q and a statement that writes: %s", p, got)
		}
	})
}
