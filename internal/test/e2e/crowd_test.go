package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"tcpcopy/internal/lab/netlab"
)

// A process may hold 20,000 descriptors on many a host, so the servers and clients of a crowd are
// processes of their own: this test binary, started with a job in its environment.
const (
	crowdJob   = "TCPCOPY_E2E_CROWD"
	crowdReady = "crowd: ready"
	crowdState = "crowd: open "

	soReusePort = 15 // SO_REUSEPORT
)

// tally is what a server, or the clients of one process, have heard or said: in whichever order,
// since all lines differ.
type tally struct{ open, opened, lines, bytes, digest uint64 }

func (a *tally) note(line []byte) {
	h := fnv.New64a()
	h.Write(line)
	atomic.AddUint64(&a.lines, 1)
	atomic.AddUint64(&a.bytes, uint64(len(line)))
	atomic.AddUint64(&a.digest, h.Sum64())
}

func (a *tally) accepted() {
	atomic.AddUint64(&a.open, 1)
	atomic.AddUint64(&a.opened, 1)
}

func (a *tally) closed() { atomic.AddUint64(&a.open, ^uint64(0)) }

func (a *tally) add(b tally) {
	a.open += b.open
	a.opened += b.opened
	a.lines += b.lines
	a.bytes += b.bytes
	a.digest += b.digest
}

// said is what was said, without how many connections are open.
func (a tally) said() tally { a.open = 0; return a }

// workCrowd does a job: "serve ADDRESS", or "ask NAME FIRST COUNT ADDRESS". It tells its tally at
// each SIGUSR1.
func workCrowd(job string) int {
	var all tally
	tell := make(chan os.Signal, 1)
	signal.Notify(tell, syscall.SIGUSR1)
	go func() {
		for range tell {
			fmt.Printf(crowdState+"%d opened %d lines %d bytes %d digest %d\n",
				atomic.LoadUint64(&all.open), atomic.LoadUint64(&all.opened),
				atomic.LoadUint64(&all.lines), atomic.LoadUint64(&all.bytes),
				atomic.LoadUint64(&all.digest))
		}
	}()
	var err error
	if words := strings.Fields(job); words[0] == "serve" {
		err = serveCrowd(&all, words[1])
	} else {
		var first, count int
		fmt.Sscan(words[2], &first)
		fmt.Sscan(words[3], &count)
		err = askCrowd(&all, words[1], first, count, words[4])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "crowd:", err)
		return 1
	}
	return 0
}

// serveCrowd sends back what each connection sends, and holds all of them. Several processes may
// share an address.
func serveCrowd(all *tally, address string) error {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if failed := c.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, soReusePort, 1)
		}); failed != nil {
			return failed
		}
		return err
	}}
	l, err := config.Listen(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	fmt.Println(crowdReady)
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		all.accepted()
		go echo(all, c)
	}
}

// echo is io.Copy without splice(2), which takes a pipe for each connection.
func echo(all *tally, c net.Conn) {
	defer all.closed()
	defer c.Close()
	var buf [64]byte
	have := 0 // of a line that is not whole
	for {
		n, err := c.Read(buf[have:])
		if err != nil {
			return
		}
		fresh := buf[have : have+n]
		if have += n; buf[have-1] == '\n' {
			for line := range bytes.Lines(buf[:have]) {
				all.note(line)
			}
			have = 0
		}
		if _, err := c.Write(fresh); err != nil {
			return
		}
	}
}

// askCrowd opens connections, each from an address of its own, and says a line on each; one more at
// SIGUSR2; and at SIGTERM it ends all of them in order.
func askCrowd(all *tally, name string, first, count int, address string) error {
	next := make(chan os.Signal, 1)
	signal.Notify(next, syscall.SIGUSR2, syscall.SIGTERM)
	conns := make([]net.Conn, count)
	each := func(do func(i int) error) error {
		const atOnce = 16
		var workers sync.WaitGroup
		errs := make([]error, atOnce)
		for w := range atOnce {
			workers.Go(func() {
				for i := w; i < count && errs[w] == nil; i += atOnce {
					errs[w] = do(i)
				}
			})
		}
		workers.Wait()
		return errors.Join(errs...)
	}
	say := func(round, i int) error {
		line := fmt.Appendf(nil, "%s connection %d line %d\n", name, i, round)
		if _, err := conns[i].Write(line); err != nil {
			return err
		}
		answer := make([]byte, len(line))
		if _, err := io.ReadFull(conns[i], answer); err != nil || !bytes.Equal(answer, line) {
			return fmt.Errorf("said %q, answered %q: %w", line, answer, err)
		}
		all.note(line)
		return nil
	}
	err := each(func(i int) (err error) {
		d := net.Dialer{Timeout: patience,
			LocalAddr: &net.TCPAddr{IP: netlab.CrowdAddr(first + i).AsSlice()}}
		if conns[i], err = d.Dial("tcp", address); err != nil {
			return err
		}
		all.accepted()
		return say(0, i)
	})
	for round := 1; err == nil; round++ {
		fmt.Println(crowdReady)
		if <-next == syscall.SIGTERM {
			break
		}
		err = each(func(i int) error { return say(round, i) })
	}
	if err != nil {
		return err
	}
	return each(func(i int) error {
		defer conns[i].Close()
		defer all.closed()
		if err := conns[i].(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, conns[i])
		return err
	})
}

// startCrowd starts a process of a crowd, and waits until it serves. One that asks is ready later.
func startCrowd(t testing.TB, host *netlab.Namespace, job ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(crowdJob, strings.Join(job, " "))
	p := start(t, host, job[0], self)
	if job[0] == "serve" {
		p.awaitOutput(crowdReady)
	}
	return p
}

// talliesOf asks processes of a crowd, and sums what they say.
func talliesOf(processes []*process) (all tally) {
	for _, p := range processes {
		p.t.Helper()
		was := strings.Count(p.output(), crowdState)
		p.signal(syscall.SIGUSR1)
		var output string
		eventually(p.t, p.name+" tells its tally", func() bool {
			output = p.output()
			return strings.Count(output, crowdState) > was && strings.HasSuffix(output, "\n")
		})
		var one tally
		last := output[strings.LastIndex(output, crowdState):]
		if _, err := fmt.Sscanf(last, crowdState+"%d opened %d lines %d bytes %d digest %d",
			&one.open, &one.opened, &one.lines, &one.bytes, &one.digest); err != nil {
			p.t.Fatalf("%q: %v", last, err)
		}
		all.add(one)
	}
	return all
}
