// Package status serves the state of a node (copier, intercept, agent, recorder) over HTTP, on a
// unix socket or an address, and asks other nodes for theirs. Nothing can be changed by it, and
// nodes know nothing of each other.
//
// Package app gives a node its state, and prints the table over many nodes. Package web decides who
// may read.
package status

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"tcpcopy/internal/account/web"
)

// asking is how long a node may take to answer.
const asking = 2 * time.Second

// Dir is where nodes that were not told otherwise have their sockets.
const Dir = "/run/tcpcopy-nodes"

// Node is the state of a node, as it reports it.
type Node struct {
	Kind    string    `json:"kind"` // copier, intercept, agent, recorder
	Version string    `json:"version"`
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Start   time.Time `json:"start"`
	Now     time.Time `json:"now"`
	// Of the state: what shows the same number is the same state.
	Sequence uint64   `json:"sequence"`
	Via      string   `json:"via"`
	Mappings []string `json:"mappings"` // of a copier
	// Captured; of an intercept the copies' connections that it has seen.
	Sessions uint64 `json:"sessions"`
	Live     uint64 `json:"live"`
	// DeliveredPercent is of a copier's sessions; null where none has ended.
	DeliveredPercent *float64 `json:"delivered_percent"`
	// Links to intercepts that are up, or copiers that are connected.
	Up    int `json:"up"`
	Peers int `json:"peers"` // of so many that there should be, or were
	// Account is the whole account, as --report has it.
	Account json.RawMessage `json:"account,omitempty"`
}

// Server answers requests for a node's state until it is closed.
type Server struct{ web *web.Server }

// Config is what a Server shows.
type Config struct {
	// Node returns the state of the node; nil if there is none now. It is called from any
	// goroutine.
	Node func() *Node
	// Metrics serves the node's metrics; nil: there are none.
	Metrics http.Handler
	// Sessions returns some of the sessions of a copier; nil: the node has none.
	Sessions SessionsFunc
	// Ready reports whether the node is at work, for GET /readyz.
	Ready func() bool
}

// maxAnswer bounds what Ask reads, in bytes.
const maxAnswer = 16 << 20

// eventsEvery is the time between two events.
const eventsEvery = time.Second

// Listen serves c at addr, a path (of a unix socket, which is its owner's alone) or IP:PORT: the
// state as JSON at /, metrics at /metrics, the state again and again at /events, a copier's
// sessions at /sessions, and /healthz and /readyz. At an address beyond loopback without a token
// and TLS it refuses /metrics, /events and /sessions.
func Listen(addr string, a web.Access, c *Config) (*Server, error) {
	mux := Routes(c)
	if !web.IsLocal(addr) && !a.Complete() {
		for _, path := range []string{"GET /metrics", "GET /events", "GET /sessions"} {
			mux[path] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, addr+" "+web.ErrAccess.Error(), http.StatusForbidden)
			})
		}
	}
	mux["GET /{$}"] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := c.Node()
		if n == nil {
			http.Error(w, "ending", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(n)
	})
	s, err := web.Listen(addr, a, mux.Handler())
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	return &Server{s}, nil
}

// ListenMetrics serves the metrics of c at addr, IP:PORT, with /healthz and /readyz.
func ListenMetrics(addr string, a web.Access, c *Config) (*Server, error) {
	mux := Routes(c)
	delete(mux, "GET /events")
	delete(mux, "GET /sessions")
	s, err := web.Listen(addr, a, mux.Handler())
	if err != nil {
		return nil, fmt.Errorf("metrics: %w", err)
	}
	return &Server{s}, nil
}

// Mux is handlers by pattern.
type Mux map[string]http.Handler

// Handler returns the handler of all of them.
func (m Mux) Handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range m {
		mux.Handle(pattern, h)
	}
	return mux
}

// Routes returns what every server of a node serves: /healthz, /readyz, /events, /metrics and
// /sessions.
func Routes(c *Config) Mux {
	m := Mux{
		"GET /healthz": health(func() bool { return c.Node() != nil }),
		"GET /readyz":  health(func() bool { return c.Ready() && c.Node() != nil }),
		"GET /events": &web.Events{Every: eventsEvery, Get: func() ([]byte, uint64, bool) {
			n := c.Node()
			if n == nil {
				return nil, 0, false
			}
			text, err := json.Marshal(n)
			return text, n.Sequence, err == nil
		}},
	}
	if c.Metrics != nil {
		m["GET /metrics"] = c.Metrics
	}
	if c.Sessions != nil {
		m["GET /sessions"] = Sessions(c.Sessions)
	}
	return m
}

func health(ok func() bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if !ok() {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(w, "not ready")
			return
		}
		fmt.Fprintln(w, "ok")
	})
}

// Addr returns the address that s listens at.
func (s *Server) Addr() net.Addr { return s.web.Addr() }

// Close cuts every reader and waits until the server has ended.
func (s *Server) Close() { s.web.Close() }

// Default returns the socket's path for a node of this process.
func Default(kind string) string {
	return filepath.Join(Dir, fmt.Sprintf("%s-%d.sock", kind, os.Getpid()))
}

// MakeDir makes the directory Dir.
func MakeDir() error {
	if err := os.Mkdir(Dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("status: %w", err)
	}
	return nil
}

// Nodes returns the sockets in Dir that may be served. It removes those that killed nodes have
// left, if permitted.
func Nodes() []string {
	all, _ := filepath.Glob(filepath.Join(Dir, "*.sock"))
	var alive []string
	for _, path := range all {
		c, err := net.DialTimeout("unix", path, asking)
		if errors.Is(err, syscall.ECONNREFUSED) {
			os.Remove(path)
			continue
		}
		if err == nil {
			c.Close()
		}
		alive = append(alive, path)
	}
	return alive
}

// Address returns an error if s is neither a path nor ADDRESS:PORT.
func Address(s string) error {
	if strings.HasPrefix(s, "/") {
		if len(s) > 100 {
			return errors.New("wanted a path of at most 100 characters")
		}
		return nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 {
		return errors.New("wanted the path of a unix socket, such as /run/copy.sock, or " +
			"IP:PORT, such as 127.0.0.1:36525")
	}
	return nil
}
