// Package status lets a copier or an intercept be asked how it is, and asks: JSON over HTTP, on a unix
// socket or an address. It is sight, and nothing else: nothing can be changed by it, and nodes know nothing
// of each other.
//
// What a node says it is given by its command (package app), which also prints the table over many.
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

// Dir is where nodes that were not told otherwise have their sockets.
const Dir = "/run/tcpcopy-nodes"

// Node is what a copier or an intercept says of itself.
type Node struct {
	Kind     string    `json:"kind"` // copier, intercept, agent
	Version  string    `json:"version"`
	Host     string    `json:"host"`
	PID      int       `json:"pid"`
	Start    time.Time `json:"start"`
	Now      time.Time `json:"now"`
	Via      string    `json:"via"`
	Mappings []string  `json:"mappings"` // of a copier
	Sessions uint64    `json:"sessions"` // captured; of an intercept the copies' connections that it has seen
	Live     uint64    `json:"live"`
	// DeliveredPercent is of a copier's sessions; null where none has ended.
	DeliveredPercent *float64 `json:"delivered_percent"`
	Up               int      `json:"up"`    // links to intercepts that are up, or copiers that are connected
	Peers            int      `json:"peers"` // of so many that there should be, or were
	// Account is the whole account, as --report has it.
	Account json.RawMessage `json:"account,omitempty"`
}

// Server answers who asks. Close it.
type Server struct {
	http http.Server
	path string // of the unix socket
	done chan struct{}
}

// limits on what strangers on this host can cost.
const (
	patience  = 2 * time.Second
	maxHeader = 8 << 10
	maxAnswer = 16 << 20
)

// Listen answers at addr, a path (of a unix socket, which is its owner's alone) or ADDRESS:PORT, with what get
// returns, which is called from any goroutine; nil is an error for who asks.
func Listen(addr string, get func() *Node) (*Server, error) {
	l, path, err := listen(addr)
	if err != nil {
		return nil, fmt.Errorf("status: %w", err)
	}
	s := &Server{path: path, done: make(chan struct{})}
	s.http = http.Server{
		ReadHeaderTimeout: patience, ReadTimeout: patience, WriteTimeout: 2 * patience, IdleTimeout: patience, MaxHeaderBytes: maxHeader,
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
			_ = json.NewEncoder(w).Encode(n) // who hangs up wanted no more
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
		os.Remove(addr) // of a node that was killed
	}
	before := syscall.Umask(0o177) // the socket is never anybody else's
	l, err := net.Listen("unix", addr)
	syscall.Umask(before)
	return l, addr, err
}

// Close ends the answering.
func (s *Server) Close() {
	_ = s.http.Close()
	<-s.done
}

// Default is where a node of this process that was not told otherwise answers.
func Default(kind string) string {
	return filepath.Join(Dir, fmt.Sprintf("%s-%d.sock", kind, os.Getpid()))
}

// MakeDir makes the directory of Default.
func MakeDir() error {
	if err := os.Mkdir(Dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("status: %w", err)
	}
	return nil
}

// Nodes are the sockets of nodes on this host that may answer. What killed ones have left is removed, if it
// may be.
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

// Address checks where a node is to answer, or is asked: a path, or ADDRESS:PORT.
func Address(s string) error {
	if strings.HasPrefix(s, "/") {
		if len(s) > 100 {
			return errors.New("wanted a path of at most 100 characters")
		}
		return nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 {
		return errors.New("wanted the path of a unix socket, such as /run/copy.sock, or IP:PORT, such as 127.0.0.1:36525")
	}
	return nil
}
