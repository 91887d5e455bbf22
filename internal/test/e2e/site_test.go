package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// site is a web server whose answers end in all the ways that HTTP/1 has, and which knows what it
// was asked, and what it was asked too early: before it had answered the request before.
type site struct {
	server *http.Server
	size   int           // answers are so many times larger than asked for
	pause  time.Duration // within an answer

	mu     sync.Mutex
	asked  []asked
	early  []string
	served sync.WaitGroup
}

// asked is a request that a site has got.
type asked struct {
	conn       *siteConn
	what       string // method, path, query, and the body's digest
	host, copy string // the headers Host and X-Copy
}

// siteConn is a connection that knows whether a request on it is being answered.
type siteConn struct {
	net.Conn
	site      *site
	mu        sync.Mutex
	answering string // the request; empty: none
}

func (c *siteConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	if n > 0 && c.answering != "" && !strings.Contains(c.answering, "piped") {
		c.site.mu.Lock()
		c.site.early = append(c.site.early, fmt.Sprintf("%.40q during %s", p[:n], c.answering))
		c.site.mu.Unlock()
	}
	c.mu.Unlock()
	return n, err
}

func (c *siteConn) answer(request string) {
	c.mu.Lock()
	c.answering = request
	c.mu.Unlock()
}

type siteListener struct {
	net.Listener
	site *site
}

func (l siteListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &siteConn{Conn: c, site: l.site}, nil
}

type connKey struct{}

// startSite starts a site on a host.
func startSite(t testing.TB, host *netlab.Namespace, port uint16, size int,
	pause time.Duration) *site {
	t.Helper()
	l := listenOn(t, host, fmt.Sprintf(":%d", port))
	s := &site{size: size, pause: pause}
	s.server = &http.Server{
		Handler: s,
		ConnContext: func(ctx context.Context,
			c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
	}
	s.served.Go(func() { s.server.Serve(siteListener{l, s}) })
	t.Cleanup(func() {
		s.server.Close()
		s.served.Wait()
	})
	return s
}

// ServeHTTP answers /length/N, /chunked/N, /end/N with N bytes, /none and /same with none, and
// /upgrade with another protocol.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	sum := sha256.Sum256(body)
	c := r.Context().Value(connKey{}).(*siteConn)
	a := asked{c, fmt.Sprintf("%s %s %d %x", r.Method, r.URL.RequestURI(), len(body), sum[:4]),
		r.Host, r.Header.Get("X-Copy")}
	s.mu.Lock()
	s.asked = append(s.asked, a)
	s.mu.Unlock()
	c.answer(r.Method + " " + r.URL.RequestURI())
	way, count, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	n, _ := strconv.Atoi(count)
	content := bytes.Repeat([]byte("x\r\n0\r\n"), n*s.size/6+1)[:max(1, n*s.size)]
	switch way {
	case "none", "same":
		c.answer("")
		w.WriteHeader(map[string]int{"none": 204, "same": 304}[way])
	case "length":
		w.Header().Set("Content-Length", strconv.Itoa(len(content)))
		if r.Method == http.MethodHead {
			c.answer("")
		}
		s.say(w, c, content)
	case "chunked":
		s.say(w, c, content)
	case "end", "upgrade":
		s.hijack(w, r, c, way, content)
	}
}

// say sends an answer with a pause in its middle. Before its last byte the next request may come.
func (s *site) say(w io.Writer, c *siteConn, content []byte) {
	half := len(content) / 2
	w.Write(content[:half])
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
	if s.pause > 0 {
		wait(s.pause)
	}
	w.Write(content[half : len(content)-1])
	c.answer("")
	w.Write(content[len(content)-1:])
}

// hijack answers with what lasts as long as the connection, or with another protocol: one that says
// all again.
func (s *site) hijack(w http.ResponseWriter, r *http.Request, c *siteConn, way string,
	content []byte) {
	conn, in, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	if way == "end" {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
		s.say(conn, c, content)
		return
	}
	c.answer("")
	io.WriteString(conn,
		"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: lines\r\n\r\n")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		s.mu.Lock()
		s.asked = append(s.asked, asked{c, "upgraded " + line, r.Host, r.Header.Get("X-Copy")})
		s.mu.Unlock()
		io.WriteString(conn, strings.Repeat(line, s.size))
	}
}

// drain returns what was asked since the last call, one line for each connection, sorted; what was
// early; and the hosts that were asked for, with X-Copy.
func (s *site) drain() (conversations, early, hosts []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	said := make(map[*siteConn][]string)
	for _, a := range s.asked {
		said[a.conn] = append(said[a.conn], a.what)
		if h := fmt.Sprintf("%s %q", a.host, a.copy); !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	for _, lines := range said {
		conversations = append(conversations, strings.Join(lines, " | "))
	}
	slices.Sort(conversations)
	early = s.early
	s.asked, s.early = nil, nil
	return conversations, early, hosts
}

// count is how many requests there were since the last drain.
func (s *site) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}
