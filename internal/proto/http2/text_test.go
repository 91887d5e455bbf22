package http2

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"tcpcopy/internal/core/ledger"
)

func TestText(t *testing.T) {
	for message, want := range map[string]string{
		"":                              "",
		"there is none":                 "there is none",
		"there  is%0anone":              "there is none",
		"user 42 (a@b.org) not found":   "user # (#) not found",
		`no "Jane Doe" here`:            "no # here",
		`name="Jane Doe", it's odd`:     "# it's odd",
		"no 'Jane Doe' here":            "no # here",
		"no `Jane` and `Joe`.":          "no # and #",
		`an "open end`:                  "an #",
		"deadline exceeded: /a/b?c=d":   "deadline exceeded: #",
		"id=7f3c-a1, then":              "#, then",
		"10.0.0.1:80: refused!":         "#: refused!",
		"Zugriff verweigert f%C3%BCr X": "Zugriff verweigert für X",
		"%1b[31mred %ff %zz %":          "# # # #",
		"... - :":                       "... - :",
		strings.Repeat("word ", 100):    strings.TrimSpace(strings.Repeat("word ", 25)),
		strings.Repeat("w", 200):        "",
	} {
		if got := string(appendText(nil, []byte(message))); got != want {
			t.Errorf("%q: %q, wanted %q", message, got, want)
		}
	}
}

// FuzzText checks that what is told is short, can be printed, and has no digit.
func FuzzText(f *testing.F) {
	f.Add([]byte("user 42 \"x\" %41%00"))
	f.Fuzz(func(t *testing.T, message []byte) {
		text := appendText(nil, message)
		if len(text) > ledger.MaxText || !utf8.Valid(text) {
			t.Fatalf("%q: %q", message, text)
		}
		for _, r := range string(text) {
			if unicode.IsDigit(r) || !unicode.IsPrint(r) || strings.ContainsRune("@/\"`", r) {
				t.Fatalf("%q: %q has %q", message, text, r)
			}
		}
	})
}

// TestTextOfCall checks that the message of a call that failed is told, and of others none.
func TestTextOfCall(t *testing.T) {
	r := newRig(t)
	for id := uint32(1); id <= 5; id += 2 {
		r.client.head(id, true, ":method POST", ":path /a.B/C", "content-type application/grpc")
	}
	r.feed(0)
	r.answers.head(1, true, ":status 200", "content-type application/grpc", "grpc-status 5",
		"grpc-message none%20of 7")
	r.answers.head(3, true, ":status 200", "content-type application/grpc", "grpc-status 0",
		"grpc-message fine")
	r.answers.head(5, true, ":status 200", "content-type application/grpc", "grpc-status 13")
	r.hear()
	r.take()
	if want := "none of #"; r.said != want {
		t.Errorf("%q was told, wanted %q", r.said, want)
	}
}
