package engine

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/bpf"

	"tcpcopy/internal/account/export"
	"tcpcopy/internal/config"
	"tcpcopy/internal/core/ledger"
	"tcpcopy/internal/core/mapping"
	"tcpcopy/internal/core/mono"
	"tcpcopy/internal/core/packet"
	"tcpcopy/internal/core/seqnum"
	"tcpcopy/internal/source"
	"tcpcopy/internal/way"
)

var (
	client     = netip.MustParseAddrPort("192.0.2.7:40000")
	production = netip.MustParseAddrPort("10.0.0.1:80")
	target     = netip.MustParseAddrPort("10.0.0.2:8080")
)

// script is a source that yields batches when the test says so.
type script struct {
	batches chan []source.Frame
	closed  chan struct{}
	given   atomic.Uint64
	filters atomic.Int64 // how often the filter was replaced
}

func newScript() *script {
	return &script{batches: make(chan []source.Frame, 16), closed: make(chan struct{})}
}

func (s *script) Next(wait time.Duration) ([]source.Frame, error) {
	var timeout <-chan time.Time
	if wait > 0 {
		timeout = time.After(wait)
	}
	for {
		select {
		case b := <-s.batches: // before anything else
			s.given.Add(uint64(len(b)))
			return b, nil
		default:
		}
		if wait == 0 {
			return nil, nil
		}
		select {
		case b := <-s.batches:
			s.given.Add(uint64(len(b)))
			return b, nil
		case <-s.closed:
			return nil, source.ErrClosed
		case <-timeout:
			return nil, nil
		}
	}
}

func (s *script) Stats() source.Stats { return source.Stats{Dropped: 3, Delivered: s.given.Load()} }
func (s *script) Close() error        { close(s.closed); return nil }

func (s *script) SetFilter([]bpf.RawInstruction) error {
	s.filters.Add(1)
	return nil
}

// trial is a run of the whole engine, from a script to the memory way, in a synctest bubble.
type trial struct {
	*testing.T
	source *script
	way    *memory
	config *config.Copy
	origin time.Time
	stop   chan struct{}
	kill   context.CancelFunc
	reload chan *config.Copy
	ask    chan chan<- *export.Snapshot
	look   chan *AskedSessions
	ready  string // what Ready was called with
	lines  int    // how often progress was called
	last   *export.Snapshot
	err    error
	ended  chan struct{}
	log    strings.Builder
}

// copying returns a configuration with these mappings.
func copying(t testing.TB, mappings string) *config.Copy {
	maps, err := mapping.Parse(mappings)
	if err != nil {
		t.Fatal(err)
	}
	return &config.Copy{
		Mappings: maps, Shards: 2, Memory: 64 << 20, MaxSessions: 1000, Drain: 5 * time.Second,
		Stats: time.Second,
		From:  config.From{Kind: config.FromHost}, Settings: way.Settings{Via: "memory"},
		Mapped: config.Mapped{
			Copies: 1, SamplePercent: 100, Wait: config.WaitAuto, SessionMemory: 1 << 20,
			GateLimit: 30 * time.Second, SessionTimeout: time.Minute, KeepaliveTimeout: time.Hour,
		},
	}
}

// begin begins a run, as the test changes it, and returns when it waits for packets.
func begin(t *testing.T, change ...func(*trial)) *trial {
	t.Helper()
	r := &trial{
		T: t, source: newScript(), way: &memory{}, config: copying(t,
			"80-10.0.0.2:8080"), origin: time.Now(),
		stop: make(chan struct{}), reload: make(chan *config.Copy), ask: make(
			chan chan<- *export.Snapshot), look: make(chan *AskedSessions),
		ended: make(chan struct{}),
	}
	for _, f := range change {
		f(r)
	}
	ctx, kill := context.WithCancel(context.Background())
	r.kill = kill
	t.Cleanup(kill)
	ctl := &Control{
		Context: ctx, Stop: r.stop, Log: slog.New(slog.NewTextHandler(&r.log, nil)), Version: "1",
		Ready: func(detail string) { r.ready = detail }, Reload: r.reload, Ask: r.ask,
		AskSessions: r.look,
	}
	go func() {
		defer close(r.ended)
		r.last, r.err = run(ctl, r.config, func(*export.Snapshot) { r.lines++ }, parts{
			way: func(*way.Settings) (way.Way, error) { return r.way, r.way.refuse["make"] },
			source: func(*copier) (source.Source, error) {
				return r.source, r.way.refuse["source"]
			},
			local: func() (localAddresses, error) { return here(production.Addr()), nil },
		})
	}()
	synctest.Wait()
	return r
}

func (r *trial) now() mono.Time { return mono.Time(time.Since(r.origin)) }

// pass lets time pass.
func (r *trial) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// capture has the source yield frames, and waits until they have had their effect.
func (r *trial) capture(frames ...source.Frame) {
	r.source.batches <- frames
	synctest.Wait()
}

func (r *trial) frame(
	from, to netip.AddrPort, seq, ack seqnum.Value, flags packet.Flags, payload string,
) source.Frame {
	seg := packet.Segment{
		Src: from, Dst: to, Seq: seq, Ack: ack, Flags: flags, Window: 1000, Payload: []byte(
			payload), Len: len(payload),
	}
	data := packet.Append(nil, &seg)
	outgoing := from.Addr() == production.Addr()
	return source.Frame{Data: data, Wire: len(data), Time: r.now(), Ifindex: 2, Outgoing: outgoing}
}

// request captures a new connection with its first request.
func (r *trial) request(from, to netip.AddrPort, text string) {
	r.capture(
		r.frame(from, to, 100, 0, packet.SYN, ""),
		r.frame(to, from, 500, 101, packet.SYN|packet.ACK, ""),
		r.frame(from, to, 101, 501, packet.ACK, ""),
		r.frame(from, to, 101, 501, packet.ACK|packet.PSH, text),
	)
}

// answered captures production's answer to the first request of so many bytes, and that the client
// has seen it.
func (r *trial) answered(from, to netip.AddrPort, request int) {
	next := seqnum.Value(101 + request)
	seg := packet.Segment{Src: to, Dst: from, Seq: 501, Ack: next, Flags: packet.ACK, Window: 1000,
		Payload: make([]byte, answerLength), Len: answerLength}
	data := packet.Append(nil, &seg)
	r.capture(
		source.Frame{Data: data, Wire: len(data), Time: r.now(), Ifindex: 2, Outgoing: true},
		r.frame(from, to, next, 501+answerLength, packet.ACK, ""),
	)
}

// end waits for the end of the run, and checks that nothing is left and all is accounted for.
func (r *trial) end() *export.Snapshot {
	r.Helper()
	<-r.ended
	if r.last == nil {
		r.Fatal(r.err)
	}
	if err := r.last.Counters.Check(); err != nil {
		r.Error(err)
	}
	if n := r.last.Counters.Sessions.InFlight() + r.last.Counters.Bytes.InFlight(); n != 0 {
		r.Errorf("%d in flight after the end", n)
	}
	for _, c := range r.way.copies {
		if !c.over {
			r.Errorf("the copy of %v is not over", c.spec.Client)
		}
	}
	if !r.last.Final {
		r.Error("the last state is not final")
	}
	return r.last
}

func TestFromCaptureToTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := begin(t)
		r.request(client, production, "GET / HTTP/1.1\r\n\r\n")
		if len(r.way.copies) != 1 {
			t.Fatalf("%d copies, wanted 1", len(r.way.copies))
		}
		c := r.way.copies[0]
		if string(c.bytes) != "GET / HTTP/1.1\r\n\r\n" {
			t.Errorf("the target got %q", c.bytes)
		}
		if c.spec.Client != client || c.spec.Production != production || c.spec.Target != target {
			t.Errorf("opened for %v", c.spec)
		}
		r.answered(client, production, 18)
		r.capture(r.frame(client, production, 119, 601, packet.ACK|packet.PSH,
			"GET /2 HTTP/1.1\r\n\r\n"))
		r.pass(2 * time.Second)
		if !strings.HasSuffix(string(c.bytes), "GET /2 HTTP/1.1\r\n\r\n") {
			t.Errorf("the target got %q", c.bytes)
		}
		to := make(chan *export.Snapshot, 1)
		r.ask <- to
		if s := <-to; s.Counters.Live != 1 || s.Final || s.Via != "memory" || len(s.Links) != 1 ||
			s.Links[0].Intercept != "memory" {
			t.Errorf("while it runs: %+v", s)
		}
		r.capture(r.frame(client, production, 138, 701, packet.ACK|packet.FIN, ""))
		r.pass(2 * time.Second)
		if !c.shut {
			t.Error("the copy was not closed")
		}
		close(r.stop)
		s := r.end()
		if r.err != nil || s.Counters.Sessions.Delivered != 1 || s.Counters.Bytes.Delivered != 37 {
			t.Errorf("%v; sessions %+v, bytes %+v", r.err, s.Counters.Sessions, s.Counters.Bytes)
		}
		if p := s.Counters.Packets; p.Seen != 8 || p.KernelDrop != 3 || p.Offered != 11 ||
			p.NotOurs != 0 {
			t.Errorf("packets %+v", p)
		}
		if s.Counters.SendErrors != 7 || s.Counters.SegmentsOut != 2000 {
			t.Errorf("of the way, %d send errors and %d segments", s.Counters.SendErrors,
				s.Counters.SegmentsOut)
		}
		if r.ready != "copying 80-10.0.0.2:8080 via memory" || r.lines < 4 {
			t.Errorf("ready: %q, %d lines", r.ready, r.lines)
		}
		want := []string{"open", "attach", "attach", "connect", "detach", "detach", "close"}
		if !slices.Equal(r.way.calls, want) {
			t.Errorf("the way was called to %q, wanted %q", r.way.calls, want)
		}
	})
}

func TestWhatWasCapturedBeforeTheStopIsRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := begin(t)
		for i := range 5 { // at once with the stop: the reader finds both
			c := netip.AddrPortFrom(client.Addr(), uint16(41000+i))
			r.source.batches <- []source.Frame{
				r.frame(c, production, 1, 0, packet.SYN, ""),
				r.frame(c, production, 2, 1, packet.ACK, ""),
			}
		}
		close(r.stop)
		if s := r.end(); s.Counters.Sessions.Captured != 5 || s.Counters.Sessions.Delivered != 5 {
			t.Errorf("sessions %+v", s.Counters.Sessions)
		}
	})
}

// A stop lets sessions end: those whose targets have answered at once, others when they do, or
// never.
func TestDrain(t *testing.T) {
	for _, test := range []struct {
		name      string
		answers   bool
		delivered uint64
		takes     time.Duration
	}{
		{"the target answers", true, 1, time.Second},
		{"it never does", false, 0, 5 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := begin(t, func(r *trial) { r.way.silent = true })
				r.request(client, production, "GET 1")
				r.answered(client, production, 5)
				r.capture(r.frame(client, production, 106, 601, packet.ACK|packet.PSH, "GET 2"))
				close(r.stop)
				begun := time.Now()
				r.pass(time.Second - time.Millisecond)
				select {
				case <-r.ended:
					t.Fatal("it has ended while a request waited")
				default:
				}
				if test.answers {
					r.way.copies[0].answer(r.now())
				}
				s := r.end()
				if s.Counters.Sessions.Delivered != test.delivered || r.err != nil {
					t.Errorf("%v, sessions %+v", r.err, s.Counters.Sessions)
				}
				if got := string(r.way.copies[0].bytes); (got == "GET 1GET 2") != test.answers {
					t.Errorf("the target got %q", got)
				}
				if took := time.Since(begun); took < test.takes-time.Millisecond ||
					took > test.takes+time.Second {
					t.Errorf("it took %v, wanted %v", took, test.takes)
				}
			})
		})
	}
}

// A second signal ends everything at once, also while sessions drain.
func TestEndAtOnce(t *testing.T) {
	for _, draining := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := begin(t, func(r *trial) { r.way.silent = true })
			r.request(client, production, "GET 1")
			r.answered(client, production, 5)
			r.capture(r.frame(client, production, 106, 601, packet.ACK|packet.PSH, "GET 2"))
			if draining {
				close(r.stop)
				r.pass(100 * time.Millisecond)
			}
			r.kill()
			s := r.end()
			if !errors.Is(r.err, context.Canceled) ||
				s.Counters.Sessions.Dropped[ledger.Shutdown] != 1 {
				t.Errorf("draining %v: %v, sessions %+v", draining, r.err, s.Counters.Sessions)
			}
		})
	}
}

// A reload adds mappings and closes those that are gone, whose sessions go on.
func TestReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := begin(t)
		r.request(client, production, "GET 1")
		second := netip.MustParseAddrPort("10.0.0.1:81")
		r.reload <- copying(t, "81-10.0.0.3:8081")
		synctest.Wait()
		added := netip.MustParseAddrPort("10.0.0.3:8081")
		if !slices.Equal(r.way.told, []netip.AddrPort{target, added}) ||
			r.source.filters.Load() != 1 {
			t.Errorf("the way knows the targets %v, the filter was replaced %d times", r.way.told,
				r.source.filters.Load())
		}
		r.request(netip.MustParseAddrPort("192.0.2.8:40001"), second, "GET 2")
		// no mapping has it now
		r.request(netip.MustParseAddrPort("192.0.2.9:40002"), production, "GET 3")
		if len(r.way.copies) != 2 || r.way.copies[1].spec.Target != added ||
			string(r.way.copies[1].bytes) != "GET 2" {
			t.Fatalf("copies: %+v", r.way.copies)
		}
		r.answered(client, production, 5)
		r.capture(r.frame(client, production, 106, 601, packet.ACK|packet.PSH, "GET 4"))
		r.pass(time.Second)
		if got := string(r.way.copies[0].bytes); got != "GET 1GET 4" {
			t.Errorf("the old session's target got %q", got)
		}
		r.way.refuse = map[string]error{"check": errors.New("no room")}
		r.reload <- copying(t, "82-10.0.0.4:8082")
		synctest.Wait()
		r.request(netip.MustParseAddrPort("192.0.2.8:40003"), second, "GET 5")
		if len(r.way.copies) != 3 || !strings.Contains(r.log.String(), "no room") {
			t.Errorf("after a reload that was refused: %d copies; %s", len(r.way.copies),
				r.log.String())
		}
		close(r.stop)
		if s := r.end(); s.Counters.Sessions.Captured != 3 || s.Counters.Sessions.Delivered != 3 {
			t.Errorf("sessions %+v", s.Counters.Sessions)
		}
	})
}

// Whatever cannot be opened, what was is closed, and the error says it.
func TestCannotBegin(t *testing.T) {
	problem := &way.Problem{Flag: "-n", Value: "3", What: "is too many"}
	for _, test := range []struct {
		at    string
		calls []string
	}{
		{"make", nil},
		{"open", []string{"open", "close"}},
		{"attach", []string{"open", "attach", "close"}},
		{"connect", []string{"open", "attach", "attach", "connect", "detach", "detach", "close"}},
		{"source", []string{"open", "attach", "attach", "connect", "detach", "detach", "close"}},
	} {
		t.Run(test.at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := begin(t, func(r *trial) { r.way.refuse = map[string]error{test.at: problem} })
				<-r.ended
				var p *config.Problem
				if r.last != nil || !errors.As(r.err, &p) || p.Flag != "-n" || r.ready != "" {
					t.Errorf("state %v, error %v, ready %q", r.last, r.err, r.ready)
				}
				if !slices.Equal(r.way.calls, test.calls) {
					t.Errorf("the way was called to %q, wanted %q", r.way.calls, test.calls)
				}
			})
		})
	}
}
