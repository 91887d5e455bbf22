package http2

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/net/http2"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
)

// asker has a client ask again and again, and a target answer.
type asker struct {
	c        *Client
	follower proto.Follower
	out      proto.Out
	told     []proto.Told
	scratch  []proto.Answer

	request, answer []byte // of stream 1
	stream          uint32 // of the next request
	seen            uint64
}

func newAsker(t testing.TB) *asker {
	a := &asker{c: NewClient(&Settings{}), stream: 1}
	p := newPeer()
	must(a.c.Begin(false, &a.out))
	p.out.WriteString(preface)
	must(p.WriteSettings())
	a.feed(t, p.take())
	must(p.WriteSettings())
	a.follower = proto.Follow(NewAnswers())
	a.hear(t, p.take())
	headers := []string{":method GET", ":scheme https", ":authority www.example.org",
		":path /orders/list?page=2", "accept text/html,application/xhtml+xml",
		"accept-encoding gzip, deflate, br", "accept-language en-US,en;q=0.9",
		"cookie session=0123456789abcdef0123456789abcdef", "user-agent Mozilla/5.0 (X11)",
		"referer https://www.example.org/orders", "x-trace 00-4bf92f3577b34da6", "te trailers"}
	p.head(1, true, headers...)
	a.ask(t, p.take()) // it fills the table
	p.head(1, true, headers...)
	a.request = p.take()
	q := newPeer()
	q.enc.SetMaxDynamicTableSize(0)
	q.head(1, false, ":status 200", "content-type text/html", "content-length 5000")
	must(q.WriteData(1, true, make([]byte, 5000)))
	a.answer = q.take()
	a.hear(t, a.answer)
	return a
}

func (a *asker) feed(t testing.TB, p []byte) {
	a.out.Reset()
	if err := a.c.Feed(p, a.seen, &a.out); err != nil {
		t.Fatal(err)
	}
}

func (a *asker) hear(t testing.TB, p []byte) {
	a.told = a.follower.Feed(mono.Time(0), p, a.told[:0], &a.scratch)
	for i := range a.told {
		a.out.Reset()
		if err := a.c.Kept(a.told[i].Bytes, &a.out); err != nil {
			t.Fatal(err)
		}
	}
}

// ask has the client send frames of stream 1 as those of its next stream.
func (a *asker) ask(t testing.TB, p []byte) {
	renumber(p, a.stream)
	a.stream += 2
	a.seen++
	a.feed(t, p)
}

// renumber sets the stream of all frames.
func renumber(p []byte, stream uint32) {
	for len(p) > 0 {
		n := headerLen + (int(p[0])<<16 | int(p[1])<<8 | int(p[2]))
		binary.BigEndian.PutUint32(p[5:], stream)
		p = p[n:]
	}
}

func (a *asker) exchange(t testing.TB) {
	a.ask(t, a.request)
	renumber(a.answer, a.c.target.next-2)
	a.hear(t, a.answer)
}

func TestAllocatesNothing(t *testing.T) {
	a := newAsker(t)
	for range 100 {
		a.exchange(t)
	}
	if n := testing.AllocsPerRun(1000, func() { a.exchange(t) }); n != 0 {
		t.Errorf("%v allocations for a request and its answer", n)
	}
	if !a.c.Idle() || len(a.c.list) > 2 {
		t.Errorf("%d streams are left", len(a.c.list))
	}
	if !bytes.Contains(a.request, []byte{0x82}) || http2.FrameHeaders != frameHeaders {
		t.Error("the request is not the one that was meant")
	}
}

func BenchmarkExchange(b *testing.B) {
	a := newAsker(b)
	b.ReportAllocs()
	for b.Loop() {
		a.exchange(b)
	}
}

// BenchmarkRequest reads a request with 12 headers, which are in the client's table, and makes
// those for the target. The rest of what BenchmarkExchange does is the stream's, and the answer.
func BenchmarkRequest(b *testing.B) {
	a := newAsker(b)
	block := a.request[headerLen:]
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := a.c.transcode(nil, block); err != nil {
			b.Fatal(err)
		}
	}
}

// onlooker has the readers that change nothing read a request and its answer.
type onlooker struct {
	*asker
	client  watcher
	answers proto.Answers
	list    []proto.Answer
}

func newOnlooker(t testing.TB) *onlooker {
	o := &onlooker{asker: newAsker(t), answers: newWatchedAnswers()}
	o.out.Reset()
	must(o.client.Begin(false, &o.out))
	must(o.client.Feed([]byte(preface), 0, &o.out))
	return o
}

func (o *onlooker) exchange(t testing.TB) {
	renumber(o.request, o.stream)
	renumber(o.answer, o.stream)
	o.stream += 2
	o.out.Reset()
	if err := o.client.Feed(o.request, 0, &o.out); err != nil {
		t.Fatal(err)
	}
	var err error
	if o.list, err = o.answers.Feed(o.answer, o.list[:0]); err != nil || len(o.list) != 2 {
		t.Fatal(err, o.list)
	}
}

func TestOnlookersAllocateNothing(t *testing.T) {
	o := newOnlooker(t)
	o.exchange(t)
	if n := testing.AllocsPerRun(1000, func() { o.exchange(t) }); n != 0 {
		t.Errorf("%v allocations for a request and its answer", n)
	}
}

func BenchmarkOnlookers(b *testing.B) {
	o := newOnlooker(b)
	b.ReportAllocs()
	for b.Loop() {
		o.exchange(b)
	}
}
