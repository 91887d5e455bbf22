package proto

import (
	"io"

	"tcpcopy/internal/core/ledger"
)

// Kind is a protocol's number, on the wire between copier and intercept too: values do not change,
// and a value that was in use is not used again.
type Kind uint8

// None stands for no protocol: where answers end is guessed.
const None Kind = 0

// Protocol describes a protocol. Its package makes one, and package known lists it; nothing else
// in this program knows it by name. The reasons and classes that it brings to the account are
// defined by its package, with ledger.DefineReason and ledger.DefineClass.
type Protocol struct {
	Kind Kind
	Name string // as --proto and reports have it
	// Recognise judges a connection by its first bytes, for --proto auto: the client's, and those
	// that production's server had sent by then, as far as they were captured; server is empty for
	// a connection found under way.
	Recognise func(client, server []byte) Verdict
	// NewClient makes the reader of one session whose mapping has no options of the protocol.
	NewClient func() Client
	// NewAnswers makes the reader of a target's answers on one connection. It is called where the
	// target's payload is.
	NewAnswers func() Answers
	// Watch makes readers that change nothing, for what production's client and server send to
	// each other; nil if that cannot be followed.
	Watch func() (Client, Answers)
	// Class returns the class that an answer is counted in, 0 for none; nil if the protocol has no
	// classes of status.
	Class func(*Answer) ledger.Class
	// NewSettings makes the protocol's options for one mapping; nil if it has none.
	NewSettings func() Settings
	// Shares is the protocol whose settings a mapping of this one has; None: its own. If this one
	// precedes it in the list, its connections begin as those of the other one do. One that has
	// settings of its own as well has Settings that are Sharing.
	Shares Kind
	// NewClientFor makes the reader of one session whose mapping has these settings, which it
	// keeps.
	NewClientFor func(Settings) Client
	// Comparison is what a comparison of two servers' answers needs; nil if they are not compared.
	Comparison *Comparison
}

// With returns the protocol as a mapping with these settings speaks it. A nil s has none. The
// settings are kept by every reader that is made, and must not change from then on.
func (p *Protocol) With(s Settings) Protocol {
	q := *p
	if s != nil {
		q.NewClient = func() Client { return p.NewClientFor(s) }
	}
	return q
}

// Verdict is what a protocol concludes from a connection's first bytes. Yes must be certain.
type Verdict uint8

// The verdicts.
const (
	Unsure Verdict = iota // more bytes are needed
	Yes
	No
	Unanswered // production's answer tells, which may follow more bytes of the client
)

// Settings holds what a user has set of a protocol's options for one mapping.
type Settings interface {
	// Options returns the options. They change these settings when they are set.
	Options() []Option
	// Empty reports whether nothing is set. A mapping with settings that are not empty speaks the
	// protocol and no other: what the protocol's reader does not see would pass by them.
	Empty() bool
	// Complete takes from env what the options leave open, and checks the settings as a whole. It
	// is called for a mapping that speaks the protocol by name, or has settings that are not
	// empty. An error that concerns an environment variable is an *EnvError.
	Complete(env Env) error
	// Clone returns a copy that does not change with the original.
	Clone() Settings
}

// Sharing is Settings of a protocol that has those of another one beside its own.
type Sharing interface {
	Settings
	// Share returns its own settings with those of the other protocol.
	Share(Settings) Settings
}

// Option describes one option of a protocol. Set, or Switch, takes its value. An error of Set is
// of the form "package: what was wrong: what was wanted" and quotes the value, except one that
// holds a secret.
type Option struct {
	Name   string // of the flag, and the key in a configuration file
	Letter string // the flag's short form; empty: none
	Arg    string // what help calls the value; empty for a switch
	Help   string
	// Set takes a value. Of an option with IsFile, it takes the content of the file that was
	// named.
	Set func(value string) error
	// IsFile reports that the value names a file that holds a secret.
	IsFile bool
	// Switch is set by an option without a value.
	Switch *bool
	// Clear forgets the values that were set; nil if the option has one value at most.
	Clear func()
	// Refused explains why the option is not honoured; else it is empty. It is for options of
	// TCPCopy.
	Refused string
}

// Env is what settings may ask their surroundings for.
type Env struct {
	Lookup func(name string) string // an environment variable; empty if it is not set
	Random io.Reader
}

// EnvError reports an environment variable whose value cannot be used. Err does not quote a
// secret.
type EnvError struct {
	Name string
	Err  error
}

// Error returns the variable's name and what is wrong with its value.
func (e *EnvError) Error() string { return "the environment's " + e.Name + ": " + e.Err.Error() }

// Unwrap returns the error of the value.
func (e *EnvError) Unwrap() error { return e.Err }
