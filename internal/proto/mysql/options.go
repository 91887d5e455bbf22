package mysql

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
)

// Kind is the number of MySQL's protocol.
const Kind proto.Kind = 3

// Protocol describes the protocol of MySQL and MariaDB.
var Protocol = &proto.Protocol{
	Kind: Kind, Name: "mysql", Recognise: Recognise,
	NewClient:    func() proto.Client { return NewClient(new(Settings)) },
	NewAnswers:   func() proto.Answers { return NewAnswers() },
	Watch:        func() (proto.Client, proto.Answers) { return new(watcher), NewAnswers() },
	Comparison:   comparison,
	NewSettings:  func() proto.Settings { return new(Settings) },
	NewClientFor: func(s proto.Settings) proto.Client { return NewClient(s.(*Settings)) },
}

// The reasons that MySQL brings to the account, in the order in which reports show them.
var (
	noLogin     = ledger.DefineReason("no_login", "no --mysql-login for the client's user", false)
	loginFailed = ledger.DefineReason("login_failed", "the target refused the copy's login", false)
	compressed  = ledger.DefineReason("compressed", "the client compresses: such connections "+
		"are not read", false)
	readOnly = ledger.DefineReason("read_only", "may write: left out by --mysql-read-only", true)

	unknownStatement = ledger.DefineReason("unknown_statement",
		"uses a prepared statement that the target does not have", false)
	loadData      = ledger.DefineReason("load_data", "loads a file: LOAD DATA", false)
	serverCommand = ledger.DefineReason("server_command",
		"concerns production's server alone: KILL, replication", false)
	queryAttributes = ledger.DefineReason("query_attributes", "has query attributes, which the "+
		"target does not take", false)
)

// loginErrors are the errors by which refused logins are told apart.
var loginErrors = []struct {
	code  uint16
	class ledger.Class
}{
	{1045, loginError(1045, "wrong password, or no such user from there")},
	{1044, loginError(1044, "the user may not use the database")},
	{1049, loginError(1049, "no such database")},
	{1040, loginError(1040, "too many connections")},
	{1130, loginError(1130, "no user may connect from there")},
	{1129, loginError(1129, "blocked, after max_connect_errors: FLUSH HOSTS")},
	{3159, loginError(3159, "only with encryption")},
}

func loginError(code uint16, meaning string) ledger.Class {
	return ledger.DefineClass(fmt.Sprintf("error %d", code), meaning)
}

// otherError is the class of every other error of a login.
var otherError = ledger.DefineClass("another error", "")

// loginRefusal returns the error of a login that the target has refused with that code, or, with
// 0, that cannot succeed. final reports whether another attempt would fail too.
func loginRefusal(code uint16, final bool) *proto.Refusal {
	r := &proto.Refusal{Reason: loginFailed, Class: otherError, Code: code, Final: final}
	for _, e := range loginErrors {
		if e.code == code {
			r.Class = e.class
		}
	}
	return r
}

// LoginEnv names the environment variable that may hold logins, as the file of --mysql-login-file
// does.
const LoginEnv = "TCPCOPY_MYSQL_LOGIN"

// Options is of proto.Settings.
func (o *Settings) Options() []proto.Option {
	return []proto.Option{
		{
			Name: "mysql-login", Arg: "LOGIN", Set: o.setLogin,
			Help: "log in to the target's MySQL or MariaDB with USER:PASSWORD for the clients " +
				"of that user, since the clients' own logins are valid at production only; may " +
				"be given several times. USER:PASSWORD@DATABASE names the database of " +
				"connections found under way, which use the first login; a password that has an " +
				"@ needs another @ behind it",
		},
		{
			Name: "mysql-login-file", Arg: "FILE", IsFile: true, Set: o.setLogins,
			Help: "read logins from FILE, one a line, so that the command line does not show " +
				"them. With --proto mysql the environment variable " + LoginEnv + " may hold them",
		},
		{
			Name: "mysql-read-only", Switch: &o.ReadOnly,
			Help: "send only the statements that cannot write, for a target whose data must not " +
				"change (default: all)",
		},
		{
			Name: "users", Letter: "u", Arg: "PAIRS", Help: "refused: see --mysql-login",
			Refused: "logins to the target's MySQL are given as USER:PASSWORD, with " +
				"--mysql-login or --mysql-login-file",
		},
	}
}

func (o *Settings) setLogin(s string) error {
	l, err := ParseLogin(s)
	if err == nil {
		o.AddLogin(l)
	}
	return err
}

// setLogins adds a login for each line that is neither empty nor a comment.
func (o *Settings) setLogins(text string) error {
	n, found := 0, false
	for line := range strings.Lines(text) {
		n++
		if line = strings.TrimRight(line, "\r\n"); line == "" || line[0] == '#' {
			continue
		}
		found = true
		if err := o.setLogin(line); err != nil {
			return fmt.Errorf("mysql: line %d holds no login: %s", n,
				strings.TrimPrefix(err.Error(), "mysql: "))
		}
	}
	if !found {
		return errors.New("mysql: holds no login")
	}
	return nil
}

// Empty is of proto.Settings.
func (o *Settings) Empty() bool { return len(o.Logins) == 0 && !o.ReadOnly }

// Complete is of proto.Settings. It takes logins from the environment if no option gave one, and
// fails if there is none at all.
func (o *Settings) Complete(env proto.Env) error {
	o.Random = env.Random
	if text := env.Lookup(LoginEnv); text != "" && len(o.Logins) == 0 {
		if err := o.setLogins(text); err != nil {
			return &proto.EnvError{Name: LoginEnv, Err: err}
		}
	}
	if len(o.Logins) == 0 {
		return errors.New("mysql: needs a login to the target, since the clients' own are valid " +
			"at production only: wanted --mysql-login, --mysql-login-file or " + LoginEnv)
	}
	return nil
}

// Clone is of proto.Settings.
func (o *Settings) Clone() proto.Settings {
	c := *o
	c.Logins = slices.Clone(o.Logins)
	return &c
}
