package mysql

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseLogin(t *testing.T) {
	for text, want := range map[string]Login{
		"app:secret":          {"app", "secret", ""},
		"app:":                {"app", "", ""},
		"app:secret@shop":     {"app", "secret", "shop"},
		"app:se:cr@t@":        {"app", "se:cr@t", ""},
		"app:@shop":           {"app", "", "shop"},
		"a@host:secret@a@b.c": {"a@host", "secret@a", "b.c"},
	} {
		if got, err := ParseLogin(text); err != nil || got != want {
			t.Errorf("%q: %#v, %v; want %#v", text, got, err, want)
		}
		if s := fmt.Sprintf("%v %+v %s", want, want, want); want.Password != "" &&
			strings.Contains(s, want.Password) {
			t.Errorf("a login shows its password: %s", s)
		}
	}
	for _, text := range []string{"", "app", ":secret", "app@shop",
		"app:" + strings.Repeat("hush", 100), "a\x00:hush"} {
		if l, err := ParseLogin(text); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%q: %#v, %v", text, l, err)
		}
	}
}

func TestAddLogin(t *testing.T) {
	var general Settings
	general.AddLogin(Login{User: "a", Password: "1"})
	own := general
	own.AddLogin(Login{User: "a", Password: "2"})
	own.AddLogin(Login{User: "b", Password: "3"})
	if got := own.login("a"); got.Password != "2" || len(own.Logins) != 2 ||
		own.login("c") != nil {
		t.Errorf("own logins: %v", own.Logins)
	}
	if got := general.login("a"); got.Password != "1" || len(general.Logins) != 1 {
		t.Errorf("general logins changed: %v", general.Logins)
	}
}
