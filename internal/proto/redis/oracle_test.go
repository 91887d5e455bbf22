package redis

import (
	"fmt"
	"strings"
	"testing"

	"github.com/tidwall/redcon"
	"pgregory.net/rapid"

	"tcpcopy/internal/proto"
)

// reply draws a RESP2 reply.
func reply(t *rapid.T, depth int) string {
	kinds := []string{"+", "-", ":", "$", "nil", "*"}
	if depth == 3 {
		kinds = kinds[:5]
	}
	switch kind := rapid.SampledFrom(kinds).Draw(t, "kind"); kind {
	case "nil":
		return rapid.SampledFrom([]string{"$-1\r\n", "*-1\r\n"}).Draw(t, "nil")
	case ":":
		return fmt.Sprintf(":%d\r\n", rapid.Int64().Draw(t, "integer"))
	case "$":
		body := rapid.StringOfN(rapid.RuneFrom([]rune("a\r\n$*1")), 0, 80, -1).Draw(t, "bulk")
		return fmt.Sprintf("$%d\r\n%s\r\n", len(body), body)
	case "*":
		n := rapid.IntRange(0, 4).Draw(t, "elements")
		s := fmt.Sprintf("*%d\r\n", n)
		for range n {
			s += reply(t, depth+1)
		}
		return s
	default:
		return kind + rapid.StringMatching(`[A-Za-z ]{0,100}`).Draw(t, "line") + "\r\n"
	}
}

// Replies end, and fail, as redcon reads them.
func TestRepliesOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all strings.Builder
		for range rapid.IntRange(1, 6).Draw(t, "replies") {
			all.WriteString(reply(t, 0))
		}
		type end struct {
			at     int
			failed bool
		}
		var want, got []end
		for at := 0; at < all.Len(); {
			n, resp := redcon.ReadNextRESP([]byte(all.String()[at:]))
			if n == 0 {
				t.Fatalf("redcon reads nothing at %d of %q", at, all.String())
			}
			at += n
			want = append(want, end{at, resp.Type == redcon.Error})
		}
		a := NewAnswers()
		var list []proto.Answer
		for text := all.String(); len(text) > 0; {
			n := min(len(text), rapid.IntRange(1, 60).Draw(t, "piece"))
			var err error
			if list, err = a.Feed([]byte(text[:n]), list); err != nil {
				t.Fatalf("%v in %q", err, all.String())
			}
			text = text[n:]
		}
		for _, x := range list {
			got = append(got, end{int(x.End), x.Failed})
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("replies end at %v, redcon says %v: %q", got, want, all.String())
		}
	})
}

// Commands end where redcon ends them.
func TestCommandsOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all strings.Builder
		for range rapid.IntRange(1, 6).Draw(t, "commands") {
			words := rapid.SliceOfN(rapid.StringOfN(rapid.RuneFrom([]rune("aZ\r\n*$ 1")), 1, 40,
				-1), 1, 5).Draw(t, "words")
			all.WriteString(array(words...))
		}
		var want []string
		for rest := []byte(all.String()); len(rest) > 0; {
			complete, _, _, left, err := redcon.ReadNextCommand(rest, nil)
			if err != nil || !complete {
				t.Fatalf("redcon: %v (%v) in %q", complete, err, rest)
			}
			rest = left
			want = append(want, fmt.Sprintf("%d reply 0", all.Len()-len(rest)))
		}
		got, err := commands(all.String(), rapid.IntRange(0, all.Len()).Draw(t, "cut"))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("commands end at %v (%v), redcon says %v: %q", got, err, want, all.String())
		}
	})
}

// Where commands end does not depend on how the input is split.
func FuzzCommands(f *testing.F) {
	for _, c := range commandTable {
		if len(c.text) < 2000 {
			f.Add([]byte(c.text), uint(7))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, at uint) {
		whole, err := commands(string(text))
		if len(text) == 0 {
			return
		}
		split, again := commands(string(text), int(at%uint(len(text))))
		if (err == nil) != (again == nil) || fmt.Sprint(whole) != fmt.Sprint(split) {
			t.Fatalf("%q (%v); split at %d %q (%v)", whole, err, at%uint(len(text)), split, again)
		}
	})
}

// Where replies end does not depend on how the input is split or skipped.
func FuzzReplies(f *testing.F) {
	for _, c := range replyTable {
		f.Add([]byte(c.text), uint(7))
	}
	f.Fuzz(func(t *testing.T, text []byte, at uint) {
		whole, err := replies(string(text), false)
		if len(text) == 0 {
			return
		}
		for _, skip := range []bool{false, true} {
			split, again := replies(string(text), skip, int(at%uint(len(text))))
			if (err == nil) != (again == nil) || fmt.Sprint(whole) != fmt.Sprint(split) {
				t.Fatalf("%q (%v); split at %d %q (%v)", whole, err, at%uint(len(text)), split,
					again)
			}
		}
	})
}
