package http1

import (
	"testing"

	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/semantics"
)

// usual is a request of 220 bytes, as browsers and load generators send them.
const usual = "GET /api/v1/items/12345?page=2&order=name HTTP/1.1\r\nHost: shop.example.org\r\n" +
	"User-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: " +
	"application/json\r\nAccept-Encoding: gzip, deflate\r\n" +
	"Connection: keep-alive\r\nX-Id: 123456\r\n\r\n"

func BenchmarkRequest(b *testing.B) {
	text := []byte(usual)
	c := NewClient()
	var out proto.Out
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		out.Reset()
		if c.Feed(text, 0, &out) != nil || len(out.Steps) != 2 {
			b.Fatal("not a request")
		}
	}
}

func BenchmarkEditor(b *testing.B) {
	text := []byte(usual)
	host, _ := semantics.ParseHost("test.example.org")
	deny, _ := semantics.ParsePattern("DELETE /")
	e := NewEditor(&semantics.Rules{Set: []semantics.Header{host}, Deny: []semantics.Pattern{deny}})
	var out proto.Out
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		out.Reset()
		if e.Feed(text, 0, &out) != nil || len(out.Steps) != 2 {
			b.Fatal("not a request")
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	text := []byte("HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Mon, 23 Nov 2026 10:00:00 " +
		"GMT\r\nContent-Type: text/plain\r\nContent-Length: 20\r\nConnection: " +
		"keep-alive\r\n\r\n01234567890123456789")
	a := NewAnswers()
	var out []proto.Answer
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if out, err = a.Feed(text, out[:0]); err != nil || len(out) != 1 {
			b.Fatal("not an answer")
		}
	}
}
