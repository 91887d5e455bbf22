package lab

import (
	"bufio"
	"net"
	"slices"
	"sync"
)

// echo is a server that answers each line with the same line, or speaks a little of MySQL.
type echo struct {
	listener net.Listener
	load     loadFault
	mu       sync.Mutex
	fault    serverFault
	lines    []string
	open     map[net.Conn]bool
}

func serveEcho(l net.Listener, fault serverFault, load loadFault) *echo {
	e := &echo{listener: l, fault: fault, load: load, open: map[net.Conn]bool{}}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go e.answer(c)
		}
	}()
	return e
}

func (e *echo) answer(c net.Conn) {
	e.mu.Lock()
	e.open[c] = true
	e.mu.Unlock()
	defer c.Close()
	switch {
	case e.fault == closesAtOnce:
		return
	case e.load == sqlLoad:
		e.answerSQL(c)
		return
	}
	for requests := bufio.NewReader(c); ; {
		line, err := requests.ReadString('\n')
		if err != nil {
			return
		}
		e.mu.Lock()
		e.lines = append(e.lines, line)
		e.mu.Unlock()
		if e.fault == answersNothing {
			continue
		}
		if _, err := c.Write([]byte(line)); err != nil {
			return
		}
	}
}

// count returns how many requests there were so far.
func (e *echo) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.lines)
}

// received returns the requests so far.
func (e *echo) received() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.lines)
}

func (e *echo) close() {
	if e.listener != nil {
		e.listener.Close()
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.open {
		c.Close()
	}
}
