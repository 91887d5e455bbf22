package verdict

import (
	"testing"

	"pgregory.net/rapid"

	"tcpcopy/internal/proto"
)

// nothing is the bytes of an answer.
type nothing struct{}

func (nothing) Unpack(*proto.Digesting, *proto.Digest) {}
func (nothing) Drop(*proto.Digesting)                  {}

// TestBases compares the bases with a list in order.
func TestBases(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const most, room = 4, 1000
		with := proto.NewDigesting(1, 0)
		b := newBases(most, room)
		type held struct {
			request uint64
			answer  *proto.Digest // nil: it was taken
			size    int
		}
		var model []held // the oldest first
		size := func() (n int) {
			for i := range model {
				n += model[i].size
			}
			return n
		}
		count := func() (n int) {
			for i := range model {
				if model[i].answer != nil {
					n++
				}
			}
			return n
		}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			request := rapid.Uint64Range(0, 5).Draw(t, "request")
			if rapid.Bool().Draw(t, "in the same chain") {
				request += 4 * most
			}
			var want *proto.Digest
			for i := range model {
				if m := &model[i]; m.request == request && m.answer != nil {
					want = m.answer
					m.answer, m.size = nil, 0
				}
			}
			if got := b.take(request); got != want {
				t.Fatalf("the answer to %d is %p, want %p", request, got, want)
			}
			if rapid.Bool().Draw(t, "only taken") {
				continue
			}
			d := &proto.Digest{Size: rapid.IntRange(1, room*6/5).Draw(t, "size")}
			d.Packed = nothing{}
			var gone []*proto.Digest
			for count() > 0 && (count() == most || size()+d.Size > room) || len(model) == 2*most {
				if model[0].answer != nil {
					gone = append(gone, model[0].answer)
				}
				model = model[1:]
			}
			if kept := b.put(with, request, d); kept != (d.Size <= room) {
				t.Fatalf("%d bytes are kept: %v", d.Size, kept)
			} else if kept {
				model = append(model, held{request, d, d.Size})
			}
			for _, d := range gone {
				if d.Packed != nil {
					t.Fatal("an answer that made room is not dropped")
				}
			}
			d.Size = 0 // as when its fields are made
			if b.room != room-size() || b.count != count() {
				t.Fatalf("%d answers, %d bytes left; want %d, %d", b.count, b.room, count(),
					room-size())
			}
		}
		for i := range model {
			if m := &model[i]; m.answer != nil && b.take(m.request) != m.answer {
				t.Fatal("an answer is lost")
			}
		}
	})
}
