package e2e

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/redcon"

	"tcpcopy/internal/lab/netlab"
)

// redisRelay stands before a Redis: its answers are longer through it, and have a pause in them. It
// knows which commands came before the one before was answered.
type redisRelay struct {
	l        net.Listener
	dial     func() (net.Conn, error)
	commands atomic.Int64
	early    atomic.Int64
	done     sync.WaitGroup
	mu       sync.Mutex
	open     []net.Conn
}

// redisPause is within every answer.
const redisPause = time.Millisecond

func startRedisRelay(t testing.TB, host *netlab.Namespace, port, to uint16) *redisRelay {
	t.Helper()
	l := listenOn(t, host, fmt.Sprintf(":%d", port))
	r := &redisRelay{l: l, dial: func() (net.Conn, error) {
		return host.Dial(t.Context(), nil, "tcp", fmt.Sprintf("127.0.0.1:%d", to))
	}}
	r.done.Go(r.accept)
	t.Cleanup(func() {
		l.Close()
		r.mu.Lock()
		for _, c := range r.open {
			c.Close()
		}
		r.mu.Unlock()
		r.done.Wait()
	})
	return r
}

func (r *redisRelay) accept() {
	for {
		c, err := r.l.Accept()
		if err != nil {
			return
		}
		server, err := r.dial()
		if err != nil {
			c.Close()
			continue
		}
		r.mu.Lock()
		r.open = append(r.open, c, server)
		r.mu.Unlock()
		var waiting atomic.Int64 // commands that are not answered
		r.done.Go(func() { r.ask(c, server, &waiting) })
		r.done.Go(func() { r.answer(server, c, &waiting) })
	}
}

// ask brings commands to the server.
func (r *redisRelay) ask(from, to net.Conn, waiting *atomic.Int64) {
	defer to.(*net.TCPConn).CloseWrite()
	var kept []byte
	for buf := make([]byte, 64<<10); ; {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		if waiting.Load() > 0 {
			r.early.Add(1)
		}
		for kept = append(kept, buf[:n]...); ; {
			complete, _, _, rest, err := redcon.ReadNextCommand(kept, nil)
			if err != nil || !complete {
				break
			}
			kept = append(kept[:0], rest...)
			waiting.Add(1)
			r.commands.Add(1)
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// answer brings answers to the client: a string thrice as long, and all in two parts.
func (r *redisRelay) answer(from, to net.Conn, waiting *atomic.Int64) {
	defer to.Close()
	var kept []byte
	for buf := make([]byte, 64<<10); ; {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		for kept = append(kept, buf[:n]...); ; {
			size, resp := redcon.ReadNextRESP(kept)
			if size == 0 {
				break
			}
			text := string(resp.Raw)
			if resp.Type == redcon.Bulk && resp.Data != nil {
				text = fmt.Sprintf("$%d\r\n%s\r\n", 3*len(resp.Data),
					strings.Repeat(string(resp.Data), 3))
			}
			kept = append(kept[:0], kept[size:]...)
			to.Write([]byte(text[:len(text)/2]))
			wait(redisPause)
			waiting.Add(-1)
			if _, err := to.Write([]byte(text[len(text)/2:])); err != nil {
				return
			}
		}
	}
}
