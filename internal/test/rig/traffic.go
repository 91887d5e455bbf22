package rig

import (
	"encoding/binary"
	"math/rand"
	"net/netip"
	"sort"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/shard"
)

// A request of the made-up protocol begins with its connection, its number, how many requests its
// client had seen answered when it sent it, its own length, and how the target answers it.
type request struct {
	conn, number, answered, length uint32
	reply                          uint32 // bytes of the target's answer
	delay                          uint32 // until it begins, in ms
}

const headSize = 26

func (q *request) append(b []byte) []byte {
	start := len(b)
	b = append(b, "RQ"...)
	for _, v := range []uint32{q.conn, q.number, q.answered, q.length, q.reply, q.delay} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	for len(b)-start < int(q.length) {
		b = append(b, byte(q.conn)^byte(q.number)^byte(len(b)-start))
	}
	return b
}

func readRequest(b []byte) (q request, ok bool) {
	if string(b[:2]) != "RQ" {
		return q, false
	}
	for i, v := range []*uint32{&q.conn, &q.number, &q.answered, &q.length, &q.reply, &q.delay} {
		*v = binary.BigEndian.Uint32(b[2+4*i:])
	}
	return q, q.length >= headSize && q.length < 1<<20
}

// Traffic is what a capture sees of many client connections: packets in order of time.
type Traffic struct {
	rng     *rand.Rand
	packets []shard.Packet
	conns   []*script
	steady  bool // equal answers of a target that is as fast as production
	clean   bool // nothing is lost on its way to the capture
}

// script is one client connection, and what of it must arrive.
type script struct {
	t      *Traffic
	n      uint32
	addr   netip.AddrPort
	isn    seqnum.Value
	irs    seqnum.Value
	now    mono.Time
	sent   int    // the client's bytes
	got    int    // the server's bytes
	number uint32 // requests so far

	from     uint32 // the first request that is captured
	lossy    bool   // some of it is not captured
	greets   int
	requests []request
	end      string
}

// add has a segment captured, unless it is to be lost.
func (c *script) add(at mono.Time, seg packet.Segment, fromServer bool) {
	seg.Src, seg.Dst = c.addr, Production
	if fromServer {
		seg.Src, seg.Dst = Production, c.addr
	}
	seg.Window = 1000
	if seg.Len == 0 {
		seg.Len = len(seg.Payload)
	}
	if c.number < c.from || c.lossy && c.t.rng.Intn(25) == 0 && !seg.Flags.Has(packet.SYN) {
		return // not captured
	}
	c.t.packets = append(c.t.packets, shard.Packet{Seg: seg, At: at, FromServer: fromServer,
		Ifindex: 1})
}

func (c *script) ms(from, to int) mono.Time {
	return mono.Time(from+c.t.rng.Intn(to-from+1)) * ms
}

// NewTraffic makes up connections of all kinds, from start on; all of it follows from the seed.
func NewTraffic(seed int64, conns int, start mono.Time) *Traffic {
	t := &Traffic{rng: rand.New(rand.NewSource(seed))}
	t.steady = t.rng.Intn(3) == 0
	t.clean = t.rng.Intn(3) == 0
	greets := 0
	if t.rng.Intn(3) == 0 {
		greets = 10 + t.rng.Intn(100)
	}
	for i := range conns {
		c := &script{t: t, n: uint32(i), now: start + mono.Time(t.rng.Intn(3000))*ms,
			greets: greets,
			addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(1 + i/50)}),
				uint16(20000+i*7)),
			isn: seqnum.Value(t.rng.Uint32()), irs: seqnum.Value(t.rng.Uint32())}
		if t.rng.Intn(4) == 0 {
			c.isn = -seqnum.Value(t.rng.Intn(5000))
		}
		switch t.rng.Intn(6) {
		case 0:
			c.lossy = !t.clean
		case 1:
			c.from = uint32(1 + t.rng.Intn(4))
		}
		c.play()
		t.conns = append(t.conns, c)
	}
	sort.SliceStable(t.packets, func(i, j int) bool { return t.packets[i].At < t.packets[j].At })
	return t
}

func (c *script) play() {
	c.add(c.now, packet.Segment{Seq: c.isn, Flags: packet.SYN,
		Opts: packet.Options{MSS: 1460, SACKPermitted: true}}, false)
	c.add(c.now+ms, packet.Segment{Seq: c.irs, Ack: c.isn + 1, Flags: packet.SYN | packet.ACK},
		true)
	c.add(c.now+2*ms, c.seg(c.sent, nil), false)
	c.now += 2 * ms
	if c.greets > 0 {
		c.answer(c.greets)
	}
	for range 1 + c.t.rng.Intn(8) {
		c.now += c.ms(0, 60)
		if c.t.rng.Intn(10) == 0 {
			c.now += c.ms(900, 1500)
		}
		c.turn()
	}
	switch c.t.rng.Intn(4) {
	case 0, 1:
		c.end = "FIN"
		fin := c.seg(c.sent, nil)
		fin.Flags |= packet.FIN
		c.add(c.now, fin, false)
		c.add(c.now+ms, packet.Segment{Seq: c.irs.Add(1 + c.got), Ack: c.isn.Add(2 + c.sent),
			Flags: packet.ACK | packet.FIN}, true)
		last := c.seg(c.sent+1, nil)
		last.Ack++
		c.add(c.now+2*ms, last, false)
	case 2:
		c.end = "RST"
		rst := c.seg(c.sent, nil)
		rst.Flags = packet.RST
		if c.t.rng.Intn(2) == 0 {
			rst.Flags |= packet.ACK
		}
		c.add(c.now, rst, false)
	}
}

func (c *script) seg(off int, payload []byte) packet.Segment {
	return packet.Segment{Seq: c.isn.Add(1 + off), Ack: c.irs.Add(1 + c.got), Flags: packet.ACK,
		Payload: payload}
}

// turn is some requests at once, and their answers.
func (c *script) turn() {
	rng := c.t.rng
	var b []byte
	answered, replies := c.number, 0
	many := 1
	if rng.Intn(4) == 0 {
		many = 1 + rng.Intn(4)
	}
	for i := range many {
		q := request{conn: c.n, number: c.number, answered: answered,
			length: uint32(headSize + rng.Intn(200)),
			delay:  uint32(rng.Intn(8))}
		if rng.Intn(15) == 0 {
			q.length += uint32(rng.Intn(30000))
		}
		reply := 1 + rng.Intn(400)
		q.reply = uint32(reply)
		if !c.t.steady {
			if i == 0 {
				q.delay = uint32(rng.Intn(400))
			}
			q.reply = uint32(1 + rng.Intn(2000))
		}
		b = q.append(b)
		replies += reply
		c.requests = append(c.requests, q)
		c.number++
	}
	c.number -= uint32(many) // add asks which request a packet belongs to
	last := c.cut(b)
	c.number += uint32(many)
	c.now = max(c.now, last) + c.ms(1, 20)
	c.answer(replies)
}

// cut sends b in segments, of which some come late or again.
func (c *script) cut(b []byte) (last mono.Time) {
	rng := c.t.rng
	size := []int{1460, 1460, 9000, 60000, 40, 7}[rng.Intn(6)]
	if size < 100 && len(b) > 1000 {
		size = 1460
	}
	for first := true; len(b) > 0; first = false {
		n := min(len(b), 1+rng.Intn(size))
		seg := c.seg(c.sent, b[:n])
		at := c.now
		if rng.Intn(12) == 0 && !first {
			at += c.ms(1, 300) // lost on its way, and sent again
		}
		c.add(at, seg, false)
		if rng.Intn(20) == 0 {
			c.add(at+c.ms(0, 50), seg, false) // sent twice
		}
		last = max(last, at)
		c.sent += n
		b = b[n:]
		c.now += c.ms(0, 1)
	}
	return last
}

// answer is what the server sends, acknowledged now and then.
func (c *script) answer(n int) {
	for n > 0 {
		part := min(n, 1+c.t.rng.Intn(300))
		c.add(c.now, packet.Segment{Seq: c.irs.Add(1 + c.got), Ack: c.isn.Add(1 + c.sent),
			Flags: packet.ACK, Len: part}, true)
		c.got += part
		n -= part
		c.now += ms
		if c.t.rng.Intn(2) == 0 {
			c.add(c.now, c.seg(c.sent, nil), false)
		}
	}
	c.now += ms
}

// CopyOf is one copy of a connection at the target program: it reads requests, compares them with
// what was sent, and answers.
type CopyOf struct {
	t        *TargetApp
	client   netip.AddrPort
	b        []byte // not read yet
	script   *script
	begun    bool
	head     bool // the head of the request in b was looked at
	first    uint32
	next     uint32    // the request that is due
	replied  uint32    // requests that were answered completely
	Busy     mono.Time // until the last answer is sent
	greeting bool
}

// TargetApp is the target program. It checks what comes against the traffic.
type TargetApp struct {
	Errorf func(string, ...any) // fails the test
	t      *Traffic
	seen   [][]uint32 // by connection: the requests that came
	plan   func(at mono.Time, do func(now mono.Time))
	// Patient accepts a turn that comes early: where packets are lost, silence proves nothing.
	Patient bool
}

// NewTargetApp returns a program that plans its answers by plan.
func NewTargetApp(t *Traffic,
	errorf func(string, ...any), plan func(mono.Time, func(mono.Time))) *TargetApp {
	return &TargetApp{Errorf: errorf, t: t, seen: make([][]uint32, len(t.conns)), plan: plan}
}

// Accept takes a new connection, on which say sends bytes.
func (a *TargetApp) Accept(now mono.Time, client netip.AddrPort,
	say func(now mono.Time, n int)) *CopyOf {
	c := &CopyOf{t: a, client: client, Busy: now}
	if len(a.t.conns) > 0 && a.t.conns[0].greets > 0 {
		a.plan(now+5*ms, func(now mono.Time) { say(now, a.t.conns[0].greets+3); c.greeting = true })
	}
	return c
}

// Heard takes in bytes of the copy.
func (c *CopyOf) Heard(now mono.Time, b []byte, say func(now mono.Time, n int)) {
	c.b = append(c.b, b...)
	for len(c.b) >= headSize {
		q, ok := readRequest(c.b)
		if !ok {
			c.t.Errorf("at %v: the copy's bytes %.30q, for %v, are no request", now, c.b, c.client)
			c.b = nil
			return
		}
		if !c.head {
			c.start(now, &q)
		}
		if len(c.b) < int(q.length) {
			return
		}
		if want := q.append(nil); string(want) != string(c.b[:q.length]) {
			c.t.Errorf("at %v: request %d of connection %d is not as it was sent", now, q.number,
				q.conn)
		}
		c.b, c.head = c.b[q.length:], false
		c.next = q.number + 1
		c.t.seen[q.conn] = append(c.t.seen[q.conn], q.number)
		c.answer(now, q, say)
	}
}

// start is the first that is heard of a request.
func (c *CopyOf) start(now mono.Time, q *request) {
	c.head = true
	if int(q.conn) >= len(c.t.seen) {
		c.t.Errorf("at %v: request of connection %d", now, q.conn)
		return
	}
	if !c.begun {
		c.begun, c.script, c.first, c.next, c.replied = true, c.t.t.conns[q.conn], q.number,
			q.number, q.number
		if q.answered != q.number {
			c.t.Errorf("at %v: a copy of connection %d begins with request %d, in the middle of "+
				"a turn", now, q.conn, q.number)
		}
	}
	if c.script.n != q.conn || q.number != c.next {
		c.t.Errorf("at %v: request %d of connection %d, wanted %d of %d", now, q.number, q.conn,
			c.next, c.script.n)
	}
	if q.answered > c.replied && !c.t.Patient {
		c.t.Errorf("at %v: request %d of connection %d came early: its client had seen %d "+
			"answers, the target has sent %d",
			now, q.number, q.conn, q.answered, c.replied)
	}
	if c.script.greets > 0 && !c.greeting {
		c.t.Errorf("at %v: request %d of connection %d came before the greeting", now, q.number,
			q.conn)
	}
}

// answer plans the answer: after its delay, in pieces.
func (c *CopyOf) answer(now mono.Time, q request, say func(now mono.Time, n int)) {
	at := max(now, c.Busy) + mono.Time(q.delay)*ms
	for left := int(q.reply); left > 0; {
		part := min(left, 1+int(q.number*37+q.reply*11)%700)
		left -= part
		done := left == 0
		c.t.plan(at, func(now mono.Time) {
			if done {
				c.replied = q.number + 1
			}
			say(now, part)
		})
		at += 3 * ms
	}
	c.Busy = at
}

// Check fails the test for requests that should have come in the end.
func (a *TargetApp) Check() {
	for i, c := range a.t.conns {
		got := a.seen[i]
		for k := 1; k < len(got); k++ {
			if got[k] <= got[k-1] {
				a.Errorf("connection %d: request %d after %d", i, got[k], got[k-1])
			}
		}
		if c.lossy {
			continue
		}
		want := len(c.requests) - int(c.from)
		if c.from > 0 {
			// What was under way is adopted at a turn; a connection's last word may have come
			// before.
			if len(got) > 0 && int(got[0])+len(got) != len(c.requests) {
				a.Errorf("connection %d: %v came of %d requests", i, got, len(c.requests))
			}
			continue
		}
		if len(got) != want {
			a.Errorf("connection %d (%s): %d of %d requests came: %v", i, c.end, len(got), want,
				got)
		}
	}
}
