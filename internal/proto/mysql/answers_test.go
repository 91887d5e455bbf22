package mysql

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"tcpcopy/internal/proto"
)

// eof, rows and columns are what a server sends without CLIENT_DEPRECATE_EOF; last is what ends
// rows with it.
func eof(seq uint8, status int) []byte { return packet(seq, 0xfe, uint16(0), uint16(status)) }
func last(seq uint8, status int) []byte {
	return packet(seq, 0xfe, 0, 0, uint16(status), uint16(0), "info")
}
func column(seq uint8) []byte { return packet(seq, 3, "def", 1, "s", 1, "t", "and so on") }
func row(seq uint8, text string) []byte {
	return packet(seq, appendLenenc(nil, uint64(len(text))), text)
}

func prepared(seq uint8, id uint32, columns, params int) []byte {
	return packet(seq, 0, id, uint16(columns), uint16(params), 0, uint16(0))
}

func errorPacket(seq uint8, code int) []byte { return packet(seq, 0xff, uint16(code), "#HY000no") }

type answersCase struct {
	name  string
	old   bool // the server has no CLIENT_DEPRECATE_EOF
	hints string
	bytes [][]byte // of each answer
	want  string   // how they end
}

var answersTable = []answersCase{
	{"OK", false, "0", [][]byte{okay(1)}, "ok"},
	{"an error", false, "0", [][]byte{errorPacket(1, 1146)}, "!1146"},
	{"OK, then OK", false, "0 0", [][]byte{join(okay(1)), okay(1)}, "ok ok"},
	{"OK with state and a long text", false, "0",
		[][]byte{packet(1, 0, 0xfc, 1, 2, 0xfd, 1, 2, 3, uint16(2), uint16(0),
			strings.Repeat("t", 300))}, "ok"},
	{"rows", false, "0",
		[][]byte{join(packet(1, 2), column(2), column(3), row(4, "a"), row(5, "b"), last(6, 2))},
		"ok"},
	{"rows, and EOF", true, "0",
		[][]byte{join(packet(1, 1), column(2), eof(3, 2), row(4, "a"), eof(5, 2))}, "ok"},
	{"no rows", false, "0", [][]byte{join(packet(1, 1), column(2), last(3, 2))}, "ok"},
	{"rows that begin like others", false, "0",
		[][]byte{join(packet(1, 1), column(2), packet(3, 0xfb), packet(4, 0, 0, 1),
			packet(5, 0, "a"), packet(6, 0xfc, 1, 0, "x"), last(7, 2))}, "ok"},
	{"a row that begins like EOF", true, "0",
		[][]byte{join(packet(1, 1), column(2), eof(3, 2), packet(4, 0xfe, "longer than EOF"),
			eof(5, 2))}, "ok"},
	{"two results", false, "0",
		[][]byte{join(packet(1, 1), column(2), row(3, "a"), last(4, statusMoreResults), okay(5))},
		"ok"},
	{"two results, and EOF", true, "0",
		[][]byte{join(packet(1, 1), column(2), eof(3, 0), row(4, "a"), eof(5, statusMoreResults),
			packet(6, 1), column(7), eof(8, 0), eof(9, 0))}, "ok"},
	{"a procedure's error after its result", false, "0",
		[][]byte{join(packet(1, 1), column(2), last(3, statusMoreResults), errorPacket(4, 1305))},
		"!1305"},
	{"an error among rows", false, "0",
		[][]byte{join(packet(1, 1), column(2), row(3, "a"), errorPacket(4, 1317))}, "!1317"},
	{"an error in the place of columns", false, "0",
		[][]byte{join(packet(1, 2), column(2), errorPacket(3, 1317))}, "!1317"},
	{"a cursor", false, "0", [][]byte{join(packet(1, 1), column(2), last(3, statusCursorExists))},
		"ok"},
	{"a cursor, and EOF", true, "0 0",
		[][]byte{join(packet(1, 1), column(2), eof(3, statusCursorExists)), okay(1)}, "ok ok"},
	{"a fetch", false, "2", [][]byte{join(packet(1, 0, 0, "row"), last(2, 0x80))}, "ok"},
	{"a fetch, and EOF", true, "2", [][]byte{join(packet(1, 0, 0, "row"), eof(2, 0x80))}, "ok"},
	{"a list of fields", true, "2", [][]byte{join(column(1), column(2), eof(3, 2))}, "ok"},
	{"statistics", false, "1", [][]byte{packet(1, "Uptime: 9")}, "ok"},
	{"statistics that begin like an error", false, "1", [][]byte{packet(1, 0xff, "yes")}, "ok"},
	{"a prepare", false, "131",
		[][]byte{join(prepared(1, 5, 1, 2), column(2), column(3), column(4))}, "ok"},
	{"a prepare, and EOF", true, "131 0",
		[][]byte{join(prepared(1, 5, 1, 2), column(2), column(3), eof(4, 2), column(5), eof(6, 2)),
			okay(1)}, "ok ok"},
	{"a prepare without either", true, "131 0", [][]byte{join(prepared(1, 5, 0, 0)), okay(1)},
		"ok ok"},
	{"a prepare with columns only", true, "131",
		[][]byte{join(prepared(1, 5, 1, 0), column(2), eof(3, 2))}, "ok"},
	{"a prepare that fails", false, "131 0", [][]byte{join(errorPacket(1, 1064)), okay(1)},
		"!1064 ok"},
	{"a prepare of MariaDB's with a further byte", false, "131",
		[][]byte{join(packet(1, 0, uint32(5), uint16(1), uint16(0), 0, uint16(0), 1), column(2))},
		"ok"},
	{"a change of the user", false, "132",
		[][]byte{join(packet(1, 0xfe, sha2Plugin, 0, salt, 0), packet(3, 1, 4),
			packet(5, 1, "KEY"), okay(7))}, "ok"},
	{"a change of the user, refused", false, "132 0",
		[][]byte{join(packet(1, 0xff, uint16(1045)))}, "!1045"},
	{"progress", false, "0", [][]byte{join(packet(1, 0xff, uint16(0xffff), "half"), okay(2))},
		"ok"},
	{"columns that the client knows", false, "0",
		[][]byte{join(packet(1, 2, 0), row(2, "a"), last(3, 2))}, "ok"},
	{"columns that follow, though the client may know them", false, "0",
		[][]byte{join(packet(1, 1, 1), column(2), row(3, "a"), last(4, 2))}, "ok"},
	{"many columns", false, "0",
		[][]byte{join(packet(1, 0xfc, uint16(300)), manyColumns(300), last(46, 2))}, "ok"},
	{"an error that nobody asked for", false, "0 0", [][]byte{join(okay(1)), errorPacket(0, 4031)},
		"ok !4031"},
	{"a file is asked for", false, "0", [][]byte{packet(1, 0xfb, "/etc/passwd")}, "lost"},
	{"a packet out of order", false, "0", [][]byte{join(packet(1, 1), column(3))}, "lost"},
	{"an answer to a command of two packets", false, "0 0",
		[][]byte{join(packet(2, 1), column(3), row(4, "a"), last(5, 2)), okay(1)}, "ok ok"},
	{"an answer of a number that none has", false, "0", [][]byte{okay(66)}, "lost"},
	{"an empty packet", false, "0", [][]byte{packet(1)}, "lost"},
	{"too many columns", false, "0", [][]byte{packet(1, 0xfd, 0xff, 0xff, 0xff)}, "lost"},
	{"an OK without status", false, "0", [][]byte{packet(1, 0, 0, 0)}, "lost"},
	{"an end of columns that is none", true, "0",
		[][]byte{join(packet(1, 1), column(2), column(3))}, "lost"},
	{"an error of two bytes", false, "0", [][]byte{packet(1, 0xff, 1)}, "lost"},
}

func manyColumns(n int) (all []byte) {
	for i := range n {
		all = append(all, column(uint8(2+i))...)
	}
	return all
}

// afterLogin returns a reader that has read a login.
func afterLogin(old bool) (*Answers, error) {
	caps := uint32(mysqlCaps)
	if old {
		caps &^= capDeprecateEOF
	}
	a := NewAnswers()
	found, err := a.Feed(join(hail("8.0.36", caps, 0, nativePlugin), okay(2)), nil)
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("login: %v", found)
	}
	return a, err
}

// answersIn describes the answers that a reader finds in bytes that are cut at those places, and
// reports those that do not end with a part.
func answersIn(a *Answers, hints string, parts [][]byte, cuts ...int) string {
	for i, h := range strings.Fields(hints) {
		var hint uint8
		if fmt.Sscan(h, &hint); hint != 0 {
			a.Expect(uint64(1+i), proto.Hint(hint))
		}
	}
	base, p := a.at, join(parts...)
	var told []string
	from := 0
	for _, to := range append(cuts, len(p)) {
		var found []proto.Answer
		part := p[from:to]
		if n := min(a.Blind(), uint64(len(part)/2)); n > 0 {
			found = a.Skip(n, found)
			part = part[n:]
		}
		found, err := a.Feed(part, found)
		for _, f := range found {
			base += uint64(len(parts[len(told)]))
			switch {
			case f.End != base || f.Size != uint64(len(parts[len(told)])):
				return fmt.Sprintf("an answer of %d bytes ends at %d, want %d", f.Size, f.End,
					base)
			case f.Failed:
				told = append(told, fmt.Sprintf("!%d", f.Status))
			default:
				told = append(told, "ok")
			}
		}
		if err != nil {
			if !errors.Is(err, proto.ErrLost) {
				return err.Error()
			}
			return strings.Join(append(told, "lost"), " ")
		}
		from = to
	}
	return strings.Join(told, " ")
}

func TestAnswers(t *testing.T) {
	for _, c := range answersTable {
		t.Run(c.name, func(t *testing.T) {
			var each []int
			for cut := range len(join(c.bytes...)) {
				each = append(each, cut)
				checkAnswers(t, &c, cut)
			}
			checkAnswers(t, &c, each...)
		})
	}
}

func checkAnswers(t *testing.T, c *answersCase, cuts ...int) {
	t.Helper()
	a, err := afterLogin(c.old)
	if err != nil {
		t.Fatal(err)
	}
	if got := answersIn(a, c.hints, c.bytes, cuts...); got != c.want {
		t.Fatalf("cut at %v: %s, want %s", cuts, got, c.want)
	}
}

// A row of more than 16 MB is several packets, and only the first shows that it is a row.
func TestBigRows(t *testing.T) {
	big := join([]byte{0xff, 0xff, 0xff, 3, 0xfe}, make([]byte, maxPayload-1),
		[]byte{3, 0, 0, 4, 0xfe, 0, 0},
		// of the greatest size exactly
		[]byte{0xff, 0xff, 0xff, 5, 3}, make([]byte, maxPayload-1), []byte{0, 0, 0, 6})
	c := answersCase{hints: "0", bytes: [][]byte{join(packet(1, 1), column(2), big, last(7, 2))},
		want: "ok"}
	checkAnswers(t, &c, 10, 30, 1<<20, 1<<24, 1<<25)
}

func TestLoginAnswers(t *testing.T) {
	key := packet(6, 1, "-----BEGIN PUBLIC KEY-----")
	table := []struct {
		name  string
		bytes []byte
		want  []proto.Answer
		lost  bool
	}{
		{"at once", join(hail("8", mysqlCaps, 0, nativePlugin), okay(2)),
			[]proto.Answer{{Kept: true}}, false},
		{"a dialogue", join(hail("8", mysqlCaps, 0, sha2Plugin), packet(2, 1, 4),
			packet(4, 0xfe, sha2Plugin, 0, salt, 0), key, okay(8)),
			[]proto.Answer{{Kept: true}}, false},
		{"refused", join(hail("8", mysqlCaps, 0, nativePlugin), denied),
			[]proto.Answer{{Kept: true, Failed: true, Status: 1045}}, false},
		{"no greeting", packet(0, 0xff, uint16(1040), "Too many connections"),
			[]proto.Answer{{Kept: true, Failed: true, Status: 1040}}, false},
		{"not MySQL", []byte("SSH-2.0-OpenSSH_9.6\r\n"), nil, true},
		{"a greeting that is too short", packet(0, 10, "8.0", 0, "abcdefgh"), nil, true},
	}
	for _, c := range table {
		t.Run(c.name, func(t *testing.T) {
			for cut := range len(c.bytes) {
				a := NewAnswers()
				var got []proto.Answer
				var err error
				for _, p := range [][]byte{c.bytes[:cut], c.bytes[cut:]} {
					if !a.Kept() && err == nil {
						t.Fatalf("cut at %d: the login is not handed back", cut)
					}
					if err == nil {
						got, err = a.Feed(p, got)
					}
				}
				for i := range got {
					if got[i].End != uint64(len(c.bytes)) || got[i].Size != got[i].End {
						t.Errorf("cut at %d: ends at %d, size %d of %d", cut, got[i].End,
							got[i].Size, len(c.bytes))
					}
					got[i].End, got[i].Size, got[i].Hint = 0, 0, 0
				}
				if !reflect.DeepEqual(got, c.want) || (err != nil) != c.lost {
					t.Fatalf("cut at %d: %+v, %v; want %+v", cut, got, err, c.want)
				}
			}
		})
	}
}
