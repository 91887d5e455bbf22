package http2

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
)

// countMessages counts the messages of each stream in a server's frames, another way: it puts the
// content of each stream together first. It needs frames that a server may send.
func countMessages(frames []byte) map[uint32]int {
	content, count := map[uint32][]byte{}, map[uint32]int{}
	for len(frames) >= headerLen {
		h := parseHeader((*[headerLen]byte)(frames))
		p := frames[headerLen:][:h.length]
		frames = frames[headerLen+h.length:]
		if h.kind != frameData {
			continue
		}
		if h.has(flagPadded) {
			p = p[1 : len(p)-int(p[0])]
		}
		content[h.stream] = append(content[h.stream], p...)
	}
	for id, p := range content {
		for len(p) >= prefixLen && len(p) >= prefixLen+int(binary.BigEndian.Uint32(p[1:])) {
			count[id]++
			p = p[prefixLen+binary.BigEndian.Uint32(p[1:]):]
		}
	}
	return count
}

// handBack reads a server's frames as the reader of a target does, from the stream 3 on with
// messages, in steps of some bytes, and skips what it may. It returns what is handed back.
func handBack(frames []byte, step int) (back []byte, lost bool) {
	var scratch []proto.Answer
	f := proto.Follow(NewAnswers())
	f.Expect(1, hintMessages)
	for len(frames) > 0 {
		n := min(len(frames), step)
		if blind := f.Blind(); blind > 0 {
			n = int(min(uint64(n), blind))
			f.Skip(0, uint64(n), nil, &scratch)
		} else {
			for _, told := range f.Feed(mono.Time(0), frames[:n], nil, &scratch) {
				back = append(back, told.Bytes...)
			}
		}
		frames = frames[n:]
	}
	return back, f.Lost()
}

// readBack has a Client read what was handed back, and returns how many messages it has found.
func readBack(t *testing.T, back []byte, step int) (map[uint32]int, uint64) {
	c := NewClient(&Settings{})
	var out proto.Out
	must(c.Begin(false, &out))
	c.target.from, c.target.next = 3, 1001
	for id := uint32(1); id < 12; id += 2 {
		s := c.add(id, 0)
		s.grpc, s.target = id >= 3, id
		c.byTarget[id] = s
		c.open++
	}
	all := append([]*stream(nil), c.list...)
	for len(back) > 0 {
		n := min(len(back), step)
		out.Reset()
		if err := c.Kept(back[:n], &out); err != nil {
			t.Fatal(err)
		}
		back = back[n:]
	}
	count := map[uint32]int{}
	for i, s := range all {
		if s.got > 0 {
			count[uint32(2*i+1)] = int(s.got)
		}
	}
	return count, c.target.heard
}

// randomAnswers makes frames of a server: messages of several streams, in frames that end anywhere,
// some of them padded.
func randomAnswers(r *rand.Rand) []byte {
	p := newPeer()
	must(p.WriteSettings())
	rest := map[uint32][]byte{}
	for range 60 {
		id := uint32(1 + 2*r.IntN(5))
		if r.IntN(2) == 0 || len(rest[id]) == 0 {
			text := make([]byte, r.IntN(4)*r.IntN(100))
			for i := range text {
				text[i] = byte(r.IntN(3))
			}
			rest[id] = append(binary.BigEndian.AppendUint32(append(rest[id], byte(r.IntN(2))),
				uint32(len(text))), text...)
			continue
		}
		n := 1 + r.IntN(len(rest[id]))
		if r.IntN(3) == 0 {
			must(p.WriteDataPadded(id, false, rest[id][:n], make([]byte, r.IntN(20))))
		} else {
			must(p.WriteData(id, false, rest[id][:n]))
		}
		rest[id] = rest[id][n:]
		if r.IntN(8) == 0 {
			must(p.WriteData(id, false, nil))
			must(p.WritePing(false, [8]byte{}))
		}
	}
	return p.take()
}

// However a server's frames come, the Client finds the messages that are in them, and as many bytes
// as came.
func TestMessages(t *testing.T) {
	for seed := range uint64(200) {
		frames := randomAnswers(rand.New(rand.NewPCG(seed, 7)))
		want := countMessages(frames)
		delete(want, 1) // it precedes those that are followed
		whole, lost := handBack(frames, len(frames))
		if lost || len(whole) >= len(frames) {
			t.Fatalf("seed %d: %d bytes of %d are handed back; lost: %v", seed, len(whole),
				len(frames), lost)
		}
		for step := 1; step < 30; step++ {
			back, _ := handBack(frames, step)
			if string(back) != string(whole) {
				t.Fatalf("seed %d: in steps of %d, %q is handed back, wanted %q", seed, step, back,
					whole)
			}
			got, heard := readBack(t, back, step)
			if fmt.Sprint(got) != fmt.Sprint(want) || heard != uint64(len(frames)) {
				t.Fatalf("seed %d: in steps of %d, messages %v in %d bytes, wanted %v in %d", seed,
					step, got, heard, want, len(frames))
			}
		}
		var r production
		r.feed(0, frames)
		n := map[uint32]int{}
		for _, e := range r.ends {
			n[e.stream] += int(e.messages)
		}
		if delete(n, 1); fmt.Sprint(n) != fmt.Sprint(want) || r.at != uint64(len(frames)) {
			t.Fatalf("seed %d: of production, messages %v in %d bytes, wanted %v", seed, n, r.at,
				want)
		}
	}
}

// Content without messages costs a byte a frame, even if its first byte may begin one.
func TestNoMessages(t *testing.T) {
	p := newPeer()
	must(p.WriteSettings())
	settings := len(p.take())
	for _, text := range []string{"<html>", "\x00\x00\x00\x00\x10ftypisom", "\x1f\x8b\x08"} {
		must(p.WriteSettings())
		long := append([]byte(text), make([]byte, 10000)...)
		for i := range long[len(text):] {
			long[len(text)+i] = 'x'
		}
		must(p.WriteData(3, false, long))
		back, lost := handBack(p.take(), 1<<20)
		if n := len(back) - settings - headerLen; lost || n > prefixLen+2 {
			t.Errorf("%q…: %d bytes are handed back; lost: %v", text, n, lost)
		}
	}
}

// Streams that were cancelled within a message are forgotten in the end.
func TestPartialMessages(t *testing.T) {
	var d contents
	for id := uint32(1); id < 5*maxPartial; id += 2 {
		d.header(&header{length: 1, kind: frameData, stream: id}, true)
		must(d.read([]byte{0}))
		if len(d.partial) > maxPartial {
			t.Fatalf("%d streams are kept", len(d.partial))
		}
	}
	latest := uint32(5*maxPartial) - 1
	if _, ok := d.partial[latest]; !ok {
		t.Error("the latest stream was forgotten")
	}
	d.header(&header{kind: frameReset, stream: latest}, true)
	if _, ok := d.partial[latest]; ok {
		t.Error("a stream that is reset is kept")
	}
}

// FuzzMessages has a server send anything. What is handed back does not depend on how it comes, and
// the Client reads it to the same end.
func FuzzMessages(f *testing.F) {
	p := newPeer()
	p.says(3, "", "ab")
	must(p.WriteDataPadded(3, false, msg("c")[:3], make([]byte, 2)))
	must(p.WriteDataPadded(3, false, msg("c")[3:], nil))
	p.ends(3)
	f.Add(p.take(), uint8(3))
	f.Add(rawFrame(frameData, flagPadded, 3, "\x09\x00\x00"), uint8(1))
	f.Fuzz(func(t *testing.T, frames []byte, step uint8) {
		frames = append(rawFrame(frameSettings, 0, 0, ""), frames...)
		whole, lost := handBack(frames, len(frames))
		split, lostToo := handBack(frames, int(step)+1)
		if lost != lostToo || !lost && string(whole) != string(split) {
			t.Fatalf("whole %q, %v, in steps %q, %v", whole, lost, split, lostToo)
		}
		c := NewClient(&Settings{})
		var out proto.Out
		must(c.Begin(false, &out))
		c.target.from, c.target.next = 3, 1001
		s := c.add(3, 0)
		s.grpc, s.target, c.byTarget[3], c.open = true, 3, s, 1
		if err := c.Kept(whole, &out); err == nil && c.target.heard > uint64(len(frames)) {
			t.Fatalf("%d bytes of %d were read", c.target.heard, len(frames))
		}
	})
}
