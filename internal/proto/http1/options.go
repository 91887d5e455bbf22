package http1

import (
	"slices"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
)

// Kind is the number of HTTP/1.
const Kind proto.Kind = 1

// Protocol describes HTTP/1.
var Protocol = &proto.Protocol{
	Kind: Kind, Name: "http1", Recognise: Recognise, Class: class,
	NewClient:   func() proto.Client { return NewClient() },
	NewAnswers:  func() proto.Answers { return NewAnswers() },
	Watch:       func() (proto.Client, proto.Answers) { return NewClient(), NewAnswers() },
	NewSettings: func() proto.Settings { return new(Rules) },
	Comparison:  comparison,
}

// classes are the classes of status codes (RFC 9110 §15), from 1xx on.
var classes = [5]ledger.Class{
	ledger.DefineClass("1xx", ""), ledger.DefineClass("2xx", ""), ledger.DefineClass("3xx", ""),
	ledger.DefineClass("4xx", ""), ledger.DefineClass("5xx", ""),
}

func class(a *proto.Answer) ledger.Class {
	if i := int(a.Status)/100 - 1; i >= 0 && i < len(classes) {
		return classes[i]
	}
	return 0
}

// Options is of proto.Settings.
func (r *Rules) Options() []proto.Option {
	clearSet := func() { r.Set = nil }
	return []proto.Option{
		{
			Name: "http-allow", Arg: "PATTERN", Set: addPattern(&r.Allow),
			Clear: func() { r.Allow = nil },
			Help: "send only the HTTP requests that match 'METHOD PATH', such as 'GET /'; may " +
				"be given several times (default: all requests). METHOD may be *; PATH is the " +
				"beginning of the path, or, if it has a * (for any characters), the whole path. " +
				"Connections that are not HTTP/1 are not copied",
		},
		{
			Name: "http-deny", Arg: "PATTERN", Set: addPattern(&r.Deny),
			Clear: func() { r.Deny = nil },
			Help: "do not send the HTTP requests that match, such as 'POST /orders'; may be " +
				"given several times",
		},
		{
			Name: "http-set", Arg: "HEADER", Set: r.addParsed(ParseHeader), Clear: clearSet,
			Help: "set the header 'Name: value' in every HTTP request, in place of any of that " +
				"name; may be given several times",
		},
		{
			Name: "http-host", Arg: "NAME", Set: r.addParsed(ParseHost), Clear: clearSet,
			Help: "send every HTTP request to this host name, for a test server that goes by " +
				"the Host header",
		},
	}
}

func addPattern(dst *[]Pattern) func(string) error {
	return func(s string) error {
		p, err := ParsePattern(s)
		if err == nil {
			*dst = append(*dst, p)
		}
		return err
	}
}

func (r *Rules) addParsed(parse func(string) (Header, error)) func(string) error {
	return func(s string) error {
		h, err := parse(s)
		if err != nil {
			return err
		}
		return r.AddHeader(h)
	}
}

// Empty is of proto.Settings.
func (r *Rules) Empty() bool { return len(r.Allow)+len(r.Deny)+len(r.Set) == 0 }

// Complete is of proto.Settings: nothing is missing.
func (r *Rules) Complete(proto.Env) error { return nil }

// Clone is of proto.Settings.
func (r *Rules) Clone() proto.Settings {
	return &Rules{Allow: slices.Clone(r.Allow), Deny: slices.Clone(r.Deny),
		Set: slices.Clone(r.Set)}
}

// NewClient is of proto.Settings: a reader that edits, if there is anything to edit.
func (r *Rules) NewClient() proto.Client {
	if r.Empty() {
		return NewClient()
	}
	return NewEditor(r)
}
