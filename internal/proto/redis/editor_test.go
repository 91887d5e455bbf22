package redis

import (
	"errors"
	"strings"
	"testing"

	"tcpcopy/internal/proto"
)

// edited feeds a client's bytes in pieces, and returns what goes to the target, with | where a
// command ends and ! where one was left out.
func edited(rules *Rules, text string, cuts ...int) (string, error) {
	e := NewEditor(rules)
	var sent strings.Builder
	var out proto.Out
	at, from := 0, 0
	err := e.Begin(false, &out)
	for _, to := range append(cuts, len(text)) {
		if err == nil {
			err = e.Feed([]byte(text[from:to]), 0, &out)
		}
		for _, s := range out.Steps {
			switch s.Kind {
			case proto.PassOn:
				sent.WriteString(text[at : at+s.N])
			case proto.Say:
				sent.Write(out.Text[s.From:s.To])
			case proto.Requested:
				sent.WriteByte('|')
			case proto.Refused:
				sent.WriteByte('!')
			}
			at += s.N
		}
		out.Reset()
		from = to
	}
	return sent.String(), err
}

func TestEditor(t *testing.T) {
	auth := array("AUTH", "secret") + "|"
	set := array("SET", "a", "b")
	for _, c := range []struct {
		name       string
		rules      Rules
		text, want string
	}{
		{"denied", Rules{Deny: []string{"FLUSHALL"}}, set + array("flushall", "async") + set,
			set + "|!" + set + "|"},
		{"denied inline", Rules{Deny: []string{"FLUSHALL"}}, "FLUSHALL\r\nPING\r\n", "!PING\r\n|"},
		{"denied inline, in quotes", Rules{Deny: []string{"FLUSHALL"}},
			" FL\"\\x55shALL\" now\nPING\r\n", "!PING\r\n|"},
		{"a longer name", Rules{Deny: []string{"FLUSHALL"}}, array("FLUSHALLL"),
			array("FLUSHALLL") + "|"},
		{"within MULTI", Rules{Deny: []string{"DEL"}}, array("MULTI") + array("DEL", "a") +
			array("EXEC"),
			array("MULTI") + "|!" + array("EXEC") + "|"},
		{"nothing logs in, the copy does", Rules{Password: "secret"}, set, auth + set + "|"},
		{"a login", Rules{Password: "secret"}, array("AUTH", "old") + set,
			auth + auth + set + "|"},
		{"a login with a user", Rules{User: "bob", Password: "secret"},
			array("auth", "alice", "old"),
			strings.Repeat(array("AUTH", "bob", "secret")+"|", 2)},
		{"a login, inline", Rules{Password: "secret"}, "AUTH old\r\n", auth + auth},
		{"HELLO", Rules{Password: "secret"}, array("HELLO", "3"),
			auth + array("HELLO", "3") + "|"},
		{"HELLO with a login", Rules{Password: "secret"},
			array("HELLO", "3", "AUTH", "default", "old", "SETNAME", "x"),
			auth + array("HELLO", "3", "AUTH", "default", "secret", "SETNAME", "x") + "|"},
		{"HELLO with a name that looks like a login", Rules{Password: "secret"},
			array("HELLO", "3", "SETNAME", "AUTH", "auth", "a", "b"),
			auth + array("HELLO", "3", "SETNAME", "AUTH", "auth", "default", "secret") + "|"},
		{"HELLO with a login, inline", Rules{User: "bob", Password: "secret"},
			"hello 3 auth \"a b\" c\r\n",
			array("AUTH", "bob", "secret") + "|" + array("hello", "3", "auth", "bob", "secret") +
				"|"},
		{"RESET logs out", Rules{Password: "secret"}, array("RESET") + set,
			auth + array("RESET") + "|" + auth + set + "|"},
		{"RESET without a login", Rules{Deny: []string{"X"}}, array("RESET"),
			array("RESET") + "|"},
		{"a long command is no login", Rules{Password: "secret"},
			array("SET", "a", strings.Repeat("x", 3000)),
			auth + array("SET", "a", strings.Repeat("x", 3000)) + "|"},
		{"empty commands", Rules{Deny: []string{"X"}}, "\r\n*0\r\n" + set,
			"\r\n*0\r\n" + set + "|"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := edited(&c.rules, c.text)
			if err != nil || got != c.want {
				t.Fatalf("%q (%v), wanted %q", got, err, c.want)
			}
			eachSplit(t, c.text, []string{c.want}, false, func(cuts ...int) ([]string, error) {
				got, err := edited(&c.rules, c.text, cuts...)
				return []string{got}, err
			})
		})
	}
}

// A command that cannot be a login is not collected, however long its name is.
func TestEditorKeepsLittle(t *testing.T) {
	e := NewEditor(&Rules{Deny: []string{"FLUSHALL"}, Password: "secret"})
	var out proto.Out
	if err := e.Begin(false, &out); err != nil {
		t.Fatal(err)
	}
	passed := 0
	for _, p := range []string{"*1\r\n$100000\r\n", strings.Repeat("x", 30),
		strings.Repeat("x", 5000)} {
		out.Reset()
		if err := e.Feed([]byte(p), 0, &out); err != nil {
			t.Fatal(err)
		}
		for _, s := range out.Steps {
			passed += s.N
		}
	}
	if want := 13 + 30 + 5000; passed != want || cap(e.text) > maxLogin {
		t.Errorf("%d bytes passed, %d kept, wanted %d, at most %d", passed, cap(e.text), want,
			maxLogin)
	}
	if err := e.Begin(true, &out); err != nil {
		t.Fatal(err)
	}
	if err := e.Feed([]byte("*2\r\n$4\r\nAUTH\r\n$100000\r\n"+strings.Repeat("x", 5000)), 0,
		&out); !errors.Is(err, proto.ErrLost) {
		t.Errorf("a login of 5000 bytes: %v, wanted lost", err)
	}
}

// An editor's output does not depend on how its input is split, and has nothing that is denied.
func FuzzEditor(f *testing.F) {
	for _, c := range commandTable {
		if len(c.text) < 2000 {
			f.Add([]byte(c.text), uint(7))
		}
	}
	f.Add([]byte(array("HELLO", "3", "AUTH", "default", "old")+array("flushall")+"'AUTH' x\r\n"),
		uint(20))
	rules := &Rules{Deny: []string{"FLUSHALL", "SET"}, User: "bob", Password: "secret"}
	f.Fuzz(func(t *testing.T, text []byte, at uint) {
		if len(text) == 0 {
			return
		}
		whole, err := edited(rules, string(text))
		split, again := edited(rules, string(text), int(at%uint(len(text))))
		same := whole == split
		if err != nil { // how much of the command under way has gone does not matter
			same = strings.HasPrefix(whole, split) || strings.HasPrefix(split, whole)
		}
		if (err == nil) != (again == nil) || !same {
			t.Fatalf("%q (%v); split at %d %q (%v)", whole, err, at%uint(len(text)), split, again)
		}
		var out proto.Out
		e := NewEditor(rules)
		if e.Begin(false, &out) != nil || e.Feed(text, 0, &out) != nil {
			return
		}
		var sent []byte
		n := 0
		for _, s := range out.Steps {
			switch s.Kind {
			case proto.PassOn:
				sent = append(sent, text[n:n+s.N]...)
			case proto.Say:
				sent = append(sent, out.Text[s.From:s.To]...)
			}
			n += s.N
		}
		var c Client
		for len(sent) > 0 {
			used, done, err := c.step(sent)
			if err != nil {
				t.Fatalf("the target cannot read %q: %v", sent, err)
			}
			if sent = sent[used:]; done {
				if c.words[0].is("FLUSHALL") || c.words[0].is("SET") {
					t.Fatalf("%q is denied", text)
				}
				c.end()
			}
		}
	})
}

func TestParseDeny(t *testing.T) {
	if all, err := ParseDeny("flushall, Config"); err != nil || len(all) != 2 ||
		all[0] != "FLUSHALL" || all[1] != "CONFIG" {
		t.Errorf("%q (%v)", all, err)
	}
	for _, s := range []string{"", "a,", "a b", "*"} {
		if all, err := ParseDeny(s); err == nil {
			t.Errorf("%q: %q, wanted an error", s, all)
		}
	}
}
