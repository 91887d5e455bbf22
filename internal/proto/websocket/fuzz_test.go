package websocket

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/semantics"
)

// seeds are what one side of a connection sends after the handshake.
var seeds = []string{
	text("hello"), says("hello"), text("a") + byClient(bitFin|opPing, "b") + text("c"),
	byServer(bitFin|opPing, "p") + says("x") + byServer(bitFin|opClose, "\x03\xe8"),
	byClient(opText, "a") + byClient(bitFin|opPong, "") + byClient(bitFin|opContinuation, "b"),
	byClient(bitFin|bitDeflate|opText, "\xf2\x48\xcd\xc9\xc9\x07\x00"), // RFC 7692 §7.2.3.1
	byClient(bitFin|bitDeflate|opText, "\xf2\x00\x11\x00\x00"),
	byClient(bitFin|opClose, "\x03\xe9bye"), strings.Repeat("\x00", 20),
	"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\x00\x00\x00\x00data", says(strings.Repeat("x", 300)),
}

// The bits of FuzzClient's last argument: the copy begins within a connection, requests are
// changed, both sides send the handshake first.
const (
	fuzzAdopted = 1 << iota
	fuzzRuled
	fuzzUpgraded
)

// FuzzClient checks that a Client sends the same, and fails in the same way, however its input is
// split, and that what it sends consists of whole frames.
func FuzzClient(f *testing.F) {
	for i, s := range seeds {
		f.Add(s, seeds[(i+1)%len(seeds)], seeds[(i+2)%len(seeds)], uint8(3), uint8(fuzzUpgraded))
		f.Add(asks+s, accepting("permessage-deflate"), says("y"), uint8(1), uint8(i%4))
	}
	f.Add("HEAD / HTTP/1.1\r\n\r\n"+asks, "HTTP/1.1 200 OK\r\n\r\n"+refuses, asks, uint8(5),
		uint8(0))
	f.Add(asks+"AB", accepts, "x\n", uint8(1), uint8(fuzzRuled))
	f.Add(asks+"AB\r\n", accepts, "A\x81", uint8(1), uint8(0))
	f.Add("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\na\nb"+asks, accepts, "A\x81", uint8(1),
		uint8(fuzzRuled))
	rules := &semantics.Rules{Set: []semantics.Header{{Name: "Host", Value: "test"}}}
	f.Fuzz(func(t *testing.T, client, target, more string, step, how uint8) {
		if how&fuzzUpgraded != 0 {
			client, target = asks+client, accepts+target
		}
		run := func(step int) (sent, log, end string) {
			r := newRig(t, step)
			if how&fuzzRuled != 0 {
				r.c = NewClient(rules)
			}
			r.begin(how&fuzzAdopted != 0)
			r.serve(target)
			err := r.tryFeed(client)
			if err == nil {
				err = r.tryHear(target)
			}
			if err == nil {
				err = r.tryHear(more)
			}
			if err == nil {
				err = r.tryFeed(more)
			}
			r.wait(0)
			r.wait(1e18)
			if c := r.c; c.held < 0 || c.earlySize < 0 || err == nil && c.Heard() > r.heard {
				t.Fatalf("%d and %d bytes are held; %d of %d were heard", c.held, c.earlySize,
					c.Heard(), r.heard)
			}
			return outline(r), strings.Join(r.log, "\n"), reasonOf(err)
		}
		sent, log, end := run(0)
		split, logToo, endToo := run(int(step))
		if endToo != end || end == "<nil>" && (split != sent || logToo != log) {
			t.Fatalf("whole %q, %s, %s; in steps of %d %q, %s, %s", sent, log, end, step, split,
				logToo, endToo)
		}
	})
}

// outline describes what the target has received: the request, and frames without their masks. How
// many pings are answered depends on how they come, so pongs are left out.
func outline(r *rig) string {
	const end = "\r\n\r\n"
	head, frames, _ := strings.Cut(string(r.sent), end)
	if !r.c.target.upgraded || strings.Contains(frames, end) {
		return string(r.sent) // requests precede
	}
	for len(frames) > 0 {
		var h headers
		var f frame
		n, ok := h.next([]byte(frames), &f)
		if !ok {
			return head + "a part of a header"
		}
		p := []byte(frames[n:][:min(f.length, uint64(len(frames)-n))])
		frames = frames[n+len(p):]
		if unmask(p, f.mask, 0); f.op != opPong {
			head += fmt.Sprintf("\n%v %d %d %q", f.fin, f.op, f.length, p)
		}
	}
	return head
}

// FuzzAnswers checks that the reader of a target hands back the same however its input is split,
// and says for how much it need not see.
func FuzzAnswers(f *testing.F) {
	for _, s := range seeds {
		f.Add(accepts+s, uint8(2))
	}
	f.Add(refuses+accepts+says(strings.Repeat("x", 300))+says("y"), uint8(7))
	f.Fuzz(func(t *testing.T, in string, step uint8) {
		hand := func(step int) (string, error) {
			var s strings.Builder
			var scratch []proto.Answer
			follower := proto.Follow(NewAnswers())
			for rest := in; len(rest) > 0; {
				n := len(rest)
				if step > 0 {
					n = min(n, step)
				}
				if blind := follower.Blind(); step > 0 && blind > 0 && uint64(n) <= blind {
					follower.Skip(0, uint64(n), nil, &scratch)
				} else {
					for _, told := range follower.Feed(mono.Time(0), []byte(rest[:n]), nil,
						&scratch) {
						s.Write(told.Bytes)
					}
				}
				rest = rest[n:]
			}
			if follower.Lost() {
				return s.String(), errors.New("lost")
			}
			return s.String(), nil
		}
		whole, err := hand(0)
		split, errToo := hand(int(step))
		if (err == nil) != (errToo == nil) || err == nil && whole != split {
			t.Fatalf("whole %q, %v; in steps of %d %q, %v", whole, err, step, split, errToo)
		}
	})
}
