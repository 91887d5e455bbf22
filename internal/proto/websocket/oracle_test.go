package websocket

import (
	"bufio"
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// The extensions as gorilla's client and server agree on them.
const gorillaDeflate = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"

// fakeConn is a connection in memory: it keeps what is written.
type fakeConn struct {
	io.Reader
	wrote bytes.Buffer
	// write is called before each write.
	write func(p []byte)
}

func (f *fakeConn) Write(p []byte) (int, error) {
	if f.write != nil {
		f.write(p)
	}
	return f.wrote.Write(p)
}

func (f *fakeConn) Close() error                     { return nil }
func (f *fakeConn) LocalAddr() net.Addr              { return nil }
func (f *fakeConn) RemoteAddr() net.Addr             { return nil }
func (f *fakeConn) SetDeadline(time.Time) error      { return nil }
func (f *fakeConn) SetReadDeadline(time.Time) error  { return nil }
func (f *fakeConn) SetWriteDeadline(time.Time) error { return nil }

// gorillaClient returns a client of gorilla's whose server has accepted the upgrade.
func gorillaClient(t *testing.T, extensions string) (*websocket.Conn, *fakeConn) {
	var answer bytes.Buffer
	f := &fakeConn{Reader: &answer}
	f.write = func(p []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(p)))
		if err != nil {
			return // a frame
		}
		sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") +
			"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		fmt.Fprintf(&answer, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"+
			"Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\nSec-WebSocket-Extensions: %s\r\n"+
			"\r\n", base64.StdEncoding.EncodeToString(sum[:]), extensions)
		if extensions == "" {
			s := strings.Replace(answer.String(), "Sec-WebSocket-Extensions: \r\n", "", 1)
			answer.Reset()
			answer.WriteString(s)
		}
	}
	u := &url.URL{Scheme: "ws", Host: "a", Path: "/"}
	d := websocket.Dialer{EnableCompression: extensions != "", WriteBufferSize: 512,
		NetDial: func(string, string) (net.Conn, error) { return f, nil }}
	conn, _, err := d.Dial(u.String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	f.write = nil
	return conn, f
}

// hijacked is a ResponseWriter that hands over a connection.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn
}

func (h hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return h.conn, bufio.NewReadWriter(bufio.NewReader(h.conn), bufio.NewWriter(h.conn)), nil
}

// gorillaServer reads what a client has sent, and returns the messages, pings and the close.
func gorillaServer(t *testing.T, sent []byte, compression bool) (all []string) {
	t.Helper()
	b := bufio.NewReader(bytes.NewReader(sent))
	request, err := http.ReadRequest(b)
	if err != nil {
		t.Fatal(err)
	}
	up := websocket.Upgrader{EnableCompression: compression}
	conn, err := up.Upgrade(hijacked{conn: &fakeConn{Reader: b}}, request, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetPingHandler(func(p string) error {
		all = append(all, "ping "+p)
		return nil
	})
	for {
		kind, p, err := conn.ReadMessage()
		if err != nil {
			var c *websocket.CloseError
			if !errors.As(err, &c) {
				t.Fatalf("the target cannot read: %v", err)
			}
			return append(all, fmt.Sprintf("close %d %s", c.Code, c.Text))
		}
		all = append(all, fmt.Sprintf("%d %s", kind, p))
	}
}

// TestOracle copies what gorilla's client writes, in all ways, to gorilla's server.
func TestOracle(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		here, there := "", ""
		if seed%2 == 1 {
			here = gorillaDeflate
		}
		if seed%4 == 1 {
			there = gorillaDeflate
		}
		conn, wire := gorillaClient(t, here)
		handshake := wire.wrote.Len()
		var want []string
		for range 1 + r.IntN(20) {
			conn.EnableWriteCompression(r.IntN(3) > 0)
			switch payload := strings.Repeat("hello ", r.IntN(1<<r.IntN(12))); r.IntN(6) {
			case 0:
				ping := payload[:min(len(payload), 50)]
				conn.WriteControl(websocket.PingMessage, []byte(ping), time.Time{})
				want = append(want, "ping "+ping)
			case 1:
				conn.WriteControl(websocket.PongMessage, nil, time.Time{})
			default:
				kind := 1 + r.IntN(2)
				w, err := conn.NextWriter(kind)
				if err != nil {
					t.Fatal(err)
				}
				for rest := payload; len(rest) > 0; {
					n := 1 + r.IntN(len(rest))
					io.WriteString(w, rest[:n])
					if rest = rest[n:]; r.IntN(20) == 0 {
						conn.WriteControl(websocket.PongMessage, []byte("within"), time.Time{})
					}
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				want = append(want, fmt.Sprintf("%d %s", kind, payload))
			}
		}
		conn.WriteControl(websocket.CloseMessage,
			websocket.FormatCloseMessage(4000+int(seed), "bye"), time.Time{})
		want = append(want, fmt.Sprintf("close %d bye", 4000+seed))

		for _, step := range []int{0, 1, 1 + r.IntN(100)} {
			g := newRig(t, step)
			p := wire.wrote.String()
			g.feed(p[:handshake])
			g.serve(accepting(here))
			first := handshake + r.IntN(len(p)-handshake)
			g.feed(p[handshake:first])
			g.hear(accepting(there))
			for first < len(p) {
				n := 1 + r.IntN(len(p)-first)
				g.feed(p[first:][:n])
				first += n
			}
			g.ended()
			got := gorillaServer(t, g.sent, there != "")
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Fatalf("seed %d, step %d: the target has received %.1000q, wanted %.1000q", seed,
					step, got, want)
			}
		}
	}
}
