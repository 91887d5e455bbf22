// Package pktscript runs a tcp.Conn through scripts in packetdrill's spirit: what the owner does,
// what the target sends, and what must come out, on a virtual clock. What a script does not expect
// must not come: silence is asserted between any two lines. For tests only.
//
// A line is a time, counted from the line before, and what happens then; "#" begins a comment:
//
//	config syn full segments 1000     # first lines; syn may also be minimal or sack,
//	config syn mss=536,sackOK         # or a list of options
//	+0    handshake win 1000 <mss 1460,sackOK>   # open, SYN, SYN-ACK after the round trip, ACK
//	+0    release 3000                # bytes of the stream that may be sent, in total
//	+0    > P. 1:1001(1000) ack 1     # must be sent now
//	+0.01 < . 1:1(0) ack 1001 win 1000   # comes from the target
//	+0.01 << . 1:501(500) ack 1001    # the same; the Conn is polled after the next line
//	+0.01 <late . 1:1(0) ack 1001     # comes later than the Conn's clock says
//	+1    quiet                       # nothing was sent until now
//	+0    expect acked 1000 state established
//
// A path takes what is sent from then on, and acknowledges it; nothing of that is expected line by
// line, but what came of it is:
//
//	+0    path rate 1000000 rtt 20ms  # a bottleneck of so many bytes a second; also: lose 1
//	+2    expect flying 20000..24000  # bytes that are not acknowledged
//	+0    expect rate 990000..1000000 # acknowledged bytes a second, since the last such line
//	+0    path off
//
// The other commands are open, close, abort, free, mtu N, urgent N and gap N (the source has no
// bytes from the offset N on). Sequence numbers are relative: a side's SYN is 0. Timestamps count
// milliseconds, ours from Open, the target's as the script says. Of an expected packet, what the
// line does not name is not compared, except that there must be no SACK block and no URG.
package pktscript

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/test/sim/trace"
	"tcpcopy/internal/way/raw/tcp"
)

// tolerance is how far from its time an expected packet may be.
const tolerance = mono.Time(time.Millisecond)

// tsOffset is where the target's timestamps begin.
const tsOffset = 500_000

type sentAt struct {
	at  mono.Time
	seg packet.Segment
}

type runner struct {
	t    testing.TB
	name string
	line int
	text string
	now  mono.Time // the script's
	wake mono.Time
	conn tcp.Conn
	cfg  tcp.Config
	src  source
	out  []packet.Segment
	sent []sentAt // and not expected yet
	irs  seqnum.Value
	rtt  time.Duration
	tr   trace.Trace
	open bool
	path *path
}

// failure ends a script.
type failure struct{ msg string }

// Run runs a script; name says where it comes from. A failure names the line, shows the packet that
// was expected and the one that came in the script's notation, and writes a pcap.
func Run(t testing.TB, name, script string) {
	t.Helper()
	r := &runner{t: t, name: name, wake: mono.Never, irs: 0xfffffc00, rtt: 10 * time.Millisecond}
	r.defaults()
	defer func() {
		switch f := recover().(type) {
		case nil:
		case failure:
			t.Helper()
			t.Errorf("%s:%d: %s\n%s\npcap: %s", name, r.line, strings.TrimSpace(r.text), f.msg,
				r.tr.Write(t, t.Name()))
		default:
			t.Errorf("%s:%d: %s", name, r.line, r.text)
			panic(f)
		}
	}()
	for i, text := range strings.Split(script, "\n") {
		r.line, r.text = i+1, text
		if k := strings.IndexByte(text, '#'); k >= 0 {
			text = text[:k]
		}
		if text = strings.TrimSpace(text); text != "" {
			r.step(text)
		}
	}
	r.text = "end of script"
	r.silence()
}

func (r *runner) failf(format string, args ...any) {
	panic(failure{fmt.Sprintf(format, args...)})
}

func (r *runner) step(text string) {
	if rest, ok := strings.CutPrefix(text, "config "); ok {
		r.config(rest)
		return
	}
	when, what, _ := strings.Cut(text, " ")
	what = strings.TrimSpace(what)
	plus, ok := strings.CutPrefix(when, "+")
	sec, err := strconv.ParseFloat(plus, 64)
	if !ok || err != nil {
		r.failf("a line begins with a time like +0.01, this one with %q", when)
	}
	at := r.now + mono.Time(sec*float64(time.Second)+0.5)
	word, args, _ := strings.Cut(what, " ")
	if word == ">" {
		r.expectPacket(at, args)
		return
	}
	r.advance(at)
	r.now = at
	r.silence()
	if word == "<" || word == "<<" || word == "<late" {
		s := r.parse(args)
		r.tr.Add(r.now, &s)
		if word == "<late" {
			r.conn.DeliverLate(r.now, &s)
		} else {
			r.conn.Deliver(r.now, &s)
		}
		if word != "<<" {
			r.poll(r.now)
		}
		return
	}
	r.command(word, args)
}

// advance lets the Conn's timers fire up to and at the time at.
func (r *runner) advance(at mono.Time) {
	for n := 0; r.wake <= at || r.path.due() <= at; n++ {
		if r.path.due() <= r.wake {
			r.now = max(r.path.due(), r.now)
			r.arrive()
			continue
		}
		r.poll(max(r.wake, r.now))
		if n > 1000_000 {
			r.failf("the connection wants to be polled again and again at %v", r.wake)
		}
	}
}

// poll collects what the Conn sends at a time.
func (r *runner) poll(at mono.Time) {
	for n := 0; ; n++ {
		var next mono.Time
		r.out, next = r.conn.Poll(at, r.out[:0])
		for i := range r.out {
			r.tr.Add(at, &r.out[i])
			r.checkPayload(&r.out[i])
			if r.path != nil {
				r.path.add(at, uint64(uint32(r.out[i].Seq-r.cfg.ISN-1)), r.out[i].Len)
				continue
			}
			r.sent = append(r.sent, sentAt{at, r.out[i]})
		}
		r.wake = next
		if next > at {
			return
		}
		if n > 1000 {
			r.failf("Poll at %v does not come to rest", at)
		}
	}
}

// silence fails if something was sent that no line expected.
func (r *runner) silence() {
	if len(r.sent) > 0 {
		s := r.sent[0]
		r.failf("expected nothing\ngot at %v: > %s", s.at, r.show(&s.seg))
	}
}

func (r *runner) expectPacket(at mono.Time, args string) {
	want := r.parseExpected(args)
	if len(r.sent) == 0 {
		r.advance(at + tolerance)
	}
	if len(r.sent) == 0 {
		r.failf("expected at %v: > %s\ngot nothing; the connection wakes at %v", at, args, r.wake)
	}
	got := r.sent[0]
	r.sent = r.sent[1:]
	if got.at > at+tolerance || got.at < at-tolerance {
		r.failf("expected at %v: > %s\ngot      at %v: > %s", at, args, got.at, r.show(&got.seg))
	}
	if why := want.differs(r, &got.seg); why != "" {
		r.failf("%s\nexpected: > %s\ngot:      > %s", why, args, r.show(&got.seg))
	}
	r.now = got.at
}

// show gives a packet of ours in the script's notation.
func (r *runner) show(s *packet.Segment) string {
	c := *s
	if c.Opts.HasTS {
		c.Opts.TSVal -= r.cfg.TSBase
		if c.Opts.TSEcr != 0 {
			c.Opts.TSEcr -= tsOffset
		}
	}
	return c.Relative(r.cfg.ISN, r.irs)
}
