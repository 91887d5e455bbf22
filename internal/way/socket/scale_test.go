package socket

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"

	"tcpcopy/internal/core/session"
)

func TestFiveThousandConnections(t *testing.T) {
	const sessions, size = 5000, 100
	target := serve(t, "127.0.0.1", echo)
	// Few ports are free while other tests' connections are in TIME-WAIT: several sources have
	// more.
	p := play(t, Config{Bind: []netip.Addr{netip.MustParseAddr("127.0.0.1"),
		netip.MustParseAddr("127.0.0.2")}})
	before := runtime.NumGoroutine()
	content := pattern(2 * size)
	all := make([]*played, sessions)
	for i := range all {
		all[i] = p.open(session.ID(i), target, content, 0)
		all[i].release(size)
	}
	for _, c := range all {
		c.waitN(session.Received, size)
	}
	if n := runtime.NumGoroutine() - before; n > sessions+10 { // the server's
		t.Errorf("%d goroutines more for %d connections", n, sessions)
	}
	for _, c := range all { // all open at the same time
		c.release(2 * size)
		c.closeWrite()
	}
	for _, c := range all {
		c.waitN(session.Received, 2*size)
		if ev := c.last(); ev.Kind != session.Finished {
			t.Errorf("session %d ended with %+v, wanted finished", c.id, ev)
		}
	}
}

// TestHeapOfAConnection measures what an open connection costs beyond its session.
func TestHeapOfAConnection(t *testing.T) {
	const sessions, limit = 2000, 1500
	target := otherProcess(t)
	out, err := New(Config{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	rec := &memory{b: pattern(64), t: t}
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	streams := make([]session.Stream, sessions)
	for i := range streams {
		streams[i] = out.Open(now(), &session.OpenSpec{ID: session.ID(i), Target: target,
			Record: rec})
	}
	for opened := 0; opened < sessions; {
		for _, ev := range out.Step(now(), <-out.Events()) {
			if ev.Kind != session.Opened {
				t.Fatalf("event %+v, wanted opened", ev)
			}
			opened++
		}
	}
	each := (heap() - before) / sessions
	t.Logf("%d bytes of heap for each connection", each)
	if each > limit {
		t.Errorf("%d bytes of heap for each connection, wanted at most %d", each, limit)
	}
	runtime.KeepAlive(streams)
}

// serverVar is set in a process that answers requests for the benchmarks.
const serverVar = "TCPCOPY_SOCKET_TEST_SERVER"

const requestSize, answerSize = 200, 500

// answerRequests is that process: it answers each request of requestSize bytes, and ends with its
// input.
func answerRequests() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		go func() {
			defer c.Close()
			in, answer := make([]byte, requestSize), make([]byte, answerSize)
			for {
				if _, err := io.ReadFull(c, in); err != nil {
					return
				}
				if _, err := c.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}

// otherProcess starts a server whose CPU and heap are not counted as ours.
func otherProcess(t testing.TB) netip.AddrPort {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), serverVar+"=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	line, _, err := bufio.NewReader(out).ReadLine()
	if err != nil {
		t.Fatal(err)
	}
	return netip.MustParseAddrPort(string(line))
}

// endless is a Record without end.
type endless [requestSize]byte

func (e *endless) View(_ uint64, max int) []byte { return e[:min(max, len(e))] }

// BenchmarkRoundTrip is a request and its answer: on one connection, on many that ask as soon as
// they are answered, and at a rate like that of a lab run. cpu-µs/op is this process's own, system
// calls and what the kernel does inside them included; the server is another process.
func BenchmarkRoundTrip(b *testing.B) {
	for _, bc := range []struct {
		conns int
		rate  int // requests in a second; 0: as fast as they go
	}{{1, 0}, {50, 0}, {1000, 0}, {50, 6000}} {
		name := fmt.Sprintf("conns=%d", bc.conns)
		if bc.rate > 0 {
			name += fmt.Sprintf(",rate=%d", bc.rate)
		}
		b.Run(name, func(b *testing.B) { roundTrips(b, bc.conns, bc.rate) })
	}
}

func roundTrips(b *testing.B, conns, rate int) {
	target := otherProcess(b)
	out, err := New(Config{Now: now})
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	type client struct {
		stream session.Stream
		sent   uint64
		want   uint64
	}
	clients := make([]client, conns)
	for i := range clients {
		clients[i].stream = out.Open(now(),
			&session.OpenSpec{ID: session.ID(i), Target: target, Record: new(endless)})
	}
	for opened := 0; opened < conns; {
		for _, ev := range out.Step(now(), <-out.Events()) {
			if ev.Kind != session.Opened {
				b.Fatalf("event %+v", ev)
			}
			opened++
		}
	}
	var idle []int
	ask := func(i int) {
		c := &clients[i]
		c.sent += requestSize
		c.want += answerSize
		c.stream.Release(now(), c.sent)
	}
	var tick <-chan time.Time
	if rate > 0 {
		t := time.NewTicker(time.Millisecond)
		defer t.Stop()
		tick = t.C
	}
	b.ReportAllocs()
	cpu := cpuTime()
	begun := now()
	b.ResetTimer()
	asked, answered := 0, 0
	for i := range clients {
		if rate > 0 {
			idle = append(idle, i)
		} else if asked < b.N {
			ask(i)
			asked++
		}
	}
	for answered < b.N {
		var batch *Batch
		if !out.Pending() {
			select {
			case batch = <-out.Events():
			case <-tick:
				due := int(now().Sub(begun) * time.Duration(rate) / time.Second)
				for ; asked < min(due, b.N) && len(idle) > 0; asked++ {
					ask(idle[0])
					idle = append(idle[:0], idle[1:]...)
				}
			}
		}
		for _, ev := range out.Step(now(), batch) {
			if ev.Kind != session.Received || ev.N < clients[ev.ID].want {
				continue
			}
			answered++
			if rate > 0 {
				idle = append(idle, int(ev.ID))
			} else if asked < b.N {
				ask(int(ev.ID))
				asked++
			}
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(cpuTime()-cpu)/float64(time.Microsecond)/float64(b.N), "cpu-µs/op")
}

// BenchmarkOpenClose is the life of a short connection: open, one request, its answer, abort.
func BenchmarkOpenClose(b *testing.B) {
	target := otherProcess(b)
	out, err := New(Config{Now: now})
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	b.ReportAllocs()
	cpu := cpuTime()
	b.ResetTimer()
	const together = 20
	streams := map[session.ID]session.Stream{}
	rec := new(endless)
	for next, done := 0, 0; done < b.N; {
		for ; next < b.N && len(streams) < together; next++ {
			s := out.Open(now(), &session.OpenSpec{ID: session.ID(next), Target: target,
				Record: rec})
			s.Release(now(), requestSize)
			streams[session.ID(next)] = s
		}
		var batch *Batch
		if !out.Pending() {
			batch = <-out.Events()
		}
		for _, ev := range out.Step(now(), batch) {
			switch {
			case ev.Kind == session.Received && ev.N == answerSize:
				streams[ev.ID].Abort(now())
				delete(streams, ev.ID)
				done++
			case isLast(ev.Kind):
				b.Fatalf("event %+v", ev)
			}
		}
	}
	b.StopTimer()
	b.ReportMetric(float64(cpuTime()-cpu)/float64(time.Microsecond)/float64(b.N), "cpu-µs/op")
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
