package intercept

import (
	"strings"

	"tcpcopy/internal/core/packet"
)

// part is a segment of the target's by the offset of its first byte; flags beside ACK.
type part struct {
	off   int
	text  string
	flags packet.Flags
	cut   int // so many bytes of it were not captured
}

const reply = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi" // 40 bytes

type followCase struct {
	name  string
	parts []part
	want  []string
}

// followCases are what a target says, and what is found of it.
var followCases = func() []followCase {
	synAck := part{off: -1, flags: packet.SYN}
	long := strings.Repeat("x", 60000)
	return []followCase{
		{"in order", []part{synAck, {off: 0, text: reply}, {off: 40, text: reply}},
			[]string{"40", "80"}},
		{"in pieces", []part{synAck, {off: 0, text: reply[:7]}, {off: 7, text: reply[7:]}},
			[]string{"40"}},
		{"twice", []part{synAck, {off: 0, text: reply}, {off: 0, text: reply},
			{off: 40, text: reply}}, []string{"40", "80"}},
		{"overlapping", []part{synAck, {off: 0, text: reply[:30]}, {off: 20, text: reply[20:]}},
			[]string{"40"}},
		{"out of order", []part{synAck, {off: 20, text: reply[20:]}, {off: 40, text: reply},
			{off: 0, text: reply[:20]}}, []string{"40", "80"}},
		{"two holes", []part{synAck, {off: 30, text: reply[30:]}, {off: 10, text: reply[10:20]},
			{off: 0, text: reply[:10]}, {off: 20, text: reply[20:30]}}, []string{"40"}},
		{"SYN-ACK twice", []part{synAck, {off: 0, text: reply}, synAck, {off: 40, text: reply}},
			[]string{"40", "80"}},
		{"a probe", []part{synAck, {off: -1, text: "?"}, {off: 0, text: reply}}, []string{"40"}},
		{"to the end", []part{synAck, {off: 0, text: "HTTP/1.1 200 OK\r\n\r\nhi"},
			{off: 21, flags: packet.FIN}}, []string{"21"}},
		{"the end behind a hole", []part{synAck, {off: 19, text: "hi", flags: packet.FIN},
			{off: 0, text: "HTTP/1.1 200 OK\r\n\r\n"}}, []string{"21"}},
		{"an acknowledgment before we know where it begins",
			[]part{{off: 0}, synAck, {off: 0, text: reply}}, []string{"40"}},
		{"begun without us", []part{{off: 0, text: reply}}, []string{"lost"}},
		{"cut", []part{synAck, {off: 0, text: reply, cut: 1}}, []string{"lost"}},
		{"no HTTP", []part{synAck, {off: 0, text: reply + "220 smtp\r\n"}}, []string{"40", "lost"}},
		{"too much behind a hole", func() []part {
			all := []part{synAck}
			for i := range 40 {
				all = append(all, part{off: 1 + i*len(long), text: long})
			}
			return all
		}(), []string{"lost"}},
	}
}()
