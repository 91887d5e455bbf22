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
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/lab/netlab"
)

// A process may hold 20,000 descriptors on many a host, so the servers and clients of a crowd are
// processes of their own: this test binary, started with a job in its environment.
const (
	crowdJob   = "TCPCOPY_E2E_CROWD"
	crowdReady = "crowd: ready"
	crowdState = "crowd: open "
	crowdForm  = crowdState + "%d opened %d lines %d bytes %d digest %d late %d\n"

	soReusePort = 15 // SO_REUSEPORT
)

// tally is what a server, or the clients of one process, have heard or said: in whichever order,
// since all lines differ.
type tally struct {
	open, opened, lines, bytes, digest uint64
	// late is within how many milliseconds 99 % of the lines came that were said in rounds.
	late uint64
}

// delays counts how long lines took from the client, by milliseconds.
type delays [10_000]atomic.Uint64

// note notes a line of a round, which tells when it was said.
func (d *delays) note(line []byte) {
	if _, said, ok := bytes.Cut(line, []byte(" said at ")); ok {
		at, _ := strconv.ParseInt(string(bytes.TrimSpace(said)), 10, 64)
		d[min(time.Since(time.UnixMicro(at)).Milliseconds(), int64(len(d)-1))].Add(1)
	}
}

// p99 returns within how many milliseconds 99 % of the lines came.
func (d *delays) p99() (ms uint64) {
	var all, come uint64
	for i := range d {
		all += d[i].Load()
	}
	for come = d[0].Load(); come*100 < all*99; come += d[ms].Load() {
		ms++
	}
	return ms
}

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
	a.late = max(a.late, b.late)
}

// said is what was said, without how many connections are open, and how late it was.
func (a tally) said() tally { a.open, a.late = 0, 0; return a }

// workCrowd does a job: "serve ADDRESS", or "ask NAME FIRST COUNT ADDRESS LINES RATE". It tells its
// tally at each SIGUSR1.
func workCrowd(job string) int {
	var all tally
	var late delays
	tell := make(chan os.Signal, 1)
	signal.Notify(tell, syscall.SIGUSR1)
	go func() {
		for range tell {
			fmt.Printf(crowdForm, atomic.LoadUint64(&all.open), atomic.LoadUint64(&all.opened),
				atomic.LoadUint64(&all.lines), atomic.LoadUint64(&all.bytes),
				atomic.LoadUint64(&all.digest), late.p99())
		}
	}()
	var err error
	if words := strings.Fields(job); words[0] == "serve" {
		err = serveCrowd(&all, &late, words[1])
	} else {
		a := asking{all: &all, name: words[1], address: words[4]}
		fmt.Sscan(words[2], &a.first)
		fmt.Sscan(words[3], &a.count)
		fmt.Sscan(words[5], &a.lines)
		fmt.Sscan(words[6], &a.rate)
		err = a.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "crowd:", err)
		return 1
	}
	return 0
}

// serveCrowd sends back what each connection sends, and holds all of them. Several processes may
// share an address.
func serveCrowd(all *tally, late *delays, address string) error {
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
		go echo(all, late, c)
	}
}

// echo is io.Copy without splice(2), which takes a pipe for each connection.
func echo(all *tally, late *delays, c net.Conn) {
	defer all.closed()
	defer c.Close()
	var buf [128]byte
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
				late.note(line)
			}
			have = 0
		}
		if _, err := c.Write(fresh); err != nil {
			return
		}
	}
}

// asking is a process's clients.
type asking struct {
	all     *tally
	name    string
	first   int // address
	count   int // of connections
	address string
	lines   int // of a round; 0: one on each connection
	rate    int // lines of a round in a second; 0: as fast as they are answered
	conns   []net.Conn
	said    []int // lines, by connection
}

// run opens connections, each from an address of its own, and says a line on each; a round more at
// SIGUSR2; and at SIGTERM it ends all of them in order.
func (a *asking) run() error {
	next := make(chan os.Signal, 1)
	signal.Notify(next, syscall.SIGUSR2, syscall.SIGTERM)
	a.conns, a.said = make([]net.Conn, a.count), make([]int, a.count)
	if a.lines == 0 {
		a.lines = a.count
	}
	err := a.each(a.count, 0, func(i int) (err error) {
		d := net.Dialer{Timeout: patience,
			LocalAddr: &net.TCPAddr{IP: netlab.CrowdAddr(a.first + i).AsSlice()}}
		if a.conns[i], err = d.Dial("tcp", a.address); err != nil {
			return err
		}
		a.all.accepted()
		return a.say(i, "")
	})
	for err == nil {
		fmt.Println(crowdReady)
		if <-next == syscall.SIGTERM {
			break
		}
		err = a.each(a.lines, a.rate, func(i int) error {
			return a.say(i, fmt.Sprintf(" said at %d", time.Now().UnixMicro()))
		})
	}
	if err != nil {
		return err
	}
	return a.each(a.count, 0, func(i int) error {
		defer a.conns[i].Close()
		defer a.all.closed()
		if err := a.conns[i].(*net.TCPConn).CloseWrite(); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, a.conns[i])
		return err
	})
}

// each does something n times, with the connections in turn, and 16 of them at once.
func (a *asking) each(n, rate int, do func(i int) error) error {
	const atOnce = 16
	begun := time.Now()
	var workers sync.WaitGroup
	errs := make([]error, atOnce)
	for w := range atOnce {
		workers.Go(func() {
			for k := range n {
				i := k % a.count
				if i%atOnce != w {
					continue
				}
				if rate > 0 {
					due := time.Duration(k) * time.Second / time.Duration(rate)
					wait(time.Until(begun.Add(due)))
				}
				if errs[w] = do(i); errs[w] != nil {
					return
				}
			}
		})
	}
	workers.Wait()
	return errors.Join(errs...)
}

// say says a line on a connection, and waits for the same as an answer.
func (a *asking) say(i int, more string) error {
	c := a.conns[i]
	line := fmt.Appendf(nil, "%s connection %d line %d%s\n", a.name, i, a.said[i], more)
	a.said[i]++
	if _, err := c.Write(line); err != nil {
		return err
	}
	answer := make([]byte, len(line))
	if _, err := io.ReadFull(c, answer); err != nil || !bytes.Equal(answer, line) {
		return fmt.Errorf("said %q, answered %q: %w", line, answer, err)
	}
	a.all.note(line)
	return nil
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
		if _, err := fmt.Sscanf(last, crowdForm, &one.open, &one.opened, &one.lines, &one.bytes,
			&one.digest, &one.late); err != nil {
			p.t.Fatalf("%q: %v", last, err)
		}
		all.add(one)
	}
	return all
}
