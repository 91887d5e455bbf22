package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// preparePeers prepares the servers and clients that Node runs, once.
var preparePeers = sync.OnceValues(func() (string, error) {
	cmd := exec.Command(filepath.Join("..", "..", "..", "scripts", "node-peers.sh"))
	var failed strings.Builder
	cmd.Stderr = &failed
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("node-peers.sh: %w\n%s", err, &failed)
	}
	return strings.TrimSpace(string(out)), nil
})

// nodePeer returns the command that runs a file of ../nodepeer.
func nodePeer(t testing.TB, file string) []string {
	t.Helper()
	node := find(t, "node")
	find(t, "npm")
	dir, err := preparePeers()
	if err != nil {
		t.Fatal(err)
	}
	return []string{node, filepath.Join(dir, file)}
}

// TestGRPCNode is TestGRPC for clients and servers by @grpc/grpc-js. As all tests of this file it
// is left out with -short.
func TestGRPCNode(t *testing.T) {
	t.Parallel()
	someWays(t, only(), func(t *testing.T, way string) {
		peer := nodePeer(t, "grpc.js")
		s := newStand(t, setting{way: way})
		production := &callSite{startPeer(t, s.net.Production, siteProduction, peer...)}
		target := &callSite{startPeer(t, s.net.Target, siteTarget, append(peer, "-pause", "3")...)}
		c := s.copy("-x", s.mapping(siteProduction, siteTarget), "--both")
		const clients, rounds = 3, 10
		s.callBy(peer, clients, "-rounds", fmt.Sprint(rounds))
		const each = clients * rounds
		expectCalls(t, target, production, kinds*each)
		r := c.end()
		p := r.Protocol
		if p.Sent != kinds*each || p.Answered != (kinds-1)*each || p.Failed != each ||
			p.Lost != 0 || p.Status["grpc 0"] != (kinds-2)*each || p.Status["grpc 5"] != each ||
			r.Gate.Forced != 0 {
			t.Errorf("the account: %+v, %+v", p, r.Gate)
		}
		if r.Sessions.Delivered != clients || r.Bytes.Delivered != r.Bytes.Captured {
			t.Errorf("the account: %+v, %+v, wanted all delivered", r.Sessions, r.Bytes)
		}
	})
}

// socketPeerLog is a connection that has ended at a server of ../nodepeer/websocket.js.
type socketPeerLog struct {
	Path     string
	Messages int
	Hash     string
	Early    int
	Code     int
}

// ended returns the connections that have ended at a server, sorted, and how many messages came
// before the answer to the one before.
func (s *peerSite) ended() (all []string, early int) {
	s.t.Helper()
	for _, l := range entries[socketPeerLog](s) {
		early += l.Early
		l.Early = 0
		all = append(all, fmt.Sprintf("%+v", l))
	}
	slices.Sort(all)
	return all, early
}

// TestWebSocketNode copies clients by ws, some of which compress, to a slower target by ws, which
// pings them, pushes less than production and takes no compressed messages.
func TestWebSocketNode(t *testing.T) {
	t.Parallel()
	someWays(t, only(), func(t *testing.T, way string) {
		copyNodeSockets(t, way, 8, "-deflate", "yes")
	})
}

// TestWebSocketNodeHTTP2 is TestWebSocketNode over one connection of HTTP/2 (RFC 8441), without
// compression.
func TestWebSocketNodeHTTP2(t *testing.T) {
	t.Parallel()
	someWays(t, only(), func(t *testing.T, way string) {
		copyNodeSockets(t, way, 1, "-http2", "yes")
	})
}

// copyNodeSockets copies eight clients, which have so many connections, to a target. The options
// are for production and clients, and those of HTTP/2 for the target too.
func copyNodeSockets(t *testing.T, way string, conns uint64, options ...string) {
	peer := nodePeer(t, "websocket.js")
	s := newStand(t, setting{way: way})
	production := startPeer(t, s.net.Production, siteProduction, slices.Concat(peer, options,
		[]string{"-push", "3"})...)
	if conns > 1 {
		options = nil
	}
	target := startPeer(t, s.net.Target, siteTarget, slices.Concat(peer, options, []string{"-push",
		"70", "-ping", "1000", "-pause", "30"})...)
	c := s.copy("-x", s.mapping(siteProduction, siteTarget), "--both")
	const sockets = 8
	client := s.net.Client.Command(t.Context(), peer[0], slices.Concat(peer[1:], options,
		[]string{"-call", s.siteAddr().String(), "-rounds", "60"})...)
	if out, err := client.CombinedOutput(); err != nil {
		t.Fatalf("the clients: %v\n%s", err, out)
	}
	var want []string
	eventually(t, "production sees all ends", func() bool {
		want, _ = production.ended()
		return len(want) == sockets
	})
	within(patience, func() bool {
		got, _ := target.ended()
		return len(got) >= sockets
	})
	got, early := target.ended()
	expectSame(t, "what the servers have received", got, want)
	r := c.end()
	if early > 0 || r.Gate.Forced > 0 {
		t.Errorf("%d messages were early, %d turns forced", early, r.Gate.Forced)
	}
	if p := r.Protocol; p.Sent != sockets || p.Answered != sockets || p.Failed+p.Lost != 0 {
		t.Errorf("the account: %+v", p)
	}
	if r.Sessions.Delivered != conns || r.Bytes.Delivered != r.Bytes.Captured {
		t.Errorf("the account: %+v, %+v, wanted all delivered", r.Sessions, r.Bytes)
	}
}

// TestWebSocketCrowd copies a thousand clients to which production pushes, and the target more
// rarely. Nothing stalls, and each connection's messages arrive.
func TestWebSocketCrowd(t *testing.T) {
	const conns, messages, maxRSS = 1000, 10, 256 << 20
	someWays(t, only(), func(t *testing.T, way string) {
		s := newStand(t, setting{way: way})
		production := &socketSite{push: 200 * time.Millisecond}
		startSocketSite(t, s.net.Production, siteProduction, production)
		target := &socketSite{push: 2 * time.Second, ping: time.Second}
		startSocketSite(t, s.net.Target, siteTarget, target)
		c := s.copy("-x", s.mapping(siteProduction, siteTarget), "--both")
		begun := time.Now()
		var all sync.WaitGroup
		for i := range conns {
			conn := s.dialSocket(i, fmt.Sprintf("/push/%d", i), false)
			all.Go(func() { talkOver(t, conn, i, messages, 500*time.Millisecond) })
		}
		all.Wait()
		ended := time.Now()
		target.expectSame(t, production)
		late := time.Since(ended)
		r := c.end()
		t.Logf("%d connections in %v; the target was %v behind; memory %d MB", conns,
			ended.Sub(begun), late, r.Resources.MaxRSSBytes>>20)
		if p := r.Protocol; p.Sent != conns || p.Answered != conns || p.Lost != 0 ||
			r.Gate.Forced != 0 {
			t.Errorf("the account: %+v, %+v", p, r.Gate)
		}
		if r.Sessions.Delivered != conns || r.Bytes.Delivered != r.Bytes.Captured {
			t.Errorf("the account: %+v, %+v, wanted all delivered", r.Sessions, r.Bytes)
		}
		if late > 3*time.Second { // a second is how long a message waits where servers push
			t.Errorf("the last message came %v after production's", late)
		}
		if r.Resources.MaxRSSBytes > maxRSS {
			t.Errorf("%d MB of memory, wanted at most %d", r.Resources.MaxRSSBytes>>20, maxRSS>>20)
		}
	})
}

// talkOver sends messages, one after each pause, and reads what the server pushes meanwhile.
func talkOver(t *testing.T, conn *websocket.Conn, i, messages int, pause time.Duration) {
	var read sync.WaitGroup
	read.Go(func() {
		for {
			if _, _, err := conn.NextReader(); err != nil {
				return
			}
		}
	})
	for n := range messages {
		wait(pause)
		if err := conn.WriteMessage(websocket.TextMessage, fmt.Appendf(nil, "%d.%d", i,
			n)); err != nil {
			t.Error(err)
			break
		}
	}
	conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4000+i%100, ""),
		time.Now().Add(patience))
	read.Wait()
	conn.Close()
}
