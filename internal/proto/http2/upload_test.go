package http2

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"tcpcopy/internal/proto"
)

// TestContentThatWaits checks that content goes in order, whatever the sizes of frames and windows
// are, and that nothing is kept that was sent.
func TestContentThatWaits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		var u upload
		var client, want, got []byte // the client's bytes, its content, and what was sent
		var out proto.Out
		for range 200 {
			n := 1 + rng.IntN(100)
			own := rng.IntN(3) == 0
			from := uint64(len(client))
			client = append(client, "header..."...)
			for range 1 + rng.IntN(3) { // a frame may come in pieces
				p := make([]byte, n)
				for i := range p {
					p[i] = byte(rng.Uint32())
				}
				u.add(p, own, from, uint64(len(client)))
				client, want = append(client, p...), append(want, p...)
			}
			if n = rng.IntN(2 * (u.end - u.sent)); n > u.end-u.sent {
				n = u.end - u.sent
			}
			out.Reset()
			var w words
			u.send(n, &w, &out)
			w.flush(&out)
			for i := range out.Steps {
				if st := &out.Steps[i]; st.Kind == proto.Own {
					got = append(got, client[st.From:st.To]...)
				} else {
					got = append(got, out.Text[st.From:st.To]...)
				}
			}
			copied := 0
			for i := range u.parts {
				if p := &u.parts[i]; !p.own {
					copied += max(0, p.end-max(p.begin, u.sent))
				}
			}
			u.trim()
			if wait := len(want) - len(got); u.end-u.sent != wait || len(u.data) > 2*copied ||
				u.held < copied || wait == 0 && u.held != 0 {
				t.Fatalf("%d bytes wait, %d copied: %+v", wait, copied, u)
			}
		}
		if !bytes.Equal(got, want[:len(got)]) {
			t.Fatal("other content was sent")
		}
	}
}
