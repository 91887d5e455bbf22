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
		b := newBases(room)
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
				request += maxBases
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

// TestBasesOfRequestsThatComeOnce checks that where requests come once, answers are kept for some
// of them, and for all once they come again.
func TestBasesOfRequestsThatComeOnce(t *testing.T) {
	with := proto.NewDigesting(1, 0)
	b := newBases(1 << 20)
	next := uint64(0)
	ask := func(n int, requests uint64) (kept, found int) {
		for range n {
			next++
			request := next % requests * 0x9e3779b97f4a7c15
			if b.take(request) != nil {
				found++
			}
			if b.put(with, request, &proto.Digest{Size: 1, Packed: nothing{}}) {
				kept++
			}
		}
		return kept, found
	}
	const all = 1 << 62
	if kept, found := ask(onceAfter-1, all); kept != onceAfter-1 || found != 0 {
		t.Errorf("at first, %d of %d answers were kept, %d found", kept, onceAfter, found)
	}
	if kept, _ := ask(1+onceAfter, all); kept < onceAfter/16 || kept > onceAfter/4 {
		t.Errorf("then %d of %d answers were kept", kept, onceAfter)
	}
	ask(2*onceOf*onceAfter, 1000)
	if kept, found := ask(1000, 1000); kept != 1000 || found != 1000 {
		t.Errorf("of 1,000 that come again, %d were kept and %d found", kept, found)
	}
}
