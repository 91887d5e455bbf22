package known

import (
	"slices"
	"strings"
	"testing"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
)

func TestKinds(t *testing.T) {
	for _, k := range Kinds() {
		p, ok := Protocol(k, &Rules{})
		if !ok || p.Kind != k || p.Recognise == nil || p.NewClient() == nil || Answers(k) == nil {
			t.Errorf("%v is not whole: %+v, %v", k, p, ok)
		}
	}
	if _, ok := Protocol(proto.None, &Rules{}); ok || Answers(proto.None) != nil || Answers(99) != nil {
		t.Error("what is no protocol is known")
	}
}

func TestRules(t *testing.T) {
	var http, redis Rules
	http.HTTP1.Deny = make([]http1.Pattern, 1)
	redis.Redis.Deny = []string{"FLUSHALL"}
	for _, k := range Kinds() {
		for _, r := range []*Rules{{}, &http, &redis} {
			p, _ := Protocol(k, r)
			if got, want := p.NewClient().Edits(), slices.Contains(r.Kinds(), k) || k == proto.MySQL; got != want {
				t.Errorf("%v with rules for %v edits: %v, wanted %v", k, r.Kinds(), got, want)
			}
		}
	}
}

// firsts are the first bytes of connections: the client's, and the server's that had come before or with them.
var firsts = []struct {
	name           string
	client, server string
	want           proto.Kind
}{
	{"GET", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "", proto.HTTP1},
	{"POST", "POST /x HTTP/1.0\n", "HTTP/1.1 100 Continue", proto.HTTP1},
	{"PING", "*1\r\n$4\r\nPING\r\n", "", proto.Redis},
	{"SET", "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n", "+OK\r\n", proto.Redis},

	{"TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "", proto.None},
	{"SSH", "SSH-2.0-OpenSSH_9.6\r\n", "SSH-2.0-OpenSSH_9.6\r\n", proto.None},
	{"SMTP", "EHLO example.org\r\n", "220 example.org ESMTP\r\n", proto.None},
	{"POP3", "USER me\r\n", "+OK ready\r\n", proto.None},
	{"IMAP", "a1 LOGIN me secret\r\n", "* OK IMAP4rev1\r\n", proto.None},
	{"FTP", "USER me\r\n", "220 welcome\r\n", proto.None},
	{"MySQL", "\x26\x00\x00\x01\x85\xa6\xff\x01\x00\x00\x00\x01\x21" + strings.Repeat("\x00", 23) + "root\x00\x00", "\x4a\x00\x00\x00\x0a8.0.36\x00", proto.MySQL},
	{"a packet of MySQL's that is no login", "\x05\x00\x00\x01\x85\xa6\xff\x01\x00", "\x4a\x00\x00\x00\x0a8.0.36\x00", proto.None},
	{"PostgreSQL", "\x00\x00\x00\x08\x04\xd2\x16\x2f", "", proto.None},
	{"memcached", "get a\r\n", "", proto.None},
	{"memcached, set", "set a 0 0 1\r\n1\r\n", "", proto.None},
	{"inline Redis", "PING\r\n", "", proto.None},
	{"RTSP", "OPTIONS rtsp://a/b RTSP/1.0\r\nCSeq: 1\r\n\r\n", "", proto.None},
	{"SIP", "INVITE sip:a@b SIP/2.0\r\n\r\n", "", proto.None},
	{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "", proto.None},
	{"HTTP/0.9", "GET /\r\n", "", proto.None},
	{"IRC", "NICK a\r\nUSER a 0 * :a\r\n", "", proto.None},
	{"NATS", "CONNECT {}\r\n", "INFO {}\r\n", proto.None},
	{"STOMP", "CONNECT\naccept-version:1.2\n\n\x00\n", "", proto.None},
	{"MQTT", "\x10\x0f\x00\x04MQTT\x04\x02\x00<\x00\x03abc", "", proto.None},
	{"AMQP", "AMQP\x00\x00\x09\x01", "", proto.None},
	{"Kafka", "\x00\x00\x00\x14\x00\x12\x00\x00\x00\x00\x00\x01\x00\x0aconsumer-1", "", proto.None},
	{"Cassandra", "\x04\x00\x00\x00\x01\x00\x00\x00\x16", "", proto.None},
	{"MongoDB", "\x3a\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xd4\x07\x00\x00", "", proto.None},
	{"LDAP", "\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00", "", proto.None},
	{"the lab", "TCQ!\x00\x00\x00\x01\x00\x00\x00\x00", "", proto.None},
	{"zeros", "\x00\x00\x00\x00\x00\x00\x00\x00\n", "", proto.None},
}

// No protocol is taken for another one, whatever part of its first bytes is seen.
func TestAuto(t *testing.T) {
	for _, c := range firsts {
		t.Run(c.name, func(t *testing.T) {
			for n := range len(c.client) + 1 {
				got := proto.None
				for _, p := range Auto() {
					if p.Recognise([]byte(c.client[:n]), []byte(c.server)) != proto.Yes {
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
