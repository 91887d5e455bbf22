package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tcpcopy/internal/proto/mysql"
)

// holding returns the name of a file that holds text.
func holding(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "logins")
	if err := errors.Join(os.WriteFile(name, []byte(text), mode),
		os.Chmod(name, mode)); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestMySQLLogins(t *testing.T) {
	file := filepath.Join(t.TempDir(), "logins")
	if err := os.WriteFile(file,
		[]byte("\ufeffbob:se:cret\r\n\n# the others: all of them\nann:x@shop\n"),
		0o600); err != nil {
		t.Fatal(err)
	}
	open, wrong := holding(t, "a:b", 0o644), holding(t, "a:b\n\n\nsesame\n", 0o600)
	empty := holding(t, "\r\n# a:b\n\n", 0o600)
	const given = "--mysql-login"
	for _, c := range []struct {
		name string
		env  string
		args []string
		want string // the protocol, and the logins; or what is wrong
	}{
		{"none", "a:b", nil, "auto"},
		{"one", "", []string{given, "app:secret@"}, `mysql "app" "secret" ""`},
		{"two, and one of them again", "", []string{given, "a:1", given, "b:2@c", given, "a:3"},
			`mysql "a" "3" "" "b" "2" "c"`},
		{"in a file", "", []string{"--mysql-login-file", file},
			`mysql "bob" "se:cret" "" "ann" "x" "shop"`},
		{"in a file that others can read", "", []string{"--mysql-login-file", open,
			"--mysql-login-file", open},
			`mysql "a" "b" "" [the passwords in "` + open +
				`" can be read by others (mode 0644): chmod 600 ` + open + `]`},
		{"no login in a file", "", []string{"--mysql-login-file", wrong},
			`--mysql-login-file "` + wrong + `": line 4 holds no login: wanted USER:PASSWORD or`},
		{"an empty file", "", []string{"--mysql-login-file", empty},
			`--mysql-login-file "` + empty + `": holds no login`},
		{"a file that is missing", "", []string{"--mysql-login-file", "/nowhere"},
			`--mysql-login-file "/nowhere": cannot be read: no such file`},
		{"in the environment", "a:b\nc:d", []string{"--proto", "mysql"},
			`mysql "a" "b" "" "c" "d" ""`},
		{"in the environment, and another", "a:b", []string{given, "c:d"}, `mysql "c" "d" ""`},
		{"reads only", "a:b", []string{"--mysql-read-only"}, `mysql "a" "b" "" read-only`},
		{"none that is needed", "", []string{"--proto", "mysql"},
			`--proto "mysql": needs a login`},
		{"none, and reads only", "", []string{"--mysql-read-only"},
			`--proto "mysql": needs a login`},
		{"another protocol", "", []string{given, "a:b", "--proto", "redis"},
			`--proto "redis": does not go`},
		{"no login", "", []string{given, "sesame"}, given + ": wanted USER:PASSWORD or"},
		{"no login in the environment", "sesame", []string{"--proto", "mysql"},
			"the environment's TCPCOPY_MYSQL_LOGIN: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(mysql.LoginEnv, c.env)
			got, warnings, err := parse(t, append([]string{"-x", "80-10.0.0.2:8080"},
				c.args...)...)
			if err != nil {
				if !strings.HasPrefix(err.Error(), c.want) ||
					strings.Contains(err.Error(), "sesame") {
					t.Errorf("%v, wanted %s", err, c.want)
				}
				return
			}
			s := string(got.Proto)
			o := got.Protocols[mysql.Kind].(*mysql.Settings)
			for _, l := range o.Logins {
				s += fmt.Sprintf(" %q %q %q", l.User, l.Password, l.DB)
			}
			if o.ReadOnly {
				s += " read-only"
			}
			if len(warnings) > 0 {
				s += fmt.Sprint(" ", warnings)
			}
			if s != c.want || (o.Random == nil) != o.Empty() {
				t.Errorf("%s, wanted %s", s, c.want)
			}
		})
	}
}
