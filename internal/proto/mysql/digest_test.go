package mysql

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"tcpcopy/internal/proto"
)

// definitionOf returns a column definition.
func definitionOf(seq uint8, name string, kind, flags int) []byte {
	return packet(seq, 3, "def", 1, "s", 1, "t", 1, "t", len(name), name, len(name), name, 12,
		uint16(45), uint32(20), kind, uint16(flags), 0, uint16(0))
}

const typeText = 253 // VAR_STRING

// digestOf returns the fields of an answer as "path types count", and why there are none.
func digestOf(t *testing.T, old bool, answer []byte) (*proto.Digest, string) {
	t.Helper()
	caps := uint32(mysqlCaps)
	if old {
		caps &^= capDeprecateEOF
	}
	login := join(hail("8", caps, 0, nativePlugin), okay(2))
	w := proto.NewDigesting(7, 1<<24)
	f := proto.Follow(NewAnswers())
	f.Digest(comparison.NewDigester(w))
	var scratch []proto.Answer
	var digests []*proto.Digest
	for _, p := range [][]byte{login, answer} {
		for i := range p { // one byte at a time
			for _, told := range f.Feed(0, p[i:i+1], nil, &scratch) {
				if told.Digest != nil {
					digests = append(digests, told.Digest)
				}
			}
		}
	}
	if len(digests) != 2 || f.Lost() {
		t.Fatalf("%d digests, lost: %v; wanted 2", len(digests), f.Lost())
	}
	var all []string
	for i, d := range digests {
		d.Unpack(w)
		for _, field := range d.Fields {
			if i == 0 {
				t.Errorf("the login has a field: %+v", field)
			}
			all = append(all, fmt.Sprintf("%s %d %d", field.Path, field.Types, field.Count))
		}
	}
	if w.Room != 1<<24 {
		t.Errorf("%d bytes of room are lost", 1<<24-w.Room)
	}
	if d := digests[1]; d.Skipped != proto.Compared {
		all = append(all, fmt.Sprintf("skipped %d", d.Skipped))
	}
	return digests[1], strings.Join(all, ", ")
}

func TestDigests(t *testing.T) {
	number, text := definitionOf(2, "n", typeLong, 0), definitionOf(3, "v", typeText, 0)
	for _, c := range []struct {
		name   string
		old    bool
		answer []byte
		want   string // paths, types and counts
	}{
		{"OK", false, packet(1, 0, 3, 7, uint16(2), uint16(0)), "affected 4 1, insert id 4 1"},
		{"OK, with warnings", false, packet(1, 0, 3, 7, uint16(2), uint16(2)),
			"affected 4 1, insert id 4 1, warnings 4 1"},
		{"an error", false, errorPacket(1, 1146), ""},
		{"rows", false, join(packet(1, 2), number, text, packet(4, 1, "5", 1, "a"),
			packet(5, 0xfb, 0), last(6, 2)),
			"column n 4 1, column v 8 1, rows 16 1, rows[].n 9 2, rows[].v 8 2"},
		{"rows, and EOF", true, join(packet(1, 2), number, text, eof(4, 2),
			packet(5, 1, "5", 1, "a"), eof(6, 2)),
			"column n 4 1, column v 8 1, rows 16 1, rows[].n 8 1, rows[].v 8 1"},
		{"no rows", false, join(packet(1, 1), number, last(3, 2)), "column n 4 1, rows 16 1"},
		{"no rows, and EOF", true, join(packet(1, 1), number, eof(3, 2), eof(4, 2)),
			"column n 4 1, rows 16 1"},
		{"rows of a prepared statement", false, join(packet(1, 2), number, text,
			packet(4, 0, 0, 5, 0, 0, 0, 1, "a"), packet(5, 0, 4, 0, 0), last(6, 2)), "skipped 2"},
		{"rows of a prepared statement, one with NULL", false, join(packet(1, 2), number, text,
			packet(4, 0, 0, 5, 0, 0, 0, 1, "a"), packet(5, 0, 4, 1, "b"), last(6, 2)),
			"column n 4 1, column v 8 1, rows 16 1, rows[].n 9 2, rows[].v 8 2"},
		{"two results", false, join(packet(1, 1), number, packet(3, 1, "5"),
			last(4, statusMoreResults), packet(5, 0, 1, 0, uint16(2), uint16(0))),
			"column n 4 1, result 2 affected 4 1, result 2 insert id 4 1, rows 16 1, " +
				"rows[].n 8 1"},
		{"an error among rows", false, join(packet(1, 1), number, packet(3, 1, "5"),
			errorPacket(4, 1317)), "column n 4 1"},
		{"columns that follow, though the client may know them", false, join(packet(1, 1, 1),
			number, packet(3, 1, "5"), last(4, 2)), "column n 4 1, rows 16 1, rows[].n 8 1"},
		{"columns that the client knows", false, join(packet(1, 1, 0), packet(2, 1, "5"),
			last(3, 2)), "skipped 2"},
		{"progress", false, join(packet(1, 0xff, uint16(0xffff), "half"), okay(2)),
			"affected 4 1, insert id 4 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, got := digestOf(t, c.old, c.answer); got != c.want {
				t.Errorf("%q, wanted %q", got, c.want)
			}
		})
	}
}

// The same number is the same value, as text and as prepared statements have it.
func TestNumbersAreText(t *testing.T) {
	for _, c := range []struct {
		kind, flags int
		text        string
		bytes       []byte
	}{
		{typeTiny, 0, "-1", []byte{0xff}}, {typeTiny, flagUnsigned, "255", []byte{0xff}},
		{typeShort, 0, "-2", []byte{0xfe, 0xff}}, {typeYear, flagUnsigned, "2026", []byte{0xea, 7}},
		{typeInt24, 0, "-3", []byte{0xfd, 0xff, 0xff, 0xff}},
		{typeLong, flagUnsigned, "4294967295", []byte{0xff, 0xff, 0xff, 0xff}},
		{typeLongLong, 0, "-9223372036854775808", binary.LittleEndian.AppendUint64(nil, 1<<63)},
		{typeLongLong, flagUnsigned, "9223372036854775808",
			binary.LittleEndian.AppendUint64(nil, 1<<63)},
		{typeFloat, 0, "1.5", []byte{0, 0, 0xc0, 0x3f}},
		{typeDouble, 0, "0.1", binary.LittleEndian.AppendUint64(nil, 0x3fb999999999999a)},
		{typeNumeric, 0, "1.50", []byte("\x041.50")}, {typeText, 0, "ab", []byte("\x02ab")},
	} {
		of := func(row []byte) *proto.Digest {
			d, _ := digestOf(t, false, join(packet(1, 1), definitionOf(2, "n", c.kind, c.flags),
				row, last(4, 2)))
			return d
		}
		text, prepared := of(packet(3, len(c.text), c.text)), of(packet(3, 0, 0, c.bytes))
		if fmt.Sprint(text.Fields) != fmt.Sprint(prepared.Fields) || len(text.Fields) != 3 {
			t.Errorf("%s: as text %+v, prepared %+v", c.text, text.Fields, prepared.Fields)
		}
	}
}

func TestFingerprint(t *testing.T) {
	for statement, want := range map[string]string{
		"SELECT 1":                                        "select ?",
		"SELECT  'a''b\\'c' ,\n\t\"x\"":                   "select ? ,?",
		"SELECT `A b` FROM t1 WHERE x=1.5e3 -- no":        "select `A b` from t1 where x=?",
		"select /* 7 */ a # all":                          "select a",
		"SELECT * FROM t WHERE id IN (1, 2,3)":            "select * from t where id in (?+)",
		"INSERT INTO t VALUES (1,'a'), (2,'b'), (3,'c');": "insert into t values (?+)",
		"INSERT INTO t VALUES (1),(2)":                    "insert into t values (?)",
		"SELECT 'without an end":                          "select ?",
		"/* without an end":                               "",
		"UPDATE t SET a = 1, b = 2":                       "update t set a = ?,b = ?",
	} {
		var f fingerprint
		if got := string(f.of([]byte(statement))); got != want {
			t.Errorf("%s: %q, wanted %q", statement, got, want)
		}
	}
}

func TestLabels(t *testing.T) {
	w := proto.NewDigesting(7, 1<<20)
	of := func(requests ...[]byte) (labels []string, hashes []uint64) {
		l := comparison.NewLabeller(w)
		l.Write(answerOf(mysqlCaps, 0, "app", "orders"))
		for i, r := range append([][]byte{nil}, requests...) {
			l.Write(r)
			label, hash := l.End()
			if i == 0 && label != "login" {
				t.Errorf("%q, wanted login", label)
			} else if i > 0 {
				labels, hashes = append(labels, label), append(hashes, hash)
			}
		}
		return labels, hashes
	}
	prepare := func(text string) []byte { return packet(0, comPrepare, text) }
	closes := func(id uint32) []byte { return packet(0, comClose, id) }
	labels, first := of(query("SELECT 1"), prepare("SELECT ?"), executeOf(5), closes(5),
		packet(0, comPing))
	if got := strings.Join(labels, "|"); got !=
		"select ?|prepare select ?|execute select ?|close select ?|ping" {
		t.Error(got)
	}
	// Servers number statements in their own way.
	_, second := of(query("SELECT 1"), prepare("SELECT ?"), executeOf(6))
	if first[2] != second[2] {
		t.Error("the same statement with another id is another request")
	}
	_, other := of(query("SELECT 1"), prepare("SELECT 2, ?"), executeOf(6))
	if first[2] == other[2] {
		t.Error("another statement is the same request")
	}
	// Of two, it is not known which one is meant.
	labels, _ = of(prepare("SELECT ?"), prepare("SELECT 2, ?"), executeOf(6), closes(6),
		executeOf(5))
	if labels[2] != "execute" || labels[4] != "execute" {
		t.Errorf("%q", labels)
	}
}

// FuzzReadResults looks for answers that readResults cannot bear.
func FuzzReadResults(f *testing.F) {
	for _, c := range answersTable {
		f.Add(join(c.bytes...))
	}
	f.Add(join(packet(1, 2), definitionOf(2, "n", typeLong, 0), definitionOf(3, "v", typeText, 0),
		packet(4, 0, 0, 5, 0, 0, 0, 1, "a"), packet(5, 0, 4, 1, "b"), last(6, 2)))
	f.Fuzz(func(t *testing.T, answer []byte) {
		w := proto.NewDigesting(7, 1<<24)
		d := comparison.NewDigester(w)
		d.Write(answer)
		x := d.End(&proto.Answer{})
		x.Unpack(w)
		if len(x.Fields) > 1<<12 || w.Room != 1<<24 {
			t.Errorf("%d fields; %d bytes of room are lost", len(x.Fields), 1<<24-w.Room)
		}
	})
}
