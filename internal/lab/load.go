package lab

import (
	"bufio"
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// dialFunc connects to production; i spreads the connections over the client's addresses.
type dialFunc func(ctx context.Context, i int) (*net.TCPConn, error)

// maxDialing bounds how many connections are being opened at the same time.
const maxDialing = 32

// answerTimeout is how long a client waits for the next byte of an answer.
const answerTimeout = 30 * time.Second

// load runs the clients, which check every answer of production.
type load struct {
	scenario Scenario
	framing  framing
	rate     float64 // requests a second over all clients; 0: no bound
	dial     dialFunc
	dialing  chan struct{}

	opened   atomic.Uint32 // connections, which numbers them
	sent     atomic.Int64  // requests
	answered atomic.Int64
	failed   atomic.Int64 // connections that ended otherwise than they should

	mu    sync.Mutex
	first error // the first failure
}

// run plays the scenario. It returns when all clients have ended, or soon after ctx.
func (l *load) run(ctx context.Context) {
	l.dialing = make(chan struct{}, maxDialing)
	end := time.Now().Add(l.scenario.Duration)
	if l.scenario.Total > 0 {
		end = time.Time{}
	}
	var clients sync.WaitGroup
	for i := range l.scenario.Conns {
		clients.Go(func() {
			c := client{load: l, index: i, random: rand.New(rand.NewPCG(uint64(i), 3)), end: end}
			c.run(ctx)
		})
	}
	clients.Wait()
}

func (l *load) fail(err error) {
	l.failed.Add(1)
	l.mu.Lock()
	if l.first == nil {
		l.first = err
	}
	l.mu.Unlock()
}

// client opens one connection after the other.
type client struct {
	load   *load
	index  int
	random *rand.Rand
	end    time.Time // zero: none
	next   time.Time // when the next batch is due at the load's rate
	timer  *time.Timer
	buf    []byte

	conn  *net.TCPConn
	reply *bufio.Reader
	id    uint32
	seen  uint32
	flags uint32
}

func (c *client) over() bool { return !c.end.IsZero() && !time.Now().Before(c.end) }

func (c *client) run(ctx context.Context) {
	s := &c.load.scenario
	c.timer = time.NewTimer(0)
	<-c.timer.C
	c.reply = bufio.NewReaderSize(nil, smallBuffer)
	// Clients start at different times.
	if start := min(s.Think+s.ServerThink, 2*time.Second) +
		time.Duration(s.Conns)*time.Second/8000; !c.sleep(ctx,
		time.Duration(c.random.Int64N(int64(start)+1))) {
		return
	}
	for ctx.Err() == nil && !c.over() {
		c.id = c.load.opened.Add(1) - 1
		if s.Total > 0 && int(c.id) >= s.Total {
			return
		}
		if err := c.converse(ctx); err != nil {
			if ctx.Err() != nil {
				return
			}
			c.load.fail(fmt.Errorf("client connection %d: %w", c.id, err))
			c.sleep(ctx, 100*time.Millisecond)
		}
		if s.Total > 0 || s.Requests > 0 {
			c.think(ctx)
		}
	}
}

// converse opens a connection, exchanges requests on it and closes it.
func (c *client) converse(ctx context.Context) error {
	s := &c.load.scenario
	c.load.dialing <- struct{}{}
	conn, err := c.load.dial(ctx, c.index)
	<-c.load.dialing
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	c.conn, c.seen, c.flags = conn, 0, 0
	c.reply.Reset(conn)
	if s.Greeting > 0 {
		if err := c.await(0, greetingNumber, s.Greeting); err != nil {
			return fmt.Errorf("greeting: %w", err)
		}
		c.flags = flagGreeted
	}
	batch := max(s.Batch, 1)
	for num := 0; s.Requests == 0 || num < s.Requests; num += batch {
		if num > 0 && !c.think(ctx) {
			return ctx.Err()
		}
		if !c.pace(ctx, batch) {
			return ctx.Err()
		}
		if c.over() {
			break
		}
		if err := c.exchange(num, batch); err != nil {
			return err
		}
	}
	if s.ServerCloses {
		if _, err := c.reply.ReadByte(); err != io.EOF {
			return fmt.Errorf("wait for the server to close: %v", err)
		}
	}
	if s.Reset {
		conn.SetLinger(0)
	}
	return nil
}

// exchange sends a batch of requests and awaits their answers.
func (c *client) exchange(num, batch int) error {
	s := &c.load.scenario
	c.conn.SetDeadline(time.Now().Add(answerTimeout))
	c.buf = c.buf[:0]
	for i := range batch {
		body := payload(c.id, uint32(num+i), s.RequestBytes-requestHeader)
		q := request{
			conn: c.id, num: uint32(num +
				i), seen: c.seen, length: uint32(len(body)), answer: uint32(s.AnswerBytes),
			flags: c.flags, sum: crc32.Checksum(body, castagnoli),
		}
		w := &c.load.framing.request
		c.buf = w.put(c.buf, requestHeader+len(body))
		at := len(c.buf)
		c.buf = append(append(c.buf, make([]byte, requestHeader)...), body...)
		q.put(c.buf[at:])
		c.buf = append(c.buf, w.tail...)
		if i+1 < batch && len(c.buf) < largeBuffer {
			continue
		}
		if err := c.send(c.buf); err != nil {
			return err
		}
		c.buf = c.buf[:0]
	}
	c.load.sent.Add(int64(batch))
	for i := range batch {
		if err := c.await(c.id, uint32(num+i), s.AnswerBytes); err != nil {
			return fmt.Errorf("answer %d: %w", num+i, err)
		}
		c.seen++
		c.load.answered.Add(1)
	}
	return nil
}

// send writes b, in as many pieces as the scenario says.
func (c *client) send(b []byte) error {
	s := &c.load.scenario
	for left := max(s.Pieces, 1); left > 0; left-- {
		n := len(b) / left
		if _, err := c.conn.Write(b[:n]); err != nil {
			return err
		}
		if b = b[n:]; left > 1 {
			time.Sleep(s.PieceGap)
		}
	}
	return nil
}

// await reads an answer and checks every byte of it.
func (c *client) await(conn, num uint32, size int) error {
	length := max(size, answerHeader)
	w := &c.load.framing.answer
	var room [96]byte
	before := w.put(room[:0], length)
	header, err := c.reply.Peek(len(before) + answerHeader)
	if err != nil {
		return err
	}
	if got := header[:len(before)]; string(got) != string(before) {
		return fmt.Errorf("an answer of %d bytes begins with %q", length, got)
	}
	var a answer
	if !a.parse(header[len(before):]) {
		return fmt.Errorf("header % x", header)
	}
	if a.conn != conn || a.num != num || int(a.length) != length-answerHeader {
		return fmt.Errorf("got %d bytes for connection %d number %d, wanted %d for %d and %d",
			a.length, a.conn, a.num, length-answerHeader, conn, num)
	}
	c.reply.Discard(len(header))
	sum, err := c.sum(int(a.length))
	if err == nil && sum != a.sum {
		err = fmt.Errorf("payload of %d bytes differs", a.length)
	}
	if err != nil {
		return err
	}
	tail, err := c.reply.Peek(len(w.tail))
	if err == nil && string(tail) != w.tail {
		err = fmt.Errorf("an answer ends with %q, wanted %q", tail, w.tail)
	}
	c.reply.Discard(len(tail))
	return err
}

func (c *client) sum(n int) (uint32, error) {
	large := largeBuffers.Get().(*[largeBuffer]byte)
	defer largeBuffers.Put(large)
	sum := uint32(0)
	for n > 0 {
		part := large[:min(n, largeBuffer)]
		if _, err := io.ReadFull(c.reply, part); err != nil {
			return 0, err
		}
		sum = crc32.Update(sum, castagnoli, part)
		n -= len(part)
	}
	return sum, nil
}

// think waits for the client's pause, at most until the load's time is over. It returns false if
// ctx ended.
func (c *client) think(ctx context.Context) bool {
	d := c.load.scenario.Think
	if c.load.scenario.Spread {
		d = time.Duration(c.random.Int64N(2*int64(d) + 1))
	}
	if !c.end.IsZero() {
		d = min(d, time.Until(c.end))
	}
	return c.sleep(ctx, d)
}

// pace waits until a batch is due at the load's rate.
func (c *client) pace(ctx context.Context, batch int) bool {
	if c.load.rate <= 0 {
		return true
	}
	requests := float64(batch * c.load.scenario.Conns)
	interval := time.Duration(requests / c.load.rate * float64(time.Second))
	now := time.Now()
	if c.next.IsZero() {
		c.next = now.Add(time.Duration(c.random.Int64N(int64(interval) + 1)))
	}
	due := c.next
	if c.next = c.next.Add(interval); c.next.Before(now) {
		c.next = now // what could not be kept is not made up for
	}
	if !c.end.IsZero() && due.After(c.end) {
		due = c.end
	}
	return c.sleep(ctx, due.Sub(now))
}

func (c *client) sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	c.timer.Reset(d)
	select {
	case <-c.timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
