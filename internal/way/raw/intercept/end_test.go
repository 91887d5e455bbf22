package intercept

import (
	"testing"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/source"
	"tcpcopy/internal/way/link/wire"
)

// What is found of answers goes before the header that may end the connection, whatever else was
// captured at the same time: the copy may end with it, before it knows of its last answer. It goes
// after the headers that were captured before.
func TestFoundBeforeTheEnd(t *testing.T) {
	const fin, rst = packet.FIN | packet.ACK, packet.RST | packet.ACK
	data := func(off int, text string) part { return part{off: off, text: text} }
	for _, c := range []struct {
		name  string
		parts []part // captured at once
		want  string
	}{
		{"two answers and no end", []part{data(0, reply), data(40, reply)}, "h40 h40 40 80"},
		{"an answer, and the end", []part{data(0, reply), {off: 40, flags: fin}}, "h40 40 h0"},
		{"an end with an answer", []part{data(0, reply), {off: 40, text: reply, flags: fin}},
			"h40 40 80 h40"},
		{"the end of an answer without a length", []part{data(0, "HTTP/1.1 200 OK\r\n\r\n"),
			data(19, "hi"), {off: 21, flags: fin}}, "h19 h2 21 h0"},
		{"the end before the answer", []part{{off: 40, flags: fin}, data(0, reply)}, "h0 40 h40"},
		{"the end, between pieces", []part{data(0, reply[:9]), {off: 40, flags: fin},
			data(9, reply[9:])}, "h9 h0 40 h31"},
		{"a reset", []part{data(0, reply), {off: 40, flags: rst}}, "h40 40 h0"},
		{"a reset in an answer", []part{data(0, reply[:20]), {off: 20, flags: rst}}, "h20 h0"},
		{"another connection, before the end was whole", []part{{off: 40, flags: fin},
			{off: 899, flags: packet.SYN | packet.ACK}}, "h0 h0 lost"},
		{"no HTTP", []part{data(0, reply), {off: 40, text: "220 smtp\r\n", flags: fin}},
			"h40 h10 40 lost"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newEarlyBed(t, 1).known()
			b.opens(1, 7, 100)
			b.asks(0, 1, wire.Reading{Proto: http1.Kind, Base: 100, BaseKnown: true, Held: true})
			b.toldIs(0, "h0 whole")
			var frames []source.Frame
			for _, p := range c.parts {
				frames = append(frames, b.frame(1, packet.Segment{Flags: p.flags,
					Ack: 0x5500 + 7 + 1, Seq: seqnum.Value(100).Add(p.off),
					Payload: []byte(p.text)}, 0))
			}
			b.s.batch(b.now, frames, new(packet.Segment))
			b.toldIs(0, c.want)
			b.keepsNothing()
		})
	}
}
