package lab

import (
	"errors"
	"net"
	"sync"
	"time"
)

// scaleMost bounds the factor by which a server's answers are longer than requested.
const scaleMost = 5

// serverConfig describes how a server answers. The zero value answers at once, with the requested
// length.
type serverConfig struct {
	// answers are so many times longer, or shorter; 0 and 1 change nothing
	scaleUp, scaleDown int
	think              time.Duration // before each answer
	// bytes of a greeting on every new connection, with its header; 0: none
	greeting   int
	pieces     int           // an answer goes in so many writes; 0 and 1: as one
	pause      time.Duration // between the pieces
	stall      time.Duration // a pause in reading, once on each connection
	closeAfter int           // so many answers; 0: the client closes
	framing    framing
}

// answerSize returns the length of the answer to a request for size bytes, headers included.
func (c *serverConfig) answerSize(size int) int {
	if c.scaleUp > 1 {
		size *= min(c.scaleUp, scaleMost)
	}
	if c.scaleDown > 1 {
		size /= c.scaleDown
	}
	return max(size, answerHeader)
}

// server answers the lab's requests and keeps the record of what arrived. It is production or the
// target.
type server struct {
	config serverConfig
	clock  clock
	record record

	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool
}

// serve answers the connections of l, which it owns from then on.
func serve(l net.Listener, config serverConfig, clock clock) *server {
	s := &server{config: config, clock: clock, listener: l, conns: map[net.Conn]struct{}{}}
	s.running.Go(s.accept)
	return s
}

func (s *server) accept() {
	for {
		c, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors, most likely: those that wait in the backlog get their turn.
			time.Sleep(10 * time.Millisecond)
			continue
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			c.Close()
			return
		}
		s.conns[c] = struct{}{}
		s.mu.Unlock()
		s.record.opening(s.clock.now())
		s.running.Go(func() { s.converse(c.(*net.TCPConn)) })
	}
}

// converse reads from the connection until it ends; a second goroutine writes, so that a request
// which arrives while an answer is still being written is seen when it arrives.
func (s *server) converse(c *net.TCPConn) {
	r := newReader(s, c)
	// a client that pipelines further than this is read no further
	answers := make(chan request, 64)
	written := make(chan struct{})
	go func() {
		defer close(written)
		s.answer(c, answers)
	}()
	r.readAll(answers)
	close(answers)
	<-written
	c.Close()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.record.closing(r.stream)
}

// answer writes the greeting and the answers, until there are no more or the client is gone.
func (s *server) answer(c *net.TCPConn, requests <-chan request) {
	var w answerWriter
	w.conn, w.config = c, &s.config
	if s.config.greeting > 0 {
		w.write(0, greetingNumber, max(s.config.greeting, answerHeader))
	}
	for q := range requests { // to the end also where writing fails: the reader must not be held up
		if s.config.think > 0 {
			time.Sleep(s.config.think)
		}
		w.write(q.conn, q.num, s.config.answerSize(int(q.answer)))
		if w.answers++; w.answers == s.config.closeAfter {
			c.CloseWrite()
		}
	}
}

// reopen starts a server that was closed again, with the same record.
func (s *server) reopen(l net.Listener) {
	s.mu.Lock()
	s.listener, s.closed = l, false
	s.mu.Unlock()
	s.running.Go(s.accept)
}

func (s *server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// close ends all connections and waits until the record is complete.
func (s *server) close() {
	s.listener.Close()
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}
