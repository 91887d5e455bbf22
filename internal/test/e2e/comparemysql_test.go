package e2e

import (
	"os"
	"syscall"
	"testing"
)

// anyOrder is a statement whose rows come in the order of an index, if there is one that has them.
const anyOrder = "SELECT id, v FROM t"

// mysqlAsks is what TestCompareMySQL asks, each on a connection of its own. With arguments it is a
// prepared statement.
var mysqlAsks = []struct {
	text string
	args []any
}{
	{text: "SELECT v FROM t WHERE id = 1"}, {text: anyOrder},
	{text: "SELECT n FROM types WHERE id = ?", args: []any{1}}, {text: "SELECT 1/0"},
	{text: "SELECT COUNT(*) FROM gone"}, {text: "INSERT INTO log VALUES (1)"},
	{text: "SELECT v, NULL, id * 1.5 FROM t WHERE id < ? ORDER BY id", args: []any{100}},
}

// TestCompareMySQL checks that a comparison finds what is another at the target: a value, the type
// of a column, a warning, an error; in text and in prepared statements. It must find nothing in the
// order of rows that no statement asks for.
func TestCompareMySQL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, changes string // at the target
		code          int
		want          []string
	}{
		{"the same, with another index", "ALTER TABLE t ADD INDEX (v), FORCE", 0, nil},
		{"a value, a type, a warning, an error",
			"UPDATE t SET v = 's3cr3t' WHERE id = 1; ALTER TABLE types MODIFY n VARCHAR(20);" +
				"SET GLOBAL sql_mode = ''; DROP TABLE gone", 4, []string{
				"execute select n from types where id = ?: column n: type",
				"execute select v,null,id * ? from t where id < ? order by id: rows[].v: value",
				"select ?/?: warnings: missing", "select count(*) from gone: status: status",
				"select id,v from t: rows[].v: value",
				"select v from t where id = ?: rows[].v: value"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			someWays(t, only(socket), func(t *testing.T, way string) {
				compareMySQL(t, way, c.changes, c.code, c.want)
			})
		})
	}
}

func compareMySQL(t *testing.T, way, changes string, wantCode int, want []string) {
	s := newStand(t, setting{way: way})
	production, target := s.mysqlPair()
	for _, m := range []*mariadb{production, target} {
		m.query("USE a; CREATE TABLE t (id INT PRIMARY KEY, v VARCHAR(20)); " +
			"INSERT INTO t SELECT seq, CONCAT('value ', 1000 - seq) FROM seq_1_to_200; " +
			"CREATE TABLE types (id INT, n INT); INSERT INTO types VALUES (1, 7); " +
			"CREATE TABLE gone (n INT); CREATE TABLE log (n INT)")
	}
	target.query("USE a; " + changes)
	if wantCode == 0 && production.query("USE a; "+anyOrder) == target.query("USE a; "+anyOrder) {
		t.Errorf("%q: the rows are in the same order at both", anyOrder)
	}
	login := s.file("login")
	if err := os.WriteFile(login, []byte("app:"+targetPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	copier := s.copy("-x", s.mapping(mysqlProduction, mysqlTarget), "--mysql-login-file", login,
		"--compare")
	answers := 0
	for range 30 {
		for _, ask := range mysqlAsks {
			conn := s.mysqlDial("a")
			if _, err := conn.Execute(ask.text, ask.args...); err != nil {
				t.Errorf("%s: %v", ask.text, err)
			}
			if err := conn.Quit(); err != nil {
				t.Error(err)
			}
			answers += 2 // to the login, and the statement
			if ask.args != nil {
				answers++ // to its preparation
			}
		}
	}
	if code := copier.stop(syscall.SIGINT); code != wantCode {
		t.Errorf("exit code %d, wanted %d\n%s", code, wantCode, copier.output())
	}
	r := copier.account()
	checkComparison(t, r, uint64(answers))
	checkProven(t, r, want)
	checkNoSecret(t, copier.report)
}
