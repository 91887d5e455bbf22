package segments

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"tcpcopy/internal/core/chunk"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
)

// part is a segment of the target: the offset of its first byte, and its flags besides ACK.
type part struct {
	off   int
	text  string
	flags packet.Flags
	cut   int // so many bytes of it were not captured
}

const reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi" // 40 bytes

func TestFollow(t *testing.T) {
	synAck := part{off: -1, flags: packet.SYN}
	long := strings.Repeat("x", 60000)
	for _, tc := range []struct {
		name  string
		parts []part
		want  []string
	}{
		{"two holes", []part{synAck, {off: 30, text: reply[30:]}, {off: 10, text: reply[10:20]},
			{off: 0, text: reply[:10]}, {off: 20, text: reply[20:30]}}, []string{"40"}},
		{"a byte before the first", []part{synAck, {off: -1, text: "?"}, {off: 0, text: reply}},
			[]string{"40"}},
		{"the end behind a hole", []part{synAck, {off: 19, text: "hi", flags: packet.FIN},
			{off: 0, text: "HTTP/1.1 200 OK\r\n\r\n"}}, []string{"21"}},
		{"an acknowledgment before it is known where it begins",
			[]part{{off: 0}, synAck, {off: 0, text: reply}}, []string{"40"}},
		{"begun before", []part{{off: 0, text: reply}}, []string{"lost"}},
		{"cut", []part{synAck, {off: 0, text: reply, cut: 1}}, []string{"lost"}},
		{"no HTTP", []part{synAck, {off: 0, text: reply + "220 smtp\r\n"}},
			[]string{"40", "lost"}},
		{"too much behind a hole", func() []part {
			all := []part{synAck}
			for i := range 40 {
				all = append(all, part{off: 1 + i*len(long), text: long})
			}
			return all
		}(), []string{"lost"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			const base = seqnum.Value(0xfffffff0)
			var pool chunk.Pool
			f := Follow(http1.NewAnswers())
			var out []proto.Told
			var scratch []proto.Answer
			var got []string
			for _, p := range tc.parts {
				seg := packet.Segment{Seq: base.Add(p.off), Flags: packet.ACK | p.flags,
					Len: len(p.text), Payload: []byte(p.text[:len(p.text)-p.cut])}
				out = f.Feed(1, &seg, &pool, out[:0], &scratch)
				for i := range out {
					got = append(got, fmt.Sprint(out[i].End))
				}
			}
			if f.Lost() {
				got = append(got, "lost")
			}
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("found %q, want %q", got, tc.want)
			}
			f.Close()
			if pool.InUse() != 0 {
				t.Errorf("%d bytes are still in use", pool.InUse())
			}
		})
	}
}

// Kept bytes are valid although their buffers return to the pool.
func TestFollowKept(t *testing.T) {
	var pool chunk.Pool
	f := Follow(&keeper{})
	f.Begin(100)
	var scratch []proto.Answer
	seg := func(off int, s string) []proto.Told {
		return f.Feed(1, &packet.Segment{Seq: seqnum.Value(100 + off), Flags: packet.ACK,
			Len: len(s), Payload: []byte(s)}, &pool, nil, &scratch)
	}
	if out := seg(3, "def"); len(out) != 0 {
		t.Errorf("told %+v behind a hole", out)
	}
	out := seg(0, "abc")
	for range 4 { // others have the buffers
		clear(pool.Get(3)[:3])
	}
	text := ""
	for i := range out {
		text += string(out[i].Bytes)
	}
	if text != "abcdef" {
		t.Errorf("told %q, want abcdef", text)
	}
}

// keeper keeps every byte.
type keeper struct{}

func (*keeper) Expect(uint64, proto.Hint)                                 {}
func (*keeper) Feed(_ []byte, out []proto.Answer) ([]proto.Answer, error) { return out, nil }
func (*keeper) Blind() uint64                                             { return 0 }
func (*keeper) Skip(_ uint64, out []proto.Answer) []proto.Answer          { return out }
func (*keeper) Kept() bool                                                { return true }
func (*keeper) Close(out []proto.Answer) []proto.Answer                   { return out }
