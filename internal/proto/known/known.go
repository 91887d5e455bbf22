// Package known lists the protocols: for --proto and its options, and for the readers of answers,
// which know a protocol by its Kind. A protocol is added here, in one line, and nowhere else.
package known

import (
	"fmt"
	"slices"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/bytestream"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/proto/http2"
	"tcpcopy/internal/proto/mysql"
	"tcpcopy/internal/proto/redis"
	"tcpcopy/internal/proto/websocket"
)

// protocols lists the protocols, in the order in which help shows their options, and in which they
// are recognised: one that begins as another one does precedes it.
var protocols = []*proto.Protocol{
	websocket.Protocol,
	http2.Protocol,
	http1.Protocol,
	redis.Protocol,
	mysql.Protocol,
}

// All returns every protocol.
func All() []*proto.Protocol { return protocols }

// Register adds a protocol until the function that it returns is called. It is for tests, before
// anything runs that reads the list; it panics if the Kind or the Name is taken.
func Register(p *proto.Protocol) (remove func()) {
	for _, q := range protocols {
		if p.Kind == proto.None || p.Kind == q.Kind || p.Name == q.Name {
			panic(fmt.Sprintf("known: protocol %d, %q, collides with %d, %q", p.Kind, p.Name,
				q.Kind, q.Name))
		}
	}
	before := protocols
	protocols = append(slices.Clone(protocols), p)
	return func() { protocols = before }
}

// Named returns the protocol with that name; nil if there is none.
func Named(name string) *proto.Protocol {
	for _, p := range protocols {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Answers makes a reader of a target's answers; nil if no protocol is of that kind, as an
// intercept of another version may meet. It also makes the reader of bytes of no protocol.
func Answers(k proto.Kind) proto.Answers {
	if k == bytestream.Kind {
		return new(bytestream.Answers)
	}
	for _, p := range protocols {
		if p.Kind == k {
			return p.NewAnswers()
		}
	}
	return nil
}

// Digester makes a digester of the answers in a protocol, for a comparison; nil if answers in that
// protocol are not compared.
func Digester(k proto.Kind, with *proto.Digesting) proto.Digester {
	if k == bytestream.Kind {
		return bytestream.NewDigester(with)
	}
	for _, p := range protocols {
		if p.Kind == k && p.Comparison != nil {
			return p.Comparison.NewDigester(with)
		}
	}
	return nil
}

// Auto returns the protocols that --proto auto recognises. None has settings: a request that is
// not recognised would pass by them.
func Auto() []proto.Protocol {
	all := make([]proto.Protocol, len(protocols))
	for i, p := range protocols {
		all[i] = *p
	}
	return all
}

// Settings holds the settings of one mapping, by protocol. A nil map has none.
type Settings map[proto.Kind]proto.Settings

// NewSettings makes empty settings of all protocols that have options.
func NewSettings() Settings {
	s := make(Settings)
	for _, p := range protocols {
		if p.NewSettings != nil {
			s[p.Kind] = p.NewSettings()
		}
	}
	return s
}

// Of returns the settings by which a mapping that speaks p goes; nil if p has none.
func (s Settings) Of(p *proto.Protocol) proto.Settings {
	own, shared := s[p.Kind], s[p.Shares]
	switch {
	case p.Shares == proto.None:
		return own
	case p.NewSettings == nil, shared == nil:
		return shared
	case own == nil:
		own = p.NewSettings()
	}
	return own.(proto.Sharing).Share(shared)
}

// Clone returns a copy that does not change with the original.
func (s Settings) Clone() Settings {
	c := make(Settings, len(s))
	for k, of := range s {
		c[k] = of.Clone()
	}
	return c
}

// Used returns the protocols whose settings are not empty, in the order of All.
func (s Settings) Used() (used []*proto.Protocol) {
	for _, p := range protocols {
		if of := s[p.Kind]; of != nil && !of.Empty() {
			used = append(used, p)
		}
	}
	return used
}
