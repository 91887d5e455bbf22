package stream

import (
	"fmt"
	"math/rand"
	"net/netip"
	"strings"
	"testing"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/core/shard"
	"tcpcopy/internal/test/rig"
	"tcpcopy/internal/way/raw/route"
)

// contest is several copiers that see the same clients, the intercepts between, and one target.
type contest struct {
	*testing.T
	now    mono.Time
	agenda rig.Agenda
	tg     *rawTarget
	seen   *rig.Input // what the target has sent
	all    []*rival
	wires  []*route.Table // the intercepts
	path   func(client netip.AddrPort) int
	lose   func(s *packet.Segment) bool // of the target's segments, on their way to an intercept
}

// rival is a copier.
type rival struct {
	c     *contest
	sh    *shard.Shard
	port  *port
	table *Table
	in    rig.Input
	due   mono.Time
	slot  uint8
	lag   mono.Time     // of its capture
	busy  mono.Time     // how much later than captured it takes a packet in
	link  mono.Time     // to the intercepts, one way
	at    map[int]uint8 // its owner numbers, by intercept
	dead  bool
}

const answerLength = 30

func newContest(t *testing.T, intercepts int) *contest {
	c := &contest{T: t, now: 100 * sec, seen: new(rig.Input)}
	c.tg = newRawTarget(&c.agenda, &c.seen, 1, t.Errorf)
	c.tg.slot, c.tg.answer = 0, answerLength
	c.path = func(client netip.AddrPort) int { return int(client.Port()) % intercepts }
	for i := range intercepts {
		c.wires = append(c.wires, route.New(c.now-60*sec, route.Config{Seed: uint64(i + 1)}))
	}
	return c
}

// rival adds a copier that is linked to these intercepts, or to all.
func (c *contest) rival(slot uint8, lag mono.Time, intercepts ...int) *rival {
	cfg := shard.Config{Services: []*shard.Service{rig.ServiceFor(rig.Target)}, MaxSessions: 1000,
		MaxMemory: 64 << 20, Start: c.now - 10*sec}
	p := &port{Table: New(rawConfig())}
	cfg.Streams = p
	r := &rival{c: c, sh: shard.New(cfg), port: p, table: p.Table, due: mono.Never, slot: slot,
		lag: lag, link: ms / 5, at: map[int]uint8{}}
	if len(intercepts) == 0 {
		for i := range c.wires {
			intercepts = append(intercepts, i)
		}
	}
	for _, i := range intercepts {
		r.join(i)
	}
	r.table.SetLink(true, slot)
	c.all = append(c.all, r)
	return r
}

func (r *rival) join(i int) {
	r.c.wires[i].Expire(r.c.now)
	owner, err := r.c.wires[i].Join(route.Instance{byte(len(r.c.all)), r.slot, 1}, r.slot, nil)
	if err != nil {
		r.c.Fatal(err)
	}
	r.at[i] = owner
	for _, t := range r.table.Tuples() {
		r.c.wires[i].Claim(r.c.now, owner, t.Client(), t.Server(), r.hear)
	}
}

// restart has an intercept forget everything. Copiers that are linked to it claim theirs some time
// later.
func (c *contest) restart(i int, claims mono.Time) {
	c.wires[i] = route.New(c.now, route.Config{Seed: 9})
	for _, r := range c.all {
		if _, ok := r.at[i]; ok && !r.dead {
			delete(r.at, i)
			c.agenda.Plan(c.now+claims, func(mono.Time) { r.join(i) })
		}
	}
}

// kill ends a copier without a word.
func (r *rival) kill() {
	r.dead = true
	for i, owner := range r.at {
		r.c.wires[i].Leave(r.c.now, owner)
	}
}

// hear takes in a segment from an intercept.
func (r *rival) hear(s *packet.Segment, _ mono.Time, _ uint32) {
	seg := *s
	r.c.agenda.Plan(r.c.now+r.link, func(mono.Time) { r.in.Feedback = append(r.in.Feedback, seg) })
}

// intercept routes what the target has sent.
func (c *contest) intercept() {
	for i := range c.seen.Feedback {
		s := &c.seen.Feedback[i]
		if c.lose != nil && c.lose(s) {
			continue
		}
		at := c.path(s.Dst)
		owner, _, behind := c.wires[at].Behind(c.now, s)
		if !behind {
			owner, _ = c.wires[at].Route(c.now, s)
		}
		for _, r := range c.all {
			if n, ok := r.at[at]; ok && n == owner && !r.dead {
				if behind {
					tuple := shard.TupleOf(s.Dst, s.Src)
					c.agenda.Plan(c.now+r.link, func(mono.Time) { r.table.Taken(c.now, tuple) })
				}
				r.hear(s, c.now, 0)
			}
		}
	}
	c.seen.Feedback = nil
}

// ask carries a copier's questions to its intercepts, and the answers back.
func (r *rival) ask() {
	there, back := r.c.now+r.link, r.c.now+2*r.link
	for _, s := range r.table.Seeks() {
		r.c.agenda.Plan(there, func(now mono.Time) {
			free := len(r.at) > 0
			for i, owner := range r.at {
				free = r.c.wires[i].Seek(now, owner, s.Tuple.Client(), s.Tuple.Server(),
					now.Add(-s.Age), r.hear) && free
			}
			r.c.agenda.Plan(back, func(mono.Time) {
				if free {
					r.in.Free = append(r.in.Free, s.Tuple)
				} else if len(r.at) > 0 {
					r.table.Taken(r.c.now, s.Tuple)
				}
			})
		})
	}
	for _, t := range r.table.Queries() {
		r.c.agenda.Plan(there, func(now mono.Time) {
			for i, me := range r.at {
				if owner, sure := r.c.wires[i].Owner(now, t.Client(), t.Server()); !sure ||
					owner != 0 && owner != me {
					return
				}
			}
			r.c.agenda.Plan(back, func(mono.Time) { r.in.Unowned = append(r.in.Unowned, t) })
		})
	}
	for _, t := range r.table.Releases() {
		for i, owner := range r.at {
			r.c.wires[i].Release(r.c.now, owner, t.Client(), t.Server())
		}
	}
}

// run lets d pass.
func (c *contest) run(d mono.Time) {
	c.Helper()
	end := c.now + d
	for i := 0; ; i++ {
		c.agenda.Run(c.now)
		c.intercept()
		for _, w := range c.wires {
			w.Expire(c.now)
		}
		for _, r := range c.all {
			if r.dead {
				continue
			}
			in := r.in
			r.in = rig.Input{}
			r.due = rig.Step(r.sh, r.port, c.now, &in)
			c.tg.take(c.now, r.table.Output())
			r.ask()
		}
		next := min(c.agenda.Next(), c.nextDue())
		if next > end {
			break
		}
		if i > 1<<20 {
			c.Fatal("no end of it")
		}
		c.now = max(c.now, next)
	}
	c.now = end
}

func (c *contest) nextDue() mono.Time {
	next := mono.Never
	for _, r := range c.all {
		if !r.dead {
			next = min(next, r.due)
		}
	}
	return next
}

// user is a client of production, whom all copiers see.
type user struct {
	c          *contest
	addr       netip.AddrPort
	isn        seqnum.Value
	next, seen int
	said       string
}

func (c *contest) user(addr string) *user {
	u := &user{c: c, addr: netip.MustParseAddrPort(addr), isn: seqnum.Value(c.now / ms * 250),
		next: 1}
	u.show(packet.Segment{Seq: u.isn, Flags: packet.SYN,
		Opts: packet.Options{MSS: 1460, SACKPermitted: true}})
	return u
}

// show has the copiers capture a packet of the client, or of the server for it.
func (u *user) show(seg packet.Segment) {
	server := seg.Dst == u.addr
	if seg.Window = 1000; !server {
		seg.Src, seg.Dst, seg.Len = u.addr, rig.Production, len(seg.Payload)
	}
	for _, r := range u.c.all {
		captured := u.c.now + r.lag
		u.c.agenda.Plan(captured+r.busy, func(mono.Time) {
			r.in.Packets = append(r.in.Packets,
				shard.Packet{Seg: seg, At: captured, Ifindex: 1, FromServer: server})
		})
	}
}

// say sends a request, which production answers at once.
func (u *user) say(text string) {
	u.said += text
	u.show(packet.Segment{Seq: u.isn.Add(u.next), Ack: seqnum.Value(5001 + u.seen),
		Flags: packet.ACK | packet.PSH, Payload: []byte(text)})
	u.next += len(text)
	u.show(packet.Segment{Src: rig.Production, Dst: u.addr, Seq: seqnum.Value(5001 + u.seen),
		Ack: u.isn.Add(u.next), Flags: packet.ACK, Len: answerLength})
	u.seen += answerLength
	u.show(packet.Segment{Seq: u.isn.Add(u.next), Ack: seqnum.Value(5001 + u.seen),
		Flags: packet.ACK})
}

func (u *user) close() {
	u.show(packet.Segment{Seq: u.isn.Add(u.next), Ack: seqnum.Value(5001 + u.seen),
		Flags: packet.ACK | packet.FIN})
	u.next++
}

// got checks what the target has of the client, on all connections together.
func (u *user) got(want string) {
	u.c.Helper()
	if got := u.c.tg.got[shard.TupleOf(u.addr, rig.Target)]; got != want {
		u.c.Errorf("at %v: the target has %q of %v, wanted %q", u.c.now, got, u.addr, want)
	}
}

// account ends the copiers, and checks that what they have delivered is of so many bytes, and that
// all else they have dropped for these reasons.
func (c *contest) account(delivered int, reasons ...ledger.Reason) {
	c.Helper()
	var sum uint64
	for i, r := range c.all {
		if r.dead {
			continue
		}
		r.sh.Shutdown(c.now)
		rig.CheckEmpty(c.T, r.sh)
		if n := len(r.table.streams); n != 0 {
			c.Errorf("%d streams of copier %d are left", n, i)
		}
		b := r.sh.Snapshot().Bytes
		sum += b.Delivered
		left := b.Captured - b.Delivered
		for _, why := range reasons {
			left -= b.Dropped[why]
		}
		if left != 0 {
			c.Errorf("copier %d has dropped for other reasons than %v: %+v", i, reasons, b)
		}
	}
	if sum != uint64(delivered) {
		c.Errorf("%d bytes are delivered, wanted %d", sum, delivered)
	}
}

// rivalAddr is the address of the client in rivalCases.
const rivalAddr = "192.0.2.1:40000"

// rivalCases are what can happen between copiers with these slots.
var rivalCases = []struct {
	name string
	run  func(c *contest, slots [2]uint8)
}{
	{"at the same instant", func(c *contest, slots [2]uint8) {
		c.rival(slots[0], 0)
		c.rival(slots[1], 0)
		u := c.user(rivalAddr)
		c.run(10 * ms)
		u.say("one ")
		c.run(3 * sec)
		u.say("two ")
		c.run(sec)
		u.close()
		c.run(5 * sec)
		u.got("one two ")
		c.account(8, ledger.TupleTaken)
	}},
	{"over before the second repeats its SYN", func(c *contest, slots [2]uint8) {
		c.rival(slots[0], 0)
		c.rival(slots[1], 2*ms)
		u := c.user(rivalAddr)
		u.say("one ")
		c.run(50 * ms)
		u.close()
		c.run(9 * sec)
		u.got("one ")
		c.account(4, ledger.TupleTaken)
	}},
	{"over before the second sees it", func(c *contest, slots [2]uint8) {
		c.rival(slots[0], 0)
		c.rival(slots[1], 300*ms)
		u := c.user(rivalAddr)
		u.say("one ")
		c.run(50 * ms)
		u.close()
		c.run(9 * sec)
		u.got("one ")
		c.account(4, ledger.TupleTaken)
	}},
	{"over long before the second, which is behind, takes it in", func(c *contest,
		slots [2]uint8) {
		c.rival(slots[0], 0)
		c.rival(slots[1], 0).busy = 4 * sec
		u := c.user(rivalAddr)
		u.say("one ")
		c.run(50 * ms)
		u.close()
		c.run(9 * sec)
		u.got("one ")
		c.account(4, ledger.TupleTaken)
	}},
	{"a client that uses its port again", func(c *contest, slots [2]uint8) {
		c.rival(slots[0], 0)
		c.rival(slots[1], ms)
		said := ""
		for range 4 {
			for _, r := range c.all {
				r.lag = ms - r.lag // either is the first in turn
			}
			u := c.user(rivalAddr)
			u.say("more ")
			c.run(50 * ms)
			u.close()
			c.run(450 * ms)
			said += "more "
		}
		c.run(20 * sec)
		(&user{c: c, addr: netip.MustParseAddrPort(rivalAddr)}).got(said)
		c.account(len(said), ledger.TupleTaken)
	}},
	{"the second sees it when it is established", func(c *contest, slots [2]uint8) {
		c.rival(slots[0], 0)
		c.rival(slots[1], 200*ms)
		u := c.user(rivalAddr)
		for range 5 {
			u.say("more ")
			c.run(300 * ms)
		}
		u.close()
		c.run(5 * sec)
		u.got(strings.Repeat("more ", 5))
		c.account(5*len("more "), ledger.TupleTaken)
	}},
	{"the second finds it under way", func(c *contest, slots [2]uint8) {
		c.rival(slots[0], 0)
		u := c.user(rivalAddr)
		u.say("one ")
		c.run(sec)
		c.rival(slots[1], 0)
		for range 5 {
			u.say("more ")
			c.run(300 * ms)
		}
		u.close()
		c.run(5 * sec)
		u.got("one " + strings.Repeat("more ", 5))
		if c.tg.resets != 0 {
			c.Errorf("%d resets", c.tg.resets)
		}
		c.account(len("one ")+5*len("more "), ledger.TupleTaken)
	}},
	{"both find it under way", func(c *contest, slots [2]uint8) {
		u := c.user(rivalAddr)
		u.say("before ")
		c.run(sec)
		c.rival(slots[0], 0)
		c.rival(slots[1], 0)
		for range 5 {
			u.say("more ")
			c.run(300 * ms)
		}
		u.close()
		c.run(5 * sec)
		u.got(strings.Repeat("more ", 5))
		c.account(5*len("more "), ledger.TupleTaken)
	}},
	{"both find it under way, and the target knows an old one", func(c *contest, slots [2]uint8) {
		u := c.user(rivalAddr)
		u.say("before ")
		c.run(sec)
		tuple := shard.TupleOf(u.addr, rig.Target)
		c.tg.conns[tuple] = &peer{t: c.tg, tuple: tuple, open: true, rcvNxt: 555,
			sndUna: 777, sndNxt: 777, end: 777}
		c.rival(slots[0], 0)
		c.rival(slots[1], 0)
		for range 5 {
			u.say("more ")
			c.run(1500 * ms)
		}
		u.close()
		c.run(5 * sec)
		u.got(strings.Repeat("more ", 5))
		c.account(5*len("more "), ledger.TupleTaken)
	}},
	{"the intercept is new, and the target knows an old one", func(c *contest, slots [2]uint8) {
		u := c.user(rivalAddr)
		tuple := shard.TupleOf(u.addr, rig.Target)
		c.tg.conns[tuple] = &peer{t: c.tg, tuple: tuple, open: true, rcvNxt: 555,
			sndUna: 777, sndNxt: 777, end: 777}
		c.restart(0, 0)
		c.run(sec)
		c.rival(slots[0], 0) // it is told that whose the old one is will be known in 2 s
		u.say("one ")
		c.run(1500 * ms)
		u.got("")
		c.run(1500 * ms)
		u.got("one ")
		u.close()
		c.run(5 * sec)
		c.account(4)
	}},
	{"the SYN-ACK is lost", func(c *contest, slots [2]uint8) {
		c.rival(slots[0], 0)
		c.rival(slots[1], 0)
		lost := 0
		c.lose = func(s *packet.Segment) bool {
			if s.Flags.Has(packet.SYN) && lost < 2 {
				lost++
				return true
			}
			return false
		}
		u := c.user(rivalAddr)
		u.say("one ")
		c.run(4 * sec)
		u.say("two ")
		c.run(sec)
		u.close()
		c.run(5 * sec)
		if lost != 2 {
			c.Errorf("lost %d", lost)
		}
		u.got("one two ")
		c.account(8, ledger.TupleTaken)
	}},
	{"the SYN-ACK is lost for as long as the second asks", func(c *contest, slots [2]uint8) {
		// The target answers with the ACK that names nobody, which the second one takes
		// for an old connection's.
		c.rival(slots[0], 0)
		c.rival(slots[1], 0)
		end := c.now + 1100*ms
		c.lose = func(s *packet.Segment) bool { return c.now < end }
		u := c.user(rivalAddr)
		u.say("one ")
		c.run(6 * sec)
		u.say("two ")
		c.run(sec)
		u.close()
		c.run(5 * sec)
		u.got("one two ")
		c.account(8, ledger.TupleTaken)
	}},
	{"the first one dies", func(c *contest, slots [2]uint8) {
		first := c.rival(slots[0], 0)
		c.rival(slots[1], ms)
		u := c.user(rivalAddr)
		u.say("one ")
		c.run(2 * sec)
		u.got("one ")
		first.kill()
		c.run(sec)
		u.say("two ")
		c.run(sec)
		u.say("three ")
		c.run(sec)
		u.close()
		c.run(5 * sec)
		u.got("one two three ")
		v := c.user("192.0.2.1:40001") // and it has all later ones
		v.say("four ")
		c.run(sec)
		v.close()
		c.run(5 * sec)
		v.got("four ")
		c.account(len("two three four "), ledger.TupleTaken)
	}},
	{"the first one dies before the second knows that it is second",
		func(c *contest, slots [2]uint8) {
			first := c.rival(slots[0], 0)
			c.rival(slots[1], 5*ms)
			u := c.user(rivalAddr)
			u.say("one ")
			c.run(500 * ms)
			first.kill()
			c.run(2 * sec) // who is refused tries again after a second
			u.got("one ")
			u.say("two ")
			c.run(sec)
			u.close()
			c.run(5 * sec)
			u.got("one two ")
			c.account(4, ledger.TupleTaken)
		}},
	{"the first one dies, and comes back with another slot", func(c *contest, slots [2]uint8) {
		first := c.rival(slots[0], 0)
		u := c.user(rivalAddr)
		u.say("one ")
		c.run(2 * sec)
		first.kill()
		c.rival(slots[1], 0)
		u.say("two ")
		c.run(sec)
		u.close()
		c.run(5 * sec)
		u.got("one two ")
		c.account(4)
	}},
	{"the first one dies, and comes back with the same slot after its grace",
		func(c *contest, slots [2]uint8) {
			first := c.rival(slots[0], 0)
			u := c.user(rivalAddr)
			u.say("one ")
			c.run(2 * sec)
			first.kill()
			c.run(61 * sec)
			c.rival(slots[0], 0)
			u.say("two ")
			c.run(sec)
			u.close()
			c.run(5 * sec)
			u.got("one two ")
			c.account(4)
		}},
	{"the intercept starts anew", func(c *contest, slots [2]uint8) {
		first := c.rival(slots[0], 0)
		second := c.rival(slots[1], 0)
		u := c.user(rivalAddr)
		u.say("one ")
		c.run(2 * sec)
		if len(first.table.Tuples()) == 0 {
			first, second = second, first
		}
		c.restart(0, 400*ms) // the second may ask before the first one has claimed
		c.run(ms)
		second.join(0)
		for range 5 {
			u.say("more ")
			c.run(300 * ms)
		}
		u.close()
		c.run(5 * sec)
		u.got("one " + strings.Repeat("more ", 5))
		if c.tg.resets != 0 {
			c.Errorf("%d resets", c.tg.resets)
		}
		c.account(len("one ")+5*len("more "), ledger.TupleTaken)
	}},
	{"they hear of different intercepts' answers, and these come by the first one's",
		func(c *contest, slots [2]uint8) {
			c.wires = append(c.wires, route.New(0, route.Config{}))
			c.rival(slots[0], 0, 0)
			c.rival(slots[1], 0, 1)
			c.path = func(netip.AddrPort) int { return 0 }
			u := c.user(rivalAddr)
			for range 20 {
				u.say("more ")
				c.run(sec)
			}
			u.close()
			c.run(5 * sec)
			u.got(strings.Repeat("more ", 20))
			// nobody tells it who has the tuple
			c.account(20*len("more "), ledger.ConnectTimeout)
		}},
	{"they hear of different intercepts' answers, and these come by the second one's",
		func(c *contest, slots [2]uint8) {
			c.wires = append(c.wires, route.New(0, route.Config{}))
			c.rival(slots[0], 0, 0)
			c.rival(slots[1], ms, 1)
			c.path = func(netip.AddrPort) int { return 1 }
			u := c.user(rivalAddr)
			u.say("one ")
			c.run(15 * sec)
			// the first one is not heard, whoever it was that the target took at first
			u.say("two ")
			c.run(15 * sec)
			u.close()
			c.run(5 * sec)
			u.got("one two ")
			c.account(8, ledger.ConnectTimeout)
		}},
	{"two intercepts share the answers", func(c *contest, slots [2]uint8) {
		c.wires = append(c.wires, route.New(0, route.Config{}))
		c.path = func(a netip.AddrPort) int { return int(a.Port()) & 1 }
		c.rival(slots[0], 0)
		c.rival(slots[1], 0)
		var all []*user
		for i := range 20 {
			all = append(all, c.user(fmt.Sprintf("192.0.2.1:%d", 40000+i)))
		}
		for range 3 {
			for _, u := range all {
				u.say("more ")
			}
			c.run(700 * ms)
		}
		for _, u := range all {
			u.close()
		}
		c.run(5 * sec)
		for _, u := range all {
			u.got(strings.Repeat("more ", 3))
		}
		c.account(60*len("more "), ledger.TupleTaken)
	}},
}

// TestRivals: one of two copiers gets a client's connection, and the other does it no harm.
func TestRivals(t *testing.T) {
	// Slots whose numbers are next to each other, and far apart.
	for _, slots := range [][2]uint8{{7, 8}, {8, 7}, {1, 255}} {
		for _, tc := range rivalCases {
			t.Run(fmt.Sprintf("slots %v, %s", slots, tc.name), func(t *testing.T) {
				c := newContest(t, 1)
				tc.run(c, slots)
			})
		}
	}
}

// TestRivalsProperty: whatever the lags of their captures, two or three copiers deliver every
// client's bytes once.
func TestRivalsProperty(t *testing.T) {
	for _, seed := range rig.Seeds(40) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			rng := rand.New(rand.NewSource(seed))
			c := newContest(t, 1+rng.Intn(3))
			for range 2 + rng.Intn(2) {
				slot := uint8(1 + rng.Intn(255))
				for _, r := range c.all {
					for r.slot == slot {
						slot = uint8(1 + rng.Intn(255))
					}
				}
				r := c.rival(slot, mono.Time(rng.Intn(300))*ms*mono.Time(rng.Intn(2))+
					mono.Time(rng.Intn(5000))*ms/1000)
				r.link = mono.Time(rng.Intn(2000)) * ms / 1000
			}
			sum := 0
			var all []*user
			for i := range 30 {
				u := &user{}
				start := c.now + mono.Time(rng.Intn(3000))*ms
				turns, pause := 1+rng.Intn(5), mono.Time(10+rng.Intn(1000))*ms
				sum += turns * len("more ")
				all = append(all, u)
				c.agenda.Plan(start, func(now mono.Time) {
					c.now = now
					*u = *c.user(fmt.Sprintf("192.0.2.%d:%d", 1+i, 40000+rng.Intn(9)))
				})
				for n := range turns {
					c.agenda.Plan(start+mono.Time(n)*pause+ms, func(mono.Time) { u.say("more ") })
				}
				c.agenda.Plan(start+mono.Time(turns)*pause+20*ms, func(mono.Time) { u.close() })
			}
			c.run(30 * sec)
			for _, u := range all {
				u.got(u.said)
			}
			c.account(sum, ledger.TupleTaken)
		})
	}
}
