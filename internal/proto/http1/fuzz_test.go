package http1

import (
	"testing"

	"tcpcopy/internal/proto"
)

// However bytes are split, requests end at the same places, and no more is passed than there was.
func FuzzRequests(f *testing.F) {
	for _, c := range requestTable {
		if len(c.text) < 2000 {
			f.Add([]byte(c.text), uint(7))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, at uint) {
		whole, err := requests(string(text))
		if len(text) == 0 {
			return
		}
		split, again := requests(string(text), int(at%uint(len(text))))
		if (err == nil) != (again == nil) || len(whole) != len(split) {
			t.Fatalf("%q (%v); split at %d %q (%v)", whole, err, at%uint(len(text)), split, again)
		}
		for i := range whole {
			if whole[i] != split[i] {
				t.Fatalf("%q; split at %d %q", whole, at%uint(len(text)), split)
			}
		}
	})
}

// However bytes are split or skipped, answers end at the same places, in order, and within what has come.
func FuzzAnswers(f *testing.F) {
	for _, c := range answerTable {
		f.Add([]byte(c.text), uint(7), uint8(0), true)
	}
	f.Fuzz(func(t *testing.T, text []byte, at uint, hint uint8, closed bool) {
		hints := []hinted{{uint64(hint >> 4), proto.Hint(hint & 3)}}
		whole, err := answers(string(text), hints, closed, false)
		if len(text) == 0 {
			return
		}
		for _, skip := range []bool{false, true} {
			split, again := answers(string(text), hints, closed, skip, int(at%uint(len(text))))
			if (err == nil) != (again == nil) || len(whole) != len(split) {
				t.Fatalf("%q (%v); split at %d %q (%v)", whole, err, at%uint(len(text)), split, again)
			}
			for i := range whole {
				if whole[i] != split[i] {
					t.Fatalf("%q; split at %d %q", whole, at%uint(len(text)), split)
				}
			}
		}
		a := NewAnswers()
		list, _ := a.Feed(text, nil)
		var last uint64
		for _, x := range a.Close(list) {
			if x.End < last || x.End > uint64(len(text)) || x.Size > x.End {
				t.Fatalf("an answer of %d bytes ends at %d of %d", x.Size, x.End, len(text))
			}
			last = x.End
		}
	})
}
