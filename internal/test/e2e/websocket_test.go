package e2e

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"tcpcopy/internal/lab/netlab"
)

// socketSeed is the seed of the hashes of messages.
var socketSeed = maphash.MakeSeed()

// socketLog is what a socketSite has received on the connections of one path.
type socketLog struct {
	Messages int
	Hash     uint64
	Code     int // of the close; 0: there was none
	ended    bool
}

// socketSite is a server of WebSocket. It answers the messages on /lock in order; on /push it sends
// by itself.
type socketSite struct {
	upgrader websocket.Upgrader
	pause    time.Duration // before an answer
	push     time.Duration // between two messages on /push; 0: none
	ping     time.Duration // between two pings, each of which must be answered; 0: none
	refuse   bool          // no upgrade is accepted

	mu    sync.Mutex
	logs  map[string]*socketLog
	early int // messages on /lock that came before the answer to the one before
}

// startSocketSite starts a server on a host.
func startSocketSite(t testing.TB, host *netlab.Namespace, port uint16, s *socketSite) {
	t.Helper()
	l := listenOn(t, host, fmt.Sprintf(":%d", port))
	s.logs = map[string]*socketLog{}
	server := &http.Server{Handler: s}
	var served sync.WaitGroup
	served.Go(func() { server.Serve(l) })
	t.Cleanup(func() {
		server.Close()
		served.Wait()
	})
}

func (s *socketSite) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.refuse {
		http.Error(w, "no", http.StatusForbidden)
		return
	}
	conn, err := s.upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	c := &socketConn{s, conn, r.URL.Path, make(chan struct{}), make(chan int, 1000), atomic.Int64{}}
	var work sync.WaitGroup
	defer work.Wait()
	defer close(c.ended)
	pong := make(chan struct{}, 1)
	conn.SetPongHandler(func(string) error {
		select {
		case pong <- struct{}{}:
		default:
		}
		return nil
	})
	work.Go(c.speak)
	work.Go(func() { c.ping(pong) })
	c.read()
}

// socketConn is a connection of a socketSite.
type socketConn struct {
	*socketSite
	*websocket.Conn
	path     string
	ended    chan struct{}
	asked    chan int // messages that are to be answered
	answered atomic.Int64
}

// speak answers messages, and pushes.
func (c *socketConn) speak() {
	for {
		select {
		case <-c.ended:
			return
		case n := <-c.asked:
			wait(c.pause)
			c.answered.Add(1)
			c.WriteMessage(websocket.TextMessage, fmt.Append(nil, n))
		case <-tick(c.push, strings.HasPrefix(c.path, "/push")):
			c.WriteMessage(websocket.TextMessage, []byte("push"))
		}
	}
}

// ping sends pings, and closes the connection if one is not answered, as servers do.
func (c *socketConn) ping(pong <-chan struct{}) {
	for c.socketSite.ping > 0 {
		select {
		case <-c.ended:
			return
		case <-time.After(c.socketSite.ping):
		}
		c.WriteControl(websocket.PingMessage, []byte(c.path), time.Now().Add(time.Second))
		select {
		case <-c.ended:
			return
		case <-pong:
		case <-time.After(patience):
			c.Close()
			return
		}
	}
}

// read reads messages until the connection ends.
func (c *socketConn) read() {
	lock := strings.HasPrefix(c.path, "/lock")
	for n := int64(0); ; n++ {
		kind, p, err := c.ReadMessage()
		if err != nil {
			c.note(c.path, func(l *socketLog) {
				var closed *websocket.CloseError
				if l.ended = true; errors.As(err, &closed) {
					l.Code = closed.Code
				}
			})
			return
		}
		early := lock && c.answered.Load() < n
		c.note(c.path, func(l *socketLog) {
			l.Messages++
			l.Hash = l.Hash*31 + maphash.Bytes(socketSeed, p) + uint64(kind)
			if early {
				c.early++
			}
		})
		if lock {
			c.asked <- int(n)
		}
	}
}

// tick returns a channel that is ready after d, if it is to be.
func tick(d time.Duration, wanted bool) <-chan time.Time {
	if !wanted || d == 0 {
		return nil
	}
	return time.After(d)
}

func (s *socketSite) note(path string, f func(*socketLog)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.logs[path] == nil {
		s.logs[path] = new(socketLog)
	}
	f(s.logs[path])
}

// expectSame waits until the target has received what production has, once all of production's
// connections have ended.
func (s *socketSite) expectSame(t *testing.T, production *socketSite) {
	t.Helper()
	var want map[string]socketLog
	eventually(t, "production sees all ends", func() (ended bool) {
		want, ended = production.drain()
		return ended
	})
	if !within(patience, func() bool {
		got, ended := s.drain()
		return ended && maps.Equal(got, want)
	}) {
		got, _ := s.drain()
		t.Errorf("the target has received\n%v\nproduction\n%v", got, want)
	}
}

// drain returns what was received, and whether all connections have ended.
func (s *socketSite) drain() (logs map[string]socketLog, ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	logs, ended = map[string]socketLog{}, true
	for path, l := range s.logs {
		logs[path] = *l
		ended = ended && l.ended
	}
	return logs, ended
}

// dialSocket opens a connection of WebSocket to production.
func (s *stand) dialSocket(i int, path string, compress bool) *websocket.Conn {
	s.t.Helper()
	d := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(
		netlab.ClientAddr(i%4, s.ipv6), 0))}
	w := websocket.Dialer{
		EnableCompression: compress, HandshakeTimeout: patience,
		NetDialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return s.net.Client.Dial(ctx, d, network, address)
		},
	}
	conn, _, err := w.DialContext(s.t.Context(), fmt.Sprintf("ws://%s%s", s.siteAddr(), path), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return conn
}

// closeSocket closes a connection with a code, as a client that waits for the server's close.
func closeSocket(conn *websocket.Conn, code int) {
	conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, "bye"),
		time.Now().Add(patience))
	conn.SetReadDeadline(time.Now().Add(patience))
	for {
		if _, _, err := conn.ReadMessage(); err != nil {
			break
		}
	}
	conn.Close()
}

// lockStep sends messages, each after the answer to the one before, some large and in parts.
func lockStep(t *testing.T, conn *websocket.Conn, rounds int) {
	for n := range rounds {
		size := 1 + 37*n
		if n%20 == 19 {
			size = 1 << 20 // larger than the connection's buffer: it goes in fragments
		}
		w, err := conn.NextWriter(1 + n%2)
		if err == nil {
			for part := 0; part < size && err == nil; part += 60000 {
				_, err = w.Write([]byte(strings.Repeat(fmt.Sprint(n), 60000))[:min(60000,
					size-part)])
			}
			err = errors.Join(err, w.Close())
		}
		if err != nil {
			t.Error(err)
			return
		}
		if _, p, err := conn.ReadMessage(); err != nil || string(p) != fmt.Sprint(n) {
			t.Errorf("answer %d: %q, %v", n, p, err)
			return
		}
	}
	closeSocket(conn, 4000+rounds)
}

// TestWebSocket copies clients of WebSocket to a slower target, which pings them, pushes less than
// production and takes no compressed messages. It must receive the same messages and codes, none
// early.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	someWays(t, only(socket, raw), func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		production := &socketSite{push: 3 * time.Millisecond,
			upgrader: websocket.Upgrader{EnableCompression: true}}
		startSocketSite(t, s.net.Production, siteProduction, production)
		target := &socketSite{push: 70 * time.Millisecond, pause: 2 * time.Millisecond,
			ping: 100 * time.Millisecond}
		startSocketSite(t, s.net.Target, siteTarget, target)
		c := s.copy("-x", s.mapping(siteProduction, siteTarget), "--both")
		var all sync.WaitGroup
		for i := range 4 {
			lock := s.dialSocket(i, fmt.Sprintf("/lock/%d", i), i%2 == 1)
			all.Go(func() { lockStep(t, lock, 40+i) })
			push := s.dialSocket(i, fmt.Sprintf("/push/%d", i), i%2 == 0)
			all.Go(func() {
				var read sync.WaitGroup
				read.Go(func() {
					for {
						if _, _, err := push.NextReader(); err != nil {
							return
						}
					}
				})
				for n := range 100 {
					wait(5 * time.Millisecond)
					err := push.WriteMessage(websocket.TextMessage, fmt.Append(nil, n))
					if err != nil {
						t.Error(err)
					}
				}
				push.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4100+i, ""),
					time.Now().Add(patience))
				read.Wait() // until production has closed too
				push.Close()
			})
		}
		all.Wait()
		target.expectSame(t, production)
		r := c.end()
		if target.early > 0 {
			t.Errorf("%d messages were early", target.early)
		}
		if r.Protocol.Sent != 8 || r.Protocol.Answered != 8 || r.Protocol.Failed != 0 ||
			r.Protocol.Lost != 0 || r.Gate.Forced != 0 {
			t.Errorf("the account: %+v, %+v", r.Protocol, r.Gate)
		}
		if r.Sessions.Delivered != r.Sessions.Captured || r.Bytes.Delivered != r.Bytes.Captured {
			t.Errorf("the account: %+v, %+v, wanted all delivered", r.Sessions, r.Bytes)
		}
	})
}

// TestWebSocketRefused copies to a target that does not accept the upgrade.
func TestWebSocketRefused(t *testing.T) {
	t.Parallel()
	s := newStand(t, setting{way: socket})
	startSocketSite(t, s.net.Production, siteProduction, &socketSite{})
	startSocketSite(t, s.net.Target, siteTarget, &socketSite{refuse: true})
	c := s.copy("-x", s.mapping(siteProduction, siteTarget), "--both")
	lockStep(t, s.dialSocket(0, "/lock", false), 3)
	r := c.end()
	if r.Sessions.Dropped["upgrade_differs"] != 1 || r.Protocol.Status["4xx"] != 1 {
		t.Errorf("the account: %+v, %+v", r.Sessions, r.Protocol)
	}
}

// TestWebSocketUnread copies clients in lock-step where production's answers are not captured
// whole, and with a changed request. No message may be early.
func TestWebSocketUnread(t *testing.T) {
	t.Parallel()
	someWays(t, only(tunnel), func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		production, target := &socketSite{}, &socketSite{pause: 5 * time.Millisecond}
		startSocketSite(t, s.net.Production, siteProduction, production)
		startSocketSite(t, s.net.Target, siteTarget, target)
		c := s.copy("-x", s.mapping(siteProduction, siteTarget), "--proto", "websocket",
			"--http-host", "test.example.org")
		var all sync.WaitGroup
		for i := range 4 {
			conn := s.dialSocket(i, fmt.Sprintf("/lock/%d", i), false)
			all.Go(func() { lockStep(t, conn, 50) })
		}
		all.Wait()
		target.expectSame(t, production)
		r := c.end()
		if target.early > 0 || r.Gate.Forced != 0 {
			t.Errorf("%d messages were early, %d turns forced", target.early, r.Gate.Forced)
		}
		if r.Protocol.Sent != 4 || r.Protocol.Rewritten != 4 || r.Protocol.Lost != 0 ||
			r.Bytes.Delivered != r.Bytes.Captured {
			t.Errorf("the account: %+v, %+v", r.Protocol, r.Bytes)
		}
	})
}
