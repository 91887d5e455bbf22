// Package known lists the protocols: by Kind, for who reads answers elsewhere, and for --proto. It knows none
// itself.
package known

import (
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/proto/redis"
)

// Answers makes a reader of a target's answers; nil where the kind is none that is known here.
func Answers(k proto.Kind) proto.Answers {
	switch k {
	case proto.HTTP1:
		return http1.NewAnswers()
	case proto.Redis:
		return redis.NewAnswers()
	}
	return nil
}

// Protocol returns what a session must have of a protocol; false where the kind is none that is known here.
func Protocol(k proto.Kind) (p proto.Protocol, ok bool) {
	switch k {
	case proto.HTTP1:
		p = proto.Protocol{Recognise: http1.Recognise, NewClient: func() proto.Client { return http1.NewClient() }}
	case proto.Redis:
		p = proto.Protocol{Recognise: redis.Recognise, NewClient: func() proto.Client { return redis.NewClient() }}
	default:
		return p, false
	}
	p.Kind = k
	return p, true
}

// Kinds lists the protocols that are known here.
func Kinds() []proto.Kind { return []proto.Kind{proto.HTTP1, proto.Redis} }

// Auto lists the protocols that are recognised where none is named.
func Auto() []proto.Protocol {
	var all []proto.Protocol
	for _, k := range Kinds() {
		if p, ok := Protocol(k); ok {
			all = append(all, p)
		}
	}
	return all
}
