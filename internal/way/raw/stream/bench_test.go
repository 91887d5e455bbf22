package stream

import (
	"fmt"
	"testing"
	"time"
	"unsafe"

	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/test/rig"
	"tcpcopy/internal/way/raw/tcp"
)

func tableOf(l *rig.Load) *Table { return l.Port.(*port).Table }

// newLoad returns a load whose copies go the raw way.
func newLoad(n int) *rig.Load {
	cfg := rawConfig()
	cfg.Congestion = tcp.BBR // the one that costs most
	p := &port{Table: New(cfg)}
	p.SetLink(true, 7)
	return rig.NewLoad(p, n, accept, answer)
}

// accept has the target accept a copy whose SYN is in the output.
func accept(l *rig.Load, c *rig.LoadClient) {
	syn := tableOf(l).Output()[0]
	c.ISN, c.IRS = syn.Seq+1, 9001
	l.Feedback(c, packet.Segment{Seq: 9000, Ack: c.ISN, Flags: packet.SYN | packet.ACK,
		Opts: packet.Options{MSS: 1460, SACKPermitted: true, HasTS: true, TSVal: 1,
			TSEcr:     syn.Opts.TSVal,
			HasWScale: true, WScale: 7}})
	l.Step()
	tableOf(l).Output()
}

// answer has the target acknowledge a request, and answer it.
func answer(l *rig.Load, c *rig.LoadClient) {
	n := len(l.Payload)
	c.CopySent += n
	l.Feedback(c, packet.Segment{Seq: c.IRS.Add(c.Heard), Ack: c.ISN.Add(c.CopySent),
		Flags: packet.ACK | packet.PSH, Len: n, Opts: packet.Options{HasTS: true, TSVal: 1}})
	c.Heard += n
	l.Step()
	tableOf(l).Output()
}

// request has a client send a request, and reports whether it goes on to the target at once.
func request(l *rig.Load, c *rig.LoadClient) (sent bool) {
	l.Request(c)
	for _, s := range tableOf(l).Output() {
		sent = sent || s.Len == len(l.Payload)
	}
	return sent
}

// BenchmarkStepRaw is an exchange: a captured request that goes to the target in the same step, and
// the step that takes in the target's answer.
func BenchmarkStepRaw(b *testing.B) {
	for _, sessions := range []int{1, 1000, 20000} {
		b.Run(fmt.Sprint("sessions=", sessions), func(b *testing.B) {
			l := newLoad(sessions)
			i := 0
			for range 3 * sessions { // until the lengths of answers are known
				c := &l.Clients[i%sessions]
				request(l, c)
				l.Now += 25 * ms
				l.Step()
				answer(l, c)
				i++
			}
			b.ReportAllocs()
			late := 0
			var toTarget time.Duration
			for b.Loop() {
				c := &l.Clients[i%sessions]
				i++
				l.Now += mono.Time(50 * 1000)
				start := time.Now()
				sent := request(l, c)
				toTarget += time.Since(start)
				if !sent {
					late++
				}
				answer(l, c)
			}
			b.ReportMetric(float64(toTarget.Nanoseconds())/float64(b.N), "ns/request")
			if late > 0 {
				b.Errorf("%d of %d requests did not go at once", late, b.N)
			}
		})
	}
}

// A session that is idle costs little: the heap holds at most 2 KB for it and its connection.
func TestIdleSessionsAreSmall(t *testing.T) {
	const n = 100_000
	rig.IdleIsSmall(t, n, func() *rig.Load { return newLoad(n) })
	var st Stream
	t.Logf("a stream has %d bytes, of which TCP %d", unsafe.Sizeof(st), unsafe.Sizeof(st.conn))
}
