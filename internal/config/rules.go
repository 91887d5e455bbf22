package config

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/proto/known"
	"tcpcopy/internal/proto/mysql"
	"tcpcopy/internal/proto/redis"
)

// redisAuthEnv names the environment variable that holds what --redis-auth takes.
const redisAuthEnv = "TCPCOPY_REDIS_AUTH"

// mysqlLoginEnv names the environment variable that holds what --mysql-login-file's file does.
const mysqlLoginEnv = "TCPCOPY_MYSQL_LOGIN"

// maxSecret bounds a file that holds a login, in bytes.
const maxSecret = 64 << 10

// ruleOptions are about single requests of a protocol. What is to be said of the files that they name is appended to said.
func ruleOptions(r *known.Rules, said *[]string) []option {
	return []option{
		{
			name: "http-allow", arg: "PATTERN", group: Content, set: addPattern(&r.HTTP1.Allow), clear: func() { r.HTTP1.Allow = nil },
			help: "only HTTP requests that match 'METHOD PATH' go to the target, such as 'GET /'; may be given several times. METHOD may be *; PATH is the beginning of the path, or, with * in it for any characters, all of it",
		},
		{
			name: "http-deny", arg: "PATTERN", group: Content, set: addPattern(&r.HTTP1.Deny), clear: func() { r.HTTP1.Deny = nil },
			help: "HTTP requests that match do not go to the target; may be given several times",
		},
		{
			name: "http-set", arg: "HEADER", group: Content, set: addHeader(&r.HTTP1, http1.ParseHeader), clear: func() { r.HTTP1.Set = nil },
			help: "set the header 'Name: value' of every HTTP request, in the place of any of that name; may be given several times",
		},
		{
			name: "http-host", arg: "NAME", group: Content, set: addHeader(&r.HTTP1, http1.ParseHost), clear: func() { r.HTTP1.Set = nil },
			help: "the host that every HTTP request asks for",
		},
		{
			name: "redis-deny", arg: "COMMANDS", group: Content, set: addCommands(&r.Redis), clear: func() { r.Redis.Deny = nil },
			help: "these Redis commands do not go to the target: several with commas, such as FLUSHALL,FLUSHDB,CONFIG",
		},
		{
			name: "redis-auth", arg: "LOGIN", group: Content, set: setAuth(&r.Redis),
			help: "log in to the target's Redis with USER:PASSWORD, and not as the clients do; :PASSWORD is for the default user; with --proto redis also in the environment, as " + redisAuthEnv,
		},
		{
			name: "redis-auth-file", arg: "FILE", group: Content, set: setAuthFile(&r.Redis, said),
			help: "a file that holds what --redis-auth takes, where nobody else can see it",
		},
		{
			name: "mysql-login", arg: "LOGIN", group: Content, set: addLogin(&r.MySQL),
			help: "log in to the target's MySQL or MariaDB with USER:PASSWORD for the clients of that user; may be given several times. USER:PASSWORD@DATABASE names the database of connections found under way, which have the first login; a password with an @ needs another @ behind it",
		},
		{
			name: "mysql-login-file", arg: "FILE", group: Content, set: addLoginFile(&r.MySQL, said),
			help: "a file of logins, one in each line, where nobody else can see them; with --proto mysql also in the environment, as " + mysqlLoginEnv,
		},
		{
			name: "mysql-read-only", group: Content, set: on(&r.MySQL.ReadOnly),
			help: "only statements that cannot write go to the target",
		},
	}
}

func addPattern(dst *[]http1.Pattern) func(string) error {
	return func(s string) error {
		p, err := http1.ParsePattern(s)
		if err != nil {
			return quoting(err)
		}
		*dst = append((*dst)[:len(*dst):len(*dst)], p)
		return nil
	}
}

func addHeader(dst *http1.Rules, parse func(string) (http1.Header, error)) func(string) error {
	return func(s string) error {
		h, err := parse(s)
		if err == nil {
			err = dst.AddHeader(h)
		}
		return quoted(err)
	}
}

func addCommands(dst *redis.Rules) func(string) error {
	return func(s string) error {
		names, err := redis.ParseDeny(s)
		dst.Deny = append(dst.Deny[:len(dst.Deny):len(dst.Deny)], names...)
		return quoted(err)
	}
}

// setAuth reads a login, which no message may show.
func setAuth(dst *redis.Rules) func(string) error {
	return func(s string) error {
		user, password, err := redis.ParseAuth(s)
		if err == nil {
			dst.User, dst.Password = user, password
		}
		return quoted(err)
	}
}

func setAuthFile(dst *redis.Rules, said *[]string) func(string) error {
	return func(name string) error {
		text, err := readSecret(name, said)
		if err != nil {
			return wanted("%v", err)
		}
		if err := setAuth(dst)(text); err != nil {
			return wanted("holds no login: %v", err)
		}
		return nil
	}
}

func addLogin(dst *mysql.Options) func(string) error {
	return func(s string) error {
		l, err := mysql.ParseLogin(s)
		if err == nil {
			dst.AddLogin(l)
		}
		return quoted(err)
	}
}

func addLoginFile(dst *mysql.Options, said *[]string) func(string) error {
	return func(name string) error {
		text, err := readSecret(name, said)
		if err != nil {
			return wanted("%v", err)
		}
		return addLogins(dst, text)
	}
}

// addLogins adds a login for each line that is neither empty nor a comment.
func addLogins(dst *mysql.Options, text string) error {
	n, found := 0, false
	for line := range strings.Lines(text) {
		n++
		if line = strings.TrimRight(line, "\r\n"); line == "" || line[0] == '#' {
			continue
		}
		found = true
		if err := addLogin(dst)(line); err != nil {
			return wanted("holds what is no login: line %d: %v", n, err)
		}
	}
	if !found {
		return wanted("holds no login")
	}
	return nil
}

// byteOrderMark is what some editors begin a file with.
const byteOrderMark = "\ufeff"

// readSecret reads a file that holds little, and says so where others can read it, too.
func readSecret(name string, said *[]string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		var pe *fs.PathError
		if errors.As(err, &pe) {
			err = pe.Err
		}
		return "", fmt.Errorf("cannot be read: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("cannot be read: %w", err)
	case len(text) > maxSecret:
		return "", fmt.Errorf("more than %d bytes: wanted a login", maxSecret)
	}
	// A pipe or a process substitution has a mode that says nothing.
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		*said = append((*said)[:len(*said):len(*said)], fmt.Sprintf("the passwords in %q can be read by others (mode %04o): chmod 600 %s", name, info.Mode().Perm(), name))
	}
	return strings.TrimRight(strings.TrimPrefix(string(text), byteOrderMark), "\r\n"), nil
}

// rules completes what the options say of single requests: a mapping with such options speaks their protocol,
// and that alone, for what nobody can read would pass by them.
func (c *Copy) rules() error {
	if err := c.Mapped.speak(); err != nil && len(c.Own) < len(c.Mappings) {
		return err
	}
	for i, m := range c.Own {
		if err := m.speak(); err != nil {
			return err
		}
		c.Own[i] = m
	}
	used := make(map[Proto]bool)
	for i := range c.Mappings {
		used[c.Of(i).Proto] = true
	}
	for i := range c.Mappings {
		m := c.Of(i)
		for _, k := range m.Rules.Kinds() {
			if !used[Proto(k.String())] {
				return m.needs(k)
			}
		}
	}
	return nil
}

// needs is the problem with rules for a protocol that nobody speaks.
func (m *Mapped) needs(k proto.Kind) error {
	return &Problem{
		Flag: "--proto", Value: string(m.Proto),
		What: fmt.Sprintf("does not go with options for requests of %v: wanted --proto %v, for nothing else may pass by them", k, k),
	}
}

// speak makes the protocol of a mapping with rules the one that they are for.
func (m *Mapped) speak() error {
	r := &m.Rules.Redis
	if text := os.Getenv(redisAuthEnv); text != "" && r.Password == "" && (m.Proto == Proto(proto.Redis.String()) || len(r.Deny) > 0) {
		user, password, err := redis.ParseAuth(text)
		if err != nil {
			return &Problem{Flag: "the environment's " + redisAuthEnv, What: quoting(err).What}
		}
		r.User, r.Password = user, password
	}
	if err := m.speakMySQL(); err != nil {
		return err
	}
	kinds := m.Rules.Kinds()
	switch {
	case len(kinds) == 0:
		return nil
	case m.Proto == ProtoNone, m.Proto == ProtoAuto && len(kinds) > 1:
		return m.needs(kinds[0])
	case m.Proto == ProtoAuto:
		m.Proto = Proto(kinds[0].String())
	}
	return nil
}

// speakMySQL completes what is needed to log in to a MySQL server.
func (m *Mapped) speakMySQL() error {
	o := &m.Rules.MySQL
	if o.Empty() && m.Proto != Proto(proto.MySQL.String()) {
		return nil
	}
	o.Random = rand.Reader
	if text := os.Getenv(mysqlLoginEnv); text != "" && len(o.Logins) == 0 {
		if err := addLogins(o, text); err != nil {
			return &Problem{Flag: "the environment's " + mysqlLoginEnv, What: quoting(err).What}
		}
	}
	if len(o.Logins) == 0 {
		return &Problem{
			Flag: "--proto", Value: proto.MySQL.String(),
			What: "needs a login to the target, for the clients' own prove nothing there: wanted --mysql-login, --mysql-login-file or " + mysqlLoginEnv,
		}
	}
	return nil
}
