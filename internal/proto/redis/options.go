package redis

import (
	"fmt"
	"slices"
	"strings"

	"tcpcopy/internal/proto"
)

// Kind is the number of Redis's protocol.
const Kind proto.Kind = 2

// Protocol describes Redis's protocol. Its replies have no status but success and error.
var Protocol = &proto.Protocol{
	Kind: Kind, Name: "redis", Recognise: Recognise,
	NewClient:   func() proto.Client { return NewClient() },
	NewAnswers:  func() proto.Answers { return NewAnswers() },
	Watch:       func() (proto.Client, proto.Answers) { return NewClient(), NewAnswers() },
	NewSettings: func() proto.Settings { return new(Rules) },
	Comparison:  comparison,
	// Without anything to edit the reader changes nothing.
	NewClientFor: func(s proto.Settings) proto.Client {
		if s.Empty() {
			return NewClient()
		}
		return NewEditor(s.(*Rules))
	},
}

// AuthEnv names the environment variable that may hold the value of --redis-auth.
const AuthEnv = "TCPCOPY_REDIS_AUTH"

// Options is of proto.Settings.
func (r *Rules) Options() []proto.Option {
	return []proto.Option{
		{
			Name: "redis-deny", Arg: "COMMANDS", Set: r.addDeny, Clear: func() { r.Deny = nil },
			Help: "do not send these Redis commands: several with commas, such as " +
				"FLUSHALL,FLUSHDB,CONFIG; may be given several times",
		},
		{
			Name: "redis-auth", Arg: "LOGIN", Set: r.setAuth,
			Help: "log in to the target's Redis with USER:PASSWORD, or :PASSWORD for the " +
				"default user, in place of the clients' logins; for a target whose passwords " +
				"differ from production's. With --proto redis the environment variable " +
				AuthEnv + " may hold it",
		},
		{
			Name: "redis-auth-file", Arg: "FILE", IsFile: true, Set: r.setAuthFile,
			Help: "read the value of --redis-auth from FILE, so that the command line does not " +
				"show it",
		},
	}
}

func (r *Rules) addDeny(s string) error {
	names, err := ParseDeny(s)
	r.Deny = append(r.Deny, names...)
	return err
}

// setAuth sets the login, which no error shows.
func (r *Rules) setAuth(s string) error {
	user, password, err := ParseAuth(s)
	if err == nil {
		r.User, r.Password = user, password
	}
	return err
}

func (r *Rules) setAuthFile(text string) error {
	if err := r.setAuth(text); err != nil {
		return fmt.Errorf("redis: holds no login: %s", strings.TrimPrefix(err.Error(), "redis: "))
	}
	return nil
}

// Empty is of proto.Settings.
func (r *Rules) Empty() bool { return len(r.Deny) == 0 && r.Password == "" }

// Complete is of proto.Settings. It takes the login from the environment if no option gave one.
func (r *Rules) Complete(env proto.Env) error {
	text := env.Lookup(AuthEnv)
	if text == "" || r.Password != "" {
		return nil
	}
	if err := r.setAuth(text); err != nil {
		return &proto.EnvError{Name: AuthEnv, Err: err}
	}
	return nil
}

// Clone is of proto.Settings.
func (r *Rules) Clone() proto.Settings {
	c := *r
	c.Deny = slices.Clone(r.Deny)
	return &c
}
