package intercept_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/proto/http1"
	"tcpcopy/internal/source"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/intercept"
	"tcpcopy/internal/way/raw/route"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestTwoCopiers: each copier receives the headers of its own connections, in order, and no others.
func TestTwoCopiers(t *testing.T) {
	k := newKey(t)
	for _, tc := range []struct {
		name  string
		conns int
		keyed bool
	}{{"plain", 1, false}, {"with a key", 1, true},
		{"with a key, three connections each", 3, true}} {
		t.Run(tc.name, func(t *testing.T) {
			change := func(_ *copier, c *link.Config) { c.Conns = tc.conns }
			if tc.keyed {
				change = func(_ *copier, c *link.Config) { usingKey(k)(nil, c); c.Conns = tc.conns }
			}
			d := start(t, func(c *intercept.Config) {
				if tc.keyed {
					withKey(k)(c)
				}
			})
			a := dial(t, []string{d.addr}, change)
			ready(t, a)
			b := dial(t, []string{d.addr}, change)
			ready(t, b)
			wait(t, "all connections", func() bool {
				return a.Links()[0].State().Conns == tc.conns &&
					b.Links()[0].State().Conns == tc.conns
			})
			const conns, each = 100, 20
			for i := range conns {
				slot := a.Slot()
				if i%2 == 1 {
					slot = b.Slot()
				}
				d.src.see(synAck(client(i), slot))
			}
			for n := range each {
				for i := range conns {
					d.src.see(data(client(i), 101+n*10, 10))
				}
			}
			want := conns / 2 * (each + 1)
			wait(t, "all headers", func() bool { return a.total() >= want && b.total() >= want })
			for i := range conns {
				own, other := a, b
				if i%2 == 1 {
					own, other = b, a
				}
				if n := other.count(client(i)); n != 0 {
					t.Fatalf("connection %d: %d headers went to the other copier", i, n)
				}
				got := own.got[client(i)]
				if len(got) != each+1 {
					t.Fatalf("connection %d: %d headers, want %d", i, len(got), each+1)
				}
				for j, s := range got {
					if j == 0 && (!s.Flags.Has(packet.SYN) || s.Opts.MSS != 1460) || j > 0 &&
						(int(s.Seq) != 101+(j-1)*10 || s.Len != 10) || s.Payload != nil {
						t.Fatalf("connection %d, header %d: %v", i, j, &s)
					}
				}
			}
			s := d.Snapshot()
			if s.Frames.Seen != conns*(each+1) || s.Route.Routed != conns*(each+1) ||
				s.Route.Learned != conns {
				t.Errorf("%+v", s)
			}
			var headers uint64
			for _, c := range s.Copiers {
				headers += c.Headers
			}
			if headers != conns*(each+1) {
				t.Errorf("%d headers in the account", headers)
			}
			if a.lastAge < 0 || a.lastAge > time.Second {
				t.Errorf("age %v", a.lastAge)
			}
		})
	}
}

func TestIPv6OverIPv4Link(t *testing.T) {
	d := start(t, nil)
	c := dial(t, []string{d.addr}, nil)
	ready(t, c)
	d.src.see(synAck(client6(1), c.Slot()), data(client6(1), 101, 1400))
	wait(t, "IPv6 headers", func() bool { return c.count(client6(1)) == 2 })
}

func TestIPv6Link(t *testing.T) {
	d := start(t, func(c *intercept.Config) {
		c.Listen = []netip.AddrPort{netip.MustParseAddrPort("[::1]:0")}
	})
	c := dial(t, []string{d.addr}, nil)
	ready(t, c)
	d.src.see(synAck(client(1), c.Slot()))
	wait(t, "headers", func() bool { return c.count(client(1)) == 1 })
}

func TestKeys(t *testing.T) {
	k, other := newKey(t), newKey(t)
	for _, tc := range []struct {
		name    string
		server  func(*intercept.Config)
		client  func(*copier, *link.Config)
		want    error
		log     string
		counter func(intercept.ConnStats) uint64
	}{
		{"wrong key", withKey(k), usingKey(other), link.ErrWrongKey, "did not prove",
			func(c intercept.ConnStats) uint64 { return c.WrongKey }},
		{"no key on a port that wants one", withKey(k), nil, link.ErrNeedsKey, "uses no key",
			func(c intercept.ConnStats) uint64 { return c.NeedsKey }},
		{"key on a port that has none", nil, usingKey(k), link.ErrNoKey, "this intercept has none",
			func(c intercept.ConnStats) uint64 { return c.NoKey }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := start(t, tc.server)
			c := dial(t, []string{d.addr}, tc.client)
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			defer cancel()
			err := c.WaitReady(ctx)
			if !errors.Is(err, tc.want) || !strings.Contains(err.Error(), d.addr) {
				t.Errorf("error %v, want %v", err, tc.want)
			}
			wait(t, "some attempts more", func() bool {
				return tc.counter(d.Snapshot().Conns) >= 3
			})
			if n := d.log.count(tc.log); n != 1 {
				t.Errorf("%d lines of log, want 1:\n%s", n, d.log)
			}
			if n := c.log.count("intercept is down"); n != 1 {
				t.Errorf("%d lines of the copier's log, want 1:\n%s", n, c.log)
			}
			if s := d.Snapshot(); s.Conns.Welcomed != 0 || len(s.Copiers) != 0 {
				t.Errorf("welcomed: %+v", s)
			}
			d.src.see(synAck(client(1), c.Slot()))
			wait(t, "the frame", func() bool { return d.Snapshot().Route.Unowned == 1 })
		})
	}
}

// TestMalformed: what a copier must not send ends its connection, and other copiers are served.
func TestMalformed(t *testing.T) {
	malformed := func(c intercept.ConnStats) uint64 { return c.Malformed }
	refused := func(c intercept.ConnStats) uint64 { return c.Refused }
	greeting := func(h wire.Hello, next ...byte) string {
		h.Version = wire.Version
		return string(h.Append([]byte(wire.Preface))) + string(next)
	}
	one := wire.Hello{Instance: wire.Instance{1}, Slot: 9, Conns: 1}
	for _, tc := range []struct {
		name    string
		send    string
		code    wire.Code // of the refusal; 0: there is none
		counter func(intercept.ConnStats) uint64
	}{
		{"slot 0", greeting(wire.Hello{Conns: 1}), wire.CodeMalformed, malformed},
		{"17 connections", greeting(wire.Hello{Conns: 17, Slot: 1}), wire.CodeFull, refused},
		{"unknown message after hello",
			greeting(one, wire.AppendRaw(nil, 99, 0, nil)...), 0, malformed},
		{"an intercept's message after hello",
			greeting(one, wire.AppendRaw(nil, wire.TypeHeaders, 0, nil)...), 0, malformed},
		{"broken claim",
			greeting(one, wire.AppendRaw(nil, wire.TypeClaim, 0, []byte{0, 9, 4})...), 0,
			malformed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := start(t, nil)
			c := sendBytes(t, d.addr, []byte(tc.send))
			c.(*net.TCPConn).CloseWrite()
			answer, _ := io.ReadAll(c) // a reset is a close, too
			wait(t, "the count", func() bool { return tc.counter(d.Snapshot().Conns) == 1 })
			if tc.code != 0 {
				var r wire.Refuse
				if len(answer) < len(wire.Preface)+wire.FrameHeader {
					t.Fatalf("no refusal: %q", answer)
				}
				if err := r.Decode(answer[len(wire.Preface)+wire.FrameHeader:]); err != nil ||
					r.Code != tc.code {
					t.Errorf("refused with %v (%v), want %v", r.Code, err, tc.code)
				}
			}
			good := dial(t, []string{d.addr}, nil)
			ready(t, good)
		})
	}
}

func TestSkippableMessagePasses(t *testing.T) {
	d := start(t, nil)
	b := (&wire.Hello{Version: wire.Version, Instance: wire.Instance{1}, Slot: 9,
		Conns: 1}).Append([]byte(wire.Preface))
	b = wire.AppendRaw(b, 99, wire.Skippable, []byte("from the future"))
	b = (&wire.Ping{ID: 5}).Append(b)
	c := sendBytes(t, d.addr, b)
	var in wire.Reader
	for {
		f, ok, err := in.Next()
		if err != nil {
			t.Fatal(err)
		}
		if ok && f.Type == wire.TypePong {
			break
		}
		if !ok {
			n, err := c.Read(in.Space())
			if err != nil {
				t.Fatal(err)
			}
			in.Filled(n)
		}
	}
}

// TestClaimsAndQueries: packets of a claimed connection are reported, claims of another's are
// refused, and queries are answered.
func TestClaimsAndQueries(t *testing.T) {
	d := start(t, func(c *intercept.Config) {
		c.Route = route.Config{Settle: time.Nanosecond, Hold: time.Minute}
	})
	a := dial(t, []string{d.addr}, nil)
	ready(t, a)
	b := dial(t, []string{d.addr}, nil)
	ready(t, b)
	tuple := func(i int) wire.Tuple { return wire.Tuple{Client: client(i), Target: target} }

	d.src.see(data(client(1), 5, 10), data(client(1), 15, 10)) // nobody's: held
	wait(t, "both to be held", func() bool { return d.Snapshot().Route.Waiting == 2 })
	if !a.Claim([]wire.Tuple{tuple(1)}) {
		t.Fatal("not queued")
	}
	wait(t, "the held ones", func() bool { return a.count(client(1)) == 2 })
	b.Claim([]wire.Tuple{tuple(1), tuple(2)})
	wait(t, "the refusal", func() bool { return b.Links()[0].Stats().ClaimsRefused == 1 })
	d.src.see(data(client(1), 25, 10), data(client(2), 5, 10))
	wait(t, "one each", func() bool { return a.count(client(1)) == 3 && b.count(client(2)) == 1 })
	if b.count(client(1)) != 0 || a.count(client(2)) != 0 {
		t.Error("crossed")
	}
	for i := 1; i <= 3; i++ {
		a.Query(tuple(i))
	}
	wait(t, "three answers", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.answers) == 3
	})
	if got := strings.Join(a.answers, ", "); got != "20001 you, 20002 another, 20003 nobody" {
		t.Errorf("answers: %s", got)
	}
	a.Release([]wire.Tuple{tuple(1)})
	wait(t, "the release", func() bool {
		a.mu.Lock()
		a.answers = nil
		a.mu.Unlock()
		a.Query(tuple(1)) // goes after the release
		return true
	})
	wait(t, "the answer", func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		return len(a.answers) == 1
	})
	b.Claim([]wire.Tuple{tuple(1)})
	d.src.see(data(client(1), 35, 10))
	wait(t, "the new owner", func() bool {
		d.src.see(data(client(1), 35, 10))
		return b.count(client(1)) > 0
	})
}

// TestOldConnection: an ACK, which names no copier, reaches the one that seeks the connection,
// held or not, and a later query tells whether another copier may have the connection.
func TestOldConnection(t *testing.T) {
	for _, tc := range []struct {
		name   string
		settle time.Duration
		want   string
	}{
		// another may still claim it
		{"just started", time.Hour, "20001 unsure, 20001 free true, 20001 unsure"},
		{"settled", time.Nanosecond, "20001 nobody, 20001 free true, 20001 you"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			d := start(t, func(c *intercept.Config) {
				c.Route = route.Config{Settle: tc.settle, Reclaim: tc.settle, Hold: time.Minute}
			})
			c := dial(t, []string{d.addr}, nil)
			ready(t, c)
			answers := func(n int) {
				t.Helper()
				wait(t, "an answer", func() bool {
					c.mu.Lock()
					defer c.mu.Unlock()
					return len(c.answers) == n
				})
			}
			tuple := wire.Tuple{Client: client(1), Target: target}
			c.Query(tuple)
			answers(1)
			d.src.see(data(client(1), 5, 0))
			wait(t, "the first to be held", func() bool { return d.Snapshot().Route.Waiting == 1 })
			c.Seek(tuple, 0)
			answers(2)
			d.src.see(data(client(1), 6, 0))
			wait(t, "the ACKs", func() bool { return c.count(client(1)) == 2 })
			c.Query(tuple)
			answers(3)
			if got := strings.Join(c.answers, ", "); got != tc.want {
				t.Errorf("answers: %s, wanted %s", got, tc.want)
			}
		})
	}
}

// TestSeekAtSeveral: one intercept that knows another copier's connection is enough to refuse it,
// and one that is down is not asked.
func TestSeekAtSeveral(t *testing.T) {
	one, two := start(t, nil), start(t, nil)
	first := dial(t, []string{two.addr}, nil)
	ready(t, first)
	second := dial(t, []string{one.addr, two.addr}, nil)
	ready(t, second)
	tuple := func(i int) wire.Tuple { return wire.Tuple{Client: client(i), Target: target} }
	two.src.see(synAck(client(1), first.Slot()))
	wait(t, "the first one's header", func() bool { return first.count(client(1)) == 1 })
	seek := func(i int, want string) {
		t.Helper()
		second.mu.Lock()
		second.answers = nil
		second.mu.Unlock()
		if !second.Seek(tuple(i), time.Second) {
			t.Fatal("not asked")
		}
		wait(t, "the answer", func() bool {
			second.mu.Lock()
			defer second.mu.Unlock()
			return len(second.answers) == 1
		})
		if got := second.answers[0]; got != want {
			t.Errorf("%s, wanted %s", got, want)
		}
	}
	seek(1, "20001 free false")
	seek(2, "20002 free true")
	one.stop()
	wait(t, "one to be down", func() bool { return !second.Links()[0].State().Up })
	seek(1, "20001 free false")
	seek(3, "20003 free true")
	two.stop()
	wait(t, "both to be down", func() bool { return !second.Links()[1].State().Up })
	if second.Seek(tuple(4), 0) {
		t.Error("nobody is there, and was asked")
	}
}

// TestBehind: a copier that opens a connection that another one has just had learns that first,
// and then of the SYN-ACK. Other segments are still the other's.
func TestBehind(t *testing.T) {
	d := start(t, func(c *intercept.Config) { c.Route = route.Config{Behind: time.Hour} })
	a := dial(t, []string{d.addr}, nil)
	ready(t, a)
	b := dial(t, []string{d.addr}, nil)
	ready(t, b)
	d.src.see(synAck(client(1), a.Slot()), data(client(1), 101, 10))
	wait(t, "the first one's", func() bool { return a.count(client(1)) == 2 })
	a.Release([]wire.Tuple{{Client: client(1), Target: target}})
	d.src.see(synAck(client(1), b.Slot()), data(client(1), 111, 10))
	wait(t, "one each", func() bool { return a.count(client(1)) == 3 && b.count(client(1)) == 1 })
	b.mu.Lock()
	defer b.mu.Unlock()
	if got := strings.Join(b.answers, ", "); got != "20001 refused, after 0 headers" {
		t.Errorf("the second was told: %s", got)
	}
	if n := d.Snapshot().Route.Late; n != 1 {
		t.Errorf("%d are counted, wanted 1", n)
	}
}

// TestTwoAskOfOneConnection: two copiers that open the same connection both ask for its answers
// before the target has decided between them. They are read for the one that owns it.
func TestTwoAskOfOneConnection(t *testing.T) {
	d := start(t, func(c *intercept.Config) {
		c.Whole = func([]netip.AddrPort) error { return nil }
	})
	tuple := wire.Tuple{Client: client(1), Target: target}
	var mu sync.Mutex
	confirmed, found := map[int]int{}, map[int]int{}
	var both []*copier
	for i := range 2 {
		both = append(both, dial(t, []string{d.addr}, func(_ *copier, cfg *link.Config) {
			cfg.OnAnswers = func(body []byte) (err error) {
				mu.Lock()
				defer mu.Unlock()
				var f wire.Found
				for len(body) > 0 && err == nil {
					body, err = wire.NextFound(body, &f)
					switch f.Kind {
					case wire.FoundConfirmed:
						confirmed[i]++
					case wire.FoundAnswer:
						found[i]++
					}
				}
				return err
			}
		}))
		ready(t, both[i])
		both[i].ReadAnswers([]wire.Reading{{Tuple: tuple, Proto: http1.Kind, Serial: 1}})
		wait(t, "the confirmation", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return confirmed[i] == 1
		})
	}
	answer := data(client(1), 101, 0)
	answer.Payload = []byte("HTTP/1.1 204 No Content\r\n\r\n")
	answer.Len = len(answer.Payload)
	d.src.see(synAck(client(1), both[0].Slot()), answer)
	wait(t, "the answer's end", func() bool { mu.Lock(); defer mu.Unlock(); return found[0] == 1 })
	if found[1] != 0 {
		t.Error("the other was told")
	}
}

// TestRestart: the intercept is restarted. The copier connects again, claims what it owns, and
// goes on.
func TestRestart(t *testing.T) {
	k := newKey(t)
	d := start(t, withKey(k))
	c := dial(t, []string{d.addr}, func(me *copier, cfg *link.Config) {
		usingKey(k)(me, cfg)
		cfg.Conns = 2
	})
	ready(t, c)
	wait(t, "both connections", func() bool { return c.Links()[0].State().Conns == 2 })
	c.mu.Lock()
	c.onUp = func() { c.Claim([]wire.Tuple{{Client: client(1), Target: target}}) }
	c.mu.Unlock()
	slot := c.Slot()
	d.src.see(synAck(client(1), slot))
	wait(t, "the first header", func() bool { return c.count(client(1)) == 1 })
	d.stop()
	wait(t, "down", func() bool { return !c.Up() })
	if c.Claim([]wire.Tuple{{Client: client(1), Target: target}}) {
		t.Error("a claim was queued for nobody")
	}
	again := start(t, func(cfg *intercept.Config) {
		withKey(k)(cfg)
		cfg.Listen = []netip.AddrPort{netip.MustParseAddrPort(d.addr)}
	})
	wait(t, "the claim", func() bool { return again.Snapshot().Route.Claimed > 0 })
	again.src.see(data(client(1), 101, 10))
	wait(t, "the header after the restart", func() bool { return c.count(client(1)) == 2 })
	if c.Slot() != slot {
		t.Errorf("slot %d, was %d", c.Slot(), slot)
	}
	if s := c.Links()[0].State(); s.Reconnects != 1 || s.Err == nil {
		t.Errorf("%+v", s)
	}
}

// TestSlotConflict: two copiers that start with the same slot end with different ones, which are
// the same at both intercepts.
func TestSlotConflict(t *testing.T) {
	// Strangers say nothing, and stay. Where they had gone, and no slot was left to choose,
	// theirs would be given away.
	patient := func(c *intercept.Config) { c.DeadAfter = time.Hour }
	one, two := start(t, patient), start(t, patient)
	// Fill most slots of the first, so that a conflict is almost certain, and leave enough that
	// the two, who may choose the same one several times, never run out.
	var taken wire.Slots
	for n := 1; n <= 225; n++ {
		h := wire.Hello{Version: wire.Version, Instance: wire.Instance{1, byte(n)}, Slot: uint8(n),
			Conns: 1}
		sendBytes(t, one.addr, h.Append([]byte(wire.Preface)))
		taken.Add(uint8(n))
		if n%25 == 0 {
			wait(t, "the strangers", func() bool {
				return one.Snapshot().Conns.Welcomed == uint64(n)
			})
		}
	}
	a := dial(t, []string{one.addr, two.addr}, nil)
	b := dial(t, []string{two.addr, one.addr}, nil)
	ready(t, a)
	ready(t, b)
	wait(t, "slots to settle", func() bool {
		for _, c := range []*copier{a, b} {
			for _, l := range c.Links() {
				if s := l.State(); !s.Up || s.Slot != c.Slot() {
					return false
				}
			}
		}
		return true
	})
	if a.Slot() == b.Slot() || taken.Has(a.Slot()) || taken.Has(b.Slot()) {
		t.Errorf("slots %d and %d", a.Slot(), b.Slot())
	}
	two.src.see(synAck(client(1), a.Slot()), synAck(client(2), b.Slot()))
	wait(t, "headers", func() bool { return a.count(client(1)) == 1 && b.count(client(2)) == 1 })
}

// TestSlowCopier: a copier that does not read loses headers, and in the end its connection.
// Meanwhile the other receives all of its own.
func TestSlowCopier(t *testing.T) {
	d := start(t, func(c *intercept.Config) { c.Buffer = 64 << 10 })
	slow := (&wire.Hello{Version: wire.Version, Instance: wire.Instance{1}, Slot: 9,
		Conns: 1}).Append([]byte(wire.Preface))
	conn := sendBytes(t, d.addr, slow) // and never reads
	conn.(*net.TCPConn).SetReadBuffer(4096)
	wait(t, "the slow one", func() bool { return d.Snapshot().Conns.Welcomed == 1 })
	good := dial(t, []string{d.addr}, nil)
	ready(t, good)
	if good.Slot() == 9 {
		t.Fatal("both have the same slot")
	}
	d.src.see(synAck(client(1), 9), synAck(client(2), good.Slot()))
	batch := make([]packet.Segment, 0, 201)
	for range 200 {
		batch = append(batch, data(client(1), 200, 1))
	}
	batch = append(batch, data(client(2), 300, 1))
	var dropped uint64
	rounds := 0
	for ; dropped == 0 || rounds < 100; rounds++ {
		d.src.see(batch...)
		for _, c := range d.Snapshot().Copiers {
			if c.Slot == 9 {
				dropped = c.Dropped
			} else if c.Dropped != 0 {
				t.Fatalf("the other lost %d", c.Dropped)
			}
		}
		if rounds > 20000 {
			t.Fatal("nothing was ever dropped")
		}
	}
	wait(t, "the other's headers", func() bool { return good.count(client(2)) == rounds+1 })
}

// TestDeadCopier: a connection that is silent is closed, and its slot kept for a while.
func TestDeadCopier(t *testing.T) {
	d := start(t, func(c *intercept.Config) { c.DeadAfter = 30 * time.Millisecond })
	hello := (&wire.Hello{Version: wire.Version, Instance: wire.Instance{1}, Slot: 9,
		Conns: 1}).Append([]byte(wire.Preface))
	c := sendBytes(t, d.addr, hello)
	all, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(all), "nothing received for 30ms") {
		t.Errorf("%v, %q", err, all)
	}
	if s := d.Snapshot(); s.Conns.Dead != 1 || s.Copiers[0].Conns != 0 {
		t.Errorf("%+v", s)
	}
	d.src.see(synAck(client(1), 9))
	wait(t, "a header for one who is away", func() bool {
		return d.Snapshot().Copiers[0].Away == 1
	})
}

// TestPings keep an idle link alive, both ways.
func TestPings(t *testing.T) {
	d := start(t, func(c *intercept.Config) { c.DeadAfter = 200 * time.Millisecond })
	c := dial(t, []string{d.addr}, func(_ *copier, cfg *link.Config) {
		cfg.PingEvery, cfg.DeadAfter = 10*time.Millisecond, 200*time.Millisecond
	})
	ready(t, c)
	<-time.After(500 * time.Millisecond) // more than twice what a link lives in silence
	if s := c.Links()[0].State(); !s.Up || s.Reconnects != 0 {
		t.Errorf("%+v", s)
	}
}

// TestSilentIntercept: the link gives up an intercept that sends nothing after its welcome.
func TestSilentIntercept(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan net.Conn, 100)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				close(accepted)
				return
			}
			w := wire.Welcome{Version: wire.Version, Way: wire.WayRaw, Slot: 1}
			c.Write(w.Append([]byte(wire.Preface)))
			accepted <- c
		}
	}()
	c := dial(t, []string{ln.Addr().String()}, func(_ *copier, cfg *link.Config) {
		cfg.DeadAfter = 20 * time.Millisecond
	})
	wait(t, "a second attempt", func() bool { return c.Links()[0].State().Reconnects >= 1 })
	if err := c.Links()[0].State().Err; err == nil ||
		!strings.Contains(err.Error(), "nothing received for 20ms") {
		t.Errorf("%v", err)
	}
	c.Close()
	ln.Close()
	for conn := range accepted {
		conn.Close()
	}
}

type localAddrs []netip.Addr

func (l localAddrs) All() []netip.Addr { return l }
func (l localAddrs) Has(a netip.Addr) bool {
	for _, x := range l {
		if x == a {
			return true
		}
	}
	return false
}

func TestLocalClientIsRefused(t *testing.T) {
	d := start(t, func(c *intercept.Config) {
		c.Local = localAddrs{netip.MustParseAddr("10.9.0.7")}
	})
	c := dial(t, []string{d.addr}, func(_ *copier, cfg *link.Config) {
		cfg.Clients = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/24")}
	})
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	err := c.WaitReady(ctx)
	var r *link.Refused
	if !errors.As(err, &r) || r.Code != wire.CodeLocalClient ||
		!strings.Contains(err.Error(), "10.9.0.7 (of 10.9.0.0/24)") {
		t.Errorf("error %v", err)
	}
}

func TestMaxCopiers(t *testing.T) {
	d := start(t, func(c *intercept.Config) { c.MaxCopiers = 1 })
	ready(t, dial(t, []string{d.addr}, nil))
	second := dial(t, []string{d.addr}, nil)
	wait(t, "the refusal", func() bool {
		var r *link.Refused
		return errors.As(second.Links()[0].State().Err, &r) && r.Code == wire.CodeFull
	})
}

func TestFramesThatDoNotCount(t *testing.T) {
	d := start(t, func(c *intercept.Config) {
		c.Local = localAddrs{client(1).Addr()}
		c.Pass = []netip.Prefix{netip.MustParsePrefix("10.1.2.9/32")}
	})
	c := dial(t, []string{d.addr}, nil)
	ready(t, c)
	frame := func(s packet.Segment, change func(*source.Frame)) source.Frame {
		b := packet.Append(nil, &s)
		f := source.Frame{Data: b, Wire: len(b), Time: now()}
		if change != nil {
			change(&f)
		}
		return f
	}
	far := client(9 << 8)
	elsewhere := client(3 << 8)
	d.src.frames <- []source.Frame{
		frame(synAck(client(1), c.Slot()), nil),
		frame(synAck(far, c.Slot()), nil),
		frame(synAck(elsewhere, c.Slot()), func(f *source.Frame) { f.PktType = source.Outgoing }),
		frame(synAck(elsewhere, c.Slot()), func(f *source.Frame) { f.Data[9] = 17 }),
		frame(synAck(elsewhere, c.Slot()), func(f *source.Frame) { f.Data[6] |= 0x20 }),
		frame(synAck(elsewhere, c.Slot()), func(f *source.Frame) { f.Data = f.Data[:21] }),
		frame(synAck(elsewhere, c.Slot()), nil),
	}
	wait(t, "the only one", func() bool { return c.count(elsewhere) == 1 })
	want := intercept.FrameStats{Seen: 7, Local: 1, Passed: 1, Outgoing: 1, NotTCP: 1, Fragments: 1,
		Malformed: 1}
	if got := d.Snapshot().Frames; got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestICMP: an error about a copier's packet reaches that copier.
func TestICMP(t *testing.T) {
	d := start(t, nil)
	c := dial(t, []string{d.addr}, nil)
	ready(t, c)
	d.src.see(synAck(client(1), c.Slot()))
	lost := packet.Append(nil, &packet.Segment{Src: client(1), Dst: target, Seq: 777,
		Flags: packet.ACK})
	b := append([]byte{0x45, 0, 0, byte(28 + len(lost)), 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10,
		1, 2, 0}, 3, 4, 0, 0, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(b[26:], 1400)
	b = append(b, lost...)
	d.src.frames <- []source.Frame{{Data: b, Wire: len(b), Time: now()}}
	wait(t, "the report", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return len(c.icmp) == 1 })
	if m := c.icmp[0]; m.Kind != packet.FragNeeded || m.MTU != 1400 || m.Seq != 777 ||
		m.Tuple != (wire.Tuple{Client: client(1), Target: target}) {
		t.Errorf("%+v", m)
	}
}

func TestNewRefuses(t *testing.T) {
	forwarding := func(set map[string]string) string {
		root := noForwarding(t)
		for f, v := range set {
			write(t, filepath.Join(root, f), v+"\n")
		}
		return root
	}
	src := newSource()
	base := intercept.Config{Sources: []source.Source{src},
		Listen: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")}}
	for _, tc := range []struct {
		name    string
		change  func(*intercept.Config)
		command string // of a ForwardingError
		want    string
	}{
		{"IPv4 forwarding", func(c *intercept.Config) {
			c.ProcSys = forwarding(map[string]string{"net/ipv4/ip_forward": "1"})
		},
			"sysctl -w net.ipv4.ip_forward=0", "real clients"},
		{"IPv6 forwarding", func(c *intercept.Config) {
			c.ProcSys = forwarding(map[string]string{"net/ipv6/conf/all/forwarding": "1"})
		}, "sysctl -w net.ipv6.conf.all.forwarding=0", "real clients"},
		{"only the interface forwards", func(c *intercept.Config) {
			c.ProcSys = forwarding(map[string]string{"net/ipv4/conf/eth0.5/forwarding": "1"})
		}, "sysctl -w net.ipv4.conf.eth0/5.forwarding=0", "real clients"},
		{"this interface does not", func(c *intercept.Config) {
			c.ProcSys = forwarding(map[string]string{"net/ipv4/ip_forward": "1",
				"net/ipv4/conf/eth0/forwarding": "0"})
			c.Devices = []string{"eth0"}
		}, "", ""},
		{"this interface does", func(c *intercept.Config) {
			c.ProcSys = forwarding(map[string]string{"net/ipv4/ip_forward": "1",
				"net/ipv4/conf/eth0/forwarding": "1"})
			c.Devices = []string{"eth0"}
		}, "sysctl -w net.ipv4.ip_forward=0", "real clients"},
		{"all interfaces with no key", func(c *intercept.Config) {
			c.ProcSys = forwarding(nil)
			c.Listen = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:0")}
		}, "", "without a key"},
		{"that, on purpose", func(c *intercept.Config) {
			c.ProcSys = forwarding(nil)
			c.Listen, c.Insecure = []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:0")}, true
		}, "", ""},
		{"no source", func(c *intercept.Config) { c.Sources = nil }, "", "no capture source"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := base
			tc.change(&cfg)
			s, err := intercept.New(cfg)
			var f *intercept.ForwardingError
			if errors.As(err, &f) != (tc.command != "") || f != nil && f.Command() != tc.command {
				t.Errorf("%v, want the command %q", err, tc.command)
			}
			if (err == nil) != (tc.want == "") || err != nil &&
				!strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q in it", err, tc.want)
			}
			if s != nil {
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				if err := s.Run(ctx); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestHurry: the sources learn that turns of a copier wait for answers.
func TestHurry(t *testing.T) {
	told := make(chan time.Duration, 1)
	d := start(t, func(cfg *intercept.Config) { cfg.Hurry = func(d time.Duration) { told <- d } })
	c := dial(t, []string{d.addr}, nil)
	ready(t, c)
	c.Hurry()
	select {
	case got := <-told:
		if got != wire.HurryFor {
			t.Errorf("for %v, wanted %v", got, wire.HurryFor)
		}
	case <-time.After(deadline):
		t.Error("nobody was told")
	}
	d = start(t, nil) // one that always hurries
	c = dial(t, []string{d.addr}, nil)
	ready(t, c)
	c.Hurry()
	c.Query(wire.Tuple{Client: client(1), Target: target})
	wait(t, "the answer after it", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.answers) == 1
	})
}
