package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// server serves calls, and logs each when it ends.
type server struct {
	file  string
	pause time.Duration
	ping  time.Duration
	age   time.Duration
	renew int    // calls of a connection; 0: any number
	table int    // size of a client's table of headers; less than 0: the usual
	code  int    // of calls that fail
	text  string // their message
	// changed is the kind of calls whose last answer is another.
	changed string

	mu  sync.Mutex
	log *os.File
}

// entry is a line of the log.
type entry struct {
	Name     string // the client's name for the call
	Messages int    // of the client
	Hash     string // of all of them, in order
	Early    int    // those that came before the answer to the one before
	End      string // how the client has ended the call: "end", or a status code
	Limit    int    // the call's deadline, in minutes from its beginning; 0: it has none
	Conn     int64  // the connection, from 1, of a server that renews them
}

func (s *server) serve(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	if s.log, err = os.OpenFile(s.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	p := keepalive.ServerParameters{Time: s.ping, Timeout: s.ping}
	if s.age > 0 {
		p.MaxConnectionAge = s.age
	}
	options := []grpc.ServerOption{grpc.ForceServerCodec(codec{}), grpc.KeepaliveParams(p)}
	if s.table >= 0 {
		options = append(options, grpc.HeaderTableSize(uint32(s.table)))
	}
	g := grpc.NewServer(options...)
	desc := grpc.ServiceDesc{ServiceName: "test.Peer", HandlerType: (*any)(nil)}
	for _, kind := range []string{"unary", "up", "down", "both", "push", "cancel", "fail",
		lateKind} {
		desc.Streams = append(desc.Streams, grpc.StreamDesc{StreamName: kind,
			Handler:       s.handler(kind),
			ServerStreams: true, ClientStreams: true})
	}
	g.RegisterService(&desc, s)
	if s.renew > 0 {
		return s.renewing(g).Serve(l)
	}
	return g.Serve(l)
}

// conn is a connection of a server that renews them.
type conn struct {
	number int64
	calls  atomic.Int64
}

type connKey struct{}

// connOf returns the connection of a request or call; nil: the server renews none.
func connOf(ctx context.Context) *conn {
	c, _ := ctx.Value(connKey{}).(*conn)
	return c
}

// renewing returns a server that sends GOAWAY on a connection with its last call. It is of
// net/http, since grpc-go's own knows no number of calls.
func (s *server) renewing(g *grpc.Server) *http.Server {
	var conns atomic.Int64
	h := &http.Server{
		Protocols: new(http.Protocols),
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, &conn{number: conns.Add(1)})
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if connOf(r.Context()).calls.Add(1) == int64(s.renew) {
				w.Header().Set("Connection", "close")
			}
			g.ServeHTTP(w, r)
		}),
	}
	h.Protocols.SetUnencryptedHTTP2(true)
	return h
}

// call is a call that is served.
type call struct {
	grpc.ServerStream
	*server
	kind     string
	entry    entry
	asked    chan []byte
	answered atomic.Int64
}

// downs is how many messages answer one of a call that the server streams; pushes is how many a
// server pushes behind each.
const (
	downs  = 20
	pushes = 3
)

// hash returns the hash of messages, the last of which is m, and those before it have the hash
// before.
func hash(before string, m []byte) string {
	sum := sha256.Sum256(append([]byte(before), m...))
	return hex.EncodeToString(sum[:8])
}

func (s *server) handler(kind string) grpc.StreamHandler {
	return func(_ any, stream grpc.ServerStream) error {
		c := &call{ServerStream: stream, server: s, kind: kind, asked: make(chan []byte, 1000)}
		md, _ := metadata.FromIncomingContext(stream.Context())
		if name := md.Get("name"); len(name) > 0 {
			c.entry.Name = name[0]
		}
		if on := connOf(stream.Context()); on != nil {
			c.entry.Conn = on.number
		}
		if end, ok := stream.Context().Deadline(); ok {
			c.entry.Limit = int(time.Until(end).Round(time.Minute) / time.Minute)
		}
		read := make(chan struct{})
		go func() {
			defer close(read)
			defer close(c.asked)
			c.read()
		}()
		err := c.answer()
		// What the client sends is read to its end before the status ends the call.
		<-read
		s.note(&c.entry)
		return err
	}
}

// read reads the client's messages to the end.
func (c *call) read() {
	for {
		var m []byte
		err := c.RecvMsg(&m)
		if err != nil {
			if c.entry.End = "end"; err != io.EOF {
				c.entry.End = status.Code(err).String()
			}
			return
		}
		if (c.kind == "both" || c.kind == "cancel") &&
			c.answered.Load() < int64(c.entry.Messages) {
			c.entry.Early++
		}
		c.entry.Messages++
		c.entry.Hash = hash(c.entry.Hash, m)
		c.asked <- m
	}
}

// answer answers the client's messages.
func (c *call) answer() error {
	for m := range c.asked {
		wait(c.Context(), c.pause)
		n := 1
		switch c.kind {
		case "up":
			n = 0
		case "down":
			n = downs
		case "push":
			n += pushes
		case "fail":
			return status.Error(codes.Code(c.code), c.text)
		}
		for i := range n {
			if c.kind == c.changed && i == n-1 {
				m = append(m[:len(m)-1:len(m)-1], '!')
			}
			c.answered.Add(1)
			if err := c.SendMsg(&m); err != nil {
				return err
			}
		}
	}
	if c.kind == "up" {
		m := fmt.Append(nil, "all of them")
		return c.SendMsg(&m)
	}
	return nil
}

// wait waits, or until the call has ended.
func wait(ctx context.Context, d time.Duration) {
	if d == 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (s *server) note(e *entry) {
	line, err := json.Marshal(e)
	if err == nil {
		s.mu.Lock()
		_, err = s.log.Write(append(line, '\n'))
		s.mu.Unlock()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "grpcpeer:", err)
		os.Exit(1)
	}
}
