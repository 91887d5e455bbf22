package redis

import (
	"strings"
	"testing"

	"tcpcopy/internal/proto"
)

// edited feeds a client's bytes in pieces, and returns what goes to the target, with | where a command ends
// and ! where one was left out.
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
		{"denied", Rules{Deny: []string{"FLUSHALL"}}, set + array("flushall", "async") + set, set + "|!" + set + "|"},
		{"denied inline", Rules{Deny: []string{"FLUSHALL"}}, "FLUSHALL\r\nPING\r\n", "!PING\r\n|"},
		{"a longer name", Rules{Deny: []string{"FLUSHALL"}}, array("FLUSHALLL"), array("FLUSHALLL") + "|"},
		{"within MULTI", Rules{Deny: []string{"DEL"}}, array("MULTI") + array("DEL", "a") + array("EXEC"),
			array("MULTI") + "|!" + array("EXEC") + "|"},
		{"nothing logs in, the copy does", Rules{Password: "secret"}, set, auth + set + "|"},
		{"a login", Rules{Password: "secret"}, array("AUTH", "old") + set, auth + auth + set + "|"},
		{"a login with a user", Rules{User: "bob", Password: "secret"}, array("auth", "alice", "old"),
			strings.Repeat(array("AUTH", "bob", "secret")+"|", 2)},
		{"a login, inline", Rules{Password: "secret"}, "AUTH old\r\n", auth + auth},
		{"HELLO", Rules{Password: "secret"}, array("HELLO", "3"), auth + array("HELLO", "3") + "|"},
		{"HELLO with a login", Rules{Password: "secret"}, array("HELLO", "3", "AUTH", "default", "old", "SETNAME", "x"),
			auth + array("HELLO", "3", "AUTH", "default", "secret", "SETNAME", "x") + "|"},
		{"a long command is no login", Rules{Password: "secret"}, array("SET", "a", strings.Repeat("x", 3000)),
			auth + array("SET", "a", strings.Repeat("x", 3000)) + "|"},
		{"empty commands", Rules{Deny: []string{"X"}}, "\r\n*0\r\n" + set, "\r\n*0\r\n" + set + "|"},
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

func TestParseDeny(t *testing.T) {
	if all, err := ParseDeny("flushall, Config"); err != nil || len(all) != 2 || all[0] != "FLUSHALL" || all[1] != "CONFIG" {
		t.Errorf("%q (%v)", all, err)
	}
	for _, s := range []string{"", "a,", "a b", "*"} {
		if all, err := ParseDeny(s); err == nil {
			t.Errorf("%q: %q, wanted an error", s, all)
		}
	}
}
