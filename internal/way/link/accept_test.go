package link

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tcpcopy/internal/way/link/key"
	"tcpcopy/internal/way/link/wire"
)

func newKey(t *testing.T) key.Key {
	t.Helper()
	k, err := key.Parse(key.Generate())
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// dialer connects to a test server, as a copier does.
func (s *testServer) dialer() *Dialer {
	return &Dialer{Options: testOptions(), Addr: s.Addrs()[0].String(),
		Peer: "intercept", Wanted: "tcpcopy intercept", Keyless: "none"}
}

func (d *Dialer) connect(t *testing.T) (*Endpoint, error) {
	t.Helper()
	h := wire.Hello{Version: wire.Version, Instance: wire.Instance{1}, Slot: 1, Conns: 1}
	e, f, err := d.Connect(t.Context(), h.Append, wire.TypeWelcome)
	if err == nil {
		var w wire.Welcome
		if err := w.Decode(f.Body); err != nil || w.Slot != 1 {
			t.Errorf("%+v (%v)", w, err)
		}
	}
	return e, err
}

// TestEnds: both ends of a connection exchange frames, with and without a key, until the server
// closes.
func TestEnds(t *testing.T) {
	k := newKey(t)
	for name, keyed := range map[string]bool{"plain": false, "with a key": true} {
		t.Run(name, func(t *testing.T) {
			got := make(chan string, 1)
			admit := func(e *Endpoint, _ []byte) (func() error, *wire.Refuse) {
				_, _ = welcomes(e, nil)
				return func() error {
					f, err := e.Receive()
					got <- string(f.Body)
					if err != nil {
						return err
					}
					return <-receives(e)
				}, nil
			}
			var s *testServer
			if keyed {
				s = newTestServer(t, key.ServerTLS(k), admit)
			} else {
				s = newTestServer(t, nil, admit)
			}
			d := s.dialer()
			if keyed {
				d.TLS = key.ClientTLS(k)
			}
			e, err := d.connect(t)
			if err != nil {
				t.Fatal(err)
			}
			e.Start(nil)
			if !e.Put(wire.AppendRaw(nil, wire.TypeClaim, 0, []byte("body"))) {
				t.Error("no room")
			}
			if text := within(t, "the frame", got); text != "body" {
				t.Errorf("%q arrives", text)
			}
			if !e.Host().IsLoopback() {
				t.Errorf("the peer is at %v", e.Host())
			}
			ended := receives(e)
			s.Close()
			err = within(t, "the end", ended)
			e.Close()
			e.Wait()
			if err.Error() != "the intercept closed the connection: shutting down" {
				t.Errorf("ended with %v", err)
			}
			if st := s.Stats(); st.Accepted != 1 || st.Welcomed != 1 || st.Dead+st.Malformed != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestRefusals: each cause that a user can correct has its error, its count, and one line of log.
func TestRefusals(t *testing.T) {
	k, other := newKey(t), newKey(t)
	for _, tc := range []struct {
		name   string
		server *key.Key
		client *key.Key
		want   error
		text   string
		log    string
		count  func(AcceptStats) uint64
	}{
		{"another key", &k, &other, ErrWrongKey,
			"the intercept holds another key: wanted the same key on both sides",
			"here: peer did not prove that it holds the key",
			func(s AcceptStats) uint64 { return s.WrongKey }},
		{"no key where one is required", &k, nil, ErrNeedsKey,
			"the intercept requires a key, and none was given: wanted --key",
			"here: copier uses no key, and this intercept requires one",
			func(s AcceptStats) uint64 { return s.NeedsKey }},
		{"a key where there is none", nil, &k, ErrNoKey,
			"the intercept was started without a key: wanted --key there, or none here",
			"here: copier uses a key, and this intercept has none",
			func(s AcceptStats) uint64 { return s.NoKey }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newTestServer(t, nil, nil)
			if tc.server != nil {
				s = newTestServer(t, key.ServerTLS(*tc.server), nil)
			}
			d := s.dialer()
			if tc.client != nil {
				d.TLS = key.ClientTLS(*tc.client)
			}
			for range 3 {
				if _, err := d.connect(t); !errors.Is(err, tc.want) || err.Error() != tc.text ||
					!lasting(err) {
					t.Errorf("%v, want %q", err, tc.text)
				}
			}
			until(t, "the count", func() bool { return tc.count(s.Stats()) == 3 })
			if n := strings.Count(s.log.String(), tc.log); n != 1 {
				t.Errorf("%d lines of log, want 1:\n%s", n, s.log)
			}
			if st := s.Stats(); st.Welcomed != 0 || st.Accepted != 3 {
				t.Errorf("%+v", st)
			}
		})
	}
}

// TestAdmitRefuses: the words of Admit reach the peer, and it can tell what persists.
func TestAdmitRefuses(t *testing.T) {
	for _, tc := range []struct {
		code      wire.Code
		lasting   bool
		log       string
		malformed uint64
	}{
		{wire.CodeSlot, false, "", 0},
		{wire.CodeFull, false, "here: copier was refused", 0},
		{wire.CodeLocalClient, true, "here: copier was refused", 0},
		{wire.CodeMalformed, true, "here: copier's hello cannot be read", 1},
	} {
		t.Run(tc.code.String(), func(t *testing.T) {
			s := newTestServer(t, nil, func(*Endpoint, []byte) (func() error, *wire.Refuse) {
				r := &wire.Refuse{Code: tc.code, Text: "because"}
				r.Slots.Add(5)
				return nil, r
			})
			_, err := s.dialer().connect(t)
			var r *Refused
			if !errors.As(err, &r) || r.Code != tc.code || !r.Slots.Has(5) || r.Slots.Has(6) ||
				err.Error() != "the intercept refuses: because" || lasting(err) != tc.lasting {
				t.Errorf("%v", err)
			}
			until(t, "the count", func() bool {
				st := s.Stats()
				return st.Malformed == tc.malformed && st.Refused == 1-tc.malformed
			})
			if log := s.log.String(); !strings.Contains(log, tc.log) || tc.log == "" && log != "" {
				t.Errorf("log:\n%s", log)
			}
		})
	}
}

// TestStrangers: what is not a hello is refused, counted and logged, and real peers are served.
func TestStrangers(t *testing.T) {
	malformed := func(s AcceptStats) uint64 { return s.Malformed }
	for _, tc := range []struct {
		name  string
		send  string
		code  wire.Code // of the refusal; 0: none is sent
		text  string
		count func(AcceptStats) uint64
	}{
		{"HTTP", "GET / HTTP/1.1\r\n\r\n", 0, "", func(s AcceptStats) uint64 { return s.Garbage }},
		{"almost the preface", "tcpcopx", 0, "", func(s AcceptStats) uint64 { return s.Garbage }},
		{"nothing", "", 0, "", func(s AcceptStats) uint64 { return s.Silent }},
		{"a long frame", wire.Preface + "\x01\x00\xff\xff\xff\xff", wire.CodeMalformed, "",
			malformed},
		{"more than a hello may have", wire.Preface + "\x01\x00\x00\x02\x00\x01",
			wire.CodeMalformed, "", malformed},
		{"another message", wire.Preface + string((&wire.Ping{}).Append(nil)), wire.CodeMalformed,
			"wire: unknown message: got ping, want hello", malformed},
		{"half a version", wire.Preface + string(wire.AppendRaw(nil, wire.TypeHello, 0, []byte{0})),
			wire.CodeMalformed, "", malformed},
		{"a later version", wire.Preface + string((&wire.Hello{Version: 9}).Append(nil)),
			wire.CodeVersion, "this intercept (test) speaks version 2, the copier version 9",
			func(s AcceptStats) uint64 { return s.Refused }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newTestServer(t, nil, nil)
			c := s.dial(t, nil)
			io.WriteString(c, tc.send)
			c.Conn.(*net.TCPConn).CloseWrite()
			if tc.code != 0 {
				var r wire.Refuse
				if f := c.frame(); f.Type != wire.TypeRefuse || r.Decode(f.Body) != nil ||
					r.Code != tc.code || tc.text != "" && r.Text != tc.text {
					t.Errorf("%v %+v, want %v", f.Type, r, tc.code)
				}
			}
			until(t, "the count", func() bool { return tc.count(s.Stats()) == 1 })
			e, err := s.dialer().connect(t)
			if err != nil {
				t.Fatal(err)
			}
			e.Close()
		})
	}
}

// TestForeignServer: a Dialer says so when another program answers.
func TestForeignServer(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			drain(c)
			c.Close()
		}
	}()
	for name, keyed := range map[string]bool{"plain": false, "with a key": true} {
		t.Run(name, func(t *testing.T) {
			d := &Dialer{Options: testOptions(), Addr: ln.Addr().String(),
				Wanted: "tcpcopy intercept"}
			if keyed {
				d.TLS = key.ClientTLS(newKey(t))
			}
			_, err := d.connect(t)
			if !errors.Is(err, ErrForeign) || !lasting(err) ||
				!strings.HasPrefix(err.Error(), "what answers there is no tcpcopy intercept: ") {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestConnectEndsWithContext: a Dialer does not wait for a silent server when its context is done.
func TestConnectEndsWithContext(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	d := &Dialer{Options: testOptions(), Addr: ln.Addr().String()}
	began := time.Now()
	_, _, err = d.Connect(ctx, (&wire.Hello{}).Append, wire.TypeWelcome)
	if took := time.Since(began); err == nil || took > 3*time.Second {
		t.Errorf("%v after %v", err, took)
	}
}

// TestStrangersKeepNobodyOut: connections that send nothing do not keep a peer from being admitted,
// and only so many are open at a time.
func TestStrangersKeepNobodyOut(t *testing.T) {
	k := newKey(t)
	s := newTestServer(t, key.ServerTLS(k), nil)
	const many = 300
	for range many {
		s.dial(t, nil)
	}
	until(t, "the strangers", func() bool { return s.Stats().Accepted == many })
	began := time.Now()
	d := s.dialer()
	d.TLS = key.ClientTLS(k)
	e, err := d.connect(t)
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
	if took := time.Since(began); took > time.Second {
		t.Errorf("admitted after %v", took)
	}
	if st := s.Stats(); st.Crowded < many-maxStrangers {
		t.Errorf("%d were closed, want at least %d", st.Crowded, many-maxStrangers)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := len(s.strangers.list); n > maxStrangers {
		t.Errorf("%d strangers are connected, want at most %d", n, maxStrangers)
	}
}

// TestSilentPeer: a peer that was admitted and sends nothing is told why it is closed, and counted.
func TestSilentPeer(t *testing.T) {
	s := newTestServer(t, nil, nil, func(o *Options) { o.DeadAfter = 30 * time.Millisecond })
	c := s.dial(t, nil)
	c.send(hello(1))
	if f := c.frame(); f.Type != wire.TypeWelcome {
		t.Errorf("answered with %v", f.Type)
	}
	var bye wire.Bye
	if f := c.frame(); f.Type != wire.TypeBye || bye.Decode(f.Body) != nil ||
		bye.Text != "nothing received for 30ms" {
		t.Errorf("%v %+v", f.Type, bye)
	}
	if st := s.Stats(); st.Dead != 1 {
		t.Errorf("%+v", st)
	}
}

// TestCloseEndsStrangers: Close waits neither for strangers nor for peers that read nothing.
func TestCloseEndsStrangers(t *testing.T) {
	full := make(chan struct{})
	s := newTestServer(t, nil, func(e *Endpoint, _ []byte) (func() error, *wire.Refuse) {
		return func() error {
			for b := make([]byte, 64<<10); e.Put(b); {
			}
			close(full)
			return <-receives(e)
		}, nil
	})
	s.dial(t, nil)
	s.dial(t, nil).send(hello(1))
	within(t, "a full queue", full)
	began := time.Now()
	s.Close()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("closed after %v", took)
	}
	if !s.Closing() {
		t.Error("not closing")
	}
}

// TestComplaintsAreBounded: strangers from any number of addresses do not fill the log. There is a
// line at once, and then one a minute with their number.
func TestComplaintsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(logBuffer)
		c := complaints{log: slog.New(slog.NewTextHandler(log, nil))}
		a := netip.MustParseAddr("fd00::1")
		for range 100_000 {
			c.warn("a stranger", "from", a)
			a = a.Next()
		}
		c.warn("another message")
		lines := func(want int, last string) {
			t.Helper()
			synctest.Wait()
			all := strings.Split(strings.TrimSpace(log.String()), "\n")
			if len(all) != want || !strings.Contains(all[len(all)-1], last) {
				t.Errorf("%d lines, want %d, the last with %q:\n%s", len(all), want, last, all)
			}
		}
		lines(2, `"another message"`)
		time.Sleep(complainEvery)
		lines(3, "a stranger\" from="+a.Prev().String()+" times=99999")
		c.warn("a stranger", "from", a)
		lines(3, "times=99999")
		c.warn("another message")
		lines(4, "another message")
		c.close()
		lines(5, "a stranger\" from="+a.String()+" times=1")
	})
}

// TestKnownPeersGiveWayToNone: strangers from many addresses do not displace a peer that was
// admitted before, and one address does not displace the others.
func TestKnownPeersGiveWayToNone(t *testing.T) {
	var s strangers
	conns := 0
	add := func(a netip.Addr) (c, closed net.Conn) {
		conns++
		c = &net.TCPConn{}
		return c, s.add(c, a)
	}
	has := func(c net.Conn) bool {
		return slices.ContainsFunc(s.list, func(o stranger) bool { return o.conn == c })
	}
	peer, neighbour := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	s.know(peer)
	known, _ := add(peer)
	unknown, _ := add(neighbour)
	one := netip.MustParseAddr("2001:db8:0:1::1")
	for range 10 * maxStrangers { // of one network, which one host may have
		add(one)
		one = one.Next()
	}
	if !has(known) || !has(unknown) || len(s.list) != maxStrangersEach+2 {
		t.Errorf("%d strangers, known %v, another %v", len(s.list), has(known), has(unknown))
	}
	many := netip.MustParseAddr("192.0.2.1")
	for range 10 * maxStrangers {
		add(many)
		many = many.Next()
	}
	if !has(known) || has(unknown) || len(s.list) != maxStrangers {
		t.Errorf("%d strangers, known %v, another %v", len(s.list), has(known), has(unknown))
	}
	for range 10 * maxKnown {
		s.know(many)
		many = many.Next()
	}
	if len(s.known) > maxKnown {
		t.Errorf("%d addresses are remembered, want at most %d", len(s.known), maxKnown)
	}
}

// TestUnlisted: a connection from an address that is none of the peers' is closed, and counted.
func TestUnlisted(t *testing.T) {
	peers := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	s := startTestServer(t, peers, nil, nil)
	if _, err := s.dialer().connect(t); err == nil {
		t.Error("connected")
	}
	if st := s.Stats(); st.Unlisted != 1 || st.Accepted != 0 {
		t.Errorf("%+v", st)
	}
	peers = append(peers, netip.MustParsePrefix("127.0.0.0/8"))
	s = startTestServer(t, peers, nil, nil)
	e, err := s.dialer().connect(t)
	if err != nil {
		t.Fatal(err)
	}
	e.Close()
}
