package mysql

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"testing"

	"tcpcopy/internal/proto"
)

func query(text string) []byte { return packet(0, comQuery, text) }

var commandTable = []struct {
	name string
	say  []byte
	to   []byte // the target; nil: what was said
	log  string
}{
	{"a query", query("SELECT 1"), nil, "0x3 hint 0x0 reply 0 at 13"},
	{"two queries", join(query("SELECT 1"), query("DO 0")), nil,
		"0x3 hint 0x0 reply 0 at 13; 0x3 hint 0x0 reply 0 at 22"},
	{"an empty query", query(""), nil, "0x3 hint 0x0 reply 0 at 5"},
	{"a ping", packet(0, comPing), nil, "0xe hint 0x0 reply 0 at 5"},
	{"the end", packet(0, comQuit), nil, "0x1 hint 0x0 reply 1 at 5"},
	{"statistics", packet(0, comStatistics), nil, "0x9 hint 0x1 reply 0 at 5"},
	{"fields", packet(0, comFieldList, "t", 0), nil, "0x4 hint 0x2 reply 0 at 7"},
	{"a schema", packet(0, comInitDB, "other"), nil, "0x2 hint 0x0 reply 0 at 10"},
	{"a prepare", packet(0, comPrepare, "SELECT ?"), nil, "0x16 hint 0x83 reply 0 at 13"},
	{"a file", query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t"), []byte{},
		"left load_data; refused load_data"},
	{"a file that production asks for", join(query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t"),
		packet(2, "1\n"), packet(3, comQuery, "2\n"), packet(4), query("DO 0")),
		query("DO 0"), "left load_data; refused load_data; left load_data; 0x3 hint 0x0 reply 0 " +
			"at 9"},
	{"a file of none", join(query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t"), packet(2),
		query("DO 0")),
		query("DO 0"), "left load_data; refused load_data; left load_data; 0x3 hint 0x0 reply 0 " +
			"at 9"},
	{"a file that production does not want", join(query("LOAD DATA INFILE 'x' INTO TABLE t"),
		query("DO 0")),
		query("DO 0"), "left load_data; refused load_data; 0x3 hint 0x0 reply 0 at 9"},
	{"a file behind other results",
		join(query("SELECT 1; LOAD DATA LOCAL INFILE 'x' INTO TABLE t"), packet(7, "1\n"),
			packet(8), query("DO 0")),
		query("DO 0"), "left load_data; refused load_data; left load_data; 0x3 hint 0x0 reply 0 " +
			"at 9"},
	{"a file's packets out of order", join(query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t"),
		packet(2, "1\n"), packet(4, "1\n")),
		[]byte{}, "left load_data; refused load_data; left load_data; lost"},
	{"a file's packet behind the last", join(query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t"),
		packet(2), packet(3, "1\n")),
		[]byte{}, "left load_data; refused load_data; left load_data; lost"},
	{"a file, in a comment", query("/*!40101 load */ /* */ Data"), []byte{},
		"left load_data; refused load_data"},
	{"an index that is loaded", query("LOAD INDEX INTO CACHE t"), nil,
		"0x3 hint 0x0 reply 0 at 28"},
	{"KILL", query(" -- a comment\n kill 7"), []byte{},
		"left server_command; refused server_command"},
	{"KILL behind others", query("SELECT 'a;KILL'; (SELECT 2) ; /* ; */ # ;\n kill 7"), []byte{},
		"left server_command; refused server_command"},
	{"KILL as a name", query("SELECT 1; SELECT kill FROM t; USE `kill`; INSERT INTO kill VALUES " +
		"(1)"), nil, "0x3 hint 0x0 reply 0 at 74"},
	{"KILL as a command", packet(0, comProcessKill, uint32(7)), []byte{},
		"left server_command; refused server_command"},
	{"replication", packet(0, comBinlogDump, "and so on"), []byte{},
		"left server_command; refused server_command"},
	{"a statement that nobody knows", packet(0, comExecute, uint32(9), 0, uint32(1)), []byte{},
		"left unknown_statement; refused unknown_statement"},
	{"its data", packet(0, comSendLongData, uint32(9), "data"), []byte{},
		"left unknown_statement; refused unknown_statement"},
	{"attributes: none", packet(0, comQuery, 0, 1, "SELECT 1"), query("SELECT 1"),
		"0x3 hint 0x0 reply 0 at 13"},
	{"attributes", packet(0, comQuery, 1, 1, 0, 1, 8, 0, 1, "a", "12345678", "SELECT 1"), []byte{},
		"left query_attributes; refused query_attributes"},
	{"no command", packet(0, 0x0f), []byte{}, "lost"},
	{"an empty packet", packet(0), []byte{}, "lost"},
	{"a packet in the middle", join(query("DO 0"), packet(7, comQuery, "SELECT 1")), query("DO 0"),
		"0x3 hint 0x0 reply 0 at 9; lost"},
}

func TestCommands(t *testing.T) {
	for _, c := range commandTable {
		t.Run(c.name, func(t *testing.T) {
			want := c.to
			if want == nil {
				want = c.say
			}
			for cut := range c.say {
				r := loggedIn(t, oneUser, mysqlCaps&^capAttributes, mysqlCaps)
				r.say(200, c.say[:cut])
				r.say(200, c.say[cut:])
				if got := r.told(); !bytes.Equal(r.to, want) || got != c.log {
					t.Fatalf("cut at %d:\n%q\n%s\nwant\n%q\n%s", cut, r.to, got, want, c.log)
				}
			}
			r := loggedIn(t, oneUser, mysqlCaps&^capAttributes, mysqlCaps)
			for i := range c.say {
				r.say(200, c.say[i:i+1])
			}
			if got := r.told(); !bytes.Equal(r.to, want) || got != c.log {
				t.Fatalf("byte by byte:\n%q\n%s\nwant\n%q\n%s", r.to, got, want, c.log)
			}
		})
	}
}

// The packets of a file that production asked for are not commands, although their sequence ids
// wrap around to 0.
func TestFileOfManyPackets(t *testing.T) {
	r := loggedIn(t, oneUser, mysqlCaps&^capAttributes, mysqlCaps)
	r.say(200, query("LOAD DATA LOCAL INFILE 'x' INTO TABLE t"))
	const n = 600
	for i := range n {
		r.say(300, packet(uint8(2+i), comQuery, "DROP TABLE t"))
	}
	r.say(300, join(packet((2+n)%256), query("DO 0")))
	const want = "left load_data; refused load_data; left load_data; 0x3 hint 0x0 reply 0 at 9"
	if got := r.told(); got != want || !bytes.Equal(r.to, query("DO 0")) {
		t.Errorf("%q %s, want %s", r.to, got, want)
	}
}

// told returns what was logged, and how it ended.
func (r *rig) told() string {
	log := r.log
	var refusal *proto.Refusal
	switch {
	case r.err == nil:
	case errors.As(r.err, &refusal):
		log = append(log, refusal.Error())
	case errors.Is(r.err, proto.ErrLost):
		log = append(log, "lost")
	default:
		log = append(log, r.err.Error())
	}
	return strings.Join(log, "; ")
}

// A client and a target that differ in CLIENT_QUERY_ATTRIBUTES.
func TestAttributes(t *testing.T) {
	with, without := packet(0, comQuery, 0, 1, "SELECT 1"), query("SELECT 1")
	for _, c := range []struct {
		name           string
		client, target uint32
		say, want      []byte
	}{
		{"both", mysqlCaps, mysqlCaps, with, with},
		{"the client", mysqlCaps, mysqlCaps &^ capAttributes, with, without},
		{"neither", mysqlCaps &^ capAttributes, mysqlCaps &^ capAttributes, without, without},
		{"the client says so, and does not", mysqlCaps, mysqlCaps, without, with},
	} {
		t.Run(c.name, func(t *testing.T) {
			for cut := range c.say {
				r := loggedIn(t, oneUser, c.client, c.target)
				r.say(200, c.say[:cut])
				r.say(200, c.say[cut:])
				if !bytes.Equal(r.to, c.want) || r.err != nil {
					t.Fatalf("cut at %d: %q, %v; want %q", cut, r.to, r.err, c.want)
				}
			}
		})
	}
}

// If a text may have several statements, all are judged; else the first.
func TestSeveralStatements(t *testing.T) {
	text := query("SELECT 1; KILL 7")
	for _, c := range []struct {
		name string
		caps uint32
		say  []byte
		want string
	}{
		{"agreed", mysqlCaps, text, "left server_command; refused server_command"},
		{"not agreed", mysqlCaps &^ capMultiStatement, text, "0x3 hint 0x0 reply 0 at 21"},
		{"agreed later", mysqlCaps &^ capMultiStatement,
			join(packet(0, comSetOption, uint16(0)), text),
			"0x1b hint 0x0 reply 0 at 7; left server_command; refused server_command"},
		{"given up later", mysqlCaps &^ capMultiStatement,
			join(packet(0, comSetOption, uint16(1)), text),
			"0x1b hint 0x0 reply 0 at 7; 0x3 hint 0x0 reply 0 at 28"},
		{"a prepare has one", mysqlCaps, packet(0, comPrepare, "SELECT 1; KILL 7"),
			"0x16 hint 0x83 reply 0 at 21"},
	} {
		for cut := range c.say {
			r := loggedIn(t, oneUser, c.caps&^capAttributes, mysqlCaps)
			r.say(200, c.say[:cut])
			r.say(200, c.say[cut:])
			if got := r.told(); got != c.want {
				t.Fatalf("%s, cut at %d: %s, want %s", c.name, cut, got, c.want)
			}
		}
	}
}

func TestExecuteWithoutAttributes(t *testing.T) {
	r := loggedIn(t, oneUser, mysqlCaps, mysqlCaps&^capAttributes)
	r.say(200, packet(0, comPrepare, "SELECT ?, ?"))
	r.client.Server(200, prepared(1, 5, 0, 2))
	r.hear(200, join(prepared(1, 77, 0, 2), column(2), column(3)))
	r.to = nil
	say := packet(0, comExecute, uint32(5), paramCount, uint32(1), 2, 0, 1, 8, 0, 1, "a", 253, 0,
		2, "bc", "12345678", 1, "x")
	r.say(300, say)
	want := packet(0, comExecute, uint32(77), 0, uint32(1), 0, 1, 8, 0, 253, 0, "12345678", 1, "x")
	if !bytes.Equal(r.to, want) || r.err != nil {
		t.Errorf("%q, %v; want %q", r.to, r.err, want)
	}
	// An execute that is too long to be collected.
	long := strings.Repeat("x", 1<<20)
	r.to = nil
	r.say(350, packet(0, comExecute, uint32(5), paramCount, uint32(1), 2, 0, 1, 8, 0, 1, "a", 253,
		0, 2, "bc", "12345678", 0xfd, 0, 0, 16, long))
	want = packet(0, comExecute, uint32(77), 0, uint32(1), 0, 1, 8, 0, 253, 0, "12345678", 0xfd, 0,
		0, 16, long)
	if !bytes.Equal(r.to, want) || r.err != nil {
		t.Errorf("%d bytes, %v; want %d", len(r.to), r.err, len(want))
	}
	r.to, r.log = nil, nil
	r.say(400, packet(0, comExecute, uint32(5), paramCount, uint32(1), 3, 0, 0))
	if got, want := r.told(), "left query_attributes; refused query_attributes"; got != want ||
		len(r.to) > 0 {
		t.Errorf("%q, %s; want %s", r.to, got, want)
	}
}

// A client that sets the flag without having agreed on it.
func TestExecuteWithTheFlagAlone(t *testing.T) {
	for _, known := range []bool{true, false} {
		r := loggedIn(t, oneUser, mysqlCaps&^capAttributes, mysqlCaps)
		r.client.who.known = known
		r.say(200, packet(0, comPrepare, "SELECT ?"))
		r.hear(200, join(prepared(1, 77, 0, 1), column(2)))
		r.to = nil
		say := packet(0, comExecute, uint32(1), paramCount, uint32(1), 0, 1, 8, 0, "12345678")
		r.say(300, say)
		binary.LittleEndian.PutUint32(say[headerLen+1:], 77)
		if !bytes.Equal(r.to, say) || r.err != nil {
			t.Errorf("known %v: %q, %v; want %q", known, r.to, r.err, say)
		}
	}
}

// What the statement tests send and receive.
var (
	prepareOne = packet(0, comPrepare, "SELECT 1")
	executeOf  = func(id uint32) []byte { return packet(0, comExecute, id, 0, uint32(1)) }
	preparedAs = func(id uint32) []byte { return join(prepared(1, id, 1, 0), column(2)) }
)

const noStatement = "left unknown_statement; refused unknown_statement"

var statementTests = []struct {
	name string
	run  func(r *rig)
	to   []byte // after the prepares
	log  string
}{
	{"captured after the prepare", func(r *rig) {
		r.say(200, prepareOne)
		r.client.Server(200, prepared(1, 9, 1, 0))
		r.hear(200, preparedAs(3))
		r.say(300, executeOf(9))
	}, executeOf(3), ""},
	{"captured before it, for the copy lags", func(r *rig) {
		r.client.Server(200, prepared(1, 9, 1, 0))
		r.client.Server(280, okay(1))
		r.client.Server(300, prepared(1, 11, 1, 0))
		r.say(200, prepareOne)
		r.hear(200, preparedAs(3))
		r.say(300, prepareOne)
		r.hear(300, preparedAs(4))
		r.say(400, join(executeOf(9), executeOf(11)))
	}, join(executeOf(3), executeOf(4)), ""},
	{"captured before the copy begins", func(r *rig) {
		r.client.Server(200, prepared(1, 9, 1, 0))
		if err := r.client.Begin(false, &r.out); err != nil {
			r.err = err
			return
		}
		r.say(80, answerOf(mysqlCaps, 0, "app", "orders"))
		r.hear(0, hail("8.0.36", mysqlCaps, 0, nativePlugin))
		r.hear(0, okay(2))
		r.to, r.log = nil, nil
		r.say(200, prepareOne)
		r.hear(200, preparedAs(3))
		r.say(300, executeOf(9))
	}, executeOf(3), ""},
	{"counted", func(r *rig) {
		r.say(200, prepareOne)
		r.hear(200, preparedAs(3))
		r.say(300, prepareOne)
		r.hear(300, preparedAs(4))
		r.say(400, join(executeOf(2), executeOf(1)))
	}, join(executeOf(4), executeOf(3)), ""},
	{"captured once, and counted from there", func(r *rig) {
		r.say(200, prepareOne)
		r.client.Server(200, prepared(1, 9, 1, 0))
		r.hear(200, preparedAs(3))
		r.say(300, prepareOne)
		r.hear(300, preparedAs(4))
		r.say(400, join(executeOf(10), executeOf(9)))
	}, join(executeOf(4), executeOf(3)), ""},
	{"an answer of the same form to something else", func(r *rig) {
		r.client.Server(190, prepared(1, 55, 1, 0))
		r.say(200, prepareOne)
		r.hear(200, preparedAs(3))
		r.say(400, executeOf(55))
	}, nil, noStatement},
	{"not answered yet: it waits", func(r *rig) {
		r.say(200, join(prepareOne, executeOf(1), executeOf(1)))
		if !r.client.Holds() {
			r.logf("does not wait")
		}
		r.hear(200, preparedAs(3)[:10])
		r.hear(200, preparedAs(3)[10:])
	}, join(executeOf(3), executeOf(3)), ""},
	{"the last, whatever its number", func(r *rig) {
		r.say(200, join(prepareOne, executeOf(lastStatement)))
		r.hear(200, preparedAs(3))
	}, executeOf(lastStatement), ""},
	{"refused by the target", func(r *rig) {
		r.say(200, prepareOne)
		r.hear(200, errorPacket(1, 1146))
		r.say(300, executeOf(1))
	}, nil, noStatement},
	{"closed", func(r *rig) {
		r.say(200, prepareOne)
		r.hear(200, preparedAs(3))
		r.say(300, join(packet(0, comClose, uint32(1)), executeOf(1)))
	}, packet(0, comClose, uint32(3)), noStatement},
	{"reset with the connection", func(r *rig) {
		r.say(200, prepareOne)
		r.hear(200, preparedAs(3))
		r.say(300, join(packet(0, comResetConnection), executeOf(1)))
	}, packet(0, comResetConnection), noStatement},
	{"all that names it", func(r *rig) {
		r.say(200, prepareOne)
		r.hear(200, preparedAs(0x01020304))
		r.say(300, join(packet(0, comSendLongData, uint32(1), "abc"),
			packet(0, comFetch, uint32(1), uint32(9)), packet(0, comReset, uint32(1))))
	}, join(packet(0, comSendLongData, uint32(0x01020304), "abc"),
		packet(0, comFetch, uint32(0x01020304), uint32(9)),
		packet(0, comReset, uint32(0x01020304))), ""},
	{"bulk, which the target does not know", func(r *rig) {
		r.say(200, prepareOne)
		r.hear(200, preparedAs(3))
		r.say(300, packet(0, comBulkExecute, uint32(1), uint16(0)))
	}, nil, "left server_command; refused server_command"},
}

// The id of a statement is the target's, whether production's id is captured or counted.
func TestStatements(t *testing.T) {
	for _, c := range statementTests {
		t.Run(c.name, func(t *testing.T) {
			r := loggedIn(t, oneUser, mysqlCaps&^capAttributes, mysqlCaps)
			c.run(r)
			to := bytes.ReplaceAll(r.to, prepareOne, nil)
			var log []string
			for _, l := range r.log {
				if !strings.HasPrefix(l, "0x") {
					log = append(log, l)
				}
			}
			if got := strings.Join(log, "; "); !bytes.Equal(to, c.to) || got != c.log ||
				r.err != nil {
				t.Errorf("%q %s %v\nwant %q %s", to, got, r.err, c.to, c.log)
			}
		})
	}
}

// Statements that the target refuses are not remembered.
func TestRefusedStatements(t *testing.T) {
	r := loggedIn(t, oneUser, mysqlCaps&^capAttributes, mysqlCaps)
	for i := range maxStatements + 10 {
		seen := uint64(200 + 100*i)
		r.say(seen, packet(0, comPrepare, "SELECT 1"))
		r.client.Server(seen, errorPacket(1, 1146))
		r.hear(seen, errorPacket(1, 1146))
		r.record, r.fed, r.taken, r.log = nil, 0, 0, nil
	}
	r.to = nil
	r.say(1<<40, packet(0, comPrepare, "SELECT 2"))
	r.hear(1<<40, prepared(1, 3, 0, 0))
	r.say(1<<41, packet(0, comExecute, uint32(maxStatements+11), 0, uint32(1)))
	want := join(packet(0, comPrepare, "SELECT 2"), packet(0, comExecute, uint32(3), 0, uint32(1)))
	if r.err != nil || !bytes.Equal(r.to, want) || len(r.client.statements.byNumber) != 1 {
		t.Errorf("%q, %s, %d statements; want %q", r.to, r.told(),
			len(r.client.statements.byNumber), want)
	}
}

// A statement of more than 16 MB is sent as it is, and counted once.
func TestBigCommands(t *testing.T) {
	p := join([]byte{0xff, 0xff, 0xff, 0, comQuery}, bytes.Repeat([]byte("x"), maxPayload-1),
		packet(1, "yz"))
	r := loggedIn(t, oneUser, mysqlCaps&^capAttributes, mysqlCaps)
	for from := 0; from < len(p); from += 1 << 20 {
		r.say(200, p[from:min(len(p), from+1<<20)])
	}
	if got, want := r.told(), fmt.Sprintf("0x3 hint 0x0 reply 0 at %d", len(p)); !bytes.Equal(r.to,
		p) || got != want {
		t.Errorf("%d bytes: %s, want %s", len(r.to), got, want)
	}
	r.say(300, join([]byte{0xff, 0xff, 0xff, 0, comQuery}, make([]byte, maxPayload-1),
		packet(2, "yz")))
	if r.err == nil {
		t.Error("a continuation out of order is not noticed")
	}
}

// Of a text that may have several statements, at most severalMost bytes are held back.
func TestLongText(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		o := oneUser
		o.ReadOnly = readOnly
		r := loggedIn(t, o, mysqlCaps&^capAttributes, mysqlCaps)
		text := "SELECT '" + strings.Repeat("x", 3*severalMost) + "'"
		p := query(text + "; KILL 7")
		for from := 0; from < len(p); from += 4096 {
			r.say(200, p[from:min(len(p), from+4096)])
			if held := len(r.record) - r.taken; !readOnly && held > severalMost+2*4096 {
				t.Fatalf("%d bytes are held back", held)
			}
		}
		want, log := p, fmt.Sprintf("0x3 hint 0x0 reply 0 at %d", len(p))
		if readOnly {
			want, log = nil, "left read_only; refused read_only"
		}
		if got := r.told(); got != log || !bytes.Equal(r.to, want) {
			t.Errorf("read-only %v: %d bytes, %s; want %d, %s", readOnly, len(r.to), got,
				len(want), log)
		}
	}
}

func TestReadOnlyCommands(t *testing.T) {
	o := oneUser
	o.ReadOnly = true
	const refused = "left read_only; refused read_only"
	for _, c := range []struct {
		name, log string
		say       []byte
	}{
		{"a query", "0x3 hint 0x0 reply 0 at 13", query("SELECT 1")},
		{"a write", refused, query("DELETE FROM t")},
		{"a prepare", "0x16 hint 0x83 reply 0 at 13", packet(0, comPrepare, "SELECT ?")},
		{"a prepare that writes, and its use", refused + "; " + refused,
			join(packet(0, comPrepare, "DELETE FROM t"),
				packet(0, comExecute, uint32(1), 0, uint32(1)))},
		{"a schema that goes", refused, packet(0, comDropDB, "shop")},
		{"two statements", refused, query("SELECT 1; DELETE FROM t")},
	} {
		t.Run(c.name, func(t *testing.T) {
			for cut := range c.say {
				r := loggedIn(t, o, mysqlCaps&^capAttributes, mysqlCaps)
				r.say(200, c.say[:cut])
				r.say(200, c.say[cut:])
				if got := r.told(); got != c.log {
					t.Fatalf("cut at %d: %s, want %s", cut, got, c.log)
				}
			}
		})
	}
}
