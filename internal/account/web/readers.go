package web

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
)

// readers are the connections of those who read, the oldest first. There are maxReaders at most.
// Where there are more, one that was not served yet is closed: the oldest of the same address, if
// that has many, or the oldest of all. So those who only connect keep no reader out. What the
// kernel holds for one that does not read is bounded as well.
type readers struct {
	net.Listener

	mu   sync.Mutex
	open []*reader
	over bool // cut was called
}

// reader is a connection.
type reader struct {
	net.Conn
	of     *readers
	from   netip.Addr // invalid: not TCP
	served bool       // a request was answered
}

// Accept implements net.Listener.
func (l *readers) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if b, ok := c.(interface{ SetWriteBuffer(int) error }); ok {
			_ = b.SetWriteBuffer(maxUnread)
		}
		r := &reader{Conn: c, of: l, from: holderOf(c.RemoteAddr())}
		if l.enter(r) {
			return r, nil
		}
		c.Close()
	}
}

// holderOf returns what stands for all addresses that one host may have: an IPv6 host has a network
// of 64 bits (RFC 4291 §2.5.1).
func holderOf(at net.Addr) netip.Addr {
	t, ok := at.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	a := t.AddrPort().Addr().Unmap().WithZone("")
	if a.Is4() {
		return a
	}
	p, _ := a.Prefix(64)
	return p.Addr()
}

// enter adds a connection, for which another one may be closed. It returns false if there is no
// room.
func (l *readers) enter(r *reader) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	each := 0
	same := func(o *reader) bool { return !o.served && o.from == r.from }
	for _, o := range l.open {
		if same(o) {
			each++
		}
	}
	give := -1
	switch {
	case each >= maxEach && r.from.IsValid():
		give = slices.IndexFunc(l.open, same)
	case len(l.open) >= maxReaders:
		give = slices.IndexFunc(l.open, func(o *reader) bool { return !o.served })
		if give < 0 {
			return false
		}
	}
	if give >= 0 {
		l.open[give].Conn.Close()
		l.open = slices.Delete(l.open, give, give+1)
	}
	l.open = append(l.open, r)
	return true
}

// Close implements net.Conn.
func (r *reader) Close() error {
	l := r.of
	l.mu.Lock()
	if i := slices.Index(l.open, r); i >= 0 {
		l.open = slices.Delete(l.open, i, i+1)
	}
	l.mu.Unlock()
	return r.Conn.Close()
}

// cut closes all connections, those to come as well.
func (l *readers) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	for _, r := range l.open {
		r.Conn.Close()
	}
}

// readerKey is the key of a request's *reader in its context.
type readerKey struct{}

// withReader is http.Server.ConnContext.
func withReader(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, readerKey{}, c)
}

// served notes that a request's connection is a reader's.
func served(q *http.Request) {
	if r, ok := q.Context().Value(readerKey{}).(*reader); ok {
		r.of.mu.Lock()
		r.served = true
		r.of.mu.Unlock()
	}
}
