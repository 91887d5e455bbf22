package socket

import (
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/proto"
	"tcpcopy/internal/sys"
	"tcpcopy/internal/way"
)

const (
	eventsAtOnce = 256 // how many connections one wait reports
	readsAtOnce  = 4   // how many reads a connection gets before the next one's
	opensAtOnce  = 16  // how many connections open between two waits
	// batchesQueued is how many batches wait for the shard. Beyond that the poller waits, and later
	// events share a batch.
	batchesQueued = 1
)

// What a note reports.
const (
	noteOpened   = 1 << iota // connected: the shard may use the descriptor
	noteWritable             // the kernel takes bytes
	noteShut                 // the target has ended its direction
	noteOver                 // the connection is over: err says how, acked how far it came
	noteLost                 // its answers are not read any more
)

// note is what the poller reports to the shard about a connection.
type note struct {
	conn     *conn
	received uint64 // bytes that the target has sent in all
	acked    uint64 // with noteOver: bytes of the record that it had acknowledged
	err      syscall.Errno
	from, to int // what was found of its answers, in Batch.found
	what     uint8
}

// Batch is what the poller reports to the shard at once. It is for Output.Step alone.
type Batch struct {
	at    mono.Time
	notes []note
	found []found
	bytes []byte       // of answers
	list  []proto.Told // scratch space
}

// request is what the shard asks the poller to do.
type request struct {
	conn *conn
	kind uint8
}

const (
	askOpen  = iota // connect
	askCheck        // a write has failed: find out how the connection ended
	askClose        // close the descriptor, with a reset if the connection still lives
)

// polled is the poller's part of a connection.
type polled struct {
	target     netip.AddrPort
	from       netip.AddrPort // the client's own, of OpenFrom
	mark       uint32         // of OpenFrom
	header     []byte         // the PROXY protocol header, until it is sent
	received   uint64
	prev, next *conn // among those that are connecting, in the order of their deadlines
	deadline   mono.Time
	fd         int
	slot       uint32
	headerLen  uint16
	state      uint8
	shut       bool           // the target's FIN was read
	unread     bool           // it is in poller.unread
	ready      sys.EpollEvent // if it is, what it was ready for
	answers    *answers       // nil: they are discarded
}

// The states of a connection to the poller.
const (
	stateNew        = iota // no descriptor yet
	stateConnecting        // in the list of deadlines
	stateOpen              // the shard may use the descriptor
	stateOver              // noteOver was sent: the shard will ask to close
	// the shard has asked, but the target lacks bytes: it is in poller.lingering
	stateLingering
	stateClosed // the descriptor is closed
)

// slot is where a tag of epoll leads. A tag holds the slot's generation too, so that an event for a
// connection that was closed does not reach the one that has its slot now.
type slot struct {
	conn       *conn
	generation uint32
}

// poller is one goroutine and what it owns: all but the fields that the mutex guards.
type poller struct {
	cfg       Config
	epoll     *sys.Epoll
	connector connector
	batches   chan *Batch
	filled    way.Waker     // has a token when batches has been filled
	spare     chan *Batch   // given back by Step
	quit      chan struct{} // closed by close
	ended     chan struct{}

	hasInstructions atomic.Bool

	mu           sync.Mutex
	instructions []instruction
	asked        []request
	asleep       bool // the poller waits, or is about to: a request must wake it

	applying    []instruction  // swapped with instructions
	early       []*conn        // whose protocol has become known, and which may have spoken before
	room        []byte         // to read into
	scratch     []proto.Answer // for one reader at a time
	work        []request      // the requests being carried out; swapped with asked
	opening     []*conn        // that are to be opened, when everything else is done
	slots       []slot
	free        []uint32
	first, last *conn    // that are connecting, the earliest deadline first
	unread      []uint64 // tags of those that have more to read than readsAtOnce allowed
	again       []uint64 // those of the last round; swapped with unread
	lingering   []*conn
	batch       *Batch
}

func newPoller(cfg Config) (*poller, error) {
	epoll, err := sys.NewEpoll()
	if err != nil {
		return nil, err
	}
	p := &poller{
		cfg:     cfg,
		epoll:   epoll,
		batches: make(chan *Batch, batchesQueued),
		filled:  way.NewWaker(),
		spare:   make(chan *Batch, batchesQueued+2),
		quit:    make(chan struct{}),
		ended:   make(chan struct{}),
	}
	p.connector = newConnector(&p.cfg)
	return p, nil
}

// ask queues a request of the shard.
func (p *poller) ask(r request) {
	p.mu.Lock()
	p.asked = append(p.asked, r)
	p.mu.Unlock()
	p.wake()
}

// wake ends the poller's wait, so that it carries out requests and instructions.
func (p *poller) wake() {
	p.mu.Lock()
	wake := p.asleep
	p.asleep = false
	p.mu.Unlock()
	if wake {
		p.epoll.Wake()
	}
}

// recycle takes a batch back from the shard, for reuse.
func (p *poller) recycle(b *Batch) {
	clear(b.notes)
	b.notes, b.found, b.bytes = b.notes[:0], b.found[:0], b.bytes[:0]
	select {
	case p.spare <- b:
	default:
	}
}

// close ends the poller's goroutine. It is for the shard's.
func (p *poller) close() {
	close(p.quit)
	p.epoll.Wake()
	<-p.ended
	p.epoll.Close()
}

// start starts the goroutine, on a thread of its own if it has to enter another namespace.
func (p *poller) start() error {
	if p.cfg.Enter == nil {
		go p.run()
		return nil
	}
	entered := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := p.cfg.Enter()
		entered <- err
		if err == nil {
			p.run()
		}
	}()
	return <-entered
}

// run is the poller's goroutine.
func (p *poller) run() {
	defer close(p.ended)
	defer close(p.batches)
	defer p.closeAll()
	evs := make([]sys.EpollEvent, eventsAtOnce)
	for {
		select {
		case <-p.quit:
			return
		default:
		}
		n, err := p.epoll.Wait(evs, p.timeout())
		if err != nil {
			panic(err) // a descriptor or buffer of ours is wrong: no input leads here
		}
		now := p.cfg.Now()
		p.batch = p.newBatch(now)
		p.readAgain()
		for i := range evs[:n] {
			if c := p.lookup(evs[i].Tag()); c != nil {
				p.handle(c, &evs[i])
			}
		}
		p.takeInstructions()
		p.feedEarly()
		p.carryOut(now)
		p.expire(now)
		p.checkLingering(now)
		p.deliver()
	}
}

// deliver hands the batch to the shard, and waits until there is room for it.
func (p *poller) deliver() {
	b := p.batch
	p.batch = nil
	if len(b.notes) == 0 {
		p.recycle(b)
		return
	}
	select {
	case p.batches <- b:
		p.filled.Wake()
	case <-p.quit:
	}
}

// newBatch returns an empty batch.
func (p *poller) newBatch(now mono.Time) *Batch {
	select {
	case b := <-p.spare:
		b.at = now
		return b
	default:
		return &Batch{at: now}
	}
}

// note adds a note about a connection to the batch.
func (p *poller) note(c *conn, what uint8) *note {
	p.batch.notes = append(p.batch.notes, note{conn: c, received: c.polled.received, what: what})
	return &p.batch.notes[len(p.batch.notes)-1]
}

// noteFrom is note with what was found of the connection's answers since Batch.found had the
// length from.
func (p *poller) noteFrom(c *conn, what uint8, from int) *note {
	n := p.note(c, what)
	n.from, n.to = from, len(p.batch.found)
	if c.polled.answers != nil {
		c.polled.answers.noteLoss(n)
	}
	return n
}

// timeout returns how long the poller may wait before it has to look at its queues and deadlines.
func (p *poller) timeout() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.asked) > 0 || len(p.unread) > 0 || len(p.instructions) > 0 || len(p.opening) > 0 {
		return 0
	}
	p.asleep = true
	wait := time.Duration(-1)
	if p.first != nil {
		wait = max(p.first.polled.deadline.Sub(p.cfg.Now()), 0)
	}
	if len(p.lingering) > 0 && (wait < 0 || wait > lingerCheck) {
		wait = lingerCheck
	}
	return wait
}

// carryOut carries out the shard's requests. It opens few connections at once, so that what comes
// from the others is not kept waiting.
func (p *poller) carryOut(now mono.Time) {
	p.mu.Lock()
	p.work, p.asked = p.asked, p.work[:0]
	p.asleep = false
	p.mu.Unlock()
	for i, r := range p.work {
		p.work[i] = request{}
		switch r.kind {
		case askOpen:
			p.opening = append(p.opening, r.conn)
		case askCheck:
			if r.conn.polled.state == stateOpen {
				fd := r.conn.polled.fd
				p.finish(r.conn, 0, sys.TakeError(fd), sys.StatusTCP(fd), len(p.batch.found))
			}
		case askClose:
			p.closeConn(now, r.conn)
		}
	}
	n := min(len(p.opening), opensAtOnce)
	for _, c := range p.opening[:n] {
		if c.polled.state == stateNew {
			p.open(now, c)
		}
	}
	p.opening = slices.Delete(p.opening, 0, n)
}

// open begins to connect.
func (p *poller) open(now mono.Time, c *conn) {
	s := &c.polled
	fd, err := p.connector.connect(s)
	if err != nil {
		s.state = stateClosed
		p.note(c, noteOver).err = errnoOf(err)
		return
	}
	s.fd, s.state = fd, stateConnecting
	s.deadline = now.Add(p.cfg.ConnectTimeout)
	tag := p.takeSlot(c)
	p.enlist(c)
	if err := p.epoll.Add(fd, tag); err != nil {
		p.fail(c, errnoOf(err))
	}
}

// fail ends a connection that has not opened, whose descriptor the shard has never used.
func (p *poller) fail(c *conn, errno syscall.Errno) {
	p.release(c)
	p.note(c, noteOver).err = errno
}

// release closes the descriptor, with a reset if the connection still lives.
func (p *poller) release(c *conn) {
	s := &c.polled
	switch s.state {
	case stateNew, stateClosed:
		s.state = stateClosed
		return
	case stateConnecting:
		p.delist(c)
	}
	s.state = stateClosed
	if s.answers != nil {
		s.answers.follower.Digest(nil)
	}
	p.slots[s.slot].conn = nil
	p.slots[s.slot].generation++
	p.free = append(p.free, s.slot)
	sys.ResetTCP(s.fd)
	s.fd = -1
}

// expire fails the connections that have been connecting for too long.
func (p *poller) expire(now mono.Time) {
	for p.first != nil && p.first.polled.deadline.Reached(now) {
		p.fail(p.first, syscall.ETIMEDOUT)
	}
}

// takeSlot gives a connection a slot, and returns its tag.
func (p *poller) takeSlot(c *conn) (tag uint64) {
	if n := len(p.free); n > 0 {
		c.polled.slot = p.free[n-1]
		p.free = p.free[:n-1]
	} else {
		c.polled.slot = uint32(len(p.slots))
		p.slots = append(p.slots, slot{})
	}
	s := &p.slots[c.polled.slot]
	s.conn = c
	return uint64(s.generation)<<32 | uint64(c.polled.slot)
}

// lookup returns the connection of a tag; nil if it was closed.
func (p *poller) lookup(tag uint64) *conn {
	if i := uint32(tag); int(i) < len(p.slots) && p.slots[i].generation == uint32(tag>>32) {
		return p.slots[i].conn
	}
	return nil
}

// enlist appends c to the connections that are connecting. All wait equally long, so that the list
// is in the order of deadlines.
func (p *poller) enlist(c *conn) {
	c.polled.prev = p.last
	if p.last != nil {
		p.last.polled.next = c
	} else {
		p.first = c
	}
	p.last = c
}

// delist removes c from the connections that are connecting.
func (p *poller) delist(c *conn) {
	s := &c.polled
	if s.prev != nil {
		s.prev.polled.next = s.next
	} else {
		p.first = s.next
	}
	if s.next != nil {
		s.next.polled.prev = s.prev
	} else {
		p.last = s.prev
	}
	s.prev, s.next = nil, nil
}
