package shard

import (
	"container/heap"
	"fmt"
	"os"
	"strconv"
	"testing"

	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/session"
)

// agenda is what is to happen, by time.
type agenda struct {
	list []planned
	n    int
}

type planned struct {
	at mono.Time
	n  int
	do func(mono.Time)
}

func (a *agenda) Len() int { return len(a.list) }
func (a *agenda) Less(i, j int) bool {
	return a.list[i].at < a.list[j].at || a.list[i].at == a.list[j].at && a.list[i].n < a.list[j].n
}
func (a *agenda) Swap(i, j int) { a.list[i], a.list[j] = a.list[j], a.list[i] }
func (a *agenda) Push(x any)    { a.list = append(a.list, x.(planned)) }
func (a *agenda) Pop() any {
	x := a.list[len(a.list)-1]
	a.list = a.list[:len(a.list)-1]
	return x
}

func (a *agenda) plan(at mono.Time, do func(mono.Time)) {
	a.n++
	heap.Push(a, planned{at, a.n, do})
}

func (a *agenda) next() mono.Time {
	if len(a.list) == 0 {
		return mono.Never
	}
	return a.list[0].at
}

// run does what is due at now.
func (a *agenda) run(now mono.Time) {
	for a.next() <= now {
		heap.Pop(a).(planned).do(now)
	}
}

// socketTarget is the target behind streams like those of sockets.
type socketTarget struct {
	agenda *agenda
	app    *targetApp
	in     *Input
	open   int
	resets int // one in so many requests has the connection reset; 0: none
	heard  int
}

type socketStream struct {
	t        *socketTarget
	spec     session.OpenSpec
	copy     *copyOf
	open     bool
	released uint64
	sent     uint64
	total    uint64
	closing  bool
	gone     bool
}

func (t *socketTarget) Open(now mono.Time, spec *session.OpenSpec) session.Stream {
	s := &socketStream{t: t, spec: *spec}
	t.open++
	t.agenda.plan(now+2*ms, func(now mono.Time) {
		if s.gone {
			return
		}
		s.open = true
		s.copy = t.app.accept(now, s.spec.Client, s.say)
		s.tell(now, session.Event{Kind: session.Opened})
		s.write(now)
	})
	return s
}

func (s *socketStream) tell(now mono.Time, ev session.Event) {
	ev.ID, ev.At = s.spec.ID, now
	s.t.in.Events = append(s.t.in.Events, ev)
}

func (s *socketStream) say(now mono.Time, n int) {
	if s.gone {
		return
	}
	s.total += uint64(n)
	s.tell(now, session.Event{Kind: session.Received, N: s.total})
}

// write is what happens when the kernel takes bytes: the target has them 1 ms later.
func (s *socketStream) write(now mono.Time) {
	if !s.open || s.gone {
		return
	}
	var b []byte
	for s.sent < s.released {
		v := s.spec.Record.View(s.sent, int(s.released-s.sent))
		if len(v) == 0 {
			s.t.app.errorf("at %v: of %v released %d, the record ends at %d", now, s.spec.Client, s.released, s.sent)
			return
		}
		b = append(b, v...)
		s.sent += uint64(len(v))
	}
	if len(b) > 0 {
		s.tell(now, session.Event{Kind: session.Taken, N: s.sent})
		s.t.agenda.plan(now+ms, func(now mono.Time) {
			if s.gone && s.t.resets > 0 {
				return
			}
			s.copy.heard(now, b, s.say)
			if s.t.heard++; s.t.resets > 0 && s.t.heard%s.t.resets == 0 && !s.gone {
				s.end(now, session.Event{Kind: session.ResetByPeer, N: s.sent})
			}
		})
	}
	if s.closing {
		s.closing = false
		var look func(now mono.Time)
		look = func(now mono.Time) {
			switch {
			case s.gone:
			case s.copy.busy > now:
				s.t.agenda.plan(s.copy.busy+ms, look)
			default:
				s.tell(now, session.Event{Kind: session.Shut})
				s.end(now, session.Event{Kind: session.Finished, N: s.sent})
			}
		}
		s.t.agenda.plan(now+3*ms, look)
	}
}

func (s *socketStream) end(now mono.Time, ev session.Event) {
	s.tell(now, ev)
	s.gone = true
	s.t.open--
}

func (s *socketStream) Release(now mono.Time, end uint64) {
	if s.gone || end <= s.released {
		s.t.app.errorf("at %v: Release(%d) after %d, gone: %v", now, end, s.released, s.gone)
	}
	s.released = end
	s.write(now)
}

func (s *socketStream) CloseWrite(now mono.Time) {
	s.closing = true
	s.write(now)
}

func (s *socketStream) Abort(mono.Time) {
	if !s.gone {
		s.gone = true
		s.t.open--
	}
}

// seeds are those that a test runs; one, if the environment names it.
func seeds(n int) []int64 {
	if s := os.Getenv("SEED"); s != "" {
		one, _ := strconv.ParseInt(s, 10, 64)
		return []int64{one}
	}
	all := make([]int64, n)
	for i := range all {
		all[i] = int64(i + 1)
	}
	return all
}

// Many clients of all kinds, captured as captures are, copied to a target of its own speed: every request
// arrives once, in order, none before the answers that its client had seen; nothing is left over.
func TestCopyProperty(t *testing.T) {
	for _, seed := range seeds(50) {
		for _, resets := range []int{0, 40} {
			t.Run(fmt.Sprintf("seed=%d,resets=%d", seed, resets), func(t *testing.T) {
				var a agenda
				start := 10 * sec
				tr := newTraffic(seed, 40, start)
				app := newTargetApp(tr, t.Errorf, a.plan)
				tg := &socketTarget{agenda: &a, app: app, resets: resets}
				sh := New(Config{Services: []*Service{serviceFor(target)}, Opener: tg, Count: 1,
					MaxSessions: 1000, MaxMemory: 64 << 20, Start: 0})
				copyAll(t, sh, tr, &a, &tg.in, nil)
				if resets == 0 {
					app.check()
				}
				if tg.open != 0 {
					t.Errorf("%d connections to the target are open at the end", tg.open)
				}
			})
		}
	}
}

// copyAll runs a shard over traffic until both have come to their end; after is called when a step is done.
func copyAll(t *testing.T, sh *Shard, tr *traffic, a *agenda, in **Input, after func(now mono.Time)) {
	var now, due mono.Time
	due = mono.Never
	packets := tr.packets
	batch := []mono.Time{1, ms, 5 * ms, 100 * ms}[tr.rng.Intn(4)]
	for steps := 0; ; steps++ {
		next := min(a.next(), due)
		if len(packets) > 0 {
			// A capture hands its packets over in batches, and late.
			next = min(next, (packets[0].At/batch+1)*batch)
		}
		if next == mono.Never {
			break
		}
		if steps > 1<<21 {
			t.Fatal("no end of it")
		}
		now = max(now, next)
		step := &Input{}
		*in = step
		n := 0
		for n < len(packets) && packets[n].At <= now {
			n++
		}
		step.Packets = packets[:n]
		packets = packets[n:]
		a.run(now)
		for i := 0; i == 0 || len(step.Events) > 0; i++ {
			*in = &Input{}
			due = sh.Step(now, step)
			if due <= now {
				t.Fatalf("at %v: Step wants to be called at %v", now, due)
			}
			if after != nil {
				after(now)
			}
			step = *in
			if i > 100 {
				t.Fatalf("at %v: events without end", now)
			}
		}
		c := sh.Snapshot()
		if err := c.Check(); err != nil {
			t.Fatalf("at %v: %v", now, err)
		}
		if t.Failed() {
			return
		}
		if len(packets) == 0 && steps%64 == 0 && sh.Live() == 0 {
			break
		}
	}
	checkEmpty(t, sh)
	t.Logf("%+v", sh.Snapshot())
	c := sh.Snapshot()
	if late := c.Sessions.Dropped[ledger.GateTimeout] + c.Sessions.Dropped[ledger.SendTimeout]; late > 0 {
		t.Errorf("%d sessions were lost to time: %+v", late, c.Sessions)
	}
}
