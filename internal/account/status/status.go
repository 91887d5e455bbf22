// Package status serves and reads the state of a node: a copier, an intercept or an agent. It is
// JSON over HTTP, on a unix socket or an address. It is read-only, and nodes do not know of each
// other.
//
// The command (package app) supplies a node's state, and prints the table of several nodes.
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
)

// Dir is the directory of nodes' sockets, unless --status names another place.
const Dir = "/run/tcpcopy-nodes"

// Node is the state of a copier, an intercept or an agent.
type Node struct {
	Kind     string    `json:"kind"` // copier, intercept, agent
	Version  string    `json:"version"`
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Start    time.Time `json:"start"`
	Now      time.Time `json:"now"`
	Via      string    `json:"via"`
	Mappings []string  `json:"mappings"` // of a copier
	Sessions uint64    `json:"sessions"` // captured; of an intercept: connections of copies
	Live     uint64    `json:"live"`
	// DeliveredPercent is of a copier's sessions; null if none was delivered or lost yet.
	DeliveredPercent *float64 `json:"delivered_percent"`
	// Up counts the links to intercepts that are up, or the copiers that are connected; Peers
	// counts all of them.
	Up    int `json:"up"`
	Peers int `json:"peers"`
	// Account is the whole account, as --report writes it.
	Account json.RawMessage `json:"account,omitempty"`
}

// Server serves a node's state, until Close.
type Server struct {
	http http.Server
	path string // of the unix socket
	done chan struct{}
}

// These bound what a stranger can cost.
const (
	patience  = 2 * time.Second
	maxHeader = 8 << 10
	maxAnswer = 16 << 20
)

// Listen serves the result of get at addr: the path of a unix socket, which only its owner may
// open, or ADDRESS:PORT. get is called from any goroutine; if it returns nil, the request fails.
func Listen(addr string, get func() *Node) (*Server, error) {
	l, path, err := listen(addr)
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	s := &Server{path: path, done: make(chan struct{})}
	s.http = http.Server{
		ReadHeaderTimeout: patience, ReadTimeout: patience, WriteTimeout: 2 * patience,
		IdleTimeout: patience, MaxHeaderBytes: maxHeader,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/" || r.Method != http.MethodGet {
				http.Error(w, "wanted GET /", http.StatusNotFound)
				return
			}
			n := get()
			if n == nil {
				http.Error(w, "ending", http.StatusServiceUnavailable)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(n) // fails if the peer hangs up
		}),
	}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(l)
	}()
	return s, nil
}

func listen(addr string) (net.Listener, string, error) {
	if !strings.HasPrefix(addr, "/") {
		l, err := net.Listen("tcp", addr)
		return l, "", err
	}
	if c, err := net.DialTimeout("unix", addr, patience); err == nil {
		c.Close()
		return nil, "", fmt.Errorf("listen on %s: another node answers there", addr)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		os.Remove(addr) // left by a node that was killed
	}
	before := syscall.Umask(0o177) // from its first moment on only the owner may open it
	l, err := net.Listen("unix", addr)
	syscall.Umask(before)
	return l, addr, err
}

// Close ends the serving.
func (s *Server) Close() {
	_ = s.http.Close()
	<-s.done
}

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
		c, err := net.DialTimeout("unix", path, patience)
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
