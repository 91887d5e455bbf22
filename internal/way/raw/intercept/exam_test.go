package intercept_test

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/way/link"
	"tcpcopy/internal/way/link/wire"
	"tcpcopy/internal/way/raw/intercept"
)

// asker is a copier's end that examines.
type asker struct {
	*link.Link
	seen chan wire.Seen
}

func ask(t *testing.T, addr string, targets ...netip.AddrPort) *asker {
	t.Helper()
	a := &asker{seen: make(chan wire.Seen, 64)}
	a.Link = link.Dial(addr, link.NewSlot(), link.Config{
		Targets: targets, Now: now,
		OnSeen: func(s *wire.Seen) {
			one := *s
			one.Findings = slices.Clone(s.Findings)
			a.seen <- one
		},
	})
	t.Cleanup(a.Close)
	wait(t, "the asker is up", func() bool { return a.State().Up })
	return a
}

// next returns the next answer.
func (a *asker) next(t *testing.T) wire.Seen {
	t.Helper()
	select {
	case s := <-a.seen:
		return s
	case <-time.After(deadline):
		t.Fatal("no answer")
		return wire.Seen{}
	}
}

// step asks for a step, and returns the answer.
func (a *asker) step(t *testing.T, q wire.Look, step wire.LookStep) wire.Seen {
	t.Helper()
	q.Step = step
	if !a.Look(&q) {
		t.Fatal("the link is down")
	}
	s := a.next(t)
	if s.ID != q.ID || s.Step != step {
		t.Fatalf("answer %d to %v, want %d to %v", s.ID, s.Step, q.ID, step)
	}
	return s
}

// witness answers every step, with what it was told to have seen.
func witness(t *testing.T, addr string, saw wire.Seen) {
	t.Helper()
	var l *link.Link
	ready := make(chan struct{})
	l = link.Dial(addr, link.NewSlot(), link.Config{
		Targets: []netip.AddrPort{target}, Now: now,
		OnLook: func(q wire.Look) {
			<-ready
			a := saw
			a.ID, a.Step = q.ID, q.Step
			l.Saw(&a)
		},
	})
	close(ready)
	t.Cleanup(l.Close)
	wait(t, "the witness is up", func() bool { return l.State().Up })
}

var probeClient = netip.MustParseAddr("10.1.2.253")

func lookFor(id uint32) wire.Look {
	return wire.Look{
		ID: id, Client: probeClient, Target: target,
		Outside: wire.Probe{Port: 61000, Seq: 0x1000}, Inside: wire.Probe{Port: 61001, Seq: 0x2000},
	}
}

// sent records the probes that an intercept sends.
type sent struct {
	mu   sync.Mutex
	segs []packet.Segment
}

func (s *sent) send(seg *packet.Segment) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segs = append(s.segs, *seg)
	return nil
}

func answerTo(p wire.Probe, flags packet.Flags) packet.Segment {
	return packet.Segment{
		Src: target, Dst: netip.AddrPortFrom(probeClient, p.Port), Seq: 77, Ack: p.Seq.Add(1),
		Flags: flags | packet.ACK,
	}
}

// TestExamination goes through all steps: the intercept counts the answers, sends its own SYNs and
// a reset, examines its host, and passes on what a witness says; nothing of it is traffic.
func TestExamination(t *testing.T) {
	var out sent
	d := start(t, func(c *intercept.Config) {
		c.Probe = out.send
		c.Examine = func(q *wire.Look) func() []byte {
			return func() []byte { return []byte("found at " + q.Target.String()) }
		}
	})
	witness(t, d.addr, wire.Seen{Outside: wire.Count{SYNs: 3}, Findings: []byte("witnessed")})
	a := ask(t, d.addr, target)
	if !a.State().Probes {
		t.Fatal("the intercept offers no probes")
	}
	q := lookFor(7)
	if s := a.step(t, q, wire.LookBegin); s.Refused != "" || s.Witnesses != 1 || s.Witness {
		t.Fatalf("begin: %+v", s)
	}
	if s := a.next(t); !s.Witness || s.Step != wire.LookBegin || s.ID != 7 {
		t.Fatalf("the witness begins: %+v", s)
	}
	for range 3 {
		if s := a.step(t, q, wire.LookSend); s.Refused != "" {
			t.Fatalf("send: %+v", s)
		}
	}
	if s := a.step(t, q, wire.LookSend); s.Refused == "" {
		t.Error("a fourth probe was sent")
	}
	strange := answerTo(q.Outside, packet.SYN)
	strange.Ack++
	d.src.see(answerTo(q.Outside, packet.SYN), answerTo(q.Inside, packet.SYN),
		answerTo(q.Inside, packet.SYN), answerTo(q.Inside, packet.RST), strange)
	wait(t, "the answers are counted", func() bool { return d.Snapshot().Frames.Probes == 4 })
	s := a.step(t, q, wire.LookEnd)
	if s.Outside != (wire.Count{Answers: 1}) || s.Inside != (wire.Count{Answers: 2, Resets: 1}) ||
		string(s.Findings) != "found at 10.0.0.2:8080" || s.Answerer.IsValid() {
		t.Errorf("the intercept has seen %+v, %s", s, s.Findings)
	}
	if s := a.next(t); !s.Witness || s.Outside.SYNs != 3 || string(s.Findings) != "witnessed" {
		t.Errorf("the witness has seen %+v", s)
	}
	shot := d.Snapshot()
	if shot.Route.Routed != 0 || shot.Route.Entries != 0 {
		t.Errorf("probes were routed: %+v", shot.Route)
	}
	out.mu.Lock()
	defer out.mu.Unlock()
	if len(out.segs) != 4 || out.segs[0].Flags != packet.SYN || out.segs[0].Seq != q.Inside.Seq ||
		out.segs[3].Flags != packet.RST || out.segs[3].Seq != q.Inside.Seq.Add(1) {
		t.Errorf("sent %+v", out.segs)
	}
	if s := a.step(t, q, wire.LookEnd); s.Refused == "" {
		t.Error("an examination ends twice")
	}
}

// TestExaminationAnswerer checks that an answer from another address counts, and tells which.
func TestExaminationAnswerer(t *testing.T) {
	d := start(t, nil)
	a := ask(t, d.addr, target)
	q := lookFor(1)
	a.step(t, q, wire.LookBegin)
	other := answerTo(q.Outside, packet.SYN)
	other.Src = netip.MustParseAddrPort("10.0.0.77:8080")
	d.src.see(other)
	wait(t, "the answer is counted", func() bool { return d.Snapshot().Frames.Probes == 1 })
	if s := a.step(t, q, wire.LookEnd); s.Answerer != other.Src.Addr() || s.Outside.Answers != 1 {
		t.Errorf("%+v", s)
	}
}

// TestExaminationRefused checks the rights, and the bounds.
func TestExaminationRefused(t *testing.T) {
	at := mono.Time(time.Hour)
	d := start(t, func(c *intercept.Config) {
		c.Now = func() mono.Time { return at } // no time passes
		c.Local = localAddrs{netip.MustParseAddr("10.0.0.3")}
	})
	a := ask(t, d.addr, target)
	refused := func(name string, q wire.Look, step wire.LookStep, want string) {
		t.Helper()
		if s := a.step(t, q, step); !strings.Contains(s.Refused, want) || want == "" &&
			s.Refused != "" {
			t.Errorf("%s: %q, want %q", name, s.Refused, want)
		}
	}
	q := lookFor(1)
	refused("not begun", q, wire.LookEnd, "not begun")
	refused("another target", wire.Look{ID: 2, Client: probeClient,
		Target: netip.MustParseAddrPort("10.0.0.9:22")}, wire.LookBegin, "not named the target")
	own := q
	own.Client = netip.MustParseAddr("10.0.0.3")
	refused("the intercept's own address", own, wire.LookBegin, "own address")
	refused("begins", q, wire.LookBegin, "")
	refused("begins twice", q, wire.LookBegin, "has begun")
	refused("no probe", q, wire.LookSend, "no probe can be sent")
	for id := uint32(10); id < 17; id++ {
		refused("several", lookFor(id), wire.LookBegin, "")
	}
	refused("too many at once", lookFor(30), wire.LookBegin, "too many")
	for id := uint32(10); id < 17; id++ {
		refused("ends", lookFor(id), wire.LookEnd, "")
	}
	for id := uint32(40); id < 48; id++ { // 8 have begun before
		refused("again", lookFor(id), wire.LookBegin, "")
		refused("ends", lookFor(id), wire.LookEnd, "")
	}
	refused("too many in a while", lookFor(48), wire.LookBegin, "too many")
	other := ask(t, d.addr, target)
	if s := other.step(t, q, wire.LookEnd); s.Refused == "" {
		t.Error("another copier ends an examination")
	}
}
