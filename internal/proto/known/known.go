// Package known lists the protocols: by Kind, for who reads answers elsewhere, and for --proto. It knows none
// itself.
package known

import (
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/proto/mysql"
	"tcpcopy/internal/proto/redis"
)

// Answers makes a reader of a target's answers; nil where the kind is none that is known here.
func Answers(k proto.Kind) proto.Answers {
	switch k {
	case proto.HTTP1:
		return http1.NewAnswers()
	case proto.Redis:
		return redis.NewAnswers()
	case proto.MySQL:
		return mysql.NewAnswers()
	}
	return nil
}

// Rules are what a copy leaves out and changes, by protocol. The zero value leaves everything as it is.
type Rules struct {
	HTTP1 http1.Rules
	Redis redis.Rules
	MySQL mysql.Options
}

// Kinds lists the protocols that there are rules for.
func (r *Rules) Kinds() (all []proto.Kind) {
	if !r.HTTP1.Empty() {
		all = append(all, proto.HTTP1)
	}
	if !r.Redis.Empty() {
		all = append(all, proto.Redis)
	}
	if !r.MySQL.Empty() {
		all = append(all, proto.MySQL)
	}
	return all
}

// Protocol returns what a session must have of a protocol; false where the kind is none that is known here. The
// rules are kept, and must not change.
func Protocol(k proto.Kind, rules *Rules) (p proto.Protocol, ok bool) {
	switch k {
	case proto.HTTP1:
		p = proto.Protocol{Recognise: http1.Recognise, NewClient: func() proto.Client { return http1.NewClient() }}
		p.Watch = func() (proto.Client, proto.Answers) { return http1.NewClient(), http1.NewAnswers() }
		if !rules.HTTP1.Empty() {
			p.NewClient = func() proto.Client { return http1.NewEditor(&rules.HTTP1) }
		}
	case proto.Redis:
		p = proto.Protocol{Recognise: redis.Recognise, NewClient: func() proto.Client { return redis.NewClient() }}
		p.Watch = func() (proto.Client, proto.Answers) { return redis.NewClient(), redis.NewAnswers() }
		if !rules.Redis.Empty() {
			p.NewClient = func() proto.Client { return redis.NewEditor(&rules.Redis) }
		}
	case proto.MySQL:
		p = proto.Protocol{Recognise: mysql.Recognise, NewClient: func() proto.Client { return mysql.NewClient(&rules.MySQL) }}
	default:
		return p, false
	}
	p.Kind = k
	return p, true
}

// Kinds lists the protocols that are known here.
func Kinds() []proto.Kind { return []proto.Kind{proto.HTTP1, proto.Redis, proto.MySQL} }

// Auto lists the protocols that are recognised where none is named. There are no rules then: what is not
// recognised would pass by them. Connections of MySQL are refused, for there is no login.
func Auto() []proto.Protocol {
	var all []proto.Protocol
	for _, k := range Kinds() {
		if p, ok := Protocol(k, &Rules{}); ok {
			all = append(all, p)
		}
	}
	return all
}
