package ontarget

import (
	"fmt"
	"io"
	"net"
	"reflect"
	"testing"
	"time"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/proto/redis"
	"tcpcopy/internal/way/link/wire"
)

// found lists what was reported of a stream's answers, and whether they had been counted as
// received before.
func (c *copier) found(id uint64) (list []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var received uint64
	for _, ev := range c.events {
		switch {
		case ev.ID != id:
		case ev.Kind == wire.EventReceived:
			received = ev.N
		case ev.Kind == wire.EventAnswer:
			list = append(list, fmt.Sprintf("%d at %d, received: %v", ev.Answer.Status,
				ev.Answer.End, received >= ev.Answer.End))
		case ev.Kind == wire.EventLost:
			list = append(list, "lost")
		}
	}
	return list
}

func TestAnswersAreTold(t *testing.T) {
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
	for _, tc := range []struct {
		name string
		ops  func(addr wire.Op) []wire.Op
		want []string
	}{
		{"at once", func(o wire.Op) []wire.Op {
			return []wire.Op{o, {Kind: wire.OpRead, ID: 1, Proto: http1.Kind},
				data(1, []byte("GET"))}
		}, []string{"200 at 40, received: true", "200 at 80, received: true"}},
		{"with a hint", func(o wire.Op) []wire.Op {
			return []wire.Op{o, {Kind: wire.OpRead, ID: 1, Proto: http1.Kind},
				{Kind: wire.OpExpect, ID: 1, Request: 1, Hint: 1}, data(1, []byte("GET"))}
		}, []string{"200 at 40, received: true", "200 at 78, received: true"}},
		{"nobody asks", func(o wire.Op) []wire.Op {
			return []wire.Op{o, {Kind: wire.OpRead, ID: 1, Proto: proto.None},
				data(1, []byte("GET"))}
		}, nil},
		{"a protocol that is not known here", func(o wire.Op) []wire.Op {
			return []wire.Op{o, {Kind: wire.OpRead, ID: 1, Proto: 200}, data(1, []byte("GET"))}
		}, []string{"lost"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			addr, accepted := server(t)
			c := attach(t, New(Config{Allow: every, Routes: loopback{}, Now: now}), 1)
			o := open(1, 1, addr)
			o.Kind = wire.OpListen
			c.must(tc.ops(o)...)
			conn := (<-accepted).(*net.TCPConn)
			conn.SetDeadline(time.Now().Add(patience))
			if _, err := io.ReadFull(conn, make([]byte, 3)); err != nil {
				t.Fatal(err)
			}
			_, _ = conn.Write([]byte(answer + answer))
			_ = conn.CloseWrite()
			c.await(1, wire.EventShut, 0)
			if got := c.found(1); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("found %q, want %q", got, tc.want)
			}
		})
	}
}

// What a copier says about answers holds for the attempt that succeeds.
func TestAnswersAfterWaiting(t *testing.T) {
	s := &stream{peer: &Peer{server: New(Config{})}}
	s.read(http1.Kind)
	s.read(redis.Kind)
	if !s.decided || s.proto != http1.Kind {
		t.Errorf("decided %v, %v; want the first to count", s.decided, s.proto)
	}
	for i := range maxHints {
		if !s.expect(uint64(i), 1) {
			t.Fatalf("no room for hint %d", i)
		}
	}
	if s.expect(maxHints, 1) {
		t.Error("hints without bound")
	}
	s.opened = true
	s.dropHints()
	if !s.expect(maxHints, 1) || s.hints != nil {
		t.Error("hints are kept for a connection that has opened")
	}
}

// TestHintsCount checks that the hints of connections that are not open yet count against the bound
// on memory.
func TestHintsCount(t *testing.T) {
	const most, streams = 1_000_000, 50
	server(t) // or the test is skipped
	l := New(Config{Allow: every, Routes: loopback{}, Now: now, MaxStreams: 2 * streams,
		MaxBytes:       most,
		ConnectTimeout: time.Hour})
	c := attach(t, l, 1)
	target := fullBacklog(t)
	c.must(open(1, 1, target))
	c.await(1, wire.EventOpened, 0)
	for id := range uint64(streams) {
		c.must(open(2+id, int(2+id), target))
		for i := range uint64(maxHints / 4) {
			c.must(wire.Op{Kind: wire.OpExpect, ID: 2 + id, Request: i, Hint: 1})
			if n := l.Stats().Buffered; n > most {
				t.Fatalf("%d bytes are kept, wanted at most %d", n, most)
			}
		}
	}
	st := l.Stats()
	if n := st.Failed[ledger.OverMemory.String()]; n < streams/2 {
		t.Errorf("%d of %d streams were refused for want of memory", n, streams)
	}
	for id := range uint64(streams) {
		c.must(wire.Op{Kind: wire.OpAbort, ID: 2 + id})
	}
	if n := l.Stats().Buffered; n != 0 {
		t.Errorf("%d bytes count when all streams have ended", n)
	}
}
