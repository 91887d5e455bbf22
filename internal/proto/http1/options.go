package http1

import (
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/semantics"
)

// Kind is the number of HTTP/1.
const Kind proto.Kind = 1

// Protocol describes HTTP/1.
var Protocol = &proto.Protocol{
	Kind: Kind, Name: "http1", Recognise: Recognise, Class: semantics.Class,
	NewClient:   func() proto.Client { return NewClient() },
	NewAnswers:  func() proto.Answers { return NewAnswers() },
	Watch:       func() (proto.Client, proto.Answers) { return NewClient(), NewAnswers() },
	NewSettings: func() proto.Settings { return new(semantics.Rules) },
	Comparison:  comparison,
	// Without anything to edit the reader changes nothing.
	NewClientFor: func(s proto.Settings) proto.Client {
		if s.Empty() {
			return NewClient()
		}
		return NewEditor(s.(*semantics.Rules))
	},
}
