// Package web is the HTTP server that every page of a node goes through: its status, its metrics,
// its dashboard. It decides who may read, and bounds what a reader costs. It does not know what is
// read.
//
// Every request is a GET. Beyond loopback it needs a token and TLS. The Host header must name this
// host, so that a page in a browser cannot reach it through a name of its own (DNS rebinding), and
// a request from another origin is refused.
package web

import (
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"
)

// Bounds on what readers can cost. A reader that takes nothing for Patience is cut.
const (
	Patience   = 4 * time.Second
	asking     = 2 * time.Second // for the whole of a request, and between two of them
	maxHeader  = 8 << 10
	maxReaders = 64             // connections at the same time
	maxEach    = maxReaders / 2 // of these from one address, before it has been served
	maxUnread  = 64 << 10       // bytes that the kernel holds for one reader
)

// Cookie is the name of the cookie that holds the token for a browser.
const Cookie = "tcpcopy-token"

// Access says who may read what is served beyond loopback. The zero value allows nobody.
type Access struct {
	Token       string           // what readers must send; empty: none
	Certificate *tls.Certificate // what the server proves itself with; nil: no TLS
}

// Complete reports whether a has what it takes to serve beyond loopback.
func (a *Access) Complete() bool { return a.Token != "" && a.Certificate != nil }

// ErrAccess is the reason why an address beyond loopback is refused without a token and TLS.
var ErrAccess = errors.New("is beyond loopback: wanted --web-token FILE and --web-tls FILE, " +
	"so that only readers with the token see it, and nobody else on the way")

// IsLocal reports whether only this host reaches addr, a path or IP:PORT.
func IsLocal(addr string) bool {
	if strings.HasPrefix(addr, "/") {
		return true
	}
	a, err := netip.ParseAddrPort(addr)
	return err == nil && a.Addr().Unmap().IsLoopback()
}

// Server serves until it is closed.
type Server struct {
	http    http.Server
	addr    net.Addr
	readers *readers
	done    chan struct{}
}

// Listen serves h at addr, the path of a unix socket, which is its owner's alone, or IP:PORT. A
// token and a certificate in a are used at every TCP address, loopback ones too. An address beyond
// loopback without them is served to whoever asks: the caller decides whether that may be (see
// IsLocal).
func Listen(addr string, a Access, h http.Handler) (*Server, error) {
	l, err := listen(addr)
	if err != nil {
		return nil, err
	}
	return serveAt(l, a, h), nil
}

// serveAt serves h to those who connect to l.
func serveAt(l net.Listener, a Access, h http.Handler) *Server {
	s := &Server{addr: l.Addr(), readers: &readers{Listener: l}, done: make(chan struct{})}
	g := &guard{next: h, unix: l.Addr().Network() == "unix"}
	l = s.readers
	if !g.unix {
		g.token = a.Token
		if a.Certificate != nil {
			g.names = certificateNames(a.Certificate)
			l = tls.NewListener(l, &tls.Config{
				Certificates: []tls.Certificate{*a.Certificate}, MinVersion: tls.VersionTLS12,
				NextProtos: []string{"http/1.1"},
			})
		}
	}
	s.http = http.Server{
		Handler: g, ReadHeaderTimeout: asking, ReadTimeout: asking, WriteTimeout: Patience,
		IdleTimeout: asking, MaxHeaderBytes: maxHeader, ErrorLog: silent(),
		ConnContext: withReader,
	}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(l)
	}()
	return s
}

// Addr returns the address that s listens at.
func (s *Server) Addr() net.Addr { return s.addr }

// Close cuts every reader and waits until the server has ended.
func (s *Server) Close() {
	// First the connections under TLS. http.Server closes one after the other under its lock, and
	// crypto/tls gives each peer five seconds to take its last message.
	s.readers.cut()
	_ = s.http.Close()
	<-s.done
}

func listen(addr string) (net.Listener, error) {
	if !strings.HasPrefix(addr, "/") {
		return net.Listen("tcp", addr)
	}
	if c, err := net.DialTimeout("unix", addr, asking); err == nil {
		c.Close()
		return nil, fmt.Errorf("listen on %s: another node answers there", addr)
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		os.Remove(addr) // of a node that was killed
	}
	before := syscall.Umask(0o177) // the socket is never anybody else's
	l, err := net.Listen("unix", addr)
	syscall.Umask(before)
	return l, err
}

// guard decides whether a request may be answered.
type guard struct {
	next  http.Handler
	unix  bool
	token string   // empty: none is wanted
	names []string // of the certificate
}

func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	switch {
	case r.Method != http.MethodGet:
		h.Set("Allow", http.MethodGet)
		http.Error(w, "wanted GET: nothing can be changed here", http.StatusMethodNotAllowed)
	case !g.unix && !g.known(r.Host):
		http.Error(
			w,
			fmt.Sprintf("host %q is not this one: wanted its address", r.Host),
			http.StatusForbidden,
		)
	case foreign(r):
		http.Error(w, "a page from elsewhere may not read this", http.StatusForbidden)
	case g.token == "" || g.proved(r):
		served(r)
		g.next.ServeHTTP(w, r)
	case same(r.URL.Query().Get("token"), g.token):
		// A browser follows a link with the token once. The token then moves out of the address
		// bar.
		http.SetCookie(w, &http.Cookie{
			Name: Cookie, Value: g.token, Path: "/", HttpOnly: true,
			SameSite: http.SameSiteStrictMode,
			Secure:   r.TLS != nil,
		})
		http.Redirect(w, r, r.URL.Path, http.StatusSeeOther)
	default:
		h.Set("WWW-Authenticate", "Bearer")
		http.Error(w, "wanted the token: Authorization: Bearer TOKEN", http.StatusUnauthorized)
	}
}

// known reports whether host, of a request, is this one: an IP address, localhost, a name of the
// certificate, or the name that tcpcopy itself sends.
func (g *guard) known(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	name = strings.Trim(name, "[]")
	if _, err := netip.ParseAddr(name); err == nil || name == "localhost" || name == "tcpcopy" {
		return true
	}
	for _, n := range g.names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// foreign reports whether a browser says that a page of another origin has made the request.
func foreign(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		return r.Header.Get("Sec-Fetch-Mode") != "navigate" // a link that somebody follows
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	_, host, ok := strings.Cut(origin, "://")
	return !ok || host != r.Host
}

func (g *guard) proved(r *http.Request) bool {
	if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); ok {
		return same(token, g.token)
	}
	c, err := r.Cookie(Cookie)
	return err == nil && same(c.Value, g.token)
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }
