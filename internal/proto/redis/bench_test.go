package redis

import (
	"testing"

	"tcpcopy/internal/proto"
)

func BenchmarkCommand(b *testing.B) {
	text := []byte(array("SET", "key:000000012345", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"))
	c := NewClient()
	var out proto.Out
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		out.Reset()
		if c.Feed(text, 0, &out) != nil || len(out.Steps) != 2 {
			b.Fatal("not a command")
		}
	}
}

func BenchmarkEditor(b *testing.B) {
	text := []byte(array("SET", "key:000000012345", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"))
	e := NewEditor(&Rules{Deny: []string{"FLUSHALL", "FLUSHDB"}, Password: "secret"})
	var out proto.Out
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		if e.Feed(text, 0, &out) != nil || len(out.Steps) < 2 {
			b.Fatal("not a command")
		}
	}
}

func BenchmarkReply(b *testing.B) {
	text := []byte("$32\r\nxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n")
	a := NewAnswers()
	var out []proto.Answer
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if out, err = a.Feed(text, out[:0]); err != nil || len(out) != 1 {
			b.Fatal("not a reply")
		}
	}
}
