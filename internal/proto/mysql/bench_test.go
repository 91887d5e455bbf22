package mysql

import (
	"strings"
	"testing"

	"tcpcopy/internal/proto"
)

// After its login a connection allocates nothing.
func TestNoAllocations(t *testing.T) {
	r := loggedIn(t, oneUser, mysqlCaps, mysqlCaps&^capAttributes)
	say := join(packet(0, comQuery, 0, 1, "SELECT c FROM sbtest1 WHERE id=500"),
		packet(0, comPrepare, "SELECT ?"), packet(0, comExecute, uint32(1), 0, uint32(1)),
		packet(0, comPing), query("UPDATE t SET a = 1"),
		packet(0, comExecute, uint32(9), 0, uint32(1)))
	r.say(200, packet(0, comPrepare, "SELECT 1"))
	r.hear(200, prepared(1, 5, 0, 0))
	told := prepared(1, 6, 0, 0)
	var out proto.Out
	seen := uint64(300)
	client := func() {
		out.Reset()
		if err := r.client.Feed(say, seen, &out); err != nil {
			t.Fatal(err)
		}
		if err := r.client.Kept(told, &out); err != nil {
			t.Fatal(err)
		}
		seen += 100
	}
	for range 200 {
		client() // its maps grow
	}
	if n := testing.AllocsPerRun(100, client); n > 0 {
		t.Errorf("commands: %v allocations", n)
	}

	answer := join(packet(1, 2), column(2), column(3), row(4, "a"), row(5, "b"), last(6, 2),
		okay(1), join(prepared(1, 5, 1, 0), column(2)))
	a, err := afterLogin(false)
	if err != nil {
		t.Fatal(err)
	}
	found := make([]proto.Answer, 0, 8)
	if n := testing.AllocsPerRun(100, func() {
		a.Expect(a.number+2, hintPrepare)
		if found, err = a.Feed(answer, found[:0]); err != nil || len(found) != 3 {
			t.Fatal(found, err)
		}
	}); n > 0 {
		t.Errorf("answers: %v allocations", n)
	}
}

func BenchmarkQuery(b *testing.B) {
	short := query("SELECT c FROM sbtest1 WHERE id BETWEEN 500 AND 599 ORDER BY c")
	long := query("INSERT INTO t VALUES " +
		strings.Repeat("(12345, 'a row of a hundred bytes or so, as they are in a dump', "+
			"'it\\'s said -- or not', NULL, 12.50), ", 1000))
	for _, c := range []struct {
		name string
		caps uint32
		o    Settings
		say  []byte
	}{
		{"all", mysqlCaps &^ capMultiStatement, Settings{}, short},
		{"all, several", mysqlCaps, Settings{}, short},
		{"all, several, long", mysqlCaps, Settings{}, long},
		{"read-only", mysqlCaps, Settings{ReadOnly: true}, short},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := NewClient(&c.o)
			r.phase, r.caps = commands, c.caps&^capAttributes
			var out proto.Out
			b.SetBytes(int64(len(c.say)))
			b.ReportAllocs()
			for b.Loop() {
				out.Reset()
				if err := r.Feed(c.say, 0, &out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAnswers(b *testing.B) {
	answer := packet(1, 1)
	answer = append(answer, column(2)...)
	for i := range 100 {
		answer = append(answer, row(uint8(3+i),
			"a row of sysbench's, of a hundred bytes or so, as they are in the table sbtest1, "+
				"and a little more than that")...)
	}
	answer = append(answer, last(103, 2)...)
	a := NewAnswers()
	if _, err := a.Feed(join(hail("8", mysqlCaps, 0, nativePlugin), okay(2)), nil); err != nil {
		b.Fatal(err)
	}
	var found []proto.Answer
	b.SetBytes(int64(len(answer)))
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if found, err = a.Feed(answer, found[:0]); err != nil || len(found) != 1 {
			b.Fatal(found, err)
		}
	}
}
