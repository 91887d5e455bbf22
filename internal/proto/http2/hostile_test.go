package http2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
)

// rawFrame is a frame of any kind.
func rawFrame(kind, flags uint8, stream uint32, payload string) []byte {
	return append(appendHeader(nil, len(payload), kind, flags, stream), payload...)
}

// What a server must not send ends the copy. TestH2spec has the cases of h2spec.
func TestInvalidOfTheTarget(t *testing.T) {
	for name, frame := range map[string][]byte{
		"4.2 a frame longer than allowed": rawFrame(frameHeaders, 4, 1,
			strings.Repeat("a", 16385)),
		"4.3 a header block that is none": rawFrame(frameHeaders, 4, 1,
			"\xff\xff\xff\xff\xff\xff"),
		"4.3 a table larger than allowed": rawFrame(frameHeaders, 4, 1,
			"\x3f\xff\xff\x7f\x88"),
		"5.1.1 an answer on a new stream":      rawFrame(frameHeaders, 5, 9, "\x88"),
		"5.1.1 an answer on an even stream":    rawFrame(frameHeaders, 5, 2, "\x88"),
		"6.1 padding longer than the frame":    rawFrame(frameHeaders, 0xd, 1, "\x05\x88"),
		"6.2 HEADERS that end in the priority": rawFrame(frameHeaders, 0x24, 1, "\x00\x00\x00"),
		"6.2 a frame within a header block": slices.Concat(
			rawFrame(frameHeaders, 0, 1, "\x88"), rawFrame(framePing, 0, 0, "12345678")),
		"6.2 another stream's header block": slices.Concat(
			rawFrame(frameHeaders, 0, 1, "\x88"), rawFrame(frameContinuation, 4, 3, "\x88")),
		"6.4 RST_STREAM of a new stream":   rawFrame(frameReset, 0, 9, "\x00\x00\x00\x08"),
		"6.4 RST_STREAM of the connection": rawFrame(frameReset, 0, 0, "\x00\x00\x00\x08"),
		"6.4 RST_STREAM of 3 bytes":        rawFrame(frameReset, 0, 1, "\x00\x00\x08"),
		"6.5 SETTINGS of a stream":         rawFrame(frameSettings, 0, 1, ""),
		"6.5 SETTINGS of 5 bytes":          rawFrame(frameSettings, 0, 0, "12345"),
		"6.5 an ACK with settings":         rawFrame(frameSettings, 1, 0, "123456"),
		"6.5.2 an initial window too large": rawFrame(frameSettings, 0, 0,
			"\x00\x04\x80\x00\x00\x00"),
		"6.5.2 frames shorter than allowed": rawFrame(frameSettings, 0, 0,
			"\x00\x05\x00\x00\x3f\xff"),
		"6.5.2 frames longer than allowed": rawFrame(frameSettings, 0, 0,
			"\x00\x05\x01\x00\x00\x00"),
		"6.6 a promise":                        rawFrame(framePush, 4, 1, "\x00\x00\x00\x02\x88"),
		"6.7 PING of a stream":                 rawFrame(framePing, 0, 1, "12345678"),
		"6.7 PING of 7 bytes":                  rawFrame(framePing, 0, 0, "1234567"),
		"6.8 GOAWAY of a stream":               rawFrame(frameGoAway, 0, 1, "12345678"),
		"6.8 GOAWAY of 4 bytes":                rawFrame(frameGoAway, 0, 0, "1234"),
		"6.9 WINDOW_UPDATE by 0":               rawFrame(frameWindow, 0, 0, "\x00\x00\x00\x00"),
		"6.9 WINDOW_UPDATE by 0, of a stream":  rawFrame(frameWindow, 0, 1, "\x00\x00\x00\x00"),
		"6.9 WINDOW_UPDATE of 3 bytes":         rawFrame(frameWindow, 0, 0, "\x00\x00\x01"),
		"6.9.1 a window too large":             rawFrame(frameWindow, 0, 0, "\x7f\xff\xff\xff"),
		"6.9.1 a stream's window too large":    rawFrame(frameWindow, 0, 1, "\x7f\xff\xff\xff"),
		"6.10 CONTINUATION of no header block": rawFrame(frameContinuation, 4, 1, "\x88"),
		"6.10 CONTINUATION without an end": slices.Concat(rawFrame(frameHeaders, 0, 1, ""),
			bytes.Repeat(rawFrame(frameContinuation, 0, 1, strings.Repeat("a", 16384)), 20)),
	} {
		t.Run(name, func(t *testing.T) {
			for _, step := range []int{0, 1} {
				r := newRig(t)
				r.step = step
				r.client.post(1, "/a")
				r.client.get(3, "/a")
				r.feed(0)
				if err := r.tryHear(frame); !isLost(err) {
					t.Errorf("in steps of %d: %v, wanted that the protocol is lost", step, err)
				}
			}
		})
	}
}

// A server that does not begin with SETTINGS does not speak HTTP/2.
func TestTargetOfAnotherProtocol(t *testing.T) {
	for _, text := range []string{"HTTP/1.1 400 Bad Request\r\n\r\n", "-ERR unknown command\r\n",
		string(rawFrame(framePing, 0, 0, "12345678")), string(rawFrame(frameSettings, 1, 0, ""))} {
		r := bareRig(t)
		r.begin(false)
		if err := r.tryHear([]byte(text)); !isLost(err) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestInvalidOfTheClient(t *testing.T) {
	for name, frame := range map[string][]byte{
		"no preface":                []byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
		"no preface, no request":    []byte("?GET / HTTP/1.1"),
		"DATA of an even stream":    rawFrame(frameData, 0, 2, "a"),
		"HEADERS of an even stream": rawFrame(frameHeaders, 5, 2, "\x82"),
		"a promise":                 rawFrame(framePush, 4, 1, ""),
		"SETTINGS of a stream":      rawFrame(frameSettings, 0, 1, ""),
		"a reset of no stream":      rawFrame(frameReset, 0, 0, "abcd"),
		"DATA longer than allowed":  rawFrame(frameData, 0, 1, strings.Repeat("a", maxData+1)),
		"a block that is none":      rawFrame(frameHeaders, 5, 1, "\x80"),
		"a block longer than allowed": rawFrame(frameHeaders, 5, 1,
			strings.Repeat("a", maxBlock+1)),
		"SETTINGS longer than allowed": rawFrame(frameSettings, 0, 0, strings.Repeat("a", 1<<20)),
		"padded DATA of no length":     rawFrame(frameData, 8, 1, ""),
		"RST_STREAM of 3 bytes":        rawFrame(frameReset, 0, 1, "abc"),
		"CONTINUATION without a begin": rawFrame(frameContinuation, 4, 1, ""),
		"a frame within a block": slices.Concat(rawFrame(frameHeaders, 1, 1, "\x82"),
			rawFrame(frameData, 0, 1, "a")),
		"CONTINUATION without an end": append(rawFrame(frameHeaders, 1, 1, ""),
			bytes.Repeat(rawFrame(frameContinuation, 0, 1, strings.Repeat("a", 60000)), 5)...),
	} {
		r := bareRig(t)
		r.begin(false)
		if !strings.HasPrefix(name, "no preface") {
			frame = append([]byte(preface), frame...)
		}
		if err := r.tryFeed(frame, 0); !isLost(err) {
			t.Errorf("%s: %v, wanted that the protocol is lost", name, err)
		}
	}
	r := bareRig(t)
	r.begin(false)
	var refusal *proto.Refusal
	if err := r.tryFeed([]byte("\x16\x03\x01\x02\x00\x01"), 0); !errors.As(err, &refusal) ||
		refusal.Reason != ledger.TLS {
		t.Errorf("TLS: %v", err)
	}
}

// A short block that stands for much (an HPACK bomb) is not followed.
func TestBomb(t *testing.T) {
	r := newRig(t)
	block := r.client.fields(":method GET", ":path /", "x "+strings.Repeat("y", 3000))
	block = append(bytes.Clone(block), bytes.Repeat([]byte{0xbe}, 5000)...) // 62: the newest entry
	must(r.client.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true,
		EndHeaders: true, BlockFragment: block}))
	if err := r.tryFeed(r.client.take(), 0); !isLost(err) {
		t.Errorf("%v, wanted that the protocol is lost", err)
	}
}

// A client that opens and cancels streams while the target takes none, or sends content that the
// target does not take, is refused in the end.
func TestBounds(t *testing.T) {
	var refusal *proto.Refusal
	r := newRig(t, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0})
	var err error
	for i := uint32(0); i < 3*maxStreams && err == nil; i++ {
		r.client.get(2*i+1, "/a")
		must(r.client.WriteRSTStream(2*i+1, http2.ErrCodeCancel))
		err = r.tryFeed(r.client.take(), 0)
	}
	if !errors.As(err, &refusal) || refusal.Reason != ledger.OverSession {
		t.Errorf("cancelled streams: %v", err)
	}

	r = newRig(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	r.client.post(1, "/a")
	for err = nil; err == nil && r.c.held < 2*maxHeld; {
		must(r.client.WriteData(1, false, make([]byte, ownLeast-1)))
		err = r.tryFeed(r.client.take(), 0)
	}
	if !errors.As(err, &refusal) || refusal.Reason != ledger.OverSession {
		t.Errorf("content: %v", err)
	}

	r = newRig(t) // content in frames of nothing, and of one byte
	r.client.post(1, "/a")
	r.feed(0)
	r.answers.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	r.hear()
	r.take()
	for range 20000 {
		must(r.client.WriteData(1, false, nil))
		must(r.client.WriteData(1, false, []byte{'a'}))
	}
	r.feed(0)
	if n := len(r.c.byClient[1].upload.parts); n > 20000/partMost+1 {
		t.Errorf("%d parts for 20000 bytes", n)
	}
}

// What comes does not depend on how it is split.
func TestSplit(t *testing.T) {
	run := func(step int) string {
		r := newRig(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 20})
		r.step = step
		for i := range uint32(5) {
			r.client.post(2*i+1, "/a")
			must(r.client.WriteDataPadded(2*i+1, false, []byte("x"), make([]byte, i)))
			r.client.head(2*i+1, true, "checksum 5")
			must(r.client.WritePing(false, [8]byte{}))
		}
		r.feed(0)
		r.client.get(11, "/b")
		r.feed(10)
		for i := range uint32(5) {
			must(r.answers.WritePing(false, [8]byte{'a', byte(i)}))
			r.answers.answer(2*i + 1)
		}
		r.hear()
		must(r.answers.WriteGoAway(11, http2.ErrCodeNo, []byte("bye")))
		r.hear()
		r.settled()
		return r.take()
	}
	want := run(0)
	for step := 1; step < 40; step++ {
		if got := run(step); got != want {
			t.Fatalf("in steps of %d:\n%s\nwanted\n%s", step, got, want)
		}
	}
}

// random has a client, production and a target do anything, and checks what must hold.
func random(t *testing.T, r *rand.Rand, steps int) {
	g := newRig(t, http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(r.IntN(2000))})
	g.step = r.IntN(30)
	next, open := uint32(1), []uint32{}
	var prod uint64
	for range steps {
		switch r.IntN(9) {
		case 0, 1:
			opens := []func(){func() { g.client.get(next, "/a") },
				func() { g.client.post(next, "/a") }, func() { g.client.call(next) }}
			kind := r.IntN(len(opens))
			if opens[kind](); kind > 0 {
				open = append(open, next)
			}
			next += 2
		case 2, 3:
			if len(open) > 0 {
				i := r.IntN(len(open))
				end := r.IntN(3) == 0
				must(g.client.WriteData(open[i], end, make([]byte, r.IntN(900))))
				if end {
					open = append(open[:i], open[i+1:]...)
				}
			}
		case 4:
			if len(open) > 0 {
				must(g.client.WriteRSTStream(open[0], http2.ErrCodeCancel))
				open = open[1:]
			}
		case 5:
			for id, s := range g.c.byTarget {
				switch {
				case s.ended:
				case r.IntN(2) == 0:
					g.answers.answer(id)
				case s.grpc:
					g.answers.says(id, "", "a message")
				}
			}
		case 6:
			must(g.answers.WriteWindowUpdate(0, uint32(1+r.IntN(2000))))
			for id := range g.c.byTarget {
				must(g.answers.WriteWindowUpdate(id, uint32(1+r.IntN(500))))
			}
		case 7:
			prod += uint64(r.IntN(100))
		case 8:
			for id := range g.c.byTarget {
				must(g.answers.WriteRSTStream(id, http2.ErrCode(r.IntN(9))))
				break
			}
		}
		g.now = g.now.Add(time.Duration(r.IntN(500)) * time.Millisecond)
		g.feed(prod)
		g.hear()
	}
	for _, id := range open {
		must(g.client.WriteRSTStream(id, http2.ErrCodeCancel))
	}
	g.feed(prod)
	for i := 0; i < 10000 && !g.c.Idle(); i++ {
		g.wait(100 * time.Millisecond)
		must(g.answers.WriteWindowUpdate(0, 5000))
		for id, s := range g.c.byTarget {
			must(g.answers.WriteWindowUpdate(id, 5000))
			if !s.ended {
				g.answers.answer(id)
			}
		}
		g.hear()
	}
	g.settled()
	if c := g.c; len(c.byClient)+len(c.byTarget)+c.open+len(c.ended)+c.paused > 0 {
		t.Errorf("%d streams of the client, %d of the target are left, %d are open; %d wait",
			len(c.byClient), len(c.byTarget), c.open, len(c.ended))
	}
}

func TestRandom(t *testing.T) {
	for seed := range uint64(300) {
		random(t, rand.New(rand.NewPCG(seed, 5)), 60)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// FuzzClient has any bytes come from both sides.
func FuzzClient(f *testing.F) {
	p := newPeer()
	p.out.WriteString(preface)
	must(p.WriteSettings())
	p.get(1, "/")
	p.post(3, "/")
	must(p.WriteDataPadded(3, true, []byte("abc"), make([]byte, 3)))
	client := p.take()
	must(p.WriteSettings())
	p.answer(1)
	must(p.WriteGoAway(1, 0, nil))
	f.Add(client, p.take(), uint8(3), false)
	p.out.WriteString(preface)
	p.call(1)
	p.says(1, "a", "b")
	client = p.take()
	must(p.WriteSettings())
	p.begins(1)
	p.says(1, "re a")
	p.ends(1)
	f.Add(client, p.take(), uint8(20), false)
	p.out.WriteString(preface)
	p.connect(1)
	says(p, byClient(wsText, "a")+byClient(wsPong, ""))
	client = p.take()
	must(p.WriteSettings(connects))
	p.head(1, false, ":status 200", "sec-websocket-extensions permessage-deflate")
	says(p, byServer(wsPing, "")+byServer(wsText, "b")+byServer(wsClose, ""))
	f.Add(client, p.take(), uint8(7), false)
	f.Add([]byte(posting[1]+preface), []byte("HTTP/1.1 101 \r\n\r\n"), uint8(9), false)
	f.Add([]byte(preface), []byte("HTTP/1.1 400"), uint8(0), true)
	f.Fuzz(func(t *testing.T, client, target []byte, step uint8, adopted bool) {
		r := bareRig(t)
		r.begin(adopted)
		r.step = int(step)
		r.c.Server(0, target)
		if err := r.tryFeed(client, uint64(step)); err == nil {
			err = r.tryHear(target)
			r.wait(time.Minute)
			if c := r.c; r.taken > r.fed || c.held < 0 || c.waiting < 0 || c.open < 0 ||
				c.sockets < 0 {
				t.Fatalf("%v: %d bytes taken of %d; %d held of %d streams, %d open", err, r.taken,
					r.fed, c.held, c.waiting, c.open)
			}
		}
	})
}

// FuzzAnswers checks that the reader of a target hands back the same however its input is split,
// and of all but DATA everything.
func FuzzAnswers(f *testing.F) {
	p := newPeer()
	must(p.WriteSettings())
	p.answer(1)
	f.Add(p.take(), uint8(2), false)
	must(p.WriteSettings())
	must(p.WriteDataPadded(3, false, []byte(byServer(wsText, "hello")), make([]byte, 3)))
	must(p.WriteData(3, true, []byte(byServer(wsPing, "p"))))
	f.Add(p.take(), uint8(3), true)
	f.Fuzz(func(t *testing.T, text []byte, step uint8, socket bool) {
		hand := func(step int) (string, bool) {
			var s strings.Builder
			var scratch []proto.Answer
			follower := proto.Follow(NewAnswers())
			if socket {
				follower.Expect(1, hintSocket)
			}
			for rest := text; len(rest) > 0; {
				n := min(len(rest), max(step, 1))
				if step == 0 {
					n = len(rest)
				}
				if blind := follower.Blind(); blind > 0 && uint64(n) <= blind {
					follower.Skip(0, uint64(n), nil, &scratch)
				} else {
					for _, told := range follower.Feed(mono.Time(0), rest[:n], nil, &scratch) {
						s.Write(told.Bytes)
					}
				}
				rest = rest[n:]
			}
			return s.String(), follower.Lost()
		}
		whole, lost := hand(0)
		split, lostToo := hand(int(step))
		if lost != lostToo || !lost && whole != split {
			t.Fatalf("whole %q, %v, in steps of %d %q, %v", whole, lost, step, split, lostToo)
		}
		if !lost && !socket {
			var want []byte
			for rest := text; len(rest) > 0; {
				if len(rest) < headerLen {
					want = append(want, rest...)
					break
				}
				n := int(binary.BigEndian.Uint32(append([]byte{0}, rest[:3]...)))
				frame := rest[:min(headerLen+n, len(rest))]
				rest = rest[len(frame):]
				if frame[3] == frameData && n > 1 {
					want = append(want, frame[:headerLen]...)
					if len(frame) == headerLen+n {
						want = append(want, frame[len(frame)-1])
					}
					continue
				}
				want = append(want, frame...)
			}
			if whole != string(want) {
				t.Fatalf("handed back %q, wanted %q", whole, want)
			}
		}
	})
}
