package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/proto/known"
	"tcpcopy/internal/proto/redis"
	"tcpcopy/internal/proto/semantics"
)

func TestRules(t *testing.T) {
	login := filepath.Join(t.TempDir(), "login")
	if err := os.WriteFile(login, []byte("bob:se:cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		env  string
		args []string
		want string // the protocol, and what there is of it
	}{
		{"none", "", nil, "auto"},
		{"requests denied", "", []string{"--http-deny", "post /orders", "--http-deny=* /admin/*"},
			"http1 deny [POST /orders * /admin/*]"},
		{"requests allowed", "", []string{"--proto", "http1", "--http-allow", "GET /"},
			"http1 allow [GET /]"},
		{"requests allowed, of HTTP/2", "", []string{"--proto", "http2", "--http-allow", "GET /"},
			"http2 allow [GET /]"},
		{"headers", "", []string{"--http-set", "X-Copy: yes", "--http-host", "test.example.org"},
			"http1 set 2"},
		{"deadlines", "", []string{"--grpc-timeout", "2.5"}, "http2"},
		{"deadlines and headers", "", []string{"--http-host", "a", "--grpc-timeout", "none"},
			"http2 set 1"},
		{"commands denied", "", []string{"--redis-deny", "flushall,config", "--redis-deny",
			"EVAL"}, "redis deny [FLUSHALL CONFIG EVAL]"},
		{"a login", "", []string{"--redis-auth", ":secret"}, `redis as "" "secret"`},
		{"a login in a file", "", []string{"--redis-auth-file", login},
			`redis as "bob" "se:cret"`},
		{"a login in the environment", "a:b", []string{"--redis-deny", "KEYS"},
			`redis deny [KEYS] as "a" "b"`},
		{"a login in the environment, for Redis", "a:b", []string{"--proto", "redis"},
			`redis as "a" "b"`},
		{"a login in the environment, and another", "a:b", []string{"--redis-auth", "c:d"},
			`redis as "c" "d"`},
		{"a login in the environment, for nobody", "a:b", nil, "auto"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(redis.AuthEnv, c.env)
			got, _, err := parse(t, append([]string{"-x", "80-10.0.0.2:8080"}, c.args...)...)
			if err != nil {
				t.Fatal(err)
			}
			web, store := got.Protocols[http1.Kind].(*semantics.Rules),
				got.Protocols[redis.Kind].(*redis.Rules)
			s := string(got.Proto)
			for _, list := range []struct {
				name string
				n    int
				all  any
			}{{"allow", len(web.Allow), web.Allow}, {"deny", len(web.Deny), web.Deny},
				{"set", len(web.Set), len(web.Set)}, {"deny", len(store.Deny), store.Deny}} {
				if list.n > 0 {
					s += fmt.Sprintf(" %s %v", list.name, list.all)
				}
			}
			if store.Password != "" {
				s += fmt.Sprintf(" as %q %q", store.User, store.Password)
			}
			if s != c.want {
				t.Errorf("got %s, wanted %s", s, c.want)
			}
		})
	}
}

// No error shows a login.
func TestLoginsStaySecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "login")
	for _, text := range []string{"sesame", "user:", strings.Repeat("sesame:", 1000)} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"--redis-auth", text}, {"--redis-auth-file", file},
			{"--proto", "redis"}} {
			if len(args) == 2 && args[0] == "--proto" {
				t.Setenv(redis.AuthEnv, text)
			}
			_, _, err := parse(t, append([]string{"-x", "80-10.0.0.2:8080"}, args...)...)
			if err == nil || strings.Contains(err.Error(), "sesame") ||
				strings.Contains(err.Error(), `"user:"`) {
				t.Errorf("%.10s of %.10q: %v, wanted an error without the login", args[0], text,
					err)
			}
		}
	}
}

// Each mapping with options of a protocol speaks that protocol.
func TestRulesOfMappings(t *testing.T) {
	t.Setenv(redis.AuthEnv, "")
	two, err := mapping.Parse("80-10.0.0.2:8080,6379-10.0.0.2:6379")
	if err != nil {
		t.Fatal(err)
	}
	deny := func(p Proto) Mapped {
		return Mapped{Proto: p,
			Protocols: known.Settings{redis.Kind: &redis.Rules{Deny: []string{"KEYS"}}}}
	}
	for _, c := range []struct {
		name   string
		all    Mapped
		own    map[int]Mapped
		first  Proto
		second Proto
		wrong  string
	}{
		{"one has some", Mapped{Proto: ProtoAuto}, map[int]Mapped{1: deny(ProtoAuto)}, ProtoAuto,
			"redis", ""},
		{"both, and one says what it speaks", deny(ProtoAuto), map[int]Mapped{0: deny("http1")},
			"http1", "redis", ""},
		{"neither speaks it", deny("http1"), map[int]Mapped{1: deny("http1")}, "", "",
			`--proto "http1": does not go`},
		{"one speaks nothing", Mapped{Proto: ProtoAuto}, map[int]Mapped{1: deny(ProtoNone)}, "",
			"", `--proto "none": does not go`},
	} {
		t.Run(c.name, func(t *testing.T) {
			copy := Copy{Mappings: two, Mapped: c.all, Own: c.own}
			err := copy.speaks()
			if (err == nil) != (c.wrong == "") || err != nil && !strings.HasPrefix(err.Error(),
				c.wrong) {
				t.Fatalf("%v, wanted %q", err, c.wrong)
			}
			if err == nil && (copy.Of(0).Proto != c.first || copy.Of(1).Proto != c.second) {
				t.Errorf("%s and %s, wanted %s and %s", copy.Of(0).Proto, copy.Of(1).Proto,
					c.first, c.second)
			}
		})
	}
}
