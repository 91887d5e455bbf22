package lab

import (
	"errors"
	"hash/crc32"
	"io"
	"net"
	"sync"
	"syscall"
	"time"

	"tcpcopy/internal/sys"
)

// Sizes of what a server reads and writes at once. An idle connection costs the small buffer alone.
const (
	smallBuffer = 2 << 10
	writeBuffer = 16 << 10
	largeBuffer = 64 << 10
)

var largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// reader reads one connection's requests and judges each.
//
// Early is judged by cause: when a request arrives whose client had seen n answers, the copy must
// have received those of them that this connection owes. Every answer's length is known when its
// request is read, so the byte at which it ends is too; the kernel says how many bytes the other
// side has acknowledged, which it does with the request's own segments at the latest. So a request
// is early where that count is short: no time is compared, and nothing depends on when the writer
// gets to run. What the kernel acknowledges between the arrival and this look at it goes unnoticed.
type reader struct {
	server *server
	conn   *net.TCPConn
	buf    []byte
	from   int // of buf: bytes from here to upTo wait to be parsed
	upTo   int
	readAt time.Duration

	owed     []owedAnswer // to requests read; the ones known to be acknowledged are gone
	answered uint64       // the byte at which the last of them ends
	greeted  uint64       // the byte at which the greeting ends
	acked    uint64       // what the kernel said last
	raw      syscall.RawConn
	ask      func(fd uintptr)

	stream  []arrival
	stalled bool
}

// owedAnswer is the answer to a request that was read.
type owedAnswer struct {
	num uint32
	end uint64 // of the bytes we write on this connection
}

func newReader(s *server, c *net.TCPConn) *reader {
	r := &reader{server: s, conn: c, buf: make([]byte, smallBuffer)}
	if s.config.greeting > 0 {
		n := max(s.config.greeting, answerHeader)
		r.answered = uint64(n + s.config.framing.answer.size(n))
		r.greeted = r.answered
	}
	r.raw, _ = c.SyscallConn() // fails only for a connection that is closed
	r.ask = func(fd uintptr) {
		if n, err := sys.TCPBytesAcked(int(fd)); err == nil {
			r.acked = max(r.acked, n)
		}
	}
	return r
}

// readAll reads requests until the connection ends or is broken by a corrupted header, and passes
// on each one that wants an answer.
func (r *reader) readAll(answers chan<- request) {
	d := &r.server.config.framing
	for {
		inside, began, err := d.request.readHeader(r.next)
		if errors.Is(err, errEnvelope) {
			r.corrupted("%v", err)
			return
		}
		header, at, err := r.next(requestHeader)
		if err != nil {
			if r.upTo > r.from {
				r.corrupted("the connection ended inside a request's header")
			}
			return
		}
		var q request
		if inside >= 0 {
			at = began
		}
		if !q.parse(header) || inside >= 0 && inside != requestHeader+int(q.length) {
			r.corrupted("header % x", header)
			return // where the next one begins is not known
		}
		// before the payload is waited for: an early one must be seen when it comes
		early := r.early(&q)
		sum, err := r.payloadSum(int(q.length))
		if err == nil && d.request.tail != "" {
			var tail []byte
			if tail, _, err = r.next(len(d.request.tail)); string(tail) != d.request.tail {
				r.corrupted("connection %d request %d: ends with %q", q.conn, q.num, tail)
			}
		}
		if err != nil {
			r.corrupted("connection %d request %d: the connection ended inside its payload", q.conn,
				q.num)
			return
		}
		if sum != q.sum {
			r.corrupted("connection %d request %d: payload of %d bytes differs", q.conn, q.num,
				q.length)
		}
		if early {
			r.server.record.early.Add(1)
		}
		r.stream = append(r.stream, arrival{q.conn, q.num, at, early})
		r.server.record.last.Store(int64(r.readAt))
		r.server.record.requests.Add(1)
		size := r.server.config.answerSize(int(q.answer))
		r.answered += uint64(size + d.answer.size(size))
		r.owed = append(r.owed, owedAnswer{q.num, r.answered})
		answers <- q
	}
}

func (r *reader) corrupted(format string, args ...any) {
	if r.server.isClosed() {
		return // cut off by us
	}
	r.server.record.corrupted.Add(1)
	r.server.record.example("corrupted: "+format, args...)
}

// early reports whether q arrived before the other side had acknowledged the answers that its
// client had seen.
func (r *reader) early(q *request) bool {
	var need uint64
	if q.flags&flagGreeted != 0 {
		need = r.greeted
	}
	past := 0
	for past < len(r.owed) && r.owed[past].num < q.seen {
		need = r.owed[past].end
		past++
	}
	if need > r.acked && r.raw != nil {
		r.raw.Control(r.ask)
	}
	if need > r.acked {
		r.server.record.example("early: connection %d request %d: its client had seen %d "+
			"answers, of which byte %d was not acknowledged here (%d were)",
			q.conn, q.num, q.seen, need, r.acked)
		return true
	}
	r.owed = r.owed[:copy(r.owed, r.owed[past:])]
	return false
}

// next returns the next n bytes, which hold until it is called again, and when the first of them
// came.
func (r *reader) next(n int) ([]byte, time.Duration, error) {
	if r.from == r.upTo {
		r.from, r.upTo = 0, 0
	}
	if len(r.buf)-r.from < n {
		r.upTo = copy(r.buf, r.buf[r.from:r.upTo])
		r.from = 0
	}
	at := r.readAt
	for first := r.upTo == r.from; r.upTo-r.from < n; first = false {
		got, err := r.read(r.buf[r.upTo:])
		r.upTo += got
		if got > 0 && first {
			at = r.readAt
		}
		if err != nil && r.upTo-r.from < n {
			return nil, 0, err
		}
	}
	b := r.buf[r.from : r.from+n]
	r.from += n
	return b, at, nil
}

func (r *reader) read(b []byte) (int, error) {
	if stall := r.server.config.stall; stall > 0 && !r.stalled && len(r.stream) > 0 {
		r.stalled = true
		time.Sleep(stall)
	}
	n, err := r.conn.Read(b)
	if n > 0 {
		r.readAt = r.server.clock.now()
		r.server.record.bytes.Add(int64(n))
	}
	return n, err
}

// payloadSum reads n bytes of payload and returns their sum.
func (r *reader) payloadSum(n int) (uint32, error) {
	have := min(n, r.upTo-r.from)
	sum := crc32.Checksum(r.buf[r.from:r.from+have], castagnoli)
	r.from += have
	if n -= have; n == 0 {
		return sum, nil
	}
	large := largeBuffers.Get().(*[largeBuffer]byte)
	defer largeBuffers.Put(large)
	for n > 0 {
		got, err := r.read(large[:min(n, largeBuffer)])
		sum = crc32.Update(sum, castagnoli, large[:got])
		n -= got
		if err != nil && n > 0 {
			return 0, io.ErrUnexpectedEOF
		}
	}
	return sum, nil
}

// answerWriter writes one connection's answers.
type answerWriter struct {
	conn   net.Conn
	config *serverConfig
	buf    []byte
	failed bool

	answers int
}

// write sends an answer of size bytes, its header included.
func (w *answerWriter) write(conn, num uint32, size int) {
	if w.failed {
		return
	}
	body := payload(conn, num, size-answerHeader)
	a := answer{conn: conn, num: num, length: uint32(len(body)), sum: crc32.Checksum(body,
		castagnoli)}
	pieces := max(w.config.pieces, 1)
	// The header goes with the beginning of the payload; a long rest is sent from where it lies.
	head := len(body)
	if pieces == 1 {
		head = min(head, writeBuffer-answerHeader)
	}
	d := &w.config.framing.answer
	w.buf = d.put(w.buf[:0], size)
	at := len(w.buf)
	w.buf = append(w.buf, make([]byte, answerHeader)...)
	a.put(w.buf[at:])
	w.buf = append(w.buf, body[:head]...)
	if head == len(body) {
		w.buf = append(w.buf, d.tail...)
	}
	for b, left := w.buf, pieces; left > 0; left-- {
		if left < pieces {
			time.Sleep(w.config.pause)
		}
		n := len(b) / left
		w.send(b[:n])
		b = b[n:]
	}
	if head < len(body) {
		w.send(body[head:])
		w.send([]byte(d.tail))
	}
}

func (w *answerWriter) send(b []byte) {
	if w.failed || len(b) == 0 {
		return
	}
	if _, err := w.conn.Write(b); err != nil {
		w.failed = true // the client is gone; what it still sends is counted all the same
	}
}
