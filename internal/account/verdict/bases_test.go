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
		const room = 1000
		with := proto.NewDigesting(1, 0)
		b := newBases(ManyBases, room)
		var model []base // the oldest first
		size := func() (n int) {
			for i := range model {
				n += int(model[i].size)
			}
			return n
		}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			request := rapid.Uint64Range(0, 4).Draw(t, "request")
			if rapid.Bool().Draw(t, "in the same chain") {
				request += ManyBases
			}
			var want *proto.Digest
			for i := range model {
				if model[i].request == request {
					want = model[i].answer
					model = append(model[:i], model[i+1:]...)
					break
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
			for len(model) > 0 && size()+d.Size > room {
				gone, model = append(gone, model[0].answer), model[1:]
			}
			if kept := b.put(with, request, d); kept != (d.Size <= room) {
				t.Fatalf("%d bytes are kept: %v", d.Size, kept)
			} else if kept {
				model = append(model, base{request: request, answer: d, size: int32(d.Size)})
			}
			for _, d := range gone {
				if d.Packed != nil {
					t.Fatal("an answer that made room is not dropped")
				}
			}
			d.Size = 0 // as when its fields are made
			if b.room != room-size() || b.count != len(model) || len(b.all) > 11 {
				t.Fatalf("%d answers in %d, %d bytes left; want %d, %d", b.count, len(b.all),
					b.room, len(model), room-size())
			}
		}
		for i := range model {
			if b.take(model[i].request) != model[i].answer {
				t.Fatal("an answer is lost")
			}
		}
	})
}
