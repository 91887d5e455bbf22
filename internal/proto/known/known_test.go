package known

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/proto/http2"
	"tcpcopy/internal/proto/mysql"
	"tcpcopy/internal/proto/redis"
	"tcpcopy/internal/proto/semantics"
	"tcpcopy/internal/proto/websocket"
)

func TestProtocolsAreWhole(t *testing.T) {
	kinds, names := map[proto.Kind]bool{proto.None: true},
		map[string]bool{"": true, "auto": true, "none": true}
	options := map[string]bool{}
	for _, p := range All() {
		if kinds[p.Kind] || names[p.Name] {
			t.Errorf("protocol %d, %q: the number or the name is taken", p.Kind, p.Name)
		}
		kinds[p.Kind], names[p.Name] = true, true
		if p.Recognise == nil || p.NewClient() == nil || p.NewAnswers() == nil ||
			Answers(p.Kind) == nil || Named(p.Name) != p {
			t.Errorf("%s is not whole: %+v", p.Name, p)
		}
		if p.NewSettings == nil {
			continue
		}
		s := p.NewSettings()
		if !s.Empty() || !s.Clone().Empty() {
			t.Errorf("%s: new settings are not empty", p.Name)
		}
		for _, o := range s.Options() {
			if options[o.Name] || o.Name == "" || o.Help == "" ||
				o.Refused == "" && (o.Set == nil) == (o.Switch == nil) {
				t.Errorf("%s: the option %q is not whole, or taken: %+v", p.Name, o.Name, o)
			}
			options[o.Name] = true
		}
	}
	if Named("none") != nil || Answers(proto.None) != nil || Answers(99) != nil ||
		Answers(254) != nil { // 254: any (wire.AnyProto)
		t.Error("what is no protocol is known")
	}
}

// Values are on the wire between copiers and intercepts of different versions.
func TestKindsDoNotChange(t *testing.T) {
	got := map[string]proto.Kind{}
	for _, p := range All() {
		got[p.Name] = p.Kind
	}
	want := map[string]proto.Kind{"http1": 1, "redis": 2, "mysql": 3, "http2": 4,
		"websocket": 5}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, wanted %v", got, want)
	}
}

func TestSettings(t *testing.T) {
	http, redisDeny := NewSettings(), NewSettings()
	http[http1.Kind].(*semantics.Rules).Deny = make([]semantics.Pattern, 1)
	redisDeny[redis.Kind].(*redis.Rules).Deny = []string{"FLUSHALL"}
	for _, s := range []Settings{nil, NewSettings(), http, redisDeny} {
		for _, p := range All() {
			of := p.With(s.Of(p))
			if got, want := of.NewClient().Edits(), slices.Contains(s.Used(), p) ||
				p == mysql.Protocol || p == http2.Protocol || p == websocket.Protocol; got != want {
				t.Errorf("%s with settings for %v edits: %v, wanted %v", p.Name, s.Used(), got,
					want)
			}
		}
	}
	c := redisDeny.Clone()
	for _, o := range c[redis.Kind].Options() {
		if o.Name == "redis-deny" {
			if err := o.Set("KEYS"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := len(redisDeny[redis.Kind].(*redis.Rules).Deny); n != 1 {
		t.Errorf("a clone's option has changed the original: %d commands", n)
	}
}

func TestRegister(t *testing.T) {
	n := len(All())
	remove := Register(&proto.Protocol{Kind: 200, Name: "toy"})
	if len(All()) != n+1 || Named("toy") == nil || len(Auto()) != n+1 {
		t.Error("a protocol that was registered is not listed")
	}
	remove()
	if len(All()) != n || Named("toy") != nil || Answers(200) != nil {
		t.Error("a protocol that was removed is listed")
	}
	for _, p := range []*proto.Protocol{{Kind: http1.Kind, Name: "toy"},
		{Kind: 200, Name: "http1"}, {Name: "toy"}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%d, %q was registered", p.Kind, p.Name)
				}
			}()
			Register(p)
		}()
	}
}

// firsts holds the first bytes of connections: the client's, and those of the server that came
// before or with them.
var firsts = []struct {
	name           string
	client, server string
	want           proto.Kind
}{
	{"GET", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "", http1.Kind},
	{"WebSocket", "GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n" +
		"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
		"Sec-WebSocket-Version: 13\r\n\r\n", "", websocket.Kind},
	{"h2c", "GET / HTTP/1.1\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "", http1.Kind},
	{"POST", "POST /x HTTP/1.0\n", "HTTP/1.1 100 Continue", http1.Kind},
	{"PING", "*1\r\n$4\r\nPING\r\n", "", redis.Kind},
	{"SET", "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n", "+OK\r\n", redis.Kind},

	{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "", proto.None},
	{"SSH", "SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0-OpenSSH_9.6\r\n", proto.None},
	{"SMTP", "EHLO example.org\r\n", "220 example.org ESMTP\r\n", proto.None},
	{"POP3", "USER me\r\n", "+OK ready\r\n", proto.None},
	{"IMAP", "a1 LOGIN me secret\r\n", "* OK IMAP4rev1\r\n", proto.None},
	{"FTP", "USER me\r\n", "220 welcome\r\n", proto.None},
	{"MySQL", "\x26\x00\x00\x01\x85\xa6\xff\x01\x00\x00\x00\x01\x21" + strings.Repeat("\x00", 23) +
		"root\x00\x00", "\x4a\x00\x00\x00\x0a8.0.36\x00", mysql.Kind},
	{"a packet of MySQL's that is no login", "\x05\x00\x00\x01\x85\xa6\xff\x01\x00",
		"\x4a\x00\x00\x00\x0a8.0.36\x00", proto.None},
	{"PostgreSQL", "\x00\x00\x00\x08\x04\xd2\x16\x2f", "", proto.None},
	{"memcached", "get a\r\n", "", proto.None},
	{"memcached, set", "set a 0 0 1\r\n1\r\n", "", proto.None},
	{"inline Redis", "PING\r\n", "", proto.None},
	{"RTSP", "OPTIONS rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\n\r\n", "", proto.None},
	{"SIP", "INVITE sip:a@b SIP/2.0\r\n\r\n", "", proto.None},
	{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", http2.Kind},
	{"HTTP/0.9", "GET /\r\n", "", proto.None},
	{"IRC", "NICK a\r\nUSER a 0 * :a\r\n", "", proto.None},
	{"NATS", "CONNECT {}\r\n", "INFO {}\r\n", proto.None},
	{"STOMP", "CONNECT\naccept-version:1.2\n\n\x00\n", "", proto.None},
	{"MQTT", "\x10\x0f\x00\x04MQTT\x04\x02\x00<\x00\x03abc", "", proto.None},
	{"AMQP", "AMQP\x00\x00\x09\x01", "", proto.None},
	{"Kafka", "\x00\x00\x00\x14\x00\x12\x00\x00\x00\x00\x00\x01\x00\x0aconsumer-1", "",
		proto.None},
	{"Cassandra", "\x04\x00\x00\x00\x01\x00\x00\x00\x16", "", proto.None},
	{"MongoDB", "\x3a\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xd4\x07\x00\x00", "",
		proto.None},
	{"LDAP", "\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00", "", proto.None},
	{"the lab", "TCQ!\x00\x00\x00\x01\x00\x00\x00\x00", "", proto.None},
	{"zeros", "\x00\x00\x00\x00\x00\x00\x00\x00\n", "", proto.None},
}

// No protocol is taken for another one, whatever part of its first bytes is seen. One that begins
// as another one does is Unsure until it is told from it.
func TestAuto(t *testing.T) {
	for _, c := range firsts {
		t.Run(c.name, func(t *testing.T) {
			for n := range len(c.client) + 1 {
				got, begins := proto.None, proto.None
				for _, p := range Auto() {
					verdict := p.Recognise([]byte(c.client[:n]), []byte(c.server))
					if verdict == proto.Unsure && p.Shares != proto.None ||
						verdict == proto.Yes && p.Kind == websocket.Kind {
						begins = p.Shares
					}
					if verdict != proto.Yes || p.Kind == begins {
						continue
					}
					if got != proto.None {
						t.Fatalf("%q is %v and %v", c.client[:n], got, p.Kind)
					}
					got = p.Kind
				}
				if got != proto.None && got != c.want || n == len(c.client) && got != c.want {
					t.Fatalf("%q is %v, wanted %v", c.client[:n], got, c.want)
				}
			}
		})
	}
}

// A protocol that shares another one's settings has its own beside them.
func TestSharedSettings(t *testing.T) {
	s := NewSettings()
	for _, p := range All() {
		if s[p.Kind] == nil {
			continue
		}
		for _, o := range s[p.Kind].Options() {
			value := map[string]string{"http-host": "test", "grpc-timeout": "2"}[o.Name]
			if value == "" {
				continue
			}
			if err := o.Set(value); err != nil {
				t.Fatal(err)
			}
		}
	}
	both := s.Of(http2.Protocol).(*http2.Settings)
	if both.Deadline.Factor != 2 || len(both.Rules.Set) != 1 {
		t.Errorf("HTTP/2 has %+v", both)
	}
	if len(s.Of(http1.Protocol).(*semantics.Rules).Set) != 1 ||
		len(s.Of(websocket.Protocol).(*semantics.Rules).Set) != 1 {
		t.Error("HTTP/1 and WebSocket do not have HTTP/1's")
	}
	delete(s, http2.Kind)
	if of := s.Of(http2.Protocol).(*http2.Settings); !of.Empty() || len(of.Rules.Set) != 1 {
		t.Errorf("without its own, HTTP/2 has %+v", of)
	}
	if s = (Settings)(nil); s.Of(http2.Protocol) != nil {
		t.Error("HTTP/2 has settings, and there are none")
	}
}
