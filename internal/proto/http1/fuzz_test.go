package http1

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"tcpcopy/internal/proto"
)

// Where requests end does not depend on how the input is split, and no more is passed than came.
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

// Where net/http reads a request at all, and the reader too, it ends at the same place.
func FuzzRequestsAgainstNetHTTP(f *testing.F) {
	for _, c := range requestTable {
		if len(c.text) < 2000 {
			f.Add([]byte(c.text))
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var out proto.Out
		_ = NewClient().Feed(text, 0, &out)
		var ends []int
		at := 0
		for _, s := range out.Steps {
			if at += s.N; s.Kind == proto.Requested && s.Request.Reply == proto.One {
				ends = append(ends, at)
			}
		}
		src := bytes.NewReader(text)
		r := bufio.NewReader(src)
		for _, end := range ends {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if req.Method == "CONNECT" || req.Header.Get("Upgrade") != "" {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			if got := len(text) - src.Len() - r.Buffered(); got != end {
				t.Fatalf("a request ends at %d, net/http says %d: %q", end, got, text)
			}
		}
	})
}

// Where net/http reads an answer at all, and the reader too, it ends at the same place.
func FuzzAnswersAgainstNetHTTP(f *testing.F) {
	for _, c := range answerTable {
		f.Add([]byte(c.text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		a := NewAnswers()
		list, _ := a.Feed(text, nil)
		src := bytes.NewReader(text)
		r := bufio.NewReader(src)
		for _, x := range list {
			res, err := http.ReadResponse(r, nil)
			if err != nil || res.StatusCode != int(x.Status) {
				return
			}
			if strings.HasPrefix(res.Status, "1") && !x.Interim {
				return // another protocol
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil {
				return
			}
			if got := len(text) - src.Len() - r.Buffered(); got != int(x.End) {
				t.Fatalf("an answer ends at %d, net/http says %d: %q", x.End, got, text)
			}
		}
	})
}

// Where answers end does not depend on how the input is split or skipped. They end in order, and
// within what has come.
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
				t.Fatalf("%q (%v); split at %d %q (%v)", whole, err, at%uint(len(text)), split,
					again)
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
