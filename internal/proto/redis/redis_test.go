package redis

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"tcpcopy/internal/proto"
)

func commands(text string, cuts ...int) (found []string, err error) {
	c := NewClient()
	var out proto.Out
	at, from := 0, 0
	for _, to := range append(cuts, len(text)) {
		out.Reset()
		err = c.Feed([]byte(text[from:to]), 0, &out)
		for _, s := range out.Steps {
			switch s.Kind {
			case proto.PassOn:
				at += s.N
			case proto.Requested:
				found = append(found, fmt.Sprintf("%d reply %d", at, s.Request.Reply))
			default:
				found = append(found, fmt.Sprintf("step %d", s.Kind))
			}
		}
		if err != nil {
			break
		}
		if from = to; at != to {
			found = append(found, fmt.Sprintf("passed %d of %d", at, to))
		}
	}
	return found, err
}

// array returns a command as clients send it.
func array(words ...string) string {
	s := fmt.Sprintf("*%d\r\n", len(words))
	for _, w := range words {
		s += fmt.Sprintf("$%d\r\n%s\r\n", len(w), w)
	}
	return s
}

var commandTable = []struct {
	name string
	text string
	want []string
	lost bool
}{
	{"PING", array("PING"), []string{"14 reply 0"}, false},
	{"pipelined", array("SET", "a", "b") + array("GET", "a"), []string{"27 reply 0", "47 reply 0"},
		false},
	{"an argument with line ends", array("SET", "a", "x\r\n*1\r\n"), []string{"33 reply 0"},
		false},
	{"an empty argument", array("SET", "a", ""), []string{"26 reply 0"}, false},
	{"inline", "PING\r\nset a b\n", []string{"6 reply 0", "14 reply 0"}, false},
	{"empty lines and arrays", "\r\n*0\r\n*-1\r\n" + array("PING"), []string{"25 reply 0"}, false},
	{"subscribe", array("subscribe", "a"), []string{"26 reply 2"}, false},
	{"MONITOR", "MONITOR\r\n", []string{"9 reply 2"}, false},
	{"SHUTDOWN, which has no reply but the end, or an error", array("SHUTDOWN"),
		[]string{"18 reply 0"}, false},
	{"replies off and on", array("CLIENT", "REPLY", "OFF") + array("PING") + array("client",
		"reply", "on") + array("PING"),
		[]string{"36 reply 1", "50 reply 1", "85 reply 0", "99 reply 0"}, false},
	{"the next reply skipped", array("CLIENT", "REPLY", "SKIP") + array("PING") + array("PING"),
		[]string{"37 reply 1", "51 reply 1", "65 reply 0"}, false},
	{"SKIP takes the next, whatever it is", array("CLIENT", "REPLY", "SKIP") + array("CLIENT",
		"REPLY", "x") + array("PING"),
		[]string{"37 reply 1", "71 reply 1", "85 reply 0"}, false},
	{"no SKIP while replies are off", array("CLIENT", "REPLY", "OFF") + array("CLIENT", "REPLY",
		"SKIP") + array("CLIENT", "REPLY", "ON") + array("PING"),
		[]string{"36 reply 1", "73 reply 1", "108 reply 0", "122 reply 0"}, false},
	{"too many words for it", array("CLIENT", "REPLY", "OFF", "x") + array("PING"),
		[]string{"43 reply 0", "57 reply 0"}, false},
	{"RESET has replies again", array("CLIENT", "REPLY", "OFF") + array("RESET") + array("PING"),
		[]string{"36 reply 1", "51 reply 0", "65 reply 0"}, false},
	{"replies off some time later", array("MULTI") + array("CLIENT", "REPLY", "OFF"),
		[]string{"15 reply 0", "51 reply 3"}, false},
	{"replies off after a transaction", array("MULTI") + array("EXEC") + array("CLIENT", "REPLY",
		"OFF"),
		[]string{"15 reply 0", "29 reply 0", "65 reply 1"}, false},
	{"inline in quotes", "\"MONI\\x54OR\"\r\n", []string{"14 reply 2"}, false},
	{"inline in part in quotes", "  MON'ITOR' \n", []string{"13 reply 2"}, false},
	{"inline, longer than what is looked at", "SET a " + strings.Repeat("b", 100) + "\n",
		[]string{"107 reply 0"}, false},
	{"inline, with a name longer than any", strings.Repeat("b", 100) + "\n",
		[]string{"101 reply 0"}, false},
	{"many arguments", "*1000\r\n" + strings.Repeat("$1\r\nx\r\n", 1000), []string{"7007 reply 0"},
		false},

	{"a length that is none", "*1\r\n$x\r\n", nil, true},
	{"a negative length", "*1\r\n$-1\r\n", nil, true},
	{"too many arguments", "*9999999\r\n", nil, true},
	{"an enormous argument", "*1\r\n$99999999999\r\n", nil, true},
	{"no argument where one should be", "*1\r\n:1\r\n", nil, true},
	{"binary", "\x16\x03\x01\x02\n", nil, true},
	{"bare line feeds", "*1\n$4\nPING\r\n", nil, true},
	{"bare line feed behind a length", "*1\r\n$4\nPING\r\n", nil, true},
	{"a length with a zero", "*1\r\n$04\r\nPING\r\n", nil, true},
	{"quotes without an end", "SET \"a\r\n", nil, true},
	{"quotes within a word", "SET \"a\"b\r\n", nil, true},
	{"a name far away", strings.Repeat(" ", lineHead) + "MONITOR\r\n", nil, true},
	{"a name too far to be seen whole", strings.Repeat(" ", lineHead-7) + "MONITORING\r\n", nil,
		true},
	{"quotes in a long line", "'MONITOR' " + strings.Repeat("b", 100) + "\n", nil, true},
	{"a line without an end", strings.Repeat("x", maxLine+1), nil, true},
}

func TestCommands(t *testing.T) {
	for _, c := range commandTable {
		t.Run(c.name, func(t *testing.T) {
			got, err := commands(c.text)
			if c.lost != errors.Is(err, proto.ErrLost) {
				t.Fatalf("error %v, wanted lost: %v", err, c.lost)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Fatalf("found %q, wanted %q", got, c.want)
			}
			if len(c.text) > 10000 {
				return
			}
			eachSplit(t, c.text, c.want, c.lost, func(cuts ...int) ([]string,
				error) {
				return commands(c.text, cuts...)
			})
		})
	}
}

func eachSplit(t *testing.T, text string, want []string, lost bool,
	read func(cuts ...int) ([]string, error)) {
	t.Helper()
	var each []int
	for i := 1; i < len(text); i++ {
		if got, err := read(i); (err != nil) != lost || !reflect.DeepEqual(got, want) {
			t.Fatalf("split at %d: %q (%v), wanted %q", i, got, err, want)
		}
		each = append(each, i)
	}
	if got, err := read(each...); (err != nil) != lost || !reflect.DeepEqual(got, want) {
		t.Fatalf("byte by byte: %q (%v), wanted %q", got, err, want)
	}
}

func replies(text string, skip bool, cuts ...int) (found []string, err error) {
	a := NewAnswers()
	from := 0
	var list []proto.Answer
	for _, to := range append(cuts, len(text)) {
		p := []byte(text[from:to])
		if n := min(a.Blind(), uint64(len(p))); skip && n > 0 {
			list = a.Skip(n, list)
			p = p[n:]
		}
		if list, err = a.Feed(p, list); err != nil {
			break
		}
		from = to
	}
	for _, x := range a.Close(list) {
		s := fmt.Sprintf("%d: %d bytes", x.End, x.Size)
		if x.Failed {
			s += ", failed"
		}
		found = append(found, s)
	}
	return found, err
}

var replyTable = []struct {
	name string
	text string
	want []string
	lost bool
}{
	{"simple", "+OK\r\n:12\r\n-ERR no\r\n", []string{"5: 5 bytes", "10: 5 bytes",
		"19: 9 bytes, failed"}, false},
	{"bulk", "$5\r\nhello\r\n$-1\r\n$0\r\n\r\n", []string{"11: 11 bytes", "16: 5 bytes",
		"22: 6 bytes"}, false},
	{"array", "*3\r\n:1\r\n$1\r\nx\r\n*-1\r\n+OK\r\n", []string{"20: 20 bytes", "25: 5 bytes"},
		false},
	{"empty array", "*0\r\n+OK\r\n", []string{"4: 4 bytes", "9: 5 bytes"}, false},
	{"nested", "*2\r\n*1\r\n*2\r\n:1\r\n:2\r\n:3\r\n", []string{"24: 24 bytes"}, false},
	{"an error within", "*2\r\n-ERR x\r\n+OK\r\n", []string{"17: 17 bytes"}, false},
	{"RESP3", "%1\r\n+a\r\n:1\r\n~1\r\n#t\r\n,1.5\r\n(123\r\n_\r\n=6\r\ntxt:ab\r\n!3\r\nERR\r\n",
		[]string{"12: 12 bytes", "20: 8 bytes", "26: 6 bytes", "32: 6 bytes", "35: 3 bytes",
			"47: 12 bytes", "56: 9 bytes, failed"}, false},
	{"a push between two", "+OK\r\n>2\r\n+message\r\n$1\r\nx\r\n:1\r\n",
		[]string{"5: 5 bytes", "30: 4 bytes"}, false},
	{"attributes", "|1\r\n+ttl\r\n:3600\r\n$1\r\nx\r\n:1\r\n",
		[]string{"24: 24 bytes", "28: 4 bytes"}, false},

	{"HTTP", "HTTP/1.1 200 OK\r\n", nil, true},
	{"an empty line", "\r\n", nil, true},
	{"a length that is none", "$a\r\n", nil, true},
	{"a length below none", "$-2\r\n", nil, true},
	{"streamed", "$?\r\n", nil, true},
	{"too deep", strings.Repeat("*1\r\n", maxDepth+1), nil, true},
}

func TestReplies(t *testing.T) {
	for _, c := range replyTable {
		t.Run(c.name, func(t *testing.T) {
			for _, skip := range []bool{false, true} {
				got, err := replies(c.text, skip)
				if c.lost != errors.Is(err, proto.ErrLost) {
					t.Fatalf("error %v, wanted lost: %v", err, c.lost)
				}
				if !reflect.DeepEqual(got, c.want) {
					t.Fatalf("found %q, wanted %q", got, c.want)
				}
				eachSplit(t, c.text, c.want, c.lost, func(cuts ...int) ([]string,
					error) {
					return replies(c.text, skip, cuts...)
				})
			}
		})
	}
}

func TestRecognise(t *testing.T) {
	for _, c := range []struct {
		name, client, server string
		want                 proto.Verdict
	}{
		{"nothing", "", "", proto.Unsure},
		{"a command", array("GET", "a"), "", proto.Yes},
		{"a command and its reply", array("GET", "a"), "$-1\r\n", proto.Yes},
		{"a name and not all of the rest", array("SET", "a", "bcd")[:20], "", proto.Yes},
		{"half a name", array("GET", "a")[:9], "", proto.Unsure},
		{"an inline command", "PING\r\n", "", proto.No},
		{"HTTP", "GET / HTTP/1.1\r\n\r\n", "", proto.No},
		{"memcached", "get a\r\n", "", proto.No},
		{"TLS", "\x16\x03\x01", "", proto.No},
		{"another answer", array("GET", "a"), "HTTP/1.1 400\r\n", proto.No},
		{"a greeting", "", "+OK POP3\r\n", proto.No},
		{"a star of something else", "*hello\r\n", "", proto.No},
	} {
		if got := Recognise([]byte(c.client), []byte(c.server)); got != c.want {
			t.Errorf("%s: %d, wanted %d", c.name, got, c.want)
		}
	}
}
