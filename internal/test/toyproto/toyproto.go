// Package toyproto is a protocol for tests: a request is a line that begins with a question mark,
// and an answer is a line that begins with a plus or, where something is wrong, with a minus. It
// shows all that a protocol brings, in one file.
package toyproto

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/known"
)

// Name is what --proto calls the protocol.
const Name = "toy"

// Register makes the protocol known for as long as the test runs.
func Register(t *testing.T) {
	t.Cleanup(ledger.Scope())
	denied := ledger.DefineReason("toy_denied", "a request that --toy-deny keeps from the target",
		true)
	fine, wrong := ledger.DefineClass("toy fine", ""), ledger.DefineClass("toy wrong", "")
	t.Cleanup(known.Register(&proto.Protocol{
		Kind: 250, Name: Name, Recognise: recognise,
		NewClient:   func() proto.Client { return &client{settings: new(settings)} },
		NewAnswers:  func() proto.Answers { return new(answers) },
		NewSettings: func() proto.Settings { return &settings{reason: denied} },
		NewClientFor: func(s proto.Settings) proto.Client {
			return &client{settings: s.(*settings)}
		},
		Class: func(a *proto.Answer) ledger.Class {
			if a.Failed {
				return wrong
			}
			return fine
		},
	}))
}

func recognise(first, _ []byte) proto.Verdict {
	switch {
	case len(first) == 0 || first[0] == '?' && bytes.IndexByte(first, '\n') < 0:
		return proto.Unsure
	case first[0] == '?':
		return proto.Yes
	}
	return proto.No
}

// settings leave out requests that have one of the words.
type settings struct {
	deny   []string
	reason ledger.Reason
}

// Options is of proto.Settings.
func (s *settings) Options() []proto.Option {
	return []proto.Option{{
		Name: "toy-deny", Arg: "WORD", Help: "do not send toy requests that have this word",
		Clear: func() { s.deny = nil },
		Set: func(word string) error {
			if word == "" || bytes.IndexByte([]byte(word), ' ') >= 0 {
				return fmt.Errorf("toy: word %q: wanted one word", word)
			}
			s.deny = append(s.deny, word)
			return nil
		},
	}}
}

// Empty is of proto.Settings.
func (s *settings) Empty() bool { return len(s.deny) == 0 }

// Complete is of proto.Settings: it refuses a variable.
func (s *settings) Complete(env proto.Env) error {
	if env.Lookup("TCPCOPY_TOY") != "" {
		return &proto.EnvError{Name: "TCPCOPY_TOY", Err: errors.New("toy: is set: wanted nothing")}
	}
	return nil
}

// Clone is of proto.Settings.
func (s *settings) Clone() proto.Settings {
	return &settings{deny: slices.Clone(s.deny), reason: s.reason}
}

// client reads requests.
type client struct {
	settings *settings
	line     []byte
}

// The methods of proto.Client; without words to deny it changes nothing.

func (c *client) Edits() bool                   { return !c.settings.Empty() }
func (c *client) Begin(bool, *proto.Out) error  { c.line = nil; return nil }
func (c *client) Kept([]byte, *proto.Out) error { return nil }
func (c *client) Holds() bool                   { return false }
func (c *client) Expects() bool                 { return false }
func (c *client) Server(uint64, []byte)         {}

// Feed is of proto.Client: it finds lines.
func (c *client) Feed(p []byte, _ uint64, out *proto.Out) error {
	for _, b := range p {
		if c.line = append(c.line, b); b != '\n' {
			continue
		}
		if c.line[0] != '?' {
			return fmt.Errorf("toy: %w: request %q", proto.ErrLost, c.line)
		}
		if slices.ContainsFunc(c.settings.deny,
			func(w string) bool { return bytes.Contains(c.line, []byte(w)) }) {
			out.Drop(len(c.line), c.settings.reason)
			out.Refuse(c.settings.reason)
		} else {
			out.Pass(len(c.line))
			out.Request(proto.Request{})
		}
		c.line = c.line[:0]
	}
	return nil
}

// answers reads answers.
type answers struct {
	first byte
	at    uint64
	began uint64
}

// The methods of proto.Answers that have nothing to do: there are no hints, and all bytes are read.

func (a *answers) Expect(uint64, proto.Hint)               {}
func (a *answers) Blind() uint64                           { return 0 }
func (a *answers) Kept() bool                              { return false }
func (a *answers) Close(out []proto.Answer) []proto.Answer { return out }

// Skip is of proto.Answers: it is never called.
func (a *answers) Skip(_ uint64, out []proto.Answer) []proto.Answer { return out }

// Feed is of proto.Answers: it finds lines.
func (a *answers) Feed(p []byte, out []proto.Answer) ([]proto.Answer, error) {
	for _, b := range p {
		if a.at++; a.first == 0 {
			a.first, a.began = b, a.at-1
		}
		switch {
		case a.first != '+' && a.first != '-':
			return out, fmt.Errorf("toy: %w: answer %q", proto.ErrLost, a.first)
		case b == '\n':
			out = append(out, proto.Answer{End: a.at, Size: a.at - a.began,
				Failed: a.first == '-'})
			a.first = 0
		}
	}
	return out, nil
}
