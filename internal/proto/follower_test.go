package proto_test

import (
	"bytes"
	"fmt"
	"reflect"
	"testing"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
)

// lines reads answers of one line each. Those that begin with k are kept, those with - are
// interim, and x cannot be followed.
type lines struct {
	at, began uint64
	first     byte
	greeting  bool // what comes before the first answer is wanted, up to and with its line
}

func (l *lines) Expect(uint64, proto.Hint) {}
func (l *lines) Kept() bool {
	return l.greeting ||
		l.at > l.began && l.first == 'k'
}
func (l *lines) Blind() uint64 { return 0 }

func (l *lines) Skip(uint64, []proto.Answer) []proto.Answer { return nil }

func (l *lines) Close(out []proto.Answer) []proto.Answer {
	if l.at > l.began {
		out = append(out, proto.Answer{End: l.at, Size: l.at - l.began})
	}
	return out
}

func (l *lines) Feed(p []byte, out []proto.Answer) ([]proto.Answer, error) {
	for _, c := range p {
		if l.at == l.began {
			l.first = c
		}
		if c == 'x' {
			return out, proto.ErrLost
		}
		if l.at++; c != '\n' {
			continue
		}
		if l.greeting {
			l.greeting = false
		} else {
			out = append(out, proto.Answer{End: l.at, Size: l.at - l.began, Kept: l.first == 'k',
				Interim: l.first == '-'})
		}
		l.began = l.at
	}
	return out, nil
}

func TestFollower(t *testing.T) {
	for _, c := range []struct {
		name     string
		greeting bool
		pieces   []string // one each second
		want     []string
	}{
		{"one", false, []string{"a\n"}, []string{"2: 0s 0s"}},
		{"slow", false, []string{"a", "b", "\n"}, []string{"3: 0s 2s"}},
		{"two in a piece, the second begun in it", false, []string{"a", "\nb", "\n"},
			[]string{"2: 0s 1s", "4: 1s 2s"}},
		{"a pause between them", false, []string{"a\n", "b\n"}, []string{"2: 0s 0s", "4: 1s 1s"}},
		{"an interim one", false, []string{"-\n", "b\n"},
			[]string{"2: 0s 0s, interim", "4: 0s 1s"}},
		{"to the end", false, []string{"a"}, []string{"1: 0s 1s"}},
		{"wanted", false, []string{"k1\n"}, []string{`"k1\n"`, "3: 0s 0s"}},
		{"wanted, in pieces", false, []string{"k", "1", "\n"},
			[]string{`"k"`, `"1"`, `"\n"`, "3: 0s 2s"}},
		{"wanted, among others", false, []string{"a\nk1\nb\nk", "2\nc\n"},
			[]string{"2: 0s 0s", `"k1\n"`, "5: 0s 0s", "7: 0s 0s", `"k"`, `"2\n"`, "10: 0s 1s",
				"12: 1s 1s"}},
		{"a greeting", true, []string{"hel", "lo\n", "a\n"},
			[]string{`"hel"`, `"lo\n"`, "8: 0s 2s"}},
		{"lost", false, []string{"a\nx", "b\n"}, []string{"2: 0s 0s", "lost"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := proto.Follow(&lines{greeting: c.greeting})
			var out []proto.Told
			var scratch []proto.Answer
			var now mono.Time
			for _, p := range c.pieces {
				out = f.Feed(now, []byte(p), out, &scratch)
				now += 1e9
			}
			if out = f.Close(now, out, &scratch); !f.Over() {
				t.Error("it is not over after the end")
			}
			var got []string
			for i := range out {
				a := &out[i]
				switch {
				case len(a.Bytes) > 0:
					got = append(got, fmt.Sprintf("%q", bytes.Clone(a.Bytes)))
				case a.Interim:
					got = append(got, fmt.Sprintf("%d: %ds %ds, interim", a.End, a.First/1e9,
						a.At/1e9))
				default:
					got = append(got, fmt.Sprintf("%d: %ds %ds", a.End, a.First/1e9, a.At/1e9))
				}
			}
			if f.Lost() {
				got = append(got, "lost")
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("told %q, wanted %q", got, c.want)
			}
		})
	}
}
